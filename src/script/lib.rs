//! The script engine and the process that runs it: the only crate that names Rhai. It holds no key,
//! no file and no connection; every host function is one frame to the broker, which decides.
#![forbid(unsafe_code)]

mod engine;
mod host;
mod json;
mod result;
mod sightings;
mod watch;
pub mod worker;

pub use engine::{CheckedScript, Probe, RawScript, check_source};
