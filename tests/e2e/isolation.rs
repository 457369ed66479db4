//! One caller's keys are not another's.

use proof::Identity;

use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn two_clients_do_not_see_or_use_each_others_key_spaces() {
    let nats = Nats::plain();
    let (alice, bob, both) = (Identity::generate(), Identity::generate(), Identity::generate());
    let role = |name: &str, keys: &str| {
        format!("[[role]]\nname = \"{name}\"\nallow = [{{ calls = [\"*\"], keys = [{keys}] }}]\n")
    };
    let policy = [
        client_entry("alice", &alice, "alice"),
        client_entry("bob", &bob, "bob"),
        client_entry("both", &both, "both"),
        role("alice", "\"alice/*\""),
        role("bob", "\"bob-*/*\""),
        role("both", "\"alice/*\", \"bob-*/*\""),
    ]
    .concat();
    let service = Service::start(&nats, &policy);
    let client = nats.client().await;
    service.await_proofs();
    let ask = |who, script| ask_signed(&client, &service, who, script);
    let make = "create_key_space(\"alice\"); create_keypair(\"k\"); public_key()";
    let public = ask(&alice, make).await.text;
    assert_eq!(public.len(), 64);
    assert!(ask(&bob, "create_key_space(\"bob-1\"); create_keypair(\"k\")").await.error.is_none());
    for script in [
        "select_key_space(\"alice\")",
        "sign(\"m\", \"alice/k\")",
        "public_key(\"alice/k\")",
        "select_keypair(\"alice/k\")",
        "delete_keypair(\"alice/k\")",
        "delete_key_space(\"alice\")",
        "create_keypair(\"alice/new\")",
        "create_key_space(\"alice\")",
        // A refusal cannot be caught.
        "try { sign(\"m\", \"alice/k\") } catch { 1 }",
        "[1].map(|x| sign(\"m\", \"alice/k\")); 1",
        "let f = Fn(\"si\" + \"gn\"); try { f.call(\"m\", \"alice/k\") } catch {} 1",
        // No such key, and not permitted: the same answer.
        "sign(\"m\", \"alice/nothing\")",
    ] {
        let reply = ask(&bob, script).await;
        assert_eq!(reply.error.as_deref(), Some("policy-denied"), "{script}: {}", reply.text);
    }
    assert_eq!(ask(&alice, "list_key_spaces()").await.text, "[\"alice\"]");
    assert_eq!(ask(&bob, "list_key_spaces()").await.text, "[\"bob-1\"]");
    assert_eq!(ask(&both, "list_key_spaces()").await.text, "[\"alice\",\"bob-1\"]");
    let signature = ask(&both, "sign(\"m\", \"alice/k\")").await.text;
    assert!(verifies(&public, b"m", &signature), "the policy says that this one may");
    let refused = service.audit().iter().filter(|e| e["decision"] == "refuse").count();
    assert_eq!(refused, 12, "every refusal is recorded");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_script_selects_the_next_has_not_selected() {
    let nats = Nats::plain();
    let _service = Service::start(&nats, OPEN_TO_ANYBODY);
    let client = nats.client().await;
    ask_plainly(&client, "create_key_space(\"s\"); create_keypair(\"k\")").await;
    let reply = ask_plainly(&client, "sign(\"m\")").await;
    assert_eq!(reply.error.as_deref(), Some("script-error"));
    assert!(reply.text.contains("no key is selected"), "{}", reply.text);
}
