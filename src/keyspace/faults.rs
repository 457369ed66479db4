//! A disk that fails, and power that goes, at each call of the storage in turn: what was there before is there,
//! or what was asked for is, and what was acknowledged is.

use std::sync::Arc;

use redb::ReadableDatabase;
use wire::Algorithm;
use wire::admin::Row;
use wire::operator::{Protection, SlotKind};

use crate::failing_disk::{Backend, FAULTS, Fault, disk, was_hit};
use crate::header::Header;
use crate::operator::Operator;
use crate::pin::Pin;
use crate::seal::{Cost, RootKeys};
use crate::secret::{Passphrase, Secret};
use crate::slot::Slot;
use crate::snapshot::{read_header, read_meta};
use crate::store::{SERVICE, Service, Unlocked, service_place};
use crate::tests::{name, path};
use crate::{Importing, KeyspaceError};

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(text.as_bytes().to_vec()).unwrap()
}

/// A keyspace with a few keys on such a disk, its root key, and what changes of it take.
struct Before {
    bytes: Vec<u8>,
    root: Secret<32>,
    bundle: Vec<u8>,
    /// A slot for the root key, so that changing a passphrase derives no key each time.
    backup: Slot,
    next_root: Secret<32>,
    /// The same for the next root key.
    next_slot: Slot,
}

fn before() -> Before {
    let (root, next_root) = (Secret::random().unwrap(), Secret::random().unwrap());
    let keys = RootKeys::below(&root).unwrap();
    let (operators, backups) = (passphrase("the operator's"), passphrase("the backup's"));
    let header = Header::create(&operators, Cost::LEAST, &root, &keys, 1).unwrap();
    let slot = |kind, passphrase, root| {
        Slot::wrap(kind, passphrase, Cost::LEAST, root, &header.file_id).unwrap()
    };
    let backup = slot(SlotKind::Backup, &backups, &root);
    let next_slot = slot(SlotKind::Operator, &operators, &next_root);
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
    Before { bytes, root, bundle, backup, next_root, next_slot }
}

/// At the end of a header.
const SUM_AND_TAG_BYTES: usize = 16 + 32 + 32;

/// Opens it with the root key that its header is of.
fn open(disk: &Backend, before: &Before) -> Result<Unlocked, KeyspaceError> {
    let database = redb::Database::builder().create_with_backend(disk.clone());
    let database = database.map_err(redb::Error::from)?;
    let (header, keys, service) = {
        let reading = database.begin_read()?;
        let header = read_header(&reading)?;
        let (old, next) = (RootKeys::below(&before.root)?, RootKeys::below(&before.next_root)?);
        let keys = if header.is_of(&old) { old } else { next };
        assert!(header.is_of(&keys), "the header is whole");
        let sealed = read_meta(&reading, SERVICE)?.unwrap();
        let seed = service_place(header.file_id).open(&keys, header.generation, &sealed)?;
        (header, keys, Service::of(Secret::copied(&seed)?)?)
    };
    Ok(Unlocked::new(database, Arc::new(keys), &header, service, Pin::none()))
}

/// All that is in a keyspace.
#[derive(Debug, Clone, PartialEq)]
struct State {
    /// What an operator is told of key spaces, keys and versions.
    rows: Vec<Row>,
    service: String,
    generation: u64,
    /// The header without generation, sum and tag, which another root key and each commit make anew.
    header: Vec<u8>,
}

impl State {
    /// The same with public keys that are not in the other as if they were one: they are random.
    fn beside(mut self, old: &Self) -> Self {
        for row in &mut self.rows {
            if old.rows.contains(row) {
                continue;
            }
            let Row::Version { public, .. } = row else { continue };
            let has_it =
                |old: &Row| matches!(old, Row::Version { public: old, .. } if old == public);
            if !old.rows.iter().any(has_it) {
                *public = "new".to_owned();
            }
        }
        self
    }
}

fn told(keyspace: &Unlocked) -> State {
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
    let whole = operator.header().unwrap();
    let mut header = whole.to_bytes();
    header.truncate(header.len() - SUM_AND_TAG_BYTES);
    header.drain(24..32);
    let service = keyspace.service_nkey().to_owned();
    State { rows, service, generation: whole.generation, header }
}

