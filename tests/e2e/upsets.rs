//! What operators and machines do to processes, short of killing them all.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use policy::MAX_POLICY_BYTES;
use sandbox::Role;

use crate::support::*;

/// As a service manager does it: the signal goes to every process of the group at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_signal_to_all_processes_still_drains() {
    for name in ["TERM", "INT"] {
        let nats = Nats::plain();
        let limits = "[limits]\nwall_clock = \"10 s\"\nconcurrent = 2\n";
        let mut service = Service::start(&nats, &format!("{limits}{OPEN_TO_ANYBODY}"));
        let client = nats.client().await;
        let slow = "let i = 0; while i < 150000 { i += 1; } i";
        let asked: Vec<_> = (0..6)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move { ask_plainly(&client, slow).await })
            })
            .collect();
        worker_of(&service);
        tokio::time::sleep(Duration::from_millis(200)).await;
        for (pid, _) in descendants(service.process.pid()) {
            // One that runs a script may be gone by now.
            let sent = std::process::Command::new("kill")
                .args([&format!("-{name}"), &pid.to_string()])
                .output();
            assert!(sent.is_ok());
        }
        service.process.signal(name);
        for reply in futures_util::future::join_all(asked).await {
            let reply = reply.unwrap();
            assert_eq!((reply.error.as_deref(), reply.text.as_str()), (None, "150000"));
        }
        assert!(service.process.ended().success());
    }
}

#[test]
fn a_process_that_closed_its_socket_and_lives_on_is_killed_and_its_end_told() {
    let launcher = launcher(&hostile("probing_worker"));
    let (process, socket) = launcher.launch(Role::Worker, &["1048576".to_owned()]).unwrap();
    assert_eq!(process.ended().unwrap(), None);
    let status = process.last_words(Duration::from_millis(20)).unwrap();
    assert_eq!(status.signal(), Some(9), "{status}");
    drop(socket);
    // The launcher can start another.
    let again = launcher.launch(Role::Worker, &["1048576".to_owned()]).unwrap();
    assert_eq!(again.0.ended().unwrap(), None);
}

#[test]
fn a_launcher_takes_numbers_from_the_broker_and_nothing_that_steers_a_program() {
    let launcher = launcher(&hostile("probing_worker"));
    for bad in ["--server=nats://elsewhere", "/etc/passwd", "-1", "keep.", "1 2", "--"] {
        for role in [Role::Own, Role::Worker] {
            let error = launcher.launch(role, &[bad.to_owned()]).map(drop).unwrap_err();
            assert!(!error.to_string().contains("gone"), "{bad}: {error}");
        }
    }
    assert!(launcher.launch(Role::Worker, &["1048576".to_owned()]).is_ok());
}

