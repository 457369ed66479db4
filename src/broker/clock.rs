//! Time and the names of requests.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// What the wall clock shows, in Unix milliseconds.
pub(crate) fn milliseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The same in Unix seconds.
pub(crate) fn seconds() -> u64 {
    milliseconds() / 1000
}

/// When this process began to look at the clock, and how it names requests.
pub(crate) struct Clock {
    started: u64,
    /// Tells the requests of this process from those of every other.
    tag: u64,
    requests: AtomicU64,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let mut clock = Self { started: 0, tag: 0, requests: AtomicU64::new(0) };
        clock.started = seconds();
        // Without random numbers the time has to do.
        clock.tag = getrandom::u64().unwrap_or(clock.started);
        clock
    }

    /// Unix seconds of the start.
    pub(crate) fn started(&self) -> u64 {
        self.started
    }

    /// A name for a request that no other has: a random tag of this process and a number.
    pub(crate) fn request_id(&self) -> String {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        format!("{:016x}-{number:x}", self.tag)
    }
}