fn told_of(bytes: &[u8], before: &Before) -> State {
    told(&open(&disk(bytes), before).unwrap())
}

type Change = fn(&Operator<'_>, &Before) -> Result<(), KeyspaceError>;

const CHANGES: [(&str, Change); 7] = [
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
    ("passwd", |operator, before| {
        operator.put_slot(before.backup.clone(), &RootKeys::below(&before.root)?)
    }),
];

/// What was there, and what is there after a change that nothing disturbs.
fn old_and_new(before: &Before, change: Change) -> (State, State) {
    let old = told_of(&before.bytes, before);
    let disk = disk(&before.bytes);
    let keyspace = open(&disk, before).unwrap();
    change(&keyspace.as_operator(), before).unwrap();
    let new = told(&keyspace).beside(&old);
    assert_ne!(new, old);
    assert_eq!(new.generation, old.generation + 1);
    (old, new)
}

#[test]
fn a_fault_at_any_call_of_the_storage_leaves_old_or_new_and_what_was_acknowledged() {
    let before = before();
    for (what, change) in CHANGES {
        let (old, new) = old_and_new(&before, change);
        for fault in FAULTS {
            let mut reached = 0;
            for turn in 0.. {
                let disk = disk(&before.bytes);
                let keyspace = open(&disk, &before).unwrap();
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
                let after = told_of(&left, &before).beside(&old);
                assert!(after == old || after == new, "{what} {fault:?} at {turn}: {after:#?}");
                assert!(after == new || !acknowledged, "{what} {fault:?} at {turn}: lost");
            }
            assert!(reached > 3, "{what} {fault:?}: {reached} calls");
        }
    }
}

#[test]
fn a_fault_while_closing_leaves_what_was_acknowledged() {
    let before = before();
    for (what, change) in CHANGES {
        let (old, new) = old_and_new(&before, change);
        for fault in FAULTS {
            let mut reached = 0;
            for turn in 0.. {
                let disk = disk(&before.bytes);
                let keyspace = open(&disk, &before).unwrap();
                change(&keyspace.as_operator(), &before).unwrap();
                disk.0.lock().unwrap().left = Some((turn, fault));
                drop(keyspace);
                let after = told_of(&disk.0.lock().unwrap().left_over(), &before).beside(&old);
                assert_eq!(after, new, "{what} {fault:?} at {turn}");
                if !was_hit(&disk, fault) {
                    break;
                }
                reached += 1;
            }
            assert!(reached > 0, "{what} {fault:?}: closing calls nothing");
        }
    }
}

/// What a power cut leaves at each call of a change, each once.
fn left_by_power(before: &Before, change: Change) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for seed in 0..4 {
        for turn in 0.. {
            let disk = disk(&before.bytes);
            let keyspace = open(&disk, before).unwrap();
            disk.0.lock().unwrap().left = Some((turn, Fault::Power(seed)));
            let _done = change(&keyspace.as_operator(), before);
            if !was_hit(&disk, Fault::Power(seed)) {
                break;
            }
            all.push(disk.0.lock().unwrap().left_over());
        }
    }
    all.sort();
    all.dedup();
    all
}

#[test]
fn a_fault_while_a_file_is_repaired_after_a_power_cut_leaves_what_it_was() {
    let before = before();
    for (what, change) in CHANGES {
        let left = left_by_power(&before, change);
        let mut reached = 0;
        for (number, bytes) in left.iter().enumerate() {
            let expected = told_of(bytes, &before);
            for fault in FAULTS {
                for turn in 0.. {
                    let disk = disk(bytes);
                    disk.0.lock().unwrap().left = Some((turn, fault));
                    let opened = open(&disk, &before);
                    if !was_hit(&disk, fault) {
                        disk.0.lock().unwrap().left = None;
                        assert_eq!(told(&opened.unwrap()), expected, "{what}, file {number}");
                        break;
                    }
                    reached += 1;
                    drop(opened);
                    let left = disk.0.lock().unwrap().left_over();
                    let after = told_of(&left, &before);
                    assert_eq!(after, expected, "{what}, file {number}, {fault:?} at {turn}");
                }
            }
        }
        assert!(left.len() > 3 && reached > 50 * left.len(), "{what}: {reached} calls");
    }
}

