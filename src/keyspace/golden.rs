//! `tests/vectors/keyspaces`: database files of this version that open for ever, and ones that never do.
//! `REMAKE_GOLDEN_KEYSPACES=1` makes those that are missing and fails. Those of header version 1 are without a prefix and
//! can be made no more; those of version 2, which has a sum over the records, begin with `v2-`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use data_encoding::BASE64;
use tempfile::TempDir;
use wire::Algorithm;
use wire::operator::{KdfCost, SlotKind};

use crate::header::Header;
use crate::listing::{listing, said};
use crate::record::Kind;
use crate::secret::Passphrase;
use crate::store::{HEADER, KEYS, META, Opening, SERVICE, SPACES, Unlocked};
use crate::tests::{name, path};
use crate::{Home, KeyspaceError, Locked};

const PASSPHRASE: &str = "a passphrase of the vectors";
/// Bytes of a line.
const ROW: usize = 48;
/// How many there are, so that none goes unnoticed.
const GOOD: usize = 4;
const BAD: usize = 65;
const REMAKE: &str = "REMAKE_GOLDEN_KEYSPACES";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/keyspaces")
}

fn passphrase() -> Passphrase {
    Passphrase::new(PASSPHRASE.as_bytes().to_vec()).unwrap()
}

/// What the head of a vector says, and its bytes: rows that are not those of its base, or not zeros.
struct Vector {
    head: BTreeMap<String, String>,
    bytes: Vec<u8>,
}

fn read(name: &str) -> Vector {
    let text = fs::read_to_string(folder().join(format!("{name}.txt"))).unwrap();
    let (head, body) = text.split_once("\n\n").unwrap();
    let head: BTreeMap<_, _> = head
        .lines()
        .map(|line| line.split_once(": ").unwrap())
        .map(|(word, value)| (word.to_owned(), value.to_owned()))
        .collect();
    let mut bytes = head.get("base").map_or_else(Vec::new, |base| read(base).bytes);
    bytes.resize(head["bytes"].parse().unwrap(), 0);
    for line in body.lines() {
        let (at, row) = line.split_once(' ').unwrap();
        let (at, row): (usize, _) = (at.parse().unwrap(), BASE64.decode(row.as_bytes()).unwrap());
        bytes[at..at + row.len()].copy_from_slice(&row);
    }
    Vector { head, bytes }
}

/// A home with this file and no note of how far it was.
fn home_with(bytes: &[u8]) -> (TempDir, Home) {
    let folder = TempDir::new().unwrap();
    let home = Home::create(&folder.path().join("home")).unwrap();
    let file = home.file("keyspace.redb");
    fs::write(&file, bytes).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    (folder, home)
}

fn open(home: &Home) -> Result<Unlocked, KeyspaceError> {
    Locked::open(home)?.unlock(&passphrase(), Opening { slot: None, accept_older: true })
}

/// Opens it, and every record in it: how many there are of each kind, and all that is told of them.
fn told(home: &Home) -> Result<Vec<String>, KeyspaceError> {
    let keyspace = open(home)?;
    let found = keyspace.as_operator().verify(|_, _| {})?;
    let counts = [format!("spaces: {}", found.spaces), format!("keys: {}", found.keys)];
    let service = format!("service: {}", keyspace.service_nkey());
    Ok([counts.to_vec(), vec![service], listing(&keyspace)].concat())
}

/// The same as the head of a good one has it.
fn said_by(head: &BTreeMap<String, String>) -> Vec<String> {
    let counts = ["spaces", "keys", "service"].map(|word| format!("{word}: {}", head[word]));
    [counts.to_vec(), said(head)].concat()
}

#[test]
fn keyspaces_of_this_version_open_for_ever_and_bad_ones_never() {
    if std::env::var_os(REMAKE).is_some() {
        make();
        panic!("missing vectors were made, and nothing was tested: run it without `{REMAKE}`");
    }
    let (mut good, mut bad) = (0, 0);
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let vector = read(&name);
        let (_folder, home) = home_with(&vector.bytes);
        let told = told(&home);
        match vector.head["expect"].as_str() {
            "opens" => {
                good += 1;
                assert_eq!(told.unwrap(), said_by(&vector.head), "{name}");
            }
            "refused" => {
                bad += 1;
                let error = told.expect_err(&name).to_string();
                assert!(error.contains(&vector.head["says"]), "{name}: {error}");
            }
            other => panic!("{name}: {other}"),
        }
    }
    assert_eq!((good, bad), (GOOD, BAD), "vectors are missing, or new ones are not counted yet");
}

