//! The keys of one worker, and how they fit together.

use std::path::{Path, PathBuf};

use super::execution::{LIMITS, account, number, umask};
use super::reader::{Key, Reader, Replica, below};
use super::schema::{Defaults, HEALTH_CHECK, LOGS, RESTART, START, STOP};
use super::words;
use super::yaml::{Node, Value};
use crate::module::{EndpointInfo, EndpointType};
use crate::worker::{
    ExecutionConfig, Integration, LogMode, Mistake, ModuleType, OnMasterExit, RestartPolicy,
    SuccessCodes, UnmanagedConfig, WorkerConfig, WorkerType, signal_number,
};

/// A worker while its keys are read.
pub(super) struct Draft {
    config: WorkerConfig,
    worker_type: Option<WorkerType>,
    command: Option<Vec<String>>,
}

pub(super) const WORKER: &[Key<Draft>] = &[
    ("id", |r, node, draft| r.set(node, &mut draft.config.id, id)),
    ("type", |r, node, draft| {
        r.set(node, &mut draft.worker_type, |r, node| r.word(node, TYPES).map(Some));
    }),
    ("replicas", |r, _, draft| {
        // How many there are was read before the first of them: see `workers`.
        if let Some(replica) = &r.replica {
            draft.config.id.clone_from(&replica.id);
        }
    }),
    ("main", |r, node, draft| r.set(node, &mut draft.config.main, Reader::boolean)),
    ("enabled", |r, node, draft| r.set(node, &mut draft.config.enabled, Reader::boolean)),
    ("command", |r, node, draft| draft.command = Some(command(r, node))),
    ("package", |r, node, draft| draft.config.package = Some(name(r, node))),
    ("execution", |r, node, draft| {
        r.mapping(node, EXECUTION, draft.config.execution.get_or_insert_default());
    }),
    ("unmanaged", |r, node, draft| {
        r.mapping(node, UNMANAGED, draft.config.unmanaged.get_or_insert_default());
    }),
    ("module_type", |r, node, draft| {
        let words = [ModuleType::Native, ModuleType::Plugin].map(|kind| (kind.as_str(), kind));
        r.set(node, &mut draft.config.module_type, |r, node| r.word(node, &words).map(Some));
    }),
    ("module_name", |r, node, draft| draft.config.module_name = Some(name(r, node))),
    ("entry_point", |r, node, draft| draft.config.entry_point = Some(name(r, node))),
    ("stack_size", |r, node, draft| r.set(node, &mut draft.config.stack_size, Reader::size)),
    ("config", |r, node, draft| draft.config.config = r.json_object(node).into()),
    ("start", |r, node, draft| r.mapping(node, START, &mut draft.config.start)),
    ("health_check", |r, node, draft| {
        r.mapping(node, HEALTH_CHECK, draft.config.health_check.get_or_insert_default());
    }),
    ("restart", |r, node, draft| r.mapping(node, RESTART, &mut draft.config.restart)),
    ("stop", |r, node, draft| r.mapping(node, STOP, &mut draft.config.stop)),
    ("logs", |r, node, draft| r.mapping(node, LOGS, &mut draft.config.logs)),
    ("endpoints", |r, node, draft| {
        r.set(node, &mut draft.config.endpoints, |r, node| r.list(node, endpoint));
    }),
    ("success_codes", |r, node, draft| {
        r.set(node, &mut draft.config.success_codes, success_codes);
    }),
    ("on_master_exit", |r, node, draft| {
        let words = [OnMasterExit::Stop, OnMasterExit::Keep].map(|word| (word.as_str(), word));
        r.set(node, &mut draft.config.on_master_exit, |r, node| r.word(node, &words).map(Some));
    }),
    ("limits", |r, node, draft| r.mapping(node, LIMITS, &mut draft.config.limits)),
];

