//! The keyspace against a model of it: any order of an operator's acts, scripts that are kept or dropped, and
//! openings anew. `KEYSPACE_CASES` says how many orders (1,000 unless it does).

use std::collections::BTreeMap;

use policy::Target;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use wire::admin::Row;
use wire::operator::{Protection, SlotKind};
use wire::script::{PublicForm, Scheme};
use wire::{Algorithm, CallName, KeyPath, KeyState, Name};

use crate::import::Imported;
use crate::seal::RootKeys;
use crate::secret::Secret;
use crate::slot::Slot;
use crate::tests::permit;
use crate::{Importing, KeyspaceError, Operator, Unlocked};

/// Names are few, so that acts meet.
const SPACES: [&str; 3] = ["a", "b", "c"];
const KEYS: [&str; 3] = ["x", "y", "z"];
/// Acts of one order.
const MOST_ACTS: usize = 40;

#[derive(Debug, Clone, Copy)]
enum Act {
    NewSpace(usize),
    DeleteSpace(usize),
    RenameSpace(usize, usize),
    NewKey(usize, usize, usize),
    Rotate(usize, usize),
    Enable(usize, usize, bool),
    Delete(usize, usize),
    Restore(usize, usize),
    Destroy(usize, usize, bool),
    /// A script makes a key, in a key space that it may make as well, rotates another and deletes a third.
    Script {
        make: (usize, usize),
        rotate: (usize, usize),
        delete: (usize, usize),
        keep: bool,
    },
    /// Everything goes through a bundle to another keyspace, which takes this one's place.
    Move,
    /// A key space goes through a bundle and comes back under another name.
    Copy(usize, usize),
    /// A key space is destroyed, and taken again from a bundle that also has what is still here.
    BringBack(usize),
    NewRoot,
    NewPassphrase(SlotKind),
}

/// A key: what it is for, its state, its public keys.
type Key = (Algorithm, KeyState, Vec<String>);
type Model = BTreeMap<usize, BTreeMap<usize, Key>>;

fn space(number: usize) -> Name {
    Name::parse(SPACES[number]).unwrap()
}

fn path((space_number, key): (usize, usize)) -> KeyPath {
    KeyPath { space: space(space_number), key: Name::parse(KEYS[key]).unwrap() }
}

/// The clock of an act: later than all waits where time has passed.
const NOW: u64 = 1_000;
const DAY: u64 = 86_400;

