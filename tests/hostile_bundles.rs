//! Files that want to cost much are refused before they do: within 100 ms and 32 MiB. A process of its own, whose
//! memory is measured.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops where something is wrong"
)]

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use keyspace::{Home, Importing, KeyspaceError, Locked, Passphrase, Source, Unlocked};
use redb::ReadableTable;
use wire::operator::KdfCost;
use wire::{Algorithm, KeyPath, Name};

const LONGEST: Duration = Duration::from_millis(100);
/// KiB.
const MOST: u64 = 32 * 1024;

/// One test at a time: the memory is that of the process.
static ALONE: Mutex<()> = Mutex::new(());

/// A head, and then this over and over.
struct Endless {
    head: Vec<u8>,
    then: Vec<u8>,
    at: usize,
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for byte in &mut *buffer {
            *byte = match self.head.get(self.at) {
                Some(head) => *head,
                None => self.then[(self.at - self.head.len()) % self.then.len()],
            };
            self.at += 1;
        }
        Ok(buffer.len())
    }
}

impl Source for Endless {
    fn again(&mut self) -> io::Result<()> {
        self.at = 0;
        Ok(())
    }
}

fn memory(what: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn passphrase_stanza(cost: &str) -> Vec<u8> {
    let zeros = data_encoding::BASE64_NOPAD.encode(&[0; 32]);
    format!(
        "age-encryption.org/v1\n-> crypto-cli/argon2id AAAAAAAAAAAAAAAAAAAAAA {cost}\n{zeros}\n--- {zeros}\n"
    )
    .into_bytes()
}

#[test]
fn hostile_files_are_refused_before_they_cost_anything() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let zeros = data_encoding::BASE64_NOPAD.encode(&[0; 32]);
    let share = data_encoding::BASE64_NOPAD.encode(&[9; 32]);
    let mut cases: Vec<(String, Vec<u8>, Vec<u8>)> = vec![
        ("zeros".into(), vec![], vec![0]),
        ("a line without end".into(), b"age-encryption.org/v1\n-> X25519 ".to_vec(), b"a".to_vec()),
        (
            "stanzas without end".into(),
            b"age-encryption.org/v1\n".to_vec(),
            format!("-> X25519 {share}\n{zeros}\n").into_bytes(),
        ),
        (
            "a body without end".into(),
            b"age-encryption.org/v1\n-> x\n".to_vec(),
            [b"A".repeat(64), b"\n".to_vec()].concat(),
        ),
    ];
    let mut full = b"age-encryption.org/v1\n".to_vec();
    while full.len() < 16 * 1024 - 200 {
        full.extend_from_slice(format!("-> X25519 {share}\n{zeros}\n").as_bytes());
    }
    full.extend_from_slice(format!("--- {zeros}\n").as_bytes());
    cases.push(("as many recipients as there is room for".into(), full, vec![0]));
    for cost in [
        "4294967295 1 1",
        "4294967295 10 8",
        "262145 2 1",
        "1048576 3 4",
        "65536 4294967295 4",
        "65536 3 4294967295",
        "99999999999999999999 3 4",
        "65536 11 4",
        "65536 3 9",
        "8 1 1",
    ] {
        cases.push((cost.to_owned(), passphrase_stanza(cost), vec![0]));
    }
    let keyspace = Unlocked::ephemeral(1).unwrap();
    let passphrase = Passphrase::new(b"a passphrase of ours".to_vec()).unwrap();
    for (what, head, then) in cases {
        for passphrase in [None, Some(&passphrase)] {
            let mut file = Endless { head: head.clone(), then: then.clone(), at: 0 };
            is_refused(&what, LONGEST, || {
                keyspace.as_operator().import(&mut file, passphrase, &Importing::default(), |_| {})
            });
        }
    }
}

/// What comes of it, how long it takes, not counting that others have the processor, and how many KiB more there are
/// at its most.
fn measured<R>(act: impl FnOnce() -> R) -> (R, Duration, u64) {
    // The peak is counted from here on (proc_pid_clear_refs(5)).
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = memory("VmRSS:");
    let (started, waited) = (Instant::now(), waited());
    let done = act();
    let took = started.elapsed().saturating_sub(self::waited().saturating_sub(waited));
    (done, took, memory("VmHWM:").saturating_sub(before))
}

