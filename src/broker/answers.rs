//! Answers that are given again: to the same proof, where its caller asked for that.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use wire::Code;
use wire::request::Reply;

/// Most bytes of answers that are held for a repetition.
const MOST_BYTES: usize = 64 * 1024 * 1024;
/// What an answer takes beside its payload, in bytes, at most.
const OVERHEAD_BYTES: usize = 8 * 1024;

/// The answers of the window in which a proof may come again.
#[derive(Default)]
pub(crate) struct Answers {
    /// By the digests of the whole proof and of the policy; `None` while it is executed.
    held: HashMap<String, Option<Arc<Given>>>,
    /// Digests by the second after which their proof is refused for its age.
    until: VecDeque<(u64, String)>,
    bytes: usize,
}

/// An answer as it was sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Given {
    proof: String,
    error: Option<Code>,
    body: Vec<u8>,
}

/// What is known of a proof that was used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// Nothing.
    No,
    /// It is executed right now.
    Running,
    /// It was answered so.
    Given(Arc<Given>),
}

impl Answers {
    /// Whether one more can be promised.
    pub(crate) fn has_room(&mut self, now: u64) -> bool {
        while self.until.front().is_some_and(|(until, _)| *until < now) {
            let Some((_, digest)) = self.until.pop_front() else { break };
            if let Some(Some(given)) = self.held.remove(&digest) {
                self.bytes -= given.bytes();
            }
        }
        self.bytes + self.held.len() * OVERHEAD_BYTES < MOST_BYTES
    }

    /// From now on the answer to this proof is awaited, until that second.
    pub(crate) fn promise(&mut self, digest: String, until: u64) {
        self.held.insert(digest.clone(), None);
        // Nearly in order: a caller's clock may be ahead, and what is held a little longer is no harm.
        self.until.push_back((until, digest));
    }

    /// What is known of this proof.
    pub(crate) fn known(&self, digest: &str) -> Known {
        match self.held.get(digest) {
            None => Known::No,
            Some(None) => Known::Running,
            Some(Some(given)) => Known::Given(Arc::clone(given)),
        }
    }

    /// Holds the answer that was promised.
    pub(crate) fn give(&mut self, digest: &str, reply: &Reply) {
        let Some(held) = self.held.get_mut(digest) else { return };
        let (proof, error, body) = (reply.proof.clone(), reply.error, reply.body.clone());
        let given = Given { proof, error, body };
        self.bytes += given.bytes();
        *held = Some(Arc::new(given));
    }
}

impl Given {
    fn bytes(&self) -> usize {
        self.body.len()
    }

    /// The same answer to another message.
    pub(crate) fn again(&self, ticket: u64) -> Reply {
        let (proof, body) = (self.proof.clone(), self.body.clone());
        Reply { ticket, proof, error: self.error, body }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(body: &[u8]) -> Reply {
        Reply { ticket: 1, proof: "p".into(), error: Some(Code::Busy), body: body.to_vec() }
    }

    #[test]
    fn an_answer_is_given_again_until_its_proof_is_too_old() {
        let mut answers = Answers::default();
        assert!(answers.has_room(0));
        answers.promise("d".into(), 60);
        assert_eq!(answers.known("d"), Known::Running);
        assert_eq!(answers.known("e"), Known::No);
        answers.give("d", &reply(b"42"));
        answers.give("e", &reply(b"43"));
        let Known::Given(given) = answers.known("d") else { panic!("it was not held") };
        assert_eq!(given.again(7), Reply { ticket: 7, ..reply(b"42") });
        assert_eq!(answers.known("e"), Known::No, "nobody asked for it");
        assert!(answers.has_room(60));
        assert_ne!(answers.known("d"), Known::No);
        assert!(answers.has_room(61));
        assert_eq!((answers.known("d"), answers.bytes), (Known::No, 0));
    }

    #[test]
    fn more_is_not_promised_than_can_be_held() {
        let mut answers = Answers::default();
        let large = vec![0; MOST_BYTES / 2];
        for digest in ["a", "b"] {
            assert!(answers.has_room(0));
            answers.promise(digest.into(), 10);
            answers.give(digest, &reply(&large));
        }
        assert!(!answers.has_room(0));
        assert!(answers.has_room(11));
    }
}
