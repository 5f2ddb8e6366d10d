//! What workers of a former master have written that ended before this one was there: handed on
//! like the output of any process, before another one of theirs is started.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use super::Means;
use super::fifo::Fifo;
use crate::host::estate::Left;
use crate::host::{Dialect, Outlet, Stream, sys};

/// Hands on all that there is. May block for as long as the logs do.
pub(super) fn hand_on(means: &Means) {
    for left in means.estate.take_left() {
        let Left { worker, incarnation, fifos, .. } = left;
        log::info!("{worker}#{incarnation} has ended, and has written while no master ran");
        means.output.unattended(&worker, incarnation);
        for (stream, fifo) in [Stream::Stdout, Stream::Stderr].into_iter().zip(fifos) {
            let Some(fifo) = fifo else { continue };
            let from = Outlet { worker: &worker, incarnation, stream, dialect: Dialect::Plain };
            if let Err(error) = read(means, fifo, from) {
                log::error!("{worker}#{incarnation}: cannot read its output: {error}");
            }
        }
        means.estate.read_out(&worker);
    }
}

/// Reads what is in a FIFO now and no more: stragglers may write without end.
fn read(means: &Means, fifo: File, from: Outlet<'_>) -> io::Result<()> {
    let mut left = sys::readable_bytes(fifo.as_fd())?;
    let mut fifo = Fifo::of(fifo)?;
    while left > 0 {
        let hand_on = |bytes: &[u8]| means.output.output(from, bytes);
        match means.buffers.lend(|buffer| fifo.read(buffer, true, hand_on)) {
            Ok(0) => break,
            Ok(read) => left = left.saturating_sub(read),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    means.output.end_of_output(from);
    Ok(())
}
