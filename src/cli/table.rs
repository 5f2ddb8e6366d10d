//! A table for people: columns as wide as what is in them, and no line longer than the terminal.

use super::terminal::{Colour, Look};

/// Between two columns.
const GAP: usize = 2;
/// The first column is never narrower: an id must stay recognizable.
const LEAST_FIRST: usize = 8;
/// The last column is given at least so much before another is left out.
const LEAST_LAST: usize = 16;

/// A column's head and what happens to it when there is no room.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) head: &'static str,
    /// Numbers are aligned to the right.
    pub(super) right: bool,
    /// Columns with a higher number are left out first; 0: never.
    pub(super) spare: u8,
}

/// What stands in a place of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) colour: Colour,
}

impl Cell {
    pub(super) fn new(colour: Colour, text: impl Into<String>) -> Self {
        Self { text: text.into(), colour }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(Colour::Plain, text)
    }
}

/// The table as text. The last column is cut at the terminal's edge; the columns before it are as
/// wide as they must be, or left out.
pub(super) fn render<const N: usize>(
    columns: &[Column; N],
    rows: &[[Cell; N]],
    look: Look,
) -> String {
    let mut widths: [usize; N] = std::array::from_fn(|index| {
        let cells = rows.iter().map(|row| row[index].width());
        cells.chain([columns[index].head.len()]).max().unwrap_or(0)
    });
    let shown = fit(columns, &mut widths, look.width);
    let mut text = String::new();
    let heads = columns.map(|column| Cell::new(Colour::Strong, column.head));
    for row in std::iter::once(&heads).chain(rows) {
        line(&mut text, columns, row, &widths, shown, look);
    }
    text
}

/// How wide the table is when nothing is cut or left out.
pub(super) fn width<const N: usize>(columns: &[Column; N], rows: &[[Cell; N]]) -> usize {
    let widest = |index: usize| {
        let cells = rows.iter().map(|row| row[index].width());
        cells.chain([columns[index].head.len()]).max().unwrap_or(0)
    };
    (0..N).map(widest).sum::<usize>() + GAP * N.saturating_sub(1)
}

/// Makes the columns fit into `room`, and says which are shown.
fn fit<const N: usize>(
    columns: &[Column; N],
    widths: &mut [usize; N],
    room: Option<usize>,
) -> [bool; N] {
    let mut shown = [true; N];
    let Some(room) = room else { return shown };
    let last = N - 1;
    let needed = |shown: &[bool; N], widths: &[usize; N], last_width: usize| {
        let before = (0..last).filter(|index| shown[*index]).map(|index| widths[index] + GAP);
        before.sum::<usize>() + last_width
    };
    while needed(&shown, widths, widths[last].min(LEAST_LAST)) > room {
        let left = (0..last).filter(|index| shown[*index] && columns[*index].spare > 0);
        let Some(least) = left.max_by_key(|index| columns[*index].spare) else { break };
        shown[least] = false;
    }
    let over = needed(&shown, widths, widths[last].min(LEAST_LAST)).saturating_sub(room);
    widths[0] = widths[0].min(widths[0].saturating_sub(over).max(LEAST_FIRST));
    widths[last] = widths[last].min(room.saturating_sub(needed(&shown, widths, 0)));
    shown
}

fn line<const N: usize>(
    text: &mut String,
    columns: &[Column; N],
    row: &[Cell; N],
    widths: &[usize; N],
    shown: [bool; N],
    look: Look,
) {
    let mut blank = 0;
    for (index, cell) in row.iter().enumerate().filter(|(index, _)| shown[*index]) {
        let cut = cut(&cell.text, widths[index]);
        let rest = widths[index] - cut.chars().count();
        if columns[index].right {
            blank += rest;
        }
        if !cut.is_empty() {
            text.extend(std::iter::repeat_n(' ', std::mem::take(&mut blank)));
            text.push_str(&look.paint(cell.colour, &cut));
        }
        // Blanks are written only before something, so that no line ends with any.
        blank += GAP + if columns[index].right { 0 } else { rest };
    }
    text.push('\n');
}

/// At most `width` characters of `text`; what is missing is marked.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    if width > 0 {
        cut.push('…');
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] = [
        Column { head: "ID", right: false, spare: 0 },
        Column { head: "TYPE", right: false, spare: 2 },
        Column { head: "PID", right: true, spare: 1 },
        Column { head: "NOTE", right: false, spare: 0 },
    ];

    fn rows() -> Vec<[Cell; 4]> {
        vec![
            ["a".into(), "process".into(), "17".into(), "http://127.0.0.1:8080 and more".into()],
            ["data-processor-1".into(), "module".into(), "".into(), "".into()],
        ]
    }

    fn shown(width: Option<usize>) -> String {
        render(&COLUMNS, &rows(), Look { width, ..Look::PLAIN })
    }

    #[test]
    fn a_pipe_gets_everything() {
        assert_eq!(
            shown(None),
            "ID                TYPE     PID  NOTE\n\
             a                 process   17  http://127.0.0.1:8080 and more\n\
             data-processor-1  module\n"
        );
    }

    #[test]
    fn a_terminal_gets_what_fits() {
        assert_eq!(
            shown(Some(60)),
            "ID                TYPE     PID  NOTE\n\
             a                 process   17  http://127.0.0.1:8080 and m…\n\
             data-processor-1  module\n"
        );
        assert_eq!(
            shown(Some(40)),
            "ID                PID  NOTE\n\
             a                  17  http://127.0.0.1…\n\
             data-processor-1\n"
        );
        assert_eq!(
            shown(Some(30)),
            "ID            NOTE\n\
             a             http://127.0.0.…\n\
             data-proces…\n"
        );
    }

    #[test]
    fn no_line_is_longer_than_any_terminal() {
        for width in 1..120 {
            for line in shown(Some(width)).lines() {
                let least = LEAST_FIRST.max(width);
                assert!(line.chars().count() <= least, "{width}: {line:?}");
                assert!(!line.ends_with(' '), "{width}: {line:?}");
            }
        }
    }

    #[test]
    fn a_cell_s_colour_takes_no_room() {
        let row = [Cell::new(Colour::Good, "a"), "b".into(), "1".into(), "".into()];
        let look = Look { colour: true, ..Look::PLAIN };
        let text = render(&COLUMNS, &[row], look);
        let line = text.lines().last().unwrap();
        assert_eq!(line, "\u{1b}[32ma\u{1b}[0m   b       1");
    }
}
