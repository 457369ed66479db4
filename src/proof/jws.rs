//! The one shape that is spoken here: three parts as of a compact JWS, one algorithm for each type, exact members.

use data_encoding::BASE64URL_NOPAD as B64U;
use ed25519_dalek::{Signature, VerifyingKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::identity::{Signer, public_key};

/// Why a proof was refused. For the audit log; a caller learns only `unauthenticated`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not three base64url parts of JSON with exactly the members of the protocol.
    #[error("the proof is not three parts with exactly the members of the protocol")]
    Malformed,
    /// Another algorithm or type.
    #[error("the proof is of another algorithm or type")]
    WrongType,
    /// The key id is not an nkey of the right kind.
    #[error("the key id is not the right kind of nkey")]
    BadKeyId,
    /// The signature does not verify.
    #[error("the signature is not by this key, for this service and text")]
    BadSignature,
    /// Made for another service.
    #[error("the proof is for another service")]
    WrongAudience,
    /// Made for another operation.
    #[error("the proof is for another operation")]
    WrongOperation,
    /// Made for another payload.
    #[error("the payload is not the one that was signed")]
    WrongPayload,
    /// Too old or from the future.
    #[error("the proof was made {seconds} seconds {side} the time here: compare the clocks", side = if *before { "before" } else { "after" })]
    OutsideWindow {
        /// How far off.
        seconds: u64,
        /// Whether it is from the past.
        before: bool,
    },
    /// Past its own end.
    #[error("the proof has ended: its `exp` is past")]
    Ended,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    alg: String,
    typ: String,
    kid: String,
}

/// A type of proof: what its header says, and what is signed before its own text.
pub(crate) struct Kind<'a> {
    pub(crate) alg: &'static str,
    pub(crate) typ: &'static str,
    /// Keeps the signature from being one of anything else that the same key signs.
    pub(crate) prefix: &'a [u8],
}

/// A proof taken apart, whose signature was not looked at yet.
pub(crate) struct Unverified<'a> {
    pub(crate) kid: String,
    signed: &'a str,
    claims: &'a str,
    signature: Signature,
}

/// Characters of a public nkey.
const NKEY_CHARS: usize = 56;

/// Makes a proof by this key.
pub(crate) fn write<S: AsRef<[u8]>>(
    kind: &Kind<'_>,
    kid: &str,
    claims: &impl Serialize,
    sign: impl FnOnce(&[u8]) -> S,
) -> String {
    let header = Header { alg: kind.alg.into(), typ: kind.typ.into(), kid: kid.into() };
    let text = format!("{}.{}", encode(&header), encode(claims));
    let signature = sign(&[kind.prefix, text.as_bytes()].concat());
    complete(&text, signature.as_ref())
}

/// Adds the signature.
pub(crate) fn complete(text: &str, signature: &[u8]) -> String {
    format!("{text}.{}", B64U.encode(signature))
}

impl<'a> Unverified<'a> {
    /// Takes a proof apart.
    pub(crate) fn parse(text: &'a str, kind: &Kind<'_>) -> Result<Self, Fault> {
        let (signed, signature) = text.rsplit_once('.').ok_or(Fault::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(Fault::Malformed)?;
        if claims.contains('.') {
            return Err(Fault::Malformed);
        }
        let header: Header = decode(header)?;
        if header.alg != kind.alg || header.typ != kind.typ {
            return Err(Fault::WrongType);
        }
        // Whoever is not known is named in records, and no longer than somebody can be.
        if header.kid.len() > NKEY_CHARS {
            return Err(Fault::Malformed);
        }
        let signature = B64U.decode(signature.as_bytes()).map_err(|_| Fault::Malformed)?;
        let signature = Signature::from_slice(&signature).map_err(|_| Fault::Malformed)?;
        Ok(Self { kid: header.kid, signed, claims, signature })
    }

    /// Checks the signature under the key that the key id names, and only then reads the claims.
    pub(crate) fn verify<C: DeserializeOwned>(
        &self,
        kind: &Kind<'_>,
        signer: Signer,
    ) -> Result<C, Fault> {
        let key = public_key(&self.kid, signer).ok_or(Fault::BadKeyId)?;
        let key = VerifyingKey::from_bytes(&key).map_err(|_| Fault::BadKeyId)?;
        // Strict: refuses S >= L and small-order keys and points (RFC 8032 §5.1.7, §8.4).
        let signed = [kind.prefix, self.signed.as_bytes()].concat();
        key.verify_strict(&signed, &self.signature).map_err(|_| Fault::BadSignature)?;
        decode(self.claims)
    }
}

fn encode(value: &impl Serialize) -> String {
    // Structs of strings and numbers always serialise; an empty part would be refused.
    B64U.encode(&serde_json::to_vec(value).unwrap_or_default())
}

/// One JSON object with exactly the members of `T`: serde refuses unknown and repeated members, and
/// the brace keeps out arrays, which it would read in order.
fn decode<T: DeserializeOwned>(part: &str) -> Result<T, Fault> {
    let json = B64U.decode(part.as_bytes()).map_err(|_| Fault::Malformed)?;
    if json.first() != Some(&b'{') {
        return Err(Fault::Malformed);
    }
    serde_json::from_slice(&json).map_err(|_| Fault::Malformed)
}