pub(super) const EXECUTION: &[Key<ExecutionConfig>] = &[
    ("executable_path", |r, node, execution| {
        r.set(node, &mut execution.executable_path, |r, node| r.text(node).map(PathBuf::from));
    }),
    ("args", |r, node, execution| {
        r.set(node, &mut execution.args, |r, node| r.list(node, Reader::text));
    }),
    ("environment", environment),
    ("integration", |r, node, execution| {
        let words = [Integration::None, Integration::Protocol].map(|word| (word.as_str(), word));
        r.set(node, &mut execution.integration, |r, node| r.word(node, &words));
    }),
    ("working_directory", |r, node, execution| {
        r.set(node, &mut execution.working_directory, |r, node| {
            r.text(node).map(PathBuf::from).map(Some)
        });
    }),
    ("env_file", |r, node, execution| {
        r.set(node, &mut execution.env_file, |r, node| r.text(node).map(PathBuf::from).map(Some));
    }),
    ("clear_environment", |r, node, execution| {
        r.set(node, &mut execution.clear_environment, Reader::boolean);
    }),
    ("user", |r, node, execution| r.set(node, &mut execution.user, account)),
    ("group", |r, node, execution| r.set(node, &mut execution.group, account)),
    ("supplementary_groups", |r, node, execution| {
        r.set(node, &mut execution.supplementary_groups, |r, node| r.list(node, Reader::text));
    }),
    ("umask", |r, node, execution| r.set(node, &mut execution.umask, umask)),
    ("nice", |r, node, execution| r.set(node, &mut execution.nice, number)),
    ("oom_score_adj", |r, node, execution| r.set(node, &mut execution.oom_score_adj, number)),
    ("no_new_privs", |r, node, execution| {
        r.set(node, &mut execution.no_new_privs, Reader::boolean);
    }),
];

pub(super) const UNMANAGED: &[Key<UnmanagedConfig>] = &[
    ("pid_file", |r, node, unmanaged| {
        unmanaged.pid_file = Some(r.path(node).unwrap_or_else(|| UNREADABLE.into()));
    }),
    ("process_name", |r, node, unmanaged| unmanaged.process_name = Some(name(r, node))),
    ("process_args", |r, node, unmanaged| {
        r.set(node, &mut unmanaged.process_args, |r, node| r.list(node, Reader::text));
    }),
    ("port", |r, node, unmanaged| unmanaged.port = Some(r.port(node).unwrap_or(1))),
    ("can_terminate", |r, node, unmanaged| {
        r.set(node, &mut unmanaged.can_terminate, Reader::boolean);
    }),
];

pub(super) const ENDPOINT: &[Key<EndpointDraft>] = &[
    ("name", |r, node, draft| r.set(node, &mut draft.name, |r, node| r.text(node).map(Some))),
    ("type", |r, node, draft| {
        r.set(node, &mut draft.endpoint_type, |r, node| r.word(node, ENDPOINT_TYPES).map(Some));
    }),
    ("address", |r, node, draft| {
        r.set(node, &mut draft.address, |r, node| r.text(node).map(Some));
    }),
];

/// An endpoint while its keys are read.
#[derive(Default)]
pub(super) struct EndpointDraft {
    name: Option<String>,
    endpoint_type: Option<EndpointType>,
    address: Option<String>,
}

const ENDPOINT_TYPES: &[(&str, EndpointType)] = &[
    ("http", EndpointType::Http),
    ("grpc", EndpointType::Grpc),
    ("tcp", EndpointType::Tcp),
    ("unix", EndpointType::Unix),
];

const TYPES: &[(&str, WorkerType)] =
    &[("process", WorkerType::Process), ("module", WorkerType::Module)];

/// Stands for what was written but could not be read, so that it is not told as missing too.
const UNREADABLE: &str = "unreadable";

/// How many workers may be made from one.
const MAX_REPLICAS: u32 = 1000;
/// How many values replicas may repeat, in one worker.
const MAX_COPIED: usize = 1_000_000;

