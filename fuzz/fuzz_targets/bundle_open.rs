//! Reading a bundle: no bytes panic, none that nobody encrypted to this keyspace are believed, and nothing is
//! changed by them.
#![no_main]

use std::io::Cursor;
use std::sync::LazyLock;

use keyspace::{Importing, Unlocked};
use libfuzzer_sys::fuzz_target;

static KEYSPACE: LazyLock<Unlocked> = LazyLock::new(|| Unlocked::ephemeral(1).unwrap());

fuzz_target!(|data: &[u8]| {
    let operator = KEYSPACE.as_operator();
    let mut source = Cursor::new(data);
    let read = operator.import(&mut source, None, &Importing::default(), |_| {});
    assert!(read.is_err(), "nobody has encrypted this");
    assert_eq!(operator.verify(|_, _| {}).unwrap().spaces, 0);
});
