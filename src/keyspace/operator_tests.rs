//! What an operator does, and what stays as it was when it is refused.

use std::io::Cursor;

use policy::Target;
use tempfile::TempDir;
use wire::admin::{KeyRow, Row};
use wire::operator::{KdfCost, Protection, SlotKind};
use wire::script::PublicForm;
use wire::{Algorithm, CallName, Hidden, KeyState, Name};

use super::*;
use crate::seal::{Cost, RootKeys};
use crate::slot::Slot;
use crate::tests::{name, path, permit};

const DAY: u64 = 24 * 60 * 60;

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(text.as_bytes().to_vec()).unwrap()
}

fn in_memory() -> Unlocked {
    Unlocked::ephemeral(1).unwrap()
}

fn in_file() -> (TempDir, Home, Unlocked) {
    let folder = TempDir::new().unwrap();
    let home = Home::create(&folder.path().join("home")).unwrap();
    let keyspace =
        Unlocked::create_at(&home, &passphrase("the operator's"), Cost::LEAST, 1).unwrap();
    (folder, home, keyspace)
}

/// [`Operator::set_passphrase`], as cheap as can be.
fn set_passphrase(
    operator: &Operator<'_>,
    current: &Passphrase,
    slot: SlotKind,
    new: &Passphrase,
) -> Result<(), KeyspaceError> {
    let (header, root, _) = operator.unlocked_header(current)?;
    let slot = Slot::wrap(slot, new, Cost::LEAST, &root, &header.file_id)?;
    operator.put_slot(slot, &RootKeys::below(&root)?)
}

fn rows(keyspace: &Unlocked) -> Vec<KeyRow> {
    let mut rows = Vec::new();
    let taken = keyspace.as_operator().keys(None, |row| {
        if let Row::Key(row) = row {
            rows.push(row);
        }
        Ok(())
    });
    taken.unwrap();
    rows.sort_by_key(|row| row.key.clone());
    rows
}

fn publics(keyspace: &Unlocked, key: &str) -> Vec<String> {
    let mut publics = Vec::new();
    let told = keyspace.as_operator().key(&path(key), |row| {
        if let Row::Version { public, .. } = row {
            publics.push(public);
        }
        Ok(())
    });
    told.unwrap();
    publics
}

/// One of each algorithm and state, and one of two versions.
fn fill(keyspace: &Unlocked, space: &str) {
    let operator = keyspace.as_operator();
    operator.new_space(&name(space), 10).unwrap();
    for algorithm in Algorithm::ALL {
        operator.new_key(&path(&format!("{space}/{algorithm}")), *algorithm, 11).unwrap();
    }
    assert_eq!(operator.rotate_key(&path(&format!("{space}/ed25519")), 12).unwrap(), 2);
    operator.enable_key(&path(&format!("{space}/p256")), false).unwrap();
    operator.delete_key(&path(&format!("{space}/x25519")), DAY, 13).unwrap();
}

fn protection(text: &str) -> Protection {
    Protection::Passphrase(Hidden::new(text.as_bytes().to_vec()))
}

fn export(keyspace: &Unlocked, spaces: &[&str], protection: &Protection) -> Vec<u8> {
    let mut bundle = Vec::new();
    let spaces: Vec<Name> = spaces.iter().map(|space| name(space)).collect();
    keyspace.as_operator().export(&spaces, protection, &mut bundle, |_, _| {}).unwrap();
    bundle
}

fn import(
    keyspace: &Unlocked,
    bundle: &[u8],
    passphrase: Option<&Passphrase>,
    importing: &Importing,
) -> Result<Imported, KeyspaceError> {
    keyspace.as_operator().import(&mut Cursor::new(bundle), passphrase, importing, |_| {})
}

