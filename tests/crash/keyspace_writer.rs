//! Changes a keyspace for as long as it lives, and says each change before it is asked for and after it is
//! acknowledged. `tests/e2e/durable.rs` kills it at any moment.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a program of the tests: it prints, and stops where something is wrong"
)]

use std::path::Path;

use keyspace::{Home, Importing, Locked, Opening, Passphrase, Unlocked};
use wire::admin::Row;
use wire::operator::{KdfCost, Protection, SlotKind};
use wire::{Algorithm, KeyPath, Name};

/// Keys of the key space that bundles are made of.
const IN_BUNDLE: usize = 20;
/// Keys after which the first key space is emptied, so that it does not grow for ever.
const MOST: u64 = 500;
/// One change in so many is of a passphrase, which takes long.
const PASSWD: u64 = 40;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let home = Home::create(Path::new(&arguments[1])).unwrap();
    let mut seed: u64 = arguments[2].parse().unwrap();
    let keyspace = match Locked::open(&home) {
        Ok(locked) => locked.unlock(&passphrase(), Opening::default()).unwrap(),
        Err(keyspace::KeyspaceError::Missing(_)) => found(&home),
        Err(error) => panic_with(&error.to_string()),
    };
    let operator = keyspace.as_operator();
    operator.verify(|_, _| {}).unwrap();
    // It was killed between emptying and making it.
    if operator.space(&name("a")).is_err() {
        operator.new_space(&name("a"), 1).unwrap();
    }
    let tell = |row| {
        if let Row::Key(row) = row {
            println!("has {} {}", row.key, row.version);
        }
        Ok(())
    };
    operator.keys(None, tell).unwrap();
    println!("ready");
    let mut next = operator.space(&name("a")).unwrap().keys.unwrap();
    let (first, mut last) = (seed, None::<String>);
    for turn in 0_u64.. {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let at = (seed >> 33) % 4;
        let made = format!("a/{first}-{turn}");
        match (seed >> 40) % PASSWD {
            0 => said("passwd", || {
                let (current, same) = (passphrase(), passphrase());
                operator
                    .set_passphrase(&current, SlotKind::Operator, &same, KdfCost::Standard)
                    .unwrap();
            }),
            _ if next > MOST => {
                said("empty a", || {
                    operator.delete_space(&name("a")).unwrap();
                });
                said("space a", || operator.new_space(&name("a"), 1).unwrap());
                (next, last) = (0, None);
            }
            _ if at == 0
                && let Some(key) = &last =>
            {
                said(&format!("rotate {key}"), || {
                    operator.rotate_key(&path(key), 1).unwrap();
                })
            }
            _ if at == 1 => {
                let space = format!("c{first}-{turn}");
                said(&format!("import {space}"), || import(&keyspace, &space));
                said(&format!("empty {space}"), || {
                    operator.delete_space(&name(&space)).unwrap();
                });
            }
            _ => {
                said(&format!("create {made}"), || {
                    operator.new_key(&path(&made), Algorithm::Ed25519, 1).unwrap();
                });
                next += 1;
                last = Some(made);
            }
        }
    }
}

fn said(what: &str, act: impl FnOnce()) {
    println!("will {what}");
    act();
    println!("did {what}");
}

fn found(home: &Home) -> Unlocked {
    let keyspace = Unlocked::create(home, &passphrase(), KdfCost::Standard, 1).unwrap();
    let operator = keyspace.as_operator();
    for space in ["a", "b"] {
        operator.new_space(&name(space), 1).unwrap();
    }
    for key in 0..IN_BUNDLE {
        operator.new_key(&path(&format!("b/k{key}")), Algorithm::Ed25519, 1).unwrap();
    }
    keyspace
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

fn passphrase() -> Passphrase {
    Passphrase::new(b"correct horse battery".to_vec()).unwrap()
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
