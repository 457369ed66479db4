//! What an operator does: one transaction each, without a policy. Whoever has this value has shown the
//! passphrase, or is at the socket of a service that was shown it.

use wire::admin::{Row, SlotRow, SpaceRow};
use wire::operator::SlotKind;
use wire::script::PublicForm;
use wire::{Algorithm, KeyPath, KeyState, Name};

use crate::error::KeyspaceError;
use crate::key::KeyRecord;
use crate::seal::Cost;
use crate::stack::wiped;
use crate::store::Unlocked;
use crate::transaction::{no_key, no_space};
use crate::{public, sign};

/// Shortest time that a deleted key can wait for its destruction, in seconds: a day to find out that it
/// was the wrong one.
const SHORTEST_WAIT: u64 = 24 * 60 * 60;
/// Longest, in seconds: ten years. A mistyped number would keep the key, and its key space, for ever.
const LONGEST_WAIT: u64 = 3650 * SHORTEST_WAIT;

/// Most faults that are told at once.
const MOST_FAULTS: usize = 20;

/// The operator of a keyspace.
pub struct Operator<'k>(pub(crate) &'k Unlocked);

/// What [`Operator::verify`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Key spaces.
    pub spaces: u64,
    /// Keys.
    pub keys: u64,
    /// Whose passphrases open it, and what that costs.
    pub slots: Vec<SlotRow>,
}

impl Unlocked {
    /// Acts as the operator. Named in the process that holds the keys and in the operator's own commands
    /// alone, which a test sees to.
    #[must_use]
    pub fn as_operator(&self) -> Operator<'_> {
        Operator(self)
    }
}

