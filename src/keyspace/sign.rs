//! The one place where a key is used.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use wire::Name;

use crate::secret::Secret;

/// What every message of `sign_in` begins with. `sign` refuses messages that begin so, which keeps
/// the two apart: no signature of one is a signature of the other.
pub(crate) const NAMESPACE_PREFIX: &[u8] = b"crypto-cli sign_in v1\0";

/// The bytes that `sign_in(namespace, message)` signs: prefix, length of the namespace as one byte,
/// namespace, message.
pub(crate) fn in_namespace(namespace: &Name, message: &[u8]) -> Vec<u8> {
    let name = namespace.as_str().as_bytes();
    // A name has at most 64 bytes.
    let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
    [NAMESPACE_PREFIX, &[length], name, message].concat()
}

/// Signs (RFC 8032 §5.1.6). The seed is expanded for this one use and the expansion wiped.
pub(crate) fn sign(seed: &Secret<32>, message: &[u8]) -> [u8; 64] {
    seed.expose(SigningKey::from_bytes).sign(message).to_bytes()
}

/// The public key of a seed.
pub(crate) fn public_key(seed: &Secret<32>) -> [u8; 32] {
    seed.expose(SigningKey::from_bytes).verifying_key().to_bytes()
}

/// Whether an Ed25519 signature is good, strictly (RFC 8032 §5.1.7): no small-order keys, S below L.
#[must_use]
pub fn verify_with(public_key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(public_key)
        .is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;

    /// RFC 8032 §7.1, tests 1 to 3: seed, public key, message, signature.
    const VECTORS: [[&str; 4]; 3] = [
        [
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ],
        [
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ],
        [
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ],
    ];

    #[test]
    fn the_vectors_of_rfc_8032_hold() {
        for [seed, public, message, signature] in VECTORS {
            let hex = |text: &str| HEXLOWER.decode(text.as_bytes()).unwrap();
            let seed = Secret::try_fill(|bytes| {
                bytes.copy_from_slice(&hex(seed));
                Ok::<(), ()>(())
            })
            .unwrap();
            assert_eq!(public_key(&seed).to_vec(), hex(public));
            let signed = sign(&seed, &hex(message));
            assert_eq!(signed.to_vec(), hex(signature));
            assert!(verify_with(&public_key(&seed), &hex(message), &signed));
            assert!(!verify_with(&public_key(&seed), b"other", &signed));
        }
    }
}
