use std::fs;
use std::os::unix::fs::PermissionsExt;

use policy::{Act, Decision, Facts, Permit, Policy, RateBook, Target};
use tempfile::TempDir;
use wire::operator::KdfCost;
use wire::script::{PublicForm, Scheme};
use wire::{Algorithm, CallName, KeyPath, Name};

use super::*;
use crate::key::MOST_VERSIONS;
use crate::seal::Cost;

const PASSPHRASE: &[u8] = b"correct horse battery";

/// Of [`new_keyspace`].
pub(crate) fn passphrase() -> Passphrase {
    Passphrase::new(PASSPHRASE.to_vec()).unwrap()
}

/// A keyspace in a file, as cheap to open as can be.
pub(crate) fn new_keyspace() -> (TempDir, Home, Unlocked) {
    let folder = TempDir::new().unwrap();
    let home = Home::create(&folder.path().join("home")).unwrap();
    let unlocked = Unlocked::create_at(&home, &passphrase(), Cost::LEAST, 1).unwrap();
    (folder, home, unlocked)
}

pub(crate) fn reopen(home: &Home) -> Result<Unlocked, KeyspaceError> {
    Locked::open(home)?.unlock(&passphrase(), Opening::default())
}

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub(crate) fn path(text: &str) -> KeyPath {
    let (space, key) = text.split_once('/').unwrap();
    KeyPath { space: name(space), key: name(key) }
}

/// A permit for anything, from a policy that allows everything: there is no other way to one.
pub(crate) fn permit(call: CallName, target: Target) -> Permit {
    permit_with("", call, target)
}

/// The same, on these terms.
pub(crate) fn permit_with(terms: &str, call: CallName, target: Target) -> Permit {
    let text = format!(
        "version = 1\nservice.name = \"s\"\nanonymous.roles = [\"r\"]\n[[role]]\nname = \"r\"\n\
         allow = [{{ calls = [\"*\"], keys = [\"*/*\"]{terms} }}]\n"
    );
    let policy = Policy::parse("p.toml", &text).unwrap();
    let caller = policy.anonymous().unwrap();
    match policy.decide(&caller, Act { call, target }, &Facts::default()) {
        Decision::Allow(grant) => grant.spend(&mut RateBook::default()).unwrap(),
        Decision::Refuse(refusal) => panic!("{refusal}"),
    }
}

fn on_space(call: CallName, space: &str) -> Permit {
    permit(call, Target::Space(name(space)))
}

fn on_key(call: CallName, key: &str) -> Permit {
    permit(call, Target::Key(path(key)))
}

fn stage_key(staged: &mut Staged<'_>, key: &str) {
    let space = path(key).space;
    staged.create_space(on_space(CallName::CreateKeySpace, space.as_str())).unwrap();
    let made =
        staged.create_key(on_key(CallName::CreateKeypair, key), Algorithm::Ed25519, 5).unwrap();
    assert_eq!(made, Some(true));
}

fn commit_key(unlocked: &Unlocked, key: &str) -> Vec<u8> {
    let mut staged = unlocked.stage().unwrap();
    stage_key(&mut staged, key);
    let public = staged.public_key(on_key(CallName::PublicKey, key), PublicForm::Hex);
    staged.commit(5).unwrap();
    data_encoding::HEXLOWER.decode(public.unwrap().unwrap().as_bytes()).unwrap()
}

#[test]
fn a_committed_key_is_there_after_reopening_and_signs() {
    let (_folder, home, unlocked) = new_keyspace();
    let nkey = unlocked.service_nkey().to_owned();
    let public = commit_key(&unlocked, "space/key");
    drop(unlocked);
    let unlocked = reopen(&home).unwrap();
    assert_eq!(unlocked.service_nkey(), nkey);
    let staged = unlocked.stage().unwrap();
    let signature =
        staged.sign(on_key(CallName::Sign, "space/key"), Scheme::Plain, b"m").unwrap().unwrap();
    assert!(verify_with(Algorithm::Ed25519, &public, b"m", &signature).unwrap());
    let other = staged.sign_in(on_key(CallName::SignIn, "space/key"), &name("ns"), b"m");
    let other = verify_with(Algorithm::Ed25519, &public, b"m", &other.unwrap().unwrap());
    assert!(!other.unwrap(), "namespaces are apart");
    assert_eq!(unlocked.spaces().unwrap(), [name("space")]);
    assert_eq!(unlocked.keys(&name("space")).unwrap(), [name("key")]);
}

