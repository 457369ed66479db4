//! What is recorded, what happens when nothing can be, and what becomes of records.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::Duration;

use proof::Identity;

use crate::support::*;

pub(crate) const MAKE: &str = "create_key_space(\"s\"); create_keypair(\"k\")";
pub(crate) const SIGN: &str = "sign(\"m\", \"s/k\")";

/// All members that a line may have: what `AUDIT.md` lists.
const MEMBERS: [&str; 25] = [
    "proof",
    "seq",
    "prev",
    "at",
    "kind",
    "sig",
    "service",
    "torn",
    "request",
    "client",
    "nkey",
    "call",
    "on",
    "to",
    "keys",
    "decision",
    "rule",
    "counted",
    "reason",
    "status",
    "script",
    "policy",
    "result",
    "wall_us",
    "host_calls",
];

#[tokio::test(flavor = "multi_thread")]
async fn every_decision_and_every_request_is_recorded_without_what_was_signed() {
    let nats = Nats::plain();
    let service = Service::start(&nats, OPEN_TO_ANYBODY);
    let client = nats.client().await;
    let reply = ask_plainly(
        &client,
        "create_key_space(\"s\"); create_keypair(\"k\"); sign(\"a telling message\")",
    );
    let signature = reply.await.text;
    let audit = service.audit();
    let calls: Vec<_> = audit.iter().filter_map(|entry| entry["call"].as_str()).collect();
    assert_eq!(calls, ["create_key_space", "create_keypair", "sign"]);
    assert!(audit[..3].iter().all(|e| e["decision"] == "allow" && e["client"] == "anonymous"));
    assert_eq!(audit[2]["on"], "s/k");
    assert!(audit[2]["rule"].as_str().unwrap().starts_with("all.allow[0] (line "));
    assert_eq!(audit[3]["kind"], "commit");
    assert_eq!(audit[4]["kind"], "request");
    assert_eq!(audit[4]["status"], "ok");
    let text = std::fs::read_to_string(service.home.join("audit.log")).unwrap();
    assert!(!text.contains("telling") && !text.contains(&signature[..16]), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_has_no_member_that_is_not_listed() {
    let nats = Nats::plain();
    let alice = Identity::generate();
    let policy = client_entry("alice", &alice, "all") + OPEN_TO_ANYBODY;
    let service = Service::start(&nats, &policy);
    service.await_proofs();
    let client = nats.client().await;
    for script in
        [MAKE, SIGN, "list_key_spaces()", "hash(\"sha256\", \"x\")", "sign(1)", "(", "throw 1"]
    {
        ask_signed(&client, &service, &alice, script).await;
        ask(&client, script, proof_header("no.proof.atall")).await;
    }
    let text = fs::read_to_string(service.home.join("audit.log")).unwrap();
    let mut seen = BTreeSet::new();
    for line in text.lines() {
        let line: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).unwrap();
        seen.extend(line.keys().cloned());
    }
    let unlisted: Vec<_> = seen.iter().filter(|key| !MEMBERS.contains(&key.as_str())).collect();
    assert!(unlisted.is_empty(), "{unlisted:?}");
    assert!(seen.len() >= 18, "{seen:?}");
    let page = fs::read_to_string("src/proof/AUDIT.md").unwrap();
    assert!(MEMBERS.iter().all(|member| page.contains(&format!("`{member}`"))), "AUDIT.md");
}

/// A service with some lines in its log that has stopped.
async fn stopped_with_a_log(nats: &Nats) -> Service {
    let mut service = Service::start(nats, OPEN_TO_ANYBODY);
    let client = nats.client().await;
    ask_plainly(&client, MAKE).await;
    for _ in 0..3 {
        assert_eq!(ask_plainly(&client, SIGN).await.text.len(), 128);
    }
    service.stop();
    service
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_line_that_was_tampered_with_is_named() {
    let nats = Nats::plain();
    let service = stopped_with_a_log(&nats).await;
    let path = service.home.join("audit.log");
    let good = fs::read(&path).unwrap();
    let mark = fs::read(service.home.join("audit.mark")).unwrap();
    let (exit, _, err) = service.audit_verify();
    assert_eq!(exit, 0, "{err}");
    let lines: Vec<&[u8]> = good.split_inclusive(|byte| *byte == b'\n').collect();
    let named = |log: &[u8], line: usize, what: &str| {
        fs::write(&path, log).unwrap();
        let (exit, _, err) = service.audit_verify();
        assert_eq!(exit, 4, "{what} {line}: {err}");
        let place = format!("audit.log:{line}: ");
        assert!(err.contains(&place), "{what} {line}: {err}");
    };
    assert!(lines.len() >= 10);
    for at in 0..lines.len() {
        let end_of = |count: usize| lines[..count].concat();
        // Its text, its chain and its signature.
        for place in [40, lines[at].len() / 2, lines[at].len() - 10] {
            let mut flipped = good.clone();
            flipped[end_of(at).len() + place] ^= 1;
            named(&flipped, at + 1, "flipped");
        }
        named(&[end_of(at), lines[at + 1..].concat()].concat(), at + 1, "removed");
        named(&[end_of(at), lines[at][..30].to_vec()].concat(), at + 1, "truncated in");
        named(&end_of(at), at + 1, "cut before");
        if at + 1 < lines.len() {
            let swapped =
                [&end_of(at), lines[at + 1], lines[at], &lines[at + 2..].concat()].concat();
            named(&swapped, at + 1, "swapped");
        }
        named(
            &[end_of(at + 1), lines[at].to_vec(), lines[at + 1..].concat()].concat(),
            at + 2,
            "twice",
        );
    }
    // The service does not go on where a log was cut.
    fs::write(&path, lines[..lines.len() - 1].concat()).unwrap();
    let mut again = Service::launch(&service.scratch, &service.home, &nats.url(), own());
    assert_eq!(again.ended().code(), Some(4));
    assert!(service.log().contains("it ends before lines that were written"), "{}", service.log());
    // Nor is a cut hidden by taking its mark away, nor by taking all of it.
    fs::remove_file(service.home.join("audit.mark")).unwrap();
    let (exit, _, err) = service.audit_verify();
    assert!(exit == 4 && err.contains("`audit.mark`, is missing"), "{exit} {err}");
    fs::write(service.home.join("audit.mark"), &mark).unwrap();
    fs::remove_file(&path).unwrap();
    let (exit, _, err) = service.audit_verify();
    assert!(exit == 4 && err.contains("though lines were written"), "{exit} {err}");
    fs::write(&path, &good).unwrap();
    assert_eq!(service.audit_verify().0, 0);
    // Another service's log is not this one's.
    let other = Command::new(own())
        .args(["audit", "verify", "--service-nkey"])
        .arg(nkeys::KeyPair::new_server().public_key())
        .arg("--home")
        .arg(&service.home)
        .output()
        .unwrap();
    assert_eq!(outcome(&other).0, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_of_a_line_is_dropped_and_told() {
    let nats = Nats::plain();
    let mut service = stopped_with_a_log(&nats).await;
    let path = service.home.join("audit.log");
    let half = "{\"seq\":99,\"prev\":\"half";
    for torn in [half.to_owned(), "x".to_owned(), "\0".repeat(70_000)] {
        let good = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{good}{torn}")).unwrap();
        let (exit, _, err) = service.audit_verify();
        let line = good.lines().count() + 1;
        assert!(exit == 4 && err.contains(&format!("audit.log:{line}: ")), "{err}");
        service.restart(&nats);
        let client = nats.client().await;
        assert_eq!(ask_plainly(&client, SIGN).await.text.len(), 128);
        service.stop();
        let (exit, _, err) = service.audit_verify();
        assert_eq!(exit, 0, "{err}");
        let told = format!("\"torn\":\"{}\"", proof::digest(torn.as_bytes()));
        assert!(fs::read_to_string(&path).unwrap().contains(&told));
    }
    // A line that lacks only its end was written whole.
    let good = fs::read_to_string(&path).unwrap();
    fs::write(&path, good.trim_end()).unwrap();
    service.restart(&nats);
    service.stop();
    assert_eq!(service.audit_verify().0, 0);
    let log = fs::read_to_string(&path).unwrap();
    assert!(log.starts_with(&good) && log.lines().count() > good.lines().count());
}

/// Every state in which a crash can leave the beginning of a new file.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_a_file_is_begun_loses_nothing() {
    let nats = Nats::plain();
    let mut service = stopped_with_a_log(&nats).await;
    let path = service.home.join("audit.log");
    let begun = service.home.join("audit.log.new");
    for (state, leftover) in [("missing", None), ("empty", Some("")), ("half", Some("{\"seq\":"))] {
        let log = fs::read_to_string(&path).unwrap();
        let last: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
        let seq = last["seq"].as_u64().unwrap();
        fs::rename(&path, service.home.join(format!("audit-{seq:012}.log"))).unwrap();
        match leftover {
            None => fs::write(&begun, "what was to be the file").unwrap(),
            Some(text) => fs::write(&path, text).unwrap(),
        }
        service.restart(&nats);
        let client = nats.client().await;
        assert_eq!(ask_plainly(&client, SIGN).await.text.len(), 128, "{state}");
        service.stop();
        let (exit, _, err) = service.audit_verify();
        assert_eq!(exit, 0, "{state}: {err}");
        let log = fs::read_to_string(&path).unwrap();
        assert!(log.starts_with(&format!("{{\"seq\":{},", seq + 1)), "{state}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_without_its_mark_is_not_gone_on_with() {
    let nats = Nats::plain();
    let service = stopped_with_a_log(&nats).await;
    let good = fs::read(service.home.join("audit.log")).unwrap();
    fs::remove_file(service.home.join("audit.mark")).unwrap();
    let mut again = Service::launch(&service.scratch, &service.home, &nats.url(), own());
    assert_eq!(again.ended().code(), Some(4));
    assert!(service.log().contains("`audit.mark`, is missing"), "{}", service.log());
    assert_eq!(fs::read(service.home.join("audit.log")).unwrap(), good, "nothing was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_running_service_is_good_at_any_moment() {
    let nats = Nats::plain();
    let service =
        Service::start(&nats, &format!("[audit]\nrotate = \"64 KiB\"\n{OPEN_TO_ANYBODY}"));
    let client = nats.client().await;
    ask_plainly(&client, MAKE).await;
    let asker = client.clone();
    let busy = tokio::spawn(async move {
        loop {
            ask_plainly(&asker, "for i in 0..20 { sign(\"m\", \"s/k\"); } 0").await;
        }
    });
    for _ in 0..12 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        let (exit, _, err) = service.audit_verify();
        assert_eq!(exit, 0, "{err}");
    }
    busy.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_until_it_is_not_full() {
    let nats = Nats::plain();
    let mut service = Service::start(&nats, OPEN_TO_ANYBODY);
    let client = nats.client().await;
    ask_plainly(&client, MAKE).await;
    // The log may grow by a part of a line, and no more.
    let limit = |most: &str| {
        let pid = service.process.pid().to_string();
        let set =
            Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={most}:")]).status();
        assert!(set.unwrap().success());
    };
    let size = || fs::metadata(service.home.join("audit.log")).unwrap().len();
    let before = size();
    limit(&(before + 50).to_string());
    for _ in 0..3 {
        let reply = ask_plainly(&client, SIGN).await;
        assert_eq!(reply.error.as_deref(), Some("audit-unavailable"), "{}", reply.text);
        let receipt = proof::read_receipt(&reply.proof.unwrap(), &service.nkey).unwrap();
        assert_eq!((receipt.caller.as_str(), receipt.audit), ("anonymous", None));
    }
    let kept = ask_plainly(&client, "create_key_space(\"lost\")").await;
    assert_eq!(kept.error.as_deref(), Some("audit-unavailable"));
    limit("unlimited");
    assert_eq!(ask_plainly(&client, SIGN).await.text.len(), 128);
    assert_eq!(ask_plainly(&client, "list_key_spaces()").await.text, "[\"s\"]");
    service.stop();
    let (exit, _, err) = service.audit_verify();
    assert_eq!(exit, 0, "{err}");
}

#[test]
fn a_log_that_cannot_be_written_stops_a_command_before_it_begins() {
    let scratch = Scratch::new();
    let (home, _) = scratch.home();
    // A device outside of the home stands where the log would be.
    std::os::unix::fs::symlink("/dev/full", home.join("audit.log")).unwrap();
    let output = cli()
        .arg("run")
        .arg(scratch.write("s.rhai", MAKE))
        .arg("--policy")
        .arg(scratch.policy(OPEN_TO_ANYBODY))
        .arg("--home")
        .arg(&home)
        .arg("--passphrase-file")
        .arg(scratch.passphrase_file())
        .output()
        .unwrap();
    let (exit, out, err) = outcome(&output);
    assert_eq!((exit, out.as_str()), (5, ""), "{err}");
    assert!(err.contains("audit log: "), "{err}");
    let mut listed = cli();
    listed.args(["keyspace", "list", "--home"]).arg(&home);
    let listed = listed.arg("--passphrase-file").arg(scratch.passphrase_file()).output().unwrap();
    assert_eq!(outcome(&listed), (0, String::new(), String::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_proves_what_was_answered_and_to_whom() {
    let nats = Nats::plain();
    let alice = Identity::generate();
    let policy = client_entry("alice", &alice, "all") + OPEN_TO_ANYBODY;
    let service = Service::start(&nats, &policy);
    service.await_proofs();
    let client = nats.client().await;
    ask_signed(&client, &service, &alice, MAKE).await;
    let scratch = &service.scratch;
    let script = scratch.write("sign.rhai", SIGN);
    let (receipt, payload) = (scratch.path("receipt"), scratch.path("payload"));
    let output = cli()
        .arg("request")
        .arg(&script)
        .args(["--server", &nats.url(), "--subject", SUBJECT, "--service", SERVICE])
        .args(["--service-nkey", &service.nkey, "--receipt"])
        .arg(&receipt)
        .arg("--identity")
        .arg(scratch.seed_file("alice.nk", &alice))
        .output()
        .unwrap();
    let (exit, out, err) = outcome(&output);
    assert_eq!(exit, 0, "{err}");
    fs::write(&payload, &out).unwrap();
    let verify = |nkey: &str, more: &[&std::path::Path]| {
        let mut command = cli();
        command
            .args(["receipt", "verify", "--format", "json", "--service-nkey", nkey])
            .arg(&receipt);
        for (flag, path) in ["--script", "--payload", "--home"].iter().zip(more) {
            command.arg(flag).arg(path);
        }
        outcome(&command.output().unwrap())
    };
    let (exit, out, err) = verify(&service.nkey, &[&script, &payload]);
    assert_eq!(exit, 0, "{err}");
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    let told = &told["receipt"];
    assert_eq!(told["caller"], alice.nkey());
    assert_eq!((told["keys"][0].as_str(), told["key_count"].as_u64()), (Some("s/k"), Some(1)));
    let policy = fs::read(scratch.path("policy.toml")).unwrap();
    assert_eq!(told["policy"], proof::digest(&policy));
    let log = fs::read_to_string(service.home.join("audit.log")).unwrap();
    let line = log.lines().find(|line| proof::digest(line.as_bytes()) == told["audit"]["line"]);
    assert!(line.unwrap().contains("\"kind\":\"request\""));
    // The log has that line, and what `audit show` prints is it.
    assert_eq!(verify(&service.nkey, &[&script, &payload, &service.home]).0, 0);
    let shown =
        cli().args(["audit", "show", "--format", "json", "--home"]).arg(&service.home).output();
    assert_eq!(text(&shown.unwrap().stdout), log);
    fs::write(service.home.join("audit.log"), log.replacen("\"ok\"", "\"no\"", 3)).unwrap();
    let (exit, _, err) = verify(&service.nkey, &[&script, &payload, &service.home]);
    assert!(exit == 4 && err.contains("is missing, or is another"), "{exit} {err}");
    let other = scratch.write("other.rhai", "1");
    assert_eq!(verify(&service.nkey, &[&other, &payload]).0, 4);
    assert_eq!(verify(&service.nkey, &[&script, &other]).0, 4);
    assert_eq!(verify(&nkeys::KeyPair::new_server().public_key(), &[]).0, 4);
    let receipt_text = fs::read_to_string(&receipt).unwrap();
    let (claims, signature) = receipt_text.rsplit_once('.').unwrap();
    let first = if signature.starts_with('A') { "B" } else { "A" };
    fs::write(&receipt, format!("{claims}.{first}{}", &signature[1..])).unwrap();
    assert_eq!(verify(&service.nkey, &[]).0, 4);
}
