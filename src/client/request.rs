//! One request and its answer.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::{Client, HeaderMap, RequestErrorKind};
use proof::{Answered, Identity, ReplyFault, Terms};
use wire::Code;
use wire::request::{ERROR_HEADER, JSON_MEDIA_TYPE, PROOF_HEADER};

/// Who asks, and whom it believes.
pub struct Caller {
    /// The caller's user nkey with its seed.
    pub identity: Identity,
    /// The name of the service in its policy.
    pub service: String,
    /// The public nkey of the service, pinned.
    pub service_nkey: String,
}

/// What a service answered.
#[derive(Debug)]
pub struct Answer {
    /// The payload: the value, or the error's message, or the full JSON.
    pub payload: Vec<u8>,
    /// The error, if it is one.
    pub error: Option<Code>,
    /// What the service signed of it. `None` for an unsigned request, whose answer proves nothing.
    pub answered: Option<Answered>,
    /// The text that proves it to others, for [`proof::read_receipt`].
    pub receipt: Option<String>,
    /// Seconds by which the service's clock, as it signed it, is ahead of ours; negative when it is
    /// behind. Proofs are refused by a service whose clock is more than 30 seconds away.
    pub clock_ahead: Option<i64>,
}

/// Why there is no answer that can be believed.
#[derive(Debug, thiserror::Error)]
pub enum RequestFault {
    /// Nobody serves the subject.
    #[error("nobody listens on `{0}`: is `crypto-cli listen` running with this subject?")]
    NoResponders(String),
    /// No answer came.
    #[error("no answer on `{subject}` within {} ms", patience.as_millis())]
    TimedOut {
        /// The subject.
        subject: String,
        /// How long was waited.
        patience: Duration,
    },
    /// The script is larger than a message may be.
    #[error("the script has {bytes} bytes, one message of this server holds {most}")]
    TooLarge {
        /// Of the script.
        bytes: usize,
        /// Of the server.
        most: usize,
    },
    /// An error without the service's signature: from the listener when it is overloaded or
    /// stopping, or from anybody.
    #[error("{code}: {message} (the answer is not signed, so it proves nothing)")]
    UnsignedError {
        /// What it says.
        code: Code,
        /// What it says.
        message: String,
    },
    /// The answer is not the service's.
    #[error("the answer is not believed: {0}: is `--service-nkey` the key of this service?")]
    Unbelieved(#[from] ReplyFault),
    /// The answer has no proof.
    #[error("the answer is not signed by the service")]
    Unsigned,
    /// The kernel or the connection failed.
    #[error("{0}")]
    Failed(String),
}

/// Sends a script and waits for the answer. With a caller, the request is signed and the answer must
/// be signed by the pinned service.
///
/// # Errors
/// See [`RequestFault`]. A refusal by the service is an [`Answer`].
pub async fn request(
    client: &Client,
    subject: &str,
    script: &[u8],
    caller: Option<&Caller>,
    wants_json: bool,
    patience: Duration,
) -> Result<Answer, RequestFault> {
    let mut headers = HeaderMap::new();
    let proof = caller.map(|caller| prove(caller, script)).transpose()?;
    if let Some(proof) = &proof {
        headers.insert(PROOF_HEADER, proof.as_str());
    }
    if wants_json {
        headers.insert("Accept", JSON_MEDIA_TYPE);
    }
    let most = client.server_info().max_payload;
    let request = async_nats::Request::new()
        .payload(script.to_vec().into())
        .headers(headers)
        .timeout(Some(patience));
    let reply = client.send_request(subject.to_owned(), request).await;
    let reply = reply.map_err(|error| match error.kind() {
        RequestErrorKind::NoResponders => RequestFault::NoResponders(subject.to_owned()),
        RequestErrorKind::TimedOut => {
            RequestFault::TimedOut { subject: subject.to_owned(), patience }
        }
        RequestErrorKind::MaxPayloadExceeded => {
            RequestFault::TooLarge { bytes: script.len(), most }
        }
        RequestErrorKind::InvalidSubject | RequestErrorKind::Other => {
            RequestFault::Failed(error.to_string())
        }
    })?;
    let header = |name| reply.headers.as_ref().and_then(|headers| headers.get(name));
    let error =
        header(ERROR_HEADER).map(|word| Code::from_word(word.as_str()).unwrap_or(Code::Internal));
    let payload = reply.payload.to_vec();
    let Some(caller) = caller else {
        return Ok(Answer { payload, error, answered: None, receipt: None, clock_ahead: None });
    };
    let Some(text) = header(PROOF_HEADER) else {
        return Err(error.map_or(RequestFault::Unsigned, |code| {
            let message = String::from_utf8_lossy(&payload).escape_debug().to_string();
            RequestFault::UnsignedError { code, message }
        }));
    };
    let nkey = &caller.service_nkey;
    let answered = proof::read_reply(text.as_str(), nkey, proof.as_deref(), script, &payload)?;
    // What was signed counts, not the header beside it.
    let error = match answered.st.as_str() {
        "ok" => None,
        word => Some(Code::from_word(word).unwrap_or(Code::Internal)),
    };
    let receipt = Some(text.as_str().to_owned());
    let clock_ahead = Some(answered.iat.cast_signed().saturating_sub(now().cast_signed()));
    Ok(Answer { payload, error, answered: Some(answered), receipt, clock_ahead })
}

fn prove(caller: &Caller, script: &[u8]) -> Result<String, RequestFault> {
    let mut jti = [0_u8; 16];
    getrandom::fill(&mut jti).map_err(|error| RequestFault::Failed(error.to_string()))?;
    let jti = data_encoding::HEXLOWER.encode(&jti);
    let (who, aud) = (&caller.identity, &caller.service);
    Ok(proof::write_request(who, aud, now(), &jti, script, Terms::default()))
}

/// Unix seconds.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
