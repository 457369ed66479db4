//! The header: who can unlock the keyspace. `FORMAT.md` has it byte by byte.

use wire::codec::{Malformed, Reader, Writer};

use crate::error::KeyspaceError;
use crate::seal::{Cost, NONCE_BYTES, RootKeys, TAG_BYTES, derive, open, seal};
use crate::secret::{Passphrase, Secret, public_random};

/// Largest header, in bytes: eight slots take less than 2 KiB.
pub const MAX_HEADER_BYTES: usize = 4 * 1024;
/// Most slots.
const MAX_SLOTS: usize = 8;
/// Most slots whose passphrase is derived at one unlocking: a hostile file costs no more.
const MAX_PASSPHRASE_SLOTS: usize = 2;

const MAGIC: &[u8; 4] = b"CCKS";
const VERSION: [u8; 2] = 1_u16.to_be_bytes();
/// XChaCha20-Poly1305, HKDF-SHA-256, HMAC-SHA-256, Argon2id.
const SUITE: [u8; 2] = 1_u16.to_be_bytes();
const PASSPHRASE_SLOT: u8 = 1;
const WRAPPED_BYTES: usize = 32 + TAG_BYTES;

/// A header that was read and not believed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub(crate) file_id: [u8; 16],
    pub(crate) generation: u64,
    created: u64,
    slots: Vec<Slot>,
    tag: [u8; 32],
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Slot {
    id: [u8; 8],
    cost: Cost,
    salt: [u8; 16],
    nonce: [u8; NONCE_BYTES],
    wrapped: [u8; WRAPPED_BYTES],
}

impl Header {
    /// A header for a new keyspace, with one slot.
    pub(crate) fn create(
        passphrase: &Passphrase,
        root: &Secret<32>,
        keys: &RootKeys,
        created: u64,
    ) -> Result<Self, KeyspaceError> {
        let file_id = public_random()?;
        let slot = Slot::wrap(passphrase, root, &file_id)?;
        let mut header = Self { file_id, generation: 1, created, slots: vec![slot], tag: [0; 32] };
        header.tag = keys.header_tag(&header.body());
        Ok(header)
    }

    /// A header that nothing unlocks, for a keyspace that is never written to a file.
    pub(crate) fn unshared(keys: &RootKeys, created: u64) -> Result<Self, KeyspaceError> {
        let slots = vec![Slot {
            id: public_random()?,
            cost: Cost::WRITTEN,
            salt: public_random()?,
            nonce: public_random()?,
            wrapped: public_random()?,
        }];
        let file_id = public_random()?;
        let mut header = Self { file_id, generation: 1, created, slots, tag: [0; 32] };
        header.tag = keys.header_tag(&header.body());
        Ok(header)
    }

    /// Reads a header. Everything that could cost something is bounded here.
    ///
    /// # Errors
    /// [`KeyspaceError::Foreign`] for another format or version, [`KeyspaceError::Damaged`] for
    /// bytes that are no header.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyspaceError> {
        let mut r = Reader::new(bytes);
        if bytes.len() > MAX_HEADER_BYTES || r.raw(4).ok() != Some(MAGIC) {
            return Err(KeyspaceError::Foreign("it does not begin as one"));
        }
        if r.array().ok() != Some(VERSION) || r.array().ok() != Some(SUITE) {
            return Err(KeyspaceError::Foreign("another version or suite of algorithms"));
        }
        let header = Self::take(&mut r);
        let header = header.map_err(|Malformed| KeyspaceError::Damaged("bad header".to_owned()))?;
        if !header.slots.iter().all(|slot| slot.cost.within_bounds()) {
            return Err(KeyspaceError::Foreign("a key derivation cost out of bounds"));
        }
        Ok(header)
    }

    /// The header's bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.body();
        bytes.extend_from_slice(&self.tag);
        bytes
    }

    /// Opens a slot with the passphrase, then checks the whole header with what it holds. The
    /// checked header and a damaged one are not told apart by the answer.
    pub(crate) fn unlock(&self, passphrase: &Passphrase) -> Result<RootKeys, KeyspaceError> {
        for slot in self.slots.iter().take(MAX_PASSPHRASE_SLOTS) {
            let Some(root) = slot.unwrap(passphrase, &self.file_id)? else {
                continue;
            };
            let keys = RootKeys::below(&root)?;
            if keys.header_is_ours(&self.body(), &self.tag) {
                return Ok(keys);
            }
        }
        Err(KeyspaceError::WrongPassphrase)
    }

    /// Whether the header still carries the tag of these keys.
    pub(crate) fn is_of(&self, keys: &RootKeys) -> bool {
        keys.header_is_ours(&self.body(), &self.tag)
    }

    /// The header after one more commit.
    pub(crate) fn next_generation(mut self, keys: &RootKeys) -> Result<Self, KeyspaceError> {
        let next = self.generation.checked_add(1);
        let over = || KeyspaceError::Damaged("generation overflow".to_owned());
        self.generation = next.ok_or_else(over)?;
        self.tag = keys.header_tag(&self.body());
        Ok(self)
    }

    fn body(&self) -> Vec<u8> {
        let mut bytes = [MAGIC.as_slice(), &VERSION, &SUITE, &self.file_id].concat();
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        bytes.extend_from_slice(&self.created.to_be_bytes());
        let mut w = Writer::default();
        w.list(&self.slots, |w, slot| slot.put(w));
        bytes.extend_from_slice(&w.into_bytes());
        bytes
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (file_id, generation, created) = (r.array()?, r.u64()?, r.u64()?);
        let slots = r.list(Slot::take)?;
        let tag = r.array()?;
        r.end()?;
        if slots.is_empty() || slots.len() > MAX_SLOTS {
            return Err(Malformed);
        }
        Ok(Self { file_id, generation, created, slots, tag })
    }
}

