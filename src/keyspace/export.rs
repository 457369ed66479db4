//! Export: key spaces leave in a bundle, for whoever is named and nobody else.

use std::collections::BTreeSet;
use std::io::Write;

use hkdf::Hkdf;
use policy::Permit;
use wire::operator::{KdfCost, MOST_RECIPIENTS, Protection};
use wire::{CallName, Name};

use crate::age::{self, Protect};
use crate::bundle::BundleWriter;
use crate::error::KeyspaceError;
use crate::operator::Operator;
use crate::seal::{Cost, expand};
use crate::secret::{Passphrase, Secret};
use crate::stack::wiped;
use crate::staged::{Staged, space_of};
use crate::transaction::no_space;

/// Most bytes of keys that a script is given at once: in base64, and encrypted, they fit one of its values.
const MOST_SCRIPT_BYTES: usize = 512 * 1024;

/// What a script exported.
pub struct Exported {
    /// The bundle.
    pub bundle: Vec<u8>,
    /// The names of the keys in it.
    pub keys: Vec<Name>,
}

impl Operator<'_> {
    /// To whom bundles and private keys are encrypted that this keyspace is to open: `age1...`.
    ///
    /// # Errors
    /// None that can happen.
    pub fn recipient(&self) -> Result<String, KeyspaceError> {
        wiped(|| Ok(age::recipient_of(&self.own_secret()?).to_string()))
    }

    /// Writes a bundle of these key spaces, or of all: how many keys are in it.
    ///
    /// # Errors
    /// When there is no such key space, a recipient is none, a record is damaged, or it cannot be written.
    pub fn export(
        &self,
        spaces: &[Name],
        protection: &Protection,
        to: impl Write,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<u64, KeyspaceError> {
        let snapshot = self.0.snapshot()?;
        let mut named = BTreeSet::new();
        let mut total = 0;
        for space in spaces {
            snapshot.space(space)?.ok_or_else(|| no_space(space))?;
            // Nobody could read such a bundle.
            if !named.insert(space) {
                return Err(KeyspaceError::Cannot(format!("`{space}` is named twice")));
            }
            total += snapshot.key_count(space)?;
        }
        if spaces.is_empty() {
            total = snapshot.all_keys()?;
        }
        let mut bundle = BundleWriter::begin(to, protected(protection)?)?;
        let mut write = |space: &Name, created| {
            bundle.space(space, created)?;
            snapshot.each_key(space, |record| {
                progress(bundle.key(&record)?, total);
                Ok(())
            })
        };
        if spaces.is_empty() {
            snapshot.each_space(|space, created| write(&space, created))?;
        }
        for space in spaces {
            write(space, snapshot.space(space)?.ok_or_else(|| no_space(space))?)?;
        }
        Ok(bundle.finish()?.1)
    }

    /// The secret that opens what is encrypted to this keyspace. It stays the same for as long as the
    /// service does.
    pub(crate) fn own_secret(&self) -> Result<Secret<32>, KeyspaceError> {
        let seed = &self.0.service.seed;
        expand(&seed.expose(|seed| Hkdf::new(None, seed)), b"crypto-cli recipient 1")
    }
}

impl Staged<'_> {
    /// A bundle of a key space as the script sees it, for those whom the permit names; `None` when there is
    /// no such key space. A key that the script could not use is not in it. `now` is Unix seconds.
    ///
    /// # Errors
    /// When the keyspace is damaged, the permit is for another act or names nobody, or there is too much.
    pub fn export_space(
        &self,
        permit: Permit,
        now: u64,
    ) -> Result<Option<Exported>, KeyspaceError> {
        let space = space_of(&permit, CallName::ExportKeySpace)?;
        if permit.recipients().is_empty() {
            return Err(KeyspaceError::WrongPermit);
        }
        let view = self.view()?;
        let Some(created) = view.space(space, now)? else { return Ok(None) };
        let header = age::write_header(&Protect::Recipients(permit.recipients()), Cost::WRITTEN)?;
        let mut bundle = BundleWriter::begin(Vec::new(), header)?;
        bundle.space(space, created)?;
        let mut keys = Vec::new();
        view.each_key(space, |record| {
            if record.check_usable().is_err() {
                return Ok(());
            }
            bundle.key(record)?;
            keys.push(record.path.key.clone());
            if bundle.key_bytes() > MOST_SCRIPT_BYTES {
                let text = format!(
                    "`{space}` is too large for a script: use `crypto-cli keyspace export`"
                );
                return Err(KeyspaceError::Unfit(text));
            }
            Ok(())
        })?;
        Ok(Some(Exported { bundle: bundle.finish()?.0, keys }))
    }
}