/// Does it to both; whether both took it.
#[expect(clippy::too_many_lines, reason = "one act after another")]
fn apply(keyspace: &mut Unlocked, model: &mut Model, act: Act) {
    let operator = keyspace.as_operator();
    let (took, expected) = match act {
        Act::NewSpace(s) => {
            let took = operator.new_space(&space(s), NOW).is_ok();
            let free = !model.contains_key(&s);
            model.entry(s).or_default();
            (took, free)
        }
        Act::DeleteSpace(s) => {
            let took = operator.delete_space(&space(s), NOW);
            let waits =
                model.get(&s).is_some_and(|keys| keys.values().any(|key| is_deleted(key.1)));
            let expected = if waits { None } else { model.remove(&s) };
            assert_eq!(
                took.as_ref().ok().copied(),
                expected.as_ref().map(|keys| keys.len() as u64)
            );
            (took.is_ok(), expected.is_some())
        }
        Act::RenameSpace(from, to) => {
            let took = operator.rename_space(&space(from), &space(to)).is_ok();
            let expected = model.contains_key(&from) && !model.contains_key(&to);
            if expected && let Some(keys) = model.remove(&from) {
                model.insert(to, keys);
            }
            (took, expected)
        }
        Act::NewKey(s, k, a) => {
            let algorithm = Algorithm::ALL[a];
            let took = operator.new_key(&path((s, k)), algorithm, NOW).is_ok();
            let keys = model.get_mut(&s).filter(|keys| !keys.contains_key(&k));
            let expected = keys.is_some();
            if let Some(keys) = keys {
                keys.insert(k, (algorithm, KeyState::Enabled, publics(keyspace, (s, k))));
            }
            (took, expected)
        }
        Act::Rotate(s, k) => {
            let used = used(keyspace, (s, k));
            let took = operator.rotate_key(&path((s, k)), NOW).is_ok();
            assert!(used.is_none_or(|used| counts(keyspace, (s, k), &used)), "the old version");
            let key = key(model, (s, k)).filter(|(_, state, _)| *state == KeyState::Enabled);
            let expected = key.is_some();
            if let Some((_, _, known)) = key {
                let now = publics(keyspace, (s, k));
                assert_eq!(now[..now.len() - 1], known[..], "old versions stay");
                *known = now;
            }
            (took, expected)
        }
        Act::Enable(s, k, enabled) => {
            let took = operator.enable_key(&path((s, k)), enabled).is_ok();
            let to = if enabled { KeyState::Enabled } else { KeyState::Disabled };
            (took, set(model, (s, k), |state| !is_deleted(state), to))
        }
        Act::Delete(s, k) => {
            let took = operator.delete_key(&path((s, k)), DAY, NOW).is_ok();
            let to = KeyState::Deleted { until: NOW + DAY };
            (took, set(model, (s, k), |state| !is_deleted(state), to))
        }
        Act::Restore(s, k) => {
            let took = operator.restore_key(&path((s, k))).is_ok();
            (took, set(model, (s, k), is_deleted, KeyState::Disabled))
        }
        Act::Destroy(s, k, waited) => {
            let now = if waited { NOW + DAY } else { NOW };
            let took = operator.destroy_key(&path((s, k)), now).is_ok();
            let expected =
                waited && key(model, (s, k)).is_some_and(|(_, state, _)| is_deleted(*state));
            if expected && let Some(keys) = model.get_mut(&s) {
                keys.remove(&k);
            }
            (took, expected)
        }
        Act::Script { make, rotate, delete, keep } => {
            script(keyspace, model, make, rotate, delete, keep);
            (true, true)
        }
        Act::Move => {
            *keyspace = moved(keyspace);
            (true, true)
        }
        Act::Copy(from, to) => {
            let rename = Importing { rename: Some(space(to)), skip_existing: false };
            let bundle = bundle(keyspace, keyspace, &[space(from)]);
            let took = bundle.is_ok_and(|bundle| import(keyspace, &bundle, &rename).is_ok());
            let expected = model.contains_key(&from) && !model.contains_key(&to);
            if expected && let Some(keys) = model.get(&from).cloned() {
                model.insert(to, keys);
            }
            (took, expected)
        }
        Act::BringBack(s) => {
            let missing = Importing { rename: None, skip_existing: true };
            let bundle = bundle(keyspace, keyspace, &[]).unwrap();
            let _was_there = operator.delete_space(&space(s), u64::MAX);
            let took = import(keyspace, &bundle, &missing).unwrap();
            let new = model.get(&s).map_or(0, BTreeMap::len) as u64;
            assert_eq!((took.spaces, took.keys), (u64::from(model.contains_key(&s)), new));
            (true, true)
        }
        Act::NewRoot => {
            let keys = RootKeys::below(&Secret::random().unwrap()).unwrap();
            keyspace.renew(keys, Slot::unopenable().unwrap(), |_, _| {}).unwrap();
            (slots(&operator) == [SlotKind::Operator], true)
        }
        Act::NewPassphrase(kind) => {
            let mut slot = Slot::unopenable().unwrap();
            slot.kind = kind;
            operator.put_slot(slot, &keyspace.root()).unwrap();
            (slots(&operator).contains(&kind), true)
        }
    };
    assert_eq!(took, expected, "{act:?}");
}

fn slots(operator: &Operator<'_>) -> Vec<SlotKind> {
    operator.verify(|_, _| {}).unwrap().slots.into_iter().map(|row| row.slot).collect()
}

fn is_deleted(state: KeyState) -> bool {
    matches!(state, KeyState::Deleted { .. })
}

fn key(model: &mut Model, (s, k): (usize, usize)) -> Option<&mut Key> {
    model.get_mut(&s)?.get_mut(&k)
}

fn set(model: &mut Model, at: (usize, usize), from: fn(KeyState) -> bool, to: KeyState) -> bool {
    let key = key(model, at).filter(|(_, state, _)| from(*state));
    key.map(|(_, state, _)| *state = to).is_some()
}

