//! A script is all or nothing, and what was acknowledged is on disk.

use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_fails_leaves_nothing_behind() {
    let nats = Nats::plain();
    let policy = format!("[limits]\nwall_clock = \"500 ms\"\nnew_keys = 4\n{OPEN_TO_ANYBODY}");
    let mut service = Service::start(&nats, &policy);
    let client = nats.client().await;
    let make =
        "create_key_space(\"s\"); create_keypair(\"a\"); create_keypair(\"b\"); sign(\"m\");";
    for (end, error) in [
        ("throw \"no\"", "script-error"),
        ("undefined_function()", "script-error"),
        ("loop {}", "limit-"),
        ("create_keypair(\"c\"); create_keypair(\"d\");", "limit-new-keys"),
        ("delete_key_space(\"not a name\")", "script-error"),
        ("let x = \"x\"; loop { x += x; }", "limit-memory"),
        ("0.0 / 0.0", "script-error"),
    ] {
        let reply = ask_plainly(&client, &format!("{make} {end}")).await;
        let got = reply.error.unwrap_or_default();
        assert!(got.starts_with(error), "{end}: {got} {}", reply.text);
        let seen = ask_plainly(&client, "list_key_spaces()").await;
        assert_eq!(seen.text, "[]", "after {end}");
    }
    service.crash();
    assert_eq!(service.stored_keys(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledged_key_survives_a_kill_right_after_the_reply() {
    let nats = Nats::plain();
    let mut service = Service::start(&nats, OPEN_TO_ANYBODY);
    let client = nats.client().await;
    let mut expected = Vec::new();
    for round in 0..10 {
        let make = format!(
            "create_key_space(\"s{round}\"); create_keypair(\"k\"); create_keypair(\"l\"); public_key()"
        );
        let public = ask_plainly(&client, &make).await;
        assert_eq!(public.error, None);
        service.crash();
        service.restart(&nats);
        expected.push((round, public.text));
        for (round, public) in &expected {
            let again = ask_plainly(&client, &format!("public_key(\"s{round}/l\")")).await;
            assert_eq!(again.text, *public, "key of round {round}");
        }
    }
    service.crash();
    let stored = service.stored_keys();
    assert_eq!(stored.lines().count(), 20, "{stored}");
    assert!(stored.starts_with("s0/k ed25519\ns0/l ed25519\ns1/k ed25519\n"), "{stored}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_scripts_that_race_for_one_name_are_told_apart() {
    let nats = Nats::plain();
    let mut service = Service::start(&nats, OPEN_TO_ANYBODY);
    let client = nats.client().await;
    let script = "create_key_space(\"s\"); create_keypair(\"k\"); public_key()";
    let all = (0..16).map(|_| ask_plainly(&client, script));
    let replies = futures_util::future::join_all(all).await;
    let made = |r: &&Reply| r.error.is_none() && r.text.len() == 64;
    let winners: Vec<_> = replies.iter().filter(made).collect();
    let conflicts = replies.iter().filter(|r| r.error.as_deref() == Some("conflict")).count();
    // Who came later found the space there: the script went on without a selected space.
    let late = replies.iter().filter(|r| r.error.as_deref() == Some("script-error")).count();
    assert_eq!((winners.len(), conflicts + late), (1, 15), "{replies:?}");
    let kept = ask_plainly(&client, "public_key(\"s/k\")").await;
    assert_eq!(kept.text, winners[0].text, "the winner's key is the one that is kept");
    service.crash();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_cannot_be_sent_keeps_nothing_and_harms_nobody() {
    let nats = Nats::start(Scratch::new(), "max_payload: 100KB\n");
    let limits = "[limits]\noutput = \"1 MiB\"\nresult = \"1 MiB\"\nwall_clock = \"10 s\"\n";
    let service = Service::start(&nats, &format!("{limits}{OPEN_TO_ANYBODY}"));
    let client = nats.client().await;
    let mut json = async_nats::HeaderMap::new();
    json.insert("Accept", "application/json");
    // Each control character takes six bytes in JSON.
    let long = "create_key_space(\"s\"); let t = \"\\x01\"; t.pad(1000000, \"\\x01\"); print(t); t";
    for headers in [async_nats::HeaderMap::new(), json.clone()] {
        let reply = ask(&client, long, headers).await;
        assert_eq!(reply.error.as_deref(), Some("limit-result"), "{}", reply.text);
        assert!(reply.proof.is_some(), "the broker says so itself");
    }
    let failing = "let t = \"\\x01\"; t.pad(1000000, \"\\x01\"); print(t); throw \"x\"";
    assert_eq!(ask(&client, failing, json).await.error.as_deref(), Some("script-error"));
    assert_eq!(ask_plainly(&client, "list_key_spaces()").await.text, "[]");
    assert_eq!(service.log().matches("serves `").count(), 1, "{}", service.log());
}
