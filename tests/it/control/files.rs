//! The socket as a file: whose it is, where it may be, and what happens to one that is there.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::process::Command;

use hsu_master::control::Client;
use hsu_master::{Master, MasterConfig};

use super::Operated;
use crate::support::{Bench, PATIENCE};

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
fn a_master_whose_directory_was_removed_serves_those_who_are_there() {
    let operated = Operated::new();
    let client = operated.client();
    let state = operated.directory.path().join("state");
    // Its journal is being written to, so a try may fail.
    crate::support::until(|| fs::remove_dir_all(&state).is_ok());
    client.status(&[]).unwrap();
    assert!(Client::connect(operated.socket()).unwrap_err().is_unavailable());
    client.shutdown(false).unwrap();
    operated.bench.finish();
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
    let operated = Operated::new();
    let open = |path: &std::path::Path| {
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
    operated.client().timeout(PATIENCE).status(&[]).unwrap();
    operated.bench.finish();
}
