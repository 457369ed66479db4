//! Stopping, and too much at once.

use std::time::{Duration, Instant};

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
    tokio::time::sleep(Duration::from_millis(300)).await;
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
    let limits =
        "[limits]\nwall_clock = \"10 s\"\noperations = 1_000_000_000_000\nconcurrent = 1\n";
    let service = Service::start(&nats, &format!("{limits}{OPEN_TO_ANYBODY}"));
    let client = nats.client().await;
    let spin = "let i = 0; loop { i += 1; if i > 200000 { break; } } 1";
    let all = (0..60).map(|_| ask_plainly(&client, spin));
    let replies = futures_util::future::join_all(all).await;
    let busy = |reply: &&Reply| reply.error.as_deref() == Some("busy");
    let refused = replies.iter().filter(busy).count();
    let served = replies.iter().filter(|reply| reply.error.is_none()).count();
    // One runs and at least sixteen wait: unsigned ones hold half of the listener's places.
    assert_eq!(refused + served, 60, "{replies:?}");
    assert!(served >= 17 && refused >= 20, "{served} served, {refused} refused");
    assert_eq!(ask_plainly(&client, "40 + 2").await.text, "42");
    drop(service);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_at_a_stop_was_not_done() {
    let nats = Nats::plain();
    let limits = "[limits]\nwall_clock = \"6 s\"\noperations = 1_000_000_000_000\nconcurrent = 1\n";
    let mut service = Service::start(&nats, &format!("{limits}{OPEN_TO_ANYBODY}"));
    let client = nats.client().await;
    // Longer together than the time that is given to those who wait.
    let script = |n| format!("create_key_space(\"s{n}\"); let i = 0; loop {{ i += 1; }}");
    let asked: Vec<_> = (0..3)
        .map(|n| {
            let client = client.clone();
            tokio::spawn(async move {
                let request = async_nats::Request::new().payload(script(n).into());
                let request = request.timeout(Some(Duration::from_secs(60)));
                let reply = client.send_request(SUBJECT, request).await.unwrap();
                reply.headers.unwrap().get("Nats-Service-Error").unwrap().to_string()
            })
        })
        .collect();
    worker_of(&service);
    wait_until("the first runs", || (!service.audit().is_empty()).then_some(()));
    service.process.signal("TERM");
    let mut errors = Vec::new();
    for reply in asked {
        errors.push(reply.await.unwrap());
    }
    errors.sort();
    assert_eq!(errors, ["limit-time", "limit-time", "shutting-down"]);
    let status = tokio::task::spawn_blocking(move || service.process.ended());
    assert!(status.await.unwrap().success());
}

/// A listener that is not ours any more may do nothing at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_stands_still_keeps_a_service_from_its_end_for_as_long_as_its_work_may_take()
 {
    let nats = Nats::plain();
    let limits = "[limits]\nwall_clock = \"2 s\"\n";
    let mut service = Service::start(&nats, &format!("{limits}{OPEN_TO_ANYBODY}"));
    let children = descendants(service.process.pid());
    let listener = children.iter().find(|(_, command)| is_listener(command)).unwrap().0;
    signal(listener, "STOP");
    let begun = Instant::now();
    service.process.signal("TERM");
    assert!(service.process.ended().success(), "{}", service.log());
    // Ten seconds to begin what waits, the longest script, and ten to send its answer.
    let took = begun.elapsed();
    assert!((22_000..27_000).contains(&took.as_millis()), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_without_a_reply_subject_runs_nothing() {
    let nats = Nats::plain();
    let service = Service::start(&nats, OPEN_TO_ANYBODY);
    let client = nats.client().await;
    client.publish(SUBJECT, "create_key_space(\"s\")".into()).await.unwrap();
    client.flush().await.unwrap();
    assert_eq!(ask_plainly(&client, "list_key_spaces()").await.text, "[]");
    assert!(service.audit().iter().all(|entry| entry["call"] != "create_key_space"));
}
