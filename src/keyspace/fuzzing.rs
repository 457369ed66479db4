//! What the fuzz targets reach and nothing else: it exists in their builds and those of tests alone.

use crate::age::{Protect, recipient_of, write_header};
use crate::error::KeyspaceError;
use crate::header::Header;
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

/// Reads a header. One that is read is written as the same bytes, and costs what FORMAT.md allows (section 1).
pub fn header(bytes: &[u8]) {
    let Ok(header) = Header::parse(bytes) else { return };
    assert!(header.to_bytes() == bytes, "a header has one form");
    assert!((1..=3).contains(&header.slots.len()), "so many slots are none");
    let mut whole = 0;
    for Cost { memory, passes, lanes } in header.slots.iter().map(|slot| slot.cost) {
        // In the numbers of the specification, not in those of the program.
        assert!((19 * 1024..=1024 * 1024).contains(&memory), "{memory} KiB");
        assert!((2..=10).contains(&passes), "{passes} passes");
        assert!((1..=8).contains(&lanes), "{lanes} lanes");
        whole += u64::from(memory) * u64::from(passes);
    }
    assert!(whole <= 3 * 1024 * 1024, "{whole} KiB in all passes");
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
