//! One transaction over the keyspace: what it wrote is on disk when it returns, or nothing is changed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hmac::Hmac;
use redb::{ReadableTable, Table, WriteTransaction};
use sha2::Sha256;
use wire::{KeyPath, Name};

use crate::error::KeyspaceError;
use crate::header::Header;
use crate::key::KeyRecord;
use crate::record::{Kind, Place, generation, put_space};
use crate::seal::RootKeys;
use crate::secret::Secret;
use crate::snapshot::NO_HEADER;
use crate::stack::wiped;
use crate::store::{HEADER, KEYS, META, SERVICE, SPACES, Unlocked, service_place};
use crate::sum::Sum;
use crate::turn::Taken;

/// The tables of one transaction, and the generation that it makes.
pub(crate) struct Writing<'t> {
    meta: Table<'t, &'static str, &'static [u8]>,
    pub(crate) spaces: Records<'t>,
    pub(crate) keys: Records<'t>,
    pub(crate) root: Arc<RootKeys>,
    pub(crate) header: Header,
}

/// A table of records, and what its changes add to the sum over all of them.
pub(crate) struct Records<'t> {
    pub(crate) table: Table<'t, &'static [u8], &'static [u8]>,
    kind: Kind,
    mac: Hmac<Sha256>,
    added: Sum,
    removed: Sum,
}

impl Records<'_> {
    /// Writes a record; whether there was none in its place.
    pub(crate) fn put(&mut self, id: &[u8], sealed: &[u8]) -> Result<bool, KeyspaceError> {
        self.added.add(Sum::of_record(&self.mac, self.kind, id, sealed)?);
        let Some(old) = self.table.insert(id, sealed)? else { return Ok(true) };
        remove(&mut self.removed, Sum::of_record(&self.mac, self.kind, id, old.value()));
        Ok(false)
    }

    /// Takes a record out, if there is one.
    pub(crate) fn take(&mut self, id: &[u8]) -> Result<Option<Vec<u8>>, KeyspaceError> {
        let Some(old) = self.table.remove(id)?.map(|old| old.value().to_vec()) else {
            return Ok(None);
        };
        remove(&mut self.removed, Sum::of_record(&self.mac, self.kind, id, &old));
        Ok(Some(old))
    }

    /// Takes all keys of a key space out, and shows each as it was sealed.
    pub(crate) fn take_all_of(
        &mut self,
        space: &[u8; 16],
        mut show: impl FnMut(&[u8]),
    ) -> Result<(), KeyspaceError> {
        let Self { table, kind, mac, removed, .. } = self;
        table.retain_in(space.as_slice()..=last_of(space).as_slice(), |id, old| {
            remove(removed, Sum::of_record(mac, *kind, id, old));
            show(old);
            false
        })?;
        Ok(())
    }
}

/// One that cannot be summed up was not in the sum: it can be taken out, and nothing but that can be done with it.
fn remove(removed: &mut Sum, one: Result<Sum, KeyspaceError>) {
    if let Ok(one) = one {
        removed.add(one);
    }
}

impl Unlocked {
    /// Writes in one transaction that is on disk when this returns, or not at all.
    pub(crate) fn transact<R, E: From<KeyspaceError>>(
        &self,
        write: impl FnOnce(&mut Writing<'_>) -> Result<R, E>,
    ) -> Result<R, E> {
        self.transact_in(&self.database.turn(), write)
    }

    /// The same in a turn that one has.
    pub(crate) fn transact_in<R, E: From<KeyspaceError>>(
        &self,
        turn: &Taken<'_>,
        write: impl FnOnce(&mut Writing<'_>) -> Result<R, E>,
    ) -> Result<R, E> {
        let transaction = self.database.begin_write(turn)?;
        let (done, header) = wiped(|| {
            // No other transaction is under way, so these are the keys of what is read here.
            let root = self.root();
            let header = last_header(&transaction)?.next_generation(&root)?;
            let mut writing = Writing::begin(&transaction, root, header)?;
            let done = write(&mut writing)?;
            Ok::<_, E>((done, writing.finish(self.sums_anew.load(Ordering::SeqCst))?))
        })?;
        // Before the commit: a reader must never meet a record that is later than this number.
        self.generation.fetch_max(header.generation, Ordering::SeqCst);
        transaction.commit().map_err(KeyspaceError::unconfirmed)?;
        self.sums_anew.store(false, Ordering::SeqCst);
        self.note(&header);
        Ok(done)
    }

    /// Whether no change can be kept any more: once the file could not be read or written, the storage refuses
    /// every change until it is opened again.
    pub fn is_lost(&self) -> bool {
        self.database.is_lost()
    }

    pub(crate) fn note(&self, header: &Header) {
        // One that stays behind refuses nothing that is good: the first one is on disk.
        let _behind = self.pin.note(&header.file_id, header.generation);
    }
}

impl<'t> Writing<'t> {
    /// Opens the tables of a transaction that makes this header's generation.
    pub(crate) fn begin(
        transaction: &'t WriteTransaction,
        root: Arc<RootKeys>,
        header: Header,
    ) -> Result<Self, KeyspaceError> {
        let records = |table, kind| {
            let (added, removed, mac) = (Sum::default(), Sum::default(), root.sum_mac());
            Records { table, kind, mac, added, removed }
        };
        let spaces = records(transaction.open_table(SPACES)?, Kind::Space);
        let keys = records(transaction.open_table(KEYS)?, Kind::Key);
        Ok(Self { meta: transaction.open_table(META)?, spaces, keys, root, header })
    }

    /// Writes the header with the sum over the records. All are summed up anew where there was no sum, and where
    /// records were accepted that it does not match.
    pub(crate) fn finish(mut self, is_anew: bool) -> Result<Header, KeyspaceError> {
        let sum = match self.header.sum(&self.root).filter(|_| !is_anew) {
            Some(mut sum) => {
                for records in [&self.spaces, &self.keys] {
                    sum.add(records.added);
                    sum.subtract(records.removed);
                }
                sum
            }
            None => Sum::of(&self.spaces.table, &self.keys.table, &self.root)?,
        };
        let header = self.header.with_sum(sum, &self.root)?;
        self.meta.insert(HEADER, header.to_bytes().as_slice())?;
        Ok(header)
    }

    pub(crate) fn place<'a>(&self, kind: Kind, id: &'a [u8]) -> Place<'a> {
        Place { file_id: self.header.file_id, kind, id }
    }

