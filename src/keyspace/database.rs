//! The database in use, which can be exchanged for a new file.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::ops::Deref;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use redb::backends::FileBackend;
use redb::{
    Database, ReadTransaction, ReadableDatabase, StorageError, TransactionError, WriteTransaction,
};

use crate::error::KeyspaceError;
use crate::home::{Home, io_at};
use crate::secret::public_random;
use crate::store::{FILE, builder, open_error};
use crate::turn::{Taken, Turn};

/// The database of an open keyspace.
pub(crate) struct Shared {
    now: RwLock<Arc<Database>>,
    /// Whose turn it is to write: nobody may write to a file that is being left.
    writing: Turn,
    given_up: AtomicBool,
}

impl Shared {
    pub(crate) fn new(database: Database) -> Self {
        let given_up = AtomicBool::new(false);
        Self { now: RwLock::new(Arc::new(database)), writing: Turn::default(), given_up }
    }

    /// A reader keeps what it reads from, whatever takes its place.
    pub(crate) fn begin_read(&self) -> Result<Reading, KeyspaceError> {
        let database = self.now();
        Ok(Reading { transaction: database.begin_read()?, _database: database })
    }

    /// Waits until nobody else writes.
    pub(crate) fn turn(&self) -> Taken<'_> {
        self.writing.wait()
    }

    /// The same for so long; `None` when it was another's for all of this time.
    pub(crate) fn turn_within(&self, patience: Duration) -> Option<Taken<'_>> {
        self.writing.wait_for(patience)
    }

    /// Begins a transaction, which ends before the turn does.
    pub(crate) fn begin_write(&self, turn: &Taken<'_>) -> Result<WriteTransaction, KeyspaceError> {
        self.check_is_kept(turn)?;
        begin_write(&self.now())
    }

    /// Refuses every change once nobody knows whether it would be kept.
    pub(crate) fn check_is_kept(&self, _turn: &Taken<'_>) -> Result<(), KeyspaceError> {
        if self.given_up.load(Ordering::SeqCst) {
            return Err(redb::Error::PreviousIo.into());
        }
        Ok(())
    }

    /// Whether the storage refuses every change until it is opened again.
    pub(crate) fn is_lost(&self) -> bool {
        let begun = self.now().try_begin_write();
        let is_broken = matches!(begun, Err(TransactionError::Storage(StorageError::PreviousIo)));
        is_broken || self.given_up.load(Ordering::SeqCst)
    }

    /// Goes on with another database; the one that was in use until now.
    pub(crate) fn exchange(&self, next: Database) -> Arc<Database> {
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *now, Arc::new(next))
    }

    /// Whether the name of its file is on disk. If not, every change from now on is refused: nobody knows which file
    /// a power cut would leave.
    pub(crate) fn is_named(&self, synced: Result<(), KeyspaceError>) -> Result<(), KeyspaceError> {
        synced.map_err(|error| {
            self.given_up.store(true, Ordering::SeqCst);
            KeyspaceError::unconfirmed(error)
        })
    }

    fn now(&self) -> Arc<Database> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A transaction that reads, of a database that stays open for as long: a closed one ends its readers.
pub(crate) struct Reading {
    transaction: ReadTransaction,
    _database: Arc<Database>,
}

impl Deref for Reading {
    type Target = ReadTransaction;

    fn deref(&self) -> &ReadTransaction {
        &self.transaction
    }
}

/// Begins a transaction that commits in two phases: what is on disk then is never exchanged for the commit before
/// it, which happens otherwise when the file is repaired after a kill and a page of the newer one is damaged.
pub(crate) fn begin_write(database: &Database) -> Result<WriteTransaction, KeyspaceError> {
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    Ok(transaction)
}

/// A file under another name, which is removed again unless it was given its own.
pub(crate) struct Draft(pub(crate) PathBuf);

impl Draft {
    pub(crate) fn new(home: &Home) -> Result<(Self, Database), KeyspaceError> {
        let tag = u64::from_be_bytes(public_random()?);
        let draft = Self(home.file(&format!(".{FILE}.{tag:016x}")));
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(&draft.0);
        let file = file.map_err(io_at(&draft.0))?;
        let database =
            FileBackend::new(file).and_then(|backend| builder().create_with_backend(backend));
        Ok((draft, database.map_err(|error| open_error(home, error))?))
    }

    /// Gives it the name of the keyspace.
    pub(crate) fn put_in_place(&self, home: &Home) -> Result<(), KeyspaceError> {
        let path = home.file(FILE);
        fs::rename(&self.0, &path).map_err(io_at(&path))
    }

    /// Removes what a process left behind that was killed.
    pub(crate) fn clear(home: &Home) -> Result<(), KeyspaceError> {
        let path = home.path();
        for entry in fs::read_dir(path).map_err(io_at(path))? {
            let entry = entry.map_err(io_at(path))?;
            if is_draft(&entry.file_name()) {
                fs::remove_file(entry.path()).map_err(io_at(&entry.path()))?;
            }
        }
        Ok(())
    }
}

/// As [`Draft::new`] names them, and no other: what else lies there is not ours.
fn is_draft(name: &OsStr) -> bool {
    let tag = name.to_str().and_then(|name| name.strip_prefix(&format!(".{FILE}.")));
    let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    tag.is_some_and(|tag| tag.len() == 16 && tag.bytes().all(is_digit))
}

impl Drop for Draft {
    fn drop(&mut self) {
        // If it cannot be removed, a stale draft without a name of its own is all that is left.
        let _left = fs::remove_file(&self.0);
    }
}
