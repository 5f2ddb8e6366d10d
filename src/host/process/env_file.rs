//! A file of variables, as service managers have it: one `NAME=value` a line.

use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::{ErrorCategory, Failure};
use crate::host::sys;
use crate::host::trust::{Doubt, doubt};

/// No file is longer, in bytes.
const LONGEST: u64 = 1 << 20;
/// The system takes no longer variable, with its name and its final NUL.
const LONGEST_VARIABLE: usize = 128 << 10;
/// Permission to write for the group and for others.
const WRITABLE: u32 = 0o022;

/// The variables of the file at `path`, in its order.
///
/// # Errors
/// It cannot be read, or a line of it is no variable: the file and the line are named.
pub(super) fn read(path: &Path) -> Result<Vec<(String, String)>, Failure> {
    let file = path.display();
    let text = text_of(path).map_err(|(category, why)| {
        Failure::new(category, format!("cannot read env_file {file}: {why}"))
    })?;
    parse(&text).map_err(|(line, why)| {
        let message = format!("env_file {file}:{line}: {why}");
        Failure::new(ErrorCategory::Configuration, message)
    })
}

fn text_of(path: &Path) -> Result<String, (ErrorCategory, String)> {
    let failed = |error: io::Error| {
        let category = ErrorCategory::of_io(&error).unwrap_or(ErrorCategory::Configuration);
        (category, error.to_string())
    };
    let wrong = |why: &str| Err((ErrorCategory::Configuration, why.to_owned()));
    let file = sys::open_without_waiting(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    if !about.is_file() {
        return wrong("it is not a regular file");
    }
    if sys::effective_uid() == 0 && about.mode() & WRITABLE != 0 {
        let mode = about.mode() & 0o7777;
        let why = format!(
            "others may write to it (mode {mode:04o}), and the master runs as root; chmod go-w it"
        );
        return Err((ErrorCategory::PermissionDenied, why));
    }
    if sys::effective_uid() == 0
        && let Some(Doubt::Everybody(why)) = doubt(path)
    {
        let why = format!("{why}, and the master runs as root");
        return Err((ErrorCategory::PermissionDenied, why));
    }
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LONGEST {
        return wrong("it is larger than 1 MiB");
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) => {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
            wrong(&format!("line {line} is not UTF-8"))
        }
    }
}

/// The variables of a text, or the number of the first line that is none, and why.
fn parse(text: &str) -> Result<Vec<(String, String)>, (usize, String)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut variables = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if !line.is_empty() && !line.starts_with(['#', ';']) {
            variables.push(variable(line).map_err(|why| (index + 1, why))?);
        }
    }
    Ok(variables)
}

fn variable(line: &str) -> Result<(String, String), String> {
    let line = line.strip_prefix("export ").unwrap_or(line);
    let Some((name, value)) = line.split_once('=') else {
        return Err("there is no '='; write NAME=value".to_owned());
    };
    let name = name.trim();
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(fits) || name.starts_with(|c: char| c.is_ascii_digit())
    {
        let shown: String = name.chars().take(60).collect();
        return Err(format!("{shown:?} is not a variable's name"));
    }
    let value = value.trim();
    let value = match value.chars().next() {
        Some(quote @ ('\'' | '"')) => quoted(&value[1..], quote)?,
        Some(_) | None => value.to_owned(),
    };
    if value.contains('\0') {
        return Err(format!("the value of {name} contains a NUL character"));
    }
    if name.len() + value.len() + 2 > LONGEST_VARIABLE {
        return Err(format!("{name} is longer than the system's limit, 128 KiB"));
    }
    Ok((name.to_owned(), value))
}

