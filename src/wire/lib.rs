//! What crosses a process boundary, and nothing else. The bytes are specified in `PROTOCOL.md`.
#![forbid(unsafe_code)]

pub mod admin;
mod algorithm;
pub mod call;
pub mod channel;
pub mod code;
pub mod codec;
pub mod done;
mod hidden;
pub mod id;
mod key_state;
pub mod operator;
pub mod request;
pub mod script;
mod script_frames;
mod shown;
pub mod tree;

pub use algorithm::Algorithm;
pub use call::{CallName, Touches};
pub use channel::{Channel, ReceiveError};
pub use code::Code;
pub use codec::{Frame, Malformed};
pub use hidden::Hidden;
pub use id::{KeyPath, KeyRef, Name};
pub use key_state::KeyState;
pub use shown::{shown, steers};

/// Both ends of every channel must have been built together: a worker or listener of another
/// version is refused.
pub const BUILD: &str = concat!("crypto-cli/", env!("CARGO_PKG_VERSION"));
