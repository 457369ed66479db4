//! The broker's view of a zygote: it is started, says what it can do, and forks a process for each
//! script.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use crate::control;
use crate::launcher::{KEEP, Launched, Launcher, Role};
use crate::report::Report;
use crate::sys;

/// How long a zygote may take from its start to its report. Namespaces for networks are slow to make
/// on a loaded machine.
const START_PATIENCE: Duration = Duration::from_secs(10);
/// Longest report, in bytes.
const MAX_HELLO_BYTES: usize = 4 * 1024;

/// A zygote. It has ended, with its children, once this is dropped.
pub struct Lane {
    control: OwnedFd,
    report: Report,
    is_forked: bool,
    /// Dropped last: it ends the process.
    _process: Launched,
}

/// The end of a script's process, by the kernel's account.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// How it ended. An exit code is the process's own choice.
    pub status: ExitStatus,
    /// The most memory that the whole process had at once, in bytes.
    pub peak_bytes: u64,
}

/// Why there is no lane.
#[derive(Debug, thiserror::Error)]
pub enum LaneError {
    /// The system refused something.
    #[error("a worker could not be started: {0}")]
    Io(#[from] io::Error),
    /// The worker could not be confined.
    #[error("a worker refused to start: {0}")]
    Refused(String),
    /// The worker is of another build.
    #[error("the worker is of another build: install both programs of one version")]
    OtherBuild,
}

impl Lane {
    /// Starts a zygote for scripts of at most so much memory, and waits for its report. With `keeps`
    /// it can fork processes that are used for more than one script.
    ///
    /// # Errors
    /// See [`LaneError`].
    pub fn start(
        launcher: &Arc<Launcher>,
        memory: u64,
        keeps: bool,
        build: &str,
    ) -> Result<Self, LaneError> {
        let mut arguments = vec![memory.to_string()];
        arguments.extend(keeps.then(|| KEEP.to_owned()));
        let (process, control) = launcher.launch(Role::Worker, &arguments)?;
        if !sys::is_readable(&control, START_PATIENCE)? {
            return Err(io::Error::from(io::ErrorKind::TimedOut).into());
        }
        let mut message = vec![0; MAX_HELLO_BYTES];
        let (length, _) = control::receive(&control, &mut message)?;
        let said = message.get(..length).unwrap_or_default();
        let report = match said.split_first() {
            Some((b'H', said)) => {
                let (report, its_build) = said.split_at_checked(Report::BYTES).unwrap_or_default();
                if its_build != build.as_bytes() {
                    return Err(LaneError::OtherBuild);
                }
                Report::decode(report).ok_or(LaneError::OtherBuild)?
            }
            Some((b'R', reason)) => {
                return Err(LaneError::Refused(String::from_utf8_lossy(reason).into_owned()));
            }
            Some(_) => return Err(LaneError::OtherBuild),
            None => return Err(LaneError::Refused("it ended and said nothing".to_owned())),
        };
        Ok(Self { control, report, is_forked: false, _process: process })
    }

    /// What the kernel granted of its confinement.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Has it fork a process and returns our end of its socket. With a time, the kernel ends the
    /// process when that has passed.
    ///
    /// # Errors
    /// When the last process has not been heard of by [`Lane::ended`], or the zygote is gone.
    pub fn fork(&mut self, is_reused: bool, time: Option<Duration>) -> io::Result<UnixStream> {
        if self.is_forked {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        let (ours, theirs) = UnixStream::pair()?;
        let milliseconds =
            time.map_or(0, |time| u32::try_from(time.as_millis()).unwrap_or(u32::MAX));
        let [a, b, c, d] = milliseconds.to_be_bytes();
        control::send(
            &self.control,
            &[b'F', u8::from(is_reused), a, b, c, d],
            Some(&theirs.into()),
        )?;
        self.is_forked = true;
        Ok(ours)
    }

    /// How the forked process ended; `None` when it has not within this patience, or there is none.
    ///
    /// # Errors
    /// When the zygote is gone or could not fork.
    pub fn ended(&mut self, patience: Duration) -> io::Result<Option<Ended>> {
        if !self.is_forked || !sys::is_readable(self.control.as_fd(), patience)? {
            return Ok(None);
        }
        let mut message = [0; 9];
        let (length, _) = control::receive(&self.control, &mut message)?;
        let [tag, a, b, c, d, peak_kib @ ..] = message;
        let number = i32::from_be_bytes([a, b, c, d]);
        self.is_forked = false;
        match (length, tag) {
            (9, b'E') => {
                let peak_bytes = u64::from(u32::from_be_bytes(peak_kib)) * 1024;
                Ok(Some(Ended { status: ExitStatus::from_raw(number), peak_bytes }))
            }
            (5, b'X') => Err(io::Error::from_raw_os_error(number)),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Whether a forked process has not been heard of yet.
    #[must_use]
    pub fn is_forked(&self) -> bool {
        self.is_forked
    }

    /// Whether the zygote is there and waits to be told to fork.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        let has_news = sys::is_readable(self.control.as_fd(), Duration::ZERO);
        !self.is_forked && has_news.is_ok_and(|has_news| !has_news)
    }
}
