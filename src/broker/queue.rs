//! Requests that wait for a lane: those that carry a proof and those that do not, in turns while there are both. So
//! whoever may send without a proof cannot keep the others waiting for longer than one script takes.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A bounded queue of two lines.
pub(crate) struct Queue<T> {
    most: usize,
    lines: Mutex<Lines<T>>,
    changed: Condvar,
}

struct Lines<T> {
    signed: VecDeque<T>,
    unsigned: VecDeque<T>,
    /// Whose turn it is, if there are both.
    is_turn_of_signed: bool,
    is_closed: bool,
}

impl<T> Queue<T> {
    pub(crate) fn of_at_most(most: usize) -> Self {
        let (signed, unsigned) = (VecDeque::new(), VecDeque::new());
        let lines = Lines { signed, unsigned, is_turn_of_signed: true, is_closed: false };
        Self { most, lines: Mutex::new(lines), changed: Condvar::new() }
    }

    /// Adds one, once there is room.
    pub(crate) fn push(&self, one: T, is_signed: bool) {
        let is_full = |lines: &mut Lines<T>| lines.length() >= self.most;
        let held = self.changed.wait_while(self.lines(), is_full);
        let mut lines = held.unwrap_or_else(PoisonError::into_inner);
        let line = if is_signed { &mut lines.signed } else { &mut lines.unsigned };
        line.push_back(one);
        self.changed.notify_all();
    }

    /// Takes the next, once there is one; `None` when the queue is closed and empty.
    pub(crate) fn next(&self) -> Option<T> {
        let waits = |lines: &mut Lines<T>| lines.length() == 0 && !lines.is_closed;
        let held = self.changed.wait_while(self.lines(), waits);
        let next = held.unwrap_or_else(PoisonError::into_inner).next();
        self.changed.notify_all();
        next
    }

    /// Nothing is added any more.
    pub(crate) fn close(&self) {
        self.lines().is_closed = true;
        self.changed.notify_all();
    }

    fn lines(&self) -> MutexGuard<'_, Lines<T>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Lines<T> {
    fn length(&self) -> usize {
        self.signed.len() + self.unsigned.len()
    }

    fn next(&mut self) -> Option<T> {
        let is_signed =
            self.unsigned.is_empty() || (self.is_turn_of_signed && !self.signed.is_empty());
        let next = if is_signed { self.signed.pop_front() } else { self.unsigned.pop_front() };
        self.is_turn_of_signed = !is_signed;
        next
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    fn all(queue: &Queue<&'static str>) -> String {
        queue.close();
        std::iter::from_fn(|| queue.next()).collect()
    }

    #[test]
    fn those_with_a_proof_and_those_without_take_turns() {
        let queue = Queue::of_at_most(20);
        for one in ["a", "b", "c", "d", "e"] {
            queue.push(one, false);
        }
        for one in ["1", "2"] {
            queue.push(one, true);
        }
        assert_eq!(all(&queue), "1a2bcde");
        let queue = Queue::of_at_most(20);
        for one in ["1", "2", "3"] {
            queue.push(one, true);
        }
        queue.push("a", false);
        assert_eq!(all(&queue), "1a23");
    }

    #[test]
    fn who_adds_to_a_full_queue_waits_until_there_is_room() {
        let queue = Arc::new(Queue::of_at_most(2));
        queue.push("1", true);
        queue.push("a", false);
        let ((done, is_done), adder) = (channel(), Arc::clone(&queue));
        let adding = std::thread::spawn(move || {
            adder.push("b", false);
            done.send(()).unwrap();
        });
        assert!(is_done.recv_timeout(Duration::from_millis(100)).is_err());
        assert_eq!(queue.next(), Some("1"));
        is_done.recv_timeout(Duration::from_secs(30)).unwrap();
        adding.join().unwrap();
        assert_eq!(all(&queue), "ab");
    }
}
