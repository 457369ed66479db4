//! `tests/vectors/bundles`: made by another program from the specification alone. The good ones open for ever, the
//! bad ones never.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use data_encoding::{BASE64, HEXLOWER};

use crate::age::Key;
use crate::header::CopyFrom;
use crate::seal::{Cost, derive};
use crate::secret::{Passphrase, Secret};
use crate::{Importing, KeyspaceError, Unlocked};

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
            let secret: Result<Secret<32>, KeyspaceError> =
                Secret::try_fill(|s| s.copy_from(&bytes));
            secret.unwrap()
        });
        let passphrase = head.get("passphrase");
        let passphrase = passphrase.map(|text| Passphrase::new(text.as_bytes().to_vec()).unwrap());
        let bundle = BASE64.decode(body.replace('\n', "").as_bytes()).unwrap();
        Vector { shown: path.display().to_string(), head, bundle, secret, passphrase }
    };
    std::fs::read_dir(folder).unwrap().map(|entry| read(entry.unwrap().path())).collect()
}

#[test]
fn every_bundle_of_the_vectors_opens_or_is_refused_as_it_says() {
    let (mut good, mut bad) = (0, 0);
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
            }
            ("refused", Err(error)) => {
                bad += 1;
                assert!(
                    matches!(error, KeyspaceError::BadBundle(_) | KeyspaceError::NotForUs),
                    "{shown}: {error}"
                );
                assert_eq!((found.spaces, found.keys), (0, 0), "{shown}");
            }
            (expected, done) => panic!("{shown}: {expected}, and {done:?}: {}", head["why"]),
        }
    }
    assert!(good >= 6 && bad >= 3 * good, "{good} {bad}");
}

#[test]
fn every_flipped_bit_and_every_cut_of_a_small_vector_is_refused_and_changes_nothing() {
    let is_small = |one: &Vector| one.head["expect"] == "opens" && one.bundle.len() <= 4096;
    let small: Vec<_> = vectors().into_iter().filter(is_small).collect();
    assert!(small.len() >= 8);
    std::thread::scope(|scope| {
        for vector in &small {
            scope.spawn(|| nothing_else_opens(vector));
        }
    });
}

fn nothing_else_opens(vector: &Vector) {
    let Vector { shown, bundle, secret, passphrase, .. } = vector;
    // Most changes leave salt and cost as they are.
    let derived = RefCell::new(BTreeMap::new());
    let remembered = |salt: &[u8; 16], cost: Cost| {
        let known = (*salt, cost.memory, cost.passes, cost.lanes);
        if !derived.borrow().contains_key(&known) {
            let key = derive(passphrase.as_ref().unwrap(), salt, cost)?;
            derived.borrow_mut().insert(known, key.expose(|key| *key));
        }
        Secret::try_fill(|key| key.copy_from(&derived.borrow()[&known]))
    };
    let key = secret.as_ref().map_or(Key::Remembered(&remembered), Key::Own);
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
