//! Starting a program of ours with one socket, no environment and nothing else.
#![expect(unsafe_code, reason = "the one hook between fork and exec")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

/// A program that was opened once: an upgrade on disk cannot mix versions while we run.
pub(crate) struct Program(File);

impl Program {
    /// Opens a program file.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        File::open(path).map(Self)
    }

    /// Starts it in a process group of its own, so that a Ctrl-C in the terminal reaches only the
    /// one that was started from there, with an empty environment and `socket` on descriptor 0.
    pub(crate) fn start(&self, arguments: &[String], socket: OwnedFd) -> io::Result<Child> {
        Command::new(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
            .args(arguments)
            .env_clear()
            .current_dir("/")
            .process_group(0)
            .stdin(socket)
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
    }
}

/// Asks a child to end.
///
/// # Errors
/// When it is gone already.
pub fn terminate(child: &Child) -> io::Result<()> {
    Ok(rustix::process::kill_process(rustix::process::Pid::from_child(child), Signal::TERM)?)
}

/// Makes the kernel end `command`'s process when the thread that starts it ends: for programs that
/// are not ours and cannot ask for it themselves.
pub fn tie_to_parent(command: &mut Command) -> &mut Command {
    // SAFETY: the closure runs between fork and exec and makes one system call: it takes no lock,
    // allocates nothing and touches no memory of the parent.
    unsafe {
        command.pre_exec(|| {
            rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
            Ok(())
        })
    }
}
