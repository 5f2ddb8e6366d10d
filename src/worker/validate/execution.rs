//! What makes the settings of a process wrong: whom it runs as, and what it may have.

use super::Mistakes;
use crate::worker::limits::HardLimits;
use crate::worker::{ExecutionConfig, WorkerConfig, WorkerType};

/// No program starts with less address space, in bytes.
const MIN_MEMORY: u64 = 1 << 20;
/// Standard input, output and error, and one to load a program with.
const MIN_FILES: u64 = 4;
/// The longest name of a user or a group; the system's own tools take 32.
const MAX_NAME: usize = 256;
/// Linux takes no more groups.
const MAX_GROUPS: usize = 65_536;
/// The permission bits that a umask can take away.
const MAX_UMASK: u32 = 0o777;

impl WorkerConfig {
    /// The limits fit the worker, and one another.
    pub(super) fn check_limits(&self, found: &mut Mistakes) {
        let hard = &self.limits.hard;
        if self.worker_type == WorkerType::Module {
            let message = "is for processes: a module shares the master's; write `type: process`";
            found.check(*hard == HardLimits::default(), "limits.hard", message);
            return;
        }
        let at_least = |limit: Option<u64>, least| limit.is_none_or(|limit| limit >= least);
        let message = "must be at least 1MiB: no program starts with less";
        found.check(at_least(hard.memory, MIN_MEMORY), "limits.hard.memory", message);
        let message = "must be at least 4: standard input, output and error, and one to load a \
                       program with";
        found.check(at_least(hard.open_files, MIN_FILES), "limits.hard.open_files", message);
        let message = "must be at least 1: the worker's own";
        found.check(at_least(hard.processes, 1), "limits.hard.processes", message);
    }
}

impl ExecutionConfig {
    /// Whom it runs as, and with what.
    pub(super) fn check_settings(&self, found: &mut Mistakes) {
        if let Some(file) = &self.env_file {
            let bytes = file.as_os_str().as_encoded_bytes();
            found.check(!bytes.is_empty(), "env_file", "is empty");
            found.os_text("env_file", bytes);
        }
        for (path, name) in [("user", &self.user), ("group", &self.group)] {
            if let Some(name) = name {
                check_account(path, name, found);
            }
        }
        for (index, name) in self.supplementary_groups.iter().enumerate() {
            check_account(&format!("supplementary_groups[{index}]"), name, found);
        }
        let few = self.supplementary_groups.len() <= MAX_GROUPS;
        found.check(few, "supplementary_groups", "are more than the system takes, 65536");
        let message = "must be permission bits in octal, at most \"777\"";
        found.check(self.umask.is_none_or(|umask| umask <= MAX_UMASK), "umask", message);
        let message = "must be from -20, which goes first, to 19";
        found.check(self.nice.is_none_or(|nice| (-20..=19).contains(&nice)), "nice", message);
        let within = self.oom_score_adj.is_none_or(|score| (-1000..=1000).contains(&score));
        let message = "must be from -1000, never chosen, to 1000, chosen first";
        found.check(within, "oom_score_adj", message);
    }
}

/// A name that the system's databases could have, or a number that an id can be.
fn check_account(path: &str, name: &str, found: &mut Mistakes) {
    if name.is_empty() {
        return found.add(path, "is empty");
    }
    if name.bytes().all(|byte| byte.is_ascii_digit()) {
        // The largest number stands for no change at all.
        let usable = name.parse::<u32>().is_ok_and(|id| id < u32::MAX);
        return found.check(usable, path, "is not an id; they are 0 to 4294967294");
    }
    let odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, ':' | ',' | '/');
    let named = !name.starts_with('-') && !name.contains(odd) && name.len() <= MAX_NAME;
    found.check(named, path, "is neither a name nor a number of the system's database");
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change = fn(&mut ExecutionConfig);

    #[test]
    fn every_rule_for_settings_is_enforced() {
        let cases: &[(&str, Change)] = &[
            ("execution.env_file", |e| e.env_file = Some("".into())),
            ("execution.env_file", |e| e.env_file = Some("a\0".into())),
            ("execution.user", |e| e.user = Some(String::new())),
            ("execution.user", |e| e.user = Some("a:b".into())),
            ("execution.user", |e| e.user = Some("-1".into())),
            ("execution.user", |e| e.user = Some("4294967295".into())),
            ("execution.user", |e| e.user = Some("x".repeat(MAX_NAME + 1))),
            ("execution.group", |e| e.group = Some("a b".into())),
            ("execution.supplementary_groups[1]", |e| {
                e.supplementary_groups = vec!["audio".into(), "a\0".into()];
            }),
            ("execution.umask", |e| e.umask = Some(0o1000)),
            ("execution.nice", |e| e.nice = Some(-21)),
            ("execution.nice", |e| e.nice = Some(20)),
            ("execution.oom_score_adj", |e| e.oom_score_adj = Some(-1001)),
            ("execution.oom_score_adj", |e| e.oom_score_adj = Some(1001)),
        ];
        for (path, change) in cases {
            let config = WorkerConfig::executable("a", "/bin/true").execution(change);
            let paths: Vec<_> = config.mistakes().into_iter().map(|(path, _)| path).collect();
            assert_eq!(paths, [*path]);
        }
        let fine = WorkerConfig::executable("a", "/bin/true").execution(|e| {
            e.env_file = Some(".env".into());
            e.user = Some("svc".into());
            e.group = Some("4294967294".into());
            e.supplementary_groups = vec!["audio".into(), "7".into()];
            e.umask = Some(0o777);
            e.nice = Some(-20);
            e.oom_score_adj = Some(1000);
        });
        assert_eq!(fine.mistakes(), []);
    }

    #[test]
    fn every_rule_for_hard_limits_is_enforced() {
        for (path, hard) in [
            ("limits.hard.memory", HardLimits::default().memory(MIN_MEMORY - 1)),
            ("limits.hard.open_files", HardLimits::default().open_files(3)),
            ("limits.hard.processes", HardLimits::default().processes(0)),
        ] {
            let mut config = WorkerConfig::executable("a", "/bin/true");
            config.limits.hard = hard;
            let paths: Vec<_> = config.mistakes().into_iter().map(|(path, _)| path).collect();
            assert_eq!(paths, [path]);
        }
        let hard = HardLimits::default().core(0);
        let mut module = WorkerConfig::native("a", "m");
        module.limits.hard = hard;
        assert_eq!(module.mistakes()[0].0, "limits.hard");
        assert_eq!(module.worker_type(WorkerType::Process).mistakes(), []);
    }
}
