//! Requests that wait for a lane, in lines that take turns: one for each client that is proven to ask, and one for
//! all others. So whoever is first in a line waits for no more than one script of each other line, however much
//! any of them sends.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What waits.
pub(crate) trait Waits {
    /// The client that is proven to ask, and what tells its proofs apart.
    fn proven(&self) -> Option<(&str, &str)>;
    /// Whether it is refused now, because it waited for too long.
    fn is_late(&self) -> bool;
}

/// A bounded queue of lines.
pub(crate) struct Queue<T> {
    most: usize,
    lines: Mutex<Lines<T>>,
    changed: Condvar,
}

struct Lines<T> {
    /// In the order of their turns; none is empty.
    lines: VecDeque<Line<T>>,
    is_closed: bool,
}

struct Line<T> {
    /// Whose it is; of nobody in particular, if it is not a client's.
    client: Option<String>,
    waiting: VecDeque<T>,
}

impl<T: Waits> Queue<T> {
    pub(crate) fn of_at_most(most: usize) -> Self {
        let lines = Lines { lines: VecDeque::new(), is_closed: false };
        Self { most, lines: Mutex::new(lines), changed: Condvar::new() }
    }

    /// Adds one. What has no place is returned: one that waits already, for whoever has seen a proof can send it again
    /// and would be answered in its client's stead; or, if there are too many now, the last of the longest line. Of
    /// `n` lines, each keeps what is in the first `most / n` places of its own.
    pub(crate) fn push(&self, one: T) -> Option<T> {
        let mut lines = self.lines();
        if lines.has(&one) {
            return Some(one);
        }
        lines.push(one);
        let displaced = if lines.length() > self.most { lines.shorten() } else { None };
        self.changed.notify_one();
        displaced
    }

    /// Takes the next, once there is one; `None` when the queue is closed and empty.
    pub(crate) fn next(&self) -> Option<T> {
        let waits = |lines: &mut Lines<T>| lines.lines.is_empty() && !lines.is_closed;
        let held = self.changed.wait_while(self.lines(), waits);
        held.unwrap_or_else(PoisonError::into_inner).next()
    }