/// A script may catch the refusal and end well.
#[test]
fn a_key_that_cannot_be_rotated_again_is_not_lost() {
    let (_folder, _home, unlocked) = new_keyspace();
    commit_key(&unlocked, "space/key");
    let rotate = |staged: &mut Staged<'_>| {
        staged.rotate_key(on_key(CallName::RotateKeypair, "space/key"), 5)
    };
    let mut staged = unlocked.stage().unwrap();
    for _ in 2..=MOST_VERSIONS {
        rotate(&mut staged).unwrap().unwrap();
    }
    let refused = rotate(&mut staged).unwrap_err();
    assert!(matches!(&refused, KeyspaceError::Unfit(text) if text.contains("`space/key`")));
    staged.commit(5).unwrap();
    let mut staged = unlocked.stage().unwrap();
    assert!(matches!(rotate(&mut staged).unwrap_err(), KeyspaceError::Unfit(_)));
    staged.commit(5).unwrap();
    let key = unlocked.key(&path("space/key")).unwrap().unwrap();
    assert_eq!(key.versions().count(), MOST_VERSIONS);
}

#[test]
fn a_script_does_not_destroy_what_an_operator_has_disabled_or_deleted() {
    let (_folder, _home, unlocked) = new_keyspace();
    commit_key(&unlocked, "space/key");
    let operator = unlocked.as_operator();
    let delete_all = || {
        let mut staged = unlocked.stage().unwrap();
        let of_key = staged.delete_key(on_key(CallName::DeleteKeypair, "space/key"));
        let of_space = staged.delete_space(on_space(CallName::DeleteKeySpace, "space"));
        staged.commit(5).unwrap();
        [of_key, of_space]
    };
    let is_refused = |done: &Result<bool, _>| matches!(done, Err(KeyspaceError::Unfit(_)));
    operator.enable_key(&path("space/key"), false).unwrap();
    assert!(delete_all().iter().all(is_refused));
    operator.delete_key(&path("space/key"), 24 * 60 * 60, 5).unwrap();
    assert!(delete_all().iter().all(is_refused));
    operator.restore_key(&path("space/key")).unwrap();
    operator.enable_key(&path("space/key"), true).unwrap();
    assert!(delete_all().iter().all(|done| matches!(done, Ok(true))));
    assert!(unlocked.keys(&name("space")).unwrap().is_empty());
}

#[test]
fn what_is_staged_and_dropped_leaves_nothing_behind() {
    let (_folder, home, unlocked) = new_keyspace();
    let mut staged = unlocked.stage().unwrap();
    stage_key(&mut staged, "space/key");
    assert!(
        staged.sign(on_key(CallName::Sign, "space/key"), Scheme::Plain, b"m").unwrap().is_some()
    );
    assert!(unlocked.spaces().unwrap().is_empty(), "nobody else sees it");
    drop(staged);
    drop(unlocked);
    assert!(reopen(&home).unwrap().spaces().unwrap().is_empty());
}

#[test]
fn of_two_scripts_that_make_the_same_key_the_second_is_told_and_changes_nothing() {
    let (_folder, _home, unlocked) = new_keyspace();
    let (mut first, mut second) = (unlocked.stage().unwrap(), unlocked.stage().unwrap());
    stage_key(&mut first, "space/key");
    stage_key(&mut second, "space/key");
    stage_key(&mut second, "another/key");
    first.commit(5).unwrap();
    assert!(matches!(second.commit(5), Err(CommitError::Conflict(_))));
    assert_eq!(unlocked.spaces().unwrap(), [name("space")]);
}

#[test]
fn a_key_made_in_a_space_that_another_script_deletes_is_a_conflict() {
    let (_folder, _home, unlocked) = new_keyspace();
    commit_key(&unlocked, "space/key");
    let (mut maker, mut deleter) = (unlocked.stage().unwrap(), unlocked.stage().unwrap());
    maker.create_key(on_key(CallName::CreateKeypair, "space/new"), Algorithm::Ed25519, 5).unwrap();
    deleter.delete_space(on_space(CallName::DeleteKeySpace, "space")).unwrap();
    deleter.commit(5).unwrap();
    assert!(matches!(maker.commit(5), Err(CommitError::Conflict(_))));
    assert!(unlocked.keys(&name("space")).unwrap().is_empty());
}

