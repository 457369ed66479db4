//! Servers and services that are not what they seem: what they can make a caller sign, do or believe.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;

use async_nats::HeaderMap;
use futures_util::StreamExt;
use proof::Identity;

use crate::support::*;

/// A NATS server that has its clients sign this, instead of a nonce, and gives the signature. A fake: a real
/// one makes its nonces itself.
fn server_with_the_nonce(nonce: &str) -> (String, std::thread::JoinHandle<String>) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("nats://{}", socket.local_addr().unwrap());
    let info = serde_json::json!({ "server_id": "fake", "server_name": "fake", "version": "2.10.0", "go": "go",
        "host": "127.0.0.1", "port": 4222, "headers": true, "max_payload": 1_048_576, "proto": 1,
        "auth_required": true, "nonce": nonce });
    let told = std::thread::spawn(move || {
        let (mut stream, _) = socket.accept().unwrap();
        write!(stream, "INFO {info}\r\n").unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        let login = line.trim().strip_prefix("CONNECT ").unwrap();
        let login: serde_json::Value = serde_json::from_str(login).unwrap();
        login["sig"].as_str().unwrap().to_owned()
    });
    (url, told)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_chooses_the_nonce_cannot_have_a_request_signed() {
    let (nats, scratch) = (Nats::plain(), Scratch::new());
    let victim = Identity::generate();
    let service =
        Service::start(&nats, &(client_entry("victim", &victim, "all") + OPEN_TO_ANYBODY));
    service.await_proofs();
    let client = nats.client().await;
    let script = "create_key_space(\"stolen\")";
    // What the server wants, with a signature by nobody.
    let wanted = prove(&service, &Identity::generate(), script.as_bytes());
    let [_, claims, _] = wanted.split('.').collect::<Vec<_>>()[..] else { panic!("{wanted}") };
    let head = format!(r#"{{"alg":"ccreq1","typ":"ccreq+jwt","kid":"{}"}}"#, victim.nkey());
    let text = format!("{}.{claims}", data_encoding::BASE64URL_NOPAD.encode(head.as_bytes()));
    let (url, told) = server_with_the_nonce(&text);
    let seed = scratch.seed_file("victim.nk", &victim);
    let harmless = scratch.write("harmless.rhai", "1 + 1");
    let mut login = cli();
    login.arg("request").arg(harmless).args(["--server", &url, "--service", SERVICE]);
    login.args(["--service-nkey", &service.nkey]).arg("--nkey-seed-file").arg(seed);
    assert_ne!(outcome(&login.output().unwrap()).0, 0);
    let stolen = format!("{text}.{}", told.join().unwrap());
    let reply = ask(&client, script, proof_header(&stolen)).await;
    assert_eq!(reply.error.as_deref(), Some("unauthenticated"));
    let reason = service.audit().pop().unwrap()["reason"].to_string();
    assert!(reason.contains("the signature is not by this key"), "{reason}");
    // The same claims, signed as a proof is, are good.
    let good = prove(&service, &victim, script.as_bytes());
    assert_eq!(ask(&client, script, proof_header(&good)).await.text, "true");
}

/// `crypto-cli request` with a service that is a fake, and answers each message with one of these.
async fn asked_of(
    answers: Vec<Option<(&'static str, &'static str)>>,
    more: &'static [&'static str],
) -> ((i32, String, String), Vec<String>) {
    let (nats, scratch) = (Nats::plain(), Scratch::new());
    let client = nats.client().await;
    let mut requests = client.subscribe(SUBJECT).await.unwrap();
    let asked = tokio::spawn(async move {
        let mut proofs = Vec::new();
        for answer in answers {
            let asked = requests.next().await.unwrap();
            proofs.push(asked.headers.unwrap().get("Crypto-Proof").unwrap().to_string());
            let Some((code, text)) = answer else { continue };
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Service-Error", code);
            let to = asked.reply.unwrap();
            client.publish_with_headers(to, headers, text.into()).await.unwrap();
            client.flush().await.unwrap();
        }
        proofs
    });
    let seed = scratch.seed_file("me.nk", &Identity::generate());
    let (script, url) = (scratch.write("s.rhai", "1"), nats.url());
    let ended = tokio::task::spawn_blocking(move || {
        let nkey = nkeys::KeyPair::new_server().public_key();
        let mut request = cli();
        request.arg("request").arg(script).args(["--server", &url, "--service", SERVICE]);
        request.args(["--service-nkey", &nkey]).arg("--identity").arg(seed).args(more);
        outcome(&request.output().unwrap())
    });
    (ended.await.unwrap(), asked.await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_nobody_signed_is_no_refusal() {
    let ((exit, out, err), _) =
        asked_of(vec![Some(("policy-denied", "policy-denied: no"))], &[]).await;
    assert_eq!((exit, out.as_str()), (4, ""), "{err}");
    let ((exit, out, err), _) = asked_of(vec![Some(("busy", "busy: later"))], &[]).await;
    assert_eq!((exit, out.as_str()), (5, ""), "{err}");
    assert!(err.contains("busy: later") && err.contains("it proves nothing"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_sent_again_has_the_same_proof() {
    let answers = vec![None, Some(("busy", "busy: later")), Some(("policy-denied", "no"))];
    let (_, proofs) = asked_of(answers, &["--retry"]).await;
    assert!(proofs.len() == 3 && proofs.iter().all(|proof| *proof == proofs[0]), "{proofs:?}");
    let claims = proofs[0].split('.').nth(1).unwrap().as_bytes();
    let claims = data_encoding::BASE64URL_NOPAD.decode(claims).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["idem"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_run_when_its_receipt_has_no_place() {
    let (nats, scratch) = (Nats::plain(), Scratch::new());
    let me = Identity::generate();
    let service = Service::start(&nats, &(client_entry("me", &me, "all") + OPEN_TO_ANYBODY));
    service.await_proofs();
    let seed = scratch.seed_file("me.nk", &me);
    let (script, url) = (scratch.write("s.rhai", "create_key_space(\"s\")"), nats.url());
    let ask = |receipt: PathBuf| {
        let mut request = cli();
        request.arg("request").arg(&script).args(["--server", &url, "--service", SERVICE]);
        request.args(["--service-nkey", &service.nkey]).arg("--identity").arg(&seed);
        outcome(&request.arg("--receipt").arg(receipt).output().unwrap())
    };
    let taken = scratch.write("taken", "something else");
    for receipt in [scratch.path("none/receipt"), taken.clone()] {
        let (exit, out, err) = ask(receipt);
        assert_eq!((exit, out.as_str()), (2, ""), "{err}");
    }
    assert_eq!(std::fs::read_to_string(taken).unwrap(), "something else");
    assert!(service.audit().iter().all(|entry| entry["kind"] != "request"));
    let receipt = scratch.path("receipt");
    assert_eq!(ask(receipt.clone()), (0, "true\n".to_owned(), String::new()));
    let mut verify = cli();
    verify.args(["receipt", "verify", "--service-nkey", &service.nkey]).arg(&receipt);
    let (_, shown, _) = outcome(&verify.output().unwrap());
    // The line of the log names the proof that the receipt names.
    let text = std::fs::read_to_string(receipt).unwrap();
    let receipt = proof::read_receipt(text.trim(), &service.nkey).unwrap();
    let told = format!("result   {} value\nrequest  {}\n", receipt.bh, receipt.req);
    assert!(shown.contains(&told), "{shown}");
    let line = service.audit().pop().unwrap();
    assert_eq!(
        (line["proof"].as_str(), line["nkey"].as_str()),
        (Some(&*receipt.req), Some(&*me.nkey()))
    );
}

#[test]
fn a_script_that_was_run_here_as_a_client_is_not_recorded_as_the_clients_request() {
    let scratch = Scratch::new();
    let (home, _) = scratch.home();
    let policy = client_entry("me", &Identity::generate(), "all") + OPEN_TO_ANYBODY;
    let mut run = cli();
    run.arg("run").arg(scratch.write("s.rhai", "1")).args(["--as", "me", "--policy"]);
    run.arg(scratch.policy(&policy)).arg("--home").arg(&home);
    run.arg("--passphrase-file").arg(scratch.passphrase_file());
    assert_eq!(outcome(&run.output().unwrap()), (0, "1\n".to_owned(), String::new()));
    let log = std::fs::read_to_string(home.join("audit.log")).unwrap();
    let line: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!((line["kind"].as_str(), line["client"].as_str()), (Some("request"), Some("me")));
    let uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&home).unwrap());
    assert_eq!(line["uid"], uid);
    assert!(line.get("nkey").is_none() && line.get("proof").is_none(), "{line}");
}
