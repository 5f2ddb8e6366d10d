//! Masters of other versions before and after: a new build goes on with what the old one has left,
//! and what a later one has written is put aside without a second copy of anything.

use std::fs;

use crate::support::{Site, kill, lives, until};

const KEPT: &str = "workers: [ { id: w, command: [sleep, '1000'], on_master_exit: keep } ]\n";

#[test]
fn s27_a_build_in_another_place_goes_on_with_what_the_first_has_left() {
    let site = Site::new(KEPT);
    let mut old = site.run();
    let pid = old.runs("w#1");
    assert_eq!(site.recorded("w"), pid);
    old.kill();
    let new = site.path().join("hsu-master-new");
    fs::copy(env!("CARGO_BIN_EXE_hsu-master"), &new).unwrap();
    let mut new = site.run_at(&new, &[]);
    assert_eq!(new.runs("w#1"), pid);
    assert_eq!(site.of("w"), [pid]);
    let (status, said) = new.stop();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(!lives(pid));
}

/// As if a later version had written what is there.
fn make_newer(site: &Site) {
    for path in [site.record_file("w"), site.state().join("master.json")] {
        let text = fs::read_to_string(&path).unwrap();
        let newer = text.replace("\"version\":1", "\"version\":2,\"later\":[true]");
        assert_ne!(newer, text);
        fs::write(path, newer).unwrap();
    }
}

#[test]
fn s27_what_a_later_version_has_left_is_put_aside_and_never_there_twice() {
    let site = Site::new(KEPT);
    let mut later = site.run();
    let pid = later.runs("w#1");
    site.recorded("w");
    later.kill();
    make_newer(&site);
    let mut older = site.run();
    let said = older.until("state of worker w: ");
    assert!(said.contains("version 2") && said.contains("version 1"), "{said}");
    // Its first life is known by its marks alone.
    assert_eq!(older.runs("w#1"), pid);
    assert_eq!(site.of("w"), [pid]);
    assert!(site.record_file("w").with_extension("bad").exists());
    assert!(kill(pid, "KILL"));
    let next = older.runs("w#2");
    until(|| site.record("w")["process"]["pid"] == next);
    older.kill();
    make_newer(&site);
    // A later one is not gone on with: it is ended, and the next one comes after it.
    let mut older = site.run();
    older.until("is ended");
    let last = older.runs("w#3");
    assert!(!lives(next) && lives(last));
    assert_eq!(site.of("w"), [last]);
    assert_eq!(older.stop().0.code(), Some(0));
}
