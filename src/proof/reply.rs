//! The proof of a reply, `ccres+jwt`.

use serde::{Deserialize, Serialize};

use crate::identity::Signer;
use crate::jws::{Fault, Kind, Unverified, write};
use crate::log::LogPlace;

/// A JWS as RFC 7515 has it: the service's key signs nothing that others choose.
const KIND: Kind<'static> = Kind { alg: "EdDSA", typ: "ccres+jwt", prefix: b"" };

/// What a service says of its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answered {
    /// [`crate::digest`] of the request's proof; empty for an unsigned request.
    pub req: String,
    /// [`crate::digest`] of the reply's payload.
    pub bh: String,
    /// How the payload is to be read.
    pub form: Form,
    /// `ok` or the word of an error code.
    pub st: String,
    /// When it was made, in Unix seconds.
    pub iat: u64,
    /// [`crate::digest`] of the script.
    pub script: String,
    /// [`crate::digest`] of the policy file.
    pub policy: String,
    /// The caller's user nkey, `anonymous`, or empty when nobody was identified.
    pub caller: String,
    /// The keys that were used, `space/key`, in order of their names: at most [`MOST_KEYS`] of them.
    pub keys: Vec<String>,
    /// How many keys were used.
    pub key_count: u64,
    /// Where the audit log tells of the request; `None` where there is no log.
    pub audit: Option<LogPlace>,
}

/// What a reply's payload is: of two that were asked for in a header which nobody signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// The value of the script, or an error's message.
    Value,
    /// The whole outcome as JSON.
    Json,
}

impl Form {
    /// What is answered to whoever asks for JSON, or does not.
    #[must_use]
    pub fn wanted(json: bool) -> Self {
        if json { Self::Json } else { Self::Value }
    }
}

/// Most keys that a reply's proof names: it is a header of a message.
pub const MOST_KEYS: usize = 8;

/// Why a reply is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplyFault {
    /// The proof itself is at fault.
    #[error("{0}")]
    Proof(#[from] Fault),
    /// Another key signed it.
    #[error("it is signed by another service key than the pinned one")]
    OtherKey,
    /// It answers another request, or another script.
    #[error("it answers another request")]
    OtherRequest,
    /// It is the value where JSON was asked for, or the other way round.
    #[error("it is in another form than was asked for")]
    OtherForm,
}

/// Makes the proof of a reply with the service's key.
pub fn write_reply(
    service_nkey: &str,
    answered: &Answered,
    sign: impl FnOnce(&[u8]) -> [u8; 64],
) -> String {
    write(&KIND, service_nkey, answered, sign)
}

/// Reads a receipt: a reply's proof by itself, signed by the pinned key. What it says of payload and
/// script are digests, to be compared by who has them.
///
/// # Errors
/// [`ReplyFault::OtherKey`] or [`ReplyFault::Proof`].
pub fn read_receipt(text: &str, pinned_nkey: &str) -> Result<Answered, ReplyFault> {
    let unverified = Unverified::parse(text, &KIND)?;
    if unverified.kid != pinned_nkey {
        return Err(ReplyFault::OtherKey);
    }
    Ok(unverified.verify(&KIND, Signer::Service)?)
}

/// Reads a reply's proof: signed by the pinned key, for this payload in this form, in answer to this
/// request with this script. An unsigned request is known by its script alone.
///
/// # Errors
/// The first [`ReplyFault`].
pub fn read_reply(
    text: &str,
    pinned_nkey: &str,
    request_proof: Option<&str>,
    script: &[u8],
    payload: &[u8],
    form: Form,
) -> Result<Answered, ReplyFault> {
    let answered = read_receipt(text, pinned_nkey)?;
    let asked = request_proof.map(|proof| crate::digest(proof.as_bytes())).unwrap_or_default();
    if answered.req != asked || answered.script != crate::digest(script) {
        return Err(ReplyFault::OtherRequest);
    }
    if answered.bh != crate::digest(payload) {
        return Err(ReplyFault::Proof(Fault::WrongPayload));
    }
    if answered.form != form {
        return Err(ReplyFault::OtherForm);
    }
    Ok(answered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nkeys::KeyPair;

    fn sign(pair: &KeyPair, answered: &Answered) -> String {
        write_reply(&pair.public_key(), answered, |input| {
            pair.sign(input).unwrap().try_into().unwrap()
        })
    }

    #[test]
    fn a_reply_of_another_key_request_or_payload_is_not_believed() {
        let (service, thief) = (KeyPair::new_server(), KeyPair::new_server());
        let answered = Answered {
            req: crate::digest(b"proof"),
            bh: crate::digest(b"42"),
            form: Form::Value,
            st: "ok".into(),
            iat: 1,
            script: crate::digest(b"40 + 2"),
            policy: crate::digest(b""),
            caller: "anonymous".into(),
            keys: vec!["s/k".into()],
            key_count: 1,
            audit: Some(LogPlace::start()),
        };
        let text = sign(&service, &answered);
        let nkey = service.public_key();
        let read = |text: &str, proof, payload: &[u8]| {
            read_reply(text, &nkey, proof, b"40 + 2", payload, Form::Value)
        };
        assert_eq!(read(&text, Some("proof"), b"42"), Ok(answered.clone()));
        assert_eq!(read(&text, Some("other"), b"42"), Err(ReplyFault::OtherRequest));
        assert_eq!(read(&text, None, b"42"), Err(ReplyFault::OtherRequest));
        assert_eq!(read(&text, Some("proof"), b"43"), Err(ReplyFault::Proof(Fault::WrongPayload)));
        let stolen = sign(&thief, &answered);
        assert_eq!(read(&stolen, Some("proof"), b"42"), Err(ReplyFault::OtherKey));
        let user = KeyPair::new_user();
        let as_user = sign(&user, &answered);
        let value = Form::Value;
        let read_user =
            read_reply(&as_user, &user.public_key(), Some("proof"), b"40 + 2", b"42", value);
        let other = read_reply(&text, &nkey, Some("proof"), b"41 + 2", b"42", value);
        let as_json = read_reply(&text, &nkey, Some("proof"), b"40 + 2", b"42", Form::Json);
        assert_eq!(as_json, Err(ReplyFault::OtherForm));
        assert_eq!(other, Err(ReplyFault::OtherRequest));
        assert_eq!(read_user, Err(ReplyFault::Proof(Fault::BadKeyId)));
    }
}
