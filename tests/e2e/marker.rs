//! One script's data in no other script, and no other script's answer.

use std::time::{Duration, Instant};

use crate::canary::memory_holds;
use crate::support::*;

const SPIN: &str = "print(\"on\"); loop {}";

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_script_is_left_in_the_zygote_or_in_the_next_script() {
    let nats = Nats::plain();
    let limits = "[limits]\nwall_clock = \"2 s\"\noperations = 1_000_000_000_000\nconcurrent = 1\n";
    let service = Service::start(&nats, &format!("{limits}{OPEN_TO_ANYBODY}"));
    let client = nats.client().await;
    for (end, code) in [
        ("m.len()", None),
        ("throw m", Some("script-error")),
        ("loop { m += m; }", Some("limit-memory")),
        ("loop {}", Some("limit-time")),
        ("let r = 1; let h = || r; r = h; #{ r: r }.to_json()", Some("limit-depth")),
    ] {
        let marker = format!("marker-{}", jti());
        let (one, two) = marker.split_at(marker.len() / 2);
        let needles = [marker.clone().into_bytes()];
        let script = format!("let m = \"{one}\"; m += \"{two}\"; let l = [m, m + \"x\"]; {end}");
        // While it runs it is there: the search finds what there is to find.
        if code == Some("limit-time") && is_root() {
            let asker = client.clone();
            let script = script.clone();
            let running = tokio::spawn(async move { ask_plainly(&asker, &script).await });
            let process = worker_of(&service);
            wait_until("the marker is in its own script", || {
                memory_holds(process, &needles).then_some(())
            });
            running.await.unwrap();
            all_scripts_gone(&service);
        }
        let reply = ask_plainly(&client, &script).await;
        assert_eq!(reply.error.as_deref(), code, "{end}: {}", reply.text);
        all_scripts_gone(&service);
        let asker = client.clone();
        let next = tokio::spawn(async move { ask_plainly(&asker, SPIN).await });
        let process = worker_of(&service);
        let zygote = parent_of(process);
        assert!(!memory_holds(process, &needles), "the next script, after {end}");
        assert!(!memory_holds(zygote, &needles), "the zygote, after {end}");
        assert_eq!(next.await.unwrap().error.as_deref(), Some("limit-time"));
        all_scripts_gone(&service);
    }
}

fn all_scripts_gone(service: &Service) {
    wait_until("no script runs", || {
        script_processes_below(service.process.pid()).is_empty().then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_scripts_on_two_lanes_each_get_their_own_answer() {
    const EACH: usize = 5_000;
    let nats = Nats::plain();
    let service = Service::start(&nats, &format!("[limits]\nconcurrent = 2\n{OPEN_TO_ANYBODY}"));
    let pid = service.process.pid();
    let client = nats.client().await;
    let requester = |name: &'static str| {
        let client = client.clone();
        async move {
            for number in 0..EACH {
                let marker = format!("{name}-{number}");
                let script = format!("let m = \"{name}\" + `-${{{number}}}`; print(m); m");
                let reply = ask_plainly(&client, &script).await;
                assert_eq!(reply.text, marker, "{:?}", reply.error);
            }
        }
    };
    // Both lanes and what each thread makes on first use are there.
    tokio::join!(requester_warm(&client, 100), requester_warm(&client, 100));
    let counts = || {
        let descriptors = if is_root() {
            std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
        } else {
            status_of(pid, "FDSize").unwrap().parse().unwrap()
        };
        (descriptors, descendants(pid).len())
    };
    // Two of the scripts' processes may still be on their way out, and what ended lanes with them.
    let settled =
        || wait_until("scripts are left", || script_processes_below(pid).is_empty().then(counts));
    let before = settled();
    let (one, two) = (tokio::spawn(requester("one")), tokio::spawn(requester("two")));
    one.await.unwrap();
    two.await.unwrap();
    let patience = Instant::now() + Duration::from_secs(5);
    let mut after = settled();
    while (after.0 > before.0 || after.1 > before.1) && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(20));
        after = counts();
    }
    assert!(after.0 <= before.0 && after.1 <= before.1, "before {before:?}, after {after:?}");
}

async fn requester_warm(client: &async_nats::Client, count: usize) {
    for _ in 0..count {
        assert_eq!(ask_plainly(client, "40 + 2").await.text, "42");
    }
}
