//! What came of what an operator asked for. The command makes of it a sentence for people and a document for programs.

use crate::Algorithm;
use crate::admin::SlotRow;
use crate::codec::{Malformed, Reader, Writer};
use crate::id::{KeyPath, Name};
use crate::operator::{SlotKind, take_algorithm};

/// It is done: what there is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// What was asked for was told.
    Told,
    /// A new key space.
    NewSpace(Name),
    /// A key space of another name, with so many keys.
    RenamedSpace(Name, Name, u64),
    /// No such key space any more, nor its keys.
    DeletedSpace(Name, u64),
    /// A new key.
    NewKey(KeyPath, Algorithm),
    /// A key with this version in use.
    RotatedKey(KeyPath, u32),
    /// A key that cannot be used.
    DisabledKey(KeyPath),
    /// A key that can be used.
    EnabledKey(KeyPath),
    /// A key that cannot be used, and can be destroyed from then on, in Unix seconds.
    DeletedKey(KeyPath, u64),
    /// A key that is there again, and disabled.
    RestoredKey(KeyPath),
    /// No such key any more.
    DestroyedKey(KeyPath),
    /// A key that others made.
    ImportedKey(KeyPath, Algorithm),
    /// A bundle of so many keys.
    Exported(u64),
    /// What a bundle brought.
    Imported {
        /// New key spaces.
        spaces: u64,
        /// New keys.
        keys: u64,
        /// Keys that were there already.
        skipped: u64,
    },
    /// A passphrase that opens the keyspace.
    SetPassphrase(SlotKind),
    /// One that is no more.
    RemovedPassphrase(SlotKind),
    /// A new root key, and so many keys written anew.
    RotatedRoot(u64),
    /// Every record opens.
    Verified {
        /// Key spaces.
        spaces: u64,
        /// Keys.
        keys: u64,
        /// Whose passphrases open it.
        slots: Vec<SlotRow>,
    },
    /// The keyspace is unsealed; whether it was before.
    Unsealed(bool),
    /// The policy was read again, and holds.
    Reloaded,
}

/// The same, and why that could not be recorded: to deny it would be untrue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What is done.
    pub done: Done,
    /// Why the audit log does not tell of its end, if it does not.
    pub unrecorded: Option<String>,
}

impl From<Done> for Outcome {
    fn from(done: Done) -> Self {
        Self { done, unrecorded: None }
    }
}

impl Done {
    pub(crate) fn put(&self, w: &mut Writer) {
        match self {
            Self::Told => w.u8(0),
            Self::NewSpace(space) => put_space(w, 1, space, None),
            Self::RenamedSpace(from, to, keys) => {
                put_space(w, 2, from, None);
                w.name(to);
                w.u64(*keys);
            }
            Self::DeletedSpace(space, keys) => put_space(w, 3, space, Some(*keys)),
            Self::NewKey(key, algorithm) => put_key(w, 4, key, |w| w.u8(algorithm.number())),
            Self::RotatedKey(key, version) => put_key(w, 5, key, |w| w.u32(*version)),
            Self::DisabledKey(key) => put_key(w, 6, key, |_| ()),
            Self::EnabledKey(key) => put_key(w, 7, key, |_| ()),
            Self::DeletedKey(key, until) => put_key(w, 8, key, |w| w.u64(*until)),
            Self::RestoredKey(key) => put_key(w, 9, key, |_| ()),
            Self::DestroyedKey(key) => put_key(w, 10, key, |_| ()),
            Self::ImportedKey(key, algorithm) => put_key(w, 11, key, |w| w.u8(algorithm.number())),
            Self::Exported(keys) => put_counts(w, 12, &[*keys]),
            Self::Imported { spaces, keys, skipped } => {
                put_counts(w, 13, &[*spaces, *keys, *skipped]);
            }
            Self::SetPassphrase(slot) => w.raw(&[14, *slot as u8]),
            Self::RemovedPassphrase(slot) => w.raw(&[15, *slot as u8]),
            Self::RotatedRoot(keys) => put_counts(w, 16, &[*keys]),
            Self::Verified { spaces, keys, slots } => {
                put_counts(w, 17, &[*spaces, *keys]);
                w.list(slots, |w, slot| slot.put(w));
            }
            Self::Unsealed(before) => w.raw(&[18, u8::from(*before)]),
            Self::Reloaded => w.u8(19),
        }
    }

