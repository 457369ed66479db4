//! Signatures: the one place where a private key signs, and what checks them.

use ed25519_dalek::{Signer, Verifier};
use k256::ecdsa::signature::hazmat::PrehashSigner;
use k256::schnorr;
use sha2::{Digest, Sha256};
use sha3::Keccak256;
use wire::script::Scheme;
use wire::{Algorithm, Name};

use crate::error::KeyspaceError;
use crate::secret::{Secret, no_random, public_random};

/// What every message of `sign_in` begins with. `sign` refuses messages that begin so, which keeps
/// the two apart: no signature of one is a signature of the other.
pub(crate) const NAMESPACE_PREFIX: &[u8] = b"crypto-cli sign_in v1\0";
/// Bytes of a digest that is signed as it is.
const DIGEST_BYTES: usize = 32;
/// The number that Ethereum adds to the parity of a signature's point.
const ETHEREUM_V: u8 = 27;
/// How often a random scalar is drawn: one in 2^32 or fewer is none.
const MOST_DRAWS: usize = 8;

/// The bytes that `sign_in(namespace, message)` signs: prefix, length of the namespace as one byte,
/// namespace, message.
pub(crate) fn in_namespace(namespace: &Name, message: &[u8]) -> Vec<u8> {
    let name = namespace.as_str().as_bytes();
    // A name has at most 64 bytes.
    let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
    [NAMESPACE_PREFIX, &[length], name, message].concat()
}

/// A new secret for keys of an algorithm: for the curves of ECDSA a scalar between 0 and the order.
pub(crate) fn new_secret(algorithm: Algorithm) -> Result<Secret<32>, KeyspaceError> {
    for _ in 0..MOST_DRAWS {
        let secret = Secret::try_fill_one_of_many(|bytes| getrandom::fill(bytes));
        let secret = secret.map_err(no_random)?;
        if fits(algorithm, &secret) {
            return Ok(secret);
        }
    }
    Err(KeyspaceError::Storage("the kernel's random numbers are none".to_owned()))
}

/// Whether these bytes can be a secret for keys of an algorithm.
pub(crate) fn fits(algorithm: Algorithm, secret: &Secret<32>) -> bool {
    match algorithm {
        Algorithm::Ed25519 | Algorithm::X25519 | Algorithm::Symmetric => true,
        Algorithm::Secp256k1 => secret.expose(|s| k256::SecretKey::from_slice(s).is_ok()),
        Algorithm::P256 => secret.expose(|s| p256::SecretKey::from_slice(s).is_ok()),
    }
}

/// Signs: with Ed25519 the message (RFC 8032 §5.1.6), with ECDSA its SHA-256, without randomness (RFC 6979),
/// over secp256k1 with the lower of the two S. 64 bytes, and one more for Ethereum. The secret is expanded
/// for this one use and the expansion wiped.
pub(crate) fn sign(
    algorithm: Algorithm,
    scheme: Scheme,
    secret: &Secret<32>,
    message: &[u8],
) -> Result<Vec<u8>, KeyspaceError> {
    let unfit = || KeyspaceError::Unfit(format!("a key for {algorithm} does not sign so"));
    match (algorithm, scheme) {
        (Algorithm::Ed25519, Scheme::Plain) => Ok(ed25519(secret, message).to_vec()),
        (Algorithm::Secp256k1, Scheme::Plain | Scheme::Digest) => {
            let digest = digest_of(scheme, message)?;
            let key =
                secret.expose(|s| k256::ecdsa::SigningKey::from_slice(s)).map_err(bad_scalar)?;
            let signed: Result<k256::ecdsa::Signature, _> = key.sign_prehash(&digest);
            Ok(signed.map_err(bad_scalar)?.to_bytes().to_vec())
        }
        (Algorithm::P256, Scheme::Plain | Scheme::Digest) => {
            let digest = digest_of(scheme, message)?;
            let key =
                secret.expose(|s| p256::ecdsa::SigningKey::from_slice(s)).map_err(bad_scalar)?;
            let signed: Result<p256::ecdsa::Signature, _> = key.sign_prehash(&digest);
            Ok(signed.map_err(bad_scalar)?.to_bytes().to_vec())
        }
        (Algorithm::Secp256k1, Scheme::Schnorr) => schnorr_sign(secret, message, &public_random()?),
        (Algorithm::Secp256k1, Scheme::Ethereum) => personal_sign(secret, message),
        (
            Algorithm::Ed25519 | Algorithm::P256,
            Scheme::Digest | Scheme::Schnorr | Scheme::Ethereum,
        )
        | (Algorithm::X25519 | Algorithm::Symmetric, _) => Err(unfit()),
    }
}

