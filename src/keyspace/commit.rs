//! What a script changed, written at once.

use std::collections::BTreeMap;
use std::time::Duration;

use redb::ReadableTable;
use wire::{KeyPath, Name};

use crate::error::{CommitError, KeyspaceError};
use crate::key::KeyRecord;
use crate::record::generation;
use crate::store::Unlocked;
use crate::transaction::Writing;
use crate::turn::Taken;

/// What a commit is to write, in the order of names.
pub(crate) struct Changes {
    /// The generation of the file when the script began. What was written later, by others, it may
    /// not have seen.
    pub(crate) since: u64,
    pub(crate) spaces: BTreeMap<Name, Change<()>>,
    pub(crate) keys: BTreeMap<KeyPath, Change<KeyRecord>>,
}

impl Changes {
    pub(crate) fn are_none(&self) -> bool {
        self.spaces.is_empty() && self.keys.is_empty()
    }

    /// Whether a stored record was there when the script began, and is still the same.
    pub(crate) fn saw(&self, stored: &[u8]) -> bool {
        generation(stored).is_some_and(|generation| generation <= self.since)
    }

    /// Whether the script itself makes this key space.
    pub(crate) fn makes_space(&self, space: &Name) -> bool {
        self.spaces.get(space).is_some_and(|change| change.create.is_some())
    }
}

/// What happens to one name: what is stored is deleted, then a new one is made, or either alone.
pub(crate) struct Change<T> {
    pub(crate) delete_stored: bool,
    pub(crate) create: Option<T>,
}

/// A script's changes, when nobody else writes.
pub struct InTurn<'k> {
    keyspace: &'k Unlocked,
    changes: Changes,
    turn: Taken<'k>,
}

impl<'k> InTurn<'k> {
    pub(crate) fn of(keyspace: &'k Unlocked, changes: Changes, patience: Duration) -> Option<Self> {
        let turn = keyspace.database.turn_within(patience)?;
        Some(Self { keyspace, changes, turn })
    }

    /// Writes everything that was changed in one transaction that is on disk when this returns; `now` is Unix
    /// seconds.
    ///
    /// # Errors
    /// [`CommitError::Conflict`] when another script was first. Then nothing was changed.
    pub fn commit(self, now: u64) -> Result<(), CommitError> {
        if self.changes.are_none() {
            return Ok(());
        }
        self.keyspace.transact_in(&self.turn, |writing| write_changes(writing, &self.changes, now))
    }
}

fn write_changes(
    writing: &mut Writing<'_>,
    changes: &Changes,
    now: u64,
) -> Result<(), CommitError> {
    let root = writing.root.clone();
    for (name, change) in &changes.spaces {
        let id = root.space_id(name);
        if change.delete_stored {
            let gone = writing.spaces.take(&id)?;
            expect(gone.is_some_and(|old| changes.saw(&old)), name)?;
            // A key that was made since is one that the script did not mean.
            let mut all_seen = true;
            writing.keys.take_all_of(&id, |old| all_seen &= changes.saw(old))?;
            expect(all_seen, name)?;
        }
        if change.create.is_some() {
            expect(writing.put_space(name, now)?, name)?;
        }
    }
    for (path, change) in &changes.keys {
        if change.delete_stored {
            let id = root.key_id(path);
            let gone = writing.keys.take(&id)?;
            expect(gone.is_some_and(|old| changes.saw(&old)), path)?;
        }
        if let Some(record) = &change.create {
            let space = root.space_id(&path.space);
            let here = writing.spaces.table.get(space.as_slice()).map_err(KeyspaceError::from)?;
            let made_here = changes.makes_space(&path.space);
            let here = here.is_some_and(|found| made_here || changes.saw(found.value()));
            expect(here, &path.space)?;
            expect(writing.put_key(record)?, path)?;
        }
    }
    Ok(())
}

fn expect(held: bool, what: &impl ToString) -> Result<(), CommitError> {
    if held { Ok(()) } else { Err(CommitError::Conflict(what.to_string())) }
}