fn publics(keyspace: &Unlocked, at: (usize, usize)) -> Vec<String> {
    let mut publics = Vec::new();
    let told = keyspace.as_operator().key(&path(at), |row| {
        if let Row::Version { public, .. } = row {
            publics.push(public);
        }
        Ok(())
    });
    told.unwrap();
    publics
}

/// What a script does: all of it is kept, or nothing.
fn script(
    keyspace: &Unlocked,
    model: &mut Model,
    make: (usize, usize),
    rotate: (usize, usize),
    delete: (usize, usize),
    keep: bool,
) {
    let on = |call, at| permit(call, Target::Key(path(at)));
    let mut after = model.clone();
    let mut staged = keyspace.stage().unwrap();
    let in_space = permit(CallName::CreateKeySpace, Target::Space(space(make.0)));
    assert_eq!(staged.create_space(in_space).unwrap(), !after.contains_key(&make.0));
    after.entry(make.0).or_default();
    let made = staged.create_key(on(CallName::CreateKeypair, make), Algorithm::Ed25519, NOW);
    let is_new = key(&mut after, make).is_none();
    assert_eq!(made.unwrap(), Some(is_new));
    if is_new {
        let public = staged.public_key(on(CallName::PublicKey, make), PublicForm::Hex).unwrap();
        let key = (Algorithm::Ed25519, KeyState::Enabled, vec![public.unwrap()]);
        after.get_mut(&make.0).unwrap().insert(make.1, key);
    }
    let rotated = staged.rotate_key(on(CallName::RotateKeypair, rotate), NOW);
    match key(&mut after, rotate) {
        None => assert_eq!(rotated.unwrap(), None),
        Some((_, KeyState::Enabled, known)) => {
            rotated.unwrap().unwrap();
            // Its new public key is read below; a symmetric one has none.
            known.push(String::new());
        }
        Some(_) => assert!(rotated.is_err()),
    }
    let signed = staged.sign(on(CallName::Sign, make), Scheme::Plain, b"m");
    if let Some((Algorithm::Ed25519, KeyState::Enabled, _)) = key(&mut after, make) {
        assert!(signed.unwrap().is_some());
    }
    let deleted = staged.delete_key(on(CallName::DeleteKeypair, delete));
    match key(&mut after, delete) {
        None => assert!(!deleted.unwrap()),
        Some((_, KeyState::Enabled, _)) => {
            assert!(deleted.unwrap());
            after.get_mut(&delete.0).unwrap().remove(&delete.1);
        }
        Some(_) => assert!(deleted.is_err()),
    }
    if !keep {
        drop(staged);
        return;
    }
    staged.commit(NOW).unwrap();
    if let Some((_, KeyState::Enabled, known)) = key(&mut after, rotate) {
        let now = publics(keyspace, rotate);
        assert_eq!((now.len(), &now[..now.len() - 1]), (known.len(), &known[..known.len() - 1]));
        *known = now;
    }
    *model = after;
}

/// A signature, or a text that is encrypted, by the version in use.
fn used(keyspace: &Unlocked, at: (usize, usize)) -> Option<Vec<u8>> {
    let on = |call| permit(call, Target::Key(path(at)));
    let staged = keyspace.stage().unwrap();
    let encrypted = staged.encrypt(on(CallName::Encrypt), b"m").ok().flatten();
    let signed = || staged.sign(on(CallName::Sign), Scheme::Plain, b"m").ok().flatten();
    encrypted.map(String::into_bytes).or_else(signed)
}

/// Whether a key says that this is its own.
fn counts(keyspace: &Unlocked, at: (usize, usize), used: &[u8]) -> bool {
    let on = |call| permit(call, Target::Key(path(at)));
    let staged = keyspace.stage().unwrap();
    if staged.algorithm(&path(at)).unwrap() != Some(Algorithm::Symmetric) {
        return staged.verify(on(CallName::Verify), b"m", used).unwrap().unwrap();
    }
    let text = std::str::from_utf8(used).unwrap();
    staged.decrypt(on(CallName::Decrypt), text).unwrap().unwrap().as_slice() == b"m"
}

