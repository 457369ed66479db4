//! Who asks. One public answer for every failure before the policy; the reason is in the audit log.

use std::sync::{Arc, PoisonError};

use policy::Caller;
use proof::{Addressee, Expected, Fault, Signed, Verified};
use wire::Code;
use wire::request::{ProofHeader, Request};

use crate::answers::{Given, Known};
use crate::clock::seconds;
use crate::outcome::Failure;
use crate::replay::{Replay, WINDOW_SECONDS};
use crate::{Broker, Loaded};

/// Why nobody could be identified.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unidentified {
    #[error("the request is not signed and the policy has no [anonymous]")]
    Unsigned,
    #[error("the header is repeated, misspelt, too long or not text")]
    UnusableHeader,
    #[error("{0}")]
    Proof(#[from] Fault),
    #[error("`{0}` is no client of the policy, or has expired, or is revoked")]
    UnknownClient(String),
    /// Somebody was, and the proof is not good for another execution.
    #[error("{why}")]
    Spent { by: Box<Proven>, why: Spent },
}

/// Why a proof that verifies is not executed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Spent {
    #[error("the proof was used before")]
    Used,
    #[error("the proof was made before this service started")]
    BeforeStart,
    #[error("the clock was set back: restart the service when it is right")]
    ClockSetBack,
    #[error("the proof is being executed")]
    Running,
    #[error("it waited for too long: {0}")]
    Late(Fault),
    #[error("too many proofs to remember, or the mark of used proofs cannot be written")]
    Full,
}

/// A client of the policy, and the digest of the proof that it signed.
#[derive(Debug)]
pub(crate) struct Proven {
    pub(crate) caller: Caller,
    pub(crate) proof: String,
}

/// A request on its way to a lane.
pub(crate) struct Arrival {
    pub(crate) request: Request,
    /// Its proof, if that was good when the request arrived, and by a client of the policy of then.
    verified: Option<Verified>,
}

impl Arrival {
    /// One whose proof nobody has looked at.
    pub(crate) fn unproven(request: Request) -> Self {
        Self { request, verified: None }
    }

    /// The client that is proven to have sent it, and the number of the proof.
    pub(crate) fn proven(&self) -> Option<(&str, &str)> {
        let verified = self.verified.as_ref()?;
        Some((verified.kid.as_str(), verified.jti.as_str()))
    }

    /// Whether its proof was good when it arrived, and is too old `now`, in Unix seconds.
    pub(crate) fn is_late(&self, now: u64) -> bool {
        self.verified.as_ref().is_some_and(|one| one.in_time(now, WINDOW_SECONDS).is_err())
    }
}

/// Somebody, and what is to be done.
pub(crate) enum Identified {
    /// Execute it for anybody.
    Anonymous(Caller),
    /// Execute it, and hold the answer for the same proof if it asks for that.
    New { by: Proven, held_as: Option<String> },
    /// Give the answer that was given.
    Again { by: Proven, given: Arc<Given> },
}

impl Unidentified {
    /// Who asks, where that is known all the same.
    pub(crate) fn by(&self) -> Option<&Proven> {
        match self {
            Self::Spent { by, .. } => Some(by),
            Self::Unsigned | Self::UnusableHeader | Self::Proof(_) | Self::UnknownClient(_) => None,
        }
    }

    /// What the caller may know.
    pub(crate) fn public(&self) -> Failure {
        match self {
            Self::Unsigned | Self::UnusableHeader | Self::Proof(_) | Self::UnknownClient(_) => {
                Failure::new(Code::Unauthenticated, "the request is not authenticated")
            }
            Self::Spent { why, .. } => match why {
                Spent::Used => {
                    Failure::new(Code::Replayed, "this proof was used before: make a new one")
                }
                Spent::BeforeStart | Spent::ClockSetBack => {
                    let text = "this proof may have been used before the service started: make a new \
                                one, or try again in 30 seconds";
                    Failure::new(Code::Replayed, text)
                }
                Spent::Running => {
                    Failure::new(Code::Busy, "this very request is being executed: ask again")
                }
                Spent::Full | Spent::Late(_) => {
                    Failure::new(Code::Busy, "too many requests: try again later")
                }
            },
        }
    }
}

impl Broker {
    /// Whose request this is, before it waits for a lane. Nothing is refused yet, nor used up: under which
    /// policy and when it is served is still open.
    pub(crate) fn receive(&self, request: Request) -> Arrival {
        let verified = match &request.proof {
            ProofHeader::Absent | ProofHeader::Unusable => None,
            ProofHeader::One(header) => {
                self.verify(&self.policy(), header, &request.body, seconds()).ok()
            }
        };
        Arrival { request, verified }
    }

