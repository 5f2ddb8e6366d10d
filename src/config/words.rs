//! Splits a command written as one text into words, without a shell.

/// The words of `text`, separated by white space.
///
/// Within `'...'` every character is itself. Within `"..."` and outside, a backslash makes the next
/// character itself; before anything but `"` and `\` within double quotes it stays. `${...}` is
/// never split: variables are replaced later, so that what they hold is part of one word.
pub(super) fn split(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c.is_whitespace() {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert_default();
        match c {
            '\'' => quoted(&mut chars, '\'', word)?,
            '"' => quoted(&mut chars, '"', word)?,
            '\\' => word.push(chars.next().ok_or("ends with a backslash")?),
            '$' => dollar(&mut chars, word),
            other => word.push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

type Chars<'t> = std::iter::Peekable<std::str::Chars<'t>>;

/// The rest of a quoted part, up to `quote`.
fn quoted(chars: &mut Chars<'_>, quote: char, word: &mut String) -> Result<(), String> {
    while let Some(c) = chars.next() {
        match c {
            end if end == quote => return Ok(()),
            '\\' if quote == '"' => match chars.next_if(|next| matches!(next, '"' | '\\')) {
                Some(escaped) => word.push(escaped),
                None => word.push('\\'),
            },
            '$' => dollar(chars, word),
            other => word.push(other),
        }
    }
    Err(format!("has a {quote} that is not closed"))
}

/// What follows a dollar and belongs to it: a second one, or all of `{...}`.
fn dollar(chars: &mut Chars<'_>, word: &mut String) {
    word.push('$');
    if let Some(second) = chars.next_if_eq(&'$') {
        word.push(second);
    } else if chars.peek() == Some(&'{') {
        for c in chars.by_ref() {
            word.push(c);
            if c == '}' {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_people_expect() {
        for (text, words) in [
            ("", &[][..]),
            ("  ", &[]),
            ("./server --port 80", &["./server", "--port", "80"]),
            (" a\tb\n c ", &["a", "b", "c"]),
            ("sh -c 'sleep 1; exit 0'", &["sh", "-c", "sleep 1; exit 0"]),
            (r#"a "b c" d"e f"g"#, &["a", "b c", "de fg"]),
            (r#"a '' """#, &["a", "", ""]),
            (r#""a\"b" "c\\d" "e\f" 'g\h'"#, &["a\"b", r"c\d", r"e\f", r"g\h"]),
            (r"a\ b \' \\", &["a b", "'", r"\"]),
            ("a;b|c>d *", &["a;b|c>d", "*"]),
            ("${A B:-c d} ${E}", &["${A B:-c d}", "${E}"]),
            ("$${A B} x$", &["$${A", "B}", "x$"]),
        ] {
            assert_eq!(split(text).unwrap(), words, "{text}");
        }
    }

    #[test]
    fn unclosed_quotes_are_refused() {
        for (text, part) in [("a 'b", "has a '"), ("\"a", "has a \""), ("a\\", "backslash")] {
            assert!(split(text).unwrap_err().contains(part), "{text}");
        }
    }
}
