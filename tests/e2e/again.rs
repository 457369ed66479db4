//! The same request again: what a caller that asks twice is told.

use std::time::Duration;

use async_nats::{Client, HeaderMap, Message};
use client::{Answer, Asking, Caller, RequestFault};
use futures_util::StreamExt;
use nkeys::KeyPair;
use proof::{Answered, Form, Identity};

use crate::support::*;

const SCRIPT: &str = "40 + 2";

/// A service that is a fake, and answers what a test has it answer.
struct Fake {
    key: KeyPair,
    client: Client,
}

impl Fake {
    /// Answers one message as a service does that answered a hundred seconds ago.
    async fn answer(&self, asked: &Message, st: &str, payload: &str) {
        let proof = asked.headers.as_ref().unwrap().get("Crypto-Proof").unwrap().as_str();
        let answered = Answered {
            req: proof::digest(proof.as_bytes()),
            bh: proof::digest(payload.as_bytes()),
            form: Form::Value,
            st: st.to_owned(),
            iat: now() - 100,
            script: proof::digest(SCRIPT.as_bytes()),
            policy: String::new(),
            caller: String::new(),
            keys: Vec::new(),
            key_count: 0,
            audit: None,
        };
        let sign = |bytes: &[u8]| self.key.sign(bytes).unwrap().try_into().unwrap();
        let signed = proof::write_reply(&self.key.public_key(), &answered, sign);
        let (to, headers): (_, HeaderMap) = (asked.reply.clone().unwrap(), proof_header(&signed));
        self.client.publish_with_headers(to, headers, payload.to_owned().into()).await.unwrap();
        self.client.flush().await.unwrap();
    }
}

/// What a caller is told who asks again for eight seconds, when two of its messages are answered so.
async fn told(
    answers: impl AsyncFnOnce(&Fake, [Message; 2]) + Send + 'static,
) -> Result<Answer, RequestFault> {
    let nats = Nats::plain();
    let fake = Fake { key: KeyPair::new_server(), client: nats.client().await };
    let caller = Caller {
        identity: Identity::generate(),
        service: SERVICE.to_owned(),
        service_nkey: fake.key.public_key(),
    };
    let mut requests = fake.client.subscribe(SUBJECT).await.unwrap();
    fake.client.flush().await.unwrap();
    let asking = Asking { json: false, again: true, patience: Duration::from_secs(8) };
    let own = nats.client().await;
    let asked = client::request(&own, SUBJECT, SCRIPT.as_bytes(), Some(&caller), asking);
    let serving = async {
        let (first, second) = (requests.next().await.unwrap(), requests.next().await.unwrap());
        answers(&fake, [first, second]).await;
        std::future::pending().await
    };
    tokio::select! { answer = asked => answer, never = serving => never }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_to_a_long_script_is_heard_though_it_was_asked_for_again() {
    let answer = told(async |fake, [first, second]| {
        fake.answer(&second, "busy", "busy: this very request is being executed").await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        fake.answer(&first, "ok", "42").await;
    });
    let answer = answer.await.unwrap();
    assert_eq!((answer.error, answer.payload.as_slice()), (None, &b"42"[..]));
    // It may be an answer that was given before: its time says nothing of the service's clock.
    assert_eq!(answer.proven.unwrap().clock_ahead, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_being_executed_to_the_end_is_not_reported_as_refused() {
    let answer = told(async |fake, [_, second]| {
        fake.answer(&second, "busy", "busy: this very request is being executed").await;
    });
    let fault = answer.await.unwrap_err();
    assert!(matches!(fault, RequestFault::TimedOut { .. }), "{fault}");
    let text = fault.to_string();
    assert!(text.contains("within 8000 ms") && text.contains("is not known"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_try_that_is_refused_does_not_hide_what_came_of_the_first() {
    for refusal in ["replayed", "unauthenticated", "shutting-down"] {
        let answer = told(async move |fake, [first, second]| {
            fake.answer(&second, refusal, refusal).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
            fake.answer(&first, "ok", "42").await;
        });
        let answer = answer.await.unwrap();
        assert_eq!((answer.error, answer.payload.as_slice()), (None, &b"42"[..]), "{refusal}");
        let answer = told(async move |fake, [_, second]| {
            fake.answer(&second, refusal, refusal).await;
        });
        assert!(matches!(answer.await, Err(RequestFault::TimedOut { .. })), "{refusal}");
    }
}

/// As a listener says that lost its broker, which may be executing the script; or anybody, for nobody signs it.
#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_that_is_not_known_is_asked_for_again() {
    let lost = async |fake: &Fake, asked: &Message| {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Service-Error", "internal");
        let (to, text) = (asked.reply.clone().unwrap(), "internal: the outcome is not known");
        fake.client.publish_with_headers(to, headers, text.into()).await.unwrap();
        fake.client.flush().await.unwrap();
    };
    let answer = told(async move |fake, [first, second]| {
        lost(fake, &first).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        fake.answer(&second, "ok", "42").await;
    });
    assert_eq!(answer.await.unwrap().payload, b"42");
    let answer = told(async move |fake, [first, second]| {
        lost(fake, &first).await;
        fake.answer(&second, "busy", "busy: later").await;
    });
    let fault = answer.await.unwrap_err();
    let is_told = matches!(&fault, RequestFault::UnsignedError { code: wire::Code::Internal, .. });
    assert!(is_told, "{fault}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_every_time_found_no_place_is_reported_as_that() {
    let answer = told(async |fake, [first, second]| {
        fake.answer(&first, "busy", "busy: later").await;
        fake.answer(&second, "busy", "busy: later").await;
        let mut more = fake.client.subscribe(SUBJECT).await.unwrap();
        fake.client.flush().await.unwrap();
        while let Ok(Some(asked)) = tokio::time::timeout(Duration::from_secs(3), more.next()).await
        {
            fake.answer(&asked, "busy", "busy: later").await;
        }
    });
    assert_eq!(answer.await.unwrap().error, Some(wire::Code::Busy));
}