/// A header for whom it is to be, and the key of the payload.
pub(crate) fn protected(protection: &Protection) -> Result<(Vec<u8>, Secret<32>), KeyspaceError> {
    match protection {
        Protection::Passphrase(passphrase) => {
            let passphrase = Passphrase::of(passphrase)?;
            age::write_header(&Protect::Passphrase(&passphrase), Cost::asked(KdfCost::Standard)?)
        }
        Protection::Recipients(texts) => {
            if texts.is_empty() || texts.len() > MOST_RECIPIENTS {
                let text = format!("a bundle has 1 to {MOST_RECIPIENTS} recipients");
                return Err(KeyspaceError::Cannot(text));
            }
            let recipients: Result<Vec<_>, _> =
                texts.iter().map(|text| age::recipient(text)).collect();
            age::write_header(&Protect::Recipients(&recipients?), Cost::WRITTEN)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use policy::Target;
    use wire::Algorithm;

    use super::*;
    use crate::key::KeyRecord;
    use crate::tests::{name, path, permit, permit_with};
    use crate::{Importing, Unlocked};

    fn export(keyspace: &Unlocked, staged: &Staged<'_>) -> Result<Option<Exported>, KeyspaceError> {
        let to = keyspace.as_operator().recipient().unwrap();
        let terms = format!(", export_to = [\"{to}\"]");
        let target = Target::Space(name("a"));
        staged.export_space(permit_with(&terms, CallName::ExportKeySpace, target), 9)
    }

    fn import(keyspace: &Unlocked, bundle: &[u8]) -> Result<u64, KeyspaceError> {
        let importing = Importing::default();
        let mut bundle = Cursor::new(bundle);
        Ok(keyspace.as_operator().import(&mut bundle, None, &importing, |_| {})?.keys)
    }

    /// A point of small order: whatever one agrees on with it, everybody knows.
    #[test]
    fn nobody_can_be_the_recipient_of_a_point_of_small_order() {
        let nobody = policy::Recipient::new([0; 32]).to_string();
        let refused = protected(&Protection::Recipients(vec![nobody.clone()])).err().unwrap();
        assert_eq!(refused.to_string(), format!("`{nobody}` is not a recipient: nobody can be"));
    }

    #[test]
    fn an_export_of_very_many_key_spaces_takes_little_longer_than_a_look_at_each() {
        let keyspace = Unlocked::ephemeral(1).unwrap();
        let filled = keyspace.transact::<_, KeyspaceError>(|writing| {
            (0..20_000)
                .try_for_each(|number| writing.put_space(&name(&format!("s{number}")), 1).map(drop))
        });
        filled.unwrap();
        let to = Protection::Recipients(vec![keyspace.as_operator().recipient().unwrap()]);
        let started = std::time::Instant::now();
        let snapshot = keyspace.snapshot().unwrap();
        snapshot.each_space(|space, _| snapshot.each_key(&space, |_| Ok(()))).unwrap();
        let looked = started.elapsed();
        keyspace.as_operator().export(&[], &to, std::io::sink(), |_, _| {}).unwrap();
        let exported = started.elapsed() - looked;
        assert!(exported < looked * 3, "{looked:?} {exported:?}");
    }

    #[test]
    fn a_script_exports_what_it_sees_to_those_whom_the_policy_names() {
        let [from, to, other] = [1, 2, 3].map(|now| Unlocked::ephemeral(now).unwrap());
        let operator = from.as_operator();
        operator.new_space(&name("a"), 5).unwrap();
        for key in ["a/gone", "a/kept", "a/off", "a/thrown-away"] {
            operator.new_key(&path(key), Algorithm::Ed25519, 5).unwrap();
        }
        operator.enable_key(&path("a/off"), false).unwrap();
        operator.delete_key(&path("a/thrown-away"), 24 * 60 * 60, 5).unwrap();
        let mut staged = from.stage().unwrap();
        let on = |key: &str| Target::Key(path(key));
        let made = permit(CallName::CreateKeypair, on("a/new"));
        staged.create_key(made, Algorithm::P256, 9).unwrap();
        staged.delete_key(permit(CallName::DeleteKeypair, on("a/gone"))).unwrap();
        let exported = export(&to, &staged).unwrap().unwrap();
        assert_eq!(exported.keys, [name("kept"), name("new")]);
        assert!(matches!(import(&other, &exported.bundle), Err(KeyspaceError::NotForUs)));
        assert_eq!(import(&to, &exported.bundle).unwrap(), 2);
        let made = |keyspace: &Unlocked| keyspace.as_operator().space(&name("a")).unwrap().created;
        assert_eq!((made(&to), made(&from)), (5, 5));
        staged.commit(9).unwrap();
        let public = |keyspace: &Unlocked, key: &str| {
            let form = wire::script::PublicForm::Hex;
            keyspace.as_operator().public_key(&path(key), form).unwrap()
        };
        for key in ["a/kept", "a/new"] {
            assert_eq!(public(&to, key), public(&from, key));
        }
        assert!(export(&from, &other.stage().unwrap()).unwrap().is_none(), "there is none");
    }

    #[test]
    fn a_script_exports_no_more_than_fits_a_value_of_its_own() {
        let keyspace = Unlocked::ephemeral(1).unwrap();
        let fill = |from: usize, to: usize| {
            let filled = keyspace.transact::<_, KeyspaceError>(|writing| {
                writing.put_space(&name("a"), 1)?;
                let mut bytes = 0;
                for number in from..to {
                    let path = path(&format!("a/key-{number:09}"));
                    let record = KeyRecord::generate(path, Algorithm::Ed25519, 1)?;
                    bytes += record.put().len();
                    writing.put_key(&record)?;
                }
                Ok(bytes)
            });
            filled.unwrap()
        };
        let one = fill(0, 1);
        let most = MOST_SCRIPT_BYTES / one;
        fill(1, most);
        let exported = export(&keyspace, &keyspace.stage().unwrap()).unwrap().unwrap();
        assert_eq!(exported.keys.len(), most);
        let text = data_encoding::BASE64.encode_len(exported.bundle.len());
        assert!(text <= wire::script::MAX_VALUE_BYTES, "{text}");
        fill(most, most + 1);
        let refused = export(&keyspace, &keyspace.stage().unwrap());
        assert!(matches!(refused, Err(KeyspaceError::Unfit(_))));
    }
}
