//! What each role gives up, at its start, before it reads a byte from anybody.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal};

use crate::sys::close_from;

/// Address space a worker needs besides its script's memory, in bytes: program, libraries, stack
/// and the slack of the allocator.
const WORKER_BASE_BYTES: u64 = 128 * 1024 * 1024;

/// Proof that this process is confined. Roles serve only with it.
pub struct Confined(());

/// A confinement that the kernel refused. The role must not start.
#[derive(Debug, thiserror::Error)]
#[error("cannot confine this process: {step} failed: {source}")]
pub struct ConfineError {
    step: &'static str,
    source: io::Error,
}

impl Confined {
    /// The worker: one socket on descriptor 0 and nothing else, no new files or processes, bounded
    /// memory, and an end when its parent ends.
    ///
    /// # Errors
    /// The step that failed.
    pub fn worker(memory_bytes: u64) -> Result<Self, ConfineError> {
        end_with_parent()?;
        step("close_range", close_from(1))?;
        no_traces()?;
        // The allocator counts exactly; this is the second wall, wide enough for fragmentation.
        let address_space = memory_bytes.saturating_mul(2).saturating_add(WORKER_BASE_BYTES);
        limit("RLIMIT_AS", Resource::As, address_space)?;
        limit("RLIMIT_NOFILE", Resource::Nofile, 1)?;
        limit("RLIMIT_FSIZE", Resource::Fsize, 0)?;
        limit("RLIMIT_NPROC", Resource::Nproc, 0)?;
        limit("RLIMIT_MEMLOCK", Resource::Memlock, 0)?;
        Ok(Self(()))
    }

    /// The listener: ends with the broker, leaves no core, gains no privileges.
    ///
    /// # Errors
    /// The step that failed.
    pub fn listener() -> Result<Self, ConfineError> {
        end_with_parent()?;
        step("close_range", close_from(3))?;
        no_traces()?;
        Ok(Self(()))
    }

    /// The broker: no core, no tracer of its own user, no new privileges.
    ///
    /// # Errors
    /// The step that failed.
    pub fn broker() -> Result<Self, ConfineError> {
        no_traces()?;
        Ok(Self(()))
    }
}

/// The kernel kills this process when its parent ends. A parent that ended before this call has
/// closed the role's socket, which ends the role at its first read.
fn end_with_parent() -> Result<(), ConfineError> {
    step("PR_SET_PDEATHSIG", rustix::process::set_parent_process_death_signal(Some(Signal::KILL)))
}

fn no_traces() -> Result<(), ConfineError> {
    limit("RLIMIT_CORE", Resource::Core, 0)?;
    let not_dumpable = DumpableBehavior::NotDumpable;
    step("PR_SET_DUMPABLE", rustix::process::set_dumpable_behavior(not_dumpable))?;
    step("PR_SET_NO_NEW_PRIVS", rustix::thread::set_no_new_privs(true))
}

fn limit(name: &'static str, resource: Resource, most: u64) -> Result<(), ConfineError> {
    let bound = Rlimit { current: Some(most), maximum: Some(most) };
    step(name, rustix::process::setrlimit(resource, bound))
}

fn step<E: Into<io::Error>>(step: &'static str, done: Result<(), E>) -> Result<(), ConfineError> {
    done.map_err(|error| ConfineError { step, source: error.into() })
}
