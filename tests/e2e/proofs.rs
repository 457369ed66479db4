//! Requests that claim to be somebody's and are not: refused, by one public code, and nothing ran.

use async_nats::HeaderMap;
use proof::Identity;

use crate::support::*;

const ROLE: &str = "[[role]]\nname = \"r\"\nallow = [{ calls = [\"*\"], keys = [\"*/*\"] }]\n";
const VALUE: proof::Form = proof::Form::Value;
const MAKE: &str = "create_key_space(\"made\")";

#[tokio::test(flavor = "multi_thread")]
async fn every_forged_or_stale_proof_is_refused_and_nothing_runs() {
    let nats = Nats::plain();
    let (known, stranger) = (Identity::generate(), Identity::generate());
    let mut service = Service::start(&nats, &format!("{}{ROLE}", client_entry("me", &known, "r")));
    let client = nats.client().await;
    service.await_proofs();
    let body = MAKE.as_bytes();
    let make = |who, aud: &str, iat, body: &[u8]| {
        let to = proof::Addressee { aud, nkey: &service.nkey };
        proof::write_request(who, to, iat, &jti(), body, proof::Terms::default())
    };
    let namesake = nkeys::KeyPair::new_server().public_key();
    let to = proof::Addressee { aud: SERVICE, nkey: &namesake };
    let misled = proof::write_request(&known, to, now(), &jti(), body, proof::Terms::default());
    let good = prove(&service, &known, body);
    let twice = {
        let mut headers = proof_header(&good);
        headers.append("Crypto-Proof", good.as_str());
        headers
    };
    let twin = {
        let mut headers = proof_header(&good);
        headers.insert("crypto-proof", good.as_str());
        headers
    };
    let lower = {
        let mut headers = HeaderMap::new();
        headers.insert("crypto-proof", good.as_str());
        headers
    };
    let with = |proof: String| proof_header(&proof);
    let cases = [
        ("no proof", HeaderMap::new()),
        ("tampered body", with(prove(&service, &known, b"create_key_space(\"other\")"))),
        ("stranger", with(prove(&service, &stranger, body))),
        ("another service of the same name", with(misled)),
        ("other audience", with(make(&known, "another.service", now(), body))),
        ("old", with(make(&known, SERVICE, now() - 40, body))),
        ("future", with(make(&known, SERVICE, now() + 40, body))),
        ("repeated header", twice),
        ("case twin", twin),
        ("lower case", lower),
        ("too long", with("x".repeat(3000))),
        ("garbage", with("a.b.c".to_owned())),
        ("empty", with(String::new())),
        ("cut", with(good[..good.len() - 2].to_owned())),
    ];
    for (name, headers) in cases {
        let reply = ask(&client, MAKE, headers).await;
        assert_eq!(reply.error.as_deref(), Some("unauthenticated"), "{name}");
        assert_eq!(reply.text, "unauthenticated: the request is not authenticated", "{name}");
    }
    assert!(service.audit().iter().all(|entry| entry["status"] == "unauthenticated"));
    assert!(ask(&client, MAKE, with(good)).await.error.is_none(), "the good one is good");
    let reasons: Vec<String> = service.audit().iter().map(|e| e["reason"].to_string()).collect();
    assert!(reasons.iter().any(|reason| reason.contains("another service")), "{reasons:?}");
    service.crash();
    assert!(service.stored_keys().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_proof_is_executed_once_however_often_it_comes() {
    let nats = Nats::plain();
    let known = Identity::generate();
    let mut service = Service::start(&nats, &format!("{}{ROLE}", client_entry("me", &known, "r")));
    let client = nats.client().await;
    service.await_proofs();
    let proof = prove(&service, &known, b"7");
    let all = (0..100).map(|_| ask(&client, "7", proof_header(&proof)));
    let mut replies = futures_util::future::join_all(all).await;
    // One that waits already is not looked at, so nobody signs that.
    let total = replies.len();
    replies.retain(|reply| reply.proof.is_some() || reply.error.as_deref() != Some("busy"));
    let crowded_out = total - replies.len();
    replies.push(ask(&client, "7", proof_header(&proof)).await);
    let ran = replies.iter().filter(|reply| reply.error.is_none()).count();
    let replayed = |reply: &&Reply| reply.error.as_deref() == Some("replayed");
    assert_eq!(ran, 1);
    assert_eq!(replies.iter().filter(replayed).count(), 100 - crowded_out);
    // Whoever proved to be the client is told so, whatever came of it; the others are not.
    let caller = |reply: &Reply| {
        let receipt = reply.proof.as_deref().unwrap();
        proof::read_receipt(receipt, &service.nkey).unwrap().caller
    };
    assert!(replies.iter().all(|reply| caller(reply) == known.nkey()));
    assert_eq!(caller(&ask(&client, "8", proof_header(&proof)).await), "");
    let audit = service.audit();
    assert_eq!(audit.iter().filter(|entry| entry["status"] == "ok").count(), 1);
    // Each names the client and the proof, whatever came of it.
    let digest = proof::digest(proof.as_bytes());
    let named = audit.iter().filter(|entry| entry["proof"] == *digest && entry["client"] == "me");
    assert_eq!(named.filter(|entry| entry["nkey"] == *known.nkey()).count(), replies.len());
    // After a restart it is refused as well: it is older than the process.
    service.crash();
    service.restart(&nats);
    let reply = ask(&client, "7", proof_header(&proof)).await;
    assert_eq!(reply.error.as_deref(), Some("replayed"));
    assert_eq!(service.audit().iter().filter(|entry| entry["status"] == "ok").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_client_is_nobody() {
    let nats = Nats::plain();
    let known = Identity::generate();
    let expired = client_entry("me", &known, "r") + "expires = 2020-01-01T00:00:00Z\n";
    let service = Service::start(&nats, &format!("{expired}{ROLE}"));
    service.await_proofs();
    let client = nats.client().await;
    let reply = ask(&client, "7", proof_header(&prove(&service, &known, b"7"))).await;
    assert_eq!(reply.error.as_deref(), Some("unauthenticated"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_nobody_from_the_moment_that_a_reload_revokes_it() {
    let nats = Nats::plain();
    let (leaver, stayer) = (Identity::generate(), Identity::generate());
    let clients = |is_revoked: bool| {
        let entry = client_entry("leaver", &leaver, "r");
        format!("{entry}revoked = {is_revoked}\n{}{ROLE}", client_entry("stayer", &stayer, "r"))
    };
    let mut service = Service::start(&nats, &clients(false));
    service.await_proofs();
    let client = nats.client().await;
    let reload = |is_revoked| {
        service.scratch.policy(&clients(is_revoked));
        let mut command = cli();
        command.args(["policy", "reload", "--home"]).arg(&service.home);
        let (exit, _, err) = outcome(&command.output().unwrap());
        assert_eq!(exit, 0, "{err}");
    };
    let ask_as = async |who| ask_signed(&client, &service, who, MAKE).await.error;
    // Made before, for a script that was answered and for one that was not.
    let terms = proof::Terms { idem: true };
    let answered = proof::write_request(&leaver, service.addressee(), now(), &jti(), b"7", terms);
    assert_eq!(ask(&client, "7", proof_header(&answered)).await.text, "7");
    let unsent = prove(&service, &leaver, b"8");
    assert_eq!(ask_as(&leaver).await, None);
    reload(true);
    let ran = service.audit().iter().filter(|entry| entry["status"] == "ok").count();
    assert_eq!(ask_as(&leaver).await.as_deref(), Some("unauthenticated"));
    for (script, proof) in [("7", &answered), ("8", &unsent)] {
        let reply = ask(&client, script, proof_header(proof)).await;
        assert_eq!(reply.error.as_deref(), Some("unauthenticated"), "{script}: {}", reply.text);
    }
    let audit = service.audit();
    assert_eq!(audit.iter().filter(|entry| entry["status"] == "ok").count(), ran);
    assert_eq!(ask_as(&stayer).await, None, "the others go on");
    // It is another matter whom the next policy knows.
    reload(false);
    assert_eq!(ask_as(&leaver).await, None);
    service.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_signed_for_its_request_refusals_too() {
    let nats = Nats::plain();
    let known = Identity::generate();
    let role = "[[role]]\nname = \"r\"\nallow = [{ calls = [\"hash\"] }]\n";
    let service = Service::start(&nats, &format!("{}{role}", client_entry("me", &known, "r")));
    service.await_proofs();
    let client = nats.client().await;
    for (script, error) in [
        ("1", None),
        ("sign(\"m\", \"a/b\")", Some("policy-denied")),
        ("let", Some("parse-error")),
        ("throw \"x\"", Some("script-error")),
    ] {
        let reply = ask_signed(&client, &service, &known, script).await;
        assert_eq!(reply.error.as_deref(), error, "{script}");
    }
    // So is that to somebody whom the policy does not know, and it names its line in the log.
    let proof = prove(&service, &Identity::generate(), b"1");
    let reply = ask(&client, "1", proof_header(&proof)).await;
    let signed = reply.proof.unwrap();
    let answered =
        proof::read_reply(&signed, &service.nkey, Some(&proof), b"1", reply.text.as_bytes(), VALUE);
    let answered = answered.unwrap();
    let last = service.audit().pop().unwrap();
    assert_eq!(answered.st, "unauthenticated");
    assert_eq!(serde_json::json!(answered.audit.unwrap().seq), last["seq"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_proof_again_gets_the_same_answer_where_its_caller_asked_for_it() {
    let nats = Nats::plain();
    let alice = Identity::generate();
    let policy = client_entry("alice", &alice, "all") + OPEN_TO_ANYBODY;
    let mut service = Service::start(&nats, &policy);
    service.await_proofs();
    let client = nats.client().await;
    let script = "create_key_space(`s${random_bytes(8).len()}`); random_bytes(16)";
    let proof = |idem| {
        let terms = proof::Terms { idem };
        proof::write_request(&alice, service.addressee(), now(), &jti(), script.as_bytes(), terms)
    };
    let once = proof(true);
    let send = |proof: &str| {
        let (client, headers) = (client.clone(), proof_header(proof));
        tokio::spawn(async move {
            let sent = client.request_with_headers(SUBJECT, headers, script.into()).await.unwrap();
            let header = |name: &str| sent.headers.as_ref()?.get(name).map(ToString::to_string);
            (sent.payload.clone(), header("Crypto-Proof"), header("Nats-Service-Error"))
        })
    };
    // A hundred at once: one is executed, and the others get its answer or are told to ask again.
    let all = futures_util::future::join_all((0..100).map(|_| send(&once))).await;
    let answers: Vec<_> = all.into_iter().map(Result::unwrap).collect();
    let first = send(&once).await.unwrap();
    assert_eq!(first.2, None);
    for answer in answers {
        assert!(answer == first || answer.2.as_deref() == Some("busy"), "{answer:?}");
    }
    let created = |service: &Service| {
        service.audit().iter().filter(|e| e["call"] == "create_key_space").count()
    };
    assert_eq!(created(&service), 1);
    assert!(service.audit().iter().any(|entry| entry["status"] == "repeated"));
    // Without the wish for it, and after a restart, it is a replay.
    let plain = proof(false);
    assert_eq!(send(&plain).await.unwrap().2, None);
    assert_eq!(send(&plain).await.unwrap().2.as_deref(), Some("replayed"));
    service.stop();
    service.restart(&nats);
    assert_eq!(send(&once).await.unwrap().2.as_deref(), Some("replayed"));
}
