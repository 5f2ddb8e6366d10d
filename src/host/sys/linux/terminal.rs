//! What standard output's terminal says of itself.

use std::mem::MaybeUninit;

use super::checked;

/// How many columns and lines the terminal at standard output has; `None`: it is none, or does not
/// know.
pub(crate) fn terminal_size() -> Option<(usize, usize)> {
    let mut size = MaybeUninit::<libc::winsize>::uninit();
    // SAFETY: the request writes one `winsize`, and `size` outlives the call.
    let result = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, size.as_mut_ptr()) };
    checked(result).ok()?;
    // SAFETY: the call succeeded, so it has filled `size`.
    let size = unsafe { size.assume_init() };
    (size.ws_col > 0).then_some((usize::from(size.ws_col), usize::from(size.ws_row)))
}