/// Ed25519 (RFC 8032 §5.1.6).
pub(crate) fn ed25519(seed: &Secret<32>, message: &[u8]) -> [u8; 64] {
    seed.expose(ed25519_dalek::SigningKey::from_bytes).sign(message).to_bytes()
}

fn digest_of(scheme: Scheme, message: &[u8]) -> Result<[u8; DIGEST_BYTES], KeyspaceError> {
    match scheme {
        Scheme::Digest => message.try_into().map_err(|_| {
            KeyspaceError::Unfit(format!(
                "a digest has {DIGEST_BYTES} bytes: sign the message with `sign`"
            ))
        }),
        Scheme::Plain | Scheme::Schnorr | Scheme::Ethereum => Ok(Sha256::digest(message).into()),
    }
}

/// BIP-340, of a message of any length, with this auxiliary randomness.
pub(crate) fn schnorr_sign(
    secret: &Secret<32>,
    message: &[u8],
    randomness: &[u8; 32],
) -> Result<Vec<u8>, KeyspaceError> {
    let key = secret.expose(|s| schnorr::SigningKey::from_slice(s)).map_err(bad_scalar)?;
    let signed = key.sign_raw(message, randomness).map_err(bad_scalar)?;
    Ok(signed.to_bytes().to_vec())
}

/// EIP-191, version 0x45: R, S, and 27 or 28.
fn personal_sign(secret: &Secret<32>, message: &[u8]) -> Result<Vec<u8>, KeyspaceError> {
    let head = format!("\x19Ethereum Signed Message:\n{}", message.len());
    let digest = Keccak256::new().chain_update(head).chain_update(message).finalize();
    let key = secret.expose(|s| k256::ecdsa::SigningKey::from_slice(s)).map_err(bad_scalar)?;
    let (signature, parity) = key.sign_prehash_recoverable(&digest);
    let mut bytes = signature.to_bytes().to_vec();
    bytes.push(ETHEREUM_V + parity.to_byte());
    Ok(bytes)
}

/// A stored scalar was drawn as a good one, so this is damage.
fn bad_scalar(_: k256::ecdsa::Error) -> KeyspaceError {
    KeyspaceError::Damaged("a secret that is none of its curve".to_owned())
}

/// The public key: 32 bytes, or a compressed point of 33. `None` where there is none.
pub(crate) fn public_key(
    algorithm: Algorithm,
    secret: &Secret<32>,
) -> Result<Vec<u8>, KeyspaceError> {
    match algorithm {
        Algorithm::Ed25519 => {
            let key = secret.expose(ed25519_dalek::SigningKey::from_bytes);
            Ok(key.verifying_key().to_bytes().to_vec())
        }
        Algorithm::Secp256k1 => {
            let key =
                secret.expose(|s| k256::ecdsa::SigningKey::from_slice(s)).map_err(bad_scalar)?;
            Ok(key.verifying_key().to_sec1_point(true).as_bytes().to_vec())
        }
        Algorithm::P256 => {
            let key =
                secret.expose(|s| p256::ecdsa::SigningKey::from_slice(s)).map_err(bad_scalar)?;
            Ok(key.verifying_key().to_sec1_point(true).as_bytes().to_vec())
        }
        Algorithm::X25519 => {
            let key = secret.expose(|s| x25519_dalek::StaticSecret::from(*s));
            Ok(x25519_dalek::PublicKey::from(&key).to_bytes().to_vec())
        }
        Algorithm::Symmetric => {
            Err(KeyspaceError::Unfit("a symmetric key has no public key".to_owned()))
        }
    }
}

/// Whether a signature of `sign` or, over a SHA-256, of `sign_digest` is good: strictly for Ed25519 (no
/// small-order keys, S below L), and over secp256k1 with the lower S alone. `None` for keys that do not sign.
#[must_use]
pub fn verify_with(
    algorithm: Algorithm,
    public_key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Option<bool> {
    Some(match algorithm {
        Algorithm::Ed25519 => {
            let key = public_key.try_into().ok();
            let key = key.and_then(|key| ed25519_dalek::VerifyingKey::from_bytes(key).ok());
            let signature = ed25519_dalek::Signature::from_slice(signature).ok();
            key.zip(signature).is_some_and(|(key, s)| key.verify_strict(message, &s).is_ok())
        }
        Algorithm::Secp256k1 => {
            let key = k256::ecdsa::VerifyingKey::from_sec1_bytes(public_key).ok();
            let signature = k256::ecdsa::Signature::from_slice(signature).ok();
            key.zip(signature).is_some_and(|(key, s)| key.verify(message, &s).is_ok())
        }
        Algorithm::P256 => {
            let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(public_key).ok();
            let signature = p256::ecdsa::Signature::from_slice(signature).ok();
            key.zip(signature).is_some_and(|(key, s)| key.verify(message, &s).is_ok())
        }
        Algorithm::X25519 | Algorithm::Symmetric => return None,
    })
}
