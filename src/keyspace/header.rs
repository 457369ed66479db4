//! The header: who can unlock the keyspace. `FORMAT.md` has it byte by byte.

use wire::codec::{Malformed, Reader, Writer};
use wire::operator::SlotKind;

use crate::error::KeyspaceError;
use crate::seal::{Cost, RootKeys};
use crate::secret::{Passphrase, Secret, public_random};
use crate::slot::Slot;
use crate::sum::{HiddenSum, Sum};

/// Largest header, in bytes: its slots take less than 1 KiB.
pub const MAX_HEADER_BYTES: usize = 4 * 1024;

pub(crate) const MAGIC: &[u8; 4] = b"CCKS";
/// Of a header without a sum over the records, and of what wraps the root key, which stays as it is wrapped.
pub(crate) const VERSION: [u8; 2] = 1_u16.to_be_bytes();
/// Of a header with one, which is what is written.
const VERSION_WITH_SUM: [u8; 2] = 2_u16.to_be_bytes();
/// XChaCha20-Poly1305, HKDF-SHA-256, HMAC-SHA-256, Argon2id.
pub(crate) const SUITE: [u8; 2] = 1_u16.to_be_bytes();

/// A header that was read and not believed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub(crate) file_id: [u8; 16],
    pub(crate) generation: u64,
    created: u64,
    /// By ascending kinds, of each at most one; never empty.
    pub(crate) slots: Vec<Slot>,
    /// Over all records; `None` in a file that was last written before there was one.
    sum: Option<HiddenSum>,
    tag: [u8; 32],
}

impl Header {
    /// A header for a new keyspace, with the operator's slot.
    pub(crate) fn create(
        passphrase: &Passphrase,
        cost: Cost,
        root: &Secret<32>,
        keys: &RootKeys,
        created: u64,
    ) -> Result<Self, KeyspaceError> {
        let file_id = public_random()?;
        let slot = Slot::wrap(SlotKind::Operator, passphrase, cost, root, &file_id)?;
        Self::of(file_id, created, slot, keys)
    }

    /// A header that nothing unlocks, for a keyspace that is never written to a file.
    pub(crate) fn unshared(keys: &RootKeys, created: u64) -> Result<Self, KeyspaceError> {
        Self::of(public_random()?, created, Slot::unopenable()?, keys)
    }

