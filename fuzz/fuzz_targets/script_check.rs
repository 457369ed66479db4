//! Parsing a script and naming its host functions: never a panic, whatever the text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::script::{Job, Task};

fuzz_target!(|source: &str| {
    let job = Job {
        task: Task::Check,
        source: source.to_owned(),
        operations: 1_000,
        memory_bytes: 1 << 24,
        call_depth: 32,
        result_bytes: 1 << 16,
        granted: vec![],
    };
    let _sightings = script::check_source(job);
});
