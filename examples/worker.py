#!/usr/bin/env python3
"""A worker in Python: it speaks the worker protocol (docs/protocol.md), with the standard library alone.

    workers:
      - { id: py, command: "python3 worker.py", execution: { integration: protocol }, config: { greeting: hello } }
"""
import base64, json, os, socket, sys, threading

if "HSU_WORKER_PROTOCOL" not in os.environ:
    sys.exit("worker.py is run by a master, with `integration: protocol`")
master = socket.socket(fileno=os.dup(0))  # the line to the master is standard input
sending = threading.Lock()
config = {}

def say(**message):
    with sending:
        master.sendall(json.dumps(message).encode() + b"\n")

def log(level, text):  # 3 error, 4 warning, 6 info, 7 debug
    print(f"<{level}>{text}", file=sys.stderr, flush=True)

FUNCTIONS = {"upper": bytes.upper, "greet": lambda name: config.get("greeting", "hi").encode() + b" " + name}

def call(id, function, payload_b64=""):
    if function not in FUNCTIONS:
        return say(id=id, error={"category": "unknown_function", "message": f"it exports no function {function!r}"})
    try:
        reply = FUNCTIONS[function](base64.b64decode(payload_b64))
        say(id=id, result={"payload_b64": base64.b64encode(reply).decode()})
    except Exception as error:
        say(id=id, error={"category": "crash", "message": str(error)})

def handle(id, method, params):
    if method == "call":  # on a thread of its own, so that a long one keeps nobody waiting
        return threading.Thread(target=call, args=(id,), kwargs=params, daemon=True).start()
    if method == "initialize":
        config.update(params["config"])
    elif method == "start":
        for name in FUNCTIONS:
            say(event="endpoint", params={"name": name, "type": "function", "address": name})
        log(6, "started")
    results = {"health": {"healthy": True}, "info": {"name": "worker.py", "version": "1.0"}}
    say(id=id, result=results.get(method, {}))
    if method == "stop":
        sys.exit(0)

say(event="hello", params={"protocol": [1, 0], "name": "worker.py", "version": "1.0"})
for line in master.makefile("r", encoding="utf-8", newline="\n"):
    request = json.loads(line)
    handle(request["id"], request["method"], request.get("params") or {})
sys.exit(75)  # the master is gone
