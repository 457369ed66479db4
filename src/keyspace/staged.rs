//! One script's view: what it changes is usable by it at once, and nobody else's until it ends well.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use policy::{Permit, Target};
use wire::script::{PublicForm, Scheme};
use wire::{Algorithm, CallName, KeyPath, Name};
use zeroize::Zeroizing;

use crate::commit::{Change, Changes, InTurn};
use crate::error::KeyspaceError;
use crate::key::KeyRecord;
use crate::stack::wiped;
use crate::store::Unlocked;
use crate::view::View;
use crate::{encrypt, public, sign};

/// A script's changes over the stored keyspace. Dropping it drops them.
pub struct Staged<'k> {
    keyspace: &'k Unlocked,
    pub(crate) changes: Changes,
    /// When the script must have ended.
    deadline: Option<Instant>,
}

impl<'k> Staged<'k> {
    pub(crate) fn new(keyspace: &'k Unlocked, since: u64) -> Self {
        let changes = Changes { since, spaces: BTreeMap::new(), keys: BTreeMap::new() };
        Self { keyspace, changes, deadline: None }
    }

    /// From this moment on, what reads a whole key space fails with [`KeyspaceError::OutOfTime`].
    pub fn ends_at(&mut self, deadline: Instant) {
        self.deadline = Some(deadline);
    }

    /// Makes a key space. `false` when there is one of that name.
    ///
    /// # Errors
    /// When the keyspace is damaged or the permit is for another act.
    pub fn create_space(&mut self, permit: Permit) -> Result<bool, KeyspaceError> {
        let space = space_of(&permit, CallName::CreateKeySpace)?;
        if self.is_space(space)? {
            return Ok(false);
        }
        let space = space.clone();
        let change = self.changes.spaces.entry(space);
        change.or_insert(Change { delete_stored: false, create: None }).create = Some(());
        Ok(true)
    }

    /// Whether there is a key space.
    ///
    /// # Errors
    /// As [`Staged::create_space`].
    pub fn select_space(&self, permit: Permit) -> Result<bool, KeyspaceError> {
        self.is_space(space_of(&permit, CallName::SelectKeySpace)?)
    }

    /// Deletes a key space with all its keys. `false` when there is none.
    ///
    /// # Errors
    /// As [`Staged::create_space`], when a key of it is disabled or deleted, which is the operator's to end, or
    /// when the script's time is over.
    pub fn delete_space(&mut self, permit: Permit) -> Result<bool, KeyspaceError> {
        let space = space_of(&permit, CallName::DeleteKeySpace)?.clone();
        if !self.is_space(&space)? {
            return Ok(false);
        }
        self.view()?.each_key(&space, KeyRecord::check_usable)?;
        let stored = self.keyspace.has_space(&space)?;
        self.changes.keys.retain(|path, _| path.space != space);
        if stored {
            self.changes.spaces.insert(space, Change { delete_stored: true, create: None });
        } else {
            self.changes.spaces.remove(&space);
        }
        Ok(true)
    }

    /// The names of the key spaces that `shows` is true of, in order.
    ///
    /// # Errors
    /// When the keyspace is damaged, there are too many, the script's time is over, or `shows` fails.
    pub fn spaces(
        &self,
        shows: impl FnMut(&Name) -> Result<bool, KeyspaceError>,
    ) -> Result<Vec<Name>, KeyspaceError> {
        self.view()?.spaces(shows)
    }

    /// Makes a key. `false` when there is one of that name, `None` when there is no such key space.
    /// `now` is Unix seconds.
    ///
    /// # Errors
    /// As [`Staged::create_space`].
    pub fn create_key(
        &mut self,
        permit: Permit,
        algorithm: Algorithm,
        now: u64,
    ) -> Result<Option<bool>, KeyspaceError> {
        let path = key_of(&permit, CallName::CreateKeypair)?.clone();
        if !self.is_space(&path.space)? {
            return Ok(None);
        }
        if self.is_key(&path)? {
            return Ok(Some(false));
        }
        let record = wiped(|| KeyRecord::generate(path.clone(), algorithm, now))?;
        let change = self.changes.keys.entry(path);
        change.or_insert(Change { delete_stored: false, create: None }).create = Some(record);
        Ok(Some(true))
    }

    /// Gives a key one more version, which is in use from now on. `None` when there is none.
    ///
    /// # Errors
    /// As [`Staged::create_space`], or when it has too many.
    pub fn rotate_key(&mut self, permit: Permit, now: u64) -> Result<Option<()>, KeyspaceError> {
        let path = key_of(&permit, CallName::RotateKeypair)?.clone();
        if let Some(change) = self.changes.keys.get_mut(&path) {
            // In its place: a change that lost its record would be a deletion.
            let made = change.create.as_mut();
            return made.map(|record| wiped(|| record.rotate(now))).transpose();
        }
        let stored = if self.shows_stored(&path.space) { self.keyspace.key(&path)? } else { None };
        let Some(mut record) = stored else { return Ok(None) };
        wiped(|| record.rotate(now))?;
        self.changes.keys.insert(path, Change { delete_stored: true, create: Some(record) });
        Ok(Some(()))
    }

