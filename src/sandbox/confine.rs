//! What each role gives up, at its start, before it reads a byte from anybody.

use std::io;
use std::path::Path;

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, TimeStampCounterReadability,
    set_time_stamp_counter_readability,
};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::access;
use crate::filter::{Filter, FilterError, Of};
use crate::report::{Layer, Report, State};
use crate::secret_memory::secret_memory;
use crate::sys::{self, close_from};

/// Address space of a zygote besides its scripts' memory, in bytes: program, libraries, stack.
const ZYGOTE_BASE_BYTES: u64 = 64 * 1024 * 1024;
/// Native stack of a script's process, in bytes. Calls that nest deeper are ended in time by the
/// engine's watch; what nests in native code meets the end of it.
pub const STACK_BYTES: u64 = 1024 * 1024;

/// Proof that this process is confined. Roles serve only with it.
pub struct Confined {
    landlock: State,
}

/// A broker that left no traces and has opened what it needs, but is not confined yet.
pub struct Untraced(());

/// A confinement that the kernel refused. The role must not start.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// A step failed.
    #[error("cannot confine this process: {step} failed: {source}")]
    Step {
        /// Which.
        step: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A filter's text is wrong: a fault of this build.
    #[error(transparent)]
    Filter(#[from] FilterError),
}

impl Confined {
    /// The listener, once it has read its files: it ends with the launcher, reaches one port and no
    /// file, and is bound to its filter.
    ///
    /// # Errors
    /// The step that failed.
    pub fn listener(_untraced: Untraced, port: u16) -> Result<Self, ConfineError> {
        let filter = Filter::of(Of::Listener)?;
        let landlock = access::to_port(port);
        step("seccomp", filter.install())?;
        Ok(Self { landlock })
    }

    /// The broker, once it has read its files: it reaches its home and is bound to its filter.
    ///
    /// # Errors
    /// The step that failed.
    pub fn broker(_untraced: Untraced, home: Option<&Path>) -> Result<Self, ConfineError> {
        let filter = Filter::of(Of::Broker)?;
        let landlock = match home {
            Some(home) => access::to_folder(home),
            None => access::to_nothing(),
        };
        step("seccomp", filter.install())?;
        Ok(Self { landlock })
    }

    pub(crate) fn by_zygote(report: &Report) -> Self {
        Self { landlock: report.state(Layer::Landlock) }
    }

    /// What the kernel granted of the confinement to files and ports. Without the system call filter
    /// there is no such value at all.
    #[must_use]
    pub fn landlock(&self) -> State {
        self.landlock
    }

    pub(crate) fn begin_zygote() -> Result<(), ConfineError> {
        Self::end_with_parent()?;
        step("sigaltstack", sys::default_signals())?;
        step("close_range", close_from(1))
    }

    /// The kernel kills this process when its parent ends. A parent that ended before this call has
    /// closed the role's socket, which ends the role at its first read.
    pub(crate) fn end_with_parent() -> Result<(), ConfineError> {
        let sentence = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
        step("PR_SET_PDEATHSIG", sentence)
    }

    pub(crate) fn finish_zygote(memory: u64, report: &mut Report) -> Result<(), ConfineError> {
        no_traces()?;
        report.set(Layer::Landlock, access::to_nothing());
        report.set(Layer::Capabilities, drop_capabilities());
        // The arena counts exactly and is all that is ever used; this is the second wall.
        limit("RLIMIT_AS", Resource::As, memory.saturating_add(ZYGOTE_BASE_BYTES))?;
        limit("RLIMIT_STACK", Resource::Stack, STACK_BYTES)?;
        // The control socket, and a script's socket on its way to a child.
        limit("RLIMIT_NOFILE", Resource::Nofile, 2)?;
        limit("RLIMIT_FSIZE", Resource::Fsize, 0)?;
        limit("RLIMIT_MEMLOCK", Resource::Memlock, 0)?;
        let clock = set_time_stamp_counter_readability(TimeStampCounterReadability::RaiseSIGSEGV);
        report.set(
            Layer::Clock,
            match clock {
                Ok(()) => State::On,
                Err(error) => State::Off(error.raw_os_error()),
            },
        );
        Ok(())
    }
}

impl Untraced {
    /// No core, no tracer of its own user, no new privileges: what the broker and those who read
    /// secrets give up first.
    ///
    /// # Errors
    /// The step that failed.
    pub fn begin() -> Result<Self, ConfineError> {
        // Later the system calls for it are out of reach.
        let _made = secret_memory();
        Self::bare()
    }

    fn bare() -> Result<Self, ConfineError> {
        sys::ignore_file_size_signal();
        no_traces()?;
        Ok(Self(()))
    }

    /// The same for a role that was started by another process of ours, and ends with it.
    ///
    /// # Errors
    /// The step that failed.
    pub fn begin_child() -> Result<Self, ConfineError> {
        Confined::end_with_parent()?;
        sys::ignore_stop_signals();
        step("close_range", close_from(3))?;
        Self::bare()
    }
}

fn no_traces() -> Result<(), ConfineError> {
    limit("RLIMIT_CORE", Resource::Core, 0)?;
    let not_dumpable = DumpableBehavior::NotDumpable;
    step("PR_SET_DUMPABLE", rustix::process::set_dumpable_behavior(not_dumpable))?;
    step("PR_SET_NO_NEW_PRIVS", rustix::thread::set_no_new_privs(true))
}

/// None to have, and none to be had by executing something.
fn drop_capabilities() -> State {
    for capability in CapabilitySet::all().iter() {
        // Without the right to drop it there is no way to use it either: no new privileges.
        let _kept = rustix::thread::remove_capability_from_bounding_set(capability);
    }
    let none = CapabilitySet::empty();
    let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
    match rustix::thread::set_capabilities(None, none) {
        Ok(()) => State::On,
        Err(error) => State::Off(error.raw_os_error()),
    }
}

fn limit(name: &'static str, resource: Resource, most: u64) -> Result<(), ConfineError> {
    let bound = Rlimit { current: Some(most), maximum: Some(most) };
    step(name, rustix::process::setrlimit(resource, bound))
}

pub(crate) fn step<T, E: Into<io::Error>>(
    step: &'static str,
    done: Result<T, E>,
) -> Result<T, ConfineError> {
    done.map_err(|error| ConfineError::Step { step, source: error.into() })
}
