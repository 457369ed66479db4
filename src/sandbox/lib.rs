//! Confinement of our own processes. The only crate with `unsafe` code, and it knows nothing of
//! scripts, keys or NATS.
#![deny(unsafe_op_in_unsafe_fn)]

mod confine;
mod heap;
mod spawn;
mod sys;

pub use confine::{ConfineError, Confined};
pub use heap::CappedHeap;
pub use spawn::{Program, last_words, terminate, tie_to_parent};
pub use sys::{exit_now, inherited_socket};

/// A worker's exit code when its script passed the memory cap. It comes from a process that ran
/// untrusted text, so it labels an ending and never decides anything.
pub const EXIT_MEMORY: i32 = 86;
/// A worker's exit code after a panic: a fault of ours. It labels, as above.
pub const EXIT_PANIC: i32 = 87;
