//! What the service needs is lost while it runs: it says so and ends, rather than go on half.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::support::*;

/// Half a page of the keyspace that the disk does not take is enough for the storage to refuse all others.
#[tokio::test(flavor = "multi_thread")]
async fn a_keyspace_that_cannot_be_written_is_not_asked_again_and_ends_the_service() {
    let nats = Nats::plain();
    let mut service = Service::start(&nats, OPEN_TO_ANYBODY);
    let client = nats.client().await;
    let make = |name: String| {
        let client = client.clone();
        async move {
            let script = format!("create_key_space(\"{name}\"); create_keypair(\"k\")");
            let asked = client.request(SUBJECT, script.into());
            let asked = tokio::time::timeout(Duration::from_secs(5), asked).await.ok()?.ok()?;
            let error = asked.headers?.get("Nats-Service-Error").map(ToString::to_string);
            Some((error.unwrap_or_default(), String::from_utf8_lossy(&asked.payload).into_owned()))
        }
    };
    let is_made =
        |answer: Option<(String, String)>| answer.is_some_and(|(error, _)| error.is_empty());
    assert!(is_made(make("before".to_owned()).await));
    // The log may grow by some lines, and the keyspace is longer than that already.
    let most = fs::metadata(service.home.join("audit.log")).unwrap().len() + 16 * 1024;
    let pid = service.process.pid().to_string();
    let limit = ["--pid", &pid, &format!("--fsize={most}:")];
    assert!(Command::new("prlimit").args(limit).status().unwrap().success());
    let (mut kept, mut failed) = (1, Vec::new());
    for number in 0..20 {
        let (error, text) = make(format!("s{number}")).await.expect("an answer");
        match &*error {
            "" => kept += 1,
            "internal" => failed.push(text),
            other => panic!("{other}: {text} after {kept} that were kept, {failed:?} were not"),
        }
        if failed.len() > 1 {
            break;
        }
    }
    // What the disk did not say of the first is not known; the second was not tried.
    let [first, second] = &failed[..] else { panic!("{failed:?} failed, {kept} did not") };
    assert!(first.contains("may have been kept or not: look before you ask again"), "{first}");
    assert!(second.contains("the keyspace could not be used"), "{second}");
    assert_eq!(service.process.ended().code(), Some(5));
    assert!(service.log().contains("no change of the keyspace can be kept"), "{}", service.log());
    let commits = service.audit().iter().filter(|entry| entry["kind"] == "commit").count();
    assert_eq!(commits, kept + 1, "each further try was recorded as a commit");
    assert_eq!(service.audit_verify().0, 0);
    service.restart(&nats);
    assert!(is_made(make("after".to_owned()).await));
    service.stop();
}

/// A server that is told to take less says nothing of it: the first answer that is too large costs the connection,
/// and no other does.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_less_than_it_did_costs_one_answer_and_no_second() {
    let nats = Nats::plain();
    let limits = "[limits]\nwall_clock = \"20 s\"\noperations = 1_000_000_000\nconcurrent = 2\n";
    let mut service = Service::start(&nats, &format!("{limits}{OPEN_TO_ANYBODY}"));
    let client = nats.client().await;
    let large = |before: &str| format!("{before} let s = \"\"; s.pad(20_000, \"x\"); s");
    assert_eq!(ask_plainly(&client, &large("")).await.text.len(), 20_000);
    nats.reload("max_payload: 16KB\n");
    let (slow, asker) = (large("let i = 0; while i < 3_000_000 { i += 1; }"), client.clone());
    let slow = tokio::spawn(async move { ask_plainly(&asker, &slow).await });
    worker_of(&service);
    let first = client.request(SUBJECT, large("").into());
    let lost = tokio::time::timeout(Duration::from_millis(300), first).await;
    assert!(lost.is_err(), "{lost:?}");
    wait_until("the listener is cut off", || {
        service.log().contains("nats: disconnected").then_some(())
    });
    let mut tries = 0..100;
    let is_back = || async {
        // What it answers by itself, and no request for the service.
        let asked = client.request("$SRV.PING.crypto-cli", "".into());
        matches!(tokio::time::timeout(Duration::from_secs(1), asked).await, Ok(Ok(_)))
    };
    while !is_back().await {
        assert!(tries.next().is_some(), "it did not come back: {}", service.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // What was run for the larger size is not sent and not lost.
    let slow = slow.await.unwrap();
    assert_eq!(slow.error.as_deref(), Some("internal"), "{}", slow.text);
    assert!(slow.proof.is_none() && slow.text.contains("the outcome is not known"), "{slow:?}");
    // What is run now is held to the smaller one before anything is kept.
    let reply = ask_plainly(&client, &large("create_key_space(\"lost\");")).await;
    assert_eq!(reply.error.as_deref(), Some("limit-result"), "{}", reply.text);
    assert!(reply.proof.is_some());
    assert_eq!(ask_plainly(&client, "list_key_spaces()").await.text, "[]");
    assert_eq!(service.log().matches("nats: disconnected").count(), 1, "{}", service.log());
    service.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_was_unsealed_says_who_it_is_and_one_whose_log_is_damaged_stays_shut() {
    let nats = Nats::plain();
    let mut service = Service::start(&nats, OPEN_TO_ANYBODY);
    let unseal = |service: &Service| {
        let mut command = cli();
        command.args(["unseal", "--home"]).arg(&service.home).arg("--passphrase-file");
        outcome(&command.arg(service.scratch.passphrase_file()).output().unwrap())
    };
    service.stop();
    service.restart_sealed(&nats);
    assert!(!service.log().contains(&service.nkey), "{}", service.log());
    assert_eq!(unseal(&service).0, 0);
    assert!(service.log().contains(&service.nkey), "{}", service.log());
    service.stop();
    fs::remove_file(service.home.join("audit.mark")).unwrap();
    service.restart_sealed(&nats);
    let (exit, _, err) = unseal(&service);
    assert!(exit == 4 && err.contains("`audit.mark`, is missing"), "{exit}: {err}");
    let (exit, _, err) = unseal(&service);
    assert!(exit == 4 && err.contains("start the service again"), "{exit}: {err}");
    let client = nats.client().await;
    assert_eq!(ask_plainly(&client, "1").await.error.as_deref(), Some("sealed"));
    service.stop();
}

/// Where the log ends is noted once a second, whoever asks for what.
#[tokio::test(flavor = "multi_thread")]
async fn a_mark_that_cannot_be_written_is_told_once_and_written_when_it_can_be() {
    let nats = Nats::plain();
    let mut service = Service::start(&nats, OPEN_TO_ANYBODY);
    let mark = || fs::read(service.home.join("audit.mark")).unwrap();
    let (in_the_way, before) = (service.home.join("audit.mark.new"), mark());
    fs::create_dir(&in_the_way).unwrap();
    ask_plainly(&nats.client().await, "1").await;
    let told = || service.log().matches("Is a directory").count();
    wait_until("the operator is told", || (told() > 0).then_some(()));
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!((told(), mark()), (1, before.clone()), "{}", service.log());
    fs::remove_dir(in_the_way).unwrap();
    wait_until("the mark is written", || (mark() != before).then_some(()));
    service.stop();
}
