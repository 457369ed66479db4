//! The database in use, which can be exchanged for a new file.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use redb::backends::FileBackend;
use redb::{
    Database, ReadTransaction, ReadableDatabase, StorageError, TransactionError, WriteTransaction,
};

use crate::error::KeyspaceError;
use crate::home::{Home, io_at};
use crate::secret::public_random;
use crate::store::{FILE, builder, open_error};

/// The database of an open keyspace.
pub(crate) struct Shared {
    now: RwLock<Database>,
    /// Whose turn it is to write: nobody may write to a file that is being left.
    writing: Mutex<()>,
    given_up: AtomicBool,
}

impl Shared {
    pub(crate) fn new(database: Database) -> Self {
        let given_up = AtomicBool::new(false);
        Self { now: RwLock::new(database), writing: Mutex::new(()), given_up }
    }

    /// A reader keeps what it reads from, whatever takes its place.
    pub(crate) fn begin_read(&self) -> Result<ReadTransaction, KeyspaceError> {
        Ok(self.now.read().unwrap_or_else(PoisonError::into_inner).begin_read()?)
    }

    /// Waits until nobody else writes. The turn must be held for as long as the transaction lasts.
    pub(crate) fn turn(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a transaction, in one's turn.
    pub(crate) fn begin_write(&self) -> Result<WriteTransaction, KeyspaceError> {
        if self.given_up.load(Ordering::SeqCst) {
            return Err(redb::Error::PreviousIo.into());
        }
        begin_write(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the storage refuses every change until it is opened again.
    pub(crate) fn is_lost(&self) -> bool {
        let begun = self.now.read().unwrap_or_else(PoisonError::into_inner).try_begin_write();
        let is_broken = matches!(begun, Err(TransactionError::Storage(StorageError::PreviousIo)));
        is_broken || self.given_up.load(Ordering::SeqCst)
    }

    /// Goes on with another database; the one that was in use until now.
    pub(crate) fn exchange(&self, next: Database) -> Database {
        std::mem::replace(&mut *self.now.write().unwrap_or_else(PoisonError::into_inner), next)
    }

    /// Refuses every change from now on: nobody knows which file a power cut would leave.
    pub(crate) fn give_up(&self) {
        self.given_up.store(true, Ordering::SeqCst);
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
            if entry.file_name().to_string_lossy().starts_with(&format!(".{FILE}.")) {
                fs::remove_file(entry.path()).map_err(io_at(&entry.path()))?;
            }
        }
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // If it cannot be removed, a stale draft without a name of its own is all that is left.
        let _left = fs::remove_file(&self.0);
    }
}
