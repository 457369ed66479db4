//! What is recorded, and what happens when nothing can be.

use crate::support::*;

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

#[test]
fn without_a_record_there_is_no_signature_and_no_key() {
    let scratch = Scratch::new();
    let (home, _) = scratch.home();
    // A device that is always full stands where the log would be.
    std::os::unix::fs::symlink("/dev/full", home.join("audit.log")).unwrap();
    let script = "create_key_space(\"s\"); create_keypair(\"k\"); sign(\"m\")";
    let output = cli()
        .arg("run")
        .arg(scratch.write("s.rhai", script))
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
    assert!(err.contains("audit-unavailable"), "{err}");
    let listed = cli()
        .args(["keyspace", "list", "--home"])
        .arg(&home)
        .arg("--passphrase-file")
        .arg(scratch.passphrase_file())
        .output()
        .unwrap();
    assert_eq!(outcome(&listed), (0, String::new(), String::new()));
}
