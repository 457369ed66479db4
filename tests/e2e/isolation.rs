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
        "Fn(\"sign\").curry(\"m\").call(\"alice/k\")",
        "call(Fn(\"si\" + \"gn\"), \"m\", \"alice/k\")",
        "\"m\".sign(\"alice/k\")",
        "let l = [\"m\", \"n\"]; l.sort(|a, b| { sign(a, \"alice/k\"); 0 }); l",
        "#{ f: |m| sign(m, \"alice/k\") }.f.call(\"m\")",
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
    assert_eq!(refused, 17, "every refusal is recorded");
    // Who may not know whether there is a key does not learn it from the answer.
    let [there, nowhere] =
        [ask(&bob, "sign(\"m\", \"alice/k\")").await, ask(&bob, "sign(\"m\", \"alice/n\")").await];
    assert_eq!(there.text.replace("alice/k", "alice/n"), nowhere.text);
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

#[tokio::test(flavor = "multi_thread")]
async fn no_other_function_gives_what_one_is_denied() {
    let nats = Nats::plain();
    let policy = r#"
[anonymous]
roles = ["r"]
[[role]]
name = "r"
allow = [
  { calls = ["create_key_space", "create_keypair", "public_key", "delete_key_space", "delete_keypair"], keys = ["billing/*"] },
  { calls = ["sign"], keys = ["billing/*"], rate = ["20/1h"], message_max = "10 B" },
  { calls = ["list_key_spaces"], keys = ["billing"], rate = ["5/1h"] },
]
deny = [{ calls = ["sign", "delete_keypair"], keys = ["billing/root-*"] }]
"#;
    let service = Service::start(&nats, policy);
    let client = nats.client().await;
    let make = "create_key_space(\"billing\"); create_keypair(\"root-1\"); create_keypair(\"k\")";
    assert!(ask_plainly(&client, make).await.error.is_none());
    for (script, error) in [
        ("sign(\"m\", \"billing/root-1\")", "policy-denied"),
        ("select_keypair(\"billing/root-1\"); sign_all([\"m\"])", "policy-denied"),
        ("delete_keypair(\"billing/root-1\")", "policy-denied"),
        ("delete_key_space(\"billing\")", "policy-denied"),
        ("create_keypair(\"billing/root-2\"); sign_all([\"m\"])", "policy-denied"),
        ("create_keypair(\"billing/l\"); sign_all([\"m\", \"longer than ten\"])", "policy-denied"),
        (
            "create_keypair(\"billing/m\"); let a = []; a.pad(21, \"m\"); sign_all(a)",
            "rate-limited",
        ),
        ("for i in 0..6 { list_key_spaces(); }", "rate-limited"),
    ] {
        let reply = ask_plainly(&client, script).await;
        assert_eq!(reply.error.as_deref(), Some(error), "{script}: {}", reply.text);
    }
    let signed = |e: &&serde_json::Value| e["call"] == "sign" && e["decision"] == "allow";
    assert_eq!(service.audit().iter().filter(signed).count(), 20, "each signature has its record");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_is_selected_no_more_and_the_rest_is() {
    let nats = Nats::plain();
    let _service = Service::start(&nats, OPEN_TO_ANYBODY);
    let client = nats.client().await;
    let keys = "create_key_space(\"s\"); create_keypair(\"k\"); create_keypair(\"l\"); select_keypair(\"k\");";
    let spaces = "create_key_space(\"t\"); select_key_space(\"s\");";
    for (script, expected) in [
        ("delete_keypair(\"l\"); sign(\"m\").len()", "128"),
        ("delete_keypair(\"k\"); sign(\"m\")", "no key is selected"),
        ("delete_keypair(\"k\"); list_keypairs()", "[\"l\"]"),
        (
            "create_key_space(\"t\"); select_keypair(\"s/k\"); delete_key_space(\"t\"); sign(\"m\").len()",
            "128",
        ),
        ("delete_key_space(\"s\"); sign(\"m\")", "no key is selected"),
        ("delete_key_space(\"s\"); list_keypairs()", "no key space is selected"),
        ("select_key_space(\"s\"); sign(\"m\")", "no key is selected"),
        (&format!("{spaces} delete_key_space(\"t\"); list_keypairs().len()"), "2"),
    ] {
        // Nothing is kept: each begins anew.
        let script = format!("{keys} {script}");
        let failing = format!(
            "let r = (); try {{ r = {{ {script} }}; }} catch (e) {{ r = e; }} throw `${{r}}`"
        );
        let reply = ask_plainly(&client, &failing).await;
        assert!(reply.text.contains(expected), "{script}: {}", reply.text);
    }
}
