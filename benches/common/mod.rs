//! What all benchmarks share: contestants that take turns, their median and p99, and one table.
//! Nothing here judges: a figure is printed beside its raw limit and its aim, and never fails a
//! run.

#![expect(clippy::print_stdout, reason = "the table is what a benchmark is for")]

use std::error::Error;
use std::time::Duration;

/// What a benchmark fails with: something kept it from measuring.
pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// One way to do what is measured. It says how long that took.
pub(crate) type Contestant<'a> = &'a mut dyn FnMut() -> Outcome<Duration>;

/// True under `cargo bench`: `cargo test --all-targets` runs benchmarks too, and wants no figures.
pub(crate) fn asked_for() -> bool {
    std::env::args().any(|arg| arg == "--bench")
}

/// Lets the contestants take turns (A B A B ...), so that whatever else the machine does is
/// everybody's burden. The first turn of each warms up and is not counted.
pub(crate) fn alternate<const N: usize>(
    turns: usize,
    mut contestants: [Contestant<'_>; N],
) -> Outcome<[Samples; N]> {
    let mut samples = [const { Samples(Vec::new()) }; N];
    for turn in 0..=turns {
        for (contestant, samples) in contestants.iter_mut().zip(&mut samples) {
            let took = contestant()?;
            if turn > 0 {
                samples.0.push(took);
            }
        }
    }
    for samples in &mut samples {
        samples.0.sort_unstable();
    }
    Ok(samples)
}

/// How long one contestant's turns took, the shortest first.
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    /// Half of the turns were no longer.
    pub(crate) fn median(&self) -> Duration {
        self.quantile(50)
    }

    /// 99 of 100 turns were no longer; with fewer turns it is the longest.
    pub(crate) fn p99(&self) -> Duration {
        self.quantile(99)
    }

    fn quantile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or_default()
    }
}

/// Our figures beside the raw limits and the aims.
pub(crate) struct Table {
    rows: Vec<[String; 7]>,
}

impl Table {
    /// A table with nothing but its head; `what` is what its rows are about.
    pub(crate) fn new(what: &str) -> Self {
        let head = [what, "ours", "p99", "raw", "p99", "ratio", "aim"];
        Self { rows: vec![head.map(str::to_owned)] }
    }

    /// Our times beside those of a raw limit.
    pub(crate) fn times(&mut self, what: &str, ours: &Samples, raw: &Samples, aim: &str) {
        let (mine, limit) = (ours.median().as_secs_f64(), raw.median().as_secs_f64());
        self.row([
            what,
            &time(ours.median()),
            &time(ours.p99()),
            &time(raw.median()),
            &time(raw.p99()),
            &format!("{:.2}", mine / limit),
            aim,
        ]);
    }

    /// A row of any other kind.
    pub(crate) fn row(&mut self, row: [&str; 7]) {
        self.rows.push(row.map(str::to_owned));
    }

    /// Prints the table, its columns aligned.
    pub(crate) fn print(&self) {
        let width = |column: usize| {
            self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
        };
        let widths: [usize; 7] = std::array::from_fn(width);
        println!();
        for row in &self.rows {
            let [what, figures @ .., aim] = row;
            print!("{what:<0$}", widths[0]);
            for (figure, width) in figures.iter().zip(&widths[1..]) {
                print!("  {figure:>width$}");
            }
            println!("  {aim}");
        }
    }
}

/// A duration in the unit in which it has up to four digits before the point.
fn time(duration: Duration) -> String {
    let nanos = duration.as_secs_f64() * 1e9;
    match nanos {
        nanos if nanos < 1e4 => format!("{nanos:.0} ns"),
        nanos if nanos < 1e7 => format!("{:.1} µs", nanos / 1e3),
        _ => format!("{:.1} ms", nanos / 1e6),
    }
}