/// Reads one entry of the list of workers: one, or as many as its replicas are, at least one.
pub(super) fn workers(r: &mut Reader<'_>, node: &Node, defaults: &Defaults) -> Vec<WorkerConfig> {
    let Some(entry) = node.entry("replicas") else { return vec![worker(r, node, defaults)] };
    let since = r.found();
    let count = r.under("replicas", |r| replicas(r, node, &entry.value)).unwrap_or(1);
    let id = node.find("id").and_then(Node::text).unwrap_or_default();
    let mut made = Vec::new();
    for index in 1..=count {
        let id = if count == 1 { id.to_owned() } else { format!("{id}-{index}") };
        r.replica = Some(Replica { id, index });
        made.push(worker(r, node, defaults));
        // What is wrong with one is wrong with all.
        if r.found() > since {
            break;
        }
    }
    r.replica = None;
    if count > 1 && made.iter().any(|config| config.main) {
        let message = "contradicts replicas: one worker's end can end the master";
        r.under("main", |r| r.problem(node.place("main"), message));
        made.truncate(1);
    }
    made
}

fn replicas(r: &mut Reader<'_>, worker: &Node, node: &Node) -> Option<u32> {
    let count = r.count(node)?;
    if !(1..=MAX_REPLICAS).contains(&count) {
        r.problem(node.at, format!("must be from 1 to {MAX_REPLICAS}"));
        return None;
    }
    if values(worker).saturating_mul(count as usize) > MAX_COPIED {
        r.problem(node.at, format!("repeats more than {MAX_COPIED} values"));
        return None;
    }
    Some(count)
}

/// How many values there are in a node.
fn values(node: &Node) -> usize {
    1 + match &node.value {
        Value::List(nodes) => nodes.iter().map(values).sum(),
        Value::Map(entries) => entries.iter().map(|entry| values(&entry.value)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Unusable(_) => 0,
    }
}

/// Reads one worker. What it gives is of use only if no problem was found.
fn worker(r: &mut Reader<'_>, node: &Node, defaults: &Defaults) -> WorkerConfig {
    let since = r.found();
    let mut config = WorkerConfig::new("", WorkerType::Process);
    config.restart = match node.entry("unmanaged") {
        Some(_) => defaults.unmanaged_restart.clone(),
        None => defaults.restart.clone(),
    };
    config.stop = defaults.stop.clone();
    config.start = defaults.start.clone();
    config.logs = defaults.logs;
    config.health_check = node.entry("health_check").and(defaults.health_check.clone());
    if !matches!(node.value, Value::Map(_)) {
        r.mismatch(node, "a worker's mapping, such as `id: a`");
        return config;
    }
    let mut draft = Draft { config, worker_type: None, command: None };
    r.mapping(node, WORKER, &mut draft);
    let Draft { mut config, worker_type, command } = draft;
    config.worker_type = worker_type.unwrap_or(WorkerType::Process);
    if config.is_module() && node.find("logs.mode").is_none() {
        // A default that is not for modules is not meant for them.
        config.logs = config.logs.for_module();
    }
    if config.main && !defaults.policy_is_written && node.find("restart.policy").is_none() {
        config.restart.policy = RestartPolicy::Never;
    }
    if config.is_conversant() && config.health_check.is_none() {
        config.health_check.clone_from(&defaults.health_check);
    }
    let mut mistakes = missing(node);
    mistakes.extend(contradictions(node, &config));
    if let Some(words) = command {
        let mut words = words.into_iter();
        let execution = config.execution.get_or_insert_default();
        execution.executable_path = words.next().unwrap_or_default().into();
        execution.args = words.collect();
        mistakes.extend(config.mistakes().into_iter().map(as_written));
    } else {
        mistakes.extend(config.mistakes());
    }
    mistakes.extend((r.source.check)(&config));
    r.mistakes(since, node, mistakes);
    if let Some(directory) = r.source.directory {
        make_absolute(&mut config, directory);
    }
    config
}

/// The keys that a worker cannot do without, as far as only the file can tell.
fn missing(node: &Node) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    if node.entry("id").is_none() {
        mistakes.push(("id".to_owned(), "is missing: the worker's name".to_owned()));
    }
    if node.entry("module_name").is_some() && node.entry("type").is_none() {
        let message = "is missing: with module_name, write module (a thread of the master) or \
                       process (a process of its own)";
        mistakes.push(("type".to_owned(), message.to_owned()));
    }
    mistakes
}

