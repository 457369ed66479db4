//! Reading the contents of a record, once it has been opened: no bytes panic, and each record has one form.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|plain: &[u8]| keyspace::fuzzing::record(plain));
