//! The database file: locked, then unlocked, and one transaction for each commit.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, PoisonError, RwLock};

use redb::backends::InMemoryBackend;
use redb::{Database, ReadableDatabase, TableDefinition};
use wire::Algorithm;
use wire::operator::{KdfCost, SlotKind};

use crate::database::{Draft, Shared, begin_write};
use crate::error::KeyspaceError;
use crate::header::Header;
use crate::home::{self, Home, check_owner, exposed, io_at};
use crate::pin::Pin;
use crate::record::{Kind, Place};
use crate::seal::{Cost, RootKeys};
use crate::secret::{Passphrase, Secret};
use crate::snapshot::{OTHER_RECORDS, are_of, read_header, read_meta};
use crate::stack::wiped;
use crate::staged::Staged;
use crate::transaction::Writing;
use crate::{nkey, sign};

pub(crate) const FILE: &str = "keyspace.redb";
/// Memory for pages of the file, in bytes: a third of what a million keys take on disk, and a process that holds
/// them and derives a key besides, in 64 MiB, stays under 200 MiB.
const CACHE_BYTES: usize = 96 * 1024 * 1024;

/// A table of records by their ids.
pub(crate) type Table = TableDefinition<'static, &'static [u8], &'static [u8]>;

pub(crate) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
pub(crate) const SPACES: Table = TableDefinition::new("spaces");
pub(crate) const KEYS: Table = TableDefinition::new("keys");
pub(crate) const HEADER: &str = "header";
pub(crate) const SERVICE: &str = "service";

/// A keyspace whose file is open and whose keys are out of reach.
pub struct Locked {
    pub(crate) database: Database,
    pub(crate) header: Header,
    pub(crate) pin: Pin,
    pub(crate) home: Option<Home>,
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
    pub(crate) database: Shared,
    pub(crate) root: RwLock<Arc<RootKeys>>,
    pub(crate) file_id: [u8; 16],
    pub(crate) generation: AtomicU64,
    pub(crate) pin: Pin,
    pub(crate) service: Service,
    /// Where its file is; `None` for one that has none.
    pub(crate) home: Option<Home>,
    /// What was accepted when it was opened, though it is not what was here last.
    accepted: Option<String>,
    /// Whether the next commit sums up all records anew, because other ones were accepted.
    pub(crate) sums_anew: AtomicBool,
}

/// What a passphrase opened.
struct Opened {
    root: RootKeys,
    service: Service,
    /// What was accepted of it.
    accepted: Option<String>,
    /// Whether its records are not those that its header is of.
    has_other_records: bool,
}

/// The service's own key pair.
pub(crate) struct Service {
    pub(crate) seed: Secret<32>,
    nkey: String,
}

impl Locked {
    /// Opens the keyspace of a home and locks it against other processes.
    ///
    /// # Errors
    /// When there is none, it is in use, exposed, foreign or damaged.
    pub fn open(home: &Home) -> Result<Self, KeyspaceError> {
        let path = home.file(FILE);
        let metadata = fs::symlink_metadata(&path).map_err(|error| {
            if error.kind() == ErrorKind::NotFound {
                KeyspaceError::Missing(home.path().to_owned())
            } else {
                io_at(&path)(error)
            }
        })?;
        if !metadata.is_file() {
            return Err(exposed(&path, "is not a regular file"));
        }
        check_owner(&path, &metadata)?;
        let database = builder().open(&path).map_err(|error| open_error(home, error))?;
        // Another process may have put another file in its place just before this one was locked.
        if fs::symlink_metadata(&path).is_ok_and(|now| now.ino() != metadata.ino()) {
            let holder = "a process that replaced it".to_owned();
            return Err(KeyspaceError::InUse { path: home.path().to_owned(), holder });
        }
        let header = read_header(&database.begin_read()?)?;
        // It is what a process left that was killed: who gives this keyspace a new root key holds it, and who makes
        // one here finds that there is one.
        let _left = Draft::clear(home);
        Ok(Self { header, database, pin: Pin::open(home)?, home: Some(home.clone()) })
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
        match wiped(|| self.open_with(passphrase, opening)) {
            Ok(Opened { root, service, accepted, has_other_records }) => {
                let mut unlocked =
                    Unlocked::new(self.database, Arc::new(root), &self.header, service, self.pin);
                unlocked.sums_anew = AtomicBool::new(has_other_records);
                unlocked.accepted = accepted;
                unlocked.home = self.home;
                if unlocked.accepted.is_none() {
                    // Made, and killed before it was noted.
                    unlocked.note(&self.header);
                }
                Ok(unlocked)
            }
            Err(error) => Err((Box::new(self), error)),
        }
    }