    /// Whether there is a key.
    ///
    /// # Errors
    /// As [`Staged::create_space`].
    pub fn select_key(&self, permit: Permit) -> Result<bool, KeyspaceError> {
        self.is_key(key_of(&permit, CallName::SelectKeypair)?)
    }

    /// Deletes a key. `false` when there is none.
    ///
    /// # Errors
    /// As [`Staged::create_space`], or when it is disabled or deleted: that is the operator's to end.
    pub fn delete_key(&mut self, permit: Permit) -> Result<bool, KeyspaceError> {
        let path = key_of(&permit, CallName::DeleteKeypair)?.clone();
        if self.using_key(&path, |_| Ok(()))?.is_none() {
            return Ok(false);
        }
        let stored = self.shows_stored(&path.space) && self.keyspace.key(&path)?.is_some();
        if stored {
            self.changes.keys.insert(path, Change { delete_stored: true, create: None });
        } else {
            self.changes.keys.remove(&path);
        }
        Ok(true)
    }

    /// The names of the keys of a key space that `shows` is true of, in order.
    ///
    /// # Errors
    /// As [`Staged::spaces`].
    pub fn keys(
        &self,
        space: &Name,
        shows: impl FnMut(&Name) -> Result<bool, KeyspaceError>,
    ) -> Result<Vec<Name>, KeyspaceError> {
        self.view()?.keys(space, shows)
    }

    /// What a key is for, if there is one. Tells nothing else of it, so it takes no permit.
    ///
    /// # Errors
    /// When the keyspace is damaged.
    pub fn algorithm(&self, path: &KeyPath) -> Result<Option<Algorithm>, KeyspaceError> {
        self.with_key(path, |key| Ok(key.algorithm))
    }

    /// The public key of a key, if there is one.
    ///
    /// # Errors
    /// As [`Staged::create_space`], or when it cannot be written so.
    pub fn public_key(
        &self,
        permit: Permit,
        form: PublicForm,
    ) -> Result<Option<String>, KeyspaceError> {
        let path = key_of(&permit, CallName::PublicKey)?;
        self.with_key(path, |key| public::written(key, form))
    }

    /// The signature of a message, if there is such a key.
    ///
    /// # Errors
    /// As [`Staged::create_space`], or when the key does not sign so.
    pub fn sign(
        &self,
        permit: Permit,
        scheme: Scheme,
        message: &[u8],
    ) -> Result<Option<Vec<u8>>, KeyspaceError> {
        let path = key_of(&permit, call_of(scheme))?;
        self.using_key(path, |key| {
            sign::sign(key.algorithm, scheme, &key.current()?.secret, message)
        })
    }

    /// The signature of a message in a namespace, if there is such a key.
    ///
    /// # Errors
    /// As [`Staged::sign`].
    pub fn sign_in(
        &self,
        permit: Permit,
        namespace: &Name,
        message: &[u8],
    ) -> Result<Option<Vec<u8>>, KeyspaceError> {
        let path = key_of(&permit, CallName::SignIn)?;
        let message = sign::in_namespace(namespace, message);
        self.using_key(path, |key| {
            sign::sign(key.algorithm, Scheme::Plain, &key.current()?.secret, &message)
        })
    }

