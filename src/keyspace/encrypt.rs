//! Texts that scripts encrypt: under a symmetric key, under one of `generate_key`, and to a public key.
//! `FORMAT.md` has their bytes.

use data_encoding::BASE64;
use hkdf::Hkdf;
use hmac::Mac;
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use wire::Algorithm;
use zeroize::Zeroizing;

use crate::error::KeyspaceError;
use crate::key::KeyRecord;
use crate::seal::{NONCE_BYTES, expand, keyed, open, seal};
use crate::secret::{Secret, public_random};

/// The first byte of every such text.
const FORMAT: u8 = 1;
/// Format and version of the key.
const HEAD_BYTES: usize = 5;
/// The version that stands for a key of `generate_key`.
const DATA_KEY: u32 = 0;
/// Longest text, in bytes: what it becomes fits one answer to a script.
const MOST_TEXT_BYTES: usize = 512 * 1024;
/// Labels of what is derived (RFC 5869 §2.3), and of what is encapsulated (RFC 9180 §5.1).
const ENCRYPT_LABEL: &[u8] = b"crypto-cli encrypt 1";
const ENCRYPT_TO_LABEL: &[u8] = b"crypto-cli encrypt_to 1";
/// Bytes of an encapsulated key (RFC 9180 §7.1).
const ENCAPSULATED_BYTES: usize = 32;

/// Encrypts under the version in use of a symmetric key.
pub(crate) fn encrypt(key: &KeyRecord, text: &[u8]) -> Result<String, KeyspaceError> {
    only(key, Algorithm::Symmetric, "encrypt: use `encrypt_to`, or a key made as `symmetric`")?;
    let version = key.current()?;
    encrypt_under(&version.secret, version.number, text)
}

/// Decrypts what any version of the key encrypted.
pub(crate) fn decrypt(key: &KeyRecord, text: &str) -> Result<Zeroizing<Vec<u8>>, KeyspaceError> {
    only(key, Algorithm::Symmetric, "decrypt: use `decrypt_from`, or a key made as `symmetric`")?;
    let bytes = decoded(text)?;
    let number = bytes.get(1..HEAD_BYTES).and_then(|number| number.try_into().ok());
    let number = number.map(u32::from_be_bytes);
    let version = key.versions().find(|version| Some(version.number) == number);
    decrypt_under(&version.ok_or_else(not_ours)?.secret, &bytes)
}

/// Encrypts under a key that [`new_data_key`] gave.
///
/// # Errors
/// When the key is none.
pub fn encrypt_with(key: &str, text: &[u8]) -> Result<String, KeyspaceError> {
    encrypt_under(&data_key(key)?, DATA_KEY, text)
}

/// Decrypts what [`encrypt_with`] encrypted.
///
/// # Errors
/// When the key is none, or the text is not one of this key.
pub fn decrypt_with(key: &str, text: &str) -> Result<Zeroizing<Vec<u8>>, KeyspaceError> {
    let (key, bytes) = (data_key(key)?, decoded(text)?);
    if bytes.get(1..HEAD_BYTES) != Some(&DATA_KEY.to_be_bytes()) {
        return Err(not_ours());
    }
    decrypt_under(&key, &bytes)
}

/// A key for one text that a script keeps itself: 32 random bytes in base64.
///
/// # Errors
/// When the kernel gives no random numbers.
pub fn new_data_key() -> Result<String, KeyspaceError> {
    Ok(Secret::<32>::random()?.expose(|key| BASE64.encode(key)))
}

/// HMAC-SHA-256 (RFC 2104) under the version in use of a symmetric key.
pub(crate) fn hmac(key: &KeyRecord, message: &[u8]) -> Result<[u8; 32], KeyspaceError> {
    only(key, Algorithm::Symmetric, "make an hmac: use a key made as `symmetric`")?;
    let mac = key.current()?.secret.expose(keyed);
    Ok(mac.chain_update(message).finalize().into_bytes().into())
}

