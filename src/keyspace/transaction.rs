//! One transaction over the keyspace: what it wrote is on disk when it returns, or nothing is changed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use redb::{ReadableTable, StorageError, Table, TransactionError, WriteTransaction};
use wire::{KeyPath, Name};

use crate::error::KeyspaceError;
use crate::header::Header;
use crate::key::KeyRecord;
use crate::record::{Kind, Place, generation, put_space};
use crate::seal::RootKeys;
use crate::store::{HEADER, KEYS, META, SPACES, Unlocked, service_place};

/// The tables of one transaction, and the generation that it makes.
pub(crate) struct Writing<'t> {
    pub(crate) meta: Table<'t, &'static str, &'static [u8]>,
    pub(crate) spaces: Table<'t, &'static [u8], &'static [u8]>,
    pub(crate) keys: Table<'t, &'static [u8], &'static [u8]>,
    pub(crate) root: Arc<RootKeys>,
    pub(crate) header: Header,
}

impl Unlocked {
    /// Writes in one transaction that is on disk when this returns, or not at all.
    pub(crate) fn transact<R, E: From<KeyspaceError>>(
        &self,
        write: impl FnOnce(&mut Writing<'_>) -> Result<R, E>,
    ) -> Result<R, E> {
        let transaction = self.database.begin_write().map_err(KeyspaceError::from)?;
        let (done, header) = self.write(&transaction, write)?;
        // Before the commit: a reader must never meet a record that is later than this number.
        self.generation.fetch_max(header.generation, Ordering::SeqCst);
        transaction.commit().map_err(KeyspaceError::from)?;
        self.note(&header);
        Ok(done)
    }

    /// Whether no change can be kept any more: once the file could not be read or written, the storage refuses
    /// every change until it is opened again.
    pub fn is_lost(&self) -> bool {
        let begun = self.database.try_begin_write();
        matches!(begun, Err(TransactionError::Storage(StorageError::PreviousIo)))
    }

    /// The same, under a new root key, which holds from the commit on.
    pub(crate) fn transact_under<R>(
        &self,
        root: RootKeys,
        write: impl FnOnce(&mut Writing<'_>, &RootKeys) -> Result<R, KeyspaceError>,
    ) -> Result<R, KeyspaceError> {
        let transaction = self.database.begin_write()?;
        let (done, header) = self.write(&transaction, |writing| write(writing, &root))?;
        // Whoever reads meanwhile waits, so that nobody reads the new file with the old keys.
        let mut held = self.root.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.generation.fetch_max(header.generation, Ordering::SeqCst);
        transaction.commit()?;
        *held = Arc::new(root);
        drop(held);
        self.note(&header);
        Ok(done)
    }

    fn write<R, E: From<KeyspaceError>>(
        &self,
        transaction: &WriteTransaction,
        write: impl FnOnce(&mut Writing<'_>) -> Result<R, E>,
    ) -> Result<(R, Header), E> {
        let failed = |error: redb::TableError| KeyspaceError::from(error);
        let meta = transaction.open_table(META).map_err(failed)?;
        let spaces = transaction.open_table(SPACES).map_err(failed)?;
        let keys = transaction.open_table(KEYS).map_err(failed)?;
        // No other transaction is under way, so these are the keys of what is read here.
        let root = self.root();
        let header = next_header(&meta, &root)?;
        let mut writing = Writing { meta, spaces, keys, root, header };
        let done = write(&mut writing)?;
        let bytes = writing.header.to_bytes();
        writing.meta.insert(HEADER, bytes.as_slice()).map_err(KeyspaceError::from)?;
        Ok((done, writing.header))
    }

    pub(crate) fn note(&self, header: &Header) {
        // A note that stays behind refuses nothing that is good.
        let _behind = self.pin.note(&header.file_id, header.generation);
    }
}

impl Writing<'_> {
    pub(crate) fn place<'a>(&self, kind: Kind, id: &'a [u8]) -> Place<'a> {
        Place { file_id: self.header.file_id, kind, id }
    }

    pub(crate) fn has_space(&self, space: &Name) -> Result<bool, KeyspaceError> {
        Ok(self.spaces.get(self.root.space_id(space).as_slice())?.is_some())
    }

    /// When a key space was made, in Unix seconds.
    pub(crate) fn space(&self, space: &Name) -> Result<u64, KeyspaceError> {
        let id = self.root.space_id(space);
        let sealed = self.spaces.get(id.as_slice())?.ok_or_else(|| no_space(space))?;
        let place = self.place(Kind::Space, &id);
        Ok(place.open_space(&self.root, self.header.generation, sealed.value())?.1)
    }

