//! Which records there are: one sum over all of them stands in the header, under its tag, so that none can be
//! taken out, added or exchanged for an earlier one of the same place. The sum is MSet-Add-Hash (Clarke, Devadas,
//! van Dijk, Gassend and Suh, ASIACRYPT 2003) with HMAC-SHA-256: a change of one record changes it in one step.

use hmac::{Hmac, Mac};
use redb::ReadableTable;
use sha2::Sha256;

use crate::error::KeyspaceError;
use crate::record::{Kind, PREFIX_BYTES};
use crate::seal::RootKeys;
use crate::secret::public_random;

/// A number modulo 2^256, in four parts of which the first is the least.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Sum([u64; 4]);

/// A sum as it stands in the header, under a nonce of its own: what two of them differ by tells nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HiddenSum {
    pub(crate) nonce: [u8; 16],
    pub(crate) hidden: [u8; 32],
}

impl Sum {
    /// The sum of all records of both tables.
    pub(crate) fn of(
        spaces: &impl ReadableTable<&'static [u8], &'static [u8]>,
        keys: &impl ReadableTable<&'static [u8], &'static [u8]>,
        root: &RootKeys,
    ) -> Result<Self, KeyspaceError> {
        let (mac, mut sum) = (root.sum_mac(), Self::default());
        for entry in spaces.iter()? {
            let (id, sealed) = entry?;
            sum.add(Self::of_record(&mac, Kind::Space, id.value(), sealed.value())?);
        }
        for entry in keys.iter()? {
            let (id, sealed) = entry?;
            sum.add(Self::of_record(&mac, Kind::Key, id.value(), sealed.value())?);
        }
        Ok(sum)
    }

    /// What one record adds. Its generation and its nonce stand for all of it, for no other record has both.
    ///
    /// # Errors
    /// When the id or the record has a length that none has: what is hashed could then be cut in another place, and be
    /// of another record.
    pub(crate) fn of_record(
        mac: &Hmac<Sha256>,
        kind: Kind,
        id: &[u8],
        sealed: &[u8],
    ) -> Result<Self, KeyspaceError> {
        let prefix = sealed.get(..PREFIX_BYTES).filter(|_| id.len() == kind.id_bytes());
        let prefix = prefix.ok_or_else(|| kind.damaged("a record or its id is cut", id))?;
        Ok(Self::hash(mac, &[&[1, kind as u8], prefix, id]))
    }

    /// The keyed state is that of [`RootKeys::sum_mac`], made once for many.
    fn hash(mac: &Hmac<Sha256>, parts: &[&[u8]]) -> Self {
        let mut mac = mac.clone();
        parts.iter().for_each(|part| mac.update(part));
        Self::from_bytes(mac.finalize().into_bytes().into())
    }

    pub(crate) fn add(&mut self, other: Self) {
        let mut carry = false;
        for (part, other) in self.0.iter_mut().zip(other.0) {
            let (sum, over) = part.overflowing_add(other);
            let (sum, over_again) = sum.overflowing_add(u64::from(carry));
            (*part, carry) = (sum, over || over_again);
        }
    }

    pub(crate) fn subtract(&mut self, other: Self) {
        let mut borrow = false;
        for (part, other) in self.0.iter_mut().zip(other.0) {
            let (left, under) = part.overflowing_sub(other);
            let (left, under_again) = left.overflowing_sub(u64::from(borrow));
            (*part, borrow) = (left, under || under_again);
        }
    }

    /// As it is written.
    pub(crate) fn hide(mut self, root: &RootKeys) -> Result<HiddenSum, KeyspaceError> {
        let nonce = public_random()?;
        self.add(Self::cover(root, &nonce));
        Ok(HiddenSum { nonce, hidden: self.to_bytes() })
    }

    fn cover(root: &RootKeys, nonce: &[u8; 16]) -> Self {
        Self::hash(&root.sum_mac(), &[&[0], nonce])
    }

    fn from_bytes(bytes: [u8; 32]) -> Self {
        let mut parts = bytes.rchunks_exact(8).map(|part| part.try_into().unwrap_or_default());
        Self(std::array::from_fn(|_| u64::from_be_bytes(parts.next().unwrap_or_default())))
    }

    fn to_bytes(self) -> [u8; 32] {
        let mut bytes = self.0.iter().rev().flat_map(|part| part.to_be_bytes());
        std::array::from_fn(|_| bytes.next().unwrap_or_default())
    }
}

