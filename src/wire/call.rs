//! The host functions a script may call, by name. Policy, worker and broker share this list.

macro_rules! calls {
    ($($(#[doc = $doc:literal])+ $variant:ident = $($word:literal)|+, $touches:ident;)+) => {
        /// A host function.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum CallName { $($(#[doc = $doc])+ $variant,)+ }

        impl CallName {
            /// Every host function.
            pub const ALL: &'static [CallName] = &[$(CallName::$variant,)+];

            /// The names a script may use, the first being the one we print.
            #[must_use]
            pub fn words(self) -> &'static [&'static str] {
                match self { $(CallName::$variant => &[$($word),+],)+ }
            }

            /// What the function touches, and so what a policy must name to allow it.
            #[must_use]
            pub fn touches(self) -> Touches {
                match self { $(CallName::$variant => Touches::$touches,)+ }
            }
        }
    };
}

/// What a host function touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touches {
    /// No stored key and no key space: listing the function in a rule is enough.
    Nothing,
    /// A key space, but none of its keys.
    Space,
    /// A key space with all its keys.
    WholeSpace,
    /// One key.
    Key,
}

calls! {
    /// `create_key_space(name)`
    CreateKeySpace = "create_key_space", Space;
    /// `select_key_space(name)`
    SelectKeySpace = "select_key_space" | "load_key_space", Space;
    /// `list_key_spaces()`: shows the spaces it is granted on
    ListKeySpaces = "list_key_spaces", Space;
    /// `delete_key_space(name)`
    DeleteKeySpace = "delete_key_space", WholeSpace;
    /// `export_key_space(name)`: a bundle for those whom the policy names, in base64
    ExportKeySpace = "export_key_space", WholeSpace;
    /// `create_keypair(name[, algorithm])`
    CreateKeypair = "create_keypair", Key;
    /// `select_keypair(name)`
    SelectKeypair = "select_keypair", Key;
    /// `list_keypairs()`: shows the keys it is granted on
    ListKeypairs = "list_keypairs", Key;
    /// `public_key([name[, format]])`, and `ethereum_address([name])`, which is one more way to write it
    PublicKey = "public_key" | "keypair_pub_key" | "ethereum_address", Key;
    /// `rotate_keypair([name])`: the old versions stay for verification and decryption
    RotateKeypair = "rotate_keypair", Key;
    /// `delete_keypair(name)`
    DeleteKeypair = "delete_keypair", Key;
    /// `sign(message[, key])`, and `sign_all(messages)`, which is as many of them
    Sign = "sign" | "sign_all", Key;
    /// `sign_in(namespace, message)`
    SignIn = "sign_in", Key;
    /// `sign_digest(digest[, key])`: of a message that was hashed elsewhere
    SignDigest = "sign_digest", Key;
    /// `sign_schnorr(message[, key])` (BIP-340)
    SignSchnorr = "sign_schnorr", Key;
    /// `personal_sign(message[, key])` (EIP-191)
    PersonalSign = "personal_sign", Key;
    /// `hmac(message[, key])`
    Hmac = "hmac", Key;
    /// `encrypt(text)` under the selected key, `encrypt(key, text)` under one of `generate_key`, which is not stored
    Encrypt = "encrypt", Key;
    /// `decrypt(text)`, `decrypt(key, text)`
    Decrypt = "decrypt", Key;
    /// `decrypt_from(text)`: what was encrypted to the selected key
    DecryptFrom = "decrypt_from", Key;
    /// `encrypt_to(public_key, text)`
    EncryptTo = "encrypt_to", Nothing;
    /// `generate_key()`
    GenerateKey = "generate_key", Nothing;
    /// `verify(message, signature)` under the selected key
    Verify = "verify", Key;
    /// `verify_with(public_key, message, signature[, algorithm])`
    VerifyWith = "verify_with", Nothing;
    /// `hash(algorithm, data)`
    Hash = "hash", Nothing;
    /// `random_bytes(count)`
    RandomBytes = "random_bytes", Nothing;
}

impl CallName {
    /// The name we print.
    #[must_use]
    pub fn word(self) -> &'static str {
        self.words().first().copied().unwrap_or_default()
    }

    /// The function that a script or a policy means by `word`.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|call| call.words().contains(&word))
    }

    /// Whether it can be on nothing that is stored: because it never touches anything, or because it can be given a
    /// key that the script has itself.
    #[must_use]
    pub fn may_touch_nothing(self) -> bool {
        self.touches() == Touches::Nothing || matches!(self, Self::Encrypt | Self::Decrypt)
    }

    /// Whether it is given a message to sign, to verify or to hash.
    #[must_use]
    pub fn takes_message(self) -> bool {
        match self {
            Self::Sign
            | Self::SignIn
            | Self::SignDigest
            | Self::SignSchnorr
            | Self::PersonalSign
            | Self::Hmac
            | Self::Verify
            | Self::VerifyWith
            | Self::Hash => true,
            Self::CreateKeySpace
            | Self::SelectKeySpace
            | Self::ListKeySpaces
            | Self::DeleteKeySpace
            | Self::ExportKeySpace
            | Self::CreateKeypair
            | Self::SelectKeypair
            | Self::ListKeypairs
            | Self::PublicKey
            | Self::RotateKeypair
            | Self::DeleteKeypair
            | Self::Encrypt
            | Self::Decrypt
            | Self::DecryptFrom
            | Self::EncryptTo
            | Self::GenerateKey
            | Self::RandomBytes => false,
        }
    }

    /// Its place in [`CallName::ALL`], which is its byte on the wire.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The function with this byte on the wire.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

impl std::fmt::Display for CallName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_words_name_one_call_each() {
        for call in CallName::ALL {
            assert_eq!(CallName::from_number(call.number()), Some(*call));
            for word in call.words() {
                assert_eq!(CallName::from_word(word), Some(*call));
            }
        }
    }
}
