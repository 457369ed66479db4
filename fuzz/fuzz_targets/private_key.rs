//! Reading the file of a private key that others made: no bytes panic, and what is read is wrapped and read again
//! as the same key. The keys among the seeds are those of RFC 6979, RFC 8032 and RFC 8410, and what was made of them.
#![no_main]

use std::sync::LazyLock;

use keyspace::Unlocked;
use libfuzzer_sys::fuzz_target;
use wire::{Algorithm, Hidden, KeyPath, Name};

struct Place {
    keyspace: Unlocked,
    recipient: String,
}

static PLACE: LazyLock<Place> = LazyLock::new(|| {
    let keyspace = Unlocked::ephemeral(1).unwrap();
    let recipient = keyspace.as_operator().recipient().unwrap();
    Place { keyspace, recipient }
});

fuzz_target!(|data: &[u8]| {
    if data.len() > 8 * 1024 {
        return;
    }
    let Place { keyspace, recipient } = &*PLACE;
    let Ok(wrapped) = keyspace::wrap_for(recipient, &Hidden::new(data.to_vec())) else { return };
    let operator = keyspace.as_operator();
    let name = |text: &str| Name::parse(text).unwrap();
    operator.new_space(&name("s"), 1).unwrap();
    let path = KeyPath { space: name("s"), key: name("k") };
    // A file that does not say what it is for is good for this, and one that does for its own.
    let read = operator.import_key(&path, None, &wrapped, 1);
    let read =
        read.or_else(|_| operator.import_key(&path, Some(Algorithm::Symmetric), &wrapped, 1));
    assert!(read.is_ok(), "what was wrapped is read");
    operator.delete_space(&name("s"), 1).unwrap();
});
