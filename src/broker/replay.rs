//! Proofs that were used: each is good for one execution.

use std::collections::HashMap;

/// Furthest that a proof's `iat` may lie from now, in seconds.
pub(crate) const WINDOW_SECONDS: u64 = 30;
/// Most proofs that are remembered: a full window at several thousand requests a second.
const MOST: usize = 500_000;

/// The proofs of the window.
pub(crate) struct ReplayWindow {
    started: u64,
    pruned: u64,
    /// (kid, jti) → the second from which the proof is refused for its age anyway.
    used: HashMap<(String, String), u64>,
}

/// Why a good proof is not executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replay {
    /// It was used.
    Used,
    /// It was made before this process started, so it may have been used then.
    BeforeStart,
    /// Too many are remembered.
    Full,
}

impl ReplayWindow {
    pub(crate) fn new(started: u64) -> Self {
        Self { started, pruned: started, used: HashMap::new() }
    }

    /// Uses a proof up.
    pub(crate) fn spend(&mut self, proof: proof::Verified, now: u64) -> Result<(), Replay> {
        // A proof of the very second of the start may be one that the process before us executed.
        if proof.iat <= self.started {
            return Err(Replay::BeforeStart);
        }
        if now > self.pruned {
            self.used.retain(|_, until| *until >= now);
            self.pruned = now;
        }
        let until = proof.iat.saturating_add(WINDOW_SECONDS);
        let key = (proof.kid, proof.jti);
        if self.used.contains_key(&key) {
            return Err(Replay::Used);
        }
        if self.used.len() >= MOST {
            return Err(Replay::Full);
        }
        self.used.insert(key, until);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof(jti: &str, iat: u64) -> proof::Verified {
        proof::Verified { kid: "U1".into(), iat, jti: jti.into() }
    }

    #[test]
    fn a_proof_is_used_once_while_it_could_be_accepted() {
        let mut window = ReplayWindow::new(1000);
        // Made at 1041, as by a client whose clock is ahead: acceptable from 1011 to 1071.
        assert_eq!(window.spend(proof("a", 1041), 1011), Ok(()));
        for now in [1011, 1030, 1041, 1070, 1071] {
            assert_eq!(window.spend(proof("a", 1041), now), Err(Replay::Used), "at {now}");
        }
        let other = proof::Verified { kid: "U2".into(), ..proof("a", 1041) };
        assert_eq!(window.spend(other, 1071), Ok(()), "another caller's number is another");
        assert_eq!(window.spend(proof("b", 1090), 1090), Ok(()));
        assert_eq!(window.used.len(), 1, "what is too old anyway is forgotten");
    }

    #[test]
    fn a_proof_from_before_the_start_is_refused() {
        let mut window = ReplayWindow::new(1000);
        assert_eq!(window.spend(proof("a", 999), 1001), Err(Replay::BeforeStart));
        assert_eq!(window.spend(proof("a", 1000), 1001), Err(Replay::BeforeStart));
        assert_eq!(window.spend(proof("a", 1001), 1001), Ok(()));
    }
}
