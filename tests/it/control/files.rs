//! The socket as a file: whose it is, where it may be, and what happens to one that is there.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use hsu_master::control::Client;
use hsu_master::{Master, MasterConfig, WorkerConfig};

use super::Operated;
use crate::support::{Bench, PATIENCE};
use crate::{alone, logged};

#[test]
fn the_socket_is_private_and_goes_with_the_master() {
    let operated = Operated::new();
    let about = fs::symlink_metadata(operated.socket()).unwrap();
    assert!(about.file_type().is_socket());
    assert_eq!(about.permissions().mode() & 0o777, 0o600);
    let directory = fs::metadata(operated.directory.path().join("state")).unwrap();
    assert_eq!((directory.mode() & 0o777, directory.uid()), (0o700, about.uid()));
    let socket = operated.socket();
    let Operated { bench, directory } = operated;
    let master = std::sync::Arc::clone(&bench.master);
    bench.finish();
    drop(master);
    crate::support::until(|| !socket.exists());
    drop(directory);
}

#[test]
fn what_a_dead_master_left_is_taken_over_and_no_link_is_followed() {
    let directory = tempfile::tempdir().unwrap();
    let (state, other) = (directory.path().join("state"), directory.path().join("other"));
    let build = || {
        let config = MasterConfig::new().state_dir(&state);
        Bench::new(Master::builder().config(config))
    };
    let socket = state.join("control.sock");
    build().finish();
    crate::support::until(|| !socket.exists());
    // A master that was killed leaves this.
    drop(UnixListener::bind(&socket).unwrap());
    let bench = build();
    Client::connect(&socket).unwrap();
    bench.finish();
    crate::support::until(|| !socket.exists());
    fs::write(&other, "dear").unwrap();
    symlink(&other, &socket).unwrap();
    let bench = build();
    Client::connect(&socket).unwrap();
    assert_eq!(fs::read_to_string(&other).unwrap(), "dear");
    assert!(!fs::symlink_metadata(&socket).unwrap().is_symlink());
    // A second master leaves the first one's socket alone.
    let config = MasterConfig::new().state_dir(&state);
    let error = Master::builder().config(config).build().unwrap_err();
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    Client::connect(&socket).unwrap();
    bench.finish();
}

#[test]
fn a_path_too_long_for_an_address_is_no_hindrance() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("d".repeat(100)).join("e".repeat(100));
    fs::create_dir(state.parent().unwrap()).unwrap();
    let bench = Bench::new(Master::builder().config(MasterConfig::new().state_dir(&state)));
    let client = Client::connect(state.join("control.sock")).unwrap();
    assert!(client.status(&[]).unwrap().is_empty());
    bench.finish();
}

#[test]
fn p15_a_master_whose_directory_was_removed_serves_those_who_are_there_and_those_who_come() {
    let operated = Operated::new();
    let client = operated.client();
    let state = operated.directory.path().join("state");
    for _ in 0..3 {
        // Its journal is being written to, so a try may fail.
        crate::support::until(|| fs::remove_dir_all(&state).is_ok());
        client.status(&[]).unwrap();
        crate::support::until(|| Client::connect(operated.socket()).is_ok());
        let about = fs::symlink_metadata(operated.socket()).unwrap();
        assert_eq!(about.permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&state).unwrap().mode() & 0o777, 0o700);
        let config = MasterConfig::new().state_dir(&state);
        let error = Master::builder().config(config).build().unwrap_err();
        assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    }
    client.shutdown(false).unwrap();
    operated.bench.finish();
    crate::support::until(|| !state.join("control.sock").exists());
}

#[test]
fn a_socket_that_somebody_removes_is_made_again() {
    let operated = Operated::new();
    let client = operated.client();
    for _ in 0..3 {
        fs::remove_file(operated.socket()).unwrap();
        crate::support::until(|| Client::connect(operated.socket()).is_ok());
        let about = fs::symlink_metadata(operated.socket()).unwrap();
        assert_eq!(about.permissions().mode() & 0o777, 0o600);
    }
    let moved = operated.directory.path().join("state/moved");
    fs::rename(operated.socket(), moved).unwrap();
    crate::support::until(|| Client::connect(operated.socket()).is_ok());
    client.status(&[]).unwrap();
    operated.bench.finish();
}

