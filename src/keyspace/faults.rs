//! A disk that fails, and power that goes, at each call of the storage in turn: what was there before is there,
//! or what was asked for is, and what was acknowledged is.

use std::sync::{Arc, Mutex};

use redb::{ReadableDatabase, StorageBackend};
use wire::Algorithm;
use wire::admin::Row;
use wire::operator::{KdfCost, Protection, SlotKind};

use crate::header::Header;
use crate::operator::Operator;
use crate::pin::Pin;
use crate::seal::{Cost, RootKeys};
use crate::secret::{Passphrase, Secret};
use crate::snapshot::{read_header, read_meta};
use crate::store::{Opening, SERVICE, Service, Unlocked, service_place};
use crate::tests::{name, path};
use crate::{Importing, KeyspaceError, Locked};

/// What happens at the call whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// The disk is full.
    Full,
    /// The disk gives an error.
    Broken,
    /// Half of what was to be written is, then an error.
    Short,
    /// The power goes: of what was written since the last sync, what the number says is on disk.
    Power(u64),
}

const FAULTS: [Fault; 6] =
    [Fault::Full, Fault::Broken, Fault::Short, Fault::Power(0), Fault::Power(1), Fault::Power(7)];

/// A disk in memory, of which the writes since the last sync are known.
#[derive(Debug, Default)]
struct Disk {
    bytes: Vec<u8>,
    synced: Vec<u8>,
    pending: Vec<(usize, Vec<u8>)>,
    /// Calls until the fault; `None` when there is none.
    left: Option<(u64, Fault)>,
    is_dead: bool,
    calls: u64,
}

#[derive(Debug, Clone)]
struct Backend(Arc<Mutex<Disk>>);