/// How long this thread has waited for a processor (kernel documentation, scheduler/sched-stats).
fn waited() -> Duration {
    let told = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(told.split(' ').nth(1).unwrap().parse().unwrap())
}

/// That it is refused within this time and the memory that there may be: why.
fn is_refused<R>(
    what: &str,
    longest: Duration,
    act: impl FnOnce() -> Result<R, KeyspaceError>,
) -> String {
    let (done, took, peak) = measured(act);
    let error = done.err();
    assert!(error.is_some(), "{what}: it was taken");
    let error = error.unwrap().to_string();
    assert!(took < longest, "{what}: {took:?}");
    assert!(peak < MOST, "{what}: {peak} KiB");
    error
}

/// A file to a recipient, made with the program `age`: anybody can.
fn encrypted_to(recipient: &str, payload: &[u8], folder: &Path) -> PathBuf {
    let [plain, encrypted] = ["plain", "encrypted"].map(|name| folder.join(name));
    fs::write(&plain, payload).unwrap();
    let mut age = Command::new("age");
    age.args(["-r", recipient, "-o"]).arg(&encrypted).arg(&plain);
    assert!(age.status().unwrap().success());
    encrypted
}

fn number(value: usize) -> [u8; 4] {
    u32::try_from(value).unwrap().to_be_bytes()
}

fn text(value: &str) -> Vec<u8> {
    [number(value.len()).as_slice(), value.as_bytes()].concat()
}

fn item(kind: u8, body: &[u8]) -> Vec<u8> {
    [number(body.len() + 1).as_slice(), &[kind], body].concat()
}

fn space(name: &str) -> Vec<u8> {
    item(1, &[text(name), vec![0; 8]].concat())
}

/// A symmetric key that says it has this many versions, and has so many.
fn key(said: usize, versions: u32) -> Vec<u8> {
    let mut body = [vec![5], text("a"), text("k"), vec![0; 8], vec![1], vec![0; 8]].concat();
    body.extend_from_slice(&number(said));
    for version in 1..=versions {
        body.extend_from_slice(&[version.to_be_bytes().as_slice(), &[7; 40]].concat());
    }
    item(2, &body)
}

fn end(spaces: u64, keys: u64) -> Vec<u8> {
    item(3, &[spaces.to_be_bytes(), keys.to_be_bytes()].concat())
}

fn payload(items: &[Vec<u8>]) -> Vec<u8> {
    [b"CCKB\0\x01".to_vec(), items.concat()].concat()
}

#[test]
fn hostile_payloads_that_anybody_can_encrypt_to_us_are_refused_before_they_cost_anything() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let keyspace = Unlocked::ephemeral(1).unwrap();
    let operator = keyspace.as_operator();
    let recipient = operator.recipient().unwrap();
    let (all, none) = (u32::MAX.to_be_bytes(), "an item of it is none");
    let name_of_4_gib = [all.as_slice(), b"a"].concat();
    for (what, items, why) in [
        ("an item of 4 GiB", vec![all.to_vec()], "too long"),
        ("an item of one byte too many", vec![number(16 * 1024 + 1).to_vec()], "too long"),
        ("an item of nothing", vec![vec![0; 64 * 1024]], "is empty"),
        ("a name of 4 GiB", vec![item(1, &name_of_4_gib)], none),
        ("257 versions", vec![space("a"), key(257, 257), end(1, 1)], none),
        ("4 Gi versions", vec![space("a"), key(u32::MAX as usize, 256), end(1, 1)], none),
        ("a key without a key space", vec![key(1, 1), end(0, 1)], "outside its key space"),
        ("a key space twice", vec![space("a"), space("a"), end(2, 0)], "a key space twice"),
        ("a key twice", vec![space("a"), key(1, 1), key(1, 1), end(1, 2)], "a key twice"),
        ("an end of more than there is", vec![space("a"), end(u64::MAX, 0)], "as much as it says"),
    ] {
        let bundle = encrypted_to(&recipient, &payload(&items), folder.path());
        let mut file = fs::File::open(bundle).unwrap();
        let told = is_refused(what, LONGEST, || {
            operator.import(&mut file, None, &Importing::default(), |_| {})
        });
        assert!(told.contains(why), "{what}: {told}");
        assert_eq!(operator.verify(|_, _| {}).unwrap().spaces, 0, "{what}");
    }
    // That the fault is what they are refused for.
    let good = payload(&[space("a"), key(256, 256), end(1, 1)]);
    let bundle = encrypted_to(&recipient, &good, folder.path());
    let mut file = fs::File::open(bundle).unwrap();
    operator.import(&mut file, None, &Importing::default(), |_| {}).unwrap();
}

