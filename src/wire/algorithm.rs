//! What keys are made for.

/// The algorithm of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// Ed25519 (RFC 8032): signatures.
    Ed25519,
    /// ECDSA and Schnorr over secp256k1: signatures.
    Secp256k1,
    /// ECDSA over P-256: signatures.
    P256,
    /// X25519 (RFC 7748): agreement, and so encryption.
    X25519,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: &'static [Algorithm] =
        &[Self::Ed25519, Self::Secp256k1, Self::P256, Self::X25519];

    /// Its name in policies and scripts.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::Secp256k1 => "secp256k1",
            Self::P256 => "p256",
            Self::X25519 => "x25519",
        }
    }

    /// The algorithm of this name.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|algorithm| algorithm.word() == word)
    }
}