/// The keys that are written but have no meaning for this kind of worker.
fn contradictions(node: &Node, config: &WorkerConfig) -> Vec<Mistake> {
    let without_meaning: &[(&str, &str)] = match config.worker_type {
        WorkerType::Module => &[
            ("command", "is for processes; write `type: process`, or remove it"),
            ("success_codes", "is for processes: a module has no exit code"),
            ("stop.signal", "is for processes: a module is asked by its stop token"),
            ("stop.kill_group", "is for processes: a module has no process group"),
            ("limits", "is for processes: a module shares the master's; write `type: process`"),
        ],
        WorkerType::Process if config.unmanaged.is_some() => return of_others(node, config),
        WorkerType::Process if config.is_module() => &[
            ("command", "contradicts module_name: a worker runs a program or a module"),
            ("success_codes", "is for programs: a module says itself that its work is done"),
        ],
        WorkerType::Process if node.entry("command").is_some() => &[
            ("execution.executable_path", "contradicts command, which names the program too"),
            ("execution.args", "contradicts command, which has the arguments too"),
            ("stack_size", "is for modules: a program's stack is its own"),
        ],
        WorkerType::Process if node.entry("execution").is_some() => {
            &[("stack_size", "is for modules: a program's stack is its own")]
        }
        WorkerType::Process => &[],
    };
    let logs: &[(&str, &str)] = match config.logs.mode {
        LogMode::Capture => &[],
        LogMode::File => &[
            ("logs.timestamps", "is for `mode: capture`: the process writes it"),
            ("logs.overflow", "is for `mode: capture`: the process waits for its own file"),
        ],
        LogMode::Inherit | LogMode::Discard => &[
            ("logs.max_size", "has no file to be applied to: the mode is inherit or discard"),
            ("logs.max_files", "has no file to be applied to: the mode is inherit or discard"),
            ("logs.timestamps", "has no file to be applied to: the mode is inherit or discard"),
            ("logs.overflow", "has no file to be applied to: the mode is inherit or discard"),
        ],
    };
    let mut found = written(node, without_meaning);
    found.extend(written(node, logs));
    found
}

/// The keys that have no meaning for a process that somebody else starts.
fn of_others(node: &Node, config: &WorkerConfig) -> Vec<Mistake> {
    let mut without_meaning = vec![
        ("command", "contradicts unmanaged: somebody else starts that process"),
        ("stack_size", "is for modules: a program's stack is its own"),
        ("config", "is for modules and for programs with `integration: protocol`"),
        ("main", "is for the master's own processes: how others' end cannot be known"),
        ("success_codes", "is for the master's own processes: how others' end cannot be known"),
        ("on_master_exit", "is for the master's own processes: others' outlive it anyway"),
        ("logs", "is for the master's own processes"),
        ("limits", "is for the master's own processes"),
        ("stop.kill_group", "is for the master's own processes: others' groups are not touched"),
    ];
    if config.unmanaged.as_ref().is_some_and(|unmanaged| !unmanaged.can_terminate) {
        let message = "does nothing without `can_terminate: true`: a stop only lets go of it";
        without_meaning.extend([("stop.signal", message), ("stop.timeout", message)]);
    }
    written(node, &without_meaning)
}

/// The keys among these that are written.
fn written(node: &Node, keys: &[(&str, &str)]) -> Vec<Mistake> {
    let written = keys.iter().filter(|(path, _)| node.find(path).is_some());
    written.map(|(path, message)| ((*path).to_owned(), (*message).to_owned())).collect()
}

/// A mistake of a program or its arguments, told of the `command` they were written as.
fn as_written((path, message): Mistake) -> Mistake {
    let of_command =
        path.starts_with("execution.executable_path") || path.starts_with("execution.args");
    (if of_command || path == "execution" { "command".to_owned() } else { path }, message)
}

