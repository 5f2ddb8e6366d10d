//! What one incarnation did to itself, the next one knows nothing of.

use std::fs;

use hsu_master::{RestartPolicy, WaitFor};

use super::{bench, shell};
use crate::support::{PATIENCE, quick};

/// Writes down what it was born with, then changes all of it.
const SPOILER: &str = r#"
dump="$DUMP/$(ls "$DUMP" | wc -l)"
{
    cat "/proc/$$/limits"; ls "/proc/$$/fd"; umask; pwd
    tr '\0' '\n' < "/proc/$$/environ" | grep -v INCARNATION
    grep -E '^(Umask|[UG]id|Groups|Sh.Pnd|Sig(Pnd|Ign|Cgt)|NoNew.*|Seccomp):' "/proc/$$/status"
    # By itself: a shell that waits for what it has started may hold signals back.
    while read -r key value; do
        case $key in SigBlk:) echo "$key $value";; esac
    done < /proc/$$/status
    cat "/proc/$$/oom_score_adj"; cut -d' ' -f19 "/proc/$$/stat"
} > "$dump"
ulimit -S -n 16; ulimit -S -s 512; ulimit -c 0; umask 0777; trap '' HUP INT TERM USR1 USR2 PIPE CHLD
cd /; export HSU_WORKER_ID=other COLOR=red; exec 5> /dev/null 0< /dev/zero; renice 5 $$ > /dev/null
exit 1
"#;

#[test]
fn a35_each_incarnation_begins_as_the_first_one_did() {
    let (bench, dumps) = (bench(), tempfile::tempdir().unwrap());
    let mut restart = quick();
    restart.policy = RestartPolicy::OnFailure;
    restart.max_retries = 2;
    let path = dumps.path().to_str().unwrap();
    bench.add(shell("w", SPOILER).env("DUMP", path).restart(restart));
    let _first_life = bench.master.start_worker("w");
    let known = bench.master.wait_for("w", WaitFor::Stopped, PATIENCE).unwrap();
    assert!(known.gave_up);
    let dump = |n: u32| fs::read_to_string(dumps.path().join(n.to_string())).unwrap();
    let first = dump(0);
    let parts = ["Max open files", "HSU_WORKER_ID=w", "SigIgn:", "SigBlk: 0", "Umask:", "\n0\n1\n"];
    for part in parts {
        assert!(first.contains(part), "{part} is missing in {first}");
    }
    assert_eq!(dump(1), first);
    assert_eq!(dump(2), first);
    bench.finish();
}
