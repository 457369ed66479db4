//! What was released and what was used is in the log, however the service ended.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::audit::{MAKE, SIGN};
use crate::support::*;

/// Whoever has a signature has a line of the log that tells of it, however the service ended.
#[tokio::test(flavor = "multi_thread")]
async fn every_signature_that_was_released_before_a_kill_has_its_record() {
    let nats = Nats::plain();
    let mut service =
        Service::start(&nats, &format!("[limits]\nconcurrent = 2\n{OPEN_TO_ANYBODY}"));
    let client = nats.client().await;
    ask_plainly(&client, MAKE).await;
    let released = Arc::new(Mutex::new(Vec::new()));
    for round in 0..KILLS {
        let askers: Vec<_> = (0..3)
            .map(|_| {
                let (client, released) = (client.clone(), Arc::clone(&released));
                tokio::spawn(async move {
                    while let Ok(reply) = client.request(SUBJECT, SIGN.into()).await {
                        // A listener whose broker is gone has nothing to sign with.
                        let headers = reply.headers.unwrap();
                        let Some(proof) = headers.get("Crypto-Proof") else { return };
                        released.lock().unwrap().push(proof.to_string());
                    }
                })
            })
            .collect();
        let delay = 10 + (round * 7) % 60;
        tokio::time::sleep(Duration::from_millis(delay)).await;
        service.crash();
        askers.iter().for_each(tokio::task::JoinHandle::abort);
        service.restart(&nats);
    }
    service.stop();
    let (exit, _, err) = service.audit_verify();
    assert_eq!(exit, 0, "{err}");
    let log = fs::read_to_string(service.home.join("audit.log")).unwrap();
    let mut by_digest = BTreeMap::new();
    let mut signed = BTreeMap::<String, usize>::new();
    for line in log.lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        let request = entry["request"].as_str().unwrap_or_default().to_owned();
        *signed.entry(request).or_default() += usize::from(entry["call"] == "sign");
        by_digest.insert(proof::digest(line.as_bytes()), entry);
    }
    let released = released.lock().unwrap();
    assert!(released.len() > usize::try_from(KILLS).unwrap(), "{} answers", released.len());
    for receipt in released.iter() {
        let receipt = proof::read_receipt(receipt, &service.nkey).unwrap();
        let place = receipt.audit.unwrap();
        let entry = by_digest.get(&place.line).expect("the log has no such line");
        assert_eq!((entry["seq"].as_u64(), &entry["kind"]), (Some(place.seq), &"request".into()));
        assert_eq!(signed[entry["request"].as_str().unwrap()], 1, "{entry}");
    }
}

const KILLS: u64 = 200;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_used_stays_used_after_a_crash_and_across_files() {
    let nats = Nats::plain();
    let policy = "[audit]\nrotate = \"64 KiB\"\n[anonymous]\nroles = [\"r\"]\n[[role]]\nname = \"r\"\n\
        allow = [{ calls = [\"*\"], keys = [\"s/*\", \"s\"], uses = 400 }]\n";
    let mut service = Service::start(&nats, policy);
    let client = nats.client().await;
    ask_plainly(&client, MAKE).await;
    let mut signed = 0;
    let many = "for i in 0..20 { sign(\"m\", \"s/k\"); } 0";
    for _ in 0..12 {
        for _ in 0..2 {
            signed += if ask_plainly(&client, many).await.error.is_none() { 20 } else { 0 };
        }
        service.crash();
        service.restart(&nats);
    }
    // Two uses made the key; the rest of four hundred, less than twenty, is left.
    assert_eq!(signed, 380);
    let mut single = 0;
    while ask_plainly(&client, SIGN).await.error.is_none() {
        single += 1;
    }
    assert_eq!(ask_plainly(&client, SIGN).await.error.as_deref(), Some("rate-limited"));
    service.stop();
    assert_eq!(2 + signed + single + failed_uses(&service), 400);
    let rotated = fs::read_dir(&service.home).unwrap().flatten();
    let rotated = rotated.filter(|e| e.file_name().to_str().unwrap().starts_with("audit-0"));
    assert!(rotated.count() >= 1, "no file was begun");
    let (exit, _, err) = service.audit_verify();
    assert_eq!(exit, 0, "{err}");
    // What the note has may be archived.
    let rotated = fs::read_dir(&service.home).unwrap().flatten();
    let first = rotated.map(|e| e.path()).filter(|p| p.to_str().unwrap().contains("audit-0")).min();
    fs::remove_file(first.unwrap()).unwrap();
    service.restart(&nats);
    assert_eq!(ask_plainly(&client, SIGN).await.error.as_deref(), Some("rate-limited"));
    service.stop();
    // Without the note as well there is no count, and no service.
    fs::remove_file(service.home.join("audit.uses")).unwrap();
    let mut again = Service::launch(&service.scratch, &service.home, &nats.url(), own());
    assert_eq!(again.ended().code(), Some(4));
    assert!(service.log().contains("audit log: line 1 is missing"), "{}", service.log());
}

/// Uses of a script that ran out of them half-way: they were used.
fn failed_uses(service: &Service) -> u64 {
    let mut logs: Vec<_> =
        fs::read_dir(&service.home).unwrap().flatten().map(|e| e.path()).collect();
    logs.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    let text: String = logs.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let entries: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let failed: BTreeSet<&str> = entries
        .iter()
        .filter(|entry| entry["status"] == "rate-limited")
        .map(|entry| entry["request"].as_str().unwrap())
        .collect();
    let used = |entry: &&serde_json::Value| {
        entry["decision"] == "allow" && failed.contains(entry["request"].as_str().unwrap())
    };
    entries.iter().filter(used).count().try_into().unwrap()
}
