//! Public keys as others want them written.

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use k256::elliptic_curve::sec1::ToSec1Point;
use sha3::{Digest, Keccak256};
use wire::Algorithm;
use wire::script::PublicForm;

use crate::error::KeyspaceError;
use crate::key::KeyRecord;
use crate::{nkey, sign};

// `SubjectPublicKeyInfo` up to the bytes of the key: they are the same for every key of an algorithm.
/// RFC 8410 §4, id-Ed25519.
const SPKI_ED25519: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";
/// RFC 8410 §4, id-X25519.
const SPKI_X25519: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x6e\x03\x21\x00";
/// RFC 5480 §2.1.1, secp256r1, of an uncompressed point.
const SPKI_P256: &[u8] = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
/// The same of secp256k1 (SEC 2 §2.4.1).
const SPKI_SECP256K1: &[u8] =
    b"\x30\x56\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x0a\x03\x42\x00";
/// Characters of a line of PEM (RFC 7468 §2).
const PEM_LINE: usize = 64;

/// The public key of the version in use.
pub(crate) fn written(key: &KeyRecord, form: PublicForm) -> Result<String, KeyspaceError> {
    let (algorithm, secret) = (key.algorithm, &key.current()?.secret);
    let public = sign::public_key(algorithm, secret)?;
    let unfit = |form: &str| {
        KeyspaceError::Unfit(format!("a key for {algorithm} cannot be written as {form}"))
    };
    match form {
        PublicForm::Hex => Ok(HEXLOWER.encode(&public)),
        PublicForm::Base64 => Ok(BASE64.encode(&public)),
        PublicForm::Pem => pem(algorithm, &public),
        PublicForm::Jwk => jwk(algorithm, &public),
        PublicForm::Ssh => ssh(algorithm, &public).ok_or_else(|| unfit("a line of OpenSSH")),
        PublicForm::Nkey => match algorithm {
            Algorithm::Ed25519 => Ok(nkey::public(nkey::USER, &public)),
            Algorithm::Secp256k1 | Algorithm::P256 | Algorithm::X25519 | Algorithm::Symmetric => {
                Err(unfit("an nkey"))
            }
        },
        PublicForm::Ethereum => match algorithm {
            Algorithm::Secp256k1 => ethereum_address(&public),
            Algorithm::Ed25519 | Algorithm::P256 | Algorithm::X25519 | Algorithm::Symmetric => {
                Err(unfit("an address of Ethereum: use a key made as `secp256k1`"))
            }
        },
    }
}

fn pem(algorithm: Algorithm, public: &[u8]) -> Result<String, KeyspaceError> {
    let info = match algorithm {
        Algorithm::Ed25519 => [SPKI_ED25519, public].concat(),
        Algorithm::X25519 => [SPKI_X25519, public].concat(),
        Algorithm::Secp256k1 => [SPKI_SECP256K1, &uncompressed(algorithm, public)?].concat(),
        Algorithm::P256 => [SPKI_P256, &uncompressed(algorithm, public)?].concat(),
        Algorithm::Symmetric => return Err(no_point()),
    };
    let text = BASE64.encode(&info);
    let lines: Vec<String> =
        text.as_bytes().chunks(PEM_LINE).map(|l| String::from_utf8_lossy(l).into_owned()).collect();
    Ok(format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n")))
}

fn jwk(algorithm: Algorithm, public: &[u8]) -> Result<String, KeyspaceError> {
    let octets = |curve: &str| {
        let x = BASE64URL_NOPAD.encode(public);
        format!("{{\"kty\":\"OKP\",\"crv\":\"{curve}\",\"x\":\"{x}\"}}")
    };
    let point = |curve: &str| -> Result<String, KeyspaceError> {
        let point = uncompressed(algorithm, public)?;
        let (x, y) = point.get(1..).and_then(|xy| xy.split_at_checked(32)).ok_or_else(no_point)?;
        let (x, y) = (BASE64URL_NOPAD.encode(x), BASE64URL_NOPAD.encode(y));
        Ok(format!("{{\"kty\":\"EC\",\"crv\":\"{curve}\",\"x\":\"{x}\",\"y\":\"{y}\"}}"))
    };
    match algorithm {
        Algorithm::Ed25519 => Ok(octets("Ed25519")),
        Algorithm::X25519 => Ok(octets("X25519")),
        Algorithm::Secp256k1 => point("secp256k1"),
        Algorithm::P256 => point("P-256"),
        Algorithm::Symmetric => Err(no_point()),
    }
}

/// `None` for what OpenSSH has no name for.
fn ssh(algorithm: Algorithm, public: &[u8]) -> Option<String> {
    let (name, parts) = match algorithm {
        Algorithm::Ed25519 => ("ssh-ed25519", vec![public.to_vec()]),
        Algorithm::P256 => {
            let point = uncompressed(algorithm, public).ok()?;
            ("ecdsa-sha2-nistp256", vec![b"nistp256".to_vec(), point])
        }
        Algorithm::Secp256k1 | Algorithm::X25519 | Algorithm::Symmetric => return None,
    };
    let mut w = wire::codec::Writer::default();
    w.text(name);
    parts.iter().for_each(|part| w.bytes(part));
    Some(format!("{name} {}", BASE64.encode(&w.into_bytes())))
}

/// The last 20 bytes of the Keccak-256 of the point, with the case of its letters as a checksum (EIP-55).
pub(crate) fn ethereum_address(public: &[u8]) -> Result<String, KeyspaceError> {
    let point = uncompressed(Algorithm::Secp256k1, public)?;
    let digest = Keccak256::digest(point.get(1..).unwrap_or_default());
    let address = HEXLOWER.encode(digest.get(12..).unwrap_or_default());
    let checksum = HEXLOWER.encode(&Keccak256::digest(address.as_bytes()));
    let letter = |(letter, check): (char, char)| {
        if check >= '8' { letter.to_ascii_uppercase() } else { letter }
    };
    let shown: String = address.chars().zip(checksum.chars()).map(letter).collect();
    Ok(format!("0x{shown}"))
}

/// A point with both of its coordinates, 65 bytes (SEC 1 §2.3.3).
fn uncompressed(algorithm: Algorithm, public: &[u8]) -> Result<Vec<u8>, KeyspaceError> {
    let point = match algorithm {
        Algorithm::Secp256k1 => {
            let key = k256::PublicKey::from_sec1_bytes(public).map_err(|_| no_point())?;
            key.to_sec1_point(false).as_bytes().to_vec()
        }
        Algorithm::P256 => {
            let key = p256::PublicKey::from_sec1_bytes(public).map_err(|_| no_point())?;
            key.to_sec1_point(false).as_bytes().to_vec()
        }
        Algorithm::Ed25519 | Algorithm::X25519 | Algorithm::Symmetric => return Err(no_point()),
    };
    Ok(point)
}

fn no_point() -> KeyspaceError {
    KeyspaceError::Damaged("a public key that is no point".to_owned())
}
