//! `status --watch`: the table again whenever something happens, a few times a second at most.

use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded, tick};

use super::args::Status;
use super::status::table;
use super::terminal::Look;
use super::{Outcome, print, print_json_line};
use crate::control::{Client, Events};
use crate::error::{Error, Result};
use crate::host::threads;

/// The least time between two pictures.
const PACE: Duration = Duration::from_millis(200);
/// A terminal is shown how time passes, too.
const REFRESH: Duration = Duration::from_secs(1);
const STACK: usize = 256 << 10;

pub(super) fn watch(client: &Client, arguments: &Status) -> Result<Outcome> {
    let changes = changes(client.events(true)?)?;
    let look = Look::of_stdout();
    let pace = tick(PACE);
    loop {
        let ids: Vec<_> = arguments.ids.iter().map(String::as_str).collect();
        let workers = client.status(&ids)?;
        let shown = match (arguments.json, look.width) {
            (true, _) => print_json_line(&workers),
            (false, None) => print(&format!("{}\n", table(&workers, look))),
            (false, Some(_)) => print(&picture(&table(&workers, look), look.height)),
        };
        if shown != Outcome::Done {
            return Ok(shown);
        }
        let _ = pace.recv();
        let patience = if look.width.is_some() { REFRESH } else { Duration::MAX };
        match changes.recv_timeout(patience) {
            Ok(()) | Err(RecvTimeoutError::Timeout) => {}
            // The master has ended, or no longer wants to tell.
            Err(RecvTimeoutError::Disconnected) => return Ok(Outcome::Done),
        }
    }
}

/// Tells when something has happened; many events at once are one change.
fn changes(events: Events) -> Result<Receiver<()>> {
    let (sender, changes) = bounded(1);
    let read = move || {
        for _event in events.map_while(std::result::Result::ok) {
            if sender.try_send(()).is_err_and(|error| error.is_disconnected()) {
                return;
            }
        }
    };
    threads::spawn("events", STACK, read)
        .map_err(|error| Error::io("cannot start the thread that reads events", error))?;
    Ok(changes)
}

/// A table in place of what the terminal shows, as much as there is room for.
fn picture(table: &str, height: Option<usize>) -> String {
    let mut picture = "\x1b[H\x1b[J".to_owned();
    let count = table.lines().count();
    let room = height.map_or(count, |height| height.saturating_sub(2).max(1));
    for line in table.lines().take(room) {
        picture.push_str(line);
        picture.push('\n');
    }
    if count > room {
        picture.push_str(&format!("... and {} more\n", count - room));
    }
    picture
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_fits_the_terminal() {
        let table = "head\na\nb\nc\n";
        assert_eq!(picture(table, Some(9)), "\u{1b}[H\u{1b}[Jhead\na\nb\nc\n");
        assert_eq!(picture(table, Some(4)), "\u{1b}[H\u{1b}[Jhead\na\n... and 2 more\n");
        assert!(picture(table, Some(0)).ends_with("head\n... and 3 more\n"));
    }
}