impl HiddenSum {
    pub(crate) fn reveal(&self, root: &RootKeys) -> Sum {
        let mut sum = Sum::from_bytes(self.hidden);
        sum.subtract(Sum::cover(root, &self.nonce));
        sum
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tempfile::TempDir;
    use wire::{Algorithm, KeyState};

    use super::*;
    use crate::store::{KEYS, Opening, SPACES, Unlocked};
    use crate::tests::{name, new_keyspace, passphrase, path};
    use crate::{Home, Locked};

    /// A keyspace with three keys in a file.
    fn in_file() -> (TempDir, Home, Unlocked) {
        let (folder, home, keyspace) = new_keyspace();
        let operator = keyspace.as_operator();
        operator.new_space(&name("team"), 1).unwrap();
        for key in ["team/k", "team/d", "team/other"] {
            operator.new_key(&path(key), Algorithm::Ed25519, 1).unwrap();
        }
        (folder, home, keyspace)
    }

    fn open(home: &Home, accept_older: bool) -> Result<Unlocked, KeyspaceError> {
        Locked::open(home)?.unlock(&passphrase(), Opening { slot: None, accept_older })
    }

    /// Changes the tables as whoever can write the file does.
    fn tamper(keyspace: &Unlocked, change: impl FnOnce(&redb::WriteTransaction)) {
        let writing = keyspace.database.begin_write(&keyspace.database.turn()).unwrap();
        change(&writing);
        writing.commit().unwrap();
    }

    fn stored(keyspace: &Unlocked, key: &str) -> Vec<u8> {
        let table = keyspace.database.begin_read().unwrap().open_table(KEYS).unwrap();
        let id = keyspace.root().key_id(&path(key));
        table.get(id.as_slice()).unwrap().unwrap().value().to_vec()
    }

    fn state(keyspace: &Unlocked, key: &str) -> KeyState {
        keyspace.key(&path(key)).unwrap().unwrap().state
    }

    /// Whoever can write the file, and has a copy of it, changes it in its place.
    #[test]
    fn a_record_of_an_earlier_generation_put_back_into_the_file_is_refused() {
        let (_folder, home, keyspace) = in_file();
        let keys = ["team/k", "team/d"];
        let before = keys.map(|key| stored(&keyspace, key));
        keyspace.as_operator().enable_key(&path("team/k"), false).unwrap();
        keyspace.as_operator().delete_key(&path("team/d"), 86_400, 5).unwrap();
        let after = keys.map(|key| stored(&keyspace, key));
        drop(keyspace);
        assert!(open(&home, false).is_ok());
        let mut file = std::fs::read(home.file("keyspace.redb")).unwrap();
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(before.len(), after.len());
            let windows = file.windows(after.len()).enumerate();
            let found: Vec<usize> =
                windows.filter(|(_, here)| here == after).map(|(at, _)| at).collect();
            assert!(!found.is_empty());
            for at in found {
                file[at..at + before.len()].copy_from_slice(before);
            }
        }
        std::fs::write(home.file("keyspace.redb"), &file).unwrap();
        let refused = open(&home, false).err().unwrap();
        assert!(matches!(&refused, KeyspaceError::Older(what) if what.contains("put back")));
        let accepted = open(&home, true).unwrap();
        assert_eq!(state(&accepted, "team/k"), KeyState::Enabled, "they open, each by itself");
        let verified = accepted.as_operator().verify(|_, _| {}).unwrap_err();
        assert!(matches!(verified, KeyspaceError::Damaged(_)));
        // What was accepted, and written since, counts from now on.
        accepted.as_operator().enable_key(&path("team/k"), false).unwrap();
        drop(accepted);
        open(&home, false).unwrap().as_operator().verify(|_, _| {}).unwrap();
    }

    #[test]
    fn a_record_that_is_taken_out_or_brought_back_is_missed() {
        let (_folder, home, keyspace) = in_file();
        let (id, gone) = (keyspace.root().key_id(&path("team/k")), stored(&keyspace, "team/k"));
        let space = keyspace.root().space_id(&name("team"));
        tamper(&keyspace, |writing| {
            writing.open_table(KEYS).unwrap().remove(id.as_slice()).unwrap();
        });
        drop(keyspace);
        assert!(matches!(open(&home, false), Err(KeyspaceError::Older(_))), "taken out");
        let keyspace = open(&home, true).unwrap();
        keyspace.as_operator().new_space(&name("b"), 2).unwrap();
        tamper(&keyspace, |writing| {
            writing.open_table(KEYS).unwrap().insert(id.as_slice(), gone.as_slice()).unwrap();
        });
        drop(keyspace);
        assert!(matches!(open(&home, false), Err(KeyspaceError::Older(_))), "brought back");
        let keyspace = open(&home, true).unwrap();
        keyspace.as_operator().new_space(&name("c"), 2).unwrap();
        tamper(&keyspace, |writing| {
            let mut table = writing.open_table(SPACES).unwrap();
            table.remove(space.as_slice()).unwrap();
        });
        drop(keyspace);
        assert!(matches!(open(&home, false), Err(KeyspaceError::Older(_))), "a key space");
    }

