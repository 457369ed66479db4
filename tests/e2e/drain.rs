//! Stopping, and too much at once.

use std::time::Duration;

use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn on_sigterm_every_accepted_request_is_answered() {
    let nats = Nats::plain();
    let limits = "[limits]\nwall_clock = \"5 s\"\nconcurrent = 2\n";
    let mut service = Service::start(&nats, &format!("{limits}{OPEN_TO_ANYBODY}"));
    let client = nats.client().await;
    let slow = "let i = 0; while i < 150000 { i += 1; } i";
    let asked: Vec<_> = (0..12)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { ask_plainly(&client, slow).await })
        })
        .collect();
    worker_of(&service);
    // All twelve are with the service: it has handed twelve to its lanes or its queue.
    tokio::time::sleep(Duration::from_millis(100)).await;
    service.process.signal("TERM");
    for reply in futures_util::future::join_all(asked).await {
        let reply = reply.unwrap();
        assert_eq!((reply.error, reply.text.as_str()), (None, "150000"));
    }
    assert!(service.process.ended().success());
    let late = client.request(SUBJECT, "1".into()).await.unwrap_err();
    assert_eq!(late.kind(), async_nats::RequestErrorKind::NoResponders);
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_queue_the_answer_is_busy_and_comes_at_once() {
    let nats = Nats::plain();
    let limits = "[limits]\nwall_clock = \"1 s\"\noperations = 1_000_000_000\nconcurrent = 1\n";
    let service = Service::start(&nats, &format!("{limits}{OPEN_TO_ANYBODY}"));
    let client = nats.client().await;
    let spin = "let i = 0; loop { i += 1; if i > 200000 { break; } } 1";
    let all = (0..60).map(|_| ask_plainly(&client, spin));
    let replies = futures_util::future::join_all(all).await;
    let busy = |reply: &&Reply| reply.error.as_deref() == Some("busy");
    let refused = replies.iter().filter(busy).count();
    let served = replies.iter().filter(|reply| reply.error.is_none()).count();
    // One runs and sixteen wait, for each script that may run at once.
    assert_eq!(refused + served, 60, "{replies:?}");
    assert!(served >= 17 && refused >= 20, "{served} served, {refused} refused");
    assert_eq!(ask_plainly(&client, "40 + 2").await.text, "42");
    drop(service);
}
