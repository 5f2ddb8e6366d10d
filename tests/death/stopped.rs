//! A master that does not run for a while: stopped by a signal, as a debugger or a suspended
//! machine would. What others did in time meanwhile was in time.

use std::fs;
use std::process::Command;
use std::time::Duration;

use hsu_master::crossbeam_channel::unbounded;

use crate::support::{Site, until};

/// Speaks the worker protocol: it says when it is asked to start, and answers when it is let go.
const SCRIPT: &str = r#"
hear() { read -r line || exit 75; id=${line#*'"id":'}; id=${id%%,*}; }
ok() { echo "{\"id\":$id,\"result\":{\"healthy\":true}}" >&0; }
echo '{"event":"hello","params":{"protocol":[1,0]}}' >&0
hear; ok
hear; echo asked > asked
read -r go < go
ok; echo answered > answered
while hear; do
    ok
    case $line in *'"stop"'*) exit 0 ;; esac
done
"#;

#[test]
fn t04_a_worker_that_was_ready_in_time_is_ready_however_late_its_master_hears_of_it() {
    let site = Site::new(
        "workers:
- id: w
  execution: { executable_path: /bin/sh, args: [script], integration: protocol }
  start: { timeout: 2s }
  restart: { policy: never }
",
    );
    fs::write(site.path().join("script"), SCRIPT).unwrap();
    let file = |name: &str| site.path().join(name);
    assert!(Command::new("mkfifo").arg(file("go")).status().unwrap().success());
    let mut master = site.run();
    until(|| file("asked").exists());
    master.signal("STOP");
    // One of its threads hears of that and stops all others.
    let stat = format!("/proc/{}/stat", master.pid());
    until(|| fs::read_to_string(&stat).unwrap().contains(") T "));
    fs::write(file("go"), "now\n").unwrap();
    until(|| file("answered").exists());
    // Until its time is over, by any clock.
    let (_silent, nothing) = unbounded::<()>();
    let _ = nothing.recv_timeout(Duration::from_secs(3));
    master.signal("CONT");
    master.until("w#1 is running");
    let (status, said) = master.stop();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(!said.contains("failed"), "{said}");
}
