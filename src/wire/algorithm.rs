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
    /// X25519 (RFC 7748): agreement, and so encryption to a public key.
    X25519,
    /// 32 bytes without a public key: encryption and authentication (XChaCha20-Poly1305, HMAC-SHA-256).
    Symmetric,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: &'static [Algorithm] =
        &[Self::Ed25519, Self::Secp256k1, Self::P256, Self::X25519, Self::Symmetric];

    /// What to do about a name that is none of theirs.
    pub const HELP: &'static str = "use one of ed25519, secp256k1, p256, x25519, symmetric";

    /// Its name in policies and scripts.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::Secp256k1 => "secp256k1",
            Self::P256 => "p256",
            Self::X25519 => "x25519",
            Self::Symmetric => "symmetric",
        }
    }

    /// The algorithm of this name.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|algorithm| algorithm.word() == word)
    }

    /// Its place in [`Algorithm::ALL`], from 1: its byte in files and on the wire.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8 + 1
    }

    /// The algorithm of this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|algorithm| algorithm.number() == number)
    }
}

impl std::fmt::Display for Algorithm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_every_algorithm() {
        let words: Vec<&str> = Algorithm::ALL.iter().map(|algorithm| algorithm.word()).collect();
        assert_eq!(Algorithm::HELP, format!("use one of {}", words.join(", ")));
    }
}
