//! Round after round of killed masters with twenty workers of both kinds: none is lost, none is
//! there twice, and nobody else is touched.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::support::{Bystander, Site, environment, lives, until};

const EACH: usize = 10;
/// Set to run more rounds than an ordinary test has time for.
const VARIABLE: &str = "HSU_KILL_ROUNDS";

fn workers() -> String {
    let mut yaml = "workers:\n".to_owned();
    for n in 0..EACH {
        let keep = "on_master_exit: keep, command: [/bin/sh, -c, 'sleep 100000 & wait']";
        writeln!(yaml, "- {{ id: keep{n}, {keep} }}").unwrap();
        let stop = "on_master_exit: stop, command: [/bin/sh, -c, 'sleep 100000 & wait']";
        writeln!(yaml, "- {{ id: stop{n}, {stop} }}").unwrap();
    }
    yaml
}

/// Who leads a group, of each worker of one kind: its present lives. Others are their children.
fn leaders(site: &Site, kind: &str) -> BTreeMap<String, Vec<u32>> {
    let leads = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let rest = stat.rsplit(')').next().unwrap_or("").to_owned();
        rest.split_whitespace().nth(2).is_some_and(|group| group == pid.to_string())
    };
    let mut found: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for pid in site.all().into_iter().filter(leads) {
        let variables = environment(pid);
        let worker = variables.iter().find_map(|text| text.strip_prefix("HSU_WORKER_ID="));
        if let Some(worker) = worker.filter(|worker| worker.starts_with(kind)) {
            found.entry(worker.to_owned()).or_default().push(pid);
        }
    }
    found
}

#[test]
fn s01_s02_rounds_of_killed_masters_lose_nothing_and_double_nothing() {
    let rounds = std::env::var(VARIABLE).ok().and_then(|text| text.parse().ok()).unwrap_or(8);
    let site = Site::new(&workers());
    let mut bystanders: Vec<_> = (0..5).map(|_| Bystander::new()).collect();
    let mut kept: BTreeMap<String, u32> = BTreeMap::new();
    let mut slowest = std::time::Duration::ZERO;
    for round in 0..rounds {
        let mut master = site.run();
        for n in 0..EACH {
            let keep = format!("keep{n}");
            let pid = master.runs(&format!("{keep}#1"));
            let before = kept.insert(keep.clone(), pid);
            assert!(before.is_none_or(|before| before == pid), "round {round}: {keep} is another");
        }
        // Some rounds end while workers are being started.
        if round % 2 == 0 {
            for n in 0..EACH {
                master.until_both(&format!("stop{n}#"), " is running");
            }
        }
        let living = leaders(&site, "keep");
        assert_eq!(living.len(), EACH, "round {round}: {living:?}");
        for (worker, leaders) in living {
            assert_eq!(leaders, [kept[&worker]], "round {round}: {worker}");
        }
        let doubles = leaders(&site, "stop").into_iter().filter(|(_, pids)| pids.len() > 1);
        assert_eq!(doubles.count(), 0, "round {round}");
        let begun = std::time::Instant::now();
        master.kill();
        // The next master need not wait for the guardian of the one before: every third does not.
        if round % 3 != 2 {
            until(|| site.guardians().is_empty());
            slowest = slowest.max(begun.elapsed());
            let left: Vec<_> = leaders(&site, "stop").into_values().flatten().collect();
            assert_eq!(left, Vec::<u32>::new(), "round {round}: they outlived their master");
        }
        assert!(kept.values().all(|pid| lives(*pid)), "round {round}: a kept one was lost");
        assert!(bystanders.iter_mut().all(Bystander::is_unharmed), "round {round}");
    }
    eprintln!("{rounds} rounds; the longest time until all was ended: {slowest:?}");
    let (status, said) = site.run().stop_when_up(EACH);
    assert_eq!(status.code(), Some(0), "{said}");
    assert_eq!(site.all(), Vec::<u32>::new());
    assert!(bystanders.iter_mut().all(Bystander::is_unharmed));
}
