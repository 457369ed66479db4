//! The database file: locked, then unlocked, and one transaction for each commit.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use redb::backends::{FileBackend, InMemoryBackend};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use wire::{KeyPath, Name};

use crate::error::KeyspaceError;
use crate::header::{CopyFrom, Header};
use crate::home::{Home, check_owner, exposed, io_at};
use crate::key::KeyRecord;
use crate::record::{Kind, Place, take_space};
use crate::seal::RootKeys;
use crate::secret::{Passphrase, Secret, public_random};
use crate::sign;
use crate::staged::Staged;

const FILE: &str = "keyspace.redb";

pub(crate) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
pub(crate) const SPACES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("spaces");
pub(crate) const KEYS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("keys");
pub(crate) const HEADER: &str = "header";
const SERVICE: &str = "service";

/// A keyspace whose file is open and whose keys are out of reach.
pub struct Locked {
    database: Database,
    header: Header,
}

/// A keyspace in use.
pub struct Unlocked {
    pub(crate) database: Database,
    pub(crate) keys: RootKeys,
    file_id: [u8; 16],
    pub(crate) generation: AtomicU64,
    service: Secret<32>,
    service_nkey: String,
}

impl Locked {
    /// Opens the keyspace of a home and locks it against other processes.
    ///
    /// # Errors
    /// When there is none, it is in use, exposed, foreign or damaged.
    pub fn open(home: &Home) -> Result<Self, KeyspaceError> {
        let path = home.file(FILE);
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            return Err(KeyspaceError::Missing(home.path().to_owned()));
        };
        if !metadata.is_file() {
            return Err(exposed(&path, "is not a regular file"));
        }
        check_owner(&path, &metadata)?;
        let database = Database::open(&path).map_err(|error| open_error(home, error))?;
        let header = read_meta(&database, HEADER)?;
        let header = header.ok_or(KeyspaceError::Foreign("it has no header"))?;
        Ok(Self { header: Header::parse(&header)?, database })
    }

    /// Unlocks it. The one derivation of a key from the passphrase happens here.
    ///
    /// # Errors
    /// [`KeyspaceError::WrongPassphrase`], also for a damaged header.
    pub fn unlock(self, passphrase: &Passphrase) -> Result<Unlocked, KeyspaceError> {
        let keys = self.header.unlock(passphrase)?;
        let sealed = read_meta(&self.database, SERVICE)?;
        let sealed = sealed.ok_or_else(|| KeyspaceError::Damaged("no service key".to_owned()))?;
        let place = service_place(self.header.file_id);
        let seed = place.open(&keys, self.header.generation, &sealed)?;
        let service = Secret::try_fill(|bytes| bytes.copy_from(&seed))?;
        Unlocked::new(self.database, keys, &self.header, service)
    }
}

impl Unlocked {
    /// Makes a keyspace in a home, whole or not at all.
    ///
    /// # Errors
    /// When there is one, the passphrase is too short, or the file cannot be made.
    pub fn create(home: &Home, passphrase: &Passphrase, now: u64) -> Result<Self, KeyspaceError> {
        passphrase.check_strength()?;
        let path = home.file(FILE);
        if fs::symlink_metadata(&path).is_ok() {
            return Err(KeyspaceError::Exists(home.path().to_owned()));
        }
        let draft = Draft::new(home)?;
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(&draft.0);
        let file = file.map_err(io_at(&draft.0))?;
        let database = FileBackend::new(file)
            .and_then(|backend| Database::builder().create_with_backend(backend));
        let database = database.map_err(|error| open_error(home, error))?;
        let unlocked = Self::found(database, passphrase, now)?;
        // A link, unlike a rename, does not replace a keyspace that was made meanwhile.
        fs::hard_link(&draft.0, &path).map_err(|error| {
            if error.kind() == std::io::ErrorKind::AlreadyExists {
                KeyspaceError::Exists(home.path().to_owned())
            } else {
                io_at(&path)(error)
            }
        })?;
        drop(draft);
        home.sync()?;
        Ok(unlocked)
    }

