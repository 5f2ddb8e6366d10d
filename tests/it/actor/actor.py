"""The actor as a program that speaks the worker protocol, with nothing of Rust in it."""
import json, os, socket, sys

master = socket.socket(fileno=os.dup(0))
life, worker, number, behaviour = None, None, 0, {}
told, starting = False, None


def say(**message):
    master.sendall(json.dumps(message).encode() + b"\n")


def ready():
    with open(behaviour["voice"], "a") as voice:
        voice.write(f"{worker} {number} ready\n")


def refuse(id, category, message):
    say(id=id, error={"category": category, "message": message})


def initialize(id, params):
    global life, worker, number
    worker, number = params["worker"], params["incarnation"]
    behaviour.update(params["config"])
    lives = behaviour["lives"]
    life = lives[min(number, len(lives)) - 1]
    if life == "Unlaunchable":
        return refuse(id, "network", "address in use")
    say(id=id, result={})


def start(id, params):
    global starting
    if life == "Unstartable":
        return refuse(id, "resource_limit", "no room")
    if life == "Hangs":
        starting = id
        return
    say(event="endpoint", params={"name": "api", "type": "tcp", "address": f"127.0.0.1:{number}"})
    say(event="endpoint", params={"name": "echo", "type": "function", "address": "echo"})
    if life == "Speaks":
        print(f"hello, {worker}", flush=True)
    elif life not in ("Breaks", "Fails", "Completes"):
        ready()
    say(id=id, result={})


def health(id, params):
    global told
    say(id=id, result={"healthy": True})
    if not told:
        told = True
        if life == "Completes":
            say(event="finished")
        elif life == "Fails":
            say(event="failed", params={"message": "the actor was told to fail"})
        elif life == "Breaks":
            place = "tests/it/actor/module.rs:0:0"
            message = "the actor was told to break"
            failure = {"category": "panic", "message": message, "place": place}
            say(event="failed", params=failure)


def call(id, params):
    if params["function"] != "echo":
        return refuse(id, "unknown_function", "it has echo alone")
    say(id=id, result={"payload_b64": params["payload_b64"]})


def stop(id, params):
    if life == "Ignores":
        return
    if starting is not None:
        say(id=starting, result={})
    say(id=id, result={})
    sys.exit(0)


ANSWERS = {"initialize": initialize, "start": start, "health": health, "call": call, "stop": stop,
           "info": lambda id, params: say(id=id, result={"name": "actor.py", "version": "1"})}

say(event="hello", params={"protocol": [1, 0]})
for line in master.makefile("r", encoding="utf-8", newline="\n"):
    request = json.loads(line)
    ANSWERS[request["method"]](request["id"], request.get("params") or {})
sys.exit(75)