/// The same in another keyspace, by way of a bundle.
fn moved(keyspace: &Unlocked) -> Unlocked {
    let other = Unlocked::ephemeral(1).unwrap();
    let bundle = bundle(keyspace, &other, &[]).unwrap();
    import(&other, &bundle, &Importing::default()).unwrap();
    other
}

fn bundle(from: &Unlocked, to: &Unlocked, spaces: &[Name]) -> Result<Vec<u8>, KeyspaceError> {
    let to = Protection::Recipients(vec![to.as_operator().recipient().unwrap()]);
    let mut bundle = Vec::new();
    from.as_operator().export(spaces, &to, &mut bundle, |_, _| {})?;
    Ok(bundle)
}

fn import(
    keyspace: &Unlocked,
    bundle: &[u8],
    importing: &Importing,
) -> Result<Imported, KeyspaceError> {
    let mut bundle = std::io::Cursor::new(bundle);
    keyspace.as_operator().import(&mut bundle, None, importing, |_| {})
}

fn compare(keyspace: &Unlocked, model: &Model) {
    let mut spaces: Vec<Name> = model.keys().map(|s| space(*s)).collect();
    spaces.sort();
    assert_eq!(keyspace.spaces().unwrap(), spaces);
    let mut found = BTreeMap::new();
    let listed = keyspace.as_operator().keys(None, |row| {
        if let Row::Key(row) = row {
            found.insert(row.key.clone(), (row.algorithm, row.state));
        }
        Ok(())
    });
    listed.unwrap();
    let expected: BTreeMap<_, _> = model
        .iter()
        .flat_map(|(s, keys)| {
            keys.iter().map(|(k, (algorithm, state, _))| (path((*s, *k)), (*algorithm, *state)))
        })
        .collect();
    assert_eq!(found, expected);
    for (s, keys) in model {
        for (k, (_, _, known)) in keys {
            assert_eq!(publics(keyspace, (*s, *k)), *known);
        }
    }
    keyspace.as_operator().verify(|_, _| {}).unwrap();
}

fn act() -> impl Strategy<Value = Act> {
    let (s, k) = (0..SPACES.len(), 0..KEYS.len());
    let at = || (0..SPACES.len(), 0..KEYS.len());
    prop_oneof![
        3 => s.clone().prop_map(Act::NewSpace),
        1 => s.clone().prop_map(Act::DeleteSpace),
        1 => (s.clone(), s.clone()).prop_map(|(from, to)| Act::RenameSpace(from, to)),
        6 => (s.clone(), k, 0..Algorithm::ALL.len()).prop_map(|(s, k, a)| Act::NewKey(s, k, a)),
        3 => at().prop_map(|(s, k)| Act::Rotate(s, k)),
        2 => (at(), any::<bool>()).prop_map(|((s, k), enabled)| Act::Enable(s, k, enabled)),
        2 => at().prop_map(|(s, k)| Act::Delete(s, k)),
        2 => at().prop_map(|(s, k)| Act::Restore(s, k)),
        2 => (at(), any::<bool>()).prop_map(|((s, k), waited)| Act::Destroy(s, k, waited)),
        4 => (at(), at(), at(), any::<bool>())
            .prop_map(|(make, rotate, delete, keep)| Act::Script { make, rotate, delete, keep }),
        1 => Just(Act::Move),
        1 => (s.clone(), s.clone()).prop_map(|(from, to)| Act::Copy(from, to)),
        1 => s.prop_map(Act::BringBack),
        1 => Just(Act::NewRoot),
        1 => (0..SlotKind::ALL.len()).prop_map(|kind| Act::NewPassphrase(SlotKind::ALL[kind])),
    ]
}

#[test]
fn any_order_of_acts_leaves_what_the_model_has() {
    let cases = std::env::var("KEYSPACE_CASES").map_or(1_000, |cases| cases.parse().unwrap());
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let orders = proptest::collection::vec(act(), 1..MOST_ACTS);
    let run = TestRunner::new(config).run(&orders, |acts| {
        let (mut keyspace, mut model) = (Unlocked::ephemeral(1).unwrap(), Model::new());
        for act in acts {
            apply(&mut keyspace, &mut model, act);
            compare(&keyspace, &model);
        }
        Ok(())
    });
    run.unwrap();
}
