//! The database file: locked, then unlocked, and one transaction for each commit.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use redb::backends::{FileBackend, InMemoryBackend};
use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    TableDefinition,
};
use wire::operator::{KdfCost, SlotKind};
use wire::{KeyPath, Name};

use crate::error::KeyspaceError;
use crate::header::{CopyFrom, Header};
use crate::home::{self, Home, check_owner, exposed, io_at};
use crate::key::KeyRecord;
use crate::pin::Pin;
use crate::record::{Kind, Place, take_space};
use crate::seal::{Cost, RootKeys};
use crate::secret::{Passphrase, Secret, public_random};
use crate::sign;
use crate::staged::Staged;
use crate::transaction::last_of;

const FILE: &str = "keyspace.redb";
/// Memory for pages of the file, in bytes: a million keys take six times as much on disk, and the process that
/// holds them stays small.
const CACHE_BYTES: usize = 64 * 1024 * 1024;

pub(crate) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
pub(crate) const SPACES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("spaces");
pub(crate) const KEYS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("keys");
pub(crate) const HEADER: &str = "header";
pub(crate) const SERVICE: &str = "service";

/// A keyspace whose file is open and whose keys are out of reach.
pub struct Locked {
    pub(crate) database: Database,
    pub(crate) header: Header,
    pub(crate) pin: Pin,
}

/// How a keyspace is opened.
#[derive(Debug, Clone, Copy, Default)]
pub struct Opening {
    /// Whose passphrase it is, where only that is to be tried.
    pub slot: Option<SlotKind>,
    /// Whether one is opened that is older than the one that was here last.
    pub accept_older: bool,
}

/// A keyspace in use.
pub struct Unlocked {
    pub(crate) database: Database,
    pub(crate) root: RwLock<Arc<RootKeys>>,
    pub(crate) file_id: [u8; 16],
    pub(crate) generation: AtomicU64,
    pub(crate) pin: Pin,
    pub(crate) service: Service,
    /// What was accepted when it was opened, though it is not what was here last.
    accepted: Option<String>,
}

/// The service's own key pair.
pub(crate) struct Service {
    pub(crate) seed: Secret<32>,
    nkey: String,
}

/// The keyspace as it was at one moment, with the keys of that moment.
pub(crate) struct Snapshot {
    reading: ReadTransaction,
    pub(crate) root: Arc<RootKeys>,
    file_id: [u8; 16],
    latest: u64,
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
        let database = builder().open(&path).map_err(|error| open_error(home, error))?;
        let header = read_meta(&database.begin_read()?, HEADER)?;
        let header = header.ok_or(KeyspaceError::Foreign("it has no header"))?;
        Ok(Self { header: Header::parse(&header)?, database, pin: Pin::open(home)? })
    }

    /// Unlocks it. The one derivation of a key from the passphrase happens here, for each slot that is
    /// tried.
    ///
    /// # Errors
    /// [`KeyspaceError::WrongPassphrase`], also for a damaged header; [`KeyspaceError::Older`].
    pub fn unlock(
        self,
        passphrase: &Passphrase,
        opening: Opening,
    ) -> Result<Unlocked, KeyspaceError> {
        self.try_unlock(passphrase, opening).map_err(|(_, error)| error)
    }

    /// The same; one that stays locked is given back.
    ///
    /// # Errors
    /// As [`Locked::unlock`].
    pub fn try_unlock(
        self,
        passphrase: &Passphrase,
        opening: Opening,
    ) -> Result<Unlocked, (Box<Self>, KeyspaceError)> {
        match self.open_with(passphrase, opening) {
            Ok((root, service, accepted)) => {
                let mut unlocked =
                    Unlocked::new(self.database, root, &self.header, service, self.pin);
                unlocked.accepted = accepted;
                // Also where there was no note, or one that was said not to count.
                unlocked.note(&self.header);
                Ok(unlocked)
            }
            Err(error) => Err((Box::new(self), error)),
        }
    }

    fn open_with(
        &self,
        passphrase: &Passphrase,
        opening: Opening,
    ) -> Result<(RootKeys, Service, Option<String>), KeyspaceError> {
        let (_, root, _) = self.header.unlock(passphrase, opening.slot)?;
        let sealed = read_meta(&self.database.begin_read()?, SERVICE)?;
        let sealed = sealed.ok_or_else(|| KeyspaceError::Damaged("no service key".to_owned()))?;
        let place = service_place(self.header.file_id);
        let seed = place.open(&root, self.header.generation, &sealed)?;
        let service = Service::of(Secret::try_fill(|bytes| bytes.copy_from(&seed))?)?;
        let accepted = match self.pin.check(&self.header) {
            Err(KeyspaceError::Older(what)) if opening.accept_older => Some(what),
            checked => checked.map(|()| None)?,
        };
        Ok((root, service, accepted))
    }
}

