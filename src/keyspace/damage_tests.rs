//! A record that does not open is named, and does not stand in the way for ever.

use redb::ReadableTable;
use wire::Algorithm;

use crate::store::KEYS;
use crate::tests::{name, path};
use crate::{KeyspaceError, Unlocked};

/// One with the keys `a/1` to `a/4`, of which the second and the third do not open: their ids.
fn damaged() -> (Unlocked, [String; 2]) {
    let keyspace = Unlocked::ephemeral(1).unwrap();
    let operator = keyspace.as_operator();
    operator.new_space(&name("a"), 1).unwrap();
    for key in ["a/1", "a/2", "a/3", "a/4"] {
        operator.new_key(&path(key), Algorithm::Ed25519, 1).unwrap();
    }
    let ids = ["a/2", "a/3"].map(|key| keyspace.root().key_id(&path(key)));
    let writing = keyspace.database.begin_write(&keyspace.database.turn()).unwrap();
    {
        let mut table = writing.open_table(KEYS).unwrap();
        for id in &ids {
            let mut sealed = table.get(id.as_slice()).unwrap().unwrap().value().to_vec();
            *sealed.last_mut().unwrap() ^= 1;
            table.insert(id.as_slice(), sealed.as_slice()).unwrap();
        }
    }
    writing.commit().unwrap();
    (keyspace, ids.map(|id| data_encoding::HEXLOWER.encode(&id)))
}

fn refusal<T>(done: Result<T, KeyspaceError>) -> String {
    match done {
        Err(error @ KeyspaceError::Damaged(_)) => error.to_string(),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it opened"),
    }
}

#[test]
fn every_record_that_does_not_open_is_told_by_its_id_and_its_name_where_that_is_known() {
    let (keyspace, ids) = damaged();
    let operator = keyspace.as_operator();
    let told = refusal(operator.verify(|_, _| {}));
    assert!(ids.iter().all(|id| told.contains(id)), "{told}");
    let told = refusal(operator.key(&path("a/3"), |_| Ok(())));
    assert!(told.contains("`a/3`") && told.contains(&ids[1]), "{told}");
    let told = refusal(operator.rotate_key(&path("a/2"), 2));
    assert!(told.contains("`a/2`") && told.contains(&ids[0]), "{told}");
    let told = refusal(operator.keys(None, |_| Ok(())));
    assert!(ids.iter().any(|id| told.contains(id)), "{told}");
}

#[test]
fn a_key_that_does_not_open_can_be_destroyed_and_one_that_does_waits() {
    let (keyspace, _) = damaged();
    let operator = keyspace.as_operator();
    assert!(matches!(operator.destroy_key(&path("a/1"), u64::MAX), Err(KeyspaceError::Cannot(_))));
    for key in ["a/2", "a/3"] {
        operator.destroy_key(&path(key), 1).unwrap();
    }
    let found = operator.verify(|_, _| {}).unwrap();
    assert_eq!((found.spaces, found.keys), (1, 2));
    operator.keys(None, |_| Ok(())).unwrap();
}
