//! One safe function for each system call that `rustix` lacks.
#![expect(unsafe_code, reason = "the module that talks to the kernel")]

use std::io;
use std::os::fd::FromRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

/// Ends the process at once: no destructors, no exit handlers, no flushing.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` takes an integer, touches no memory of ours and does not return.
    unsafe { libc::_exit(code) }
}

/// Closes every descriptor from `first` upwards.
pub(crate) fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: the call takes three integers. Descriptors that a Rust value still owns would be
    // closed under it, so this runs only at the start of a role, which owns descriptor 0 alone.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0_u32) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The socket that the parent put on descriptor 0. `None` when it was taken already, or when
/// descriptor 0 is not a socket because somebody started the role by hand.
#[must_use]
pub fn inherited_socket() -> Option<UnixStream> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::SeqCst)
        || rustix::net::sockopt::socket_type(std::io::stdin()).is_err()
    {
        return None;
    }
    // SAFETY: descriptor 0 is open, for the call above succeeded on it, and `TAKEN` makes this the
    // only owner: std's own handle for standard input never closes it.
    Some(unsafe { UnixStream::from_raw_fd(0) })
}