#[test]
fn a_deleted_space_takes_its_keys_along_even_when_it_is_made_again() {
    let (_folder, _home, unlocked) = new_keyspace();
    commit_key(&unlocked, "space/key");
    commit_key(&unlocked, "other/key");
    let mut staged = unlocked.stage().unwrap();
    assert!(staged.delete_space(on_space(CallName::DeleteKeySpace, "space")).unwrap());
    assert_eq!(staged.spaces(|_| Ok(true)).unwrap(), [name("other")]);
    assert!(staged.create_space(on_space(CallName::CreateKeySpace, "space")).unwrap());
    assert!(staged.keys(&name("space"), |_| Ok(true)).unwrap().is_empty());
    assert!(
        staged.sign(on_key(CallName::Sign, "space/key"), Scheme::Plain, b"m").unwrap().is_none()
    );
    staged
        .create_key(on_key(CallName::CreateKeypair, "space/key2"), Algorithm::Ed25519, 6)
        .unwrap();
    assert!(staged.delete_key(on_key(CallName::DeleteKeypair, "other/key")).unwrap());
    staged.commit(6).unwrap();
    assert_eq!(unlocked.keys(&name("space")).unwrap(), [name("key2")]);
    assert!(unlocked.keys(&name("other")).unwrap().is_empty());
}

#[test]
fn a_permit_for_one_act_does_no_other() {
    let (_folder, _home, unlocked) = new_keyspace();
    commit_key(&unlocked, "space/key");
    let staged = unlocked.stage().unwrap();
    let permit = on_key(CallName::PublicKey, "space/key");
    assert!(matches!(staged.sign(permit, Scheme::Plain, b"m"), Err(KeyspaceError::WrongPermit)));
    let permit = on_key(CallName::Sign, "space/key");
    assert!(matches!(staged.public_key(permit, PublicForm::Hex), Err(KeyspaceError::WrongPermit)));
}

#[test]
fn the_file_holds_no_names_and_no_key_bytes() {
    let (_folder, home, unlocked) = new_keyspace();
    let mut staged = unlocked.stage().unwrap();
    stage_key(&mut staged, "a-telling-space-name/a-telling-key-name");
    staged.commit(5).unwrap();
    let record = unlocked.key(&path("a-telling-space-name/a-telling-key-name")).unwrap().unwrap();
    drop(unlocked);
    let file = fs::read(home.file("keyspace.redb")).unwrap();
    let holds = |needle: &[u8]| file.windows(needle.len()).any(|window| window == needle);
    assert!(holds(b"CCKS"), "the file was read");
    assert!(!holds(b"a-telling"));
    assert!(!record.current().unwrap().secret.expose(|seed| holds(&seed[..])));
    assert!(!record.current().unwrap().secret.expose(|seed| holds(&seed[..8])));
    assert!(!holds(PASSPHRASE));
}

#[test]
fn a_second_process_is_told_that_the_keyspace_is_in_use() {
    let (_folder, home, _unlocked) = new_keyspace();
    let told = reopen(&home).err().unwrap().to_string();
    assert!(told.contains(&format!("in use by process {} (`", std::process::id())), "{told}");
}

#[test]
fn a_home_or_file_that_others_can_reach_is_refused() {
    let (_folder, home, unlocked) = new_keyspace();
    drop(unlocked);
    let file = home.file("keyspace.redb");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(reopen(&home), Err(KeyspaceError::Exposed { .. })));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o750)).unwrap();
    assert!(matches!(Home::open(home.path()), Err(KeyspaceError::Exposed { .. })));
}

