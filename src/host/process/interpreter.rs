//! The file that a program needs before it can run: a script's interpreter, or an executable's
//! loader. When one is missing the system says that the program is.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::preflight::{check_file, missing};
use crate::error::Failure;

/// As much of a file as the kernel looks at.
const HEAD: usize = 256;
/// An interpreter may be a script itself; the kernel follows fewer than this.
const DEEPEST: usize = 6;
/// Real executables have about a dozen.
const MOST_SEGMENTS: u64 = 64;
/// The kernel takes no longer loader path.
const LONGEST_PATH: u64 = 4096;

/// Checks that the interpreter that a script names can be run, and that one's own. A relative path
/// starts at `directory`. What is not a script, or cannot be read, is for the kernel to judge.
pub(super) fn check_script(program: &Path, directory: &Path) -> Result<(), Failure> {
    let mut script = program.to_owned();
    for _ in 0..DEEPEST {
        let Some(named) = head(&script).ok().as_deref().and_then(shebang).map(OsStr::to_owned)
        else {
            return Ok(());
        };
        let what = format!("interpreter {} of script {}", named.display(), script.display());
        if named.as_bytes().ends_with(b"\r") {
            let name = String::from_utf8_lossy(&named.as_bytes()[..named.len() - 1]).into_owned();
            let script = script.display();
            return Err(missing(format!(
                "interpreter {name:?} of script {script} is followed by a carriage return, which \
                 counts as part of its name: end the script's lines with line feeds alone"
            )));
        }
        script = directory.join(named);
        check_file(&what, &script)?;
    }
    Ok(())
}

/// Checks that the loader that an executable names is there.
///
/// Asked only after a failed spawn: an executable for another system may be run by an emulator that
/// brings its own loader, and only the kernel knows.
pub(super) fn check_loader(program: &Path) -> Result<(), Failure> {
    match loader(program) {
        Ok(Some(loader)) => check_file(
            &format!("loader {} of program {}", loader.display(), program.display()),
            &loader,
        ),
        Ok(None) | Err(_) => Ok(()),
    }
}

