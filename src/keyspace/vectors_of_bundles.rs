//! `tests/vectors/bundles`: made by another program from the specification alone. The good ones open for ever, the
//! bad ones never.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use data_encoding::{BASE64, HEXLOWER};

use crate::age::{Container, Key};
use crate::listing::{listing, said};
use crate::seal::{Cost, derive};
use crate::secret::{Passphrase, Secret};
use crate::{Importing, KeyspaceError, Unlocked};

/// How many there are, so that none goes unnoticed.
const GOOD: usize = 11;
const BAD: usize = 150;
/// Those that are told like one for others: each could be a whole file that a wrong key is tried on.
const NOT_FOR_US: [&str; 10] = [
    "mac-wrong",
    "other-recipient",
    "passphrase-asked-for-secret",
    "secret-asked-for-passphrase",
    "stanza-added",
    "stanza-changed",
    "stanza-taken-away",
    "stanza-with-other-name",
    "stanzas-swapped",
    "wrong-passphrase",
];

/// A file of the vectors.
struct Vector {
    shown: String,
    head: BTreeMap<String, String>,
    bundle: Vec<u8>,
    secret: Option<Secret<32>>,
    passphrase: Option<Passphrase>,
}

fn vectors() -> Vec<Vector> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/bundles");
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        let (head, body) = text.split_once("\n\n").unwrap();
        let member = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_owned(), value.to_owned())
        };
        let head: BTreeMap<_, _> = head.lines().map(member).collect();
        let secret = head.get("secret").map(|hex| {
            let bytes = HEXLOWER.decode(hex.as_bytes()).unwrap();
            Secret::copied(&bytes).unwrap()
        });
        let passphrase = head.get("passphrase");
        let passphrase = passphrase.map(|text| Passphrase::new(text.as_bytes().to_vec()).unwrap());
        let bundle = BASE64.decode(body.replace('\n', "").as_bytes()).unwrap();
        let shown = path.file_stem().unwrap().to_str().unwrap().to_owned();
        Vector { shown, head, bundle, secret, passphrase }
    };
    std::fs::read_dir(folder).unwrap().map(|entry| read(entry.unwrap().path())).collect()
}

#[test]
fn every_bundle_of_the_vectors_opens_or_is_refused_as_it_says() {
    let (mut good, mut bad, mut not_for_us) = (0, 0, BTreeSet::new());
    for Vector { shown, head, bundle, secret, passphrase } in vectors() {
        let key = match (&secret, &passphrase) {
            (Some(secret), None) => Key::Own(secret),
            (None, Some(passphrase)) => Key::Passphrase(passphrase),
            (Some(_), Some(_)) | (None, None) => panic!("{shown}: with what?"),
        };
        let keyspace = Unlocked::ephemeral(1).unwrap();
        let operator = keyspace.as_operator();
        let mut source = std::io::Cursor::new(&bundle);
        let done = operator.import_with(&mut source, &key, &Importing::default(), |_| {});
        let found = operator.verify(|_, _| {}).unwrap();
        match (head["expect"].as_str(), done) {
            ("opens", Ok(_)) => {
                good += 1;
                let counts = [found.spaces, found.keys].map(|count| count.to_string());
                assert_eq!(counts.each_ref(), [&head["spaces"], &head["keys"]], "{shown}");
                assert_eq!(listing(&keyspace), said(&head), "{shown}");
            }
            ("refused", Err(error)) => {
                bad += 1;
                assert_eq!((found.spaces, found.keys), (0, 0), "{shown}");
                if matches!(error, KeyspaceError::NotForUs) {
                    not_for_us.insert(shown);
                } else {
                    assert!(matches!(error, KeyspaceError::BadBundle(_)), "{shown}: {error}");
                }
            }
            (expected, done) => panic!("{shown}: {expected}, and {done:?}: {}", head["why"]),
        }
    }
    assert_eq!((good, bad), (GOOD, BAD), "vectors are missing, or new ones are not counted yet");
    assert_eq!(not_for_us, NOT_FOR_US.map(str::to_owned).into());
}

