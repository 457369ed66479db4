//! A worker that was taken over cannot hang, crash or confuse the broker, nor do more than its one
//! request might. `tests/hostile/hostile_worker.rs` is that worker.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::*;

const POLICY: &str = r#"
[limits]
wall_clock = "1 s"
new_keys = 4
[anonymous]
roles = ["guest"]
[[role]]
name = "guest"
allow = [
  { calls = ["sign", "create_keypair", "create_key_space", "select_keypair", "list_key_spaces"], keys = ["lab/*"] },
]
"#;

/// A folder with our program and the hostile one in the place of the worker.
fn taken_over() -> Scratch {
    let scratch = Scratch::new();
    fs::copy(env!("CARGO_BIN_EXE_crypto-cli"), scratch.path("crypto-cli")).unwrap();
    fs::copy(hostile("hostile_worker"), scratch.path("crypto-cli-worker")).unwrap();
    scratch
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_breaks_the_protocol_ends_its_own_request_and_no_other() {
    let nats = Nats::plain();
    let programs = taken_over();
    let mut service = Service::start(&nats, POLICY);
    // Keys are made by honest hands.
    let client = nats.client().await;
    let make = "create_key_space(\"lab\") && create_keypair(\"a\")";
    assert_eq!(ask_plainly(&client, make).await.text, "true");
    service.process.signal("TERM");
    service.process.ended();
    service.restart_as(&nats, &programs.path("crypto-cli"));
    let signed = |service: &Service| {
        service.audit().iter().filter(|e| e["call"] == "sign" && e["decision"] == "allow").count()
    };
    for (attack, code, signatures) in [
        ("longest length", Some("internal"), 0),
        ("length one over", Some("internal"), 0),
        ("empty frame", Some("internal"), 0),
        ("unknown operation", Some("internal"), 0),
        ("unknown call", Some("internal"), 0),
        ("bytes left over", Some("internal"), 0),
        ("unbalanced value", Some("internal"), 0),
        ("too large a value", Some("limit-result"), 0),
        ("forged done", None, 0),
        ("forged failure", Some("script-error"), 0),
        ("sightings", Some("internal"), 0),
        ("half a frame", Some("internal"), 0),
        ("half a frame and waits", Some("limit-time"), 0),
        ("drips", Some("internal"), 0),
        ("silence", Some("limit-time"), 0),
        ("waits", Some("limit-time"), 0),
        // Each is a call that the policy allows, so each is done and recorded.
        ("two calls in flight", None, 2),
        ("never reads", Some("limit-time"), 0),
        ("floods prints", Some("limit-output"), 0),
        ("writes after its result", None, 0),
        ("works after its deadline", Some("limit-time"), 0),
        ("key of another", Some("policy-denied"), 0),
        ("operation not granted", Some("policy-denied"), 0),
        ("listing not granted", Some("policy-denied"), 0),
        ("selection of an earlier script", None, 0),
        ("goes on after a refusal", Some("policy-denied"), 0),
        ("too many keys", Some("limit-new-keys"), 0),
        ("abort", Some("internal"), 0),
        ("forbidden", Some("internal"), 0),
    ] {
        let (before, lines) = (signed(&service), service.audit().len());
        let start = Instant::now();
        let reply = ask_plainly(&client, attack).await;
        let took = start.elapsed();
        assert_eq!(reply.error.as_deref(), code, "{attack}: {}", reply.text);
        assert!(took < Duration::from_millis(1400), "{attack} held the broker for {took:?}");
        assert!(!reply.text.contains('\u{1b}') && !reply.text.contains('\u{202e}'), "{attack}");
        assert_eq!(ask_plainly(&client, "well").await.text, "well", "after {attack}");
        let audit = service.audit();
        assert_eq!(signed(&service) - before, signatures, "{attack}");
        is_recorded(&audit[lines..], attack, code);
    }
    let log = service.log();
    assert!(log.contains("forbidden system call"), "{log}");
    service.process.signal("TERM");
    service.process.ended();
    assert_eq!(service.stored_keys().matches("lab/").count(), 1, "{}", service.stored_keys());
}

/// What the log must tell of an attack: how the request ended, and a refusal with the call that was
/// forged, before it and after which there is no other call.
fn is_recorded(lines: &[Value], attack: &str, code: Option<&str>) {
    let end = lines.iter().find(|line| line["kind"] == "request").expect(attack);
    assert_eq!(end["status"], code.unwrap_or("ok"), "{attack}: {end}");
    let of_it = lines.iter().filter(|line| line["request"] == end["request"]);
    let decisions: Vec<_> = of_it.filter(|line| line["kind"] == "decision").collect();
    let refused = |line: &&&Value| line["decision"] == "refuse";
    let forged = match attack {
        "key of another" | "goes on after a refusal" => ("sign", Some("vault/b")),
        "operation not granted" => ("delete_key_space", Some("lab")),
        "listing not granted" => ("list_keypairs", None),
        _ => {
            assert_eq!(decisions.iter().filter(refused).count(), 0, "{attack}: {decisions:?}");
            return;
        }
    };
    let [refusal] = decisions[..] else { panic!("{attack}: {decisions:?}") };
    assert_eq!(refusal["decision"], "refuse", "{attack}: {refusal}");
    assert_eq!((refusal["call"].as_str(), refusal["on"].as_str()), (Some(forged.0), forged.1));
    assert_eq!(refusal["client"], "anonymous");
}

/// What a script could say is known by its length.
#[test]
fn a_worker_that_tells_of_more_than_a_script_could_say_is_not_believed_and_costs_no_other_script() {
    let programs = taken_over();
    let policy = programs.policy(POLICY);
    let honest = programs.write("honest.rhai", "a deletion");
    for (attack, exit, found) in [
        ("sightings without end", 70, "policy-denied internal"),
        ("one sighting without end", 1, "policy-denied limit-time"),
        ("forged failure", 1, "policy-denied script-error"),
    ] {
        let script = programs.write("s.rhai", attack);
        let mut check = std::process::Command::new(programs.path("crypto-cli"));
        check.env_clear().args(["check", "--format", "json", "--sandbox", "best-effort"]);
        let check = check.arg("--policy").arg(&policy).args([&honest, &script]).output().unwrap();
        let (code, out, err) = outcome(&check);
        let told: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out} {err}"));
        let findings = told["findings"].as_array().unwrap();
        let codes: Vec<_> = findings.iter().map(|one| one["code"].as_str().unwrap()).collect();
        assert_eq!((code, codes.join(" ").as_str()), (exit, found), "{attack}: {err}");
        let verdict = told["verdicts"][1]["verdict"].as_str();
        assert_eq!(verdict == Some("unchecked"), exit == 70, "{attack}: {told}");
        // What could not be looked at is no clean log either.
        let mut sarif = std::process::Command::new(programs.path("crypto-cli"));
        sarif.env_clear().args(["check", "--format", "sarif", "--sandbox", "best-effort"]);
        let sarif = sarif.arg("--policy").arg(&policy).args([&honest, &script]).output().unwrap();
        let told: Value = serde_json::from_slice(&sarif.stdout).unwrap();
        let run = &told["runs"][0];
        let is_done = run["invocations"][0]["executionSuccessful"].as_bool();
        assert_eq!(is_done, Some(exit != 70), "{attack}: {told}");
        assert_eq!(run["results"].as_array().map(Vec::len), Some(codes.len()), "{attack}: {told}");
    }
}

#[test]
fn a_zygote_that_is_not_ours_is_found_out_at_the_start() {
    let programs = taken_over();
    let policy = programs.policy(POLICY);
    let script = programs.write("s.rhai", "well");
    for (mode, message) in [
        ("other-build", "of another build"),
        ("short", "of another build"),
        ("garbage", "of another build"),
        ("no-filter", "the kernel refuses the system call filter"),
        ("gone", "it ended and said nothing"),
        ("ends-unasked", "does not work here"),
        ("cannot-fork", "does not work here"),
        ("odd-end", "does not work here"),
    ] {
        fs::write(programs.path("control"), mode).unwrap();
        let start = Instant::now();
        let output = std::process::Command::new(programs.path("crypto-cli"))
            .env_clear()
            .args(["run", "--ephemeral", "--sandbox", "best-effort", "--policy"])
            .arg(&policy)
            .arg(&script)
            .output()
            .unwrap();
        let (exit, out, err) = outcome(&output);
        assert_eq!((exit, out.as_str()), (5, ""), "{mode}: {err}");
        assert!(err.contains(message), "{mode}: {err}");
        assert!(start.elapsed() < Duration::from_secs(12), "{mode}");
    }
}
