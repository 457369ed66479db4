//! Reading a keyspace header: hostile bytes are refused, none leads to a costly key derivation, and each header has
//! one form.
#![no_main]

use libfuzzer_sys::fuzz_target;

// Parsing alone: unlocking is reached only with a cost that parsing has bounded.
fuzz_target!(|bytes: &[u8]| keyspace::fuzzing::header(bytes));
