//! The stage: what a process that runs a script has, and has not.

use std::fs;

use crate::support::*;

const LONG: &str = "[limits]\nwall_clock = \"10 s\"\noperations = 1_000_000_000_000\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_script_has_one_socket_and_nothing_else() {
    let nats = Nats::plain();
    let service = Service::start(&nats, &format!("{LONG}{OPEN_TO_ANYBODY}"));
    let client = nats.client().await;
    let asker = client.clone();
    let spin = "print(\"on\"); loop {}";
    let _spinning = tokio::spawn(async move { asker.request(SUBJECT, spin.into()).await });
    let script = worker_of(&service);
    let zygote = parent_of(script);
    let reaper = parent_of(zygote);
    for (pid, filters) in [(script, 2), (zygote, 1), (reaper, 1)] {
        let is = |field: &str| status_of(pid, field).unwrap();
        assert_eq!((is("Seccomp"), filters_of(pid)), ("2".to_owned(), Some(filters)));
        if pid != reaper {
            assert_eq!((is("NoNewPrivs"), is("Threads")), ("1".to_owned(), "1".to_owned()));
            for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
                assert_eq!(is(set), "0000000000000000", "{set}");
            }
        }
    }
    // In its own namespace it is the second process, after the zygote.
    let ids = status_of(zygote, "NSpid").unwrap();
    assert!(ids.ends_with("\t1"), "{ids}");
    let limits = fs::read_to_string(format!("/proc/{script}/limits")).unwrap();
    let bound = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    let address_space = (16 + 64) * 1024 * 1024;
    assert_eq!(bound("Max address space"), address_space);
    assert_eq!(bound("Max stack size"), 1024 * 1024);
    for none in ["Max core file size", "Max file size", "Max locked memory"] {
        assert_eq!(bound(none), 0, "{none}");
    }
    let command = fs::read_to_string(format!("/proc/{script}/cmdline")).unwrap();
    assert!(!command.contains("passphrase") && !command.contains("home"), "{command}");
    if !is_root() {
        // Not dumpable: the kernel shows the rest to root alone.
        for hidden in ["environ", "fd", "root", "mem"] {
            let seen = fs::File::open(format!("/proc/{script}/{hidden}"));
            assert_eq!(seen.unwrap_err().kind(), std::io::ErrorKind::PermissionDenied, "{hidden}");
        }
        return;
    }
    assert_eq!(fs::read(format!("/proc/{script}/environ")).unwrap(), b"");
    for pid in [script, zygote, reaper] {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let descriptors: Vec<_> = descriptors.map(|entry| entry.unwrap().path()).collect();
        assert_eq!(descriptors.len(), 1, "{descriptors:?}");
        let socket = fs::read_link(&descriptors[0]).unwrap();
        assert!(socket.to_str().unwrap().starts_with("socket:"), "{socket:?}");
        assert!(descriptors[0].ends_with("0"));
    }
    // The script's socket is another than the zygote's.
    let socket = |pid: u32| fs::read_link(format!("/proc/{pid}/fd/0")).unwrap();
    assert_ne!(socket(script), socket(zygote));
    let root = fs::read_dir(format!("/proc/{script}/root/")).unwrap();
    assert_eq!(root.count(), 0, "its root has something in it");
    let made = fs::write(format!("/proc/{script}/root/file"), b"x");
    assert!(made.is_err(), "its root can be written to");
    let interfaces = fs::read_to_string(format!("/proc/{script}/net/dev")).unwrap();
    let interfaces: Vec<_> = interfaces.lines().skip(2).collect();
    assert!(interfaces.len() == 1 && interfaces[0].trim().starts_with("lo:"), "{interfaces:?}");
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
async fn each_script_has_a_process_of_its_own() {
    let nats = Nats::plain();
    let service = Service::start(&nats, &format!("{LONG}{OPEN_TO_ANYBODY}"));
    let client = nats.client().await;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..5 {
        let asker = client.clone();
        let script = "let i = 0; while i < 300000 { i += 1; } i";
        let running = tokio::spawn(async move { ask_plainly(&asker, script).await });
        let worker = worker_of(&service);
        assert_eq!(running.await.unwrap().text, "300000");
        wait_until("it is gone", || (!is_alive(worker)).then_some(()));
        seen.insert(worker);
    }
    assert_eq!(seen.len(), 5);
}

/// The other two kinds of process: what they may ask of the kernel and reach.
#[tokio::test(flavor = "multi_thread")]
async fn broker_and_listener_are_confined_too() {
    let nats = Nats::plain();
    let service = Service::start(&nats, OPEN_TO_ANYBODY);
    let broker = service.process.pid();
    for pid in [broker, listener_of(&service)] {
        // The filter, and the one that hides a system call.
        assert_eq!(status_of(pid, "Seccomp").as_deref(), Some("2"));
        assert_eq!(filters_of(pid), Some(2));
        assert_eq!(status_of(pid, "NoNewPrivs").as_deref(), Some("1"));
        // Threads that were started before would be free.
        for thread in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
            let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
            assert!(status.contains("Seccomp_filters:\t2"), "{status}");
        }
    }
    let log = service.log();
    assert!(!log.contains("landlock"), "Landlock is not on here: {log}");
}
