//! The payload of a bundle: key spaces with their keys, one item after another. `FORMAT.md` §7.

use std::io::{Read, Write};

use wire::Name;
use wire::codec::{Malformed, Reader, Writer};
use zeroize::Zeroizing;

use crate::age;
use crate::error::KeyspaceError;
use crate::key::KeyRecord;
use crate::record::{put_space, take_space};
use crate::secret::Secret;
use crate::stream::{Sealing, Unsealing, unwritten};

/// What the payload begins with, and its version.
pub(crate) const MAGIC: &[u8; 6] = b"CCKB\0\x01";
/// Longest item, in bytes: a key with all its versions.
const MAX_ITEM_BYTES: usize = 16 * 1024;
pub(crate) const SPACE: u8 = 1;
pub(crate) const KEY: u8 = 2;
pub(crate) const END: u8 = 3;

/// One item of a payload.
pub(crate) enum Item {
    Space(Name, u64),
    Key(Box<KeyRecord>),
    End { spaces: u64, keys: u64 },
}

/// A bundle that is being written. One that is not finished is none.
pub(crate) struct BundleWriter<W> {
    sealing: Sealing<W>,
    spaces: u64,
    keys: u64,
    /// What the keys take before they are sealed.
    key_bytes: usize,
}

impl<W: Write> BundleWriter<W> {
    /// Begins one with the header of its container and the key that goes with it.
    pub(crate) fn begin(
        mut to: W,
        (header, key): (Vec<u8>, Secret<32>),
    ) -> Result<Self, KeyspaceError> {
        to.write_all(&header).map_err(unwritten)?;
        let mut sealing = Sealing::new(to, &key);
        sealing.write(MAGIC)?;
        Ok(Self { sealing, spaces: 0, keys: 0, key_bytes: 0 })
    }

    /// Begins a key space; the keys that follow are its keys.
    pub(crate) fn space(&mut self, space: &Name, created: u64) -> Result<(), KeyspaceError> {
        self.spaces += 1;
        write_item(&mut self.sealing, SPACE, &put_space(space, created))
    }

    /// Writes a key: how many there are now.
    pub(crate) fn key(&mut self, record: &KeyRecord) -> Result<u64, KeyspaceError> {
        let body = record.put();
        self.keys += 1;
        self.key_bytes += body.len();
        write_item(&mut self.sealing, KEY, &body)?;
        Ok(self.keys)
    }

    /// How many bytes the keys take so far, before they are sealed.
    pub(crate) fn key_bytes(&self) -> usize {
        self.key_bytes
    }

    /// Ends it: where it was written to, and how many keys are in it.
    pub(crate) fn finish(mut self) -> Result<(W, u64), KeyspaceError> {
        let mut end = Writer::default();
        end.u64(self.spaces);
        end.u64(self.keys);
        write_item(&mut self.sealing, END, &end.into_bytes())?;
        let mut to = self.sealing.finish()?;
        to.flush().map_err(unwritten)?;
        Ok((to, self.keys))
    }
}

/// Reads a payload to its end: each item of it. Its one key space gets the name `rename`, if there is one.
pub(crate) fn each_item(
    mut reader: impl Read,
    file_key: &Secret<16>,
    rename: Option<&Name>,
    mut take: impl FnMut(Item) -> Result<(), KeyspaceError>,
) -> Result<(), KeyspaceError> {
    let key = age::payload_key_after(&mut reader, file_key)?;
    let mut payload = Unsealing::new(reader, &key);
    let mut magic = [0; MAGIC.len()];
    payload.read_exact(&mut magic)?;
    if magic != *MAGIC {
        return Err(KeyspaceError::bad_bundle("it is of another version, or holds something else"));
    }
    let (mut spaces, mut keys, mut current) = (0, 0, None);
    loop {
        match read_item(&mut payload)? {
            Item::Space(name, created) => {
                spaces += 1;
                let here = rename.unwrap_or(&name).clone();
                current = Some((name, here.clone()));
                take(Item::Space(here, created))?;
            }
            Item::Key(mut record) => {
                keys += 1;
                let within = current.as_ref().filter(|(name, _)| *name == record.path.space);
                let (_, here) = within.ok_or_else(|| {
                    KeyspaceError::bad_bundle("a key stands outside its key space")
                })?;
                record.path.space = here.clone();
                take(Item::Key(record))?;
            }
            Item::End { spaces: said, keys: said_keys } => {
                if (said, said_keys) != (spaces, keys) {
                    return Err(KeyspaceError::bad_bundle("it does not hold as much as it says"));
                }
                take(Item::End { spaces, keys })?;
                return payload.end();
            }
        }
    }
}

pub(crate) fn write_item(
    sealing: &mut Sealing<impl Write>,
    kind: u8,
    body: &[u8],
) -> Result<(), KeyspaceError> {
    let length = u32::try_from(body.len() + 1).unwrap_or(u32::MAX);
    sealing.write(&length.to_be_bytes())?;
    sealing.write(&[kind])?;
    sealing.write(body)
}

fn read_item(payload: &mut Unsealing<impl Read>) -> Result<Item, KeyspaceError> {
    let mut length = [0; 4];
    payload.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > MAX_ITEM_BYTES {
        return Err(KeyspaceError::bad_bundle("an item of it is too long"));
    }
    let mut body = Zeroizing::new(vec![0; length]);
    payload.read_exact(&mut body)?;
    take_item(&body)
}

fn take_item(body: &[u8]) -> Result<Item, KeyspaceError> {
    let (kind, body) =
        body.split_first().ok_or_else(|| KeyspaceError::bad_bundle("an item of it is empty"))?;
    let foreign = |_| KeyspaceError::bad_bundle("an item of it is none");
    match *kind {
        SPACE => {
            take_space(body).map(|(name, created)| Item::Space(name, created)).map_err(foreign)
        }
        KEY => KeyRecord::take(body).map(|record| Item::Key(Box::new(record))).map_err(foreign),
        END => {
            let mut r = Reader::new(body);
            let read = r.u64().and_then(|spaces| Ok((spaces, r.u64()?)));
            let read = read.and_then(|read| r.end().map(|()| read));
            let (spaces, keys) =
                read.map_err(|Malformed| KeyspaceError::bad_bundle("its end is none"))?;
            Ok(Item::End { spaces, keys })
        }
        _ => Err(KeyspaceError::bad_bundle("an item of it is of a kind that is not known")),
    }
}
