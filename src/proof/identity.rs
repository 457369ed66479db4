//! Seeds and public keys in the text form of NATS.

use nkeys::{KeyPair, KeyPairType};
use zeroize::Zeroize;

/// A caller's user nkey with its seed. It prints nothing and cannot be copied.
///
/// ```
/// fn named<T>() {}
/// named::<proof::Identity>(); // so the failures below are not for want of the name
/// ```
/// ```compile_fail,E0277
/// fn printable<T: std::fmt::Debug>() {}
/// printable::<proof::Identity>();
/// ```
/// ```compile_fail,E0277
/// fn copied<T: Clone>() {}
/// copied::<proof::Identity>();
/// ```
pub struct Identity {
    pair: KeyPair,
}

/// A text that is not the seed of a user nkey. It does not repeat the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the seed of a user nkey: a line of 58 characters that begins with `SU`")]
pub struct BadSeed;

impl Identity {
    /// A new identity, from the kernel's random numbers.
    #[must_use]
    pub fn generate() -> Self {
        Self { pair: KeyPair::new_user() }
    }

    /// Reads a seed file's text: the seed stands on a line of its own.
    ///
    /// # Errors
    /// [`BadSeed`] when there is not exactly one.
    pub fn from_seed_text(text: &str) -> Result<Self, BadSeed> {
        let mut seeds = text.lines().map(str::trim).filter(|line| line.starts_with('S'));
        let (Some(seed), None) = (seeds.next(), seeds.next()) else {
            return Err(BadSeed);
        };
        let pair = KeyPair::from_seed(seed).map_err(|_| BadSeed)?;
        if pair.key_pair_type() == KeyPairType::User { Ok(Self { pair }) } else { Err(BadSeed) }
    }

    /// The public user nkey, `U...`.
    #[must_use]
    pub fn nkey(&self) -> String {
        self.pair.public_key()
    }

    /// Hands the seed's text to a closure, to be written to a file or a client library, and wipes
    /// this copy.
    pub fn with_seed<R>(&self, read: impl FnOnce(&str) -> R) -> R {
        let mut seed = self.pair.seed().unwrap_or_default();
        let result = read(&seed);
        seed.zeroize();
        result
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        // A pair with a seed always signs; an empty signature would verify nowhere.
        self.pair.sign(message).unwrap_or_default()
    }
}

/// What kind of nkey a proof is signed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signer {
    /// A caller: `U...`.
    User,
    /// A service: `N...`.
    Service,
}

/// The Ed25519 public key of a service by its nkey in text form, `N...`; nothing if it is none.
#[must_use]
pub fn service_key(nkey: &str) -> Option<[u8; 32]> {
    public_key(nkey, Signer::Service)
}

/// The Ed25519 public key of an nkey in text form, which must be of this kind.
pub(crate) fn public_key(nkey: &str, signer: Signer) -> Option<[u8; 32]> {
    let first = match signer {
        Signer::User => 'U',
        Signer::Service => 'N',
    };
    let (_, key) = nkeys::from_public_key(nkey).ok()?;
    nkey.starts_with(first).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_known_by_the_nkey_of_a_server() {
        let (server, user) = (KeyPair::new_server(), KeyPair::new_user());
        let key = service_key(&server.public_key()).unwrap();
        let signature = server.sign(b"m").unwrap();
        let signature = ed25519_dalek::Signature::from_slice(&signature).unwrap();
        let key = ed25519_dalek::VerifyingKey::from_bytes(&key).unwrap();
        assert!(key.verify_strict(b"m", &signature).is_ok());
        for bad in [user.public_key(), server.seed().unwrap(), String::new()] {
            assert_eq!(service_key(&bad), None);
        }
    }

    #[test]
    fn only_the_one_seed_of_a_user_is_an_identity() {
        let seed = |pair: &KeyPair| pair.seed().unwrap();
        let (user, other) = (KeyPair::new_user(), KeyPair::new_user());
        let identity = Identity::from_seed_text(&format!("# mine\n {}\n", seed(&user))).unwrap();
        assert_eq!(identity.nkey(), user.public_key());
        for bad in [
            seed(&KeyPair::new_server()),
            seed(&KeyPair::new_account()),
            format!("{}\n{}", seed(&user), seed(&other)),
            user.public_key(),
            seed(&user).replace('A', "B"),
            String::new(),
        ] {
            assert!(Identity::from_seed_text(&bad).is_err(), "{}", bad.len());
        }
    }
}
