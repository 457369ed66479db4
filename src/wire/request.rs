//! Broker and listener: requests in, replies out.

use crate::code::Code;
use crate::codec::{Frame, Malformed, Reader, Writer};
use crate::script::MAX_SCRIPT_BYTES;

/// Largest `Crypto-Proof` header, in bytes. A proof with both optional members takes about 500.
pub const MAX_PROOF_BYTES: usize = 2 * 1024;
/// Largest reply body, in bytes: value, output and their JSON escapes.
pub const MAX_REPLY_BYTES: usize = 8 * 1024 * 1024;
/// Room for tags, lengths and a proof around one body, in bytes.
const OVERHEAD_BYTES: usize = 64 * 1024;

/// The header that carries a request's or a reply's proof.
pub const PROOF_HEADER: &str = "Crypto-Proof";
/// The media type that asks for the full JSON reply.
pub const JSON_MEDIA_TYPE: &str = "application/json";
/// The header that names an error (NATS services convention, ADR-32).
pub const ERROR_HEADER: &str = "Nats-Service-Error";
/// The header that numbers an error (the same).
pub const ERROR_CODE_HEADER: &str = "Nats-Service-Error-Code";

/// What the listener sends the broker.
#[derive(Debug, Clone, PartialEq)]
pub enum FromListener {
    /// Connected and subscribed. Always first, and again when the server takes replies of another size.
    Ready {
        /// Must equal [`crate::BUILD`].
        build: String,
        /// Largest reply body that the NATS server takes, in bytes.
        reply_bytes: u64,
    },
    /// A message of the subject.
    Request(Request),
}

/// One request, as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The listener's own number for it, which the reply carries back.
    pub ticket: u64,
    /// The proof header.
    pub proof: ProofHeader,
    /// Whether the caller asked for the full JSON reply.
    pub wants_json: bool,
    /// The script.
    pub body: Vec<u8>,
}

/// What stood where the proof should be.
#[derive(Debug, Clone, PartialEq)]
pub enum ProofHeader {
    /// Nothing.
    Absent,
    /// One header, spelled exactly so, of a bounded size.
    One(String),
    /// Two of them, another spelling, too long, or not text: never a proof, and never absent.
    Unusable,
}

/// What the broker sends the listener.
#[derive(Debug, Clone, PartialEq)]
pub enum ToListener {
    /// The answer to a request.
    Reply(Reply),
    /// Take no more requests, hand in those already taken, send the replies and end.
    Drain,
}

/// One answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// Of the request.
    pub ticket: u64,
    /// The service's proof; none while there is no key to sign it with.
    pub proof: Option<String>,
    /// The error, if it is one.
    pub error: Option<Code>,
    /// The payload.
    pub body: Vec<u8>,
}

/// The body of an error that was not met while running a script: one line, or the JSON of an
/// outcome without usage. `message` is our own plain text.
#[must_use]
pub fn error_body(code: Code, message: &str, as_json: bool) -> Vec<u8> {
    let body = if as_json {
        format!(
            "{{\"schema\":1,\"status\":\"error\",\"error\":{{\"code\":\"{code}\",\"message\":\"{message}\",\
             \"line\":0,\"column\":0}},\"output\":\"\",\"usage\":{{\"operations\":0,\
             \"memory_bytes\":0,\"wall_us\":0,\"host_calls\":0}}}}"
        )
    } else {
        format!("{code}: {message}")
    };
    body.into_bytes()
}

impl Frame for FromListener {
    const MAX_BYTES: usize = MAX_SCRIPT_BYTES + OVERHEAD_BYTES;

    fn put(&self, w: &mut Writer) {
        match self {
            FromListener::Ready { build, reply_bytes } => {
                w.u8(0);
                w.text(build);
                w.u64(*reply_bytes);
            }
            FromListener::Request(request) => {
                w.u8(1);
                w.u64(request.ticket);
                match &request.proof {
                    ProofHeader::Absent => w.u8(0),
                    ProofHeader::One(proof) => {
                        w.u8(1);
                        w.text(proof);
                    }
                    ProofHeader::Unusable => w.u8(2),
                }
                w.u8(u8::from(request.wants_json));
                w.bytes(&request.body);
            }
        }
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match r.u8()? {
            0 => FromListener::Ready { build: r.text()?.to_owned(), reply_bytes: r.u64()? },
            1 => FromListener::Request(Request {
                ticket: r.u64()?,
                proof: match r.u8()? {
                    0 => ProofHeader::Absent,
                    1 => ProofHeader::One(r.text()?.to_owned()),
                    2 => ProofHeader::Unusable,
                    _ => return Err(Malformed),
                },
                wants_json: r.flag()?,
                body: r.bytes()?.to_vec(),
            }),
            _ => return Err(Malformed),
        })
    }
}

impl Frame for ToListener {
    const MAX_BYTES: usize = MAX_REPLY_BYTES + OVERHEAD_BYTES;

    fn put(&self, w: &mut Writer) {
        match self {
            ToListener::Reply(reply) => {
                w.u8(0);
                w.u64(reply.ticket);
                w.option(reply.proof.as_ref(), |w, proof| w.text(proof));
                w.option(reply.error.as_ref(), |w, code| w.text(code.word()));
                w.bytes(&reply.body);
            }
            ToListener::Drain => w.u8(1),
        }
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match r.u8()? {
            0 => ToListener::Reply(Reply {
                ticket: r.u64()?,
                proof: r.option(|r| Ok(r.text()?.to_owned()))?,
                error: r.option(|r| Code::from_word(r.text()?).ok_or(Malformed))?,
                body: r.bytes()?.to_vec(),
            }),
            1 => ToListener::Drain,
            _ => return Err(Malformed),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_decode_to_a_frame_that_encodes_back_to_them_or_to_nothing(
            bytes in proptest::collection::vec(any::<u8>(), 0..200)
        ) {
            if let Ok(frame) = FromListener::decode(&bytes) {
                prop_assert_eq!(frame.encode(), bytes.clone());
            }
            if let Ok(frame) = ToListener::decode(&bytes) {
                prop_assert_eq!(frame.encode(), bytes.clone());
            }
            if let Ok(frame) = crate::script::FromWorker::decode(&bytes) {
                prop_assert_eq!(frame.encode(), bytes.clone());
            }
            if let Ok(frame) = crate::script::ToWorker::decode(&bytes) {
                prop_assert_eq!(frame.encode(), bytes);
            }
        }

        #[test]
        fn a_request_arrives_as_it_was_sent_and_no_cut_of_it_does(
            ticket: u64, proof in "[a-z.]{0,40}", wants_json: bool,
            body in proptest::collection::vec(any::<u8>(), 0..100), cut in 0..10_usize
        ) {
            let proof = ProofHeader::One(proof);
            let frame = FromListener::Request(Request { ticket, proof, wants_json, body });
            let bytes = frame.encode();
            prop_assert_eq!(FromListener::decode(&bytes), Ok(frame));
            let cut_at = cut * bytes.len() / 10;
            prop_assert_eq!(FromListener::decode(&bytes[..cut_at]), Err(Malformed));
            let longer = [bytes.as_slice(), &[0]].concat();
            prop_assert_eq!(FromListener::decode(&longer), Err(Malformed));
        }
    }
}