#[test]
fn a_state_is_gone_through_in_its_order_alone() {
    let keyspace = in_memory();
    let operator = keyspace.as_operator();
    let key = path("a/k");
    assert!(operator.new_key(&key, Algorithm::Ed25519, 1).is_err(), "no such space");
    operator.new_space(&key.space, 1).unwrap();
    operator.new_key(&key, Algorithm::Ed25519, 1).unwrap();
    assert!(operator.new_key(&key, Algorithm::Ed25519, 1).is_err(), "there is one");
    assert!(operator.new_space(&key.space, 1).is_err(), "there is one");
    assert!(operator.restore_key(&key).is_err(), "not deleted");
    assert!(operator.destroy_key(&key, u64::MAX).is_err(), "not deleted");
    operator.enable_key(&key, false).unwrap();
    assert!(operator.rotate_key(&key, 2).is_err(), "disabled");
    assert!(operator.delete_key(&key, DAY - 1, 100).is_err(), "too short");
    assert!(operator.delete_key(&key, 3650 * DAY + 1, 100).is_err(), "too long");
    assert_eq!(operator.delete_key(&key, DAY, 100).unwrap(), 100 + DAY);
    assert!(operator.delete_key(&key, DAY, 100).is_err(), "deleted");
    assert!(operator.enable_key(&key, true).is_err(), "deleted");
    assert!(operator.destroy_key(&key, 99 + DAY).is_err(), "too early");
    assert_eq!(rows(&keyspace)[0].state, KeyState::Deleted { until: 100 + DAY });
    operator.restore_key(&key).unwrap();
    assert_eq!(rows(&keyspace)[0].state, KeyState::Disabled, "it may have been");
    operator.delete_key(&key, DAY, 100).unwrap();
    operator.destroy_key(&key, 100 + DAY).unwrap();
    assert!(rows(&keyspace).is_empty());
}

fn slots_of(operator: &Operator<'_>) -> Vec<SlotKind> {
    operator.verify(|_, _| {}).unwrap().slots.iter().map(|row| row.slot).collect()
}

#[test]
fn a_key_space_keeps_everything_under_its_new_name() {
    let keyspace = in_memory();
    fill(&keyspace, "old");
    fill(&keyspace, "other");
    let before = rows(&keyspace);
    let public = publics(&keyspace, "old/ed25519");
    let operator = keyspace.as_operator();
    assert!(operator.rename_space(&name("old"), &name("other")).is_err(), "there is one");
    assert!(operator.rename_space(&name("none"), &name("new")).is_err(), "there is none");
    assert_eq!(operator.rename_space(&name("old"), &name("new")).unwrap(), 5);
    assert_eq!(publics(&keyspace, "new/ed25519"), public);
    let mut renamed = before;
    for row in &mut renamed {
        if row.key.space == name("old") {
            row.key.space = name("new");
        }
    }
    renamed.sort_by_key(|row| row.key.clone());
    assert_eq!(rows(&keyspace), renamed);
    assert_eq!(operator.space(&name("new")).unwrap().created, 10);
    // Its key `new/x25519` waits for a day, which the key space must not be a way around.
    assert!(operator.delete_space(&name("new"), 13 + DAY - 1).is_err());
    assert_eq!(rows(&keyspace), renamed, "nothing of it is gone");
    assert_eq!(operator.delete_space(&name("new"), 13 + DAY).unwrap(), 5);
    assert!(operator.delete_space(&name("new"), 13 + DAY).is_err(), "it is gone");
    assert_eq!(rows(&keyspace).len(), 5);
}

#[test]
fn a_session_that_began_before_its_key_space_was_renamed_is_a_conflict() {
    let keyspace = in_memory();
    fill(&keyspace, "a");
    let mut staged = keyspace.stage().unwrap();
    let permit = permit(CallName::CreateKeypair, Target::Key(path("a/new")));
    assert_eq!(staged.create_key(permit, Algorithm::Ed25519, 20).unwrap(), Some(true));
    keyspace.as_operator().rename_space(&name("a"), &name("b")).unwrap();
    assert!(matches!(staged.commit(20), Err(CommitError::Conflict(_))));
    assert_eq!(rows(&keyspace).len(), 5);
}

