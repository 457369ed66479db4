//! Nobody can keep others from the service by sending much: neither who does not sign, nor who pretends to, nor a client.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::{Client, HeaderMap};
use proof::Identity;
use tokio::task::JoinHandle;

use crate::support::*;

const LIMITS: &str =
    "[limits]\nconcurrent = 2\nwall_clock = \"200 ms\"\noperations = 1_000_000_000_000\n";

/// That many callers who each have one request under way all the time, with such headers.
fn flood(
    client: &Client,
    callers: usize,
    headers: impl Fn() -> HeaderMap + Send + Sync + 'static,
) -> Vec<JoinHandle<()>> {
    let headers = Arc::new(headers);
    let caller = |_| {
        let (client, headers) = (client.clone(), Arc::clone(&headers));
        tokio::spawn(async move {
            loop {
                ask(&client, "loop {}", headers()).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
    };
    (0..callers).map(caller).collect()
}

/// How long ten good requests take, one after the other, in such a flood. Who is told `busy` asks again.
async fn ten_requests(client: &Client, service: &Service, who: &Identity) -> Duration {
    tokio::time::sleep(Duration::from_millis(500)).await;
    let started = Instant::now();
    for _ in 0..10 {
        loop {
            let proof = prove(service, who, b"40 + 2");
            let reply = ask(client, "40 + 2", proof_header(&proof)).await;
            match reply.error.as_deref() {
                None => break assert_eq!(reply.text, "42"),
                Some(error) => assert_eq!(error, "busy"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    started.elapsed()
}

/// A service, and Alice, whom it knows.
fn service(nats: &Nats, more: &str) -> (Service, Identity) {
    let alice = Identity::generate();
    let policy = format!("{LIMITS}{}{more}{OPEN_TO_ANYBODY}", client_entry("alice", &alice, "all"));
    let service = Service::start(nats, &policy);
    service.await_proofs();
    (service, alice)
}

// In one line, each of the ten would wait for thirty scripts of 200 ms in two lanes.
const LONG: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_unsigned_scripts_leaves_room_for_who_signs() {
    let nats = Nats::plain();
    let (service, alice) = service(&nats, "");
    let client = nats.client().await;
    // More than the service holds at once.
    let flood = flood(&client, 200, HeaderMap::new);
    let took = ten_requests(&client, &service, &alice).await;
    assert!(took < LONG, "ten signed requests took {took:?}");
    flood.iter().for_each(JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_proofs_by_nobody_takes_no_turns_of_who_signs() {
    let nats = Nats::plain();
    let (service, alice) = service(&nats, "");
    let client = nats.client().await;
    let scripts = flood(&client, 40, HeaderMap::new);
    let garbage = flood(&client, 80, || proof_header("garbage"));
    let stranger = prove(&service, &Identity::generate(), b"loop {}");
    let strangers = flood(&client, 80, move || proof_header(&stranger));
    let took = ten_requests(&client, &service, &alice).await;
    assert!(took < LONG, "ten signed requests took {took:?}");
    scripts.iter().chain(&garbage).chain(&strangers).for_each(JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_client_that_floods_takes_no_places_of_another() {
    let nats = Nats::plain();
    let mallory = Identity::generate();
    let (service, alice) = service(&nats, &client_entry("mallory", &mallory, "all"));
    let client = nats.client().await;
    let to = (service.nkey.clone(), mallory);
    let flood = flood(&client, 200, move || {
        let to = (proof::Addressee { aud: SERVICE, nkey: &to.0 }, &to.1);
        let terms = proof::Terms::default();
        proof_header(&proof::write_request(to.1, to.0, now(), &jti(), b"loop {}", terms))
    });
    let took = ten_requests(&client, &service, &alice).await;
    assert!(took < LONG, "ten requests of another client took {took:?}");
    flood.iter().for_each(JoinHandle::abort);
}
