//! `tests/vectors/uses.txt`: what keys make of a text, made by another program from the specification alone. Every later
//! version reads it, and makes the same of the same.

use std::collections::BTreeMap;

use data_encoding::{BASE64, HEXLOWER};
use wire::Algorithm;

use crate::key::KeyRecord;
use crate::secret::Secret;
use crate::store::Service;
use crate::tests::path;
use crate::{Unlocked, decrypt_with, encrypt};

fn uses() -> BTreeMap<String, String> {
    let file =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/uses.txt");
    let text = std::fs::read_to_string(file).unwrap();
    let row = |line: &str| line.split_once(": ").map(|(a, b)| (a.to_owned(), b.to_owned()));
    text.lines().map(|line| row(line).unwrap()).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    HEXLOWER.decode(hex.as_bytes()).unwrap()
}

fn key(algorithm: Algorithm, hex: &str) -> KeyRecord {
    KeyRecord::of(path("a/k"), algorithm, Secret::copied(&bytes(hex)).unwrap(), 1)
}

#[test]
fn a_symmetric_key_decrypts_for_ever_and_makes_the_same_hmac() {
    let uses = uses();
    let (text, key) = (uses["text"].as_bytes(), key(Algorithm::Symmetric, &uses["symmetric"]));
    assert_eq!(encrypt::hmac(&key, text).unwrap().to_vec(), bytes(&uses["hmac"]));
    assert_eq!(encrypt::decrypt(&key, &uses["encrypt"]).unwrap().as_slice(), text);
    let data_key = BASE64.encode(&bytes(&uses["symmetric"]));
    assert_eq!(decrypt_with(&data_key, &uses["encrypt-with-data-key"]).unwrap().as_slice(), text);
    // The version in the text says whose it is.
    assert!(encrypt::decrypt(&key, &uses["encrypt-with-data-key"]).is_err());
    assert!(decrypt_with(&data_key, &uses["encrypt"]).is_err());
}

#[test]
fn what_was_encrypted_to_a_public_key_is_decrypted_for_ever() {
    let uses = uses();
    let key = key(Algorithm::X25519, &uses["x25519"]);
    let opened = encrypt::decrypt_from(&key, &uses["encrypt_to"]).unwrap();
    assert_eq!(opened.as_slice(), uses["text"].as_bytes());
}

#[test]
fn the_recipient_of_a_service_stays_the_same() {
    let uses = uses();
    let mut keyspace = Unlocked::ephemeral(1).unwrap();
    keyspace.service = Service::of(Secret::copied(&bytes(&uses["service"])).unwrap()).unwrap();
    assert_eq!(keyspace.as_operator().recipient().unwrap(), uses["recipient"]);
}