#[test]
fn a_new_root_key_keeps_every_key_and_one_passphrase() {
    let (_folder, home, keyspace) = in_file();
    fill(&keyspace, "a");
    fill(&keyspace, "b");
    let operator = keyspace.as_operator();
    let (current, backup) = (passphrase("the operator's"), passphrase("the backup's"));
    operator.set_passphrase(&current, SlotKind::Backup, &backup, KdfCost::Standard).unwrap();
    let (before, public) = (rows(&keyspace), publics(&keyspace, "a/ed25519"));
    let (nkey, recipient) = (keyspace.service_nkey().to_owned(), operator.recipient().unwrap());
    let old_id = keyspace.root().key_id(&path("a/ed25519"));
    assert!(operator.rotate_root(&passphrase("another one"), |_, _| {}).is_err());
    assert_eq!(operator.rotate_root(&current, |_, _| {}).unwrap(), 10);
    assert_ne!(keyspace.root().key_id(&path("a/ed25519")), old_id, "nothing is where it was");
    assert_eq!((rows(&keyspace), publics(&keyspace, "a/ed25519")), (before.clone(), public));
    assert_eq!(slots_of(&operator), [SlotKind::Operator]);
    operator.new_key(&path("a/later"), Algorithm::P256, 20).unwrap();
    drop(keyspace);
    let locked = || Locked::open(&home).unwrap();
    assert!(locked().unlock(&backup, Opening::default()).is_err());
    let keyspace = locked().unlock(&current, Opening::default()).unwrap();
    assert_eq!(rows(&keyspace).len(), before.len() + 1);
    assert_eq!(keyspace.service_nkey(), nkey);
    assert_eq!(keyspace.as_operator().recipient().unwrap(), recipient);
}

#[test]
fn each_passphrase_opens_its_slot_and_the_last_one_stays() {
    let (_folder, home, keyspace) = in_file();
    let operator = keyspace.as_operator();
    let [first, backup, credential, new] =
        ["the operator's", "the backup's", "the credential", "a new one"].map(passphrase);
    let set = |current: &Passphrase, slot, new: &Passphrase| {
        set_passphrase(&operator, current, slot, new)
    };
    // Once as an operator does it, at the cost that is written.
    operator.set_passphrase(&first, SlotKind::Backup, &backup, KdfCost::Standard).unwrap();
    set(&backup, SlotKind::Credential, &credential).unwrap();
    set(&credential, SlotKind::Operator, &new).unwrap();
    assert!(matches!(set(&first, SlotKind::Operator, &first), Err(KeyspaceError::WrongPassphrase)));
    assert!(set(&new, SlotKind::Operator, &passphrase("short")).is_err());
    let slots = [SlotKind::Operator, SlotKind::Backup, SlotKind::Credential];
    assert_eq!(slots_of(&operator), slots);
    operator.remove_passphrase(&new, SlotKind::Backup).unwrap();
    assert!(operator.remove_passphrase(&new, SlotKind::Backup).is_err(), "there is none");
    operator.remove_passphrase(&new, SlotKind::Operator).unwrap();
    assert!(operator.remove_passphrase(&credential, SlotKind::Credential).is_err(), "the last");
    drop(keyspace);
    let open = |passphrase: &Passphrase, slot| {
        let opening = Opening { slot, accept_older: false };
        Locked::open(&home).unwrap().unlock(passphrase, opening).is_ok()
    };
    assert!(!open(&new, None) && !open(&backup, None) && !open(&first, None));
    assert!(!open(&credential, Some(SlotKind::Operator)), "only the named slot is tried");
    assert!(open(&credential, Some(SlotKind::Credential)) && open(&credential, None));
}

#[test]
fn an_older_file_or_another_ones_is_refused_until_told_otherwise() {
    let (_folder, home, keyspace) = in_file();
    let (file, pin) = (home.file("keyspace.redb"), home.file("keyspace.pin"));
    let current = passphrase("the operator's");
    fill(&keyspace, "a");
    drop(keyspace);
    let older = std::fs::read(&file).unwrap();
    let open = |accept_older| {
        Locked::open(&home).unwrap().unlock(&current, Opening { slot: None, accept_older })
    };
    open(false).unwrap().as_operator().delete_space(&name("a"), u64::MAX).unwrap();
    assert!(open(false).is_ok());
    std::fs::write(&file, &older).unwrap();
    assert!(matches!(open(false), Err(KeyspaceError::Older(_))));
    assert_eq!(rows(&open(true).unwrap()).len(), 5);
    open(true).unwrap().acknowledge().unwrap();
    assert!(open(false).is_ok(), "what was accepted counts from now on");
    std::fs::remove_file(&pin).unwrap();
    assert!(matches!(open(false), Err(KeyspaceError::Older(_))), "a note that is gone");
    open(true).unwrap().acknowledge().unwrap();
    let (_other_folder, other_home, other) = in_file();
    drop(other);
    std::fs::copy(other_home.file("keyspace.redb"), &file).unwrap();
    assert!(matches!(open(false), Err(KeyspaceError::Older(_))), "another keyspace");
}

