//! Answers that are given again: to the same proof, where its caller asked for that.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use wire::Code;
use wire::request::Reply;

/// Most bytes of answers that are held for a repetition.
const MOST_BYTES: usize = 64 * 1024 * 1024;
/// Most of them for one client: others have answers to hold as well.
const MOST_BYTES_OF_ONE: usize = MOST_BYTES / 4;
/// What an answer takes beside its payload, in bytes, at most.
const OVERHEAD_BYTES: usize = 8 * 1024;

/// The answers of the window in which a proof may come again.
#[derive(Default)]
pub(crate) struct Answers {
    /// By the digests of the whole proof and of the policy.
    held: HashMap<String, Held>,
    /// Digests by the second after which their proof is refused for its age.
    until: VecDeque<(u64, String)>,
    /// What all of them take, by client.
    bytes: HashMap<String, usize>,
}

struct Held {
    client: String,
    /// `None` while it is executed.
    given: Option<Arc<Given>>,
}

/// An answer as it was sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Given {
    proof: Option<String>,
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
    /// Forgets answers whose proofs are too old to come again.
    pub(crate) fn forget(&mut self, now: u64) {
        while self.until.front().is_some_and(|(until, _)| *until < now) {
            let Some((_, digest)) = self.until.pop_front() else { break };
            let Some(Held { client, given }) = self.held.remove(&digest) else { continue };
            let freed = OVERHEAD_BYTES + given.map_or(0, |given| given.body.len());
            if let Some(bytes) = self.bytes.get_mut(&client) {
                *bytes -= freed;
            }
        }
        self.bytes.retain(|_, bytes| *bytes > 0);
    }

    /// Whether one more can be promised to this client.
    pub(crate) fn has_room(&self, client: &str) -> bool {
        let own = self.bytes.get(client).copied().unwrap_or(0);
        own < MOST_BYTES_OF_ONE && self.bytes.values().sum::<usize>() < MOST_BYTES
    }

    /// From now on the answer to this proof of this client is awaited, until that second.
    pub(crate) fn promise(&mut self, digest: String, client: &str, until: u64) {
        *self.bytes.entry(client.to_owned()).or_default() += OVERHEAD_BYTES;
        self.held.insert(digest.clone(), Held { client: client.to_owned(), given: None });
        // Nearly in order: a caller's clock may be ahead, and what is held a little longer is no harm.
        self.until.push_back((until, digest));
    }

    /// What is known of this proof.
    pub(crate) fn known(&self, digest: &str) -> Known {
        match self.held.get(digest).map(|held| &held.given) {
            None => Known::No,
            Some(None) => Known::Running,
            Some(Some(given)) => Known::Given(Arc::clone(given)),
        }
    }

    /// Holds the answer that was promised.
    pub(crate) fn give(&mut self, digest: &str, reply: &Reply) {
        let Some(held) = self.held.get_mut(digest) else { return };
        let (proof, error, body) = (reply.proof.clone(), reply.error, reply.body.clone());
        *self.bytes.entry(held.client.clone()).or_default() += body.len();
        held.given = Some(Arc::new(Given { proof, error, body }));
    }
}

impl Given {
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
        Reply { ticket: 1, proof: Some("p".into()), error: Some(Code::Busy), body: body.to_vec() }
    }

    #[test]
    fn an_answer_is_given_again_until_its_proof_is_too_old() {
        let mut answers = Answers::default();
        answers.promise("d".into(), "a", 60);
        assert_eq!(answers.known("d"), Known::Running);
        assert_eq!(answers.known("e"), Known::No);
        answers.give("d", &reply(b"42"));
        answers.give("e", &reply(b"43"));
        let Known::Given(given) = answers.known("d") else { panic!("it was not held") };
        assert_eq!(given.again(7), Reply { ticket: 7, ..reply(b"42") });
        assert_eq!(answers.known("e"), Known::No, "nobody asked for it");
        assert_eq!(answers.bytes["a"], OVERHEAD_BYTES + 2);
        answers.promise("f".into(), "a", 61);
        answers.forget(60);
        assert_ne!(answers.known("d"), Known::No);
        answers.forget(61);
        assert_eq!((answers.known("d"), answers.known("f")), (Known::No, Known::Running));
        assert_eq!(answers.bytes["a"], OVERHEAD_BYTES);
        answers.forget(62);
        assert!(answers.bytes.is_empty() && answers.held.is_empty() && answers.until.is_empty());
    }

    #[test]
    fn more_is_not_promised_than_can_be_held_nor_all_to_one_client() {
        let mut answers = Answers::default();
        let large = vec![0; MOST_BYTES_OF_ONE - OVERHEAD_BYTES];
        for client in ["a", "b", "c"] {
            assert!(answers.has_room(client));
            answers.promise(client.into(), client, 10);
            answers.give(client, &reply(&large[1..]));
            assert!(answers.has_room(client), "one byte is left");
            answers.promise(format!("{client}2"), client, 10);
            assert!(!answers.has_room(client), "{client} has its share");
        }
        assert!(answers.has_room("d"));
        answers.promise("d".into(), "d", 10);
        answers.give("d", &reply(&large));
        assert!(!answers.has_room("e"), "all together have what there is");
        answers.forget(11);
        assert!(answers.has_room("a") && answers.has_room("e") && answers.bytes.is_empty());
    }
}
