//! The listener process: it talks to NATS and holds no key, no policy and no script engine. It hands
//! every message of the subject to the broker and publishes what the broker answers. Taken over, it
//! may drop or delay requests; it cannot forge one, for callers sign and the broker verifies.
#![forbid(unsafe_code)]

mod admit;
mod link;
mod process;
mod settle;

pub use process::{Listen, ListenFault, run};