#[test]
fn making_a_keyspace_twice_leaves_the_first_as_it_was() {
    let (_folder, home, unlocked) = new_keyspace();
    commit_key(&unlocked, "space/key");
    drop(unlocked);
    let again = Unlocked::create(&home, &passphrase(), KdfCost::Standard, 2);
    assert!(matches!(again, Err(KeyspaceError::Exists(_))));
    assert_eq!(reopen(&home).unwrap().spaces().unwrap(), [name("space")]);
    let files: Vec<_> =
        fs::read_dir(home.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(files.len(), 2, "{files:?}: no draft is left, the file and its pin are");
}

#[test]
fn the_wrong_passphrase_and_a_weak_one_are_refused() {
    let (folder, home, unlocked) = new_keyspace();
    drop(unlocked);
    let wrong = Passphrase::new(b"incorrect horse".to_vec()).unwrap();
    let opened = Locked::open(&home).unwrap().unlock(&wrong, Opening::default());
    assert!(matches!(opened, Err(KeyspaceError::WrongPassphrase)));
    let home = Home::create(&folder.path().join("weak")).unwrap();
    let weak = Passphrase::new(b"1234567".to_vec()).unwrap();
    let made = Unlocked::create(&home, &weak, KdfCost::Standard, 1);
    assert!(matches!(made, Err(KeyspaceError::BadPassphrase(_))));
    assert!(fs::read_dir(home.path()).unwrap().next().is_none());
}

#[test]
fn a_record_in_anothers_place_or_of_another_file_is_refused() {
    let (_folder, _home, unlocked) = new_keyspace();
    let (_other_folder, _other_home, other) = new_keyspace();
    commit_key(&unlocked, "space/one");
    commit_key(&other, "space/one");
    let mut staged = unlocked.stage().unwrap();
    staged.create_key(on_key(CallName::CreateKeypair, "space/two"), Algorithm::Ed25519, 5).unwrap();
    staged.commit(5).unwrap();
    let stored = |keyspace: &Unlocked, key: &str| {
        let table = keyspace.database.begin_read().unwrap().open_table(store::KEYS).unwrap();
        let id = keyspace.root().key_id(&path(key));
        table.get(id.as_slice()).unwrap().unwrap().value().to_vec()
    };
    for intruder in [stored(&unlocked, "space/two"), stored(&other, "space/one")] {
        let transaction = unlocked.database.begin_write(&unlocked.database.turn()).unwrap();
        {
            let mut table = transaction.open_table(store::KEYS).unwrap();
            let id = unlocked.root().key_id(&path("space/one"));
            table.insert(id.as_slice(), intruder.as_slice()).unwrap();
        }
        transaction.commit().unwrap();
        let opened = unlocked.key(&path("space/one"));
        assert!(matches!(opened, Err(KeyspaceError::Damaged(_))));
    }
}

#[test]
fn files_that_are_no_keyspace_are_refused_and_left_alone() {
    let garbage: Vec<u8> = (0..40_000_u32).map(|i| (i * 31 % 251).to_le_bytes()[0]).collect();
    for contents in [b"".to_vec(), b"not a database".to_vec(), garbage] {
        let folder = TempDir::new().unwrap();
        let home = Home::create(&folder.path().join("home")).unwrap();
        let file = home.file("keyspace.redb");
        fs::write(&file, &contents).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(reopen(&home).is_err());
        assert_eq!(fs::read(&file).unwrap(), contents);
    }
}

#[test]
fn a_key_that_another_script_replaced_meanwhile_is_not_deleted_or_replaced() {
    let (_folder, _home, unlocked) = new_keyspace();
    commit_key(&unlocked, "space/key");
    let replace = |staged: &mut Staged<'_>| {
        assert!(staged.delete_key(on_key(CallName::DeleteKeypair, "space/key")).unwrap());
        staged
            .create_key(on_key(CallName::CreateKeypair, "space/key"), Algorithm::Ed25519, 6)
            .unwrap();
        staged
            .public_key(on_key(CallName::PublicKey, "space/key"), PublicForm::Hex)
            .unwrap()
            .unwrap()
    };
    let (mut first, mut second, mut third) =
        (unlocked.stage().unwrap(), unlocked.stage().unwrap(), unlocked.stage().unwrap());
    let kept = replace(&mut first);
    replace(&mut second);
    assert!(third.delete_space(on_space(CallName::DeleteKeySpace, "space")).unwrap());
    third.create_space(on_space(CallName::CreateKeySpace, "space")).unwrap();
    let mut inside = unlocked.stage().unwrap();
    inside.create_key(on_key(CallName::CreateKeypair, "space/new"), Algorithm::Ed25519, 6).unwrap();
    first.commit(6).unwrap();
    assert!(matches!(second.commit(6), Err(CommitError::Conflict(_))));
    let staged = unlocked.stage().unwrap();
    let public =
        staged.public_key(on_key(CallName::PublicKey, "space/key"), PublicForm::Hex).unwrap();
    assert_eq!(public, Some(kept), "the acknowledged key is the one that is there");
    assert!(matches!(third.commit(6), Err(CommitError::Conflict(_))), "it holds an unseen key");
    let mut third = unlocked.stage().unwrap();
    assert!(third.delete_space(on_space(CallName::DeleteKeySpace, "space")).unwrap());
    third.create_space(on_space(CallName::CreateKeySpace, "space")).unwrap();
    third.commit(6).unwrap();
    // The space is another one now, though it has the same name.
    assert!(matches!(inside.commit(6), Err(CommitError::Conflict(_))));
}

#[test]
fn readers_beside_a_writer_never_take_a_new_record_for_a_damaged_one() {
    let (_folder, _home, unlocked) = new_keyspace();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for number in 0..60 {
                commit_key(&unlocked, &format!("space-{number}/key"));
            }
        });
        while !writer.is_finished() {
            for space in unlocked.spaces().unwrap() {
                unlocked.keys(&space).unwrap();
            }
        }
    });
    assert_eq!(unlocked.spaces().unwrap().len(), 60);
}