#[test]
fn a_wrong_passphrase_and_a_changed_stanza_or_mac_are_told_alike() {
    let vectors = vectors();
    let Vector { bundle, passphrase, .. } =
        vectors.iter().find(|vector| vector.shown == "one-key").unwrap();
    let told = |bundle: &[u8], passphrase: &Passphrase| {
        let keyspace = Unlocked::ephemeral(1).unwrap();
        let importing = Importing::default();
        let mut source = std::io::Cursor::new(bundle);
        let done = keyspace.as_operator().import(&mut source, Some(passphrase), &importing, |_| {});
        done.unwrap_err().to_string()
    };
    let wrong = Passphrase::new(b"another passphrase".to_vec()).unwrap();
    let wrong = told(bundle, &wrong);
    let text = String::from_utf8_lossy(bundle).into_owned();
    let at = |what: &str| text.find(what).unwrap() + what.len();
    // The salt, the cost, the body of the stanza after its line, the MAC.
    let after = text.split_once("-> ").unwrap().1;
    let body = at("-> ") + after.find('\n').unwrap() + 1;
    let changes =
        [(at("argon2id "), b'A'), (at(" 1945"), b'7'), (body, b'A'), (at("\n--- "), b'A')];
    for (at, byte) in changes {
        let mut damaged = bundle.clone();
        damaged[at] = byte;
        assert_ne!(&damaged, bundle);
        assert_eq!(told(&damaged, passphrase.as_ref().unwrap()), wrong, "byte {at}");
    }
}

#[test]
fn every_flipped_bit_and_every_cut_of_a_small_vector_is_refused_and_changes_nothing() {
    let is_small = |one: &Vector| one.head["expect"] == "opens" && one.bundle.len() <= 4096;
    let small: Vec<_> = vectors().into_iter().filter(is_small).collect();
    assert_eq!(small.len(), 8);
    std::thread::scope(|scope| {
        for vector in &small {
            scope.spawn(|| nothing_else_opens(vector));
        }
    });
}

fn nothing_else_opens(vector: &Vector) {
    let Vector { shown, bundle, secret, passphrase, .. } = vector;
    let derived = RefCell::new(None);
    let remembered = |salt: &[u8; 16], cost: Cost| {
        // The first is that of the bundle as it is. Every other salt and cost has another key, and which does not
        // matter: deriving some hundred of them would take minutes.
        let mut derived = derived.borrow_mut();
        if derived.is_none() {
            let key = derive(passphrase.as_ref().unwrap(), salt, cost)?;
            *derived = Some((*salt, cost, key.expose(|key| *key)));
        }
        let (known_salt, known_cost, key) = derived.unwrap();
        let is_known = (*salt, cost) == (known_salt, known_cost);
        assert!(cost.within_bounds() && cost.memory <= 256 * 1024, "{shown}: {cost:?}");
        Secret::copied(if is_known { &key } else { &[0; 32] })
    };
    let key = secret.as_ref().map_or(Key::Remembered(&remembered), Key::Own);
    let header = Container::read(&mut bundle.as_slice()).unwrap();
    assert!(header.open(&key).is_ok(), "{shown}");
    let keyspace = Unlocked::ephemeral(1).unwrap();
    let operator = keyspace.as_operator();
    let opens = |bytes: &[u8]| {
        let mut source = std::io::Cursor::new(bytes);
        operator.import_with(&mut source, &key, &Importing::default(), |_| {}).is_ok()
    };
    for length in 0..bundle.len() {
        assert!(!opens(&bundle[..length]), "{shown}: cut to {length}");
    }
    for bit in 0..bundle.len() * 8 {
        let mut flipped = bundle.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(!opens(&flipped), "{shown}: bit {bit}");
    }
    assert!(keyspace.spaces().unwrap().is_empty(), "{shown}");
    assert!(opens(bundle), "{shown}");
}
