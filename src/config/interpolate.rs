//! `${VAR}`, `${VAR:-default}` and `$$` in a text, expanded once.

use std::ffi::OsString;

/// Looks a variable up: the process's environment, or what a test says it is.
pub(super) type Lookup<'l> = &'l dyn Fn(&str) -> Option<OsString>;

/// The longest text an expansion may give, in bytes.
const MAX_EXPANDED: usize = 1 << 20;

/// The text with its variables replaced. What a variable holds is never expanded again.
///
/// As in a shell, the default counts for an empty variable too. A dollar before anything but `{`
/// and `$` is a dollar.
pub(super) fn expand(text: &str, lookup: Lookup<'_>) -> Result<String, String> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        expanded.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        if let Some(reference) = after.strip_prefix('{') {
            let Some((inside, behind)) = reference.split_once('}') else {
                return Err("`${` without `}`; write `$${` for the characters themselves".into());
            };
            expanded.push_str(&value(inside, lookup)?);
            rest = behind;
        } else {
            expanded.push('$');
            rest = after.strip_prefix('$').unwrap_or(after);
        }
        if expanded.len() > MAX_EXPANDED {
            return Err("is longer than 1 MiB with its variables".into());
        }
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// What stands for `${inside}`.
fn value(inside: &str, lookup: Lookup<'_>) -> Result<String, String> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let named = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !named {
        return Err(format!(
            "`${{{inside}}}` is not a variable; write ${{NAME}} or ${{NAME:-default}}"
        ));
    }
    let found = match lookup(name).map(OsString::into_string) {
        None => None,
        Some(Ok(found)) => Some(found),
        Some(Err(_)) => return Err(format!("the variable {name} is not UTF-8")),
    };
    match (found, default) {
        (Some(found), None) => Ok(found),
        (Some(found), Some(_)) if !found.is_empty() => Ok(found),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => {
            Err(format!("the variable {name} is not set; set it or write ${{{name}:-default}}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<OsString> {
        match name {
            "HOME" => Some("/home/a b".into()),
            "EMPTY" => Some("".into()),
            "SELF" => Some("${SELF} $$ x: y".into()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_replaced_once() {
        for (text, expanded) in [
            ("", ""),
            ("plain $x 5$ $", "plain $x 5$ $"),
            ("${HOME}/x${HOME}", "/home/a b/x/home/a b"),
            ("${SELF}", "${SELF} $$ x: y"),
            ("${NONE:-d}${NONE:-}", "d"),
            ("${EMPTY}|${EMPTY:-d}", "|d"),
            ("${NONE:-a:-b $HOME}", "a:-b $HOME"),
            ("$$", "$"),
            ("$${HOME}", "${HOME}"),
            ("$$${HOME}", "$/home/a b"),
        ] {
            assert_eq!(expand(text, &lookup).as_deref(), Ok(expanded), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_replaced_is_said() {
        for (text, part) in [
            ("a ${NONE}", "the variable NONE is not set; set it or write ${NONE:-default}"),
            ("${HOME", "without `}`"),
            ("${}", "is not a variable"),
            ("${1A}", "is not a variable"),
            ("${A-b}", "is not a variable"),
            ("${A B:-c}", "is not a variable"),
        ] {
            let problem = expand(text, &lookup).unwrap_err();
            assert!(problem.contains(part), "{text}: {problem}");
        }
        let huge = |_: &str| Some("x".repeat(MAX_EXPANDED).into());
        assert!(expand("${A}${A}", &huge).unwrap_err().contains("1 MiB"));
    }

    #[cfg(unix)]
    #[test]
    fn a_variable_that_is_no_text_is_refused() {
        use std::os::unix::ffi::OsStringExt;
        let lookup = |_: &str| Some(OsString::from_vec(vec![0xFF]));
        assert_eq!(expand("${A}", &lookup).unwrap_err(), "the variable A is not UTF-8");
    }
}
