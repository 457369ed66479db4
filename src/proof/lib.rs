//! Crypto-Proof: who asked for exactly this, and who answered. Pure: no clock, no files, no network.
//!
//! A proof is one compact JWS (RFC 7515 §3.1) with the one algorithm `EdDSA` (RFC 8037 §3.1) over
//! claims that bind it to a service, a time and the bytes of a payload. `PROTOCOL.md` beside
//! `src/wire` has the members and the order of the checks.
#![forbid(unsafe_code)]

mod identity;
mod jws;
mod log;
mod reply;
mod request;

pub use identity::{BadSeed, Identity};
pub use jws::Fault;
pub use log::{LineFault, LogPlace, MAX_LINE_BYTES, read_note, write_note};
pub use reply::{Answered, MOST_KEYS, ReplyFault, read_receipt, read_reply, write_reply};
pub use request::{Expected, Signed, Terms, Verified, write_request};

/// SHA-256 of a payload as the claims hold it: base64url without padding.
#[must_use]
pub fn digest(payload: &[u8]) -> String {
    use sha2::Digest;
    data_encoding::BASE64URL_NOPAD.encode(&sha2::Sha256::digest(payload))
}
