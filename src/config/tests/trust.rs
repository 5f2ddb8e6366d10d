//! FAULTS C19: files that others may write, and what they are read with.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;

use super::*;
use crate::host::sys;
use crate::host::trust::{Doubt, doubt};

/// A file two directories deep, in which nothing is odd.
fn nested(text: &str) -> (tempfile::TempDir, [PathBuf; 3]) {
    let directory = tempfile::tempdir().unwrap();
    let outer = directory.path().join("outer");
    let inner = outer.join("inner");
    let file = inner.join("file");
    fs::create_dir_all(&inner).unwrap();
    fs::write(&file, text).unwrap();
    let places = [file, inner, outer];
    places.iter().for_each(|place| mode(place, 0o755));
    (directory, places)
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn is_root() -> bool {
    sys::effective_uid() == 0
}

/// Files that lead to each other are warned of alike: `about` is the one with the odd place.
fn check(load: &Path, about: &Path, places: &[PathBuf]) {
    assert_eq!(MasterConfig::load(load).unwrap().warnings, []);
    for place in places {
        mode(place, 0o757);
        assert!(matches!(doubt(about), Some(Doubt::Everybody(_))), "{place:?}");
        let loaded = MasterConfig::load(load);
        let said = format!("everybody may write to {}", fs::canonicalize(place).unwrap().display());
        if is_root() {
            let error = loaded.unwrap_err().to_string();
            assert!(error.contains(&said), "{error}");
        } else {
            let warnings = loaded.unwrap().warnings;
            assert_eq!(warnings.len(), 1, "{warnings:?}");
            assert_eq!(warnings[0].file, about.display().to_string());
            assert!(warnings[0].message.contains(&said), "{warnings:?}");
        }
        mode(place, 0o755);
        if !is_root() {
            eprintln!("skipped in part: only root can give files away");
            continue;
        }
        for (owner, group, bits, said) in
            [(4711, 0, 0o755, "belongs to user 4711"), (0, 4711, 0o775, "group 4711 may write to")]
        {
            chown(place, Some(owner), Some(group)).unwrap();
            mode(place, bits);
            let warnings = MasterConfig::load(load).unwrap().warnings;
            assert_eq!(warnings.len(), 1, "{warnings:?}");
            assert_eq!(warnings[0].file, about.display().to_string());
            assert!(warnings[0].message.contains(said), "{warnings:?}");
            chown(place, Some(0), Some(0)).unwrap();
            mode(place, 0o755);
        }
    }
}

#[test]
fn c19_what_others_may_write_is_refused_or_told_along_the_whole_path() {
    let (_directory, places) = nested("workers: []");
    check(&places[0], &places[0], &places);
    // Nobody can replace what is somebody else's there.
    mode(&places[1], 0o1777);
    assert_eq!(doubt(&places[0]), None);
}

#[test]
fn c19_an_included_file_is_trusted_no_more_than_the_one_that_names_it() {
    let (_directory, places) = nested("workers: []");
    let (_elsewhere, main) = nested(&format!("include: [ {} ]", places[0].display()));
    check(&main[0], &places[0], &places);
}

#[test]
fn c19_who_may_write_a_file_of_variables_is_told() {
    let (_directory, places) = nested("A=b");
    let (_elsewhere, main) = nested(&format!(
        "workers: [ {{ id: w, execution: {{ executable_path: /bin/true, env_file: {0} }} }},\n\
         {{ id: v, execution: {{ executable_path: /bin/true, env_file: {0} }} }} ]",
        places[0].display()
    ));
    let warnings = || MasterConfig::load(&main[0]).unwrap().warnings;
    assert_eq!(warnings(), []);
    for place in &places {
        mode(place, 0o757);
        // Its launch is refused where root is asked to read it.
        let told = warnings();
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0].file, places[0].display().to_string());
        assert!(told[0].message.contains("everybody may write to"), "{told:?}");
        mode(place, 0o755);
    }
}
