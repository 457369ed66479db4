//! What a script sees at one moment, for as long as its time lasts.

use std::time::Instant;

use wire::Name;

use crate::error::KeyspaceError;
use crate::key::KeyRecord;
use crate::snapshot::Snapshot;
use crate::staged::Staged;

/// Records that are opened between two looks at the clock: a few milliseconds.
const RECORDS_PER_LOOK: u32 = 256;
/// Most names that a script is given at once. They fit one of its values.
pub(crate) const MOST_NAMES: usize = 10_000;

/// The keyspace at one moment, under what a script has changed.
pub(crate) struct View<'s> {
    snapshot: Snapshot,
    staged: &'s Staged<'s>,
    deadline: Option<Instant>,
}

impl<'s> View<'s> {
    pub(crate) fn new(
        snapshot: Snapshot,
        staged: &'s Staged<'s>,
        deadline: Option<Instant>,
    ) -> Self {
        Self { snapshot, staged, deadline }
    }

    /// When a key space was made, in Unix seconds, if there is one: `now` where the script makes it.
    pub(crate) fn space(&self, space: &Name, now: u64) -> Result<Option<u64>, KeyspaceError> {
        match self.staged.changes.spaces.get(space) {
            Some(change) => Ok(change.create.map(|()| now)),
            None => self.snapshot.space(space),
        }
    }

    /// The names of the key spaces that `shows` is true of, in order.
    pub(crate) fn spaces(
        &self,
        shows: impl FnMut(&Name) -> Result<bool, KeyspaceError>,
    ) -> Result<Vec<Name>, KeyspaceError> {
        let changes = &self.staged.changes.spaces;
        let (mut shown, mut pace) = (Shown::by(shows), self.pace());
        self.snapshot.each_space(|name, _| {
            pace.step()?;
            if changes.contains_key(&name) { Ok(()) } else { shown.take(&name) }
        })?;
        let mut made = changes.iter().filter(|(_, change)| change.create.is_some());
        made.try_for_each(|(name, _)| shown.take(name))?;
        Ok(shown.sorted())
    }

    /// The names of the keys of a key space that `shows` is true of, in order.
    pub(crate) fn keys(
        &self,
        space: &Name,
        shows: impl FnMut(&Name) -> Result<bool, KeyspaceError>,
    ) -> Result<Vec<Name>, KeyspaceError> {
        let mut shown = Shown::by(shows);
        self.each_key(space, |record| shown.take(&record.path.key))?;
        Ok(shown.sorted())
    }

    /// Each key of a key space.
    pub(crate) fn each_key(
        &self,
        space: &Name,
        mut take: impl FnMut(&KeyRecord) -> Result<(), KeyspaceError>,
    ) -> Result<(), KeyspaceError> {
        let changes = &self.staged.changes.keys;
        if self.staged.shows_stored(space) {
            let mut pace = self.pace();
            self.snapshot.each_key(space, |record| {
                pace.step()?;
                if changes.contains_key(&record.path) { Ok(()) } else { take(&record) }
            })?;
        }
        let made = changes.iter().filter(|(path, _)| path.space == *space);
        made.filter_map(|(_, change)| change.create.as_ref()).try_for_each(take)
    }

    fn pace(&self) -> Pace {
        Pace { deadline: self.deadline, records: 0 }
    }
}

/// Looks at the clock now and then while records are opened.
struct Pace {
    deadline: Option<Instant>,
    records: u32,
}

impl Pace {
    fn step(&mut self) -> Result<(), KeyspaceError> {
        self.records = self.records.wrapping_add(1);
        if self.records.is_multiple_of(RECORDS_PER_LOOK)
            && self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
        {
            return Err(KeyspaceError::OutOfTime);
        }
        Ok(())
    }
}

/// Names that may be shown, as many as a script may be given.
struct Shown<S> {
    shows: S,
    names: Vec<Name>,
}

impl<S: FnMut(&Name) -> Result<bool, KeyspaceError>> Shown<S> {
    fn by(shows: S) -> Self {
        Self { shows, names: Vec::new() }
    }

