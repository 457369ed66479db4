//! Keys at rest and in use. The only crate that holds key bytes: no other can name [`Secret`]'s
//! contents. The format of the file is specified in `FORMAT.md`.
#![forbid(unsafe_code)]

mod age;
mod bundle;
mod commit;
#[cfg(test)]
mod damage_tests;
mod database;
mod encrypt;
mod error;
mod export;
#[cfg(test)]
mod failing_disk;
#[cfg(test)]
mod faults;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
#[cfg(test)]
mod golden;
mod header;
mod home;
mod import;
mod key;
mod key_file;
#[cfg(test)]
mod listing;
#[cfg(test)]
mod model;
mod nkey;
mod operator;
#[cfg(test)]
mod operator_tests;
mod pin;
mod public;
mod record;
mod renewal;
mod rewrap;
mod seal;
#[cfg(test)]
mod sealing_tests;
mod secret;
mod sign;
mod slot;
mod snapshot;
mod stack;
mod staged;
mod store;
mod stream;
mod sum;
#[cfg(test)]
mod tests;
mod transaction;
mod turn;
#[cfg(test)]
mod vectors;
#[cfg(test)]
mod vectors_of_bundles;
#[cfg(test)]
mod vectors_of_uses;
mod view;

pub use commit::InTurn;
pub use encrypt::{decrypt_with, encrypt_to, encrypt_with, new_data_key};
pub use error::{CommitError, KeyspaceError};
pub use export::Exported;
pub use header::{Header, MAX_HEADER_BYTES};
pub use home::Home;
pub use import::{Imported, Importing, Source};
pub use key_file::wrap_for;
pub use operator::{Operator, Told, Verified};
pub use secret::{MAX_PASSPHRASE_BYTES, Passphrase, Secret};
pub use sign::verify_with;
pub use staged::Staged;
pub use store::{Locked, Opening, Unlocked};
