//! The one shape of JWS that is spoken here: three parts, one algorithm, exact members.

use data_encoding::BASE64URL_NOPAD as B64U;
use ed25519_dalek::{Signature, VerifyingKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::identity::{Signer, public_key};

/// Why a proof was refused. For the audit log; a caller learns only `unauthenticated`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not three base64url parts of JSON with exactly the members of the protocol.
    #[error("the proof is not one compact JWS with exactly the members of the protocol")]
    Malformed,
    /// Another algorithm or type.
    #[error("the proof is of another algorithm or type")]
    WrongType,
    /// The key id is not an nkey of the right kind.
    #[error("the key id is not the right kind of nkey")]
    BadKeyId,
    /// The signature does not verify.
    #[error("the signature does not verify")]
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

/// A JWS taken apart, whose signature was not looked at yet.
pub(crate) struct Unverified<'a> {
    pub(crate) kid: String,
    signed: &'a str,
    claims: &'a str,
    signature: Signature,
}

/// A JWS that is yet to be signed.
pub(crate) fn signing_input(typ: &str, kid: &str, claims: &impl Serialize) -> String {
    let header = Header { alg: "EdDSA".into(), typ: typ.into(), kid: kid.into() };
    format!("{}.{}", encode(&header), encode(claims))
}

/// Adds the signature.
pub(crate) fn complete(signing_input: &str, signature: &[u8]) -> String {
    format!("{signing_input}.{}", B64U.encode(signature))
}

impl<'a> Unverified<'a> {
    /// Takes a JWS apart.
    pub(crate) fn parse(text: &'a str, typ: &str) -> Result<Self, Fault> {
        let (signed, signature) = text.rsplit_once('.').ok_or(Fault::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(Fault::Malformed)?;
        if claims.contains('.') {
            return Err(Fault::Malformed);
        }
        let header: Header = decode(header)?;
        if header.alg != "EdDSA" || header.typ != typ {
            return Err(Fault::WrongType);
        }
        let signature = B64U.decode(signature.as_bytes()).map_err(|_| Fault::Malformed)?;
        let signature = Signature::from_slice(&signature).map_err(|_| Fault::Malformed)?;
        Ok(Self { kid: header.kid, signed, claims, signature })
    }

    /// Checks the signature under the key that the key id names, and only then reads the claims.
    pub(crate) fn verify<C: DeserializeOwned>(&self, signer: Signer) -> Result<C, Fault> {
        let key = public_key(&self.kid, signer).ok_or(Fault::BadKeyId)?;
        let key = VerifyingKey::from_bytes(&key).map_err(|_| Fault::BadKeyId)?;
        // Strict: refuses S >= L and small-order keys and points (RFC 8032 §5.1.7, §8.4).
        key.verify_strict(self.signed.as_bytes(), &self.signature)
            .map_err(|_| Fault::BadSignature)?;
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