fn head(path: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD);
    File::open(path)?.take(HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// The interpreter named by a file that begins with `#!`.
fn shebang(head: &[u8]) -> Option<&OsStr> {
    let line = head.strip_prefix(b"#!")?;
    let line = line.split(|byte| matches!(byte, b'\n' | b'\0')).next()?;
    let named = line.split(|byte| matches!(byte, b' ' | b'\t')).find(|word| !word.is_empty())?;
    Some(OsStr::from_bytes(named))
}

/// The loader named by an ELF executable, if it is one that names any.
pub(super) fn loader(program: &Path) -> io::Result<Option<PathBuf>> {
    const NAMES_LOADER: u64 = 3;
    let file = File::open(program)?;
    let ident: [u8; 6] = read_at(&file, 0)?;
    let [0x7f, b'E', b'L', b'F', class @ (1 | 2), order @ (1 | 2)] = ident else { return Ok(None) };
    let elf = Elf { file, wide: class == 2, little: order == 1 };
    // The places of fields in the file's and the segments' headers, narrow and wide.
    let table = elf.word(if elf.wide { 0x20 } else { 0x1c })?;
    let entry_size = elf.number(if elf.wide { 0x36 } else { 0x2a }, 2)?;
    let entries = elf.number(if elf.wide { 0x38 } else { 0x2c }, 2)?;
    for index in 0..entries.min(MOST_SEGMENTS) {
        let entry = table.saturating_add(index * entry_size);
        if elf.number(entry, 4)? != NAMES_LOADER {
            continue;
        }
        let at = elf.word(entry.saturating_add(if elf.wide { 0x08 } else { 0x04 }))?;
        let length = elf.word(entry.saturating_add(if elf.wide { 0x20 } else { 0x10 }))?;
        let mut path = vec![0; usize::try_from(length.min(LONGEST_PATH)).unwrap_or(0)];
        elf.file.read_exact_at(&mut path, at)?;
        path.truncate(path.iter().position(|byte| *byte == 0).unwrap_or(path.len()));
        return Ok(Some(PathBuf::from(OsStr::from_bytes(&path))));
    }
    Ok(None)
}

/// An executable whose numbers are read one at a time, in its own width and order.
struct Elf {
    file: File,
    wide: bool,
    little: bool,
}

impl Elf {
    /// A number as wide as an address.
    fn word(&self, at: u64) -> io::Result<u64> {
        self.number(at, if self.wide { 8 } else { 4 })
    }

    fn number(&self, at: u64, bytes: usize) -> io::Result<u64> {
        let mut number = [0; 8];
        if self.little {
            self.file.read_exact_at(&mut number[..bytes], at)?;
            Ok(u64::from_le_bytes(number))
        } else {
            self.file.read_exact_at(&mut number[8 - bytes..], at)?;
            Ok(u64::from_be_bytes(number))
        }
    }
}

fn read_at<const N: usize>(file: &File, at: u64) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact_at(&mut bytes, at)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interpreter_is_the_first_word_after_the_mark() {
        let named = |head: &'static str| shebang(head.as_bytes()).and_then(OsStr::to_str);
        assert_eq!(named("#!/bin/sh\necho"), Some("/bin/sh"));
        assert_eq!(named("#! \t/usr/bin/env python3\n"), Some("/usr/bin/env"));
        assert_eq!(named("#!/bin/sh"), Some("/bin/sh"));
        assert_eq!(named("#!/bin/sh\r\n"), Some("/bin/sh\r"));
        assert_eq!(named("#!\n/bin/sh"), None);
        assert_eq!(named("# !/bin/sh"), None);
        assert_eq!(named(""), None);
    }

    #[test]
    fn the_loader_of_an_executable_is_found_in_both_widths_and_orders() {
        for wide in [false, true] {
            for little in [false, true] {
                let directory = tempfile::tempdir().unwrap();
                let path = directory.path().join("program");
                std::fs::write(&path, executable(wide, little)).unwrap();
                assert_eq!(loader(&path).unwrap(), Some(PathBuf::from("/lib/ld-none.so")));
                // Cut anywhere, it is an error or no executable, never a panic.
                let whole = std::fs::read(&path).unwrap();
                for length in 0..whole.len() - 1 {
                    std::fs::write(&path, &whole[..length]).unwrap();
                    assert_ne!(loader(&path).ok().flatten(), Some("/lib/ld-none.so".into()));
                }
            }
        }
    }

    /// Headers of an executable whose second segment names its loader, at the end of the file.
    fn executable(wide: bool, little: bool) -> Vec<u8> {
        let word = if wide { 8 } else { 4 };
        let mut file = vec![0; if wide { 0x40 } else { 0x34 }];
        let (table, entry_size) = (file.len(), if wide { 0x38 } else { 0x20 });
        file.resize(table + 2 * entry_size, 0);
        let path_at = file.len();
        file.extend_from_slice(b"/lib/ld-none.so\0");
        let length = file.len() - path_at;
        file[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', word / 4, 2 - u8::from(little)]);
        let mut put = |at: usize, bytes: usize, number: usize| {
            let number = number as u64;
            let (le, be) = (number.to_le_bytes(), number.to_be_bytes());
            let encoded = if little { &le[..bytes] } else { &be[8 - bytes..] };
            file[at..at + bytes].copy_from_slice(encoded);
        };
        let word = usize::from(word);
        put(if wide { 0x20 } else { 0x1c }, word, table);
        put(if wide { 0x36 } else { 0x2a }, 2, entry_size);
        put(if wide { 0x38 } else { 0x2c }, 2, 2);
        let entry = table + entry_size;
        put(table, 4, 1);
        put(entry, 4, 3);
        put(entry + if wide { 0x08 } else { 0x04 }, word, path_at);
        put(entry + if wide { 0x20 } else { 0x10 }, word, length);
        file
    }
}
