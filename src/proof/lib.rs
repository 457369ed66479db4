//! Crypto-Proof: who asked for exactly this, and who answered. Pure: no clock, no files, no network.
//!
//! A proof has the form of a compact JWS (RFC 7515 §3.1): an Ed25519 signature over claims that bind it
//! to a service, a time and the bytes of a payload. `PROTOCOL.md` in `src/wire` has the members, what is
//! signed and the order of the checks.
#![forbid(unsafe_code)]

mod identity;
mod jws;
mod log;
mod reply;
mod request;

pub use identity::{BadSeed, Identity, service_key};
pub use jws::Fault;
pub use log::{LineFault, LogPlace, MAX_LINE_BYTES, read_note, write_note};
pub use reply::{Answered, Form, MOST_KEYS, ReplyFault, read_receipt, read_reply, write_reply};
pub use request::{Addressee, Expected, Signed, Terms, Verified, write_request};

/// SHA-256 of a payload as the claims hold it: base64url without padding.
#[must_use]
pub fn digest(payload: &[u8]) -> String {
    use sha2::Digest;
    data_encoding::BASE64URL_NOPAD.encode(&sha2::Sha256::digest(payload))
}