/// Writes everything anew under the next root key.
fn write_anew(keyspace: &Unlocked, to: &Backend, before: &Before) -> Result<(), KeyspaceError> {
    let database = redb::Database::builder().create_with_backend(to.clone());
    let database = database.map_err(redb::Error::from)?;
    let root = Arc::new(RootKeys::below(&before.next_root)?);
    let written = keyspace.write_anew(&database, &root, before.next_slot.clone(), |_, _| {});
    written.map(drop)
}

#[test]
fn a_fault_while_all_is_written_anew_leaves_the_old_file_and_a_whole_new_one_or_none() {
    let before = before();
    let (old, whole) = (told_of(&before.bytes, &before), disk(&[]));
    write_anew(&open(&disk(&before.bytes), &before).unwrap(), &whole, &before).unwrap();
    let new = told_of(&whole.0.lock().unwrap().bytes.clone(), &before);
    assert_eq!((&new.rows, &new.service), (&old.rows, &old.service));
    assert_eq!(new.generation, old.generation + 1);
    // The old file, which is read, and the new one, which is written.
    for fails in ["old", "new"] {
        for fault in FAULTS {
            let mut reached = 0;
            for turn in 0.. {
                let (from, to) = (disk(&before.bytes), disk(&[]));
                let keyspace = open(&from, &before).unwrap();
                let failing = if fails == "old" { &from } else { &to };
                failing.0.lock().unwrap().left = Some((turn, fault));
                let written = write_anew(&keyspace, &to, &before);
                let was_hit = was_hit(failing, fault);
                drop(keyspace);
                let left = from.0.lock().unwrap().left_over();
                assert_eq!(told_of(&left, &before), old, "{fails} {fault:?} at {turn}");
                if written.is_ok() {
                    let left = to.0.lock().unwrap().left_over();
                    assert_eq!(told_of(&left, &before), new, "{fails} {fault:?} at {turn}");
                }
                if !was_hit {
                    written.unwrap();
                    break;
                }
                reached += 1;
            }
            assert!(reached > 0 || fails == "old", "{fails} {fault:?}: {reached} calls");
        }
    }
}

/// What the faults above leave in the header is what these open.
#[test]
fn the_slots_that_are_written_here_open_with_their_passphrases() {
    let before = before();
    let disk = disk(&before.bytes);
    let keyspace = open(&disk, &before).unwrap();
    let operator = keyspace.as_operator();
    operator.put_slot(before.backup.clone(), &RootKeys::below(&before.root).unwrap()).unwrap();
    for word in ["the operator's", "the backup's"] {
        operator.unlocked_header(&passphrase(word)).unwrap();
    }
    let keys = RootKeys::below(&before.next_root).unwrap();
    keyspace.renew(keys, before.next_slot.clone(), |_, _| {}).unwrap();
    operator.unlocked_header(&passphrase("the operator's")).unwrap();
}

/// The last call of a commit, whatever it is, may have reached the disk although it failed.
#[test]
fn a_commit_that_the_disk_does_not_confirm_is_not_said_to_have_changed_nothing() {
    let before = before();
    let calls = {
        let disk = disk(&before.bytes);
        let keyspace = open(&disk, &before).unwrap();
        let first = disk.0.lock().unwrap().calls;
        keyspace.as_operator().new_space(&name("b"), 2).unwrap();
        let last = disk.0.lock().unwrap().calls;
        last - first
    };
    let disk = disk(&before.bytes);
    let keyspace = open(&disk, &before).unwrap();
    disk.0.lock().unwrap().left = Some((calls - 1, Fault::Broken));
    let told = keyspace.as_operator().new_space(&name("b"), 2).unwrap_err().to_string();
    assert!(told.contains("may or may not have been made"), "{told}");
}