/// It is read to its end, which takes its time, and none of it is kept.
#[test]
fn key_spaces_without_an_end_are_refused_in_the_memory_of_a_few() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let keyspace = Unlocked::ephemeral(1).unwrap();
    let operator = keyspace.as_operator();
    let spaces: Vec<_> = (0..700_000).map(|number| space(&format!("{number:064}"))).collect();
    let bundle = encrypted_to(&operator.recipient().unwrap(), &payload(&spaces), folder.path());
    drop(spaces);
    let size = fs::metadata(&bundle).unwrap().len();
    assert!(size > 3 * MOST * 1024 / 2, "{size}");
    let mut file = fs::File::open(bundle).unwrap();
    let told = is_refused("key spaces without an end", Duration::from_secs(60), || {
        operator.import(&mut file, None, &Importing::default(), |_| {})
    });
    assert!(told.contains("it ends too early"), "{told}");
    assert_eq!(operator.verify(|_, _| {}).unwrap().spaces, 0);
}

fn pem(label: &str, der: &[u8]) -> Vec<u8> {
    let text = data_encoding::BASE64.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| [line, b"\n"].concat()).collect();
    let [begin, end] = ["BEGIN", "END"].map(|word| format!("-----{word} {label}-----\n"));
    [begin.as_bytes(), &lines.concat(), end.as_bytes()].concat()
}

#[test]
fn hostile_private_keys_that_anybody_can_encrypt_to_us_are_refused_before_they_cost_anything() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let keyspace = Unlocked::ephemeral(1).unwrap();
    let operator = keyspace.as_operator();
    operator.new_space(&Name::parse("a").unwrap(), 1).unwrap();
    let recipient = operator.recipient().unwrap();
    let at = KeyPath { space: Name::parse("a").unwrap(), key: Name::parse("k").unwrap() };
    let field = |bytes: &[u8]| [number(bytes.len()).as_slice(), bytes].concat();
    let ssh = |kdf: &str, options: &[u8], rest: &[u8]| {
        let cipher = if kdf == "none" { "none" } else { "aes256-ctr" };
        let magic = b"openssh-key-v1\0".to_vec();
        let head = [magic, text(cipher), text(kdf), field(options)].concat();
        pem("OPENSSH PRIVATE KEY", &[head, rest.to_vec()].concat())
    };
    let rounds = [field(&[1; 16]), vec![0xff; 4]].concat();
    for (what, file) in [
        ("one byte too many", vec![b'A'; 16 * 1024 + 1]),
        ("48 MiB", vec![0; 48 * 1024 * 1024]),
        ("nothing", vec![]),
        ("DER of 4 GiB", pem("PRIVATE KEY", b"\x30\x84\xff\xff\xff\xff\x02\x01\x00")),
        ("DER of sequences in sequences", pem("PRIVATE KEY", &b"\x30\x80".repeat(4_000))),
        ("SEC 1 of 4 GiB", pem("EC PRIVATE KEY", b"\x30\x84\xff\xff\xff\xff\x02\x01\x01")),
        ("OpenSSH of 4 Gi rounds", ssh("bcrypt", &rounds, &[0, 0, 0, 1])),
        ("OpenSSH of 4 Gi keys", ssh("none", b"", &[0xff; 64])),
        ("OpenSSH with a key of 4 GiB", ssh("none", b"", &[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff])),
    ] {
        let wrapped = fs::read(encrypted_to(&recipient, &file, folder.path())).unwrap();
        is_refused(what, LONGEST, || {
            operator.import_key(&at, Some(Algorithm::Ed25519), &wrapped, 1)
        });
        assert_eq!(operator.space(&at.space).unwrap().keys, Some(0), "{what}");
    }
    let seed = encrypted_to(&recipient, &[7; 32], folder.path());
    let wrapped = fs::read(seed).unwrap();
    operator.import_key(&at, Some(Algorithm::Ed25519), &wrapped, 1).unwrap();
}