/// Paths in a file are relative to its directory, which is also where a program runs by default.
fn make_absolute(config: &mut WorkerConfig, directory: &Path) {
    // A relative program is inside its package.
    let packaged = config.package.is_some();
    if let Some(execution) = &mut config.execution {
        let program = &mut execution.executable_path;
        // Without a slash it is looked up in the PATH.
        if !packaged && program.as_os_str().as_encoded_bytes().contains(&b'/') {
            *program = below(directory, program);
        }
        let working_directory = execution.working_directory.as_deref().unwrap_or(directory);
        execution.working_directory = Some(below(directory, working_directory));
        if let Some(file) = &mut execution.env_file {
            *file = below(directory, file);
        }
    }
    if let (Some(ModuleType::Plugin), Some(library)) = (config.module_type, &mut config.module_name)
    {
        // Joined as text: both are text already, and a path that is not would be lost.
        *library = below(directory, Path::new(library)).to_string_lossy().into_owned();
    }
}

/// An id: text without variables.
fn id(r: &mut Reader<'_>, node: &Node) -> Option<String> {
    match node.text() {
        Some(text) => Some(text.to_owned()),
        None => r.text(node),
    }
}

/// A name of which it counts that it was written, even if it cannot be read.
fn name(r: &mut Reader<'_>, node: &Node) -> String {
    r.text(node).unwrap_or_else(|| UNREADABLE.to_owned())
}

/// A program with its arguments: a list, or one text that is split into words.
fn command(r: &mut Reader<'_>, node: &Node) -> Vec<String> {
    let read = match &node.value {
        Value::Text(text) => match words::split(text) {
            Ok(words) => words.iter().map(|word| r.expanded(node.at, word)).collect(),
            Err(problem) => {
                r.problem(node.at, problem);
                None
            }
        },
        Value::List(_) => r.list(node, Reader::text),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Map(_) | Value::Unusable(_) => {
            r.mismatch(node, "a text or a list, such as `./server --port 80`");
            None
        }
    };
    read.unwrap_or_else(|| vec![UNREADABLE.to_owned()])
}

/// Variables as a mapping, or as a list of `NAME=value`.
fn environment(r: &mut Reader<'_>, node: &Node, execution: &mut ExecutionConfig) {
    if !matches!(node.value, Value::List(_)) {
        for (name, entry) in r.entries(node) {
            if let Some(value) = r.under(name, |r| r.text(&entry.value)) {
                execution.environment.insert(name.to_owned(), value);
            }
        }
        return;
    }
    r.list(node, |r, node| {
        let text = r.text(node)?;
        let Some((name, value)) = text.split_once('=') else {
            r.problem(node.at, format!("{text:?} has no '='; write NAME=value"));
            return None;
        };
        if execution.environment.insert(name.to_owned(), value.to_owned()).is_some() {
            r.problem(node.at, format!("{name} is written twice"));
        }
        Some(())
    });
}

/// One endpoint that a program is known to have.
fn endpoint(r: &mut Reader<'_>, node: &Node) -> Option<EndpointInfo> {
    let since = r.found();
    let mut draft = EndpointDraft::default();
    r.mapping(node, ENDPOINT, &mut draft);
    if let (Some(name), Some(kind), Some(address)) =
        (draft.name, draft.endpoint_type, draft.address)
    {
        return Some(EndpointInfo::new(name, kind, address));
    }
    if r.found() == since {
        r.problem(node.at, "needs all of name, type and address");
    }
    None
}

/// The ends that count as completed: exit codes and names of signals.
fn success_codes(r: &mut Reader<'_>, node: &Node) -> Option<SuccessCodes> {
    let mut codes = SuccessCodes::codes([]);
    r.list(node, |r, node| {
        let text = r.text(node)?;
        match (text.parse(), signal_number(&text)) {
            (Ok(code), _) if (0..=255).contains(&code) => codes.codes.push(code),
            (Err(_), Some(signal)) => codes.signals.push(signal),
            (Ok(_) | Err(_), _) => {
                let message = "is neither an exit code, 0 to 255, nor a signal such as SIGTERM";
                r.problem(node.at, format!("{text:?} {message}"));
            }
        }
        Some(())
    })?;
    Some(codes)
}
