//! The launcher: a process that starts the others, so that the broker needs no right to. It holds
//! nothing and hears the broker alone. What is said between the two is specified in `CONTROL.md`.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::confine::{ConfineError, Untraced};
use crate::control;
use crate::spawn::Program;

/// How long the launcher may take to answer: it forks, and waits for nobody.
const PATIENCE: Duration = Duration::from_secs(10);

/// The one word among a worker's arguments: it may keep processes.
pub(crate) const KEEP: &str = "keep";

/// What the launcher can start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// This program in another role, with a stream socket.
    Own,
    /// The worker, with a socket that keeps messages apart.
    Worker,
}

/// The broker's end. When it is dropped, everything that was started has ended.
pub struct Launcher {
    control: Mutex<Option<OwnedFd>>,
    process: Mutex<Child>,
}

/// A process that the launcher started. It is ended when this is dropped.
pub struct Launched {
    launcher: Arc<Launcher>,
    id: u32,
}

impl Launcher {
    /// Starts the launcher: the program at `own`, with `arguments` that lead it to [`serve`]. What it
    /// will start is settled by them: later it is told numbers alone.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(own: &Path, arguments: &[String]) -> io::Result<Arc<Self>> {
        let (ours, theirs) = control::pair()?;
        let own = Program::open(own)?;
        let process = Mutex::new(own.start(arguments, theirs)?);
        Ok(Arc::new(Self { control: Mutex::new(Some(ours)), process }))
    }

    /// Starts a process: it, and our end of its socket.
    ///
    /// # Errors
    /// When it cannot be started, or the launcher is gone.
    pub fn launch(
        self: &Arc<Self>,
        role: Role,
        args: &[String],
    ) -> io::Result<(Launched, OwnedFd)> {
        let mut message = vec![b'S', role as u8];
        for argument in args {
            message.extend(argument.as_bytes());
            message.push(0);
        }
        match self.ask(&message)? {
            ([b'S', a, b, c, d], Some(socket)) => {
                let id = u32::from_be_bytes([a, b, c, d]);
                Ok((Launched { launcher: Arc::clone(self), id }, socket))
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Opens the policy file that it was started with, as it is now.
    ///
    /// # Errors
    /// When it cannot be opened, or the launcher is gone.
    pub fn policy(&self) -> io::Result<File> {
        match self.ask(b"P")? {
            ([b'P', ..], Some(file)) => Ok(file.into()),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// One message, one answer of five bytes; shorter ones end in zeros.
    fn ask(&self, message: &[u8]) -> io::Result<([u8; 5], Option<OwnedFd>)> {
        let mut held = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = || io::Error::new(io::ErrorKind::BrokenPipe, "the launcher is gone");
        let control = held.as_ref().ok_or_else(gone)?;
        control::send(control, message, None).map_err(|error| {
            let is_gone = error.kind() == io::ErrorKind::BrokenPipe;
            if is_gone { gone() } else { error }
        })?;
        if !crate::sys::is_readable(control, PATIENCE)? {
            // A late answer would be taken for that to the next message.
            *held = None;
            return Err(gone());
        }
        let mut answer = [0; 6];
        let (length, descriptor) = control::receive(control, &mut answer)?;
        let [tag, a, b, c, d, last] = answer;
        match (length, tag) {
            (0, _) => Err(gone()),
            (5, b'X') => Err(io::Error::from_raw_os_error(i32::from_be_bytes([a, b, c, d]))),
            // A wait status has a byte before it that says whether there is one.
            (6, b'W') => Ok(([a, b, c, d, last], None)),
            _ => Ok(([tag, a, b, c, d], descriptor)),
        }
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        // The launcher ends what it has started and then itself.
        drop(self.control.lock().unwrap_or_else(PoisonError::into_inner).take());
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        let patience = Instant::now() + Duration::from_secs(1);
        while Instant::now() < patience {
            if !matches!(process.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        // A launcher that stands still dies with us, by the kernel's hand; we may not be able to.
        if process.kill().is_ok() {
            let _status = process.wait();
        }
    }
}

impl Launched {
    /// How it ended, if it has.
    ///
    /// # Errors
    /// When the launcher is gone.
    pub fn ended(&self) -> io::Result<Option<ExitStatus>> {
        let [a, b, c, d] = self.id.to_be_bytes();
        match self.launcher.ask(&[b'W', a, b, c, d])?.0 {
            [1, a, b, c, d] => Ok(Some(ExitStatus::from_raw(i32::from_be_bytes([a, b, c, d])))),
            _ => Ok(None),
        }
    }

    /// How it ended, once it has closed its socket. One that has only closed it, and lives on after
    /// this patience, is killed.
    ///
    /// # Errors
    /// When the launcher is gone.
    pub fn last_words(&self, patience: Duration) -> io::Result<ExitStatus> {
        let until = Instant::now() + patience;
        while Instant::now() < until {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.kill()
    }

    /// Ends it. It is forgotten by the launcher, so this is the last that is heard of it.
    fn kill(&self) -> io::Result<ExitStatus> {
        let [a, b, c, d] = self.id.to_be_bytes();
        let ([_, a, b, c, d], _) = self.launcher.ask(&[b'K', a, b, c, d])?;
        Ok(ExitStatus::from_raw(i32::from_be_bytes([a, b, c, d])))
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        // Without a launcher it has ended already.
        let _gone = self.kill();
    }
}

/// The launcher's part: serves the broker until it is gone, then ends what it started. This program in
/// another role is started with `own`, to which the broker adds a number; `policy` is a file that the broker
/// may ask for.
///
/// # Errors
/// When this process cannot begin, or a program cannot be opened.
pub fn serve(
    control: &OwnedFd,
    worker: &Path,
    policy: Option<&Path>,
    own: &[String],
) -> Result<(), ConfineError> {
    let _untraced = Untraced::begin_child()?;
    let open = |path: &Path| crate::confine::step("open", Program::open(path));
    let programs = (open(Path::new("/proc/self/exe"))?, open(worker)?);
    let mut started = HashMap::new();
    let mut buffer = vec![0; control::MAX_BYTES];
    let mut next: u32 = 0;
    loop {
        let Ok((length, _)) = control::receive(control, &mut buffer) else { break };
        let message = buffer.get(..length).unwrap_or_default();
        let answered = match message {
            [b'S', role, arguments @ ..] => {
                start(&programs, *role, own, arguments).map(|(child, socket)| {
                    next = next.wrapping_add(1);
                    started.insert(next, child);
                    (numbered(b'S', next.to_be_bytes()), Some(socket))
                })
            }
            [b'P'] => open_policy(policy).map(|file| (numbered(b'P', [0; 4]), Some(file.into()))),
            [b'W', id @ ..] => status(&mut started, id).map(|answer| (answer, None)),
            [b'K', id @ ..] => kill(&mut started, id)
                .map(|status| (numbered(b'K', status.into_raw().to_be_bytes()), None)),
            _ => break,
        };
        let (answer, socket) = answered.unwrap_or_else(|error: io::Error| {
            (numbered(b'X', error.raw_os_error().unwrap_or(libc::EIO).to_be_bytes()), None)
        });
        if control::send(control, &answer, socket.as_ref()).is_err() {
            break;
        }
    }
    for child in started.values_mut() {
        let _status = end(child);
    }
    Ok(())
}

fn start(
    programs: &(Program, Program),
    role: u8,
    own: &[String],
    args: &[u8],
) -> io::Result<(Child, OwnedFd)> {
    let args = std::str::from_utf8(args).map_err(|_| io::ErrorKind::InvalidInput)?;
    let args: Vec<String> = args.split_terminator('\0').map(str::to_owned).collect();
    // A broker that was taken over has no other use of a launcher than that of a good one.
    let is_harmless = |arg: &String| arg == KEEP || arg.bytes().all(|byte| byte.is_ascii_digit());
    let starts_own = role == Role::Own as u8;
    if !args.iter().all(is_harmless) || (starts_own && own.is_empty()) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    if starts_own {
        let (ours, theirs) = UnixStream::pair()?;
        Ok((programs.0.start(&[own, &args].concat(), theirs.into())?, ours.into()))
    } else {
        let (ours, theirs) = control::pair()?;
        Ok((programs.1.start(&args, theirs)?, ours))
    }
}

/// A file, and nothing that could make us wait.
fn open_policy(policy: Option<&Path>) -> io::Result<File> {
    let path = policy.ok_or(io::ErrorKind::NotFound)?;
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

fn status(started: &mut HashMap<u32, Child>, id: &[u8]) -> io::Result<Vec<u8>> {
    let child = started.get_mut(&number(id)?).ok_or(io::ErrorKind::NotFound)?;
    Ok(match child.try_wait()? {
        None => vec![b'W', 0, 0, 0, 0, 0],
        Some(status) => [[b'W', 1].as_slice(), &status.into_raw().to_be_bytes()].concat(),
    })
}

/// Ends a process, for good: it is forgotten.
fn kill(started: &mut HashMap<u32, Child>, id: &[u8]) -> io::Result<ExitStatus> {
    end(&mut started.remove(&number(id)?).ok_or(io::ErrorKind::NotFound)?)
}

fn end(child: &mut Child) -> io::Result<ExitStatus> {
    // Either it has ended by itself, or it is ended now: both are what is wanted.
    let _ended = child.kill();
    child.wait()
}

fn number(id: &[u8]) -> io::Result<u32> {
    let id = <[u8; 4]>::try_from(id).map_err(|_| io::ErrorKind::InvalidInput)?;
    Ok(u32::from_be_bytes(id))
}

fn numbered(tag: u8, [a, b, c, d]: [u8; 4]) -> Vec<u8> {
    vec![tag, a, b, c, d]
}
