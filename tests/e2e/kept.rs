//! `isolation = "client"`: a process is kept for one client, and forgets each of its scripts.

use std::time::{Duration, Instant};

use proof::Identity;

use crate::canary::memory_holds;
use crate::support::*;

const LIMITS: &str =
    "[limits]\nwall_clock = \"2 s\"\noperations = 1_000_000_000_000\nconcurrent = 4\n";

fn policy(alice: &Identity, bob: &Identity) -> String {
    let clients = client_entry("alice", alice, "all") + &client_entry("bob", bob, "all");
    format!("{LIMITS}[sandbox]\nisolation = \"client\"\n{clients}{OPEN_TO_ANYBODY}")
}

fn kept(service: &Service) -> Vec<u32> {
    script_processes_below(service.process.pid())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_process_serves_one_client_and_remembers_nothing() {
    let nats = Nats::plain();
    let (alice, bob) = (Identity::generate(), Identity::generate());
    let service = Service::start(&nats, &policy(&alice, &bob));
    service.await_proofs();
    let client = nats.client().await;
    // The marker is built at run time and put where values can be: strings, names, maps, closures.
    let marker = format!("marker-{}", jti());
    let half = marker.len() / 2;
    let hide = format!(
        "let m = \"{}\" + \"{}\"; let l = [m, #{{ a: m }}, || m]; l.push(m + m); m.pad(100000, \"{}\"); print(l[0].len()); l.len()",
        &marker[..half],
        &marker[half..],
        marker
    );
    for _ in 0..3 {
        assert_eq!(ask_signed(&client, &service, &alice, &hide).await.text, "4");
    }
    let [first] = kept(&service)[..] else { panic!("{:?}", kept(&service)) };
    let needles = [marker.clone().into_bytes(), marker.as_bytes()[..half].to_vec()];
    wait_until("its memory is put back", || (!memory_holds(first, &needles)).then_some(()));
    // State that a script could leave in the engine is gone as well.
    let leave = "fn leftover() { 1 } let leftover = 2; leftover()";
    assert_eq!(ask_signed(&client, &service, &alice, leave).await.text, "1");
    let look = "let seen = is_def_fn(\"leftover\", 0) || is_def_var(\"leftover\"); \
                try { leftover(); seen = true; } catch {} seen";
    assert_eq!(ask_signed(&client, &service, &alice, look).await.text, "false");
    assert_eq!(kept(&service), [first], "the same process served all of them");

    assert_eq!(ask_signed(&client, &service, &bob, "40 + 2").await.text, "42");
    let both = kept(&service);
    assert!(both.len() == 2 && both.contains(&first), "{both:?}");
    // Nobody in particular never meets a process that somebody used.
    assert_eq!(ask_plainly(&client, "40 + 2").await.text, "42");
    wait_until("anonymous scripts leave no process", || (kept(&service) == both).then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_is_kept_only_where_the_policy_says_so() {
    let nats = Nats::plain();
    let (alice, bob) = (Identity::generate(), Identity::generate());
    let fresh = policy(&alice, &bob).replace("\"client\"", "\"script\"");
    let service = Service::start(&nats, &fresh);
    service.await_proofs();
    let client = nats.client().await;
    assert_eq!(ask_signed(&client, &service, &alice, "40 + 2").await.text, "42");
    let answered = Instant::now();
    wait_until("it is gone", || kept(&service).is_empty().then_some(()));
    assert!(answered.elapsed() < Duration::from_secs(5), "one that is kept stays for ten");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_process_is_replaced_after_any_abnormal_end_and_after_its_share() {
    let nats = Nats::plain();
    let (alice, bob) = (Identity::generate(), Identity::generate());
    let service = Service::start(&nats, &policy(&alice, &bob));
    service.await_proofs();
    let client = nats.client().await;
    let mut seen = Vec::new();
    for (script, code) in [
        ("let a = []; loop { a.push(\"0123456789\"); }", "limit-memory"),
        ("loop {}", "limit-time"),
        ("let r = 1; let h = || r; r = h; #{ r: r }.to_json()", "limit-depth"),
        (
            "[3, 1, 2, 5, 4, 9, 8, 7, 6, 0, 11, 13, 12, 19, 15, 14, 18, 17, 16, 21, 20, 23].sort(|a, b| 1)",
            "",
        ),
    ] {
        assert_eq!(ask_signed(&client, &service, &alice, "40 + 2").await.text, "42");
        let now = kept(&service);
        assert!(now.len() == 1 && !seen.contains(&now[0]), "{now:?} was there before");
        seen.extend(now);
        let reply = ask_signed(&client, &service, &alice, script).await;
        if !code.is_empty() {
            assert_eq!(reply.error.as_deref(), Some(code), "{script}: {}", reply.text);
            wait_until("it is gone", || (!is_alive(*seen.last().unwrap())).then_some(()));
        } else if kept(&service) == seen[seen.len() - 1..] {
            seen.pop();
        }
    }
    // After two hundred scripts it is another.
    let before = kept(&service);
    for _ in 0..201 {
        assert_eq!(ask_signed(&client, &service, &alice, "40 + 2").await.text, "42");
    }
    assert_ne!(kept(&service), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_process_whose_client_sends_nothing_is_ended() {
    let nats = Nats::plain();
    let (alice, bob) = (Identity::generate(), Identity::generate());
    let service = Service::start(&nats, &policy(&alice, &bob));
    service.await_proofs();
    let client = nats.client().await;
    assert_eq!(ask_signed(&client, &service, &alice, "40 + 2").await.text, "42");
    let answered = Instant::now();
    let one = kept(&service);
    assert_eq!(one.len(), 1);
    tokio::time::sleep(Duration::from_secs(8)).await;
    // A test that was kept waiting itself cannot tell.
    if answered.elapsed() < Duration::from_millis(9_500) {
        assert_eq!(kept(&service), one, "it stays for ten seconds");
    }
    wait_until("it is gone", || kept(&service).is_empty().then_some(()));
    assert!(answered.elapsed() < Duration::from_secs(15), "{:?}", answered.elapsed());
    assert_eq!(ask_signed(&client, &service, &alice, "40 + 2").await.text, "42");
}

/// The region for scripts opens by the size of each, and closes again.
#[tokio::test(flavor = "multi_thread")]
async fn large_and_small_scripts_of_one_client_take_turns() {
    let nats = Nats::plain();
    let (alice, bob) = (Identity::generate(), Identity::generate());
    let policy = policy(&alice, &bob).replacen("[limits]", "[limits]\nscript = \"1 MiB\"", 1);
    let service = Service::start(&nats, &policy);
    service.await_proofs();
    let client = nats.client().await;
    let large = |bytes: usize| format!("//{}\n40 + 2", "x".repeat(bytes));
    for bytes in [10, 300_000, 10, 1_000_000, 0, 600_000, 600_000, 5] {
        let reply = ask_signed(&client, &service, &alice, &large(bytes)).await;
        assert_eq!((reply.error.as_deref(), reply.text.as_str()), (None, "42"), "{bytes}");
    }
}