#[test]
fn the_first_commit_to_a_keyspace_of_version_1_gives_it_a_sum_over_its_records() {
    let version = |keyspace: &Unlocked| header(keyspace)[4..6].to_vec();
    let (_folder, home) = home_with(&read("every-kind-of-key").bytes);
    let keyspace = open(&home).unwrap();
    assert_eq!(version(&keyspace), [0, 1], "opening it writes nothing");
    let again = || Locked::open(&home).unwrap().unlock(&passphrase(), Opening::default());
    let id = keyspace.root().key_id(&path("team/p256"));
    let before = rows(&keyspace).into_iter().find(|row| row.1 == id).unwrap();
    keyspace.as_operator().enable_key(&path("team/p256"), true).unwrap();
    assert_eq!(version(&keyspace), [0, 2]);
    drop(keyspace);
    let keyspace = again().unwrap();
    keyspace.as_operator().verify(|_, _| {}).unwrap();
    put(&keyspace, "keys", &id, Some(&before.2));
    drop(keyspace);
    assert!(matches!(again(), Err(KeyspaceError::Older(_))), "put back");
}

/// Version 1 has no sum, which would have refused it at once.
#[test]
fn a_record_that_is_cut_short_does_not_stand_in_the_way_of_a_keyspace_of_version_1() {
    let (_folder, home) = home_with(&read("every-kind-of-key").bytes);
    let keyspace = open(&home).unwrap();
    let operator = keyspace.as_operator();
    put(&keyspace, "keys", &keyspace.root().key_id(&path("team/p256")), Some(&[0; 31]));
    let refused = operator.enable_key(&path("team/p256"), true);
    assert!(matches!(refused, Err(KeyspaceError::Damaged(_))));
    operator.destroy_key(&path("team/p256"), 1).unwrap();
    operator.verify(|_, _| {}).unwrap();
    assert_eq!(header(&keyspace)[4..6], [0, 2]);
}

/// What is there stays: it must open, or be refused, for ever.
fn write(name: &str, head: &str, base: Option<&[u8]>, bytes: &[u8]) {
    let file = folder().join(format!("{name}.txt"));
    if file.exists() {
        return;
    }
    let mut text = format!("{head}bytes: {}\n\n", bytes.len());
    for (number, row) in bytes.chunks(ROW).enumerate() {
        let at = number * ROW;
        let before = base.and_then(|base| base.get(at..at + row.len()));
        let is_same =
            before.map_or_else(|| row.iter().all(|byte| *byte == 0), |before| before == row);
        if !is_same {
            writeln!(text, "{at} {}", BASE64.encode(row)).unwrap();
        }
    }
    fs::write(file, text).unwrap();
}

/// A keyspace as an operator makes one.
fn made(fill: impl FnOnce(&Unlocked)) -> (TempDir, Home) {
    let folder = TempDir::new().unwrap();
    let home = Home::create(&folder.path().join("home")).unwrap();
    fill(&Unlocked::create(&home, &passphrase(), KdfCost::Standard, 1_700_000_000).unwrap());
    (folder, home)
}

fn file(home: &Home) -> Vec<u8> {
    fs::read(home.file("keyspace.redb")).unwrap()
}

fn fill(keyspace: &Unlocked) {
    let operator = keyspace.as_operator();
    for space in ["team", "empty"] {
        operator.new_space(&name(space), 1_700_000_001).unwrap();
    }
    for algorithm in Algorithm::ALL {
        operator.new_key(&path(&format!("team/{algorithm}")), *algorithm, 1_700_000_002).unwrap();
    }
    operator.rotate_key(&path("team/ed25519"), 1_700_000_003).unwrap();
    operator.enable_key(&path("team/p256"), false).unwrap();
    operator.delete_key(&path("team/x25519"), 86_400, 1_700_000_004).unwrap();
    let backup = Passphrase::new(b"the backup of the vectors".to_vec()).unwrap();
    operator.set_passphrase(&passphrase(), SlotKind::Backup, &backup, KdfCost::Standard).unwrap();
}