    /// Takes out what nobody waits for any more.
    pub(crate) fn retain(&self, is_waited_for: impl Fn(&T) -> bool) {
        let mut lines = self.lines();
        lines.lines.iter_mut().for_each(|line| line.waiting.retain(&is_waited_for));
        lines.lines.retain(|line| !line.waiting.is_empty());
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

impl<T: Waits> Lines<T> {
    fn length(&self) -> usize {
        self.lines.iter().map(|line| line.waiting.len()).sum()
    }

    fn has(&self, one: &T) -> bool {
        let is_same = |other: &T| one.proven().is_some() && other.proven() == one.proven();
        self.lines.iter().any(|line| line.waiting.iter().any(is_same))
    }

    fn push(&mut self, one: T) {
        let client = one.proven().map(|(client, _)| client.to_owned());
        match self.lines.iter_mut().find(|line| line.client == client) {
            Some(line) => line.waiting.push_back(one),
            None => self.lines.push_back(Line { client, waiting: VecDeque::from([one]) }),
        }
    }

    fn shorten(&mut self) -> Option<T> {
        let longest = self.lines.iter_mut().max_by_key(|line| line.waiting.len())?;
        let last = longest.waiting.pop_back();
        self.lines.retain(|line| !line.waiting.is_empty());
        last
    }

    fn next(&mut self) -> Option<T> {
        let mut line = self.lines.pop_front()?;
        let next = line.waiting.pop_front()?;
        if line.waiting.is_empty() {
            return Some(next);
        }
        // One that is refused in no time does not take the turn of its line.
        if next.is_late() {
            self.lines.push_front(line);
        } else {
            self.lines.push_back(line);
        }
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A text like `A1`, the first proof of client `A`; what begins with a small letter is of nobody. One that ends
    /// with `!` is late.
    impl Waits for &'static str {
        fn proven(&self) -> Option<(&str, &str)> {
            let (client, number) = self.split_at(1);
            (client < "a").then_some((client, number))
        }

        fn is_late(&self) -> bool {
            self.ends_with('!')
        }
    }

    fn queue(most: usize, all: &[&'static str]) -> (Queue<&'static str>, Vec<&'static str>) {
        let queue = Queue::of_at_most(most);
        let displaced = all.iter().filter_map(|one| queue.push(*one)).collect();
        (queue, displaced)
    }

    fn rest(queue: &Queue<&'static str>) -> Vec<&'static str> {
        queue.close();
        std::iter::from_fn(|| queue.next()).collect()
    }

    #[test]
    fn nobody_waits_for_all_that_another_has_sent() {
        let (queue, displaced) = queue(20, &["A1", "A2", "A3", "a", "b", "c", "B1", "C1", "C2"]);
        assert!(displaced.is_empty());
        assert_eq!(rest(&queue), ["A1", "a", "B1", "C1", "A2", "b", "C2", "A3", "c"]);
    }

    #[test]
    fn whoever_comes_back_is_behind_those_who_wait() {
        let (queue, _) = queue(20, &["A1", "B1", "B2"]);
        assert_eq!(queue.next(), Some("A1"));
        queue.push("A2");
        assert_eq!(rest(&queue), ["B1", "A2", "B2"]);
    }

    #[test]
    fn a_flood_loses_its_last_places_to_others_and_keeps_no_more_than_its_share() {
        let (queue, displaced) = queue(4, &["A1", "A2", "A3", "A4", "A5"]);
        assert_eq!(displaced, ["A5"], "its own");
        assert_eq!(queue.push("a"), Some("A4"));
        assert_eq!(queue.push("B1"), Some("A3"));
        for one in ["c", "d", "e"] {
            let lost = queue.push(one);
            assert!(lost == Some(one) || lost == Some("A2"), "{lost:?}");
        }
        assert!(queue.push("B2").is_some_and(|lost| lost != "B1"));
        assert!(rest(&queue).contains(&"B1"));
    }

    #[test]
    fn what_waited_for_too_long_does_not_take_the_turn_of_its_line() {
        let (queue, _) = queue(20, &["A1", "B1!", "B2!", "B3", "B4", "A2", "C1!", "a"]);
        assert_eq!(rest(&queue), ["A1", "B1!", "B2!", "B3", "C1!", "a", "A2", "B4"]);
    }

    #[test]
    fn a_line_that_lost_its_only_place_is_gone() {
        let (queue, displaced) = queue(1, &["A1", "a"]);
        assert_eq!((displaced, queue.next()), (vec!["a"], Some("A1")));
        queue.push("B1");
        assert_eq!(queue.next(), Some("B1"));
    }

    #[test]
    fn each_line_keeps_its_share_whatever_the_others_do() {
        // Three lines of nine places: three for each, whoever is first.
        let floods =
            ["A1", "A2", "A3", "A4", "A5", "A6", "A7", "A8", "A9", "a", "b", "c", "d", "e"];
        let (queue, _) = queue(9, &floods);
        for one in ["B1", "B2", "B3", "A0", "f", "g"] {
            let _displaced = queue.push(one);
        }
        let kept = rest(&queue);
        assert_eq!(kept.len(), 9);
        for share in ["A1", "A2", "A3", "a", "b", "c", "B1", "B2", "B3"] {
            assert!(kept.contains(&share), "{share} of {kept:?}");
        }
    }

    /// By whoever reads the subject: the answer would go to them.
    #[test]
    fn a_proof_that_others_send_again_overtakes_nothing_and_fills_no_line() {
        let (queue, displaced) = queue(20, &["A0", "A1", "A1", "A1", "a", "a", "A2", "B1"]);
        assert_eq!(displaced, ["A1", "A1"]);
        assert_eq!(rest(&queue), ["A0", "a", "B1", "A1", "a", "A2"]);
    }

    #[test]
    fn what_nobody_waits_for_any_more_holds_no_place_and_takes_no_turn() {
        let (queue, _) = queue(4, &["A1", "A2", "a", "A3"]);
        queue.retain(|one| *one == "A3");
        assert_eq!(queue.push("A1"), None);
        assert_eq!(queue.push("B1"), None);
        assert_eq!(rest(&queue), ["A3", "B1", "A1"]);
    }

    #[test]
    fn whoever_takes_the_next_waits_until_there_is_one() {
        let queue = Queue::of_at_most(2);
        std::thread::scope(|scope| {
            let taker = scope.spawn(|| (queue.next(), queue.next()));
            std::thread::sleep(Duration::from_millis(50));
            assert!(!taker.is_finished());
            queue.push("a");
            queue.close();
            assert_eq!(taker.join().unwrap(), (Some("a"), None));
        });
    }
}
