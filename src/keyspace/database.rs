//! The database in use, which can be exchanged for a new file of the same contents: pages that redb has freed keep
//! what stood in them, such as records that were removed and slots that were replaced.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use redb::backends::FileBackend;
use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, StorageError, TransactionError,
    WriteTransaction,
};

use crate::error::KeyspaceError;
use crate::home::{Home, io_at};
use crate::secret::public_random;
use crate::store::{FILE, KEYS, META, SPACES, builder, open_error};

/// The database of an open keyspace.
pub(crate) struct Shared {
    now: RwLock<Database>,
    /// Whose turn it is to write: nobody may write to a file that is being left.
    writing: Mutex<()>,
}

impl Shared {
    pub(crate) fn new(database: Database) -> Self {
        Self { now: RwLock::new(database), writing: Mutex::new(()) }
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
        begin_write(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the storage refuses every change until it is opened again.
    pub(crate) fn is_lost(&self) -> bool {
        let begun = self.now.read().unwrap_or_else(PoisonError::into_inner).try_begin_write();
        matches!(begun, Err(TransactionError::Storage(StorageError::PreviousIo)))
    }

    /// Writes everything to a new file in the home, puts it in the place of the old one, and goes on with it.
    pub(crate) fn renew(&self, home: &Home) -> Result<(), KeyspaceError> {
        let _turn = self.turn();
        Draft::clear(home)?;
        let (draft, database) = Draft::new(home)?;
        copy(&self.begin_read()?, &database)?;
        let path = home.file(FILE);
        fs::rename(&draft.0, &path).map_err(io_at(&path))?;
        // Whatever happens now, what is written from here on must reach the file that has the name.
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = database;
        home.sync()
    }
}

/// Begins a transaction that commits in two phases: what is on disk then is never exchanged for the commit before
/// it, which happens otherwise when the file is repaired after a kill and a page of the newer one is damaged.
pub(crate) fn begin_write(database: &Database) -> Result<WriteTransaction, KeyspaceError> {
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    Ok(transaction)
}

fn copy(from: &ReadTransaction, to: &Database) -> Result<(), KeyspaceError> {
    let writing = begin_write(to)?;
    {
        let mut meta = writing.open_table(META)?;
        for entry in from.open_table(META)?.iter()? {
            let (name, value) = entry?;
            meta.insert(name.value(), value.value())?;
        }
        for table in [SPACES, KEYS] {
            let mut copied = writing.open_table(table)?;
            for entry in from.open_table(table)?.iter()? {
                let (id, sealed) = entry?;
                copied.insert(id.value(), sealed.value())?;
            }
        }
    }
    Ok(writing.commit()?)
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

    /// Removes what a process left behind that was killed: no other process drafts while this one holds the home.
    fn clear(home: &Home) -> Result<(), KeyspaceError> {
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;
    use wire::Algorithm;
    use wire::operator::{KdfCost, SlotKind};

    use super::*;
    use crate::secret::Passphrase;
    use crate::store::{HEADER, Opening, Unlocked};
    use crate::tests::{name, path};
    use crate::{Locked, snapshot};

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::new(text.as_bytes().to_vec()).unwrap()
    }

    fn in_file() -> (TempDir, Home, Unlocked) {
        let folder = TempDir::new().unwrap();
        let home = Home::create(&folder.path().join("home")).unwrap();
        let current = passphrase("the operator's");
        let keyspace = Unlocked::create(&home, &current, KdfCost::Standard, 1).unwrap();
        keyspace.as_operator().new_space(&name("a"), 1).unwrap();
        (folder, home, keyspace)
    }

    fn reopen(home: &Home) -> Unlocked {
        let opening = Opening::default();
        Locked::open(home).unwrap().unlock(&passphrase("the operator's"), opening).unwrap()
    }

    #[test]
    fn a_new_root_key_leaves_no_destroyed_key_and_no_revoked_passphrase_in_the_file() {
        let (_folder, home, keyspace) = in_file();
        let (operator, current) = (keyspace.as_operator(), passphrase("the operator's"));
        for number in 0..50 {
            let key = path(&format!("a/{number}"));
            operator.new_key(&key, Algorithm::Ed25519, 1).unwrap();
        }
        let backup = passphrase("the backup's");
        operator.set_passphrase(&current, SlotKind::Backup, &backup, KdfCost::Standard).unwrap();
        let reading = keyspace.database.begin_read().unwrap();
        let header = snapshot::read_meta(&reading, HEADER).unwrap().unwrap();
        // The wrapped root key of the second slot.
        let mut gone = vec![header[44 + 109 + 61..44 + 2 * 109].to_vec()];
        for entry in reading.open_table(KEYS).unwrap().iter().unwrap() {
            gone.push(entry.unwrap().1.value()[32..].to_vec());
        }
        drop(reading);
        operator.delete_space(&name("a"), u64::MAX).unwrap();
        operator.new_space(&name("b"), 2).unwrap();
        let count = || {
            let file = fs::read(home.file(FILE)).unwrap();
            let is_there = |bytes: &&Vec<u8>| file.windows(bytes.len()).any(|here| here == **bytes);
            gone.iter().filter(is_there).count()
        };
        assert!(count() > 0, "freed pages keep what stood in them");
        fs::write(home.file(&format!(".{FILE}.0123456789abcdef")), b"of a killed process").unwrap();
        operator.rotate_root(&current, |_, _| {}).unwrap();
        assert_eq!(count(), 0);
        operator.new_space(&name("c"), 3).unwrap();
        drop(keyspace);
        let mode = fs::metadata(home.file(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let files = fs::read_dir(home.path()).unwrap().count();
        assert_eq!(files, 2, "no draft is left, not even another's");
        let keyspace = reopen(&home);
        assert_eq!(keyspace.spaces().unwrap(), [name("b"), name("c")]);
        keyspace.as_operator().verify(|_, _| {}).unwrap();
    }

    #[test]
    fn who_writes_or_reads_while_the_file_is_exchanged_loses_nothing() {
        let (_folder, home, keyspace) = in_file();
        let before = keyspace.snapshot().unwrap();
        let made = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut made = 0;
                while made < 200 {
                    let key = path(&format!("a/{made}"));
                    keyspace.as_operator().new_key(&key, Algorithm::Ed25519, 1).unwrap();
                    made += 1;
                }
                made
            });
            while !writer.is_finished() {
                keyspace.database.renew(&home).unwrap();
                assert!(Locked::open(&home).is_err(), "it stays locked");
            }
            writer.join().unwrap()
        });
        assert_eq!(before.key_count(&name("a")).unwrap(), 0, "what was read from is still there");
        drop(before);
        drop(keyspace);
        assert_eq!(reopen(&home).keys(&name("a")).unwrap().len(), made);
    }
}