impl Slot {
    fn wrap(
        passphrase: &Passphrase,
        root: &Secret<32>,
        file_id: &[u8; 16],
    ) -> Result<Self, KeyspaceError> {
        let (id, salt, nonce) = (public_random()?, public_random()?, public_random()?);
        let mut slot = Self { id, cost: Cost::WRITTEN, salt, nonce, wrapped: [0; WRAPPED_BYTES] };
        let kek = derive(passphrase, &slot.salt, slot.cost)?;
        let sealed = root.expose(|root| seal(&kek, nonce, root, &slot.aad(file_id)))?;
        let wrong = |_| KeyspaceError::Storage("a wrapped key of another length".to_owned());
        slot.wrapped = sealed.try_into().map_err(wrong)?;
        Ok(slot)
    }

    /// `None` when the passphrase is not this slot's.
    fn unwrap(
        &self,
        passphrase: &Passphrase,
        file_id: &[u8; 16],
    ) -> Result<Option<Secret<32>>, KeyspaceError> {
        let kek = derive(passphrase, &self.salt, self.cost)?;
        let Some(root) = open(&kek, self.nonce, &self.wrapped, &self.aad(file_id)) else {
            return Ok(None);
        };
        Secret::try_fill(|bytes| bytes.copy_from(&root)).map(Some)
    }

    /// Everything that must not be changed about a slot: its place and its cost.
    fn aad(&self, file_id: &[u8; 16]) -> Vec<u8> {
        let mut aad = [MAGIC.as_slice(), &VERSION, &SUITE, file_id, &[PASSPHRASE_SLOT]].concat();
        aad.extend_from_slice(&self.id);
        let Cost { memory, passes, lanes } = self.cost;
        for number in [memory, passes, lanes] {
            aad.extend_from_slice(&number.to_be_bytes());
        }
        aad.extend_from_slice(&self.salt);
        aad
    }

    fn put(&self, w: &mut Writer) {
        w.u8(PASSPHRASE_SLOT);
        w.raw(&self.id);
        w.u32(self.cost.memory);
        w.u32(self.cost.passes);
        w.u32(self.cost.lanes);
        w.raw(&self.salt);
        w.raw(&self.nonce);
        w.raw(&self.wrapped);
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        if r.u8()? != PASSPHRASE_SLOT {
            return Err(Malformed);
        }
        let id = r.array()?;
        let cost = Cost { memory: r.u32()?, passes: r.u32()?, lanes: r.u32()? };
        Ok(Self { id, cost, salt: r.array()?, nonce: r.array()?, wrapped: r.array()? })
    }
}

/// Copies between slices that must be of one length.
pub(crate) trait CopyFrom {
    fn copy_from(&mut self, bytes: &[u8]) -> Result<(), KeyspaceError>;
}

impl<const N: usize> CopyFrom for [u8; N] {
    fn copy_from(&mut self, bytes: &[u8]) -> Result<(), KeyspaceError> {
        if bytes.len() != N {
            return Err(KeyspaceError::Damaged("a secret of another length".to_owned()));
        }
        self.copy_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::new(text.as_bytes().to_vec()).unwrap()
    }

    fn new_header() -> (Header, Secret<32>) {
        let root = Secret::random().unwrap();
        let keys = RootKeys::below(&root).unwrap();
        (Header::create(&passphrase("correct horse"), &root, &keys, 7).unwrap(), root)
    }

    #[test]
    fn only_the_passphrase_opens_a_header_and_what_it_opens_is_the_root_key() {
        let (header, root) = new_header();
        let read = Header::parse(&header.to_bytes()).unwrap();
        assert_eq!(read, header);
        let keys = read.unlock(&passphrase("correct horse")).unwrap();
        let expected = RootKeys::below(&root).unwrap();
        assert_eq!(keys.id(&["a"]), expected.id(&["a"]));
        let wrong = read.unlock(&passphrase("wrong horse"));
        assert!(matches!(wrong, Err(KeyspaceError::WrongPassphrase)));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_of_a_header_is_refused() {
        let (header, root) = new_header();
        let keys = RootKeys::below(&root).unwrap();
        let bytes = header.to_bytes();
        for length in 0..bytes.len() {
            assert!(Header::parse(&bytes[..length]).is_err(), "cut to {length}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // The tag is checked here directly: deriving the key 1,600 times would take minutes.
            let refused = Header::parse(&flipped).map(|header| header.is_of(&keys));
            assert!(!matches!(refused, Ok(true)), "bit {bit}");
        }
    }

    #[test]
    fn a_cost_that_is_too_cheap_or_too_dear_is_refused_before_it_is_paid() {
        let (header, _) = new_header();
        for (memory, passes, lanes) in
            [(1024, 3, 4), (19 * 1024, 1, 1), (u32::MAX, 1, 1), (1 << 20, 10, 1), (65536, 3, 99)]
        {
            let mut hostile = header.clone();
            hostile.slots[0].cost = Cost { memory, passes, lanes };
            assert!(matches!(Header::parse(&hostile.to_bytes()), Err(KeyspaceError::Foreign(_))));
        }
    }
}