    /// Whether a signature is one of `sign`, by any version of the key, if there is such a key.
    ///
    /// # Errors
    /// As [`Staged::create_space`], or when the key does not sign.
    pub fn verify(
        &self,
        permit: Permit,
        message: &[u8],
        signature: &[u8],
    ) -> Result<Option<bool>, KeyspaceError> {
        let path = key_of(&permit, CallName::Verify)?;
        self.with_key(path, |key| {
            let unfit =
                || KeyspaceError::Unfit(format!("a key for {} does not sign", key.algorithm));
            for version in key.versions() {
                let public = sign::public_key(key.algorithm, &version.secret)?;
                if sign::verify_with(key.algorithm, &public, message, signature)
                    .ok_or_else(unfit)?
                {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }

    /// The HMAC-SHA-256 of a message, if there is such a key.
    ///
    /// # Errors
    /// As [`Staged::create_space`], or when the key is not symmetric.
    pub fn hmac(&self, permit: Permit, message: &[u8]) -> Result<Option<[u8; 32]>, KeyspaceError> {
        let path = key_of(&permit, CallName::Hmac)?;
        self.using_key(path, |key| encrypt::hmac(key, message))
    }

    /// The text under a symmetric key, if there is such a key.
    ///
    /// # Errors
    /// As [`Staged::hmac`].
    pub fn encrypt(&self, permit: Permit, text: &[u8]) -> Result<Option<String>, KeyspaceError> {
        let path = key_of(&permit, CallName::Encrypt)?;
        self.using_key(path, |key| encrypt::encrypt(key, text))
    }

    /// What [`Staged::encrypt`] encrypted, if there is such a key.
    ///
    /// # Errors
    /// As [`Staged::hmac`], or when the text is not one of this key.
    pub fn decrypt(
        &self,
        permit: Permit,
        text: &str,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, KeyspaceError> {
        let path = key_of(&permit, CallName::Decrypt)?;
        self.using_key(path, |key| encrypt::decrypt(key, text))
    }

    /// What was encrypted to the public key of an X25519 key, if there is such a key.
    ///
    /// # Errors
    /// As [`Staged::create_space`], or when the text is not one to this key.
    pub fn decrypt_from(
        &self,
        permit: Permit,
        text: &str,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, KeyspaceError> {
        let path = key_of(&permit, CallName::DecryptFrom)?;
        self.using_key(path, |key| encrypt::decrypt_from(key, text))
    }

    /// Whether a plain `sign` of this message could be taken for a `sign_in`.
    #[must_use]
    pub fn is_namespaced(message: &[u8]) -> bool {
        message.starts_with(sign::NAMESPACE_PREFIX)
    }

    /// Whether there is anything to commit.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        !self.changes.are_none()
    }

    /// Waits for its turn to be written; `None` when others wrote for all of this time.
    #[must_use]
    pub fn in_turn(self, patience: Duration) -> Option<InTurn<'k>> {
        InTurn::of(self.keyspace, self.changes, patience)
    }

    #[cfg(test)]
    pub(crate) fn commit(self, now: u64) -> Result<(), crate::CommitError> {
        self.in_turn(Duration::from_secs(60)).unwrap().commit(now)
    }

    fn is_space(&self, space: &Name) -> Result<bool, KeyspaceError> {
        match self.changes.spaces.get(space) {
            Some(change) => Ok(change.create.is_some()),
            None => self.keyspace.has_space(space),
        }
    }

    /// What it sees now, at one moment.
    pub(crate) fn view(&self) -> Result<View<'_>, KeyspaceError> {
        Ok(View::new(self.keyspace.snapshot()?, self, self.deadline))
    }

    /// Whether the stored keys of a key space are still there for this script.
    pub(crate) fn shows_stored(&self, space: &Name) -> bool {
        !self.changes.spaces.get(space).is_some_and(|change| change.delete_stored)
    }

    fn is_key(&self, path: &KeyPath) -> Result<bool, KeyspaceError> {
        Ok(self.with_key(path, |_| Ok(()))?.is_some())
    }

    /// The same, of a key that is neither disabled nor deleted.
    fn using_key<R>(
        &self,
        path: &KeyPath,
        read: impl FnOnce(&KeyRecord) -> Result<R, KeyspaceError>,
    ) -> Result<Option<R>, KeyspaceError> {
        self.with_key(path, |key| key.check_usable().and_then(|()| read(key)))
    }

    fn with_key<R>(
        &self,
        path: &KeyPath,
        read: impl FnOnce(&KeyRecord) -> Result<R, KeyspaceError>,
    ) -> Result<Option<R>, KeyspaceError> {
        wiped(|| match self.changes.keys.get(path) {
            Some(change) => change.create.as_ref().map(read).transpose(),
            None if self.shows_stored(&path.space) => {
                self.keyspace.key(path)?.as_ref().map(read).transpose()
            }
            None => Ok(None),
        })
    }
}

pub(crate) fn space_of(permit: &Permit, call: CallName) -> Result<&Name, KeyspaceError> {
    match permit.target() {
        Target::Space(space) if permit.call() == call => Ok(space),
        Target::Space(_) | Target::Nothing | Target::Key(_) => Err(KeyspaceError::WrongPermit),
    }
}

fn key_of(permit: &Permit, call: CallName) -> Result<&KeyPath, KeyspaceError> {
    match permit.target() {
        Target::Key(path) if permit.call() == call => Ok(path),
        Target::Key(_) | Target::Nothing | Target::Space(_) => Err(KeyspaceError::WrongPermit),
    }
}

fn call_of(scheme: Scheme) -> CallName {
    match scheme {
        Scheme::Plain => CallName::Sign,
        Scheme::Digest => CallName::SignDigest,
        Scheme::Schnorr => CallName::SignSchnorr,
        Scheme::Ethereum => CallName::PersonalSign,
    }
}
