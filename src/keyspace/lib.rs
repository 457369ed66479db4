//! Keys at rest and in use. The only crate that holds key bytes: no other can name [`Secret`]'s
//! contents. The format of the file is specified in `FORMAT.md`.
#![forbid(unsafe_code)]

mod commit;
mod encrypt;
mod error;
mod header;
mod home;
mod key;
mod public;
mod record;
mod seal;
mod secret;
mod sign;
mod staged;
mod store;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;

pub use encrypt::{decrypt_with, encrypt_to, encrypt_with, new_data_key};
pub use error::{CommitError, KeyspaceError};
pub use header::{Header, MAX_HEADER_BYTES};
pub use home::Home;
pub use key::State;
pub use secret::{MAX_PASSPHRASE_BYTES, Passphrase, Secret};
pub use sign::verify_with;
pub use staged::Staged;
pub use store::{Locked, Unlocked};