/// Overwrites bytes of the stored header.
fn spoil_header(file: &Path, at: usize, bytes: &[u8]) {
    let database = redb::Database::open(file).unwrap();
    let writing = database.begin_write().unwrap();
    {
        let meta = redb::TableDefinition::<&str, &[u8]>::new("meta");
        let mut meta = writing.open_table(meta).unwrap();
        let mut header = meta.get("header").unwrap().unwrap().value().to_vec();
        header.resize(header.len().max(at + bytes.len()), 0);
        header[at..at + bytes.len()].copy_from_slice(bytes);
        meta.insert("header", header.as_slice()).unwrap();
    }
    writing.commit().unwrap();
}

#[test]
fn hostile_headers_of_a_keyspace_are_refused_before_they_cost_anything() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let home = Home::create(&folder.path().join("home")).unwrap();
    let passphrase = Passphrase::new(b"a passphrase of ours".to_vec()).unwrap();
    drop(Unlocked::create(&home, &passphrase, KdfCost::Standard, 1).unwrap());
    let file = folder.path().join("home/keyspace.redb");
    let good = fs::read(&file).unwrap();
    let cost = |cost: [u32; 3]| cost.map(u32::to_be_bytes).concat();
    for (what, at, bytes) in [
        ("4 Gi slots", 40, vec![0xff; 4]),
        ("4 slots", 40, vec![0, 0, 0, 4]),
        ("a header of 1 MiB", 0, vec![0; 1024 * 1024]),
        ("a header of 4 KiB and a byte", 0, [b"CCKS\0\x01\0\x01".to_vec(), vec![0; 4089]].concat()),
        ("4 TiB", 53, cost([u32::MAX, 3, 4])),
        ("1 GiB and a KiB", 53, cost([1024 * 1024 + 1, 2, 4])),
        ("more than 3 GiB in all passes", 53, cost([1024 * 1024, 4, 4])),
        ("11 passes", 53, cost([65_536, 11, 4])),
        ("4 Gi passes", 53, cost([65_536, u32::MAX, 4])),
        ("4 Gi lanes", 53, cost([65_536, 3, u32::MAX])),
        ("no lane", 53, cost([65_536, 3, 0])),
        ("too cheap", 53, cost([8, 1, 1])),
    ] {
        fs::write(&file, &good).unwrap();
        spoil_header(&file, at, &bytes);
        let told = is_refused(what, LONGEST, || Locked::open(&home));
        assert!(
            told.contains("not a keyspace of this version") || told.contains("bad header"),
            "{what}: {told}"
        );
    }
    fs::write(&file, &good).unwrap();
    Locked::open(&home).unwrap();
}

/// What the database says of itself, before anything of ours: four bytes of it at a time.
#[test]
fn a_spoiled_header_of_the_database_itself_costs_nothing_and_stops_no_process() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let home = Home::create(&folder.path().join("home")).unwrap();
    let passphrase = Passphrase::new(b"a passphrase of ours".to_vec()).unwrap();
    drop(Unlocked::create(&home, &passphrase, KdfCost::Standard, 1).unwrap());
    let file = folder.path().join("home/keyspace.redb");
    let good = fs::read(&file).unwrap();
    let mut refused = 0;
    for at in (0..320).step_by(4) {
        for word in [[0xff; 4], [0; 4], [0, 0, 0, 0x7f], [0, 0, 0x10, 0]] {
            let mut bad = good.clone();
            bad[at..at + 4].copy_from_slice(&word);
            fs::write(&file, &bad).unwrap();
            let (opened, took, peak) = measured(|| Locked::open(&home));
            refused += u64::from(opened.is_err());
            assert!(took < LONGEST && peak < MOST, "{word:?} at {at}: {took:?}, {peak} KiB");
        }
    }
    // The two words of the magic number at least.
    assert!(refused >= 8, "{refused}");
}
