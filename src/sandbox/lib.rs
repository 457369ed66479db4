//! Confinement of our own processes. The only crate with `unsafe` code, and it knows nothing of
//! scripts, keys or NATS.
#![deny(unsafe_op_in_unsafe_fn)]

mod access;
mod arena;
mod confine;
mod control;
mod filter;
mod image;
mod lane;
mod launcher;
mod local;
mod namespaces;
mod report;
mod secret_memory;
mod spawn;
mod sys;
mod syscalls;
mod zygote;

pub use arena::Arena;
pub use confine::{ConfineError, Confined, STACK_BYTES, Untraced};
pub use filter::FilterError;
pub use image::Image;
pub use lane::{Ended, Lane, LaneError};
pub use launcher::{Launched, Launcher, Role, serve as serve_launcher};
pub use local::{LocalPeer, LocalSocket};
pub use report::{Layer, NotEnough, Report, State, Strictness};
pub use secret_memory::{CELL_BYTES, SecretCell, SecretKind, SecretMemory, secret_memory};
pub use spawn::{terminate, tie_to_parent};
pub use sys::{ScriptSocket, exit_now, inherited_socket};
pub use zygote::{ScriptProcess, Zygote};

/// The exit code of a script's process when it passed its memory cap. It comes from a process that
/// ran untrusted text, so it labels an ending and never decides anything.
pub const EXIT_MEMORY: i32 = 86;
/// The exit code after a panic: a fault of ours. It labels, as above.
pub const EXIT_PANIC: i32 = 87;
/// The exit code of a process that could not be confined.
pub(crate) const EXIT_CONFINE: i32 = 88;
