//! The worker's stage: what a process that runs a script has, and has not.

use std::fs;

use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_has_one_socket_no_environment_and_its_bounds() {
    let nats = Nats::plain();
    let limits = "[limits]\nwall_clock = \"10 s\"\noperations = 1_000_000_000\n";
    let service = Service::start(&nats, &format!("{limits}{OPEN_TO_ANYBODY}"));
    let client = nats.client().await;
    let asker = client.clone();
    let spin = "print(\"on\"); loop {}";
    let _spinning = tokio::spawn(async move { asker.request(SUBJECT, spin.into()).await });
    let worker = worker_of(&service);
    // Its memory bound is the last that it sets.
    let limits = wait_until("it is confined", || {
        let limits = fs::read_to_string(format!("/proc/{worker}/limits")).ok()?;
        let bounded = |name: &str| {
            let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
            line[name.len()..].split_whitespace().next().unwrap().parse::<u64>().ok()
        };
        (bounded("Max locked memory") == Some(0)).then(|| {
            [
                "Max core file size",
                "Max open files",
                "Max file size",
                "Max processes",
                "Max address space",
            ]
            .map(bounded)
        })
    });
    let address_space = 2 * 16 * 1024 * 1024 + 128 * 1024 * 1024;
    assert_eq!(limits, [Some(0), Some(1), Some(0), Some(0), Some(address_space)]);
    if !is_root() {
        // Not dumpable: the kernel shows the rest to root alone.
        let environment = fs::read(format!("/proc/{worker}/environ"));
        assert_eq!(environment.unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
        return;
    }
    assert_eq!(fs::read(format!("/proc/{worker}/environ")).unwrap(), b"");
    let descriptors = fs::read_dir(format!("/proc/{worker}/fd")).unwrap();
    let descriptors: Vec<_> = descriptors.map(|entry| entry.unwrap()).collect();
    assert_eq!(descriptors.len(), 1);
    assert_eq!(descriptors[0].file_name(), "0");
    let socket = fs::read_link(descriptors[0].path()).unwrap();
    assert!(socket.to_str().unwrap().starts_with("socket:"), "{socket:?}");
    let status = fs::read_to_string(format!("/proc/{worker}/status")).unwrap();
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    assert!(status.contains("Threads:\t1\n"), "{status}");
    let command = fs::read_to_string(format!("/proc/{worker}/cmdline")).unwrap();
    assert!(!command.contains("passphrase") && !command.contains("home"), "{command}");
}

#[test]
fn a_worker_started_by_hand_says_so() {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_crypto-cli-worker"));
    let output = command.stdin(std::process::Stdio::null()).output().unwrap();
    let (exit, _, err) = outcome(&output);
    assert_eq!(exit, 2);
    assert!(err.contains("started by `crypto-cli`"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_script_has_a_worker_of_its_own() {
    let nats = Nats::plain();
    let service = Service::start(&nats, OPEN_TO_ANYBODY);
    let client = nats.client().await;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..5 {
        let asker = client.clone();
        let script = "let i = 0; while i < 150000 { i += 1; } i";
        let running = tokio::spawn(async move { ask_plainly(&asker, script).await });
        let worker = worker_of(&service);
        assert_eq!(running.await.unwrap().text, "150000");
        wait_until("it is gone", || (!is_alive(worker)).then_some(()));
        seen.insert(worker);
    }
    assert_eq!(seen.len(), 5);
}