    /// One of a keyspace without records.
    fn of(
        file_id: [u8; 16],
        created: u64,
        slot: Slot,
        keys: &RootKeys,
    ) -> Result<Self, KeyspaceError> {
        let (slots, sum, tag) = (vec![slot], None, [0; 32]);
        Self { file_id, generation: 1, created, slots, sum, tag }.with_sum(Sum::default(), keys)
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
        let version = r.array().ok().filter(|found| [VERSION, VERSION_WITH_SUM].contains(found));
        if version.is_none() || r.array().ok() != Some(SUITE) {
            return Err(KeyspaceError::Foreign("another version or suite of algorithms"));
        }
        let header = Self::take(&mut r, version == Some(VERSION_WITH_SUM));
        let header = header.map_err(|Malformed| KeyspaceError::Damaged("bad header".to_owned()))?;
        // Of all slots together, for all of them may be tried.
        let costs = || header.slots.iter().map(|slot| slot.cost);
        let whole = costs().fold(0, |whole: u64, cost| whole.saturating_add(cost.whole()));
        if !costs().all(Cost::within_bounds) || whole > Cost::MOST_WHOLE {
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

    /// Opens a slot with the passphrase, then checks the whole header with what it holds: the root key,
    /// those below it, and what the slot costs. A wrong passphrase and a damaged header are not told apart by the answer.
    pub(crate) fn unlock(
        &self,
        passphrase: &Passphrase,
        slot: Option<SlotKind>,
    ) -> Result<(Secret<32>, RootKeys, Cost), KeyspaceError> {
        for each in self.slots.iter().filter(|each| slot.is_none_or(|kind| kind == each.kind)) {
            let Some(root) = each.unwrap(passphrase, &self.file_id)? else {
                continue;
            };
            let keys = RootKeys::below(&root)?;
            if keys.header_is_ours(&self.body(), &self.tag) {
                return Ok((root, keys, each.cost));
            }
        }
        Err(KeyspaceError::WrongPassphrase)
    }

    /// Whose passphrases open it, and what that costs.
    pub(crate) fn slots(&self) -> impl Iterator<Item = (SlotKind, Cost)> {
        self.slots.iter().map(|slot| (slot.kind, slot.cost))
    }

    /// What deriving a key from the passphrase of this slot costs, if there is one.
    pub(crate) fn cost_of(&self, kind: SlotKind) -> Option<Cost> {
        self.slots().find_map(|(each, cost)| (each == kind).then_some(cost))
    }

    /// The same with this slot in the place of one of its kind.
    pub(crate) fn with_slot(mut self, slot: Slot, keys: &RootKeys) -> Self {
        self.slots.retain(|old| old.kind != slot.kind);
        self.slots.push(slot);
        self.slots.sort_by_key(|slot| slot.kind);
        self.tagged(keys)
    }

    /// The same without the slot of this kind; `None` when there is none, or no other.
    pub(crate) fn without_slot(mut self, kind: SlotKind, keys: &RootKeys) -> Option<Self> {
        let before = self.slots.len();
        self.slots.retain(|old| old.kind != kind);
        (!self.slots.is_empty() && self.slots.len() < before).then(|| self.tagged(keys))
    }

    /// The same with this slot alone, for a new root key.
    pub(crate) fn with_only(mut self, slot: Slot, keys: &RootKeys) -> Self {
        self.slots = vec![slot];
        self.tagged(keys)
    }

    /// The same with the sum over the records that are there now.
    pub(crate) fn with_sum(mut self, sum: Sum, keys: &RootKeys) -> Result<Self, KeyspaceError> {
        self.sum = Some(sum.hide(keys)?);
        Ok(self.tagged(keys))
    }

    /// The sum over the records, if there is one.
    pub(crate) fn sum(&self, keys: &RootKeys) -> Option<Sum> {
        self.sum.map(|sum| sum.reveal(keys))
    }

    fn tagged(mut self, keys: &RootKeys) -> Self {
        self.tag = keys.header_tag(&self.body());
        self
    }

    /// Whether the header still carries the tag of these keys.
    pub(crate) fn is_of(&self, keys: &RootKeys) -> bool {
        keys.header_is_ours(&self.body(), &self.tag)
    }

    /// The header after one more commit, if it is still the one of these keys.
    pub(crate) fn next_generation(mut self, keys: &RootKeys) -> Result<Self, KeyspaceError> {
        if !self.is_of(keys) {
            return Err(KeyspaceError::Damaged("the header changed under us".to_owned()));
        }
        let next = self.generation.checked_add(1);
        let over = || KeyspaceError::Damaged("generation overflow".to_owned());
        self.generation = next.ok_or_else(over)?;
        Ok(self.tagged(keys))
    }

    fn body(&self) -> Vec<u8> {
        let version = if self.sum.is_some() { VERSION_WITH_SUM } else { VERSION };
        let mut bytes = [MAGIC.as_slice(), &version, &SUITE, &self.file_id].concat();
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        bytes.extend_from_slice(&self.created.to_be_bytes());
        let mut w = Writer::default();
        w.list(&self.slots, |w, slot| slot.put(w));
        if let Some(sum) = &self.sum {
            w.raw(&sum.nonce);
            w.raw(&sum.hidden);
        }
        bytes.extend_from_slice(&w.into_bytes());
        bytes
    }

    fn take(r: &mut Reader<'_>, has_sum: bool) -> Result<Self, Malformed> {
        let (file_id, generation, created) = (r.array()?, r.u64()?, r.u64()?);
        let slots = r.list_of_at_most(SlotKind::ALL.len(), Slot::take)?;
        let sum =
            if has_sum { Some(HiddenSum { nonce: r.array()?, hidden: r.array()? }) } else { None };
        let tag = r.array()?;
        r.end()?;
        if slots.is_empty() || !slots.is_sorted_by(|a: &Slot, b| a.kind < b.kind) {
            return Err(Malformed);
        }
        Ok(Self { file_id, generation, created, slots, sum, tag })
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
        let passphrase = passphrase("correct horse");
        (Header::create(&passphrase, Cost::LEAST, &root, &keys, 7).unwrap(), root)
    }

    #[test]
    fn only_the_passphrase_opens_a_header_and_what_it_opens_is_the_root_key() {
        let (header, root) = new_header();
        let read = Header::parse(&header.to_bytes()).unwrap();
        assert_eq!(read, header);
        let keys = read.unlock(&passphrase("correct horse"), None).unwrap().1;
        let expected = RootKeys::below(&root).unwrap();
        assert_eq!(keys.id(&["a"]), expected.id(&["a"]));
        let wrong = read.unlock(&passphrase("wrong horse"), None);
        assert!(matches!(wrong, Err(KeyspaceError::WrongPassphrase)));
    }

    #[test]
    fn a_wrong_passphrase_and_a_damaged_slot_or_tag_are_told_alike() {
        let (header, _) = new_header();
        let bytes = header.to_bytes();
        let told = |bytes: &[u8], text: &str| {
            let refused = Header::parse(bytes).unwrap().unlock(&passphrase(text), None);
            refused.err().unwrap().to_string()
        };
        let wrong = told(&bytes, "wrong horse");
        // In the slot's id, its salt, its nonce, the wrapped root key, and the tag.
        for at in [45, 65, 81, 105, 152, bytes.len() - 1] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(told(&damaged, "correct horse"), wrong, "byte {at}");
        }
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
            crate::fuzzing::header(&flipped);
            // The tag is checked here directly: deriving the key 1,600 times would take minutes.
            let refused = Header::parse(&flipped).map(|header| header.is_of(&keys));
            assert!(!matches!(refused, Ok(true)), "bit {bit}");
        }
    }

