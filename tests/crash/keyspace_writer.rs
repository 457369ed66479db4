//! Changes a keyspace for as long as it lives, and says each change before it is asked for and after it is
//! acknowledged. `tests/e2e/durable.rs` kills it at any moment.
//!
//!     keyspace_writer HOME SEED fast|passwd|renew PASSPHRASE...
//!
//! The passphrases are numbers. The first that opens the keyspace is the one that it has.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a program of the tests: it prints, and stops where something is wrong"
)]

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use keyspace::{Home, Importing, KeyspaceError, Locked, Opening, Operator, Passphrase, Unlocked};
use wire::admin::Row;
use wire::operator::{KdfCost, Protection, SlotKind};
use wire::{Algorithm, KeyPath, Name};

/// Keys of the key space that bundles are made of.
const IN_BUNDLE: usize = 20;
/// Keys after which the first key space is emptied, so that it does not grow for ever.
const MOST: u64 = 20;
/// One change in so many is of a passphrase or the root key, where these change at all: it takes long.
const SLOW: u64 = 4;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let home = Home::create(Path::new(&arguments[1])).unwrap();
    let seed: u64 = arguments[2].parse().unwrap();
    let slow = arguments[3].as_str();
    let known: Vec<u64> = arguments[4..].iter().map(|number| number.parse().unwrap()).collect();
    let (keyspace, opened_by) = match open(&home, &known) {
        Some((keyspace, number)) => {
            tell(&home, &keyspace.as_operator(), number);
            (keyspace, number)
        }
        None => {
            println!("ready");
            let made = said(&format!("found {}", known[0]), || {
                let passphrase = passphrase(known[0]);
                let made = Unlocked::create(&home, &passphrase, KdfCost::Standard, 1).unwrap();
                tell_file(&home);
                made
            });
            (made, known[0])
        }
    };
    fill(&keyspace.as_operator());
    change(&home, &keyspace, seed, opened_by, slow);
}

/// The keyspace, and which of these passphrases opened it; `None` where there is no keyspace.
fn open(home: &Home, known: &[u64]) -> Option<(Unlocked, u64)> {
    let mut locked = match Locked::open(home) {
        Ok(locked) => locked,
        Err(KeyspaceError::Missing(_)) => return None,
        Err(error) => panic_with(&error.to_string()),
    };
    for number in known {
        match locked.try_unlock(&passphrase(*number), Opening::default()) {
            Ok(keyspace) => return Some((keyspace, *number)),
            Err((back, KeyspaceError::WrongPassphrase)) => locked = *back,
            Err((_, error)) => panic_with(&error.to_string()),
        }
    }
    panic_with(&format!("none of the passphrases {known:?} opens it"))
}

/// Says everything that is there.
fn tell(home: &Home, operator: &Operator<'_>, opened_by: u64) {
    tell_file(home);
    operator.verify(|_, _| {}).unwrap();
    let space = |row| {
        if let Row::Space(row) = row {
            println!("space {}", row.space);
        }
        Ok(())
    };
    operator.spaces(space).unwrap();
    let key = |row| {
        if let Row::Key(row) = row {
            println!("has {} {}", row.key, row.version);
        }
        Ok(())
    };
    operator.keys(None, key).unwrap();
    println!("opened {opened_by}");
    println!("ready");
}

/// Which file it is: a new root key is in a new one.
fn tell_file(home: &Home) {
    println!("file {}", std::fs::metadata(home.file("keyspace.redb")).unwrap().ino());
}

/// What there is of it always, and may be missing because an earlier process was killed.
fn fill(operator: &Operator<'_>) {
    for space in ["a", "b"] {
        if operator.space(&name(space)).is_err() {
            said(&format!("space {space}"), || operator.new_space(&name(space), 1).unwrap());
        }
    }
    for key in 0..IN_BUNDLE {
        let key = format!("b/k{key}");
        if operator.key(&path(&key), |_| Ok(())).is_err() {
            create(operator, &key);
        }
    }
}

fn change(home: &Home, keyspace: &Unlocked, first: u64, mut opened_by: u64, slow: &str) {
    let operator = keyspace.as_operator();
    let (mut seed, mut last) = (first, None::<String>);
    let mut keys = operator.space(&name("a")).unwrap().keys.unwrap();
    for turn in 0_u64.. {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let at = (seed >> 33) % 4;
        let is_slow = (seed >> 40).is_multiple_of(SLOW);
        if slow == "renew" && is_slow {
            said("renew all", || {
                operator.rotate_root(&passphrase(opened_by), |_, _| {}).map(drop).unwrap();
                tell_file(home);
            });
        } else if slow == "passwd" && is_slow {
            let new = opened_by + 1;
            said(&format!("passwd {new}"), || {
                let (current, new) = (passphrase(opened_by), passphrase(new));
                operator
                    .set_passphrase(&current, SlotKind::Operator, &new, KdfCost::Standard)
                    .unwrap();
            });
            opened_by = new;
        } else if keys > MOST {
            said("empty a", || operator.delete_space(&name("a"), 1).map(drop).unwrap());
            said("space a", || operator.new_space(&name("a"), 1).unwrap());
            (keys, last) = (0, None);
        } else if at == 0
            && let Some(key) = &last
        {
            said(&format!("rotate {key}"), || operator.rotate_key(&path(key), 1).map(drop).unwrap())
        } else if at == 1 {
            let space = format!("c{first}-{turn}");
            said(&format!("import {space}"), || import(keyspace, &space));
            said(&format!("empty {space}"), || {
                operator.delete_space(&name(&space), 1).map(drop).unwrap();
            });
        } else {
            let made = format!("a/{first}-{turn}");
            create(&operator, &made);
            keys += 1;
            last = Some(made);
        }
    }
}

fn said<R>(what: &str, act: impl FnOnce() -> R) -> R {
    println!("will {what}");
    let done = act();
    println!("did {what}");
    done
}

fn create(operator: &Operator<'_>, key: &str) {
    said(&format!("create {key}"), || {
        operator.new_key(&path(key), Algorithm::Ed25519, 1).unwrap();
    });
}

/// Key space `b` under another name, by way of a bundle.
fn import(keyspace: &Unlocked, space: &str) {
    let operator = keyspace.as_operator();
    let to = Protection::Recipients(vec![operator.recipient().unwrap()]);
    let mut bundle = Vec::new();
    operator.export(&[name("b")], &to, &mut bundle, |_, _| {}).unwrap();
    let importing = Importing { rename: Some(name(space)), skip_existing: false };
    let mut source = std::io::Cursor::new(bundle);
    operator.import(&mut source, None, &importing, |_| {}).unwrap();
}

fn passphrase(number: u64) -> Passphrase {
    Passphrase::new(format!("correct horse battery {number}").into_bytes()).unwrap()
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn path(text: &str) -> KeyPath {
    let (space, key) = text.split_once('/').unwrap();
    KeyPath { space: name(space), key: name(key) }
}

fn panic_with(text: &str) -> ! {
    println!("unreadable: {text}");
    std::process::exit(1)
}