    fn take(&mut self, name: &Name) -> Result<(), KeyspaceError> {
        if !(self.shows)(name)? {
            return Ok(());
        }
        if self.names.len() >= MOST_NAMES {
            let text = format!("there are more than {MOST_NAMES} names to list");
            return Err(KeyspaceError::Unfit(text));
        }
        self.names.push(name.clone());
        Ok(())
    }

    fn sorted(mut self) -> Vec<Name> {
        self.names.sort();
        self.names
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use policy::Target;
    use wire::{Algorithm, CallName};

    use super::*;
    use crate::Unlocked;
    use crate::tests::{name, path, permit, permit_with};

    /// A keyspace with so many keys in `full`, and so many empty key spaces.
    fn keyspace(keys: u32, spaces: u32) -> Unlocked {
        let keyspace = Unlocked::ephemeral(1).unwrap();
        let filled = keyspace.transact::<_, KeyspaceError>(|writing| {
            writing.put_space(&name("full"), 1)?;
            for number in 0..keys {
                let path = path(&format!("full/{number:06}"));
                writing.put_key(&KeyRecord::generate(path, Algorithm::Symmetric, 1)?)?;
            }
            for number in 0..spaces {
                writing.put_space(&name(&format!("{number:06}")), 1)?;
            }
            Ok(())
        });
        filled.unwrap();
        keyspace
    }

    /// What reads all of a key space, and whether each was out of time.
    fn out_of_time(keyspace: &Unlocked, left: Option<Duration>) -> [bool; 4] {
        let mut staged = keyspace.stage().unwrap();
        if let Some(left) = left {
            staged.ends_at(Instant::now() + left);
        }
        let full = || Target::Space(name("full"));
        let to = keyspace.as_operator().recipient().unwrap();
        let terms = format!(", export_to = [\"{to}\"]");
        let export = permit_with(&terms, CallName::ExportKeySpace, full());
        let ended = [
            staged.spaces(|_| Ok(false)).map(drop),
            staged.keys(&name("full"), |_| Ok(false)).map(drop),
            staged.export_space(export, 9).map(drop),
            staged.delete_space(permit(CallName::DeleteKeySpace, full())).map(drop),
        ];
        let is_late = |done| match done {
            Ok(()) => false,
            Err(KeyspaceError::OutOfTime) => true,
            Err(error) => panic!("{error}"),
        };
        ended.map(is_late)
    }

    #[test]
    fn what_opens_a_whole_key_space_ends_when_the_scripts_time_is_over() {
        let large = keyspace(RECORDS_PER_LOOK, RECORDS_PER_LOOK);
        assert_eq!(out_of_time(&large, Some(Duration::ZERO)), [true; 4]);
        assert_eq!(out_of_time(&large, Some(Duration::from_secs(600))), [false; 4]);
        assert_eq!(out_of_time(&large, None), [false; 4]);
    }

    #[test]
    fn a_list_has_a_most_of_names_that_are_shown_and_those_that_are_not_do_not_count() {
        let most = u32::try_from(MOST_NAMES).unwrap();
        let keyspace = keyspace(most + 1, most);
        let staged = keyspace.stage().unwrap();
        let full = name("full");
        let is_refused = |listed| matches!(listed, Err(KeyspaceError::Unfit(_)));
        assert!(is_refused(staged.keys(&full, |_| Ok(true))));
        assert!(is_refused(staged.spaces(|_| Ok(true))));
        let but_the_first = |shown: &Name| Ok(shown.as_str() != "000000");
        assert_eq!(staged.keys(&full, but_the_first).unwrap().len(), MOST_NAMES);
        assert_eq!(staged.spaces(but_the_first).unwrap().len(), MOST_NAMES);
        // As long as names can be, they fit.
        let longest = name(&"x".repeat(64));
        let value = MOST_NAMES * (longest.as_str().len() + 4);
        assert!(value <= wire::script::MAX_VALUE_BYTES, "{value}");
    }
}