/// Encrypts to an X25519 public key: HPKE, base mode (RFC 9180 §6.1), DHKEM(X25519, HKDF-SHA256),
/// HKDF-SHA256, ChaCha20Poly1305.
///
/// # Errors
/// When the public key is none.
pub fn encrypt_to(public_key: &[u8], text: &[u8]) -> Result<String, KeyspaceError> {
    check_length(text)?;
    let unusable = |_| KeyspaceError::Unfit("that is no public key of x25519".to_owned());
    let to = <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(public_key).map_err(unusable)?;
    let (encapsulated, sealed) = hpke::single_shot_seal::<
        ChaCha20Poly1305,
        HkdfSha256,
        X25519HkdfSha256,
    >(&OpModeS::Base, &to, ENCRYPT_TO_LABEL, text, &[])
    .map_err(unusable)?;
    Ok(BASE64.encode(&[&[FORMAT], encapsulated.to_bytes().as_slice(), &sealed].concat()))
}

/// Decrypts what was encrypted to any version of the key.
pub(crate) fn decrypt_from(
    key: &KeyRecord,
    text: &str,
) -> Result<Zeroizing<Vec<u8>>, KeyspaceError> {
    only(key, Algorithm::X25519, "decrypt what was encrypted to it: use a key made as `x25519`")?;
    let bytes = decoded(text)?;
    let (encapsulated, sealed) = bytes
        .get(1..)
        .and_then(|rest| rest.split_at_checked(ENCAPSULATED_BYTES))
        .ok_or_else(not_ours)?;
    let encapsulated = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(encapsulated);
    let encapsulated = encapsulated.map_err(|_| not_ours())?;
    for version in key.versions() {
        let secret =
            version.secret.expose(|s| <X25519HkdfSha256 as Kem>::PrivateKey::from_bytes(s));
        let secret =
            secret.map_err(|_| KeyspaceError::Damaged("a secret of another length".to_owned()))?;
        let opened = hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &secret,
            &encapsulated,
            ENCRYPT_TO_LABEL,
            sealed,
            &[],
        );
        if let Ok(text) = opened {
            return Ok(Zeroizing::new(text));
        }
    }
    Err(not_ours())
}

fn only(key: &KeyRecord, algorithm: Algorithm, what: &str) -> Result<(), KeyspaceError> {
    if key.algorithm == algorithm {
        return Ok(());
    }
    Err(KeyspaceError::Unfit(format!("a key for {} cannot {what}", key.algorithm)))
}

fn encrypt_under(secret: &Secret<32>, version: u32, text: &[u8]) -> Result<String, KeyspaceError> {
    check_length(text)?;
    let head = [[FORMAT].as_slice(), &version.to_be_bytes()].concat();
    let nonce: [u8; NONCE_BYTES] = public_random()?;
    let sealed = seal(&below(secret)?, nonce, text, &head)?;
    Ok(BASE64.encode(&[head.as_slice(), &nonce, &sealed].concat()))
}

fn decrypt_under(secret: &Secret<32>, bytes: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyspaceError> {
    let (head, rest) = bytes.split_at_checked(HEAD_BYTES).ok_or_else(not_ours)?;
    let (nonce, sealed) = rest.split_at_checked(NONCE_BYTES).ok_or_else(not_ours)?;
    let nonce = nonce.try_into().map_err(|_| not_ours())?;
    open(&below(secret)?, nonce, sealed, head).ok_or_else(not_ours)
}

/// The key that encrypts: another than the secret itself, which makes HMACs.
fn below(secret: &Secret<32>) -> Result<Secret<32>, KeyspaceError> {
    expand(&secret.expose(|secret| Hkdf::new(None, secret)), ENCRYPT_LABEL)
}

fn check_length(text: &[u8]) -> Result<(), KeyspaceError> {
    if text.len() > MOST_TEXT_BYTES {
        let text = format!("a text that is encrypted has at most {MOST_TEXT_BYTES} bytes");
        return Err(KeyspaceError::Unfit(text));
    }
    Ok(())
}

fn decoded(text: &str) -> Result<Vec<u8>, KeyspaceError> {
    let bytes = BASE64.decode(text.as_bytes()).map_err(|_| not_ours())?;
    if bytes.first() == Some(&FORMAT) { Ok(bytes) } else { Err(not_ours()) }
}

fn data_key(text: &str) -> Result<Secret<32>, KeyspaceError> {
    let unfit =
        || KeyspaceError::Unfit("that is no key: make one with `generate_key()`".to_owned());
    let bytes = BASE64.decode(text.as_bytes()).map(Zeroizing::new).map_err(|_| unfit())?;
    Secret::copied(&bytes).map_err(|_| unfit())
}

fn not_ours() -> KeyspaceError {
    KeyspaceError::Unfit("the text was not encrypted so, or was changed".to_owned())
}
