//! kill -9 of each process at each phase: no process of ours is left behind.

use std::time::Duration;

use crate::support::*;

const POLICY: &str =
    "[limits]\nwall_clock = \"20 s\"\noperations = 1_000_000_000_000\nconcurrent = 2\n";

fn all_gone(pids: &[u32], what: &str) {
    wait_until(what, || pids.iter().all(|pid| !is_alive(*pid)).then_some(()));
}

/// The service's processes, with it standing still so that none is added meanwhile.
fn standing_still(service_pid: u32) -> Vec<u32> {
    signal(service_pid, "STOP");
    std::thread::sleep(Duration::from_millis(60));
    descendants(service_pid).into_iter().map(|(pid, _)| pid).collect()
}

#[test]
fn a_broker_that_is_killed_while_it_starts_leaves_nothing() {
    let nats = Nats::plain();
    let scratch = Scratch::new();
    let (home, _) = scratch.home();
    scratch.policy(&format!("{POLICY}{OPEN_TO_ANYBODY}"));
    for delay in [0, 2, 4, 8, 15, 30, 60, 120, 240, 400] {
        let mut service = Service::launch(&scratch, &home, &nats.url(), own());
        std::thread::sleep(Duration::from_millis(delay));
        let all = standing_still(service.pid());
        service.signal("KILL");
        service.ended();
        all_gone(&all, "everything that it had started is gone");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_at_work_leaves_nothing() {
    let nats = Nats::plain();
    for work in [None, Some("loop {}"), Some("loop { hash(\"sha256\", \"x\"); }")] {
        let mut service = Service::start(&nats, &format!("{POLICY}{OPEN_TO_ANYBODY}"));
        let client = nats.client().await;
        assert_eq!(ask_plainly(&client, "40 + 2").await.text, "42");
        if let Some(script) = work {
            let asker = client.clone();
            tokio::spawn(async move { asker.request(SUBJECT, script.into()).await });
            worker_of(&service);
        }
        let all = standing_still(service.process.pid());
        assert!(all.len() >= 4, "{all:?}");
        service.crash();
        all_gone(&all, "everything that it had started is gone");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_its_launcher_ends_and_says_so() {
    let nats = Nats::plain();
    let mut service = Service::start(&nats, &format!("{POLICY}{OPEN_TO_ANYBODY}"));
    let client = nats.client().await;
    tokio::spawn(async move { client.request(SUBJECT, "loop {}".into()).await });
    worker_of(&service);
    let all: Vec<u32> =
        descendants(service.process.pid()).into_iter().map(|(pid, _)| pid).collect();
    signal(parent_of(listener_of(&service)), "KILL");
    assert!(!service.process.ended().success());
    all_gone(&all, "everything is gone");
    assert!(service.log().contains("the launcher is gone"), "{}", service.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_zygote_or_reaper_costs_its_own_request_and_no_other() {
    let nats = Nats::plain();
    let service = Service::start(&nats, &format!("{POLICY}{OPEN_TO_ANYBODY}"));
    let client = nats.client().await;
    for is_reaper in [false, true] {
        let last = || script_process_below(service.process.pid());
        wait_until("the last script's process is gone", || last().is_none().then_some(()));
        // At work.
        let asker = client.clone();
        let running = tokio::spawn(async move { ask_plainly(&asker, "loop {}").await });
        let script = worker_of(&service);
        let zygote = parent_of(script);
        let reaper = parent_of(zygote);
        signal(if is_reaper { reaper } else { zygote }, "KILL");
        let reply = running.await.unwrap();
        assert_eq!(reply.error.as_deref(), Some("internal"), "{}", reply.text);
        all_gone(&[script, zygote, reaper], "the whole lane is gone");
        assert_eq!(ask_plainly(&client, "40 + 2").await.text, "42");
        // Idle.
        let listener = listener_of(&service);
        let idle: Vec<u32> = descendants(service.process.pid())
            .into_iter()
            .map(|(pid, _)| pid)
            .filter(|pid| *pid != listener && *pid != parent_of(listener))
            .collect();
        for pid in &idle {
            // Its parent's end may have taken it along.
            let _sent =
                std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).output();
        }
        all_gone(&idle, "the idle lanes are gone");
        assert_eq!(ask_plainly(&client, "40 + 2").await.text, "42");
    }
}
