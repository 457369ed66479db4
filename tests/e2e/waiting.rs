//! Requests that wait: what was good when they came may no longer be when their turn comes.

use std::time::Duration;

use async_nats::Client;
use proof::Identity;
use tokio::task::JoinHandle;

use crate::support::*;

const ONE_AT_A_TIME: &str =
    "[limits]\nconcurrent = 1\nwall_clock = \"4 s\"\noperations = 1_000_000_000_000\n";

/// Keeps the one lane busy for four seconds.
async fn keep_busy(service: &Service, client: &Client) -> JoinHandle<Reply> {
    let client = client.clone();
    let running =
        tokio::spawn(
            async move { ask_plainly(&client, "create_key_space(\"busy\"); loop {}").await },
        );
    wait_until("the lane is busy", || (!service.audit().is_empty()).then_some(()));
    running
}

fn last_reason(service: &Service) -> String {
    service.audit().pop().unwrap()["reason"].to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_that_grows_too_old_while_it_waits_is_refused() {
    let (nats, alice) = (Nats::plain(), Identity::generate());
    let policy = client_entry("alice", &alice, "all") + OPEN_TO_ANYBODY;
    let service = Service::start(&nats, &format!("{ONE_AT_A_TIME}{policy}"));
    let client = nats.client().await;
    let busy = keep_busy(&service, &client).await;
    // In two seconds it is older than 30.
    let (to, terms) = (service.addressee(), proof::Terms::default());
    let proof = proof::write_request(&alice, to, now() - 28, &jti(), b"1", terms);
    let reply = ask(&client, "1", proof_header(&proof)).await;
    assert_eq!(reply.error.as_deref(), Some("busy"));
    let reason = last_reason(&service);
    assert!(reason.contains("seconds before the time here"), "{reason}");
    assert_eq!(busy.await.unwrap().error.as_deref(), Some("limit-time"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_revoked_while_its_request_waits_is_refused() {
    let (nats, alice) = (Nats::plain(), Identity::generate());
    let known = client_entry("alice", &alice, "all");
    let service = Service::start(&nats, &format!("{ONE_AT_A_TIME}{known}{OPEN_TO_ANYBODY}"));
    service.await_proofs();
    let client = nats.client().await;
    let busy = keep_busy(&service, &client).await;
    let proof = prove(&service, &alice, b"1");
    let waiting = {
        let client = client.clone();
        tokio::spawn(async move { ask(&client, "1", proof_header(&proof)).await })
    };
    tokio::time::sleep(Duration::from_millis(300)).await;
    service.scratch.policy(&format!("{ONE_AT_A_TIME}{known}revoked = true\n{OPEN_TO_ANYBODY}"));
    service.process.signal("HUP");
    wait_until("the policy is read", || service.log().contains("holds from now on").then_some(()));
    let reply = waiting.await.unwrap();
    assert_eq!(reply.error.as_deref(), Some("unauthenticated"));
    let reason = last_reason(&service);
    assert!(reason.contains("is no client of the policy"), "{reason}");
    assert_eq!(busy.await.unwrap().error.as_deref(), Some("limit-time"));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_a_listener_that_is_gone_hold_no_places() {
    let (nats, alice) = (Nats::plain(), Identity::generate());
    let policy = client_entry("alice", &alice, "all") + OPEN_TO_ANYBODY;
    let service = Service::start(&nats, &format!("{ONE_AT_A_TIME}{policy}"));
    service.await_proofs();
    let client = nats.client().await;
    let busy = keep_busy(&service, &client).await;
    // More than there are places.
    for _ in 0..40 {
        let header = proof_header(&prove(&service, &alice, b"1"));
        let inbox = client.new_inbox();
        client.publish_with_reply_and_headers(SUBJECT, inbox, header, "1".into()).await.unwrap();
    }
    client.flush().await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    signal(listener_of(&service), "KILL");
    wait_until("another listener serves", || {
        (service.log().matches("serves `").count() == 2).then_some(())
    });
    assert!(!busy.is_finished(), "the lane is still busy");
    let proof = prove(&service, &alice, b"40 + 2");
    let reply = ask(&client, "40 + 2", proof_header(&proof)).await;
    assert_eq!((reply.error.as_deref(), reply.text.as_str()), (None, "42"));
    busy.abort();
}
