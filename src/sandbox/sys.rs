//! One safe function for each system call that `rustix` lacks.
#![expect(unsafe_code, reason = "the module that talks to the kernel")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Pid;
use rustix::thread::UnshareFlags;
use seccompiler::BpfProgram;

/// Ends the process at once: no destructors, no exit handlers, no flushing.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` takes an integer, touches no memory of ours and does not return.
    unsafe { libc::_exit(code) }
}

/// Closes every descriptor from `first` upwards.
pub(crate) fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: the call takes three integers. Descriptors that a Rust value still owns would be
    // closed under it, so this runs only at the start of a role, which owns descriptor 0 alone.
    done(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0_u32) })
}

/// The socket that the parent put on descriptor 0. `None` when it was taken already, or when
/// descriptor 0 is not a socket because somebody started the role by hand.
#[must_use]
pub fn inherited_socket() -> Option<OwnedFd> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::SeqCst)
        || rustix::net::sockopt::socket_type(std::io::stdin()).is_err()
    {
        return None;
    }
    // SAFETY: descriptor 0 is open, for the call above succeeded on it, and `TAKEN` makes this the
    // only owner: std's own handle for standard input never closes it.
    Some(unsafe { OwnedFd::from_raw_fd(0) })
}

/// The socket of a script's process: what is on its descriptor 0, for as long as it lives. It is used
/// by the two plain system calls for reading and writing.
#[derive(Clone, Copy)]
pub struct ScriptSocket(());

impl io::Read for ScriptSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(rustix::stdio::stdin(), buffer)?)
    }
}

impl io::Write for ScriptSocket {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(rustix::stdio::stdin(), buffer)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Closes a descriptor with one system call. Dropping it would make another before, in a build with
/// assertions.
pub(crate) fn close(descriptor: OwnedFd) {
    let number = std::os::fd::IntoRawFd::into_raw_fd(descriptor);
    // SAFETY: the number was given away by its one owner in the line above.
    unsafe { libc::close(number) };
}

/// Puts `socket` on descriptor 0, where `old` was, which is closed by that.
pub(crate) fn onto_descriptor_0(socket: OwnedFd, old: OwnedFd) -> io::Result<ScriptSocket> {
    // The number is given away: what closes it is `dup2`.
    let zero = std::os::fd::IntoRawFd::into_raw_fd(old);
    // SAFETY: both are open descriptors that we own; `dup2` replaces the one by the other.
    done(i64::from(unsafe { libc::dup2(socket.as_raw_fd(), zero) }).min(0))?;
    close(socket);
    if zero == 0 { Ok(ScriptSocket(())) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

/// What `fork` returns.
pub(crate) enum Forked {
    /// In the new process.
    Child,
    /// In the old one, with the id of the new.
    Parent(Pid),
}

/// Forks without the handlers that libc runs around it, which make system calls of their own.
pub(crate) fn fork() -> io::Result<Forked> {
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: no stack and no sharing is asked for, so the child gets a copy of all memory. Only
    // processes of one thread come here, so no lock can be held by a thread that the child lacks.
    let pid = unsafe {
        libc::syscall(libc::SYS_clone, i64::from(libc::SIGCHLD), none, none, none, 0_i64)
    };
    match i32::try_from(pid).ok().and_then(Pid::from_raw) {
        Some(pid) => Ok(Forked::Parent(pid)),
        None if pid == 0 => Ok(Forked::Child),
        None => Err(io::Error::last_os_error()),
    }
}

/// Waits until a child has ended: its wait status, and the most memory it had at once, in KiB.
pub(crate) fn wait(child: Pid) -> io::Result<(i32, u32)> {
    let mut status = 0;
    // SAFETY: all zeros is a `rusage`, which is numbers and nothing else.
    let mut used: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        let child = child.as_raw_nonzero().get();
        // SAFETY: both pointers are to locals that outlive the call.
        if unsafe { libc::wait4(child, &raw mut status, 0, &raw mut used) } == child {
            return Ok((status, u32::try_from(used.ru_maxrss).unwrap_or(u32::MAX)));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Leaves the namespaces that `flags` names for new ones.
pub(crate) fn leave_namespaces(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: the call is unsafe for `FILES`, which would split descriptors between threads; it is
    // not among the flags, and the process has one thread.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags.difference(UnshareFlags::FILES)) }?)
}

/// Binds this thread, and those it starts, to a filter of system calls, for good.
pub(crate) fn install_filter(program: &BpfProgram) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: `sock_fprog` points to `length` instructions whose layout is that of the kernel's
    // (`seccompiler` declares it `repr(C)` for this use); the kernel copies them and keeps no pointer.
    done(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0_u32, &raw const program)
    })
}

/// The kernel ends this process when so much time has passed. Not inherited by children.
pub(crate) fn end_after(time: Duration) -> io::Result<()> {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    let once = libc::itimerval {
        it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 },
        it_value: libc::timeval { tv_sec: seconds, tv_usec: time.subsec_micros().into() },
    };
    // SAFETY: the kernel reads one `itimerval`, which lives until the call returns.
    done(i64::from(unsafe {
        libc::setitimer(libc::ITIMER_REAL, &raw const once, std::ptr::null_mut())
    }))
}

/// A file that may not grow is an error of a write then, and not the end of the process.
pub(crate) fn ignore_file_size_signal() {
    // SAFETY: to ignore a signal runs no code of ours.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Ignores the signals by which whoever stops a service reaches all of its processes at once: the
/// broker alone decides when the others end, after what was begun is done.
pub(crate) fn ignore_stop_signals() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        // SAFETY: to ignore a signal runs no code of ours.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Puts every signal back to what the kernel does by default, but those that stop a service, and takes away the second stack on
/// which the runtime would report an overflow: nothing of ours runs when the process is hurt.
pub(crate) fn default_signals() -> io::Result<()> {
    for signal in 1..=64 {
        // SAFETY: the default action runs no code of ours. Signals that cannot be set are refused.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    ignore_stop_signals();
    let none =
        libc::stack_t { ss_sp: std::ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
    // SAFETY: no handler is left that could be running on the second stack.
    done(i64::from(unsafe { libc::sigaltstack(&raw const none, std::ptr::null_mut()) }))
}

/// Address space of our own whose pages are made when they are first used; returns its address.
pub(crate) fn reserve_memory(bytes: usize) -> io::Result<usize> {
    let rights = libc::PROT_READ | libc::PROT_WRITE;
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping at an address of the kernel's choice replaces nothing.
    let region = unsafe { libc::mmap(std::ptr::null_mut(), bytes, rights, kind, -1, 0) };
    if region == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(region.expose_provenance())
}

/// Whether something can be read from `socket`, or its peer is gone, within `patience`.
pub(crate) fn is_readable(socket: impl AsFd, patience: Duration) -> io::Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let until = Instant::now() + patience;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let seconds = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
        let left = Timespec { tv_sec: seconds, tv_nsec: left.subsec_nanos().into() };
        let mut polled = [PollFd::new(&socket, PollFlags::IN)];
        match poll(&mut polled, Some(&left)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn done(result: i64) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