#[test]
fn a_bundle_brings_every_key_as_it_was_and_nothing_over_what_is_here() {
    let (from, to) = (in_memory(), in_memory());
    fill(&from, "a");
    fill(&from, "b");
    fill(&to, "b");
    let before = rows(&to);
    let theirs = publics(&to, "b/ed25519");
    let bundle = export(&from, &[], &protection("bundle passphrase"));
    let open = passphrase("bundle passphrase");
    let refused = import(&to, &bundle, Some(&open), &Importing::default()).unwrap_err();
    assert!(refused.to_string().contains("`b` already"), "{refused}");
    let rename = Importing { rename: Some(name("c")), skip_existing: false };
    assert!(import(&to, &bundle, Some(&open), &rename).is_err(), "two spaces, one name");
    assert!(matches!(
        import(&to, &bundle, Some(&passphrase("another one")), &Importing::default()),
        Err(KeyspaceError::NotForUs)
    ));
    assert!(matches!(
        import(&to, &bundle, None, &Importing::default()),
        Err(KeyspaceError::NotForUs)
    ));
    assert_eq!(rows(&to), before);
    to.as_operator().delete_space(&name("b"), u64::MAX).unwrap();
    to.as_operator().new_space(&name("b"), 5).unwrap();
    to.as_operator().new_key(&path("b/ed25519"), Algorithm::Ed25519, 5).unwrap();
    let mine = publics(&to, "b/ed25519");
    assert_ne!(mine, theirs);
    let skip = Importing { rename: None, skip_existing: true };
    let done = import(&to, &bundle, Some(&open), &skip).unwrap();
    assert_eq!(done, Imported { spaces: 1, keys: 9, skipped: 1 });
    assert_eq!(publics(&to, "b/ed25519"), mine, "what was here stays");
    assert_eq!(publics(&to, "a/ed25519"), publics(&from, "a/ed25519"));
    let of = |keyspace: &Unlocked| {
        rows(keyspace).into_iter().filter(|row| row.key.space == name("a")).collect::<Vec<_>>()
    };
    assert_eq!(of(&to), of(&from));
    let one = export(&from, &["a"], &protection("bundle passphrase"));
    let done = import(&to, &one, Some(&open), &rename).unwrap();
    assert_eq!(done, Imported { spaces: 1, keys: 5, skipped: 0 });
    assert_eq!(publics(&to, "c/ed25519"), publics(&from, "a/ed25519"));
}

#[test]
fn a_bundle_to_recipients_is_for_them_alone() {
    let (from, to, other) = (in_memory(), in_memory(), in_memory());
    fill(&from, "a");
    let recipients = [&to, &from].map(|keyspace| keyspace.as_operator().recipient().unwrap());
    let bundle = export(&from, &["a"], &Protection::Recipients(recipients.to_vec()));
    assert!(import(&to, &bundle, None, &Importing::default()).is_ok());
    let refused = import(&other, &bundle, None, &Importing::default());
    assert!(matches!(refused, Err(KeyspaceError::NotForUs)));
    let mut nothing = Vec::new();
    for bad in [
        "",
        "age1",
        "AGE1W6NK3",
        "age1w6nk3qkagmpxvmu5t92x87hl4nqmkzff9v9mq4vrxmrymjhclezq5sque5",
        "bc1q",
    ] {
        let to = Protection::Recipients(vec![bad.to_owned()]);
        assert!(from.as_operator().export(&[], &to, &mut nothing, |_, _| {}).is_err(), "{bad}");
    }
    for count in [0, 17] {
        let to = Protection::Recipients(vec![recipients[0].clone(); count]);
        assert!(from.as_operator().export(&[], &to, &mut nothing, |_, _| {}).is_err());
    }
    assert!(nothing.is_empty());
}

