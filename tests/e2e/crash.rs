//! Processes that die: the others go on or go too.

use std::time::Duration;

use crate::support::*;

const SPIN: &str = "let i = 0; while i < 100000000 { i += 1; } i";

fn slow_policy() -> String {
    let limits =
        "[limits]\nwall_clock = \"20 s\"\noperations = 1_000_000_000_000\nconcurrent = 2\n";
    format!("{limits}{OPEN_TO_ANYBODY}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_costs_its_own_request_and_no_other() {
    let nats = Nats::plain();
    let service = Service::start(&nats, &slow_policy());
    let client = nats.client().await;
    let asker = client.clone();
    let spinning = tokio::spawn(async move { ask_plainly(&asker, SPIN).await });
    signal(worker_of(&service), "KILL");
    let reply = spinning.await.unwrap();
    assert_eq!(reply.error.as_deref(), Some("internal"), "{}", reply.text);
    assert_eq!(ask_plainly(&client, "40 + 2").await.text, "42");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_listener_is_replaced_and_no_request_is_answered_twice() {
    let nats = Nats::plain();
    let service = Service::start(&nats, &slow_policy());
    let client = nats.client().await;
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.unwrap();
    let slow = "let i = 0; while i < 3000000 { i += 1; } create_key_space(\"once\")";
    client.publish_with_reply(SUBJECT, inbox, slow.into()).await.unwrap();
    client.flush().await.unwrap();
    let first = listener_of(&service);
    worker_of(&service);
    signal(first, "KILL");
    let second = wait_until("another listener is there", || {
        let listeners = descendants(service.process.pid());
        let mut others = listeners.into_iter().filter(|(pid, c)| *pid != first && is_listener(c));
        others.next().map(|(pid, _)| pid)
    });
    assert_ne!(first, second);
    wait_until("it is subscribed", || {
        (service.log().matches("serves `").count() == 2).then_some(())
    });
    assert_eq!(ask_plainly(&client, "40 + 2").await.text, "42");
    // The script went on and ended; its answer was lost with the listener, and is not sent twice.
    wait_until("the script has ended", || {
        service.audit().iter().any(|e| e["call"] == "create_key_space").then_some(())
    });
    use futures_util::StreamExt;
    let mut count = 0;
    while let Ok(Some(_)) = tokio::time::timeout(Duration::from_millis(500), answers.next()).await {
        count += 1;
    }
    assert_eq!(count, 0, "the answer died with its listener");
    let runs = service.audit().iter().filter(|e| e["call"] == "create_key_space").count();
    assert_eq!(runs, 1, "it ran once");
    assert!(service.log().contains("the listener ended"), "{}", service.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_broker_is_killed_no_process_of_ours_remains() {
    let nats = Nats::plain();
    let mut service = Service::start(&nats, &slow_policy());
    let client = nats.client().await;
    let asker = client.clone();
    let _spinning = tokio::spawn(async move { asker.request(SUBJECT, SPIN.into()).await });
    let (listener, worker) = (listener_of(&service), worker_of(&service));
    service.crash();
    let crashed = std::time::Instant::now();
    wait_until("listener and worker are gone", || {
        (!is_alive(listener) && !is_alive(worker)).then_some(())
    });
    // The script alone would have gone on for longer than this.
    assert!(crashed.elapsed() < Duration::from_secs(3), "{:?}", crashed.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_nats_server_is_found_again() {
    let first = Nats::plain();
    let port = first.port;
    let service = Service::start(&first, OPEN_TO_ANYBODY);
    drop(first);
    wait_until("the loss is noticed", || service.log().contains("disconnected").then_some(()));
    let second = Nats::start(Scratch::new(), &format!("listen: \"127.0.0.1:{port}\"\n"));
    assert_eq!(second.port, port);
    let client = second.client().await;
    let patience = std::time::Instant::now() + PATIENCE;
    loop {
        match client.request(SUBJECT, "40 + 2".into()).await {
            Ok(reply) => break assert_eq!(reply.payload, "42"),
            Err(error) => assert!(std::time::Instant::now() < patience, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
