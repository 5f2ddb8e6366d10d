//! The module that tells what is done with it, and the keys that only modules have.

use hsu_master::crossbeam_channel::Sender;
use hsu_master::{Health, ModuleConfig, ModuleContext, ModuleInfo, ModuleResult, WorkerModule};

use super::{Row, Scene, outcome};

/// Tells whatever it is asked, and does what its configuration says: `start: hang`, `health: bad`
/// or `hang`.
pub(crate) struct Teller {
    tell: Sender<String>,
    config: serde_json::Value,
    ctx: Option<ModuleContext>,
}

impl Teller {
    pub(crate) fn new(tell: Sender<String>) -> Self {
        Self { tell, config: serde_json::Value::Null, ctx: None }
    }

    fn tell(&self, text: impl Into<String>) {
        // Nobody may listen any more.
        let _ = self.tell.send(text.into());
    }
}

impl WorkerModule for Teller {
    fn initialize(&mut self, ctx: &ModuleContext, config: &ModuleConfig) -> ModuleResult {
        self.config = config.as_json().clone();
        self.ctx = Some(ctx.clone());
        Ok(())
    }

    fn start(&mut self, ctx: &ModuleContext) -> ModuleResult {
        self.tell(format!("says {}", self.config["say"]));
        self.tell(format!("stack {}", if stack() > 16 << 20 { "large" } else { "small" }));
        if self.config["start"] == "hang" {
            ctx.stop_token().wait_stopped();
            return Err("called off".into());
        }
        Ok(())
    }

    fn health(&self) -> Health {
        self.tell("asked");
        if self.config["health"] == "hang"
            && let Some(ctx) = &self.ctx
        {
            ctx.stop_token().wait_stopped();
        }
        (self.config["health"] != "bad").into()
    }

    fn info(&self) -> ModuleInfo {
        ModuleInfo::new("teller", "1")
    }
}

/// The size of this thread's stack: of the part of memory that a variable of ours is in.
fn stack() -> usize {
    let here = 0_u8;
    let address = (&raw const here).addr();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let range = |line: &str| {
        let (from, to) = line.split(' ').next()?.split_once('-')?;
        let read = |text| usize::from_str_radix(text, 16).ok();
        Some(read(from)?..read(to)?)
    };
    let mut ranges = maps.lines().filter_map(range);
    ranges.find(|range| range.contains(&address)).map_or(0, |range| range.len())
}

pub(super) const ROWS: &[Row] = &[
    Row {
        key: "module_type",
        file: "workers: [{id: w, type: module, module_name: teller, module_type: %}]",
        values: [("native", "started"), ("plugin", "plugin")],
        observe: |scene, _| outcome(scene.start()),
    },
    Row {
        key: "module_name",
        file: "workers: [{id: w, type: module, module_name: %, config: {say: x}}]",
        // The other one wants to be told more.
        values: [("teller", "started"), ("actor", "configuration")],
        observe: |scene, _| outcome(scene.start()),
    },
];

pub(super) const START: &[Row] = &[Row {
    key: "start.timeout",
    file: "workers: [{id: w, type: module, module_name: teller, config: {start: hang},
              start: {timeout: %}, restart: {policy: never}}]",
    values: [("1ms", "timeout"), ("1h", "waits")],
    observe: waits,
}];

/// Whether the start of a module that hangs is waited for.
pub(super) fn waits(scene: &Scene, expected: &str) -> String {
    let ticket = scene.bench.master.start_worker_nowait("w");
    if expected == "waits" {
        scene.tells();
    }
    let has_failed = || scene.known().last_error.is_some();
    if scene.comes(expected != "waits", has_failed) {
        return outcome(crate::support::answer(&ticket));
    }
    "waits".to_owned()
}

/// The stack of a module's thread, and what the module is told.
pub(super) const TOLD: [Row; 2] = [
    Row {
        key: "stack_size",
        file: "workers: [{id: w, type: module, module_name: teller, stack_size: %}]",
        values: [("64KiB", "stack small"), ("64MiB", "stack large")],
        observe: |scene, _| {
            scene.start().unwrap();
            scene.tells();
            scene.tells()
        },
    },
    Row {
        key: "config",
        file: "workers: [{id: w, type: module, module_name: teller, config: %}]",
        values: [("{say: 1}", "says 1"), ("{say: [x]}", "says [\"x\"]")],
        observe: |scene, _| {
            scene.start().unwrap();
            scene.tells()
        },
    },
];
