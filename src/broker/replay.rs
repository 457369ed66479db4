//! Proofs that were used: each is good for one execution, also across a restart.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Furthest that a proof's `iat` may lie from now, in seconds.
pub(crate) const WINDOW_SECONDS: u64 = 30;
/// Most proofs that are remembered: a full window at several thousand requests a second.
const MOST: usize = 500_000;

/// The proofs of the window.
pub(crate) struct ReplayWindow {
    /// Proofs up to this second may have been executed by a process before this one.
    floor: u64,
    mark: ProofMark,
    /// The latest second that was seen.
    latest: u64,
    /// (kid, jti) → the second after which the proof is refused for its age anyway.
    used: HashMap<(String, String), u64>,
}

/// Why a good proof is not executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replay {
    /// It was used.
    Used,
    /// It was made before this process started, so it may have been used then.
    BeforeStart,
    /// The clock was set back, and it may have been used before that.
    ClockSetBack,
    /// Too many are remembered, or the mark cannot be written.
    Full,
}

/// The latest `iat` that was executed, kept in a file: a process after this one must not execute it
/// again, whatever the clocks of callers and of this machine do. It is written when it moves, which
/// is at most once a second.
pub struct ProofMark {
    file: Option<File>,
    mark: u64,
}

impl ProofMark {
    /// Opens the mark, or makes it: eight bytes, Unix seconds, big-endian. `now` is Unix seconds.
    ///
    /// # Errors
    /// When it cannot be opened, is no mark, or is of a time that is yet to come.
    pub fn open(path: &Path, now: u64) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(path)?;
        let mut bytes = Vec::new();
        (&mut file).take(9).read_to_end(&mut bytes)?;
        let mark = match <[u8; 8]>::try_from(bytes.as_slice()) {
            Ok(bytes) => u64::from_be_bytes(bytes),
            Err(_) if bytes.is_empty() => 0,
            Err(_) => {
                let text = "not a mark of used proofs: remove it once it is 30 seconds old";
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        };
        if mark > now.saturating_add(WINDOW_SECONDS) {
            let text =
                "proofs of a later time were used already: set the clock of this machine right";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(Self { file: Some(file), mark })
    }

    /// For a service that is gone with its process.
    #[must_use]
    pub fn ephemeral() -> Self {
        Self { file: None, mark: 0 }
    }

    /// On disk when this returns.
    fn raise(&mut self, to: u64) -> io::Result<()> {
        if to > self.mark {
            if let Some(file) = &self.file {
                file.write_all_at(&to.to_be_bytes(), 0)?;
                file.sync_data()?;
            }
            self.mark = to;
        }
        Ok(())
    }
}

impl ReplayWindow {
    pub(crate) fn new(started: u64, mark: ProofMark) -> Self {
        // A proof of the very second of the start may be one that the process before executed.
        let floor = started.max(mark.mark);
        Self { floor, mark, latest: started, used: HashMap::new() }
    }

    /// Uses a proof up.
    pub(crate) fn spend(&mut self, proof: &proof::Verified, now: u64) -> Result<(), Replay> {
        if proof.iat <= self.floor {
            return Err(Replay::BeforeStart);
        }
        if now > self.latest {
            self.used.retain(|_, until| *until >= now);
            self.latest = now;
        }
        let until = proof.iat.saturating_add(WINDOW_SECONDS);
        // What is this old was forgotten, so it cannot be told from what is new.
        if until < self.latest {
            return Err(Replay::ClockSetBack);
        }
        let key = (proof.kid.clone(), proof.jti.clone());
        if self.used.contains_key(&key) {
            return Err(Replay::Used);
        }
        if self.used.len() >= MOST {
            return Err(Replay::Full);
        }
        self.mark.raise(proof.iat).map_err(|_| Replay::Full)?;
        self.used.insert(key, until);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof(jti: &str, iat: u64) -> proof::Verified {
        proof::Verified { kid: "U1".into(), iat, jti: jti.into(), exp: None, idem: false }
    }

    fn window(started: u64) -> ReplayWindow {
        ReplayWindow::new(started, ProofMark::ephemeral())
    }

    #[test]
    fn a_proof_is_used_once_while_it_could_be_accepted() {
        let mut window = window(1000);
        // Made at 1041, as by a client whose clock is ahead: acceptable from 1011 to 1071.
        assert_eq!(window.spend(&proof("a", 1041), 1011), Ok(()));
        for now in [1011, 1030, 1041, 1070, 1071] {
            assert_eq!(window.spend(&proof("a", 1041), now), Err(Replay::Used), "at {now}");
        }
        let other = proof::Verified { kid: "U2".into(), ..proof("a", 1041) };
        assert_eq!(window.spend(&other, 1071), Ok(()), "another caller's number is another");
        assert_eq!(window.spend(&proof("b", 1090), 1090), Ok(()));
        assert_eq!(window.used.len(), 1, "what is too old anyway is forgotten");
    }

    #[test]
    fn a_proof_from_before_the_start_is_refused() {
        let mut window = window(1000);
        assert_eq!(window.spend(&proof("a", 999), 1001), Err(Replay::BeforeStart));
        assert_eq!(window.spend(&proof("a", 1000), 1001), Err(Replay::BeforeStart));
        assert_eq!(window.spend(&proof("a", 1001), 1001), Ok(()));
    }

    #[test]
    fn a_proof_from_the_future_is_not_executed_again_by_the_next_process() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("mark");
        let start = |at| ReplayWindow::new(at, ProofMark::open(&path, at).unwrap());
        let mut before = start(1000);
        assert_eq!(before.spend(&proof("a", 1025), 1001), Ok(()));
        let mut after = start(1002);
        assert_eq!(after.spend(&proof("a", 1025), 1003), Err(Replay::BeforeStart));
        assert_eq!(after.spend(&proof("b", 1026), 1026), Ok(()));
        // Nor when the clock was set back before it started.
        assert_eq!(start(1000).spend(&proof("b", 1026), 1001), Err(Replay::BeforeStart));
        assert!(
            ProofMark::open(&path, 1026 - 31).is_err(),
            "the clock is wrong, and is said to be"
        );
        assert!(
            ProofMark::open(&path, 1026 - 30).is_ok(),
            "a caller's clock may be that far ahead"
        );
        std::fs::write(&path, b"garbage").unwrap();
        assert!(ProofMark::open(&path, 1030).is_err());
    }

    #[test]
    fn a_clock_that_is_set_back_reopens_nothing() {
        let mut window = window(1000);
        assert_eq!(window.spend(&proof("a", 1010), 1010), Ok(()));
        assert_eq!(window.spend(&proof("b", 5000), 5000), Ok(()));
        assert_eq!(window.spend(&proof("a", 1010), 1011), Err(Replay::ClockSetBack));
        assert_eq!(window.spend(&proof("c", 4969), 4970), Err(Replay::ClockSetBack));
        assert_eq!(window.spend(&proof("c", 4970), 4970), Ok(()), "it is remembered still");
    }
}