impl Operator<'_> {
    /// Tells every key space.
    ///
    /// # Errors
    /// When a record is damaged, or `take` fails.
    pub fn spaces(&self, mut take: impl FnMut(Row) -> Told) -> Told {
        self.0
            .snapshot()?
            .each_space(|space, created| take(Row::Space(SpaceRow { space, created, keys: None })))
    }

    /// Tells a key space with the number of its keys.
    ///
    /// # Errors
    /// When there is none, or a record is damaged.
    pub fn space(&self, space: &Name) -> Result<SpaceRow, KeyspaceError> {
        let snapshot = self.0.snapshot()?;
        let created = snapshot.space(space)?.ok_or_else(|| no_space(space))?;
        let keys = Some(snapshot.key_count(space)?);
        Ok(SpaceRow { space: space.clone(), created, keys })
    }

    /// Tells the keys of a key space, or of all.
    ///
    /// # Errors
    /// When there is no such key space, a record is damaged, or `take` fails.
    pub fn keys(&self, space: Option<&Name>, mut take: impl FnMut(Row) -> Told) -> Told {
        let snapshot = self.0.snapshot()?;
        let mut each =
            |space: &Name| snapshot.each_key(space, |record| take(Row::Key(record.row()?)));
        match space {
            Some(space) if snapshot.space(space)?.is_none() => Err(no_space(space)),
            Some(space) => each(space),
            None => snapshot.each_space(|space, _| each(&space)),
        }
    }

    /// Tells a key and its versions, the first first.
    ///
    /// # Errors
    /// When there is none, or `take` fails.
    pub fn key(&self, path: &KeyPath, take: impl FnMut(Row) -> Told) -> Told {
        wiped(|| self.tell_key(path, take))
    }

    fn tell_key(&self, path: &KeyPath, mut take: impl FnMut(Row) -> Told) -> Told {
        let record = self.stored(path)?;
        take(Row::Key(record.row()?))?;
        let mut versions: Vec<_> = record.versions().collect();
        versions.reverse();
        for version in versions {
            let public = match record.algorithm {
                Algorithm::Symmetric => String::new(),
                Algorithm::Ed25519 | Algorithm::Secp256k1 | Algorithm::P256 | Algorithm::X25519 => {
                    data_encoding::HEXLOWER
                        .encode(&sign::public_key(record.algorithm, &version.secret)?)
                }
            };
            let (number, created) = (version.number, version.created);
            take(Row::Version { number, created, public })?;
        }
        Ok(())
    }

    /// A public key in this form.
    ///
    /// # Errors
    /// When there is no such key, or it cannot be written so.
    pub fn public_key(&self, path: &KeyPath, form: PublicForm) -> Result<String, KeyspaceError> {
        wiped(|| public::written(&self.stored(path)?, form))
    }

    /// Makes a key space; `now` is Unix seconds, here and below.
    ///
    /// # Errors
    /// When there is one of that name.
    pub fn new_space(&self, space: &Name, now: u64) -> Result<(), KeyspaceError> {
        self.0.transact(|writing| {
            if writing.put_space(space, now)? { Ok(()) } else { Err(space_taken(space)) }
        })
    }

    /// Gives a key space another name. Its keys keep everything but that; scripts that began before are
    /// told of a conflict.
    ///
    /// # Errors
    /// When there is no such key space, or one of the new name.
    pub fn rename_space(&self, from: &Name, to: &Name) -> Result<u64, KeyspaceError> {
        self.0.transact(|writing| {
            let root = writing.root.clone();
            let created = writing.space(from)?;
            if writing.has_space(to)? {
                return Err(space_taken(to));
            }
            let id = root.space_id(from);
            writing.spaces.take(&id)?;
            writing.put_space(to, created)?;
            let mut count = 0;
            while let Some(key) = writing.next_key(&id, &id)? {
                let mut record = writing.take_key(&key)?;
                record.path.space = to.clone();
                writing.put_key(&record)?;
                count += 1;
            }
            Ok(count)
        })
    }

    /// Destroys a key space with all its keys: how many there were.
    ///
    /// # Errors
    /// When there is none, or a deleted key in it still waits.
    pub fn delete_space(&self, space: &Name, now: u64) -> Result<u64, KeyspaceError> {
        self.0.transact(|writing| {
            writing.space(space)?;
            let id = writing.root.space_id(space);
            writing.spaces.take(&id)?;
            let mut count = 0;
            while let Some(key) = writing.next_key(&id, &id)? {
                match writing.take_key(&key) {
                    Ok(KeyRecord { path, state: KeyState::Deleted { until }, .. })
                        if until > now =>
                    {
                        return Err(waits(&path, until, now));
                    }
                    // One that does not open is of no use to anybody.
                    Ok(_) | Err(KeyspaceError::Damaged(_)) => count += 1,
                    Err(error) => return Err(error),
                }
            }
            Ok(count)
        })
    }

    /// Makes a key.
    ///
    /// # Errors
    /// When there is one of that name, or no such key space.
    pub fn new_key(
        &self,
        path: &KeyPath,
        algorithm: Algorithm,
        now: u64,
    ) -> Result<(), KeyspaceError> {
        wiped(|| self.add(&KeyRecord::generate(path.clone(), algorithm, now)?))
    }

    pub(crate) fn add(&self, record: &KeyRecord) -> Result<(), KeyspaceError> {
        self.0.transact(|writing| {
            writing.space(&record.path.space)?;
            if writing.put_key(record)? { Ok(()) } else { Err(key_taken(&record.path)) }
        })
    }

    /// Gives a key one more version: its number.
    ///
    /// # Errors
    /// When there is no such key, it is not enabled, or has too many versions.
    pub fn rotate_key(&self, path: &KeyPath, now: u64) -> Result<u32, KeyspaceError> {
        self.change(path, |record| record.rotate(now))
    }

    /// Lets a key be used, or not.
    ///
    /// # Errors
    /// When there is no such key, or it is deleted.
    pub fn enable_key(&self, path: &KeyPath, enabled: bool) -> Result<(), KeyspaceError> {
        self.change(path, |record| {
            if let KeyState::Deleted { .. } = record.state {
                let text = format!("the key `{path}` is deleted: use `crypto-cli key restore`");
                return Err(KeyspaceError::Cannot(text));
            }
            record.state = if enabled { KeyState::Enabled } else { KeyState::Disabled };
            Ok(())
        })?;
        Ok(())
    }

    /// Deletes a key: it cannot be used, can be restored, and can be destroyed after `wait` seconds. When
    /// that is, in Unix seconds.
    ///
    /// # Errors
    /// When there is no such key, it is deleted already, or `wait` is less than a day or more than ten years.
    pub fn delete_key(&self, path: &KeyPath, wait: u64, now: u64) -> Result<u64, KeyspaceError> {
        if !(SHORTEST_WAIT..=LONGEST_WAIT).contains(&wait) {
            let text = "a deleted key waits for a day at least and ten years at most";
            return Err(KeyspaceError::Cannot(text.to_owned()));
        }
        let until = now.saturating_add(wait);
        self.change(path, |record| {
            if let KeyState::Deleted { .. } = record.state {
                let text = format!("the key `{path}` is deleted already");
                return Err(KeyspaceError::Cannot(text));
            }
            record.state = KeyState::Deleted { until };
            Ok(())
        })?;
        Ok(until)
    }

    /// Takes a deleted key back. It is disabled then: whether it was before, nobody knows any more.
    ///
    /// # Errors
    /// When there is no such key, or it is not deleted.
    pub fn restore_key(&self, path: &KeyPath) -> Result<(), KeyspaceError> {
        self.change(path, |record| match record.state {
            KeyState::Deleted { .. } => {
                record.state = KeyState::Disabled;
                Ok(())
            }
            KeyState::Enabled | KeyState::Disabled => {
                Err(KeyspaceError::Cannot(format!("the key `{path}` is not deleted")))
            }
        })?;
        Ok(())
    }

    /// Destroys a deleted key whose time has come, or one whose record does not open: nobody can use it, and it
    /// stands in the way of what reads all keys.
    ///
    /// # Errors
    /// When there is no such key, it is not deleted, or still waits.
    pub fn destroy_key(&self, path: &KeyPath, now: u64) -> Result<(), KeyspaceError> {
        self.0.transact(|writing| {
            let state = match writing.key(path) {
                Err(KeyspaceError::Damaged(_)) => KeyState::Deleted { until: 0 },
                key => key?.state,
            };
            match state {
                KeyState::Deleted { until } if until <= now => {
                    let id = writing.root.key_id(path);
                    writing.keys.take(&id)?;
                    Ok(())
                }
                KeyState::Deleted { until } => Err(waits(path, until, now)),
                KeyState::Enabled | KeyState::Disabled => Err(KeyspaceError::Cannot(format!(
                    "the key `{path}` is not deleted: use `crypto-cli key delete` first"
                ))),
            }
        })
    }

    /// Opens every record.
    ///
    /// # Errors
    /// When any is damaged: which ones, as far as they fit a line.
    pub fn verify(&self, mut progress: impl FnMut(u64, u64)) -> Result<Verified, KeyspaceError> {
        let snapshot = self.0.snapshot()?;
        let (slots, total) =
            (snapshot.header()?.slots().map(slot_row).collect(), snapshot.all_keys()?);
        let (spaces, keys, faults) = snapshot.check_all(|keys| progress(keys, total))?;
        if !faults.is_empty() {
            let shown = faults.iter().take(MOST_FAULTS).cloned().collect::<Vec<_>>().join("; ");
            let more = match faults.len().saturating_sub(MOST_FAULTS) {
                0 => String::new(),
                more => format!("; and {more} more"),
            };
            return Err(KeyspaceError::Damaged(format!("{shown}{more}")));
        }
        snapshot.check_sum()?;
        Ok(Verified { spaces, keys, slots })
    }

    fn stored(&self, path: &KeyPath) -> Result<KeyRecord, KeyspaceError> {
        self.0.key(path)?.ok_or_else(|| no_key(path))
    }

    /// Writes a key as `change` makes it: the version in use.
    fn change(
        &self,
        path: &KeyPath,
        change: impl FnOnce(&mut KeyRecord) -> Result<(), KeyspaceError>,
    ) -> Result<u32, KeyspaceError> {
        self.0.transact(|writing| {
            let mut record = writing.key(path)?;
            change(&mut record)?;
            writing.put_key(&record)?;
            Ok(record.current()?.number)
        })
    }
}

/// Whether what was told was heard.
pub type Told = Result<(), KeyspaceError>;

fn slot_row((slot, cost): (SlotKind, Cost)) -> SlotRow {
    let Cost { memory: memory_kib, passes, lanes } = cost;
    SlotRow { slot, memory_kib, passes, lanes }
}

fn waits(path: &KeyPath, until: u64, now: u64) -> KeyspaceError {
    let left = until.saturating_sub(now).div_ceil(3600);
    KeyspaceError::Cannot(format!("the key `{path}` is deleted and waits for {left} hours more"))
}

fn space_taken(space: &Name) -> KeyspaceError {
    KeyspaceError::Taken { what: "key space", name: space.to_string() }
}

pub(crate) fn key_taken(path: &KeyPath) -> KeyspaceError {
    KeyspaceError::Taken { what: "key", name: path.to_string() }
}