    /// A keyspace in memory, gone with the process.
    ///
    /// # Errors
    /// When the kernel gives no random numbers.
    pub fn ephemeral(now: u64) -> Result<Self, KeyspaceError> {
        let database = Database::builder().create_with_backend(InMemoryBackend::new());
        let database = database.map_err(redb::Error::from)?;
        let root = Secret::random()?;
        let keys = RootKeys::below(&root)?;
        let header = Header::unshared(&keys, now)?;
        Self::write_first(database, keys, header)
    }

    /// The public nkey of the service, `N...`.
    #[must_use]
    pub fn service_nkey(&self) -> &str {
        &self.service_nkey
    }

    /// Signs as the service.
    #[must_use]
    pub fn sign_as_service(&self, message: &[u8]) -> [u8; 64] {
        sign::ed25519(&self.service, message)
    }

    /// Begins a session: what it changes is seen by it alone until it is committed.
    ///
    /// # Errors
    /// When the header cannot be read.
    pub fn stage(&self) -> Result<Staged<'_>, KeyspaceError> {
        // From the file, not from memory: a commit that is under way is not in it yet.
        let header = read_meta(&self.database, HEADER)?;
        let header = header.ok_or_else(|| KeyspaceError::Damaged("no header".to_owned()))?;
        Ok(Staged::new(self, Header::parse(&header)?.generation))
    }

    /// The names of all key spaces, in order. For the operator; scripts see what they are granted.
    ///
    /// # Errors
    /// When a record is damaged.
    pub fn spaces(&self) -> Result<Vec<Name>, KeyspaceError> {
        let table = self.database.begin_read()?.open_table(SPACES)?;
        let mut names = Vec::new();
        for entry in table.iter()? {
            let (id, sealed) = entry?;
            names.push(take_space(&self.open_record(Kind::Space, id.value(), sealed.value())?)?);
        }
        names.sort();
        Ok(names)
    }

    /// The keys of a key space with the time each was made in Unix seconds, in order.
    ///
    /// # Errors
    /// When a record is damaged.
    pub fn keys(&self, space: &Name) -> Result<Vec<(Name, u64)>, KeyspaceError> {
        let table = self.database.begin_read()?.open_table(KEYS)?;
        let prefix = self.space_id(space);
        let mut keys = Vec::new();
        for entry in table.range(prefix.as_slice()..)? {
            let (id, sealed) = entry?;
            if !id.value().starts_with(&prefix) {
                break;
            }
            let plain = self.open_record(Kind::Key, id.value(), sealed.value())?;
            let record = KeyRecord::take(&plain)?;
            keys.push((record.path.key, record.created));
        }
        keys.sort();
        Ok(keys)
    }

    pub(crate) fn has_space(&self, space: &Name) -> Result<bool, KeyspaceError> {
        let table = self.database.begin_read()?.open_table(SPACES)?;
        Ok(table.get(self.space_id(space).as_slice())?.is_some())
    }

    /// The stored key, opened anew for each use.
    pub(crate) fn key(&self, path: &KeyPath) -> Result<Option<KeyRecord>, KeyspaceError> {
        let table = self.database.begin_read()?.open_table(KEYS)?;
        let id = self.key_id(path);
        let Some(sealed) = table.get(id.as_slice())? else {
            return Ok(None);
        };
        let record = KeyRecord::take(&self.open_record(Kind::Key, &id, sealed.value())?)?;
        if record.path != *path {
            return Err(KeyspaceError::Damaged("a key stands in another's place".to_owned()));
        }
        Ok(Some(record))
    }

    fn found(database: Database, passphrase: &Passphrase, now: u64) -> Result<Self, KeyspaceError> {
        let root = Secret::random()?;
        let keys = RootKeys::below(&root)?;
        let header = Header::create(passphrase, &root, &keys, now)?;
        Self::write_first(database, keys, header)
    }

    /// The first transaction: header, service key, empty tables.
    fn write_first(
        database: Database,
        keys: RootKeys,
        header: Header,
    ) -> Result<Self, KeyspaceError> {
        let service = Secret::random()?;
        let place = service_place(header.file_id);
        let sealed = service.expose(|seed| place.seal(&keys, header.generation, seed))?;
        let transaction = database.begin_write()?;
        {
            let mut meta = transaction.open_table(META)?;
            meta.insert(HEADER, header.to_bytes().as_slice())?;
            meta.insert(SERVICE, sealed.as_slice())?;
            transaction.open_table(SPACES)?;
            transaction.open_table(KEYS)?;
        }
        transaction.commit()?;
        Self::new(database, keys, &header, service)
    }

    fn new(
        database: Database,
        keys: RootKeys,
        header: &Header,
        service: Secret<32>,
    ) -> Result<Self, KeyspaceError> {
        let pair =
            service.expose(|seed| nkeys::KeyPair::new_from_raw(nkeys::KeyPairType::Server, *seed));
        let pair = pair.map_err(|_| KeyspaceError::Damaged("the service key".to_owned()))?;
        let generation = AtomicU64::new(header.generation);
        let (file_id, service_nkey) = (header.file_id, pair.public_key());
        Ok(Self { database, keys, file_id, generation, service, service_nkey })
    }

    pub(crate) fn space_id(&self, space: &Name) -> [u8; 16] {
        self.keys.id(&["space", space.as_str()])
    }

    /// The id of the space, then that of the key: the keys of one space stand together.
    pub(crate) fn key_id(&self, path: &KeyPath) -> Vec<u8> {
        let key = self.keys.id(&["key", path.space.as_str(), path.key.as_str()]);
        [self.space_id(&path.space), key].concat()
    }

    pub(crate) fn place<'a>(&self, kind: Kind, id: &'a [u8]) -> Place<'a> {
        Place { file_id: self.file_id, kind, id }
    }

    fn open_record(
        &self,
        kind: Kind,
        id: &[u8],
        sealed: &[u8],
    ) -> Result<zeroize::Zeroizing<Vec<u8>>, KeyspaceError> {
        let latest = self.generation.load(Ordering::SeqCst);
        self.place(kind, id).open(&self.keys, latest, sealed)
    }
}

