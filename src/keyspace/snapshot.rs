//! What is read: the keyspace as it was at one moment.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata};
use wire::{KeyPath, Name};

use crate::database::Reading;
use crate::error::KeyspaceError;
use crate::header::Header;
use crate::key::KeyRecord;
use crate::record::{Kind, Place};
use crate::seal::RootKeys;
use crate::stack::wiped;
use crate::store::{HEADER, KEYS, META, SPACES, Table, Unlocked};
use crate::sum::Sum;
use crate::transaction::last_of;

/// The keyspace as it was at one moment, with the keys of that moment.
pub(crate) struct Snapshot {
    reading: Reading,
    pub(crate) root: Arc<RootKeys>,
    file_id: [u8; 16],
    latest: u64,
}

impl Unlocked {
    /// The keyspace as it is now.
    pub(crate) fn snapshot(&self) -> Result<Snapshot, KeyspaceError> {
        // Both under the guard, so that they belong together.
        let held = self.root.read().unwrap_or_else(PoisonError::into_inner);
        let (reading, root) = (self.database.begin_read()?, Arc::clone(&held));
        let latest = self.generation.load(Ordering::SeqCst);
        Ok(Snapshot { reading, root, file_id: self.file_id, latest })
    }

    pub(crate) fn has_space(&self, space: &Name) -> Result<bool, KeyspaceError> {
        Ok(self.snapshot()?.space(space)?.is_some())
    }

    /// The stored key, opened anew for each use.
    pub(crate) fn key(&self, path: &KeyPath) -> Result<Option<KeyRecord>, KeyspaceError> {
        self.snapshot()?.key(path)
    }
}

/// What tests look at: all of it, without a policy and without a deadline.
#[cfg(test)]
impl Unlocked {
    /// The names of all key spaces, in order.
    pub(crate) fn spaces(&self) -> Result<Vec<Name>, KeyspaceError> {
        let mut names = Vec::new();
        self.snapshot()?.each_space(|name, _| {
            names.push(name);
            Ok(())
        })?;
        names.sort();
        Ok(names)
    }

    /// The names of the keys of a key space, in order.
    pub(crate) fn keys(&self, space: &Name) -> Result<Vec<Name>, KeyspaceError> {
        let mut names = Vec::new();
        self.snapshot()?.each_key(space, |record| {
            names.push(record.path.key);
            Ok(())
        })?;
        names.sort();
        Ok(names)
    }
}

impl Snapshot {
    /// When a key space was made, in Unix seconds, if there is one.
    pub(crate) fn space(&self, space: &Name) -> Result<Option<u64>, KeyspaceError> {
        wiped(|| {
            let id = self.root.space_id(space);
            let table = self.reading.open_table(SPACES)?;
            let Some(sealed) = table.get(id.as_slice())? else { return Ok(None) };
            let opened = self.open_space(&id, sealed.value());
            Ok(Some(opened.map_err(|error| error.about(space))?.1))
        })
    }

    /// Each key space, in the order of ids, with the time it was made in Unix seconds.
    pub(crate) fn each_space(
        &self,
        mut take: impl FnMut(Name, u64) -> Result<(), KeyspaceError>,
    ) -> Result<(), KeyspaceError> {
        self.each_sealed(SPACES, |id, sealed| {
            let (name, created) = self.open_space(id, sealed)?;
            take(name, created)
        })
    }

    pub(crate) fn key(&self, path: &KeyPath) -> Result<Option<KeyRecord>, KeyspaceError> {
        wiped(|| {
            let table = self.reading.open_table(KEYS)?;
            let id = self.root.key_id(path);
            let Some(sealed) = table.get(id.as_slice())? else { return Ok(None) };
            self.open_key(&id, sealed.value()).map(Some).map_err(|error| error.about(path))
        })
    }

    /// Each key of a key space, in the order of ids.
    pub(crate) fn each_key(
        &self,
        space: &Name,
        mut take: impl FnMut(KeyRecord) -> Result<(), KeyspaceError>,
    ) -> Result<(), KeyspaceError> {
        wiped(|| {
            let first = self.root.space_id(space);
            let table = self.reading.open_table(KEYS)?;
            for entry in table.range(first.as_slice()..=last_of(&first).as_slice())? {
                let (id, sealed) = entry?;
                take(self.open_key(id.value(), sealed.value())?)?;
            }
            Ok(())
        })
    }

    /// Each record of a table as it is stored, with its id, in the order of ids.
    pub(crate) fn each_sealed(
        &self,
        table: Table,
        mut take: impl FnMut(&[u8], &[u8]) -> Result<(), KeyspaceError>,
    ) -> Result<(), KeyspaceError> {
        wiped(|| {
            for entry in self.reading.open_table(table)?.iter()? {
                let (id, sealed) = entry?;
                take(id.value(), sealed.value())?;
            }
            Ok(())
        })
    }

