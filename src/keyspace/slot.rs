//! A slot of the header: the root key wrapped under a passphrase.

use wire::codec::{Malformed, Reader, Writer};
use wire::operator::SlotKind;

use crate::error::KeyspaceError;
use crate::header::{MAGIC, SUITE, VERSION};
use crate::seal::{Cost, NONCE_BYTES, TAG_BYTES, derive, open, seal};
use crate::secret::{Passphrase, Secret, public_random};

const WRAPPED_BYTES: usize = 32 + TAG_BYTES;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) kind: SlotKind,
    id: [u8; 8],
    pub(crate) cost: Cost,
    salt: [u8; 16],
    nonce: [u8; NONCE_BYTES],
    wrapped: [u8; WRAPPED_BYTES],
}

impl Slot {
    /// Wraps the root key for whoever has the passphrase.
    pub(crate) fn wrap(
        kind: SlotKind,
        passphrase: &Passphrase,
        cost: Cost,
        root: &Secret<32>,
        file_id: &[u8; 16],
    ) -> Result<Self, KeyspaceError> {
        passphrase.check_strength()?;
        let mut slot = Self { kind, cost, ..Self::unopenable()? };
        let kek = derive(passphrase, &slot.salt, slot.cost)?;
        let sealed = root.expose(|root| seal(&kek, slot.nonce, root, &slot.aad(file_id)))?;
        let wrong = |_| KeyspaceError::Storage("a wrapped key of another length".to_owned());
        slot.wrapped = sealed.try_into().map_err(wrong)?;
        Ok(slot)
    }

    /// One that nothing opens.
    pub(crate) fn unopenable() -> Result<Self, KeyspaceError> {
        Ok(Self {
            kind: SlotKind::Operator,
            id: public_random()?,
            cost: Cost::WRITTEN,
            salt: public_random()?,
            nonce: public_random()?,
            wrapped: public_random()?,
        })
    }

    /// `None` when the passphrase is not this slot's.
    pub(crate) fn unwrap(
        &self,
        passphrase: &Passphrase,
        file_id: &[u8; 16],
    ) -> Result<Option<Secret<32>>, KeyspaceError> {
        let kek = derive(passphrase, &self.salt, self.cost)?;
        let Some(root) = open(&kek, self.nonce, &self.wrapped, &self.aad(file_id)) else {
            return Ok(None);
        };
        Secret::copied(&root).map(Some)
    }

    /// Everything that must not be changed about a slot: its place and its cost.
    fn aad(&self, file_id: &[u8; 16]) -> Vec<u8> {
        let mut aad = [MAGIC.as_slice(), &VERSION, &SUITE, file_id, &[self.kind as u8]].concat();
        aad.extend_from_slice(&self.id);
        let Cost { memory, passes, lanes } = self.cost;
        for number in [memory, passes, lanes] {
            aad.extend_from_slice(&number.to_be_bytes());
        }
        aad.extend_from_slice(&self.salt);
        aad
    }

    pub(crate) fn put(&self, w: &mut Writer) {
        w.u8(self.kind as u8);
        w.raw(&self.id);
        w.u32(self.cost.memory);
        w.u32(self.cost.passes);
        w.u32(self.cost.lanes);
        w.raw(&self.salt);
        w.raw(&self.nonce);
        w.raw(&self.wrapped);
    }

    pub(crate) fn take(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let kind = SlotKind::from_number(r.u8()?).ok_or(Malformed)?;
        let id = r.array()?;
        let cost = Cost { memory: r.u32()?, passes: r.u32()?, lanes: r.u32()? };
        let (salt, nonce) = (r.array()?, r.array()?);
        Ok(Self { kind, id, cost, salt, nonce, wrapped: r.array()? })
    }
}
