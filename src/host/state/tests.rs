//! The directory is refused when it is not private, and held by one master.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;

use super::*;
use crate::host::alone;
use crate::host::threads::fail_points::arm;

fn private() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn refusal(path: &Path) -> String {
    let error = StateDir::open(path, "n").unwrap_err();
    assert!(error.is_refused(), "{error}");
    error.to_string()
}

#[test]
fn it_is_made_private_and_its_second_master_is_told_who_holds_it() {
    let around = private();
    let path = around.path().join("a/b");
    let held = StateDir::open(&path, "first").unwrap();
    for made in [&path, &path.join("workers")] {
        assert_eq!(fs::metadata(made).unwrap().mode() & 0o7777, 0o700);
    }
    let told = refusal(&path);
    let own = format!("held by first, pid {}, since 2", process::id());
    assert!(told.contains(&own), "{told}");
    drop(held);
    StateDir::open(&path, "second").unwrap();
    let lock = fs::read_to_string(path.join("lock")).unwrap();
    assert!(lock.starts_with("second, pid "), "{lock}");
}

#[test]
fn links_files_and_what_others_may_use_are_refused() {
    let around = private();
    let (target, link) = (around.path().join("target"), around.path().join("link"));
    drop(StateDir::open(&target, "n").unwrap());
    symlink(&target, &link).unwrap();
    assert!(refusal(&link).contains("it is a link"));
    let file = around.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(refusal(&file).contains("it is no directory"));
    fs::set_permissions(&target, fs::Permissions::from_mode(0o750)).unwrap();
    assert!(refusal(&target).contains("mode 750"));
    fs::set_permissions(&target, fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(around.path(), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(refusal(&target).contains("others may replace it"));
    fs::set_permissions(around.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    StateDir::open(&target, "n").unwrap();
    if sys::effective_uid() == 0 {
        std::os::unix::fs::chown(&target, Some(1), None).unwrap();
        assert!(refusal(&target).contains("it belongs to user 1"));
        let (around, elsewhere) = (private(), around.path().join("elsewhere"));
        fs::create_dir(&elsewhere).unwrap();
        let link = around.path().join("link");
        symlink(&elsewhere, &link).unwrap();
        drop(StateDir::open(&link.join("s"), "n").unwrap());
        std::os::unix::fs::lchown(&link, Some(1), None).unwrap();
        assert!(refusal(&link.join("s")).contains("others may replace it"));
    } else {
        eprintln!("skipped: only root can give a directory away");
    }
}

#[test]
fn links_planted_in_it_are_not_followed() {
    let around = private();
    let path = around.path().join("s");
    let victim = around.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    symlink(&victim, path.join(LOCK)).unwrap();
    StateDir::open(&path, "n").unwrap_err();
    fs::remove_file(path.join(LOCK)).unwrap();
    let state = StateDir::open(&path, "n").unwrap();
    for name in ["record", ".record.new", "control.sock"] {
        symlink(&victim, path.join(name)).unwrap();
    }
    state.root().read("record").unwrap_err();
    state.root().replace("record", b"new").unwrap();
    let _socket = state.bind_socket("control.sock").unwrap();
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
    assert_eq!(state.root().read("record").unwrap().unwrap(), b"new");
}

#[test]
fn files_are_whole_bounded_and_of_one_component() {
    let around = private();
    let state = StateDir::open(&around.path().join("s"), "n").unwrap();
    let workers = state.workers();
    assert_eq!(workers.read("a").unwrap(), None);
    workers.replace("a", b"1").unwrap();
    workers.replace("a", b"22").unwrap();
    assert_eq!(workers.read("a").unwrap().unwrap(), b"22");
    assert_eq!(workers.names().unwrap(), ["a"]);
    workers.replace("b", &vec![0; MAX_FILE as usize + 1]).unwrap();
    assert_eq!(workers.read("b").unwrap_err().kind(), io::ErrorKind::InvalidData);
    for name in ["", ".", "..", "../a", "a/b", "a\0b"] {
        assert!(workers.read(name).is_err(), "{name:?}");
        assert!(workers.replace(name, b"").is_err(), "{name:?}");
    }
    assert!(workers.remove("a").unwrap());
    assert!(!workers.remove("a").unwrap());
}

#[test]
fn it_is_used_through_its_descriptor_and_its_socket_takes_over_a_dead_ones() {
    let around = private();
    // Longer than a socket's address.
    let path = around.path().join("x".repeat(150));
    let state = StateDir::open(&path, "n").unwrap();
    drop(state.bind_socket("control.sock").unwrap());
    let _listener = state.bind_socket("control.sock").unwrap();
    let moved = around.path().join("moved");
    fs::rename(&path, &moved).unwrap();
    state.root().replace("record", b"1").unwrap();
    assert_eq!(fs::read(moved.join("record")).unwrap(), b"1");
    let socket = moved.join("control.sock");
    assert_eq!(fs::metadata(&socket).unwrap().mode() & 0o777, 0o600);
    UnixStream::connect(socket).unwrap();
}

#[test]
fn p14_of_a_hundred_that_race_one_holds_it_and_the_others_are_told_so() {
    let around = private();
    let path = around.path().join("s");
    let start = std::sync::Barrier::new(100);
    let race = || {
        start.wait();
        StateDir::open(&path, "n")
    };
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..100).map(|_| scope.spawn(race)).collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    for error in outcomes.into_iter().filter_map(Result::err) {
        assert!(error.is_refused() && error.to_string().contains("it is held by"), "{error}");
    }
}

#[test]
fn p11_the_socket_is_private_from_the_moment_it_is_there() {
    let around = private();
    let bare = around.path().join("bare");
    let _listener = sys::listen_unix(&bare, 0o600).unwrap();
    assert_eq!(fs::metadata(&bare).unwrap().mode() & 0o777, 0o600);
    // Watched all the time while it comes and goes, as many times as are seen.
    let state = StateDir::open(&around.path().join("s"), "n").unwrap();
    let path = state.path().join("control.sock");
    let (seen, over) = (std::sync::atomic::AtomicUsize::new(0), AtomicBool::new(false));
    let modes = std::thread::scope(|scope| {
        let watch = || {
            let mut modes = std::collections::BTreeSet::new();
            while !over.load(Ordering::Relaxed) {
                if let Ok(about) = fs::symlink_metadata(&path) {
                    modes.insert(about.mode() & 0o777);
                    seen.fetch_add(1, Ordering::Relaxed);
                }
            }
            modes
        };
        let watcher = scope.spawn(watch);
        let end = std::time::Instant::now() + Duration::from_secs(30);
        let mut rounds = 0;
        while rounds < 1000 || seen.load(Ordering::Relaxed) < 1000 {
            assert!(std::time::Instant::now() < end, "nothing is seen");
            drop(state.bind_socket("control.sock").unwrap());
            rounds += 1;
        }
        over.store(true, Ordering::Relaxed);
        watcher.join().unwrap()
    });
    assert_eq!(modes, [0o600].into());
}

#[test]
fn s17_a_lock_is_held_by_nobody_of_us_when_who_waits_for_it_panics() {
    if !alone::here(&[], s17_a_lock_is_held_by_nobody_of_us_when_who_waits_for_it_panics) {
        return;
    }
    let around = private();
    let path = around.path().join("lock");
    let open = || File::options().create(true).append(true).open(&path).unwrap();
    arm("hsu-lock");
    assert!(wait_for(open()).unwrap().is_none(), "who asked is answered");
    let held = wait_for(open()).unwrap().unwrap();
    assert!(open().try_lock().is_err());
    drop(held);
}
