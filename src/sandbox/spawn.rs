//! Starting a role: a program of ours with one socket, no environment and nothing else.
#![expect(unsafe_code, reason = "the one hook between fork and exec")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

/// A program that was opened once: an upgrade on disk cannot mix versions while we run.
pub struct Program(File);

impl Program {
    /// Opens a program file.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        File::open(path).map(Self)
    }

    /// Starts it in a process group of its own, so that a Ctrl-C in the terminal reaches only its
    /// parent, with an empty environment and one end of a socket pair on descriptor 0. Its standard
    /// error is ours or nobody's.
    ///
    /// # Errors
    /// When the socket pair or the process cannot be made.
    pub fn start(&self, arguments: &[String], talks: bool) -> io::Result<(Child, UnixStream)> {
        let (ours, theirs) = UnixStream::pair()?;
        let child = Command::new(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
            .args(arguments)
            .env_clear()
            .current_dir("/")
            .process_group(0)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(if talks { Stdio::inherit() } else { Stdio::null() })
            .spawn()?;
        Ok((child, ours))
    }
}

/// How a child ended that has closed its socket. One that has only closed it, and lives on after
/// this patience, is killed.
///
/// # Errors
/// When the child cannot be waited for.
pub fn last_words(child: &mut Child, patience: Duration) -> io::Result<ExitStatus> {
    let until = Instant::now() + patience;
    while Instant::now() < until {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill()?;
    child.wait()
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
