//! Whose turn it is to change the keyspace. An operator waits for it, and scripts no longer than they are told to.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A turn that one has at a time.
#[derive(Default)]
pub(crate) struct Turn {
    is_taken: Mutex<bool>,
    is_over: Condvar,
}

/// Having the turn, until it is dropped.
pub(crate) struct Taken<'t>(&'t Turn);

impl Turn {
    /// Takes the turn, however long it is another's.
    pub(crate) fn wait(&self) -> Taken<'_> {
        let is_taken = self.is_taken.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.is_over.wait_while(is_taken, |is_taken| *is_taken);
        *waited.unwrap_or_else(PoisonError::into_inner) = true;
        Taken(self)
    }

    /// Takes the turn; `None` when it was another's for all of this time.
    pub(crate) fn wait_for(&self, patience: Duration) -> Option<Taken<'_>> {
        let is_taken = self.is_taken.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.is_over.wait_timeout_while(is_taken, patience, |is_taken| *is_taken);
        let (mut is_taken, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return None;
        }
        *is_taken = true;
        Some(Taken(self))
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.0.is_taken.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.0.is_over.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn whoever_waits_for_a_long_change_gives_up_and_takes_the_turn_of_a_short_one() {
        let turn = Turn::default();
        let long = turn.wait_for(Duration::ZERO).unwrap();
        let started = Instant::now();
        assert!(turn.wait_for(Duration::from_millis(100)).is_none());
        assert!(started.elapsed() >= Duration::from_millis(100));
        drop(long);
        let short = turn.wait_for(Duration::ZERO).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| turn.wait_for(Duration::from_secs(30)).is_some());
            let patient = scope.spawn(|| drop(turn.wait()));
            std::thread::sleep(Duration::from_millis(50));
            assert!(!waiting.is_finished() && !patient.is_finished());
            drop(short);
            assert!(waiting.join().unwrap());
            patient.join().unwrap();
        });
        assert!(turn.wait_for(Duration::ZERO).is_some(), "it was given back");
    }
}