impl Service {
    pub(crate) fn of(seed: Secret<32>) -> Result<Self, KeyspaceError> {
        let pair =
            seed.expose(|seed| nkeys::KeyPair::new_from_raw(nkeys::KeyPairType::Server, *seed));
        let pair = pair.map_err(|_| KeyspaceError::Damaged("the service key".to_owned()))?;
        Ok(Self { nkey: pair.public_key(), seed })
    }
}

impl Unlocked {
    /// Makes a keyspace in a home, whole or not at all, with the operator's passphrase.
    ///
    /// # Errors
    /// When there is one, the passphrase is too short, or the file cannot be made.
    pub fn create(
        home: &Home,
        passphrase: &Passphrase,
        cost: KdfCost,
        now: u64,
    ) -> Result<Self, KeyspaceError> {
        let path = home.file(FILE);
        if fs::symlink_metadata(&path).is_ok() {
            return Err(KeyspaceError::Exists(home.path().to_owned()));
        }
        let root = Secret::random()?;
        let keys = RootKeys::below(&root)?;
        let header = Header::create(passphrase, Cost::asked(cost)?, &root, &keys, now)?;
        let draft = Draft::new(home)?;
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(&draft.0);
        let file = file.map_err(io_at(&draft.0))?;
        let database =
            FileBackend::new(file).and_then(|backend| builder().create_with_backend(backend));
        let database = database.map_err(|error| open_error(home, error))?;
        let unlocked = Self::found(database, keys, &header, Pin::none())?;
        // A link, unlike a rename, does not replace a keyspace that was made meanwhile.
        fs::hard_link(&draft.0, &path).map_err(|error| {
            if error.kind() == std::io::ErrorKind::AlreadyExists {
                KeyspaceError::Exists(home.path().to_owned())
            } else {
                io_at(&path)(error)
            }
        })?;
        drop(draft);
        let unlocked = Self { pin: Pin::open(home)?, ..unlocked };
        unlocked.note(&header);
        unlocked.pin.sync().map_err(io_at(&path))?;
        home.sync()?;
        Ok(unlocked)
    }

    /// A keyspace in memory, gone with the process.
    ///
    /// # Errors
    /// When the kernel gives no random numbers.
    pub fn ephemeral(now: u64) -> Result<Self, KeyspaceError> {
        let database = builder().create_with_backend(InMemoryBackend::new());
        let database = database.map_err(redb::Error::from)?;
        let keys = RootKeys::below(&Secret::random()?)?;
        let header = Header::unshared(&keys, now)?;
        Self::found(database, keys, &header, Pin::none())
    }

    /// The public nkey of the service, `N...`.
    #[must_use]
    pub fn service_nkey(&self) -> &str {
        &self.service.nkey
    }

    /// In what it is not the keyspace that was here last, where that was accepted.
    #[must_use]
    pub fn accepted(&self) -> Option<&str> {
        self.accepted.as_deref()
    }

    /// Signs as the service.
    #[must_use]
    pub fn sign_as_service(&self, message: &[u8]) -> [u8; 64] {
        sign::ed25519(&self.service.seed, message)
    }