    pub(crate) fn has_space(&self, space: &Name) -> Result<bool, KeyspaceError> {
        Ok(self.spaces.table.get(self.root.space_id(space).as_slice())?.is_some())
    }

    /// When a key space was made, in Unix seconds.
    pub(crate) fn space(&self, space: &Name) -> Result<u64, KeyspaceError> {
        let id = self.root.space_id(space);
        let sealed = self.spaces.table.get(id.as_slice())?.ok_or_else(|| no_space(space))?;
        let place = self.place(Kind::Space, &id);
        let opened = place.open_space(&self.root, self.header.generation, sealed.value());
        Ok(opened.map_err(|error| error.about(space))?.1)
    }

    /// Writes a key space; whether there was none.
    pub(crate) fn put_space(&mut self, space: &Name, created: u64) -> Result<bool, KeyspaceError> {
        let id = self.root.space_id(space);
        let plain = put_space(space, created);
        let sealed =
            self.place(Kind::Space, &id).seal(&self.root, self.header.generation, &plain)?;
        self.spaces.put(&id, &sealed)
    }

    /// The generation in which a key space was written, if there is one.
    pub(crate) fn space_written_at(&self, space: &Name) -> Result<Option<u64>, KeyspaceError> {
        let stored = self.spaces.table.get(self.root.space_id(space).as_slice())?;
        Ok(stored.and_then(|sealed| generation(sealed.value())))
    }

    /// The same of a key.
    pub(crate) fn key_written_at(&self, path: &KeyPath) -> Result<Option<u64>, KeyspaceError> {
        let stored = self.keys.table.get(self.root.key_id(path).as_slice())?;
        Ok(stored.and_then(|sealed| generation(sealed.value())))
    }

    pub(crate) fn key(&self, path: &KeyPath) -> Result<KeyRecord, KeyspaceError> {
        let id = self.root.key_id(path);
        let sealed = self.keys.table.get(id.as_slice())?.ok_or_else(|| no_key(path))?;
        self.open_key(&id, sealed.value()).map_err(|error| error.about(path))
    }

    fn open_key(&self, id: &[u8], sealed: &[u8]) -> Result<KeyRecord, KeyspaceError> {
        self.place(Kind::Key, id).open_key(&self.root, self.header.generation, sealed)
    }

    /// Writes a key; whether there was none.
    pub(crate) fn put_key(&mut self, record: &KeyRecord) -> Result<bool, KeyspaceError> {
        let id = self.root.key_id(&record.path);
        let place = self.place(Kind::Key, &id);
        let sealed = place.seal(&self.root, self.header.generation, &record.put())?;
        self.keys.put(&id, &sealed)
    }

    /// Takes a stored key out, by its id.
    pub(crate) fn take_key(&mut self, id: &[u8]) -> Result<KeyRecord, KeyspaceError> {
        let sealed = self.keys.take(id)?;
        let sealed = sealed.ok_or_else(|| KeyspaceError::Damaged("a key is gone".to_owned()))?;
        self.open_key(id, &sealed)
    }

    /// The first stored key of a key space whose id is this or after it.
    pub(crate) fn next_key(
        &self,
        space: &[u8; 16],
        from: &[u8],
    ) -> Result<Option<Vec<u8>>, KeyspaceError> {
        let mut range = self.keys.table.range(from..=last_of(space).as_slice())?;
        Ok(range.next().transpose()?.map(|(id, _)| id.value().to_vec()))
    }

    /// The service's own seed.
    pub(crate) fn put_service(&mut self, seed: &Secret<32>) -> Result<(), KeyspaceError> {
        let place = service_place(self.header.file_id);
        let sealed = seed.expose(|seed| place.seal(&self.root, self.header.generation, seed))?;
        self.meta.insert(SERVICE, sealed.as_slice())?;
        Ok(())
    }
}

/// The header of the commit before this transaction.
fn last_header(transaction: &WriteTransaction) -> Result<Header, KeyspaceError> {
    let meta = transaction.open_table(META)?;
    let stored = meta.get(HEADER)?.ok_or(KeyspaceError::Foreign(NO_HEADER))?;
    Header::parse(stored.value())
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
