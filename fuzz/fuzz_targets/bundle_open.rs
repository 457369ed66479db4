//! Reading a bundle: no bytes panic, none that nobody encrypted to this keyspace are believed, and nothing is
//! changed by them.
#![no_main]

use std::io::{Cursor, Read};
use std::sync::LazyLock;

use keyspace::{Importing, Source, Unlocked};
use libfuzzer_sys::fuzz_target;

static KEYSPACE: LazyLock<Unlocked> = LazyLock::new(|| Unlocked::ephemeral(1).unwrap());

struct Bytes<'b>(Cursor<&'b [u8]>);

impl Read for Bytes<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Source for Bytes<'_> {
    fn again(&mut self) -> std::io::Result<()> {
        self.0.set_position(0);
        Ok(())
    }
}

fuzz_target!(|data: &[u8]| {
    let operator = KEYSPACE.as_operator();
    let mut source = Bytes(Cursor::new(data));
    let read = operator.import(&mut source, None, &Importing::default(), |_| {});
    assert!(read.is_err(), "nobody has encrypted this");
    assert_eq!(operator.verify(|_, _| {}).unwrap().spaces, 0);
});
