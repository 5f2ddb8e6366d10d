//! What makes a worker wrong that somebody else starts, and who can be asked for a worker's health.

use super::{Mistake, Mistakes};
use crate::worker::{HealthCheckType, LimitsConfig, UnmanagedConfig, WorkerConfig, WorkerType};

impl WorkerConfig {
    /// A process is found in one way, and has nothing that only whoever starts it can give it.
    pub(super) fn check_unmanaged(&self, found: &mut Mistakes) {
        let Some(unmanaged) = &self.unmanaged else { return };
        if self.worker_type == WorkerType::Module {
            let message = "is for processes; write `type: process`, or remove it";
            return found.add("unmanaged", message);
        }
        let message = "contradicts unmanaged: somebody else starts that process";
        found.check(self.execution.is_none(), "execution", message);
        found.check(self.package.is_none(), "package", message);
        found.check(!self.is_module(), "module_name", message);
        let message = "is for the master's own processes";
        found.check(self.limits == LimitsConfig::default(), "limits", message);
        let message = "is for the master's own processes: others' outlive it anyway";
        found.check(self.on_master_exit.is_none(), "on_master_exit", message);
        found.within("unmanaged", unmanaged.mistakes());
    }

    /// Who is asked for its health is there to be asked.
    pub(super) fn check_health(&self, found: &mut Mistakes) {
        let Some(check) = &self.health_check else { return };
        match check.check_type {
            Some(HealthCheckType::Process) => {
                let message = "is for processes: a thread of the master has none of its own";
                let process = self.worker_type == WorkerType::Process;
                found.check(process, "health_check.type", message);
            }
            Some(HealthCheckType::Module) | None => {
                let message = "a program can be asked for its health only with `integration: \
                               protocol`; write `type: process` to check that it is there";
                let program = self.execution.is_some() || self.unmanaged.is_some();
                found.check(!program || self.is_conversant(), "health_check", message);
            }
        }
    }
}

impl UnmanagedConfig {
    fn mistakes(&self) -> Vec<Mistake> {
        let mut found = Mistakes::default();
        let ways = [self.pid_file.is_some(), self.process_name.is_some(), self.port.is_some()];
        let message = "needs exactly one of pid_file, process_name and port";
        found.check(ways.iter().filter(|way| **way).count() == 1, "", message);
        if let Some(path) = &self.pid_file {
            let path = path.as_os_str().as_encoded_bytes();
            found.check(!path.is_empty(), "pid_file", "is empty");
            found.os_text("pid_file", path);
        }
        if let Some(name) = &self.process_name {
            found.check(!name.is_empty(), "process_name", "is empty");
            let message = "is a path; write the name of its last part";
            found.check(!name.contains('/'), "process_name", message);
        }
        let named = self.process_name.is_some() || self.process_args.is_empty();
        found.check(named, "process_args", "is for process_name");
        found.check(self.port != Some(0), "port", "must be a port, 1 to 65535");
        found.0
    }
}