    /// How many keys there are in a key space; none is opened.
    pub(crate) fn key_count(&self, space: &Name) -> Result<u64, KeyspaceError> {
        let first = self.root.space_id(space);
        let table = self.reading.open_table(KEYS)?;
        let mut count = 0;
        for entry in table.range(first.as_slice()..=last_of(&first).as_slice())? {
            entry?;
            count += 1;
        }
        Ok(count)
    }

    /// How many keys there are in all.
    pub(crate) fn all_keys(&self) -> Result<u64, KeyspaceError> {
        Ok(self.reading.open_table(KEYS)?.len()?)
    }

    /// Opens every record: how many key spaces and keys there are, and what is wrong with any.
    pub(crate) fn check_all(
        &self,
        mut progress: impl FnMut(u64),
    ) -> Result<(u64, u64, Vec<String>), KeyspaceError> {
        let (mut spaces, mut keys, mut faults) = (BTreeSet::new(), 0, Vec::new());
        self.each_sealed(SPACES, |id, sealed| {
            spaces.insert(id.to_vec());
            note_fault(self.open_space(id, sealed), &mut faults)
        })?;
        self.each_sealed(KEYS, |id, sealed| {
            note_fault(self.open_key(id, sealed), &mut faults)?;
            if !id.get(..16).is_some_and(|space| spaces.contains(space)) {
                let place = Place { file_id: self.file_id, kind: Kind::Key, id };
                let outside = place.damaged("a key stands outside of every key space");
                note_fault(Err::<(), _>(outside), &mut faults)?;
            }
            keys += 1;
            progress(keys);
            Ok(())
        })?;
        Ok((spaces.len() as u64, keys, faults))
    }

    pub(crate) fn header(&self) -> Result<Header, KeyspaceError> {
        read_header(&self.reading)
    }

    /// Refuses records that are not those of the last commit.
    pub(crate) fn check_sum(&self) -> Result<(), KeyspaceError> {
        let header = self.header()?;
        if header.is_of(&self.root) && are_of(&self.reading, &header, &self.root)? {
            return Ok(());
        }
        Err(KeyspaceError::Damaged(OTHER_RECORDS.to_owned()))
    }

    pub(crate) fn open_space(
        &self,
        id: &[u8],
        sealed: &[u8],
    ) -> Result<(Name, u64), KeyspaceError> {
        let place = Place { file_id: self.file_id, kind: Kind::Space, id };
        place.open_space(&self.root, self.latest, sealed)
    }

    pub(crate) fn open_key(&self, id: &[u8], sealed: &[u8]) -> Result<KeyRecord, KeyspaceError> {
        let place = Place { file_id: self.file_id, kind: Kind::Key, id };
        place.open_key(&self.root, self.latest, sealed)
    }
}

/// Notes what is wrong with a record, and goes on unless nothing can be read any more.
fn note_fault<T>(
    opened: Result<T, KeyspaceError>,
    faults: &mut Vec<String>,
) -> Result<(), KeyspaceError> {
    match opened {
        Ok(_) => {}
        Err(KeyspaceError::Damaged(what)) => faults.push(what),
        Err(KeyspaceError::Foreign(what)) => faults.push(what.to_owned()),
        Err(error) => return Err(error),
    }
    Ok(())
}

/// What is wrong where the sum over the records is another.
pub(crate) const OTHER_RECORDS: &str =
    "its records are not those of its last commit: one was put back, exchanged or taken out";

/// Whether the records are those of the commit that wrote the header. One without a sum is believed.
pub(crate) fn are_of(
    reading: &ReadTransaction,
    header: &Header,
    root: &RootKeys,
) -> Result<bool, KeyspaceError> {
    let Some(sum) = header.sum(root) else { return Ok(true) };
    Ok(Sum::of(&reading.open_table(SPACES)?, &reading.open_table(KEYS)?, root)? == sum)
}

/// The header that is in the file.
pub(crate) fn read_header(reading: &ReadTransaction) -> Result<Header, KeyspaceError> {
    let header = read_meta(reading, HEADER)?;
    Header::parse(&header.ok_or(KeyspaceError::Foreign(NO_HEADER))?)
}

pub(crate) const NO_HEADER: &str = "it has no header";

pub(crate) fn read_meta(
    reading: &ReadTransaction,
    key: &str,
) -> Result<Option<Vec<u8>>, KeyspaceError> {
    let table = match reading.open_table(META) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        table => table?,
    };
    Ok(table.get(key)?.map(|value| value.value().to_vec()))
}