/// The time of a script begins when it has a process, however long that took to start.
#[tokio::test(flavor = "multi_thread")]
async fn the_start_of_a_lane_is_not_taken_from_the_scripts_time() {
    let nats = Nats::plain();
    let limits = "[limits]\nwall_clock = \"3 ms\"\n";
    let service = Service::start(&nats, &format!("{limits}{OPEN_TO_ANYBODY}"));
    let client = nats.client().await;
    let mut served = 0;
    for _ in 0..30 {
        let ended: Vec<u32> = descendants(service.process.pid())
            .into_iter()
            .filter(|(_, command)| !command.contains("listener"))
            .map(|(pid, _)| pid)
            .collect();
        for pid in &ended {
            let sent =
                std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).output();
            assert!(sent.is_ok());
        }
        wait_until("no lane waits", || ended.iter().all(|pid| !is_alive(*pid)).then_some(()));
        served += usize::from(ask_plainly(&client, "40 + 2").await.text == "42");
    }
    // A new zygote takes longer than that to start.
    assert!(served > 0, "no script was served by a new lane");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_of_the_longest_length_runs() {
    let nats = Nats::plain();
    let limits = "[limits]\nscript = \"1 MiB\"\n";
    let service = Service::start(&nats, &format!("{limits}{OPEN_TO_ANYBODY}"));
    let client = nats.client().await;
    let end = "\n40 + 2";
    // The server takes no message over 1 MiB, headers and all.
    let script = format!("//{}{end}", "x".repeat(1_040_000));
    let reply = ask_plainly(&client, &script).await;
    assert_eq!((reply.error.as_deref(), reply.text.as_str()), (None, "42"));
    drop(service);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_ends_at_its_time_even_if_the_broker_stands_still() {
    let nats = Nats::plain();
    let limits = "[limits]\nwall_clock = \"500 ms\"\noperations = 1_000_000_000_000\n";
    let service = Service::start(&nats, &format!("{limits}{OPEN_TO_ANYBODY}"));
    let client = nats.client().await;
    tokio::spawn(async move { client.request(SUBJECT, "loop {}".into()).await });
    let script = worker_of(&service);
    service.process.signal("STOP");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!is_alive(script), "nobody ended it");
    service.process.signal("CONT");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_is_read_again_holds_and_a_bad_one_does_not() {
    let nats = Nats::plain();
    let grant = |calls: &str| {
        format!(
            "[anonymous]\nroles = [\"r\"]\n[[role]]\nname = \"r\"\nallow = [{{ calls = [{calls}] }}]\n"
        )
    };
    let mut service = Service::start(&nats, &grant("\"hash\""));
    let client = nats.client().await;
    let hash = "hash(\"sha256\", \"x\").len()";
    let random = "random_bytes(4).len()";
    let reload = |policy: &str, says: &str| {
        service.scratch.policy(policy);
        let before = service.log().matches(says).count();
        service.process.signal("HUP");
        wait_until(says, || (service.log().matches(says).count() > before).then_some(()));
    };
    assert_eq!(ask_plainly(&client, hash).await.text, "64");
    assert_eq!(ask_plainly(&client, random).await.error.as_deref(), Some("policy-denied"));
    reload(&grant("\"random_bytes\""), "holds from now on");
    assert_eq!(ask_plainly(&client, hash).await.error.as_deref(), Some("policy-denied"));
    assert_eq!(ask_plainly(&client, random).await.text, "4");
    for (bad, says) in [
        (grant("\"hsah\""), "did you mean `hash`?"),
        (grant("\"hsah\""), "/policy.toml:"),
        (grant("\"hsah\""), "[policy-unknown-call]"),
        (
            format!("[sandbox]\nisolation = \"client\"\n{}", grant("\"hash\"")),
            "takes a restart: [sandbox]",
        ),
        (
            format!("[limits]\nmemory = \"1 GiB\"\n{}", grant("\"hash\"")),
            "takes a restart: [limits] memory",
        ),
    ] {
        reload(&bad, "the policy stays as it was");
        assert!(service.log().contains(says), "{says}: {}", service.log());
        assert_eq!(ask_plainly(&client, random).await.text, "4");
    }
    // Memory that was lowered since the start may be given again: the processes have room for it.
    for memory in ["8 MiB", "16 MiB"] {
        let limits = format!("[limits]\nmemory = \"{memory}\"\n");
        reload(&(limits + &grant("\"random_bytes\"")), "holds from now on");
    }
    std::fs::remove_file(service.scratch.path("policy.toml")).unwrap();
    service.process.signal("HUP");
    wait_until("that it is missing is said", || {
        service.log().contains("No such file").then_some(())
    });
    assert_eq!(ask_plainly(&client, random).await.text, "4");
    // A request goes on with the policy that it began with.
    let both = grant("\"hash\", \"random_bytes\"");
    reload(&both, "holds from now on");
    let asker = client.clone();
    let slow = "let i = 0; while i < 150000 { i += 1; } random_bytes(4).len()";
    let running = tokio::spawn(async move { ask_plainly(&asker, slow).await });
    worker_of(&service);
    reload(&grant("\"hash\""), "holds from now on");
    assert_eq!(running.await.unwrap().text, "4");
    assert_eq!(ask_plainly(&client, random).await.error.as_deref(), Some("policy-denied"));
    let log = std::fs::read_to_string(service.home.join("audit.log")).unwrap();
    assert_eq!(log.matches("\"kind\":\"policy\"").count(), 6);
    service.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_has_the_policy_read_again_and_is_told_what_came_of_it() {
    let nats = Nats::plain();
    let mut service = Service::start(&nats, "");
    let client = nats.client().await;
    let reload = || {
        let mut command = cli();
        command.args(["policy", "reload", "--home"]).arg(&service.home);
        outcome(&command.output().unwrap())
    };
    assert_eq!(ask_plainly(&client, "1").await.error.as_deref(), Some("unauthenticated"));
    service.scratch.policy(OPEN_TO_ANYBODY);
    let (exit, out, err) = reload();
    assert!(exit == 0 && out.is_empty() && err.contains("holds from now on"), "{err}");
    assert_eq!(ask_plainly(&client, "1").await.text, "1");
    service.scratch.policy("[[role]]\nname = \"r\"\nallow = [{ calls = [\"sgin\"] }]\n");
    let (exit, _, err) = reload();
    assert!(
        exit == 2 && err.contains("the policy stays as it was") && err.contains("`sign`"),
        "{err}"
    );
    assert_eq!(ask_plainly(&client, "1").await.text, "1");
    for (bytes, exit) in [(MAX_POLICY_BYTES, 0), (MAX_POLICY_BYTES + 1, 2)] {
        let path = service.scratch.policy(OPEN_TO_ANYBODY);
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push('#');
        text.extend(std::iter::repeat_n('x', bytes - text.len()));
        std::fs::write(path, text).unwrap();
        let (got, _, err) = reload();
        assert_eq!(got, exit, "{bytes}: {err}");
    }
    service.scratch.policy("[[role]]\nname = \"r\"\nallow = [{ calls = [\"sgin\"] }]\n");
    // Whoever speaks otherwise is hung up on, and the next is heard.
    let socket = service.home.join("admin.socket");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&socket).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    for bytes in [&b"\xff\xff\xff\xff"[..], b"\0\0\0\x01\x07", b""] {
        let mut peer = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        peer.write_all(bytes).unwrap();
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        let mut heard = Vec::new();
        let _hung_up = peer.read_to_end(&mut heard);
        assert!(heard.is_empty());
    }
    // Nor do those matter who say nothing and stay.
    let silent = [(); 9].map(|()| std::os::unix::net::UnixStream::connect(&socket).unwrap());
    assert_eq!(reload().0, 2);
    drop(silent);
    let audit = service.audit();
    let admin: Vec<_> = audit.iter().filter(|entry| entry["kind"] == "admin").collect();
    assert!(admin.iter().all(|entry| entry["call"] == "policy reload"));
    let statuses: Vec<_> = admin.iter().map(|entry| entry["status"].as_str()).collect();
    // What holds is told by a line of its own.
    let (done, refused) = (vec![None], vec![None, Some("refused")]);
    assert_eq!(statuses, [done.clone(), refused.clone(), done, refused.clone(), refused].concat());
    assert!(admin.iter().all(|entry| entry["uid"].is_u64()));
    let restart = |service: &mut Service| {
        service.scratch.policy(OPEN_TO_ANYBODY);
        service.crash();
        service.restart(&nats);
    };
    restart(&mut service);
    let mut command = cli();
    let again = command.args(["policy", "reload", "--home"]).arg(&service.home).output().unwrap();
    assert!(again.status.success(), "the socket that was left over is replaced: {again:?}");
    assert_eq!(service.audit_verify().0, 0);
    service.stop();
    let mut command = cli();
    let output = command.args(["policy", "reload", "--home"]).arg(&service.home).output().unwrap();
    let (exit, _, err) = outcome(&output);
    assert!(exit == 5 && err.contains("no service runs in"), "{err}");
}