    pub(crate) fn take(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match r.u8()? {
            0 => Self::Told,
            1 => Self::NewSpace(r.name()?),
            2 => Self::RenamedSpace(r.name()?, r.name()?, r.u64()?),
            3 => Self::DeletedSpace(r.name()?, r.u64()?),
            4 => Self::NewKey(r.key_path()?, take_algorithm(r)?),
            5 => Self::RotatedKey(r.key_path()?, r.u32()?),
            6 => Self::DisabledKey(r.key_path()?),
            7 => Self::EnabledKey(r.key_path()?),
            8 => Self::DeletedKey(r.key_path()?, r.u64()?),
            9 => Self::RestoredKey(r.key_path()?),
            10 => Self::DestroyedKey(r.key_path()?),
            11 => Self::ImportedKey(r.key_path()?, take_algorithm(r)?),
            12 => Self::Exported(r.u64()?),
            13 => Self::Imported { spaces: r.u64()?, keys: r.u64()?, skipped: r.u64()? },
            14 => Self::SetPassphrase(take_slot(r)?),
            15 => Self::RemovedPassphrase(take_slot(r)?),
            16 => Self::RotatedRoot(r.u64()?),
            17 => {
                let (spaces, keys) = (r.u64()?, r.u64()?);
                let slots = r.list_of_at_most(SlotKind::ALL.len(), SlotRow::take)?;
                Self::Verified { spaces, keys, slots }
            }
            18 => Self::Unsealed(r.flag()?),
            19 => Self::Reloaded,
            _ => return Err(Malformed),
        })
    }
}

impl SlotRow {
    fn put(&self, w: &mut Writer) {
        w.u8(self.slot as u8);
        w.u32(self.memory_kib);
        w.u32(self.passes);
        w.u32(self.lanes);
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let slot = take_slot(r)?;
        Ok(Self { slot, memory_kib: r.u32()?, passes: r.u32()?, lanes: r.u32()? })
    }
}

fn put_space(w: &mut Writer, number: u8, space: &Name, keys: Option<u64>) {
    w.u8(number);
    w.name(space);
    keys.into_iter().for_each(|keys| w.u64(keys));
}

fn put_key(w: &mut Writer, number: u8, key: &KeyPath, rest: impl FnOnce(&mut Writer)) {
    w.u8(number);
    w.key_path(key);
    rest(w);
}

fn put_counts(w: &mut Writer, number: u8, counts: &[u64]) {
    w.u8(number);
    counts.iter().for_each(|count| w.u64(*count));
}

fn take_slot(r: &mut Reader<'_>) -> Result<SlotKind, Malformed> {
    SlotKind::from_number(r.u8()?).ok_or(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::FromAdmin;
    use crate::codec::Frame;

    #[test]
    fn every_outcome_arrives_as_it_was_sent_and_no_cut_of_one_does() {
        let space = |name| Name::parse(name).unwrap();
        let key = || KeyPath { space: space("s"), key: space("k") };
        let slot = SlotRow { slot: SlotKind::Backup, memory_kib: 65536, passes: 3, lanes: 4 };
        for done in [
            Done::Told,
            Done::NewSpace(space("s")),
            Done::RenamedSpace(space("s"), space("t"), 7),
            Done::DeletedSpace(space("s"), 7),
            Done::NewKey(key(), Algorithm::P256),
            Done::RotatedKey(key(), 2),
            Done::DisabledKey(key()),
            Done::EnabledKey(key()),
            Done::DeletedKey(key(), 1_800_000_000),
            Done::RestoredKey(key()),
            Done::DestroyedKey(key()),
            Done::ImportedKey(key(), Algorithm::Ed25519),
            Done::Exported(7),
            Done::Imported { spaces: 1, keys: 2, skipped: 3 },
            Done::SetPassphrase(SlotKind::Operator),
            Done::RemovedPassphrase(SlotKind::Credential),
            Done::RotatedRoot(7),
            Done::Verified { spaces: 1, keys: 2, slots: vec![slot] },
            Done::Unsealed(true),
            Done::Reloaded,
        ] {
            let unrecorded = Some("audit log: no storage space".to_owned());
            let frame = FromAdmin::Done(Outcome { done, unrecorded });
            let bytes = frame.encode();
            assert_eq!(FromAdmin::decode(&bytes).unwrap(), frame);
            for length in 0..bytes.len() {
                assert!(FromAdmin::decode(&bytes[..length]).is_err(), "{frame:?} cut to {length}");
            }
        }
    }
}
