//! A private key is where it must be and nowhere else. The key is found by a reader of the format
//! that was written from `FORMAT.md`, not from the program.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use async_nats::HeaderMap;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use redb::{ReadableDatabase, ReadableTable, TableDefinition};

use crate::operator::{Place, arg};
use crate::support::*;

/// Key space, name and seed of a key.
type Found = (String, String, [u8; 32]);

/// What the reader finds: the root key, and every key with its space, name and seed.
fn read_keyspace(home: &Path) -> ([u8; 32], Vec<Found>) {
    let database = redb::Database::open(home.join("keyspace.redb")).unwrap();
    let transaction = database.begin_read().unwrap();
    let meta: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
    let meta = transaction.open_table(meta).unwrap();
    let header = meta.get("header").unwrap().unwrap().value().to_vec();
    let root = unwrap_root(&header);
    let file_id = &header[8..24];
    let table = |name| {
        let table: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new(name);
        transaction.open_table(table).unwrap()
    };
    let (spaces, keys) = (table("spaces"), table("keys"));
    let mut records = Vec::new();
    for (kind, table) in [(1, &spaces), (2, &keys)] {
        for record in table.iter().unwrap() {
            let (id, sealed) = record.unwrap();
            records.push([[1, kind].as_slice(), &sealed.value()[..32], id.value()].concat());
        }
    }
    check_sum(&header, &root, &records);
    let open = |id: &[u8], sealed: &[u8]| {
        let (generation, rest) = sealed.split_at(8);
        let (nonce, sealed) = rest.split_at(24);
        let key = expand(&root, &[b"ccks1 record", id].concat());
        let aad = [file_id, &[2], generation, id].concat();
        let plain = decrypt(&key, nonce, sealed, &aad);
        let (space, rest) = text_at(&plain[1..]);
        let (name, rest) = text_at(rest);
        // Creation, state, until when, how many versions; number and creation of the first.
        assert_eq!(rest[8 + 1 + 8..][..4], [0, 0, 0, 1]);
        (space, name, rest[8 + 1 + 8 + 4 + 4 + 8..].try_into().unwrap())
    };
    let found = keys.iter().unwrap().map(Result::unwrap);
    (root, found.map(|(id, sealed)| open(id.value(), sealed.value())).collect())
}

/// The same, of a copy of the file of a service that stands still.
fn read_copy(service: &Service) -> ([u8; 32], Vec<Found>) {
    let copy = Scratch::new();
    fs::create_dir(copy.path("home")).unwrap();
    let copied = copy.path("home").join("keyspace.redb");
    fs::copy(service.home.join("keyspace.redb"), &copied).unwrap();
    read_keyspace(&copy.path("home"))
}

/// Section 1: what the header says of all records.
fn check_sum(header: &[u8], root: &[u8; 32], records: &[Vec<u8>]) {
    let key = expand(root, b"ccks1 sum");
    let (nonce, said) = header[header.len() - 80..header.len() - 32].split_at(16);
    let mut sum = [0_u8; 32];
    for part in records.iter().chain([&[[0].as_slice(), nonce].concat()]) {
        let mut carry = 0;
        for (byte, added) in sum.iter_mut().zip(hmac(&key, part)).rev() {
            carry += u16::from(*byte) + u16::from(added);
            *byte = carry.to_le_bytes()[0];
            carry >>= 8;
        }
    }
    assert_eq!(sum, said, "the sum over the records");
}

fn hmac(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    use hkdf::hmac::{Hmac, KeyInit, Mac};
    let mac = Hmac::<sha2::Sha256>::new_from_slice(key).unwrap();
    mac.chain_update(message).finalize().into_bytes().into()
}

fn unwrap_root(header: &[u8]) -> [u8; 32] {
    assert_eq!(&header[..8], b"CCKS\0\x02\0\x01");
    let slot = &header[44..];
    assert_eq!(slot[0], 1);
    let number = |at: usize| u32::from_be_bytes(slot[at..at + 4].try_into().unwrap());
    let (salt, nonce, wrapped) = (&slot[21..37], &slot[37..61], &slot[61..109]);
    let params = argon2::Params::new(number(9), number(13), number(17), Some(32)).unwrap();
    let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let mut kek = [0; 32];
    argon2.hash_password_into(PASSPHRASE.as_bytes(), salt, &mut kek).unwrap();
    let aad = [b"CCKS\0\x01\0\x01".as_slice(), &header[8..24], &slot[..37]].concat();
    decrypt(&kek, nonce, wrapped, &aad).try_into().unwrap()
}