/// What is between the quotes, of which the first is gone already.
fn quoted(rest: &str, quote: char) -> Result<String, String> {
    let mut value = String::new();
    let mut chars = rest.chars();
    while let Some(c) = chars.next() {
        if c == quote {
            return match chars.as_str() {
                "" => Ok(value),
                _ => Err(format!("something follows the closing {quote}")),
            };
        }
        if c != '\\' || quote == '\'' {
            value.push(c);
            continue;
        }
        match chars.next() {
            Some(escaped @ ('"' | '\\' | '$' | '`')) => value.push(escaped),
            Some(other) => value.extend(['\\', other]),
            None => value.push('\\'),
        }
    }
    Err(format!("there is no closing {quote}"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn each_form_of_a_line_is_read() {
        for (line, name, value) in [
            ("A=b", "A", "b"),
            ("  A = b c  ", "A", "b c"),
            ("A=", "A", ""),
            ("A=b=c", "A", "b=c"),
            ("export A_1=b", "A_1", "b"),
            (r"A=a\nb # c $D", "A", r"a\nb # c $D"),
            ("A='b \"c\" \\ # '", "A", "b \"c\" \\ # "),
            (r#"A=" b \" \\ \$ \` \n ' ""#, "A", r#" b " \ $ ` \n ' "#),
            ("A=''", "A", ""),
            ("A=b\r", "A", "b"),
            ("\u{feff}A=ü", "A", "ü"),
            ("A=it's", "A", "it's"),
        ] {
            assert_eq!(parse(line), Ok(vec![(name.to_owned(), value.to_owned())]), "{line:?}");
        }
        let text = "# comment\n\n ; another\nA=1\r\nB=2\nA=3";
        let names = parse(text).unwrap().into_iter().map(|(name, value)| name + &value);
        assert_eq!(names.collect::<Vec<_>>(), ["A1", "B2", "A3"]);
    }

    #[test]
    fn what_is_no_variable_is_told_with_its_line() {
        for (line, why) in [
            ("A", "there is no '='; write NAME=value"),
            ("=b", "\"\" is not a variable's name"),
            ("1A=b", "\"1A\" is not a variable's name"),
            ("A B=b", "\"A B\" is not a variable's name"),
            ("A='b", "there is no closing '"),
            (r#"A="b\""#, "there is no closing \""),
            ("A='b' c", "something follows the closing '"),
            ("A=b\0", "the value of A contains a NUL character"),
        ] {
            let text = format!("# one\nX=y\n{line}\nY=z\n");
            assert_eq!(parse(&text), Err((3, why.to_owned())), "{line:?}");
        }
        let long = format!("A={}", "x".repeat(LONGEST_VARIABLE));
        assert_eq!(parse(&long).unwrap_err().0, 1);
    }

    #[test]
    fn a_file_that_cannot_be_trusted_or_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("env");
        let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let refused = || read(&path).unwrap_err().message;
        let begin = format!("cannot read env_file {}: ", path.display());
        assert!(refused().starts_with(&format!("{begin}No such file")), "{}", refused());
        fs::write(&path, "A=b\n").unwrap();
        mode(0o644);
        assert_eq!(read(&path), Ok(vec![("A".to_owned(), "b".to_owned())]));
        for bits in [0o664, 0o646] {
            mode(bits);
            match sys::effective_uid() {
                0 => assert!(refused().contains("others may write to it"), "{}", refused()),
                _ => assert!(read(&path).is_ok()),
            }
        }
        mode(0o600);
        fs::write(&path, b"A=b\nB=\xff\n").unwrap();
        assert_eq!(refused(), format!("{begin}line 2 is not UTF-8"));
        fs::write(&path, vec![b'\n'; (LONGEST + 1) as usize]).unwrap();
        assert_eq!(refused(), format!("{begin}it is larger than 1 MiB"));
        fs::write(&path, vec![b'\n'; LONGEST as usize]).unwrap();
        assert_eq!(read(&path), Ok(Vec::new()));
        fs::write(&path, "A=b\nB\n").unwrap();
        let line = format!("env_file {}:2: there is no '='", path.display());
        assert!(refused().starts_with(&line), "{}", refused());
        let outer = directory.path();
        fs::set_permissions(outer, fs::Permissions::from_mode(0o757)).unwrap();
        match sys::effective_uid() {
            0 => assert!(refused().contains("everybody may write to"), "{}", refused()),
            _ => assert!(refused().starts_with(&line)),
        }
        fs::set_permissions(outer, fs::Permissions::from_mode(0o700)).unwrap();
        // Nobody ever writes to it: opening it must not wait for that.
        let fifo = directory.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let of_fifo = read(&fifo).unwrap_err();
        assert!(of_fifo.message.ends_with("it is not a regular file"), "{of_fifo}");
        let of_directory = read(directory.path()).unwrap_err();
        assert!(of_directory.message.ends_with("it is not a regular file"), "{of_directory}");
    }
}