impl Disk {
    /// Whether this call fails, and how.
    fn next(&mut self) -> Result<(), Fault> {
        self.calls += 1;
        if self.is_dead {
            return Err(Fault::Broken);
        }
        match &mut self.left {
            Some((0, fault)) => {
                let fault = *fault;
                self.is_dead = matches!(fault, Fault::Power(_));
                if !self.is_dead {
                    self.left = None;
                }
                Err(fault)
            }
            Some((left, _)) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn put(bytes: &mut [u8], at: usize, data: &[u8]) {
        bytes[at..at + data.len()].copy_from_slice(data);
    }

    /// What is on disk after the power went.
    fn left_over(&self) -> Vec<u8> {
        let Some((_, Fault::Power(seed))) = self.left else { return self.bytes.clone() };
        let mut bytes = self.synced.clone();
        bytes.resize(self.bytes.len().max(bytes.len()), 0);
        let mut state = seed;
        for (at, data) in &self.pending {
            // Some arrive and some do not, in no order that matters to them; with 0 none does.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(seed);
            if state >> 63 == 1 {
                Self::put(&mut bytes, *at, data);
            }
        }
        bytes
    }
}

fn error(fault: Fault) -> std::io::Error {
    // ENOSPC and EIO.
    std::io::Error::from_raw_os_error(if fault == Fault::Full { 28 } else { 5 })
}

fn offset(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}

impl StorageBackend for Backend {
    fn len(&self) -> Result<u64, std::io::Error> {
        Ok(self.0.lock().unwrap().bytes.len() as u64)
    }

    fn read(&self, at: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        let mut disk = self.0.lock().unwrap();
        disk.next().map_err(error)?;
        out.copy_from_slice(&disk.bytes[offset(at)..offset(at) + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        let mut disk = self.0.lock().unwrap();
        disk.next().map_err(error)?;
        disk.bytes.resize(offset(len), 0);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), std::io::Error> {
        let mut disk = self.0.lock().unwrap();
        disk.next().map_err(error)?;
        disk.synced = disk.bytes.clone();
        disk.pending.clear();
        Ok(())
    }

    fn write(&self, at: u64, data: &[u8]) -> Result<(), std::io::Error> {
        let mut disk = self.0.lock().unwrap();
        let turn = disk.next();
        let data = match turn {
            Ok(()) => data,
            Err(Fault::Short) => &data[..data.len() / 2],
            Err(fault) => return Err(error(fault)),
        };
        let Disk { bytes, pending, .. } = &mut *disk;
        Disk::put(bytes, offset(at), data);
        pending.push((offset(at), data.to_vec()));
        turn.map_err(error)
    }
}

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(text.as_bytes().to_vec()).unwrap()
}

/// A keyspace with a few keys on such a disk, and its root key.
struct Before {
    bytes: Vec<u8>,
    root: Secret<32>,
    bundle: Vec<u8>,
}

fn before() -> Before {
    let root = Secret::random().unwrap();
    let keys = RootKeys::below(&root).unwrap();
    let header =
        Header::create(&passphrase("the operator's"), Cost::WRITTEN, &root, &keys, 1).unwrap();
    let disk = Backend(Arc::default());
    let database = redb::Database::builder().create_with_backend(disk.clone()).unwrap();
    let keyspace = Unlocked::found(database, keys, &header, Pin::none()).unwrap();
    let operator = keyspace.as_operator();
    operator.new_space(&name("a"), 1).unwrap();
    for key in ["a/k1", "a/k2", "a/k3"] {
        operator.new_key(&path(key), Algorithm::Ed25519, 1).unwrap();
    }
    let mut bundle = Vec::new();
    let to = Protection::Recipients(vec![operator.recipient().unwrap()]);
    operator.export(&[], &to, &mut bundle, |_, _| {}).unwrap();
    drop(keyspace);
    let bytes = disk.0.lock().unwrap().bytes.clone();
    Before { bytes, root, bundle }
}

fn disk(bytes: &[u8]) -> Backend {
    let (bytes, synced) = (bytes.to_vec(), bytes.to_vec());
    Backend(Arc::new(Mutex::new(Disk { bytes, synced, ..Disk::default() })))
}

fn open(disk: &Backend, root: &Secret<32>) -> Result<Unlocked, KeyspaceError> {
    let database = redb::Database::builder().create_with_backend(disk.clone());
    let database = database.map_err(redb::Error::from)?;
    let keys = RootKeys::below(root)?;
    let (header, service) = {
        let reading = database.begin_read()?;
        let header = read_header(&reading)?;
        assert!(header.is_of(&keys), "the header is whole");
        let sealed = read_meta(&reading, SERVICE)?.unwrap();
        let seed = service_place(header.file_id).open(&keys, header.generation, &sealed)?;
        (header, Service::of(Secret::copied(&seed)?)?)
    };
    Ok(Unlocked::new(database, keys, &header, service, Pin::none()))
}

/// Everything that an operator is told of it.
fn told(keyspace: &Unlocked) -> Vec<Row> {
    let operator = keyspace.as_operator();
    operator.verify(|_, _| {}).unwrap();
    let mut keys = Vec::new();
    let listed = operator.keys(None, |row| {
        if let Row::Key(row) = row {
            keys.push(row.key);
        }
        Ok(())
    });
    listed.unwrap();
    keys.sort();
    let mut rows = Vec::new();
    for space in keyspace.spaces().unwrap() {
        rows.push(Row::Space(operator.space(&space).unwrap()));
    }
    for key in keys {
        operator
            .key(&key, |row| {
                rows.push(row);
                Ok(())
            })
            .unwrap();
    }
    rows
}

type Change = fn(&Operator<'_>, &Before) -> Result<(), KeyspaceError>;

const CHANGES: [(&str, Change); 6] = [
    ("create", |operator, _| operator.new_key(&path("a/k4"), Algorithm::P256, 2)),
    ("rotate", |operator, _| operator.rotate_key(&path("a/k2"), 2).map(drop)),
    ("rename", |operator, _| operator.rename_space(&name("a"), &name("b")).map(drop)),
    ("delete", |operator, _| operator.delete_space(&name("a"), u64::MAX).map(drop)),
    ("disable", |operator, _| operator.enable_key(&path("a/k3"), false)),
    ("import", |operator, before| {
        let importing = Importing { rename: Some(name("c")), skip_existing: false };
        let mut source = std::io::Cursor::new(&before.bundle);
        operator.import(&mut source, None, &importing, |_| {}).map(drop)
    }),
];

#[test]
fn a_fault_at_any_call_of_the_storage_leaves_old_or_new_and_what_was_acknowledged() {
    let before = before();
    let old = told(&open(&disk(&before.bytes), &before.root).unwrap());
    for (what, change) in CHANGES {
        let new = {
            let keyspace = open(&disk(&before.bytes), &before.root).unwrap();
            change(&keyspace.as_operator(), &before).unwrap();
            // New public keys are other ones each time.
            told(&keyspace).len()
        };
        for fault in FAULTS {
            let mut reached = 0;
            for turn in 0.. {
                let disk = disk(&before.bytes);
                let keyspace = open(&disk, &before.root).unwrap();
                disk.0.lock().unwrap().left = Some((turn, fault));
                let done = change(&keyspace.as_operator(), &before);
                if !was_hit(&disk, fault) {
                    done.unwrap();
                    break;
                }
                reached += 1;
                let acknowledged = done.is_ok();
                if let Err(error) = &done {
                    let text = error.to_string();
                    assert!(text.contains("keyspace storage: "), "{what} {fault:?} {turn}: {text}");
                }
                let left = disk.0.lock().unwrap().left_over();
                drop(keyspace);
                let after = told(&open(&self::disk(&left), &before.root).unwrap());
                let (is_old, is_new) = (after == old, after.len() == new && after != old);
                assert!(is_old || is_new, "{what} {fault:?} at {turn}: {after:#?}");
                assert!(is_new || !acknowledged, "{what} {fault:?} at {turn}: lost");
            }
            assert!(reached > 3, "{what} {fault:?}: {reached} calls");
        }
    }
}

fn was_hit(disk: &Backend, fault: Fault) -> bool {
    let disk = disk.0.lock().unwrap();
    if matches!(fault, Fault::Power(_)) { disk.is_dead } else { disk.left.is_none() }
}

/// The same of what rewrites the header, where each look takes a key derivation: one fault at each call.
#[test]
fn a_fault_while_passphrases_change_leaves_the_old_ones_or_the_new() {
    let before = before();
    let operators = passphrase("the operator's");
    type Change = fn(&Operator<'_>, &Passphrase) -> Result<(), KeyspaceError>;
    let passwd: Change = |operator, current| {
        let new = passphrase("the backup's");
        operator.set_passphrase(current, SlotKind::Backup, &new, KdfCost::Standard)
    };
    let rotate: Change = |operator, current| operator.rotate_root(current, |_, _| {}).map(drop);
    let old = told(&open(&disk(&before.bytes), &before.root).unwrap());
    for (what, change, is_new) in [
        ("passwd", passwd, (|locked| opens(locked, "the backup's")) as fn(Locked) -> bool),
        ("rotate", rotate, |locked| locked.header.generation > 5),
    ] {
        let mut reached = 0;
        for turn in 0.. {
            let disk = disk(&before.bytes);
            let keyspace = open(&disk, &before.root).unwrap();
            let fault = FAULTS[reached % FAULTS.len()];
            disk.0.lock().unwrap().left = Some((turn, fault));
            let done = change(&keyspace.as_operator(), &operators);
            if !was_hit(&disk, fault) {
                done.unwrap();
                break;
            }
            reached += 1;
            let left = disk.0.lock().unwrap().left_over();
            drop(keyspace);
            let locked = |bytes: &[u8]| {
                let database = redb::Database::builder().create_with_backend(self::disk(bytes));
                let database = database.unwrap();
                let header = read_header(&database.begin_read().unwrap()).unwrap();
                Locked { database, header, pin: Pin::none(), home: None }
            };
            assert!(is_new(locked(&left)) || done.is_err(), "{what} {fault:?} at {turn}: lost");
            let opened = locked(&left).unlock(&operators, Opening::default()).unwrap();
            assert_eq!(told(&opened), old, "{what} {fault:?} at {turn}");
        }
        assert!(reached > 3, "{what}: {reached} calls");
    }
}

fn opens(locked: Locked, text: &str) -> bool {
    locked.unlock(&passphrase(text), Opening::default()).is_ok()
}

/// The last call of a commit, whatever it is, may have reached the disk although it failed.
#[test]
fn a_commit_that_the_disk_does_not_confirm_is_not_said_to_have_changed_nothing() {
    let before = before();
    let calls = {
        let disk = disk(&before.bytes);
        let keyspace = open(&disk, &before.root).unwrap();
        let first = disk.0.lock().unwrap().calls;
        keyspace.as_operator().new_space(&name("b"), 2).unwrap();
        let last = disk.0.lock().unwrap().calls;
        last - first
    };
    let disk = disk(&before.bytes);
    let keyspace = open(&disk, &before.root).unwrap();
    disk.0.lock().unwrap().left = Some((calls - 1, Fault::Broken));
    let told = keyspace.as_operator().new_space(&name("b"), 2).unwrap_err().to_string();
    assert!(told.contains("may or may not have been made"), "{told}");
}
