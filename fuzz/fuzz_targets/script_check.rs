//! Parsing a script and naming its host functions: never a panic, whatever the text, and what is found
//! stands where it is said to.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::script::{Ending, Job, Position, Task};

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
    match script::check_source(job) {
        Ok(sightings) => {
            // Each is written out in the script, with `Fn` as the shortest word.
            assert!(sightings.len() <= source.len() / 2);
            for sighting in &sightings {
                let rest = rest_from(source, sighting.at).expect("a place in the script");
                let words = sighting.call.map_or(&[][..], |call| call.words());
                let is_there =
                    rest.starts_with("Fn") || words.iter().any(|word| rest.starts_with(word));
                assert!(is_there, "{sighting:?} at {rest:?}");
                let length = |text: &Option<Vec<u8>>| text.as_ref().map_or(0, Vec::len);
                assert!(length(&sighting.message) <= source.len());
            }
            assert!(sightings.is_sorted_by_key(|sighting| (sighting.at.line, sighting.at.column)));
        }
        Err(Ending::Failed(_, message, at)) => {
            assert!(!message.is_empty() && !message.contains('\n'));
            assert!(usize::try_from(at.line).unwrap() <= source.split('\n').count(), "{at:?}");
        }
        Err(ending) => panic!("{ending:?}"),
    }
});

/// The script from this place on: lines and columns count from 1, columns in characters.
fn rest_from(source: &str, at: Position) -> Option<&str> {
    let line = usize::try_from(at.line).ok()?.checked_sub(1)?;
    let column = usize::try_from(at.column).ok()?.checked_sub(1)?;
    let line = source.split('\n').nth(line)?;
    let (start, _) = line.char_indices().nth(column)?;
    line.get(start..)
}
