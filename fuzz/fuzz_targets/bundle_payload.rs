//! Reading a bundle that somebody did encrypt to this keyspace: its payload is any bytes, and either all of it is
//! there afterwards, whole, or nothing is.
#![no_main]

use std::io::Cursor;
use std::sync::LazyLock;

use keyspace::{Importing, Unlocked};
use libfuzzer_sys::fuzz_target;
use wire::admin::Row;

static KEYSPACE: LazyLock<Unlocked> = LazyLock::new(|| Unlocked::ephemeral(1).unwrap());

fuzz_target!(|payload: &[u8]| {
    let bundle = keyspace::fuzzing::bundle_of(&KEYSPACE, payload).unwrap();
    let operator = KEYSPACE.as_operator();
    let mut source = Cursor::new(bundle);
    let read = operator.import(&mut source, None, &Importing::default(), |_| {});
    let found = operator.verify(|_, _| {}).unwrap();
    let read = read.unwrap_or_default();
    assert_eq!((found.spaces, found.keys), (read.spaces, read.keys));
    let mut spaces = Vec::new();
    let told = operator.spaces(|row| {
        if let Row::Space(row) = row {
            spaces.push(row.space);
        }
        Ok(())
    });
    told.unwrap();
    for space in spaces {
        operator.delete_space(&space, u64::MAX).unwrap();
    }
});