#[test]
fn another_user_is_refused_even_where_the_files_allow_it() {
    let somebody = |script: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--clear-groups", "perl", "-MIO::Socket::UNIX", "-e"]);
        command.arg(script).output()
    };
    if !somebody("exit 0").is_ok_and(|output| output.status.success()) {
        crate::support::skipped("being another user: not root, or there is no setpriv and perl");
        return;
    }
    if !alone::here(&[], another_user_is_refused_even_where_the_files_allow_it) {
        return;
    }
    logged::capture();
    let operated = Operated::new();
    let open = |path: &Path| {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    };
    let socket = operated.socket();
    open(operated.directory.path());
    open(socket.parent().unwrap());
    open(&socket);
    let script = format!(
        "my $s = IO::Socket::UNIX->new(Peer => '{}') or die 'no connection'; print while <$s>;",
        socket.to_str().unwrap()
    );
    let output = somebody(&script).unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("permission_denied") && told.contains("65534"), "{told} {output:?}");
    let line = logged::lines(1, "control: refused pid ").remove(0);
    assert!(line.text.ends_with(" of uid 65534") && line.level == log::Level::Warn, "{line:?}");
    operated.client().timeout(PATIENCE).status(&[]).unwrap();
    operated.bench.finish();
}

/// Puts links to `victim` wherever a master may be about to write below `state`, until it is told
/// to stop.
fn plant(state: &Path, victim: &Path, stop: &AtomicBool) {
    let names = [
        "lock",
        "control.sock",
        "master.json",
        ".master.json.new",
        "workers/w.json",
        "workers/.w.json.new",
        "logs/events.jsonl",
        "logs/w.log",
    ];
    let draft = victim.with_extension("link");
    while !stop.load(Ordering::Relaxed) {
        for name in names {
            // In the place of what is there, or where there is nothing.
            let _ = symlink(victim, &draft);
            let _ = fs::rename(&draft, state.join(name));
        }
    }
}

/// Stops who plants, also when the test fails: it is waited for.
struct Stopped<'a>(&'a AtomicBool);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn p16_links_that_are_planted_while_masters_start_lead_none_of_them_anywhere() {
    let directory = tempfile::tempdir().unwrap();
    let (state, victim) = (directory.path().join("state"), directory.path().join("victim"));
    fs::write(&victim, "dear").unwrap();
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o640)).unwrap();
    let is_dear = || {
        assert_eq!(fs::read_to_string(&victim).unwrap(), "dear");
        let about = fs::symlink_metadata(&victim).unwrap();
        assert!(about.is_file() && about.permissions().mode() & 0o777 == 0o640, "{about:?}");
    };
    let stop = AtomicBool::new(false);
    let (mut built, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        let _stopped = Stopped(&stop);
        scope.spawn(|| plant(&state, &victim, &stop));
        for _ in 0..60 {
            let config = MasterConfig::new().state_dir(&state);
            let config = config.worker(WorkerConfig::executable("w", "/bin/true"));
            match Master::builder().config(config).build() {
                Ok(master) => {
                    built += 1;
                    let _ = master.start_worker("w");
                    drop(master);
                }
                Err(_) => refused += 1,
            }
            is_dear();
            // Half of them begin with nothing there.
            if (built + refused) % 2 == 0 {
                let _ = fs::remove_dir_all(&state);
            }
        }
    });
    is_dear();
    assert!(refused > 0, "no link was ever in the way");
    // What the links have left is no reason not to start, once nobody plants them.
    let _ = fs::remove_file(state.join("lock"));
    let config = MasterConfig::new().state_dir(&state);
    drop(Master::builder().config(config).build().unwrap());
}
