//! Those who do not sign cannot keep those who do from the service.

use std::time::{Duration, Instant};

use proof::Identity;

use crate::support::*;

const LIMITS: &str =
    "[limits]\nconcurrent = 2\nwall_clock = \"200 ms\"\noperations = 1_000_000_000_000\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_unsigned_scripts_leaves_room_for_who_signs() {
    let nats = Nats::plain();
    let alice = Identity::generate();
    let policy = format!("{LIMITS}{}{OPEN_TO_ANYBODY}", client_entry("alice", &alice, "all"));
    let service = Service::start(&nats, &policy);
    service.await_proofs();
    let client = nats.client().await;
    // More than the service holds at once.
    let flood: Vec<tokio::task::JoinHandle<()>> = (0..80)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                loop {
                    ask_plainly(&client, "loop {}").await;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let started = Instant::now();
    for _ in 0..10 {
        let reply = ask_signed(&client, &service, &alice, "40 + 2").await;
        assert_eq!((reply.error.as_deref(), reply.text.as_str()), (None, "42"));
    }
    // In one line each would wait for thirty scripts of 200 ms in two lanes.
    let took = started.elapsed();
    assert!(took < Duration::from_secs(10), "ten signed requests took {took:?}");
    flood.iter().for_each(tokio::task::JoinHandle::abort);
}