    /// Cheap checks first: shape, known key, signature, claims, and only then the replay window.
    pub(crate) fn identify(
        &self,
        loaded: &Loaded,
        arrival: &Arrival,
    ) -> Result<Identified, Unidentified> {
        let Arrival { request, verified } = arrival;
        let header = match &request.proof {
            ProofHeader::Absent => {
                let anybody = loaded.policy.anonymous().map(Identified::Anonymous);
                return anybody.ok_or(Unidentified::Unsigned);
            }
            ProofHeader::Unusable => return Err(Unidentified::UnusableHeader),
            ProofHeader::One(header) => header,
        };
        let now = seconds();
        let verified = match verified {
            Some(verified) => verified,
            // Perhaps the keyspace was sealed when it arrived, or its client was not known.
            None => &self.verify(loaded, header, &request.body, now)?,
        };
        // While it waited, time went on, and another policy may have come to hold.
        let caller = client(loaded, &verified.kid, now)?;
        let by = Proven { caller, proof: proof::digest(header.as_bytes()) };
        if let Err(fault) = verified.in_time(now, WINDOW_SECONDS) {
            return Err(Unidentified::Spent { by: Box::new(by), why: Spent::Late(fault) });
        }
        match self.spend(&by, verified, loaded, now) {
            Ok(Asked::First { held_as }) => Ok(Identified::New { by, held_as }),
            Ok(Asked::Again(given)) => Ok(Identified::Again { by, given }),
            Err(why) => Err(Unidentified::Spent { by: Box::new(by), why }),
        }
    }

    /// The checks for which nothing is remembered.
    fn verify(
        &self,
        loaded: &Loaded,
        header: &str,
        body: &[u8],
        now: u64,
    ) -> Result<Verified, Unidentified> {
        let signed = Signed::parse(header)?;
        client(loaded, signed.kid(), now)?;
        let to = Addressee { aud: loaded.policy.service(), nkey: self.service_nkey() };
        Ok(signed.verify(&Expected { to, payload: body, now, window: WINDOW_SECONDS })?)
    }

    /// Uses a proof up, unless its answer is there to be given again.
    fn spend(
        &self,
        by: &Proven,
        verified: &Verified,
        loaded: &Loaded,
        now: u64,
    ) -> Result<Asked, Spent> {
        // A thread that panicked with either left them as they were.
        let mut replays = self.replays.lock().unwrap_or_else(PoisonError::into_inner);
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        // Under another policy the answer may be another.
        let held_as = verified.idem.then(|| format!("{} {}", by.proof, loaded.digest));
        match held_as.as_deref().map_or(Known::No, |digest| answers.known(digest)) {
            Known::Given(given) => return Ok(Asked::Again(given)),
            Known::Running => return Err(Spent::Running),
            Known::No => {}
        }
        answers.forget(now);
        if held_as.is_some() && !answers.has_room(by.caller.name()) {
            return Err(Spent::Full);
        }
        replays.spend(verified, now).map_err(|replay| match replay {
            Replay::Used => Spent::Used,
            Replay::BeforeStart => Spent::BeforeStart,
            Replay::ClockSetBack => Spent::ClockSetBack,
            Replay::Full => Spent::Full,
        })?;
        if let Some(digest) = &held_as {
            let until = verified.iat.saturating_add(WINDOW_SECONDS);
            answers.promise(digest.clone(), by.caller.name(), until);
        }
        Ok(Asked::First { held_as })
    }
}

/// Whether a proof comes for the first time.
enum Asked {
    First { held_as: Option<String> },
    Again(Arc<Given>),
}

fn client(loaded: &Loaded, nkey: &str, now: u64) -> Result<Caller, Unidentified> {
    let unknown = || Unidentified::UnknownClient(nkey.escape_debug().to_string());
    loaded.policy.client_by_nkey(nkey, now).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arrival_is_whose_proof_was_good_and_late_once_it_is_good_no_more() {
        let request =
            Request { ticket: 1, proof: ProofHeader::Absent, wants_json: false, body: Vec::new() };
        let unproven = Arrival::unproven(request.clone());
        assert_eq!((unproven.proven(), unproven.is_late(u64::MAX)), (None, false));
        for (exp, last) in [(None, 1000 + WINDOW_SECONDS), (Some(1007), 1006)] {
            let (kid, jti) = ("U1".to_owned(), "number".to_owned());
            let verified = Some(Verified { kid, iat: 1000, jti, exp, idem: false });
            let arrival = Arrival { request: request.clone(), verified };
            assert_eq!(arrival.proven(), Some(("U1", "number")));
            assert!(!arrival.is_late(1000) && !arrival.is_late(last) && arrival.is_late(last + 1));
        }
    }
}