#[test]
fn every_flipped_bit_and_every_cut_of_a_bundle_is_refused_and_changes_nothing() {
    let (from, to) = (in_memory(), in_memory());
    from.as_operator().new_space(&name("a"), 1).unwrap();
    from.as_operator().new_key(&path("a/k"), Algorithm::Ed25519, 1).unwrap();
    let recipient = to.as_operator().recipient().unwrap();
    let bundle = export(&from, &["a"], &Protection::Recipients(vec![recipient]));
    assert!(bundle.len() < 4096);
    let refused = |bytes: &[u8]| import(&to, bytes, None, &Importing::default()).unwrap_err();
    for length in 0..bundle.len() {
        refused(&bundle[..length]);
    }
    for bit in 0..bundle.len() * 8 {
        let mut flipped = bundle.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        refused(&flipped);
    }
    refused(&[bundle.as_slice(), b"x"].concat());
    assert!(rows(&to).is_empty() && to.spaces().unwrap().is_empty());
    import(&to, &bundle, None, &Importing::default()).unwrap();
}

#[test]
fn private_keys_that_are_none_are_not_wrapped() {
    let recipient = in_memory().as_operator().recipient().unwrap();
    let wrap = |file: &[u8]| wrap_for(&recipient, &Hidden::new(file.to_vec()));
    // The bytes of a public key (RFC 8410 §10.1), and of nothing, under each label.
    let public = "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=";
    let labels =
        ["PRIVATE KEY", "EC PRIVATE KEY", "OPENSSH PRIVATE KEY", "PUBLIC KEY", "EC PARAMETERS"];
    for (label, body) in labels.into_iter().flat_map(|label| [(label, "AAAA"), (label, public)]) {
        let pem = format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
        assert!(wrap(pem.as_bytes()).is_err(), "{pem}");
    }
    let nkey = b"UBVYNMTT742PZYM5NOAE5722H5LUPLNE5KRC6HKJYAPFFXNXQ5NUXEGK";
    for bad in [&b""[..], b"hello", &[7; 31], &[7; 33], nkey] {
        assert!(wrap(bad).is_err(), "{bad:?}");
    }
    let keyspace = in_memory();
    let operator = keyspace.as_operator();
    let own = operator.recipient().unwrap();
    operator.new_space(&name("a"), 1).unwrap();
    let wrapped = wrap_for(&own, &Hidden::new(vec![7; 32])).unwrap();
    let put = |key: &str, algorithm| operator.import_key(&path(key), algorithm, &wrapped, 1);
    assert!(put("a/k", None).is_err(), "it does not say what it is for");
    assert_eq!(put("a/k", Some(Algorithm::P256)).unwrap(), Algorithm::P256);
    assert!(put("a/k", Some(Algorithm::P256)).is_err(), "there is one");
    assert!(put("b/k", Some(Algorithm::P256)).is_err(), "no such key space");
    let zero = wrap_for(&own, &Hidden::new(vec![0; 32])).unwrap();
    let zero = operator.import_key(&path("a/z"), Some(Algorithm::P256), &zero, 1);
    assert!(zero.is_err(), "no scalar");
    assert_eq!(rows(&keyspace).len(), 1);
    let hex = operator.public_key(&path("a/k"), PublicForm::Hex).unwrap();
    assert_eq!(hex.len(), 66);
}

#[test]
fn a_bundle_that_nobody_could_read_is_not_written() {
    let from = in_memory();
    fill(&from, "a");
    let to = Protection::Recipients(vec![from.as_operator().recipient().unwrap()]);
    let mut bundle = Vec::new();
    let twice = [name("a"), name("a")];
    assert!(from.as_operator().export(&twice, &to, &mut bundle, |_, _| {}).is_err());
    assert!(bundle.is_empty());
    let none = export(&in_memory(), &[], &to);
    let rename = Importing { rename: Some(name("b")), skip_existing: false };
    assert!(import(&from, &none, None, &rename).is_err(), "there is nothing to rename");
}
