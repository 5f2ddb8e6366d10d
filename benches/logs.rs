//! How fast output becomes a log: a process that writes 200 MB of lines into `logs.mode: capture`
//! with rotation, beside `cat` into a file in the same run; processor time of both, and nothing
//! lost.

mod common;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Outcome, Table, alternate, asked_for};
use hsu_master::{LogsConfig, Master, MasterConfig, WaitFor, WorkerConfig};

/// What is written in each turn.
const BYTES: usize = 200_000_000;
/// A line, with its newline.
const LINE: usize = 100;
const TURNS: usize = 7;
/// The first argument of the process that writes.
const WRITE: &str = "write";
const LONG: Duration = Duration::from_secs(300);

fn main() -> Outcome {
    if std::env::args().nth(1).as_deref() == Some(WRITE) {
        return write();
    }
    if !asked_for() {
        return Ok(());
    }
    // Where the figures are those of the machine's memory, unless TMPDIR says otherwise.
    let room = tempfile::tempdir()?;
    let mut table = Table::new("200 MB of 100-byte lines");
    let plain = LogsConfig::default().timestamps(false);
    let stamped = LogsConfig::default();
    let aims = [("without time stamps", plain, 0.85), ("with time stamps", stamped, 0.40)];
    for (what, logs, aim) in aims {
        let (mut ours, mut raw) = (Duration::ZERO, Duration::ZERO);
        let [mine, limit] = alternate(
            TURNS,
            [&mut || measured(&mut ours, || capture(&room.path().join("logs"), logs)), &mut || {
                measured(&mut raw, || cat(&room.path().join("cat")))
            }],
        )?;
        table.times(what, &mine, &limit, &format!("at most {:.2}", 1.0 / aim));
        let speed = |took: Duration| format!("{:.0} MB/s", BYTES as f64 / took.as_secs_f64() / 1e6);
        let speeds = [mine.median(), mine.p99(), limit.median(), limit.p99()].map(speed);
        let [mine, worst, limit, slow] = speeds.each_ref();
        table.row(["  throughput", mine, worst, limit, slow, "", ""]);
        let per_gb = |busy: Duration| {
            let seconds = busy.as_secs_f64() / (TURNS + 1) as f64 / BYTES as f64 * 1e9;
            format!("{seconds:.2} s")
        };
        let label = "  processor time for 1 GB, with the writer's";
        table.row([label, &per_gb(ours), "", &per_gb(raw), "", "", ""]);
    }
    table.print();
    Ok(())
}

/// Adds the processor time of a turn, of this process and of its children, to `busy`.
fn measured(busy: &mut Duration, turn: impl FnOnce() -> Outcome<Duration>) -> Outcome<Duration> {
    let before = processor_time()?;
    let took = turn()?;
    *busy += processor_time()?.saturating_sub(before);
    Ok(took)
}

/// User and system time, of ourselves and of children that were waited for.
fn processor_time() -> Outcome<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    let ticks: u64 =
        after_name.split(' ').skip(11).take(4).map(|field| field.parse::<u64>().unwrap_or(0)).sum();
    // A hundred ticks a second on every Linux there is.
    Ok(Duration::from_millis(ticks * 10))
}

/// The process that writes.
fn write() -> Outcome {
    let mut lines = Vec::new();
    while lines.len() < 64 << 10 {
        let number = lines.len() / LINE;
        let line = format!("{number:>6} ");
        lines.extend_from_slice(line.as_bytes());
        lines.resize(lines.len() + LINE - line.len() - 1, b'x');
        lines.push(b'\n');
    }
    let mut out = std::io::stdout().lock();
    let mut left = BYTES;
    while left > 0 {
        let now = left.min(lines.len());
        out.write_all(&lines[..now])?;
        left -= now;
    }
    Ok(out.flush()?)
}

/// From the order to start until the end is known, which is after the last byte is in the log. In
/// this time three quarters of it are also rotated away and removed, which `cat` need not do: what
/// a former turn has left is removed before the clock runs, for both.
fn capture(directory: &Path, logs: LogsConfig) -> Outcome<Duration> {
    let _ = fs::remove_dir_all(directory);
    let mut config = MasterConfig::new();
    config.log_dir = Some(directory.to_owned());
    let master = Master::builder().config(config).build()?;
    let own = std::env::current_exe()?;
    master.add_worker(WorkerConfig::executable("w", own).args([WRITE]).logs(logs))?;
    let began = Instant::now();
    let _started = master.start_worker_nowait("w");
    master.wait_for("w", WaitFor::Completed, LONG)?;
    let took = began.elapsed();
    let known = master.worker_diagnostics("w")?;
    if (known.log_bytes, known.log_dropped) != (BYTES as u64, 0) {
        let (taken, dropped) = (known.log_bytes, known.log_dropped);
        return Err(format!("{taken} bytes were taken and {dropped} dropped").into());
    }
    Ok(took)
}

/// The same bytes through `cat` into a file.
fn cat(path: &Path) -> Outcome<Duration> {
    let _ = fs::remove_file(path);
    let began = Instant::now();
    let mut writer =
        Command::new(std::env::current_exe()?).arg(WRITE).stdout(Stdio::piped()).spawn()?;
    let from = writer.stdout.take().ok_or("there is no pipe")?;
    let ended = Command::new("cat").stdin(from).stdout(File::create(path)?).status()?;
    writer.wait()?;
    let took = began.elapsed();
    if !ended.success() || fs::metadata(path)?.len() != BYTES as u64 {
        return Err("cat did not write everything".into());
    }
    Ok(took)
}
