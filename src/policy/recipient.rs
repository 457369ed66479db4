//! To whom keys may be exported: `age1...`, an X25519 public key as age writes it
//! (C2SP age-encryption.org/v1, BIP-173).

use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32, Hrp};

/// The human-readable part.
const AGE: Hrp = Hrp::parse_unchecked("age");

/// Somebody to whom keys are encrypted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Recipient([u8; 32]);

/// A text that is no recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", Self::HELP)]
pub struct NoRecipient;

impl NoRecipient {
    /// Where to find one.
    pub(crate) const HELP: &'static str =
        "`crypto-cli key recipient` and `age-keygen` print recipients, such as age1...";
}

impl Recipient {
    /// Who has this public key.
    #[must_use]
    pub fn new(public_key: [u8; 32]) -> Self {
        Self(public_key)
    }

    /// Reads `age1...`.
    ///
    /// # Errors
    /// When it is none: another prefix, length or case, or a wrong digit.
    pub fn parse(text: &str) -> Result<Self, NoRecipient> {
        let read = CheckedHrpstring::new::<Bech32>(text).map_err(|_| NoRecipient)?;
        if read.hrp() != AGE || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(NoRecipient);
        }
        let bytes: Vec<u8> = read.byte_iter().collect();
        bytes.try_into().map(Self).map_err(|_| NoRecipient)
    }

    /// The public key.
    #[must_use]
    pub fn public_key(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Display for Recipient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        bech32::encode_to_fmt::<Bech32, _>(f, AGE, &self.0).map_err(|_| std::fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of age's own manual.
    const GOOD: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

    #[test]
    fn a_recipient_is_written_as_it_was_read() {
        assert_eq!(Recipient::parse(GOOD).unwrap().to_string(), GOOD);
        let written = Recipient::new([7; 32]).to_string();
        assert_eq!(Recipient::parse(&written).unwrap().public_key(), &[7; 32]);
    }

    #[test]
    fn what_is_no_recipient_is_refused() {
        let upper = GOOD.to_uppercase();
        let flipped = GOOD.replace("aqmcac8p", "pqmcac8p");
        let short = bech32::encode::<Bech32>(AGE, &[7; 31]).unwrap();
        let long = bech32::encode::<Bech32>(AGE, &[7; 33]).unwrap();
        let other = Hrp::parse("ag").unwrap();
        let other = bech32::encode::<Bech32>(other, &[7; 32]).unwrap();
        let newer = bech32::encode::<bech32::Bech32m>(AGE, &[7; 32]).unwrap();
        for bad in ["", "age1", &upper, &flipped, &short, &long, &other, &newer, "ssh-ed25519 AAAA"]
        {
            assert_eq!(Recipient::parse(bad), Err(NoRecipient), "{bad}");
        }
    }
}