    /// Hashed in one piece, the end of a record and the beginning of an id could change places.
    #[test]
    fn a_record_cannot_hide_behind_an_id_that_swallowed_a_part_of_it() {
        for cut in [0, 8, 31] {
            let (_folder, home, keyspace) = in_file();
            let (id, sealed) =
                (keyspace.root().key_id(&path("team/k")), stored(&keyspace, "team/k"));
            tamper(&keyspace, |writing| {
                let mut table = writing.open_table(KEYS).unwrap();
                table.remove(id.as_slice()).unwrap();
                let swallowed = [&sealed[cut..PREFIX_BYTES], &id].concat();
                table.insert(swallowed.as_slice(), &sealed[..cut]).unwrap();
            });
            let verified = keyspace.as_operator().verify(|_, _| {});
            assert!(matches!(verified, Err(KeyspaceError::Damaged(_))));
            drop(keyspace);
            for accept_older in [false, true] {
                let refused = open(&home, accept_older).err().unwrap();
                let says = "a record or its id is cut: the key ";
                assert!(matches!(refused, KeyspaceError::Damaged(what) if what.starts_with(says)));
            }
        }
    }

    #[test]
    fn who_restores_an_older_file_is_told_that_its_records_were_exchanged_as_well() {
        let (_folder, home, keyspace) = in_file();
        let id = keyspace.root().key_id(&path("team/k"));
        tamper(&keyspace, |writing| {
            writing.open_table(KEYS).unwrap().remove(id.as_slice()).unwrap();
        });
        drop(keyspace);
        std::fs::remove_file(home.file("keyspace.pin")).unwrap();
        let refused = open(&home, false).err().unwrap().to_string();
        let accepted = open(&home, true).unwrap().accepted().unwrap().to_owned();
        for told in [refused, accepted] {
            assert!(told.contains("there is no note in") && told.contains("taken out"), "{told}");
        }
    }

    /// It may be told and not be recorded: a log that was restored as well often does not go on.
    #[test]
    fn a_file_that_was_accepted_is_accepted_anew_until_that_is_acknowledged() {
        let (_folder, home, keyspace) = in_file();
        drop(keyspace);
        let pin = home.file("keyspace.pin");
        std::fs::remove_file(&pin).unwrap();
        for _ in 0..2 {
            assert!(matches!(open(&home, false), Err(KeyspaceError::Older(_))));
            assert!(open(&home, true).unwrap().accepted().is_some());
        }
        open(&home, true).unwrap().acknowledge().unwrap();
        assert!(open(&home, false).unwrap().accepted().is_none());
        // Nor is it acknowledged where that cannot be noted.
        std::fs::remove_file(&pin).unwrap();
        std::os::unix::fs::symlink("/dev/full", &pin).unwrap();
        assert!(open(&home, true).unwrap().acknowledge().is_err());
    }

    #[test]
    fn an_older_file_that_was_accepted_keeps_its_sum() {
        let (_folder, home, keyspace) = in_file();
        drop(keyspace);
        std::fs::remove_file(home.file("keyspace.pin")).unwrap();
        let keyspace = open(&home, true).unwrap();
        let id = keyspace.root().key_id(&path("team/k"));
        tamper(&keyspace, |writing| {
            writing.open_table(KEYS).unwrap().remove(id.as_slice()).unwrap();
        });
        keyspace.as_operator().new_space(&name("b"), 2).unwrap();
        drop(keyspace);
        assert!(matches!(open(&home, false), Err(KeyspaceError::Older(_))));
    }

    #[test]
    fn a_sum_wraps_at_two_to_the_256() {
        let mut sum = Sum::from_bytes([0xff; 32]);
        let mut one = [0; 32];
        one[31] = 1;
        sum.add(Sum::from_bytes(one));
        assert!(sum == Sum::default());
        sum.subtract(Sum::from_bytes(one));
        assert_eq!(sum.to_bytes(), [0xff; 32]);
    }

    proptest! {
        #[test]
        fn what_is_added_in_any_order_and_taken_away_again_leaves_what_was(a: [u8; 32], b: [u8; 32]) {
            let [a, b] = [a, b].map(Sum::from_bytes);
            let (mut one, mut other) = (a, b);
            one.add(b);
            other.add(a);
            prop_assert!(one == other);
            one.subtract(b);
            prop_assert_eq!(one.to_bytes(), a.to_bytes());
            // By hand, a byte at a time.
            let mut carry = 0;
            let mut expected = [0; 32];
            for at in (0..32).rev() {
                let sum = u16::from(a.to_bytes()[at]) + u16::from(b.to_bytes()[at]) + carry;
                (expected[at], carry) = (sum.to_le_bytes()[0], sum >> 8);
            }
            prop_assert_eq!(other.to_bytes(), expected);
        }
    }
}
