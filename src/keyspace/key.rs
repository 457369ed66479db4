//! A key: what it is for, and its versions, of which the last is in use.

use wire::admin::KeyRow;
use wire::codec::{Malformed, Reader, Writer};
use wire::{Algorithm, KeyPath, KeyState};
use zeroize::Zeroizing;

use crate::error::KeyspaceError;
use crate::secret::Secret;
use crate::sign;

/// Most versions of one key: its record stays below 16 KiB.
pub(crate) const MOST_VERSIONS: usize = 256;
/// What a version takes in a record, in bytes.
const VERSION_BYTES: usize = 4 + 8 + 32;

/// A key with its secrets.
pub(crate) struct KeyRecord {
    pub(crate) path: KeyPath,
    pub(crate) algorithm: Algorithm,
    /// Unix seconds.
    pub(crate) created: u64,
    pub(crate) state: KeyState,
    /// By ascending numbers; never empty.
    versions: Vec<Version>,
}

/// One secret of a key.
pub(crate) struct Version {
    /// From 1.
    pub(crate) number: u32,
    /// Unix seconds.
    pub(crate) created: u64,
    pub(crate) secret: Secret<32>,
}

impl KeyRecord {
    pub(crate) fn generate(
        path: KeyPath,
        algorithm: Algorithm,
        created: u64,
    ) -> Result<Self, KeyspaceError> {
        Ok(Self::of(path, algorithm, sign::new_secret(algorithm)?, created))
    }

    /// Refuses one that is disabled or deleted.
    pub(crate) fn check_usable(&self) -> Result<(), KeyspaceError> {
        match self.state {
            KeyState::Enabled => Ok(()),
            KeyState::Disabled | KeyState::Deleted { .. } => {
                let word = self.state.word();
                Err(KeyspaceError::Unfit(format!("the key `{}` is {word}", self.path)))
            }
        }
    }

    /// Adds one more version, or changes nothing.
    pub(crate) fn rotate(&mut self, now: u64) -> Result<(), KeyspaceError> {
        self.check_usable()?;
        let too_many =
            |what: &str| KeyspaceError::Unfit(format!("the key `{}` has {what}", self.path));
        if self.versions.len() >= MOST_VERSIONS {
            return Err(too_many(&format!("{MOST_VERSIONS} versions, the most there are")));
        }
        let next = self.current()?.number.checked_add(1);
        let number =
            next.ok_or_else(|| too_many("the highest number of a version that there is"))?;
        let secret = sign::new_secret(self.algorithm)?;
        self.versions.push(Version { number, created: now, secret });
        Ok(())
    }

    /// The version in use.
    pub(crate) fn current(&self) -> Result<&Version, KeyspaceError> {
        let last = self.versions.last();
        last.ok_or_else(|| KeyspaceError::Damaged("a key without a version".to_owned()))
    }

    /// What an operator is told of it.
    pub(crate) fn row(&self) -> Result<KeyRow, KeyspaceError> {
        Ok(KeyRow {
            key: self.path.clone(),
            algorithm: self.algorithm,
            state: self.state,
            created: self.created,
            version: self.current()?.number,
        })
    }

    /// A key of a secret that others made.
    pub(crate) fn of(
        path: KeyPath,
        algorithm: Algorithm,
        secret: Secret<32>,
        created: u64,
    ) -> Self {
        let first = Version { number: 1, created, secret };
        Self { path, algorithm, created, state: KeyState::Enabled, versions: vec![first] }
    }

    /// All versions, the one in use first.
    pub(crate) fn versions(&self) -> impl Iterator<Item = &Version> {
        self.versions.iter().rev()
    }

    /// The contents of a key record. Written into a buffer of its final size, so that growing it
    /// leaves no copy of a secret behind.
    pub(crate) fn put(&self) -> Zeroizing<Vec<u8>> {
        let mut w = Writer::default();
        w.u8(self.algorithm.number());
        w.name(&self.path.space);
        w.name(&self.path.key);
        w.u64(self.created);
        let (state, until) = self.state.numbers();
        w.u8(state);
        w.u64(until);
        w.u32(u32::try_from(self.versions.len()).unwrap_or(u32::MAX));
        let open = w.into_bytes();
        let room = open.len() + self.versions.len() * VERSION_BYTES;
        let mut plain = Zeroizing::new(Vec::with_capacity(room));
        plain.extend_from_slice(&open);
        for version in &self.versions {
            plain.extend_from_slice(&version.number.to_be_bytes());
            plain.extend_from_slice(&version.created.to_be_bytes());
            version.secret.expose(|secret| plain.extend_from_slice(secret));
        }
        plain
    }

    pub(crate) fn take(plain: &[u8]) -> Result<Self, KeyspaceError> {
        let damaged = |Malformed| KeyspaceError::Damaged("a key record".to_owned());
        let mut r = Reader::new(plain);
        let algorithm = Algorithm::from_number(r.u8().map_err(damaged)?);
        let foreign = "a key of an algorithm that it does not know";
        let algorithm = algorithm.ok_or(KeyspaceError::Foreign(foreign))?;
        let path = r.name().and_then(|space| Ok(KeyPath { space, key: r.name()? }));
        let path = path.map_err(damaged)?;
        let created = r.u64().map_err(damaged)?;
        let state = take_state(&mut r).map_err(damaged)?;
        let count = usize::try_from(r.u32().map_err(damaged)?).unwrap_or(usize::MAX);
        if !(1..=MOST_VERSIONS).contains(&count) {
            return Err(damaged(Malformed));
        }
        let mut versions: Vec<Version> = Vec::with_capacity(count);
        for _ in 0..count {
            let number = r.u32().map_err(damaged)?;
            let created = r.u64().map_err(damaged)?;
            let bytes = r.raw(32).map_err(damaged)?;
            if number <= versions.last().map_or(0, |last| last.number) {
                return Err(damaged(Malformed));
            }
            let secret = Secret::copied_one_of_many(bytes)?;
            if !sign::fits(algorithm, &secret) {
                return Err(damaged(Malformed));
            }
            versions.push(Version { number, created, secret });
        }
        r.end().map_err(damaged)?;
        Ok(Self { path, algorithm, created, state, versions })
    }
}

fn take_state(r: &mut Reader<'_>) -> Result<KeyState, Malformed> {
    KeyState::from_numbers(r.u8()?, r.u64()?).ok_or(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::path;

    #[test]
    fn a_key_that_cannot_be_rotated_says_of_what_it_has_too_much() {
        let mut key = KeyRecord::generate(path("a/k"), Algorithm::Ed25519, 1).unwrap();
        key.versions[0].number = u32::MAX;
        let refused = key.rotate(2).unwrap_err().to_string();
        assert_eq!(refused, "the key `a/k` has the highest number of a version that there is");
        assert_eq!(key.versions.len(), 1);
    }
}
