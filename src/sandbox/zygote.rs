//! The process that forks one process for each script. It is confined before it hears of one, holds
//! no key, and never sees a byte of a script.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::process::{Pid, Signal};

use crate::confine::{ConfineError, Confined, step};
use crate::control;
use crate::filter::{Filter, Of};
use crate::namespaces;
use crate::report::{Layer, Report, State};
use crate::sys::{self, Forked, ScriptSocket, exit_now};

/// A confined zygote that has not said so yet.
pub struct Zygote {
    control: OwnedFd,
    script_filter: Filter,
    report: Report,
}

/// The process of a script: confined, with one socket, on which the script will come.
pub struct ScriptProcess {
    /// Where the script comes from and its answers go.
    pub socket: ScriptSocket,
    /// Whether more scripts of the same client may follow.
    pub is_reused: bool,
    /// That it is confined.
    pub confined: Confined,
}

impl Zygote {
    /// Confines this process, all layers of it, and binds it to a filter. Where the kernel grants a
    /// namespace for processes this returns in the first process of it, while the old one waits.
    /// `memory_bytes` is what the largest script may hold. A step that may not fail and does is told
    /// to the broker, and ends the process; layers that may be missing are in the report.
    #[must_use]
    pub fn confine(control: OwnedFd, memory_bytes: u64) -> Self {
        match confined(memory_bytes) {
            Ok((script_filter, report)) => Self { control, script_filter, report },
            Err(error) => {
                let reason = [b"R".as_slice(), error.to_string().as_bytes()].concat();
                // A broker that is gone needs no reason.
                let _unheard = rustix::io::write(&control, &reason);
                exit_now(crate::EXIT_CONFINE)
            }
        }
    }

    /// Says what it is and forks until the broker is gone. Returns in the children only.
    #[must_use]
    pub fn fork_for_each_script(self, build: &str) -> ScriptProcess {
        let mut hello = vec![b'H'];
        hello.extend(self.report.encode());
        hello.extend(build.as_bytes());
        self.say(&hello);
        loop {
            let mut message = [0; 6];
            let (reuse, milliseconds, socket) = match control::receive(&self.control, &mut message)
            {
                Ok((6, Some(socket))) => {
                    let [_, reuse, time @ ..] = message;
                    (reuse == 1, u32::from_be_bytes(time), socket)
                }
                Ok(_) | Err(_) => exit_now(0),
            };
            match sys::fork() {
                Ok(Forked::Child) => {
                    let time = Duration::from_millis(milliseconds.into());
                    return self.become_script_process(socket, reuse, time);
                }
                Ok(Forked::Parent(child)) => {
                    sys::close(socket);
                    let (status, peak_kib) = wait(child);
                    let (status, peak_kib) = (status.to_be_bytes(), peak_kib.to_be_bytes());
                    self.say(&[b"E".as_slice(), &status, &peak_kib].concat());
                }
                Err(error) => {
                    sys::close(socket);
                    let error = error.raw_os_error().unwrap_or(0);
                    self.say(&[b"X".as_slice(), &error.to_be_bytes()].concat());
                }
            }
        }
    }

    /// The control socket is gone before the first byte of a script can be read.
    fn become_script_process(
        self,
        socket: OwnedFd,
        is_reused: bool,
        time: Duration,
    ) -> ScriptProcess {
        let confine = || {
            let socket = sys::onto_descriptor_0(socket, self.control)?;
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            if !time.is_zero() {
                sys::end_after(time)?;
            }
            self.script_filter.install()?;
            std::io::Result::Ok(socket)
        };
        match confine() {
            Ok(socket) => {
                ScriptProcess { socket, is_reused, confined: Confined::by_zygote(&self.report) }
            }
            Err(_) => exit_now(crate::EXIT_CONFINE),
        }
    }

    /// A broker that is gone wants nothing more of us.
    fn say(&self, message: &[u8]) {
        match rustix::io::write(self.control.as_fd(), message) {
            Ok(sent) if sent == message.len() => {}
            Ok(_) | Err(_) => exit_now(0),
        }
    }
}

fn confined(memory_bytes: u64) -> Result<(Filter, Report), ConfineError> {
    let (script, zygote, reaper) =
        (Filter::of(Of::Script)?, Filter::of(Of::Zygote)?, Filter::of(Of::Reaper)?);
    let mut report = Report::new();
    Confined::begin_zygote()?;
    let has_processes = namespaces::leave(&mut report);
    // Entering a namespace for users takes the death sentence away.
    Confined::end_with_parent()?;
    if has_processes {
        match step("fork", sys::fork())? {
            Forked::Parent(child) => {
                // If this fails, the work ends with this process, which says why.
                step("seccomp", reaper.install())?;
                wait(child);
                exit_now(0)
            }
            Forked::Child => Confined::end_with_parent()?,
        }
    }
    Confined::finish_zygote(memory_bytes, &mut report)?;
    step("seccomp", zygote.install())?;
    report.set(Layer::SystemCalls, State::On);
    Ok((script, report))
}

/// The wait status of a child once it has ended, and the most memory it had at once, in KiB.
fn wait(child: Pid) -> (i32, u32) {
    sys::wait(child).unwrap_or_else(|_| exit_now(crate::EXIT_CONFINE))
}