    fn open_with(
        &self,
        passphrase: &Passphrase,
        opening: Opening,
    ) -> Result<Opened, KeyspaceError> {
        let (_, root, _) = self.header.unlock(passphrase, opening.slot)?;
        let reading = self.database.begin_read()?;
        let sealed = read_meta(&reading, SERVICE)?;
        let sealed = sealed.ok_or_else(|| KeyspaceError::Damaged("no service key".to_owned()))?;
        let place = service_place(self.header.file_id);
        let seed = place.open(&root, self.header.generation, &sealed)?;
        let service = Service::of(Secret::copied(&seed)?)?;
        let mut faults = Vec::new();
        match self.pin.check(&self.header) {
            Err(KeyspaceError::Older(what)) => faults.push(what),
            checked => checked?,
        }
        // Also in a file that is known to be older: who restored it on purpose must hear that it was changed as well.
        let has_other_records = !are_of(&reading, &self.header, &root)?;
        if has_other_records {
            faults.push(OTHER_RECORDS.to_owned());
        }
        let accepted = (!faults.is_empty()).then(|| faults.join(", and "));
        match accepted {
            Some(what) if !opening.accept_older => Err(KeyspaceError::Older(what)),
            accepted => Ok(Opened { root, service, accepted, has_other_records }),
        }
    }
}

impl Service {
    pub(crate) fn of(seed: Secret<32>) -> Result<Self, KeyspaceError> {
        let public = sign::public_key(Algorithm::Ed25519, &seed)?;
        Ok(Self { nkey: nkey::public(nkey::SERVER, &public), seed })
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
        Self::create_at(home, passphrase, Cost::asked(cost)?, now)
    }

    /// The same at this cost.
    pub(crate) fn create_at(
        home: &Home,
        passphrase: &Passphrase,
        cost: Cost,
        now: u64,
    ) -> Result<Self, KeyspaceError> {
        let path = home.file(FILE);
        let (keys, header) = wiped(|| {
            let root = Secret::random()?;
            let keys = RootKeys::below(&root)?;
            let header = Header::create(passphrase, cost, &root, &keys, now)?;
            Ok::<_, KeyspaceError>((keys, header))
        })?;
        let (draft, database) = Draft::new(home)?;
        let unlocked = Self::found(database, keys, &header, Pin::none())?;
        // A link, unlike a rename, does not replace a keyspace that was made meanwhile.
        fs::hard_link(&draft.0, &path).map_err(|error| {
            if fs::symlink_metadata(&path).is_ok() {
                KeyspaceError::Exists(home.path().to_owned())
            } else {
                io_at(&path)(error)
            }
        })?;
        drop(draft);
        let pin = Pin::open(home).and_then(|pin| {
            pin.begin(&header)?;
            home.sync()?;
            Ok(pin)
        });
        let pin = pin.map_err(KeyspaceError::unconfirmed)?;
        Ok(Self { pin, home: Some(home.clone()), ..unlocked })
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

    /// From now on it is the one that was here last. To be said once it is on record that this was accepted: until
    /// then, whoever opens it again must accept it again.
    ///
    /// # Errors
    /// When that is not noted on disk.
    pub fn acknowledge(&self) -> Result<(), KeyspaceError> {
        self.pin.begin(&self.snapshot()?.header()?)?;
        self.home.as_ref().map_or(Ok(()), Home::sync)
    }

    /// Signs as the service.
    #[must_use]
    pub fn sign_as_service(&self, message: &[u8]) -> [u8; 64] {
        wiped(|| sign::ed25519(&self.service.seed, message))
    }

    /// Begins a session: what it changes is seen by it alone until it is committed.
    ///
    /// # Errors
    /// When the header cannot be read.
    pub fn stage(&self) -> Result<Staged<'_>, KeyspaceError> {
        // From the file, not from memory: a commit that is under way is not in it yet.
        Ok(Staged::new(self, self.snapshot()?.header()?.generation))
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
        let (service, root) = (Service::of(Secret::random()?)?, Arc::new(keys));
        let transaction = begin_write(&database)?;
        let mut writing = Writing::begin(&transaction, Arc::clone(&root), header.clone())?;
        writing.put_service(&service.seed)?;
        writing.finish(false)?;
        transaction.commit()?;
        Ok(Self::new(database, root, header, service, pin))
    }

    pub(crate) fn new(
        database: Database,
        root: Arc<RootKeys>,
        header: &Header,
        service: Service,
        pin: Pin,
    ) -> Self {
        let generation = AtomicU64::new(header.generation);
        let (root, file_id) = (RwLock::new(root), header.file_id);
        let (database, home) = (Shared::new(database), None);
        let (accepted, sums_anew) = (None, AtomicBool::new(false));
        Self { database, root, file_id, generation, pin, service, home, accepted, sums_anew }
    }
}

pub(crate) fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

pub(crate) fn service_place(file_id: [u8; 16]) -> Place<'static> {
    Place { file_id, kind: Kind::Service, id: SERVICE.as_bytes() }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "an enum of the storage library that grows")]
pub(crate) fn open_error(home: &Home, error: redb::DatabaseError) -> KeyspaceError {
    let path: &Path = home.path();
    match redb::Error::from(error) {
        redb::Error::DatabaseAlreadyOpen => {
            KeyspaceError::InUse { path: path.to_owned(), holder: home::holder(&home.file(FILE)) }
        }
        redb::Error::UpgradeRequired(_) => {
            KeyspaceError::Foreign("its database is of another version")
        }
        redb::Error::Io(source) if source.kind() == ErrorKind::InvalidData => {
            KeyspaceError::Foreign("it is not a database")
        }
        redb::Error::Io(source) if source.kind() == ErrorKind::UnexpectedEof => {
            KeyspaceError::Damaged("the file is cut short".to_owned())
        }
        redb::Error::Io(source) => io_at(&home.file(FILE))(source),
        other => other.into(),
    }
}
