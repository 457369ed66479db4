//! The proof of a request, `ccreq+jwt`.

use serde::{Deserialize, Deserializer, Serialize};

use crate::identity::{Identity, Signer};
use crate::jws::{Fault, Kind, Unverified, write};

/// Named by the header's `alg`: Ed25519 over [`prefix`] and the text.
const ALGORITHM: &str = "ccreq1";
const TYPE: &str = "ccreq+jwt";
/// The one operation of this version: run a script.
const RUN: &str = "run";
/// Shortest and longest `jti`, in characters: 128 bits in base64url take 22, in hex 32.
const JTI_CHARS: std::ops::RangeInclusive<usize> = 22..=64;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    aud: String,
    op: String,
    iat: u64,
    jti: String,
    bh: String,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    exp: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    idem: Option<bool>,
}

/// What a caller may ask for beside its request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Terms {
    /// The same proof again is to get the same answer again, and to be executed once.
    pub idem: bool,
}

/// The service that a proof is for, and for no other.
#[derive(Debug, Clone, Copy)]
pub struct Addressee<'a> {
    /// Its name in its policy.
    pub aud: &'a str,
    /// Its public nkey.
    pub nkey: &'a str,
}

impl Addressee<'_> {
    /// What is signed before the text of a proof.
    ///
    /// A NATS server has its clients sign a nonce of its choice with the same key, as it is, so the text of
    /// a proof alone could be had as one. No nonce begins with this: it is text, and FF is never a byte of
    /// UTF-8 (RFC 3629 §1), nor 00 one of a C string.
    fn prefix(self) -> Vec<u8> {
        [b"\xff\x00crypto-cli request 1\n", self.nkey.as_bytes(), b"\n"].concat()
    }
}

fn kind(prefix: &[u8]) -> Kind<'_> {
    Kind { alg: ALGORITHM, typ: TYPE, prefix }
}

/// Makes the proof of a request: for this service, at `iat` Unix seconds, with a `jti` of at least 128
/// random bits that was never used before.
#[must_use]
pub fn write_request(
    who: &Identity,
    to: Addressee<'_>,
    iat: u64,
    jti: &str,
    payload: &[u8],
    terms: Terms,
) -> String {
    let claims = Claims {
        aud: to.aud.to_owned(),
        op: RUN.to_owned(),
        iat,
        jti: jti.to_owned(),
        bh: crate::digest(payload),
        exp: None,
        idem: terms.idem.then_some(true),
    };
    write(&kind(&to.prefix()), &who.nkey(), &claims, |signed| who.sign(signed))
}

/// A request's proof that was taken apart and not believed yet.
pub struct Signed<'a>(Unverified<'a>);

/// What a request's proof must say.
pub struct Expected<'a> {
    /// This service.
    pub to: Addressee<'a>,
    /// The bytes that came with it.
    pub payload: &'a [u8],
    /// Unix seconds.
    pub now: u64,
    /// Furthest that `iat` may lie from `now`, in seconds.
    pub window: u64,
}

/// What a request's proof says, believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The caller's user nkey.
    pub kid: String,
    /// When it was made, in Unix seconds.
    pub iat: u64,
    /// Its number, unique for the caller.
    pub jti: String,
    /// The second from which on it is invalid, if it says so.
    pub exp: Option<u64>,
    /// Whether the same proof again is to get the same answer again.
    pub idem: bool,
}

impl Verified {
    /// Whether its time has come and is not over: for when time has passed since it was verified.
    ///
    /// # Errors
    /// [`Fault::Ended`] or [`Fault::OutsideWindow`].
    pub fn in_time(&self, now: u64, window: u64) -> Result<(), Fault> {
        if self.exp.is_some_and(|end| end <= now) {
            return Err(Fault::Ended);
        }
        let seconds = self.iat.abs_diff(now);
        if seconds > window {
            return Err(Fault::OutsideWindow { seconds, before: self.iat < now });
        }
        Ok(())
    }
}

impl<'a> Signed<'a> {
    /// Takes a proof apart. Nothing is believed yet.
    ///
    /// # Errors
    /// [`Fault::Malformed`] or [`Fault::WrongType`].
    pub fn parse(text: &'a str) -> Result<Self, Fault> {
        Unverified::parse(text, &kind(b"")).map(Self)
    }

    /// The nkey that it claims to be from.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.0.kid
    }

    /// Checks the signature, then every claim.
    ///
    /// # Errors
    /// The first [`Fault`].
    pub fn verify(self, expected: &Expected<'_>) -> Result<Verified, Fault> {
        let claims: Claims = self.0.verify(&kind(&expected.to.prefix()), Signer::User)?;
        if claims.aud != expected.to.aud {
            return Err(Fault::WrongAudience);
        }
        if claims.op != RUN {
            return Err(Fault::WrongOperation);
        }
        if claims.bh != crate::digest(expected.payload) {
            return Err(Fault::WrongPayload);
        }
        let Claims { iat, jti, exp, idem, .. } = claims;
        let verified = Verified { kid: self.0.kid, iat, jti, exp, idem: idem == Some(true) };
        verified.in_time(expected.now, expected.window)?;
        let printable = verified.jti.bytes().all(|byte| byte.is_ascii_graphic());
        if !printable || !JTI_CHARS.contains(&verified.jti.len()) {
            return Err(Fault::Malformed);
        }
        Ok(verified)
    }
}

/// An optional member is absent or has its value; `null` is neither.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
