//! Private keys that others made: their files come encrypted to this keyspace, and are read here.

use pkcs8::der::asn1::ObjectIdentifier;
use pkcs8::der::{Decode, pem};
use pkcs8::{PrivateKeyInfoRef, SecretDocument};
use sec1::EcPrivateKey;
use ssh_key::private::{EcdsaKeypair, KeypairData, PrivateKey};
use wire::operator::MAX_WRAPPED_BYTES;
use wire::{Algorithm, Hidden, KeyPath};
use zeroize::Zeroizing;

use crate::age::{self, Container, Key, Protect};
use crate::error::KeyspaceError;
use crate::key::KeyRecord;
use crate::nkey;
use crate::operator::Operator;
use crate::seal::Cost;
use crate::secret::Secret;
use crate::sign;
use crate::stack::wiped;
use crate::stream::{Sealing, Unsealing};

// RFC 8410 §3, RFC 5480 §2.1.1, SEC 2 §A.2.
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const X25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.110");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const SECP256K1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.10");

const BEGIN_OF_CURVE: &str = "-----BEGIN EC PARAMETERS-----";
const END_OF_CURVE: &str = "-----END EC PARAMETERS-----";

impl Operator<'_> {
    /// Makes a key of a private key that others made: its file, encrypted to [`Operator::recipient`]. What
    /// it is for, where the file does not say, is `algorithm`.
    ///
    /// # Errors
    /// When it cannot be opened or read, says otherwise, or there is a key of that name.
    pub fn import_key(
        &self,
        path: &KeyPath,
        algorithm: Option<Algorithm>,
        mut wrapped: &[u8],
        now: u64,
    ) -> Result<Algorithm, KeyspaceError> {
        wiped(|| {
            let container = Container::read(&mut wrapped)?;
            let file_key = container.open(&Key::Own(&self.own_secret()?))?;
            let key = age::payload_key_after(&mut wrapped, &file_key)?;
            let file = Unsealing::new(wrapped, &key).read_all(MAX_WRAPPED_BYTES)?;
            let (algorithm, secret) = parse(&file, algorithm)?;
            self.add(&KeyRecord::of(path.clone(), algorithm, secret, now))?;
            Ok(algorithm)
        })
    }
}

/// Encrypts a private key's file to a recipient, after a look at whether it is one.
///
/// # Errors
/// When the recipient is none, or the file is no private key that [`Operator::import_key`] takes.
pub fn wrap_for(recipient: &str, file: &Hidden) -> Result<Vec<u8>, KeyspaceError> {
    let recipient = [age::recipient(recipient)?];
    file.expose(read)?;
    let (header, key) = age::write_header(&Protect::Recipients(&recipient), Cost::WRITTEN)?;
    let mut sealing = Sealing::new(header, &key);
    file.expose(|file| sealing.write(file))?;
    sealing.finish()
}

/// A private key, and what it is for: as its file says, or as is said of one that does not.
pub(crate) fn parse(
    file: &[u8],
    said: Option<Algorithm>,
) -> Result<(Algorithm, Secret<32>), KeyspaceError> {
    let (found, secret) = read(file)?;
    let algorithm = match (found, said) {
        (Some(found), Some(said)) if said != found => {
            return Err(KeyspaceError::Cannot(format!("the file holds a key for {found}")));
        }
        (Some(algorithm), _) | (None, Some(algorithm)) => algorithm,
        (None, None) => {
            let text = "the file does not say what the key is for: say it with `--algorithm`";
            return Err(KeyspaceError::Cannot(text.to_owned()));
        }
    };
    // A scalar that is none is found out here, and not at the first signature.
    if sign::fits(algorithm, &secret) { Ok((algorithm, secret)) } else { Err(unreadable()) }
}

/// PKCS#8 or SEC 1 in PEM, OpenSSH, the seed of an nkey; 64 hexadecimal digits or 32 bytes, which do not say
/// what they are for.
fn read(file: &[u8]) -> Result<(Option<Algorithm>, Secret<32>), KeyspaceError> {
    match read_any(file)? {
        // A scalar that is none is found out where the file is, before it is wrapped.
        (Some(algorithm), secret) if !sign::fits(algorithm, &secret) => Err(unreadable()),
        read => Ok(read),
    }
}

fn read_any(file: &[u8]) -> Result<(Option<Algorithm>, Secret<32>), KeyspaceError> {
    let text = std::str::from_utf8(file).map(str::trim).unwrap_or_default();
    // OpenSSL writes the name of the curve before the key, which says it as well.
    let text = match text.split_once(END_OF_CURVE) {
        Some((_, key)) if text.starts_with(BEGIN_OF_CURVE) => key.trim(),
        _ => text,
    };
    let known = |(algorithm, secret)| (Some(algorithm), secret);
    match pem::decode_label(text.as_bytes()) {
        Ok("PRIVATE KEY") => of_pkcs8(text).map(known),
        Ok("EC PRIVATE KEY") => {
            let (_, document) = SecretDocument::from_pem(text).map_err(|_| unreadable())?;
            of_sec1(document.as_bytes(), None).map(known)
        }
        Ok("OPENSSH PRIVATE KEY") => of_openssh(text).map(known),
        Ok(_) => Err(unreadable()),
        Err(_) if text.starts_with('S') && text.len() == nkey::SEED_CHARACTERS => {
            of_nkey(text).map(known)
        }
        Err(_) => {
            let hex = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes());
            let hex = Zeroizing::new(hex.unwrap_or_default());
            Ok((None, secret_of(if hex.len() == 32 { &hex } else { file })?))
        }
    }
}

