//! `status --watch`: the table again whenever something happens, a few times a second at most.

use std::time::{Duration, Instant};

use serde_json::json;

use super::args::Status;
use super::status::{table, trouble};
use super::terminal::Look;
use super::{Outcome, Stream};
use crate::control::{Client, Events};
use crate::error::Result;

/// The least time between two pictures.
const PACE: Duration = Duration::from_millis(200);
/// A terminal is shown how time passes, too.
const REFRESH: Duration = Duration::from_secs(1);

pub(super) fn watch(client: &Client, arguments: &Status) -> Result<Outcome> {
    // The one that is past shows that none is missed any more: what happened before it came, and
    // after the first picture, is in the second one.
    let mut events = client.events_to_come(1)?;
    let (look, mut out) = (Look::of_stdout(), Stream::new(true));
    let ids: Vec<_> = arguments.ids.iter().map(String::as_str).collect();
    loop {
        let workers = client.status_with_usage(&ids)?;
        let text = match arguments.json {
            true => format!("{}\n", json!(workers)),
            false => {
                let table = table(&workers, look) + &trouble(&client.hello_again()?, look);
                match look.width {
                    None => format!("{table}\n"),
                    Some(_) => picture(&table, look.height),
                }
            }
        };
        if let Err(end) = out.bytes(text.as_bytes()) {
            return Ok(end);
        }
        let live = look.width.is_some() && !arguments.json;
        if !changed(&mut events, live.then_some(REFRESH))? {
            return Ok(Outcome::Done);
        }
    }
}

/// Waits until something happens, or the picture is old; what happens in the moments after that is
/// the same change. False: the master has ended.
fn changed(events: &mut Events, refresh: Option<Duration>) -> Result<bool> {
    let rest = Instant::now() + PACE;
    let first = match refresh {
        Some(refresh) => events.next_within(refresh),
        None => events.next(),
    };
    let mut next = first;
    loop {
        match next {
            Some(Ok(_)) => {}
            Some(Err(error)) if error.is_timeout() => return Ok(true),
            Some(Err(error)) => return Err(error),
            None => return Ok(false),
        }
        let left = rest.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(true);
        }
        next = events.next_within(left);
    }
}

/// A table in place of what the terminal shows, as much as there is room for.
fn picture(table: &str, height: Option<usize>) -> String {
    // Each line is cleared as it is written, and then the rest: cleared at once it would flicker.
    let mut picture = "\x1b[H".to_owned();
    let count = table.lines().count();
    let room = height.map_or(count, |height| height.saturating_sub(2).max(1));
    for line in table.lines().take(room) {
        picture.push_str(line);
        picture.push_str("\x1b[K\n");
    }
    if count > room {
        picture.push_str(&format!("... and {} more\x1b[K\n", count - room));
    }
    picture.push_str("\x1b[J");
    picture
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_fits_the_terminal() {
        let shown = |height| picture("head\na\nb\nc\n", height).replace("\u{1b}[K", "");
        assert_eq!(shown(Some(9)), "\u{1b}[Hhead\na\nb\nc\n\u{1b}[J");
        assert_eq!(shown(None), shown(Some(9)));
        assert_eq!(shown(Some(4)), "\u{1b}[Hhead\na\n... and 2 more\n\u{1b}[J");
        assert_eq!(shown(Some(0)), "\u{1b}[Hhead\n... and 3 more\n\u{1b}[J");
    }
}