/// A file that is removed again unless it was linked to its place.
struct Draft(PathBuf);

impl Draft {
    fn new(home: &Home) -> Result<Self, KeyspaceError> {
        let tag = u64::from_be_bytes(public_random()?);
        Ok(Self(home.file(&format!(".{FILE}.{tag:016x}"))))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // If it cannot be removed, a stale draft without a name of its own is all that is left.
        let _left = fs::remove_file(&self.0);
    }
}

fn service_place(file_id: [u8; 16]) -> Place<'static> {
    Place { file_id, kind: Kind::Service, id: SERVICE.as_bytes() }
}

fn read_meta(database: &Database, key: &str) -> Result<Option<Vec<u8>>, KeyspaceError> {
    let table = match database.begin_read()?.open_table(META) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        table => table?,
    };
    Ok(table.get(key)?.map(|value| value.value().to_vec()))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "an enum of the storage library that grows")]
fn open_error(home: &Home, error: redb::DatabaseError) -> KeyspaceError {
    let path: &Path = home.path();
    match redb::Error::from(error) {
        redb::Error::DatabaseAlreadyOpen => KeyspaceError::InUse(path.to_owned()),
        redb::Error::UpgradeRequired(_) => {
            KeyspaceError::Foreign("its database is of another version")
        }
        redb::Error::Io(source) if source.kind() == std::io::ErrorKind::InvalidData => {
            KeyspaceError::Foreign("it is not a database")
        }
        redb::Error::Io(source) if source.kind() == std::io::ErrorKind::UnexpectedEof => {
            KeyspaceError::Damaged("the file is cut short".to_owned())
        }
        redb::Error::Io(source) => io_at(&home.file(FILE))(source),
        other => other.into(),
    }
}