/// Those of users sign, and those of curves (xkeys) encrypt. What is signed with any other means something else to NATS
/// than the `U...` that it would be shown as here.
fn of_nkey(text: &str) -> Result<(Algorithm, Secret<32>), KeyspaceError> {
    match nkey::seed(text).ok_or_else(unreadable)? {
        (nkey::USER, seed) => Ok((Algorithm::Ed25519, seed)),
        (nkey::CURVE, seed) => Ok((Algorithm::X25519, seed)),
        _ => {
            let text = "the nkey is neither a user's (`SU...`) nor one to encrypt with (`SX...`)";
            Err(KeyspaceError::Cannot(text.to_owned()))
        }
    }
}

fn of_pkcs8(text: &str) -> Result<(Algorithm, Secret<32>), KeyspaceError> {
    let (_, document) = SecretDocument::from_pem(text).map_err(|_| unreadable())?;
    let info = PrivateKeyInfoRef::from_der(document.as_bytes()).map_err(|_| unreadable())?;
    let inner = info.private_key.as_bytes();
    let octets = |algorithm| {
        // An OCTET STRING in an OCTET STRING (RFC 8410 §7).
        let inner = inner.strip_prefix(b"\x04\x20").ok_or_else(unreadable)?;
        Ok((algorithm, secret_of(inner)?))
    };
    match info.algorithm.oid {
        ED25519 => octets(Algorithm::Ed25519),
        X25519 => octets(Algorithm::X25519),
        EC => of_sec1(inner, info.algorithm.parameters_oid().ok()),
        _ => Err(unreadable()),
    }
}

fn of_sec1(
    der: &[u8],
    curve: Option<ObjectIdentifier>,
) -> Result<(Algorithm, Secret<32>), KeyspaceError> {
    let key = EcPrivateKey::from_der(der).map_err(|_| unreadable())?;
    let curve = curve.or_else(|| key.parameters.and_then(|curve| curve.named_curve()));
    let algorithm = match curve {
        Some(P256) => Algorithm::P256,
        Some(SECP256K1) => Algorithm::Secp256k1,
        _ => return Err(unreadable()),
    };
    Ok((algorithm, secret_of(key.private_key)?))
}

fn of_openssh(text: &str) -> Result<(Algorithm, Secret<32>), KeyspaceError> {
    let key = PrivateKey::from_openssh(text).map_err(|_| unreadable())?;
    if key.is_encrypted() {
        let text = "the OpenSSH key has a passphrase: take it off with `ssh-keygen -p` before it is wrapped";
        return Err(KeyspaceError::Cannot(text.to_owned()));
    }
    if let KeypairData::Ed25519(pair) = key.key_data() {
        return Ok((Algorithm::Ed25519, secret_of(pair.private.as_ref())?));
    }
    if let KeypairData::Ecdsa(EcdsaKeypair::NistP256 { private, .. }) = key.key_data() {
        return Ok((Algorithm::P256, secret_of(private.as_slice())?));
    }
    Err(unreadable())
}

fn secret_of(bytes: &[u8]) -> Result<Secret<32>, KeyspaceError> {
    Secret::copied(bytes).map_err(|_| unreadable())
}

fn unreadable() -> KeyspaceError {
    KeyspaceError::Cannot(
        "no private key that is known here: PKCS#8 or SEC 1 in PEM, OpenSSH, the seed of an nkey, or 32 bytes \
         of Ed25519, X25519, P-256 or secp256k1"
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use nkeys::{KeyPair, KeyPairType};

    use super::*;

    /// RFC 8032 §7.1, test 1, and RFC 7748 §6.1, Alice's.
    const ED25519: [&str; 2] = [
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    ];
    const X25519: [&str; 2] = [
        "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
        "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
    ];

    fn seed(kind: KeyPairType, seed: &str) -> String {
        let seed = HEXLOWER.decode(seed.as_bytes()).unwrap().try_into().unwrap();
        KeyPair::new_from_raw(kind, seed).unwrap().seed().unwrap()
    }

    #[test]
    fn an_nkey_is_a_key_of_its_kind_or_none() {
        for (kind, algorithm, [secret, public]) in [
            (KeyPairType::User, Algorithm::Ed25519, ED25519),
            (KeyPairType::Curve, Algorithm::X25519, X25519),
        ] {
            let text = seed(kind, secret);
            let (found, secret) = parse(text.as_bytes(), None).unwrap();
            let made = sign::public_key(found, &secret).unwrap();
            assert_eq!((found, HEXLOWER.encode(&made).as_str()), (algorithm, public), "{text}");
            let other = parse(text.as_bytes(), Some(Algorithm::P256));
            assert!(matches!(other, Err(KeyspaceError::Cannot(_))), "it says what it is for");
        }
        for kind in [KeyPairType::Account, KeyPairType::Operator, KeyPairType::Server] {
            let text = seed(kind, ED25519[0]);
            let refused = parse(text.as_bytes(), None).err().unwrap().to_string();
            assert!(refused.contains("neither a user's"), "{text}: {refused}");
        }
    }
}