    /// Writes a key space; whether there was none.
    pub(crate) fn put_space(
        &mut self,
        root: &RootKeys,
        space: &Name,
        created: u64,
    ) -> Result<bool, KeyspaceError> {
        let id = root.space_id(space);
        let place = self.place(Kind::Space, &id);
        let sealed = place.seal(root, self.header.generation, &put_space(space, created))?;
        Ok(self.spaces.insert(id.as_slice(), sealed.as_slice())?.is_none())
    }

    /// The generation in which a key space was written, if there is one.
    pub(crate) fn space_written_at(&self, space: &Name) -> Result<Option<u64>, KeyspaceError> {
        let stored = self.spaces.get(self.root.space_id(space).as_slice())?;
        Ok(stored.and_then(|sealed| generation(sealed.value())))
    }

    /// The same of a key.
    pub(crate) fn key_written_at(&self, path: &KeyPath) -> Result<Option<u64>, KeyspaceError> {
        let stored = self.keys.get(self.root.key_id(path).as_slice())?;
        Ok(stored.and_then(|sealed| generation(sealed.value())))
    }

    pub(crate) fn key(&self, path: &KeyPath) -> Result<KeyRecord, KeyspaceError> {
        let id = self.root.key_id(path);
        let sealed = self.keys.get(id.as_slice())?.ok_or_else(|| no_key(path))?;
        self.open_key(&id, sealed.value())
    }

    fn open_key(&self, id: &[u8], sealed: &[u8]) -> Result<KeyRecord, KeyspaceError> {
        self.place(Kind::Key, id).open_key(&self.root, self.header.generation, sealed)
    }

    /// Writes a key; whether there was none.
    pub(crate) fn put_key(
        &mut self,
        root: &RootKeys,
        record: &KeyRecord,
    ) -> Result<bool, KeyspaceError> {
        let id = root.key_id(&record.path);
        let place = self.place(Kind::Key, &id);
        let sealed = place.seal(root, self.header.generation, &record.put())?;
        Ok(self.keys.insert(id.as_slice(), sealed.as_slice())?.is_none())
    }

    /// Takes a stored key out, by its id.
    pub(crate) fn take_key(&mut self, id: &[u8]) -> Result<KeyRecord, KeyspaceError> {
        let sealed = self.keys.remove(id)?.map(|sealed| sealed.value().to_vec());
        let sealed = sealed.ok_or_else(|| KeyspaceError::Damaged("a key is gone".to_owned()))?;
        self.open_key(id, &sealed)
    }

    /// The first stored key of a key space whose id is this or after it.
    pub(crate) fn next_key(
        &self,
        space: &[u8; 16],
        from: &[u8],
    ) -> Result<Option<Vec<u8>>, KeyspaceError> {
        let mut range = self.keys.range(from..=last_of(space).as_slice())?;
        Ok(range.next().transpose()?.map(|(id, _)| id.value().to_vec()))
    }

    /// The service's own seed, sealed anew under these keys.
    pub(crate) fn put_service(
        &mut self,
        root: &RootKeys,
        seed: &[u8],
    ) -> Result<(), KeyspaceError> {
        let place = service_place(self.header.file_id);
        let sealed = place.seal(root, self.header.generation, seed)?;
        self.meta.insert(crate::store::SERVICE, sealed.as_slice())?;
        Ok(())
    }
}

/// The header with its generation counted up, after checking that it is still ours.
fn next_header(
    meta: &Table<'_, &'static str, &'static [u8]>,
    root: &RootKeys,
) -> Result<Header, KeyspaceError> {
    let damaged = || KeyspaceError::Damaged("the header changed under us".to_owned());
    let header = {
        let stored = meta.get(HEADER)?.ok_or_else(damaged)?;
        Header::parse(stored.value())?
    };
    if header.is_of(root) { header.next_generation(root) } else { Err(damaged()) }
}

/// The last id that a key of this key space could have.
pub(crate) fn last_of(space_id: &[u8; 16]) -> Vec<u8> {
    [space_id.as_slice(), &[0xff; 16]].concat()
}

pub(crate) fn no_space(space: &Name) -> KeyspaceError {
    KeyspaceError::Unknown { what: "key space", name: space.to_string() }
}

pub(crate) fn no_key(path: &KeyPath) -> KeyspaceError {
    KeyspaceError::Unknown { what: "key", name: path.to_string() }
}