type Row = (&'static str, Vec<u8>, Vec<u8>);

/// Every row of the tables by table and id.
fn rows(keyspace: &Unlocked) -> Vec<Row> {
    use redb::ReadableTable;
    let reading = keyspace.database.begin_read().unwrap();
    let mut rows = Vec::new();
    for (word, table) in [("spaces", SPACES), ("keys", KEYS)] {
        for entry in reading.open_table(table).unwrap().iter().unwrap() {
            let (id, sealed) = entry.unwrap();
            rows.push((word, id.value().to_vec(), sealed.value().to_vec()));
        }
    }
    rows
}

/// Puts these in the place of what is there; nothing takes a row away.
fn put(keyspace: &Unlocked, table: &str, id: &[u8], value: Option<&[u8]>) {
    let writing = keyspace.database.begin_write(&keyspace.database.turn()).unwrap();
    if table == "meta" {
        let mut meta = writing.open_table(META).unwrap();
        let id = std::str::from_utf8(id).unwrap();
        match value {
            Some(value) => drop(meta.insert(id, value).unwrap()),
            None => drop(meta.remove(id).unwrap()),
        }
    } else {
        let mut table = writing.open_table(if table == "keys" { KEYS } else { SPACES }).unwrap();
        match value {
            Some(value) => drop(table.insert(id, value).unwrap()),
            None => drop(table.remove(id).unwrap()),
        }
    }
    writing.commit().unwrap();
}

fn header(keyspace: &Unlocked) -> Vec<u8> {
    let reading = keyspace.database.begin_read().unwrap();
    crate::snapshot::read_meta(&reading, HEADER).unwrap().unwrap()
}

#[expect(clippy::too_many_lines, reason = "one bad file after another")]
fn make() {
    fs::create_dir_all(folder()).unwrap();
    let open_head = |home: &Home| {
        let told = told(home).unwrap().join("\n");
        format!("expect: opens\npassphrase: {PASSPHRASE}\n{told}\n")
    };
    let (_one, one) = made(|keyspace| {
        keyspace.as_operator().new_space(&name("a"), 1).unwrap();
        keyspace.as_operator().new_key(&path("a/k"), Algorithm::Ed25519, 1).unwrap();
    });
    write("v2-one-key", &open_head(&one), None, &file(&one));
    let (_all, all) = made(fill);
    write("v2-every-kind-of-key", &open_head(&all), None, &file(&all));
    let good = read("v2-every-kind-of-key").bytes;
    let others = rows(&open(&one).unwrap());
    let bad = |word: &str, says: &str, spoil: &dyn Fn(&Unlocked)| {
        let (_folder, home) = home_with(&good);
        spoil(&open(&home).unwrap());
        let head = format!(
            "expect: refused\nsays: {says}\npassphrase: {PASSPHRASE}\nbase: v2-every-kind-of-key\n"
        );
        write(&format!("v2-{word}"), &head, Some(&good), &file(&home));
    };
    let in_header = |at: usize, bytes: &'static [u8]| {
        move |keyspace: &Unlocked| {
            let mut header = header(keyspace);
            header[at..at + bytes.len()].copy_from_slice(bytes);
            put(keyspace, "meta", HEADER.as_bytes(), Some(&header));
        }
    };
    bad("other-magic", "it does not begin as one", &in_header(0, b"CCKT"));
    bad("version-3", "another version or suite", &in_header(4, &[0, 3]));
    bad("version-1", "bad header", &in_header(4, &[0, 1]));
    bad("suite-2", "another version or suite", &in_header(6, &[0, 2]));
    bad("other-file-id", "passphrase is wrong", &in_header(8, &[0; 16]));
    bad("generation-raised", "passphrase is wrong", &in_header(31, &[99]));
    bad("time-changed", "passphrase is wrong", &in_header(39, &[7]));
    bad("no-slot", "bad header", &in_header(40, &[0, 0, 0, 0]));
    bad("nine-slots", "bad header", &in_header(40, &[0, 0, 0, 9]));
    bad("slot-of-no-kind", "bad header", &in_header(44, &[0]));
    bad("slot-of-kind-4", "bad header", &in_header(44, &[4]));
    bad("two-slots-of-a-kind", "bad header", &in_header(44, &[2]));
    bad("memory-too-small", "cost out of bounds", &in_header(53, &[0, 0, 75, 255]));
    bad("memory-too-large", "cost out of bounds", &in_header(53, &[0, 16, 0, 1]));
    bad("one-pass", "cost out of bounds", &in_header(57, &[0, 0, 0, 1]));
    bad("nine-lanes", "cost out of bounds", &in_header(61, &[0, 0, 0, 9]));
    bad("two-slots-too-dear", "cost out of bounds", &|keyspace| {
        let mut header = header(keyspace);
        for slot in [44, 44 + 109] {
            header[slot + 9..slot + 17].fill(0xff);
        }
        put(keyspace, "meta", HEADER.as_bytes(), Some(&header));
    });
    bad("cost-of-another-slot", "passphrase is wrong", &in_header(55, &[128, 0]));
    bad("tag-changed", "passphrase is wrong", &|keyspace| {
        let mut header = header(keyspace);
        *header.last_mut().unwrap() ^= 1;
        put(keyspace, "meta", HEADER.as_bytes(), Some(&header));
    });
    bad("sum-changed", "passphrase is wrong", &|keyspace| {
        let mut header = header(keyspace);
        // The last byte before the tag.
        let at = header.len() - 33;
        header[at] ^= 1;
        put(keyspace, "meta", HEADER.as_bytes(), Some(&header));
    });
    bad("header-with-more", "bad header", &|keyspace| {
        let header = [header(keyspace), vec![0]].concat();
        put(keyspace, "meta", HEADER.as_bytes(), Some(&header));
    });
    bad("header-gone", "it has no header", &|keyspace| {
        put(keyspace, "meta", HEADER.as_bytes(), None);
    });
    bad("service-gone", "no service key", &|keyspace| {
        put(keyspace, "meta", SERVICE.as_bytes(), None);
    });
    bad("a-key-in-anothers-place", "a record does not open", &|keyspace| {
        let rows = rows(keyspace);
        let keys: Vec<_> = rows.iter().filter(|row| row.0 == "keys").collect();
        put(keyspace, "keys", &keys[0].1, Some(&keys[1].2));
    });
    bad("a-key-of-another-file", "a record does not open", &|keyspace| {
        let rows = rows(keyspace);
        let ours = rows.iter().find(|row| row.0 == "keys").unwrap();
        let theirs = others.iter().find(|row| row.0 == "keys").unwrap();
        put(keyspace, "keys", &ours.1, Some(&theirs.2));
    });
    bad("a-key-space-as-a-key", "a record does not open", &|keyspace| {
        let rows = rows(keyspace);
        let key = rows.iter().find(|row| row.0 == "keys").unwrap();
        put(keyspace, "keys", &key.1, Some(&rows[0].2));
    });
    bad("a-key-of-a-later-generation", "a record does not open", &|keyspace| {
        let root = keyspace.root();
        let record = keyspace.key(&path("team/p256")).unwrap().unwrap();
        let id = &root.key_id(&record.path);
        let generation = Header::parse(&header(keyspace)).unwrap().generation + 1;
        let place = crate::record::Place { file_id: keyspace.file_id, kind: Kind::Key, id };
        put(keyspace, "keys", id, Some(&place.seal(&root, generation, &record.put()).unwrap()));
    });
    bad("a-key-that-says-another-name", "stands in another's place", &|keyspace| {
        let root = keyspace.root();
        let record = keyspace.key(&path("team/p256")).unwrap().unwrap();
        let id = root.key_id(&path("team/ed25519"));
        let place = crate::record::Place { file_id: keyspace.file_id, kind: Kind::Key, id: &id };
        put(keyspace, "keys", &id, Some(&place.seal(&root, 1, &record.put()).unwrap()));
    });
    bad("a-key-outside-of-key-spaces", "outside of every key space", &|keyspace| {
        let id = keyspace.root().space_id(&name("team"));
        put(keyspace, "spaces", &id, None);
    });
    bad("a-key-of-an-earlier-generation", "not those of its last commit", &|keyspace| {
        let id = keyspace.root().key_id(&path("team/p256"));
        let rows = rows(keyspace);
        let before = rows.iter().find(|row| row.1 == id).unwrap();
        keyspace.as_operator().enable_key(&path("team/p256"), true).unwrap();
        put(keyspace, "keys", &id, Some(&before.2));
    });
    bad("a-key-taken-out", "not those of its last commit", &|keyspace| {
        put(keyspace, "keys", &keyspace.root().key_id(&path("team/p256")), None);
    });
    bad("a-key-brought-back", "not those of its last commit", &|keyspace| {
        let id = keyspace.root().key_id(&path("team/x25519"));
        let rows = rows(keyspace);
        let before = rows.iter().find(|row| row.1 == id).unwrap();
        keyspace.as_operator().destroy_key(&path("team/x25519"), u64::MAX).unwrap();
        put(keyspace, "keys", &id, Some(&before.2));
    });
    bad("a-record-cut", "a record or its id is cut", &|keyspace| {
        let rows = rows(keyspace);
        let key = rows.iter().find(|row| row.0 == "keys").unwrap();
        put(keyspace, "keys", &key.1, Some(&key.2[..30]));
    });
    bad("an-id-that-swallowed-a-part-of-its-record", "a record or its id is cut", &|keyspace| {
        let rows = rows(keyspace);
        let (_, id, sealed) = rows.iter().find(|row| row.0 == "keys").unwrap();
        put(keyspace, "keys", id, None);
        put(keyspace, "keys", &[&sealed[8..32], id].concat(), Some(&sealed[..8]));
    });
    let head = |says: &str| {
        format!(
            "expect: refused\nsays: {says}\npassphrase: {PASSPHRASE}\nbase: v2-every-kind-of-key\n"
        )
    };
    write("v2-file-cut", &head("keyspace"), Some(&good), &good[..good.len() / 2]);
    let mut other = good.clone();
    other[..4].copy_from_slice(b"none");
    write("v2-no-database", &head("it is not a database"), Some(&good), &other);
}
