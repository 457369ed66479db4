//! One request and its answer.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::{Client, HeaderMap, Message, RequestErrorKind};
use proof::{Addressee, Answered, Form, Identity, ReplyFault, Terms};
use wire::Code;
use wire::request::{ERROR_HEADER, JSON_MEDIA_TYPE, PROOF_HEADER};

use crate::again::persist;

/// Most characters that are shown of an answer that nobody signed.
const MOST_UNSIGNED_CHARACTERS: usize = 300;

/// Who asks, and whom it believes.
pub struct Caller {
    /// The caller's user nkey with its seed.
    pub identity: Identity,
    /// The name of the service in its policy.
    pub service: String,
    /// The public nkey of the service, pinned.
    pub service_nkey: String,
}

/// What is asked for beside the running of a script.
#[derive(Debug, Clone, Copy)]
pub struct Asking {
    /// The whole outcome as JSON, instead of the value alone.
    pub json: bool,
    /// Ask again with the same proof while no answer comes: the service executes it once.
    pub again: bool,
    /// How long an answer may take.
    pub patience: Duration,
}

/// What a service answered.
#[derive(Debug)]
pub struct Answer {
    /// The payload: the value, or the error's message, or the full JSON.
    pub payload: Vec<u8>,
    /// The error, if it is one.
    pub error: Option<Code>,
    /// What proves it. `None` for an unsigned request, whose answer proves nothing.
    pub proven: Option<Proven>,
}

/// What a service signed of its answer.
#[derive(Debug)]
pub struct Proven {
    /// What it says.
    pub answered: Answered,
    /// The text that proves it to others, for [`proof::read_receipt`].
    pub receipt: String,
    /// Seconds by which the service's clock, as it signed it, is ahead of ours; negative when it is
    /// behind. Proofs are refused by a service whose clock is more than 30 seconds away. `None` if the
    /// request was sent more than once: an answer that is given again has the time of the first.
    pub clock_ahead: Option<i64>,
}

/// Why there is no answer that can be believed.
#[derive(Debug, thiserror::Error)]
pub enum RequestFault {
    /// Nobody serves the subject.
    #[error("nobody listens on `{0}`: is `crypto-cli listen` running with this subject?")]
    NoResponders(String),
    /// No answer came, or none but that the request was being executed.
    #[error(
        "no answer on `{subject}` within {} ms: whether the script was run is not known",
        patience.as_millis()
    )]
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
    /// An error without the service's signature, of those that come without one: from a process of the
    /// service that has no key, or from anybody. Whether the script was run is not known.
    #[error("{message} (the answer is not signed, so it proves nothing)")]
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
    asking: Asking,
) -> Result<Answer, RequestFault> {
    let proof = caller.map(|caller| prove(caller, script, asking.again)).transpose()?;
    let mut headers = HeaderMap::new();
    if let Some(proof) = &proof {
        headers.insert(PROOF_HEADER, proof.as_str());
    }
    if asking.json {
        headers.insert("Accept", JSON_MEDIA_TYPE);
    }
    let asked = Asked { subject, script, proof: proof.as_deref(), headers, asking, caller };
    if asking.again && caller.is_some() {
        return persist(&asked, client).await;
    }
    asked.believe(asked.send(client, asking.patience).await)
}

/// A request that is ready to be sent, as often as it has to be.
pub(crate) struct Asked<'a> {
    subject: &'a str,
    script: &'a [u8],
    proof: Option<&'a str>,
    headers: HeaderMap,
    pub(crate) asking: Asking,
    caller: Option<&'a Caller>,
}

/// What came of sending it once.
pub(crate) type Heard = Result<Message, RequestFault>;

impl Asked<'_> {
    /// Sends it. The answer can be waited for without this.
    pub(crate) fn send(
        &self,
        client: &Client,
        wait: Duration,
    ) -> impl Future<Output = Heard> + use<> {
        let request = async_nats::Request::new()
            .payload(self.script.to_vec().into())
            .headers(self.headers.clone())
            .timeout(Some(wait));
        let (client, subject) = (client.clone(), self.subject.to_owned());
        let (most, bytes) = (client.server_info().max_payload, self.script.len());
        let patience = self.asking.patience;
        async move {
            let reply = client.send_request(subject.clone(), request).await;
            reply.map_err(|error| match error.kind() {
                RequestErrorKind::NoResponders => RequestFault::NoResponders(subject),
                RequestErrorKind::TimedOut => RequestFault::TimedOut { subject, patience },
                RequestErrorKind::MaxPayloadExceeded => RequestFault::TooLarge { bytes, most },
                RequestErrorKind::InvalidSubject | RequestErrorKind::Other => {
                    RequestFault::Failed(error.to_string())
                }
            })
        }
    }

    /// What is believed of what came.
    pub(crate) fn believe(&self, heard: Heard) -> Result<Answer, RequestFault> {
        let reply = heard?;
        let header = |name| reply.headers.as_ref().and_then(|headers| headers.get(name));
        let error = header(ERROR_HEADER)
            .map(|word| Code::from_word(word.as_str()).unwrap_or(Code::Internal));
        let payload = reply.payload.to_vec();
        let Some(caller) = self.caller else { return Ok(Answer { payload, error, proven: None }) };
        let Some(receipt) = header(PROOF_HEADER).map(|text| text.as_str().to_owned()) else {
            let text = String::from_utf8_lossy(&payload);
            let message = wire::shown(&text, MOST_UNSIGNED_CHARACTERS, false);
            return Err(match error.filter(|code| code.may_be_unsigned()) {
                Some(code) => RequestFault::UnsignedError { code, message },
                None => RequestFault::Unsigned,
            });
        };
        let (nkey, form) = (&caller.service_nkey, Form::wanted(self.asking.json));
        let answered = proof::read_reply(&receipt, nkey, self.proof, self.script, &payload, form)?;
        // What was signed counts, not the header beside it.
        let error = match answered.st.as_str() {
            "ok" => None,
            word => Some(Code::from_word(word).unwrap_or(Code::Internal)),
        };
        let clock_ahead = Some(answered.iat.cast_signed().saturating_sub(now().cast_signed()));
        Ok(Answer { payload, error, proven: Some(Proven { answered, receipt, clock_ahead }) })
    }
}

/// The `Crypto-Proof` header by which a caller may have this script run once, within half a minute.
///
/// # Errors
/// [`RequestFault::Failed`] where there are no random numbers.
pub fn prove(caller: &Caller, script: &[u8], idem: bool) -> Result<String, RequestFault> {
    let mut jti = [0_u8; 16];
    getrandom::fill(&mut jti).map_err(|error| RequestFault::Failed(error.to_string()))?;
    let jti = data_encoding::HEXLOWER.encode(&jti);
    let to = Addressee { aud: &caller.service, nkey: &caller.service_nkey };
    Ok(proof::write_request(&caller.identity, to, now(), &jti, script, Terms { idem }))
}

/// Unix seconds.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
