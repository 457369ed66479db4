//! Reading a keyspace header: hostile bytes are refused, and none leads to a costly key derivation.
#![no_main]

use keyspace::Header;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // Parsing alone: unlocking is reached only with a cost that parsing has bounded.
    let _header = Header::parse(bytes);
});