    /// Begins a session: what it changes is seen by it alone until it is committed.
    ///
    /// # Errors
    /// When the header cannot be read.
    pub fn stage(&self) -> Result<Staged<'_>, KeyspaceError> {
        // From the file, not from memory: a commit that is under way is not in it yet.
        let header = read_meta(&self.database.begin_read()?, HEADER)?;
        let header = header.ok_or_else(|| KeyspaceError::Damaged("no header".to_owned()))?;
        Ok(Staged::new(self, Header::parse(&header)?.generation))
    }

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

    pub(crate) fn has_space(&self, space: &Name) -> Result<bool, KeyspaceError> {
        Ok(self.snapshot()?.space(space)?.is_some())
    }

    /// The stored key, opened anew for each use.
    pub(crate) fn key(&self, path: &KeyPath) -> Result<Option<KeyRecord>, KeyspaceError> {
        self.snapshot()?.key(path)
    }

    /// The keyspace as it is now.
    pub(crate) fn snapshot(&self) -> Result<Snapshot, KeyspaceError> {
        // Both under the guard, so that they belong together.
        let held = self.root.read().unwrap_or_else(PoisonError::into_inner);
        let (reading, root) = (self.database.begin_read()?, Arc::clone(&held));
        let latest = self.generation.load(Ordering::SeqCst);
        Ok(Snapshot { reading, root, file_id: self.file_id, latest })
    }

    pub(crate) fn root(&self) -> Arc<RootKeys> {
        Arc::clone(&self.root.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The first transaction: header, service key, empty tables.
    pub(crate) fn found(
        database: Database,
        keys: RootKeys,
        header: &Header,
        pin: Pin,
    ) -> Result<Self, KeyspaceError> {
        let service = Service::of(Secret::random()?)?;
        let place = service_place(header.file_id);
        let sealed = service.seed.expose(|seed| place.seal(&keys, header.generation, seed))?;
        let transaction = database.begin_write()?;
        {
            let mut meta = transaction.open_table(META)?;
            meta.insert(HEADER, header.to_bytes().as_slice())?;
            meta.insert(SERVICE, sealed.as_slice())?;
            transaction.open_table(SPACES)?;
            transaction.open_table(KEYS)?;
        }
        transaction.commit()?;
        Ok(Self::new(database, keys, header, service, pin))
    }

    pub(crate) fn new(
        database: Database,
        keys: RootKeys,
        header: &Header,
        service: Service,
        pin: Pin,
    ) -> Self {
        let generation = AtomicU64::new(header.generation);
        let (root, file_id) = (RwLock::new(Arc::new(keys)), header.file_id);
        Self { database, root, file_id, generation, pin, service, accepted: None }
    }
}

impl Snapshot {
    /// When a key space was made, in Unix seconds, if there is one.
    pub(crate) fn space(&self, space: &Name) -> Result<Option<u64>, KeyspaceError> {
        let id = self.root.space_id(space);
        let table = self.reading.open_table(SPACES)?;
        let Some(sealed) = table.get(id.as_slice())? else { return Ok(None) };
        Ok(Some(self.open_space(&id, sealed.value())?.1))
    }

    /// Each key space, in the order of ids, with the time it was made in Unix seconds.
    pub(crate) fn each_space(
        &self,
        mut take: impl FnMut(Name, u64) -> Result<(), KeyspaceError>,
    ) -> Result<(), KeyspaceError> {
        for entry in self.reading.open_table(SPACES)?.iter()? {
            let (id, sealed) = entry?;
            let (name, created) = self.open_space(id.value(), sealed.value())?;
            take(name, created)?;
        }
        Ok(())
    }

    pub(crate) fn key(&self, path: &KeyPath) -> Result<Option<KeyRecord>, KeyspaceError> {
        let table = self.reading.open_table(KEYS)?;
        let id = self.root.key_id(path);
        let Some(sealed) = table.get(id.as_slice())? else { return Ok(None) };
        self.open_key(&id, sealed.value()).map(Some)
    }

    /// Each key of a key space, in the order of ids.
    pub(crate) fn each_key(
        &self,
        space: &Name,
        mut take: impl FnMut(KeyRecord) -> Result<(), KeyspaceError>,
    ) -> Result<(), KeyspaceError> {
        let first = self.root.space_id(space);
        let table = self.reading.open_table(KEYS)?;
        for entry in table.range(first.as_slice()..=last_of(&first).as_slice())? {
            let (id, sealed) = entry?;
            take(self.open_key(id.value(), sealed.value())?)?;
        }
        Ok(())
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

    fn open_space(&self, id: &[u8], sealed: &[u8]) -> Result<(Name, u64), KeyspaceError> {
        let place = Place { file_id: self.file_id, kind: Kind::Space, id };
        let (name, created) = take_space(&place.open(&self.root, self.latest, sealed)?)?;
        if self.root.space_id(&name) != *id {
            let text = "a key space stands in another's place";
            return Err(KeyspaceError::Damaged(text.to_owned()));
        }
        Ok((name, created))
    }

    fn open_key(&self, id: &[u8], sealed: &[u8]) -> Result<KeyRecord, KeyspaceError> {
        let place = Place { file_id: self.file_id, kind: Kind::Key, id };
        let record = KeyRecord::take(&place.open(&self.root, self.latest, sealed)?)?;
        if self.root.key_id(&record.path) != id {
            return Err(KeyspaceError::Damaged("a key stands in another's place".to_owned()));
        }
        Ok(record)
    }
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
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

pub(crate) fn service_place(file_id: [u8; 16]) -> Place<'static> {
    Place { file_id, kind: Kind::Service, id: SERVICE.as_bytes() }
}

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

#[expect(clippy::wildcard_enum_match_arm, reason = "an enum of the storage library that grows")]
fn open_error(home: &Home, error: redb::DatabaseError) -> KeyspaceError {
    let path: &Path = home.path();
    match redb::Error::from(error) {
        redb::Error::DatabaseAlreadyOpen => {
            KeyspaceError::InUse { path: path.to_owned(), holder: home::holder(&home.file(FILE)) }
        }
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
