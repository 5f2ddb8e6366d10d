//! Takes out of a command line what looks like a secret, before it is told to anybody.

/// What stands in its place.
const HIDDEN: &str = "***";
/// Names of options and variables whose values are secrets.
const NAMES: [&str; 12] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "api-key",
    "api_key",
    "accesskey",
    "access-key",
    "access_key",
    "credential",
];

/// The words of a command line without the values of options named after secrets, and without
/// passwords in URLs. A secret that is not named as one cannot be told from any other word.
pub(super) fn redacted(words: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut value_of_secret = false;
    let redact = |word: String| {
        if std::mem::take(&mut value_of_secret) && !word.starts_with('-') {
            return HIDDEN.to_owned();
        }
        value_of_secret = word.starts_with('-') && !word.contains(['=', ' ']) && is_secret(&word);
        // A script is one word with many in it.
        word.split_inclusive(char::is_whitespace).map(without_secret).collect()
    };
    words.into_iter().map(redact).collect()
}

/// True for a name such as `--db-password` or `API_TOKEN`.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    NAMES.iter().any(|secret| name.contains(secret))
}

/// One word, of which the end may be white space.
fn without_secret(word: &str) -> String {
    let text = word.trim_end();
    let end = &word[text.len()..];
    if let Some((name, value)) = text.split_once('=')
        && is_secret(name)
        && !value.is_empty()
    {
        return format!("{name}={HIDDEN}{end}");
    }
    match password(text) {
        Some((before, after)) => format!("{before}{HIDDEN}{after}{end}"),
        None => word.to_owned(),
    }
}

/// What is before and after the password of a URL such as `redis://user:password@host`.
fn password(text: &str) -> Option<(&str, &str)> {
    let authority = text.find("://")? + "://".len();
    let length = text[authority..].find(['/', '?', '#']).unwrap_or(text.len() - authority);
    let at = authority + text[authority..authority + length].rfind('@')?;
    let colon = authority + text[authority..at].find(':')?;
    Some((&text[..=colon], &text[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &[&str]) -> String {
        redacted(line.iter().map(|word| (*word).to_owned())).join(" ")
    }

    #[test]
    fn what_is_named_after_a_secret_is_not_told() {
        for (line, expected) in [
            (&["db", "--password=x", "--port=1"][..], "db --password=*** --port=1"),
            (&["db", "--db-password", "x", "y"], "db --db-password *** y"),
            (&["db", "--password", "--verbose"], "db --password --verbose"),
            (&["env", "API_TOKEN=x", "HOME=/"], "env API_TOKEN=*** HOME=/"),
            (&["c", "redis://u:p@h:1/0?a=b"], "c redis://u:***@h:1/0?a=b"),
            (&["c", "--url=http://u:p@h/x"], "c --url=http://u:***@h/x"),
            (&["c", "http://h:80/a@b:c"], "c http://h:80/a@b:c"),
            (&["sh", "-c", "SECRET=x  run\t--token=y"], "sh -c SECRET=***  run\t--token=***"),
        ] {
            assert_eq!(shown(line), expected);
        }
    }

    #[test]
    fn any_text_can_be_looked_at() {
        for text in ["", "=", "://", "://@", "://:@", "a://ß:ß@ß", "--token", "@://:"] {
            shown(&[text, text]);
        }
    }
}
