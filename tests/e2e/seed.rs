//! The original interface, word for word: a plain NATS client and its script.

use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_plain_client_gets_a_signature_that_verifies() {
    let nats = Nats::plain();
    let service = Service::start(&nats, OPEN_TO_ANYBODY);
    let client = nats.client().await;
    let reply = client.request("crypto.scripts", SEED_SCRIPT.into()).await.unwrap();
    let signature = text(&reply.payload);
    assert_eq!(signature.len(), 128, "{signature}");
    assert!(signature.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
    let public = ask_plainly(&client, "public_key(\"remote_space/remote_keypair\")").await.text;
    assert!(verifies(&public, SEED_MESSAGE, &signature));
    assert!(!verifies(&public, b"Hello from elsewhere", &signature));
    assert!(service.log().contains("crypto.scripts"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_anonymous_an_unsigned_request_is_unauthenticated_and_nothing_runs() {
    let nats = Nats::plain();
    let mut service = Service::start(&nats, "");
    let client = nats.client().await;
    let reply = ask_plainly(&client, SEED_SCRIPT).await;
    assert_eq!(reply.error.as_deref(), Some("unauthenticated"));
    assert_eq!(reply.text, "unauthenticated: the request is not authenticated");
    let audit = service.audit();
    assert_eq!(audit.len(), 1, "{audit:?}");
    assert_eq!(audit[0]["status"], "unauthenticated");
    service.crash();
    assert_eq!(service.stored_keys(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_is_found_as_a_nats_micro_service() {
    let nats = Nats::plain();
    let _service = Service::start(&nats, OPEN_TO_ANYBODY);
    let client = nats.client().await;
    ask_plainly(&client, "1").await;
    for (verb, kind) in [("PING", "ping"), ("INFO", "info"), ("STATS", "stats")] {
        for subject in [format!("$SRV.{verb}"), format!("$SRV.{verb}.crypto-cli")] {
            let reply = client.request(subject, "".into()).await.unwrap();
            let reply: serde_json::Value = serde_json::from_slice(&reply.payload).unwrap();
            assert_eq!(reply["type"], format!("io.nats.micro.v1.{kind}_response"));
            assert_eq!(reply["name"], "crypto-cli");
            if kind != "ping" {
                assert_eq!(reply["endpoints"][0]["subject"], SUBJECT);
                assert_eq!(reply["endpoints"][0]["queue_group"], "crypto-cli");
            }
            if kind == "stats" {
                assert_eq!(reply["endpoints"][0]["num_requests"], 1);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_full_json_reply_is_there_for_the_asking() {
    let nats = Nats::plain();
    let _service = Service::start(&nats, OPEN_TO_ANYBODY);
    let client = nats.client().await;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Accept", "application/json");
    let reply = ask(&client, "print(\"p\"); #{a: [1, true]}", headers).await;
    let whole: serde_json::Value = serde_json::from_str(&reply.text).unwrap();
    assert_eq!(whole["schema"], 1);
    assert_eq!(whole["status"], "ok");
    assert_eq!(whole["result"], serde_json::json!({ "a": [1, true] }));
    assert_eq!(whole["output"], "p\n");
    assert!(whole["usage"]["operations"].as_u64().unwrap() > 0);
    assert!(whole["usage"]["wall_us"].as_u64().unwrap() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_original_command_line_is_enough() {
    let nats = Nats::plain();
    let scratch = Scratch::new();
    scratch.write("crypto-cli-passphrase", PASSPHRASE);
    let ours = || {
        let mut command = cli();
        command.env("HOME", scratch.path("")).env("CREDENTIALS_DIRECTORY", scratch.path(""));
        command
    };
    let made = ours().args(["init", "--yes"]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let policy = scratch.path(".local/share/crypto-cli/policy.toml");
    std::fs::rename(scratch.policy(OPEN_TO_ANYBODY), policy).unwrap();
    let mut listen = ours();
    listen.args(["listen", "--server", &nats.url(), "--subject", "crypto.scripts"]);
    let _service = Running::start(listen.stderr(std::process::Stdio::null()));
    let client = nats.client().await;
    let patience = std::time::Instant::now() + PATIENCE;
    let reply = loop {
        match client.request("crypto.scripts", SEED_SCRIPT.into()).await {
            Ok(reply) => break reply,
            Err(error) => assert!(std::time::Instant::now() < patience, "{error}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    let signature = text(&reply.payload);
    let public = ask_plainly(&client, "public_key(\"remote_space/remote_keypair\")").await.text;
    assert!(verifies(&public, SEED_MESSAGE, &signature));
}
