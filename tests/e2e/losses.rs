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
            Some(error.unwrap_or_default())
        }
    };
    assert_eq!(make("before".to_owned()).await.as_deref(), Some(""));
    // The log may grow by some lines, and the keyspace is longer than that already.
    let most = fs::metadata(service.home.join("audit.log")).unwrap().len() + 16 * 1024;
    let pid = service.process.pid().to_string();
    let limit = ["--pid", &pid, &format!("--fsize={most}:")];
    assert!(Command::new("prlimit").args(limit).status().unwrap().success());
    let (mut kept, mut failed) = (1, 0);
    for number in 0..20 {
        match make(format!("s{number}")).await.as_deref() {
            Some("") => kept += 1,
            Some("internal") => failed += 1,
            Some("shutting-down") | None => break,
            Some(other) => panic!("{other}"),
        }
    }
    assert!(failed > 1, "{failed} changes failed, {kept} did not");
    assert_eq!(service.process.ended().code(), Some(5));
    assert!(service.log().contains("no change of the keyspace can be kept"), "{}", service.log());
    let commits = service.audit().iter().filter(|entry| entry["kind"] == "commit").count();
    assert_eq!(commits, kept + 1, "each further try was recorded as a commit");
    assert_eq!(service.audit_verify().0, 0);
    service.restart(&nats);
    assert_eq!(make("after".to_owned()).await.as_deref(), Some(""));
    service.stop();
}