    /// The tag is over the version as well, so that nobody takes the sum out of a header.
    #[test]
    fn a_header_of_version_1_has_no_sum_and_is_not_made_of_one_of_version_2() {
        let (header, root) = new_header();
        let keys = RootKeys::below(&root).unwrap();
        let mut first = header.clone();
        first.sum = None;
        let read = Header::parse(&first.to_bytes()).unwrap();
        assert!(read.sum(&keys).is_none() && !read.is_of(&keys), "it is of another tag");
        let read = Header::parse(&first.tagged(&keys).to_bytes()).unwrap();
        assert!(read.is_of(&keys));
        assert_eq!(header.to_bytes().len(), read.to_bytes().len() + 48);
        assert!(Header::parse(&header.to_bytes()).unwrap().sum(&keys) == Some(Sum::default()));
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

    #[test]
    fn the_costs_of_all_slots_together_are_bounded_however_large_they_are() {
        let (header, _) = new_header();
        let dearest = Cost { memory: 1 << 20, passes: 3, lanes: 4 };
        let endless = Cost { memory: u32::MAX, passes: u32::MAX, lanes: 4 };
        for costs in [[dearest, Cost::LEAST], [endless; 2]] {
            let mut hostile = header.clone();
            hostile.slots.push(hostile.slots[0].clone());
            hostile.slots[1].kind = SlotKind::Backup;
            for (slot, cost) in hostile.slots.iter_mut().zip(costs) {
                slot.cost = cost;
            }
            let refused = Header::parse(&hostile.to_bytes());
            let says = "a key derivation cost out of bounds";
            assert!(matches!(refused, Err(KeyspaceError::Foreign(what)) if what == says));
        }
    }
}