fn expand(root: &[u8; 32], info: &[u8]) -> [u8; 32] {
    let mut key = [0; 32];
    hkdf::Hkdf::<sha2::Sha256>::new(None, root).expand(info, &mut key).unwrap();
    key
}

fn decrypt(key: &[u8; 32], nonce: &[u8], sealed: &[u8], aad: &[u8]) -> Vec<u8> {
    let nonce: [u8; 24] = nonce.try_into().unwrap();
    let cipher = XChaCha20Poly1305::new(key.into());
    cipher.decrypt(&XNonce::from(nonce), Payload { msg: sealed, aad }).unwrap()
}

fn text_at(bytes: &[u8]) -> (String, &[u8]) {
    let (length, rest) = bytes.split_at(4);
    let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
    let (text, rest) = rest.split_at(length);
    (text_of(text), rest)
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The forms in which a seed could leak.
fn forms(seed: &[u8; 32]) -> Vec<Vec<u8>> {
    let base64 = data_encoding::BASE64.encode(seed);
    let base64url = data_encoding::BASE64URL_NOPAD.encode(seed);
    vec![
        seed.to_vec(),
        seed[..16].to_vec(),
        hex(seed).into_bytes(),
        data_encoding::HEXUPPER.encode(seed).into_bytes(),
        base64.into_bytes(),
        base64url.into_bytes(),
        format!("{seed:?}").trim_matches(['[', ']']).as_bytes().to_vec(),
    ]
}

fn holds(haystack: &[u8], needles: &[Vec<u8>]) -> bool {
    needles.iter().any(|needle| memchr::memmem::find(haystack, needle).is_some())
}

/// All readable memory of a process, one mapping at a time. Whoever is not root cannot read it at
/// all, which is a property of its own.
pub(crate) fn memory_holds(pid: u32, needles: &[Vec<u8>]) -> bool {
    let opened = fs::File::open(format!("/proc/{pid}/mem"));
    if !is_root() {
        assert_eq!(opened.unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
        return false;
    }
    let mut memory = opened.unwrap();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mut read_any = false;
    let found = maps.lines().any(|line| {
        let mut fields = line.split_whitespace();
        let (range, rights) = (fields.next().unwrap(), fields.next().unwrap());
        if !rights.starts_with('r') || line.ends_with("[vvar]") || line.ends_with("[vsyscall]") {
            return false;
        }
        let (from, to) = range.split_once('-').unwrap();
        let (from, to) =
            (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
        let mut bytes = vec![0; (to - from).try_into().unwrap()];
        memory.seek(SeekFrom::Start(from)).unwrap();
        let read = memory.read(&mut bytes).unwrap_or(0);
        read_any |= read > 0;
        holds(&bytes[..read], needles)
    });
    assert!(read_any, "no memory of {pid} could be read");
    found
}

fn files_below(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_key_is_in_the_broker_for_one_use_and_nowhere_else() {
    let nats = Nats::plain();
    let limits = "[limits]\nwall_clock = \"60 s\"\noperations = 1_000_000_000_000\n";
    let mut service = Service::start(&nats, &format!("{limits}{OPEN_TO_ANYBODY}"));
    let client = nats.client().await;
    let make = "create_key_space(\"telling-space\"); create_keypair(\"telling-key\"); public_key()";
    let mut json = HeaderMap::new();
    json.insert("Accept", "application/json");
    let mut replies = vec![ask_plainly(&client, make).await];
    let public = replies[0].text.clone();
    let path = "telling-space/telling-key";
    for script in [
        format!("sign(\"m\", \"{path}\")"),
        format!("print(\"{path}\"); sign_all([\"a\"])"),
        format!("select_keypair(\"{path}\"); [sign(\"a\"), sign_in(\"ns\", \"b\"), public_key()]"),
        format!("throw sign(\"m\", \"{path}\")"),
        format!("sign(1, \"{path}\")"),
        format!("sign(\"m\", \"{path}x\")"),
    ] {
        replies.push(ask(&client, script.clone(), json.clone()).await);
        replies.push(ask_plainly(&client, &script).await);
    }
    // A worker that has used the key and is still there, and the listener.
    let asker = client.clone();
    let spin = format!("sign(\"m\", \"{path}\"); loop {{}}");
    let _spinning = tokio::spawn(async move { asker.request(SUBJECT, spin.into()).await });
    wait_until("the worker has its signature", || {
        let signed = service.audit().iter().filter(|e| e["call"] == "sign").count();
        (signed >= 6).then_some(())
    });
    let (worker, listener) = (worker_of(&service), listener_of(&service));
    let (zygote, launcher) = (parent_of(worker), parent_of(listener));
    service.process.signal("STOP");
    let found = read_copy(&service).1;
    let [(space, name, seed)] = found.as_slice() else { panic!("{}", found.len()) };
    assert_eq!((space.as_str(), name.as_str()), ("telling-space", "telling-key"));
    let key = ed25519_dalek::SigningKey::from_bytes(seed);
    assert_eq!(hex(key.verifying_key().as_bytes()), public, "the reader found the key itself");

    let needles = forms(seed);
    // The broker, too: it has signed with the key, and has it no more.
    for pid in [worker, zygote, listener, launcher, service.process.pid()] {
        assert!(!memory_holds(pid, &needles), "{pid} knows the key");
        for file in ["environ", "cmdline"] {
            if file == "environ" && !is_root() {
                continue;
            }
            let contents = fs::read(format!("/proc/{pid}/{file}")).unwrap();
            assert!(!holds(&contents, &needles), "{file} of {pid}");
            assert!(!holds(&contents, &[PASSPHRASE.as_bytes().to_vec()]), "{file} of {pid}");
        }
    }
    for reply in &replies {
        assert!(!holds(format!("{reply:?}").as_bytes(), &needles), "{reply:?}");
    }
    service.process.signal("CONT");
    service.crash();
    let mut files = files_below(service.scratch.path("").as_path());
    // The socket in the home is none to be read.
    files.retain(|path| !path.ends_with("passphrase") && path.is_file());
    assert!(files.len() >= 4, "{files:?}");
    for path in files {
        let contents = fs::read(&path).unwrap();
        assert!(!holds(&contents, &needles), "{}", path.display());
        assert!(!holds(&contents, &[PASSPHRASE.as_bytes().to_vec()]), "{}", path.display());
        if path.ends_with("keyspace.redb") {
            assert!(!holds(&contents, &[b"telling".to_vec()]), "the database holds names");
        }
    }
}

/// Whether the keys that a service always has are in memory that nobody else can read, not even root.
fn is_memory_secret() -> bool {
    let doctor = cli().args(["doctor", "--format", "json"]).output().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&doctor.stdout).unwrap();
    told["broker"]["secret_memory"] == "memfd_secret"
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_has_done_leaves_no_key_in_the_memory_of_the_service() {
    let nats = Nats::plain();
    let service = Service::start(&nats, OPEN_TO_ANYBODY);
    let client = nats.client().await;
    let make = "create_key_space(\"a\"); create_keypair(\"k\"); public_key()";
    ask_plainly(&client, make).await;
    let place = Place::of(&service);
    let bundle = place.scratch.path("a.age");
    let bundle_passphrase = place.scratch.write("bundle-passphrase", "for the bundle\n");
    let with = format!("--bundle-passphrase-file {}", arg(&bundle_passphrase));
    for words in [
        "keyspace rotate --yes".to_owned(),
        "key list".to_owned(),
        "key show a/k".to_owned(),
        "key public a/k".to_owned(),
        "keyspace verify".to_owned(),
        format!("keyspace export a --output {} {with}", arg(&bundle)),
        "key disable a/k".to_owned(),
        "key enable a/k".to_owned(),
        format!("keyspace import {} {with} --skip-existing", arg(&bundle)),
    ] {
        place.does(&words);
    }
    ask_plainly(&client, "list_keypairs(\"a\")").await;
    service.process.signal("STOP");
    let (root, found) = read_copy(&service);
    let mut needles = forms(&found[0].2);
    if is_memory_secret() {
        needles.extend(forms(&root));
        needles.extend(forms(&hmac(&[0; 32], &root)));
        for label in ["ccks1 header", "ccks1 index", "ccks1 sum"] {
            needles.extend(forms(&expand(&root, label.as_bytes())));
        }
    }
    assert!(!memory_holds(service.process.pid(), &needles), "the broker knows a key");
    service.process.signal("CONT");
}
