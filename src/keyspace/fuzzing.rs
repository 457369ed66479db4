//! What the fuzz targets reach and nothing else: it exists in their builds alone.

use crate::age::{Protect, recipient_of, write_header};
use crate::error::KeyspaceError;
use crate::key::KeyRecord;
use crate::record::{put_space, take_space};
use crate::seal::Cost;
use crate::store::Unlocked;
use crate::stream::Sealing;

/// Reads the contents of a record. What is read is written as the same bytes.
pub fn record(plain: &[u8]) {
    if let Ok(record) = KeyRecord::take(plain) {
        assert!(record.put().as_slice() == plain, "a key has one form");
    }
    if let Ok((space, created)) = take_space(plain) {
        assert!(put_space(&space, created) == plain, "a key space has one form");
    }
}

/// A bundle to this keyspace whose payload is these bytes, whatever they are.
///
/// # Errors
/// When the kernel gives no random numbers.
pub fn bundle_of(keyspace: &Unlocked, payload: &[u8]) -> Result<Vec<u8>, KeyspaceError> {
    let own = recipient_of(&keyspace.as_operator().own_secret()?);
    let (header, key) = write_header(&Protect::Recipients(&[own]), Cost::WRITTEN)?;
    let mut sealing = Sealing::new(header, &key);
    sealing.write(payload)?;
    sealing.finish()
}
