//! What changes who opens a keyspace: its passphrases and its root key.

use wire::operator::{KdfCost, SlotKind};

use crate::error::KeyspaceError;
use crate::header::Header;
use crate::operator::Operator;
use crate::seal::{Cost, RootKeys};
use crate::secret::{Passphrase, Secret};
use crate::slot::Slot;
use crate::stack::wiped;
use crate::transaction::Writing;

impl Operator<'_> {
    /// Gives a slot this passphrase, in the place of the one that it had. It takes one that opens the
    /// keyspace now.
    ///
    /// # Errors
    /// [`KeyspaceError::WrongPassphrase`]; or when the new one is too short.
    pub fn set_passphrase(
        &self,
        current: &Passphrase,
        slot: SlotKind,
        new: &Passphrase,
        cost: KdfCost,
    ) -> Result<(), KeyspaceError> {
        wiped(|| {
            let (header, root, _) = self.unlocked_header(current)?;
            let asked = Cost::asked(cost)?;
            // A new passphrase alone does not make guessing cheaper.
            let now = header.cost_of(slot).filter(|now| now.whole() > asked.whole());
            let cost = now.filter(|_| cost == KdfCost::Kept).unwrap_or(asked);
            let slot = Slot::wrap(slot, new, cost, &root, &header.file_id)?;
            self.put_slot(slot, &RootKeys::below(&root)?)
        })
    }

    /// Writes a slot for the root key that these keys are below.
    pub(crate) fn put_slot(&self, slot: Slot, keys: &RootKeys) -> Result<(), KeyspaceError> {
        self.0.transact(|writing| {
            is_still(writing, keys)?;
            writing.header = writing.header.clone().with_slot(slot, &writing.root);
            // A sum of costs that no reader accepts is not written.
            Header::parse(&writing.header.to_bytes()).map(drop)
        })
    }

    /// Takes a slot's passphrase away.
    ///
    /// # Errors
    /// [`KeyspaceError::WrongPassphrase`]; or when it has none, or it is the last.
    pub fn remove_passphrase(
        &self,
        current: &Passphrase,
        slot: SlotKind,
    ) -> Result<(), KeyspaceError> {
        let keys = wiped(|| RootKeys::below(&self.unlocked_header(current)?.1))?;
        self.0.transact(|writing| {
            is_still(writing, &keys)?;
            let header = writing.header.clone().without_slot(slot, &writing.root);
            let word = slot.word();
            let text = format!("there is no {word} passphrase, or it is the only one");
            writing.header = header.ok_or(KeyspaceError::Cannot(text))?;
            Ok(())
        })
    }

    /// Gives the keyspace a new root key, and writes everything anew under it, to a new file: how many keys. `current`
    /// becomes the operator's passphrase, and the only one.
    ///
    /// # Errors
    /// [`KeyspaceError::WrongPassphrase`], or when a record is damaged.
    pub fn rotate_root(
        &self,
        current: &Passphrase,
        progress: impl FnMut(u64, u64),
    ) -> Result<u64, KeyspaceError> {
        let (keys, slot) = wiped(|| {
            let (header, _, cost) = self.unlocked_header(current)?;
            let root = Secret::random()?;
            let slot = Slot::wrap(SlotKind::Operator, current, cost, &root, &header.file_id)?;
            Ok::<_, KeyspaceError>((RootKeys::below(&root)?, slot))
        })?;
        self.0.renew(keys, slot, progress)
    }

    /// The header, the root key that the passphrase opens in it, and what that cost.
    pub(crate) fn unlocked_header(
        &self,
        current: &Passphrase,
    ) -> Result<(Header, Secret<32>, Cost), KeyspaceError> {
        let header = self.header()?;
        let (root, _, cost) = header.unlock(current, None)?;
        Ok((header, root, cost))
    }

    pub(crate) fn header(&self) -> Result<Header, KeyspaceError> {
        self.0.snapshot()?.header()
    }
}

/// Refuses to write a slot for a root key that has been replaced since.
fn is_still(writing: &Writing<'_>, keys: &RootKeys) -> Result<(), KeyspaceError> {
    if writing.header.is_of(keys) {
        return Ok(());
    }
    Err(KeyspaceError::Cannot("the root key was replaced meanwhile: ask again".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Unlocked;

    #[test]
    fn a_new_passphrase_is_as_dear_to_guess_as_the_one_before() {
        let [first, second] =
            ["the first one", "the second one"].map(|text| Passphrase::new(text.into()).unwrap());
        let keyspace = Unlocked::ephemeral(1).unwrap();
        let operator = keyspace.as_operator();
        let dear = Cost { memory: 80 * 1024, ..Cost::WRITTEN };
        let cost = || operator.header().unwrap().cost_of(SlotKind::Operator).unwrap();
        let root = Secret::random().unwrap();
        let slot = Slot::wrap(SlotKind::Operator, &first, dear, &root, &keyspace.file_id).unwrap();
        keyspace.renew(RootKeys::below(&root).unwrap(), slot, |_, _| {}).unwrap();
        let set = |from: &Passphrase, to: &Passphrase, cost| {
            operator.set_passphrase(from, SlotKind::Operator, to, cost).unwrap();
        };
        set(&first, &second, KdfCost::Kept);
        assert_eq!(cost(), dear);
        set(&second, &first, KdfCost::Standard);
        assert_eq!(cost(), Cost::WRITTEN, "as it was asked for");
        set(&first, &second, KdfCost::Kept);
        assert_eq!(cost(), Cost::WRITTEN);
    }
}
