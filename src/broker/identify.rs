//! Who asks. One public answer for every failure before the policy; the reason is in the audit log.

use std::sync::{Arc, PoisonError};

use policy::Caller;
use proof::{Expected, Fault, Signed};
use wire::Code;
use wire::request::{ProofHeader, Request};

use crate::answers::{Given, Known};
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
    #[error("the proof was used before")]
    Used,
    #[error("the proof was made before this service started")]
    BeforeStart,
    #[error("the clock was set back: restart the service when it is right")]
    ClockSetBack,
    #[error("the proof is being executed")]
    Running,
    #[error("too many proofs to remember, or the mark of used proofs cannot be written")]
    Full,
}

/// Somebody, and whether the answer is to be held for the same proof.
pub(crate) enum Identified {
    /// A request to be executed.
    New { caller: Caller, held_as: Option<String> },
    /// One that was.
    Again(Arc<Given>),
}

impl Unidentified {
    /// What the caller may know.
    pub(crate) fn public(&self) -> Failure {
        match self {
            Self::Unsigned | Self::UnusableHeader | Self::Proof(_) | Self::UnknownClient(_) => {
                Failure::new(Code::Unauthenticated, "the request is not authenticated")
            }
            Self::Used => {
                Failure::new(Code::Replayed, "this proof was used before: make a new one")
            }
            Self::BeforeStart | Self::ClockSetBack => {
                let text = "this proof may have been used before the service started: make a new one, or \
                            try again in 30 seconds";
                Failure::new(Code::Replayed, text)
            }
            Self::Running => {
                Failure::new(Code::Busy, "this very request is being executed: ask again")
            }
            Self::Full => Failure::new(Code::Busy, "too many requests: try again later"),
        }
    }
}

impl Broker {
    /// Cheap checks first: shape, known key, signature, claims, and only then the replay window.
    pub(crate) fn identify(
        &self,
        loaded: &Loaded,
        request: &Request,
    ) -> Result<Identified, Unidentified> {
        let policy = &loaded.policy;
        let header = match &request.proof {
            ProofHeader::Absent => {
                let caller = policy.anonymous().ok_or(Unidentified::Unsigned)?;
                return Ok(Identified::New { caller, held_as: None });
            }
            ProofHeader::Unusable => return Err(Unidentified::UnusableHeader),
            ProofHeader::One(header) => header,
        };
        let now = self.clock.seconds();
        let signed = Signed::parse(header)?;
        let unknown = || Unidentified::UnknownClient(signed.kid().escape_debug().to_string());
        let caller = policy.client_by_nkey(signed.kid(), now).ok_or_else(unknown)?;
        let expected =
            Expected { aud: policy.service(), payload: &request.body, now, window: WINDOW_SECONDS };
        let verified = signed.verify(&expected)?;
        // A thread that panicked with either left them as they were.
        let mut replays = self.replays.lock().unwrap_or_else(PoisonError::into_inner);
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        // Under another policy the answer may be another.
        let digest = || format!("{} {}", proof::digest(header.as_bytes()), loaded.digest);
        let held_as = verified.idem.then(digest);
        match held_as.as_deref().map_or(Known::No, |digest| answers.known(digest)) {
            Known::Given(given) => return Ok(Identified::Again(given)),
            Known::Running => return Err(Unidentified::Running),
            Known::No => {}
        }
        answers.forget(now);
        if held_as.is_some() && !answers.has_room(caller.name()) {
            return Err(Unidentified::Full);
        }
        replays.spend(&verified, now).map_err(|replay| match replay {
            Replay::Used => Unidentified::Used,
            Replay::BeforeStart => Unidentified::BeforeStart,
            Replay::ClockSetBack => Unidentified::ClockSetBack,
            Replay::Full => Unidentified::Full,
        })?;
        if let Some(digest) = &held_as {
            let until = verified.iat.saturating_add(WINDOW_SECONDS);
            answers.promise(digest.clone(), caller.name(), until);
        }
        Ok(Identified::New { caller, held_as })
    }
}
