//! Rates under load, and over a crash.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_nats::Client;
use futures_util::StreamExt;

use crate::support::*;

const ALLOWED: usize = 5_000;
const CALLS: usize = 20;
const SCRIPTS: usize = 500;
/// What the service may be off by.
const SLACK: usize = 1;

fn policy(rate: &str) -> String {
    // Slow scripts are cut off by a kill, and not by a limit.
    let limits =
        "[limits]\nwall_clock = \"20 s\"\noperations = 1_000_000_000_000\nconcurrent = 8\n";
    let role = "[anonymous]\nroles = [\"r\"]\n[[role]]\nname = \"r\"\n";
    format!("{limits}{role}allow = [{{ calls = [\"hash\"], rate = [{rate}] }}]\n")
}

/// A script that makes so many calls, does nothing for a while after each, and says how many they were.
fn uses(calls: usize, pause: usize) -> String {
    format!(
        "let n = 0; while n < {calls} {{ hash(\"sha256\", \"x\"); n += 1; for i in 0..{pause} {{}} }} n"
    )
}

/// How many uses the answer to a script proves, and its error. Nothing if there is no answer in time.
async fn used(client: Client, script: String) -> Option<(usize, Option<String>)> {
    let request = tokio::time::timeout(PATIENCE, client.request(SUBJECT, script.into()));
    let reply = request.await.ok()?.ok()?;
    let header = |name: &str| {
        let headers = reply.headers.as_ref()?;
        headers.get(name).map(|value| value.as_str().to_owned())
    };
    match header("Nats-Service-Error") {
        Some(error) => Some((0, Some(error))),
        // Whoever has no proof of the service has not been answered by it.
        None => header("Crypto-Proof").map(|_| (text(&reply.payload).parse().unwrap(), None)),
    }
}

/// More than 10,000 uses are asked for, from eight sides at once and over a kill, and some half of them are
/// allowed: by the log, from which the service counts as well, and by the answers, from which it does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_rate_holds_to_the_last_use_under_load_and_over_a_kill() {
    let nats = Nats::plain();
    let rate = format!("\"{ALLOWED}/1h\", \"100000/1d\"");
    let mut service = Service::start(&nats, &policy(&rate));
    let client = nats.client().await;
    let ask = |_| used(client.clone(), uses(CALLS, 0));
    let first: Vec<_> =
        futures_util::stream::iter((0..SCRIPTS / 4).map(ask)).buffered(8).collect().await;
    let first: usize = first.into_iter().map(|answer| answer.expect("an answer").0).sum();
    assert_eq!(first, SCRIPTS / 4 * CALLS, "nothing is limited yet");

    let killed = uses_of_the_killed(&mut service, &client).await;
    let before = recorded(&service);
    assert!(killed > 0 && first + killed < before && before < ALLOWED, "{first} {killed} {before}");

    service.restart(&nats);
    let rest: Vec<_> =
        futures_util::stream::iter((0..SCRIPTS * 3 / 4).map(ask)).buffered(8).collect().await;
    let limited =
        rest.iter().flatten().filter(|(_, error)| error.as_deref() == Some("rate-limited")).count();
    assert!(limited > SCRIPTS / 4, "the rate is used up before the end: {limited}");
    let rest: usize = rest.iter().flatten().map(|(uses, _)| uses).sum();
    let answered = first + killed + rest;
    assert!(rest > 0 && answered <= ALLOWED + SLACK, "{answered} uses were answered");
    let after = recorded(&service);
    assert!(after.abs_diff(ALLOWED) <= SLACK, "{after} uses were allowed, not {ALLOWED}");
    service.stop();
}

/// Kills the service while slow scripts stand in their middle and quick ones are answered beside them: how
/// many uses were answered.
async fn uses_of_the_killed(service: &mut Service, client: &Client) -> usize {
    let before = recorded(service);
    // Each takes many seconds.
    let slow = [(); 4].map(|()| tokio::spawn(used(client.clone(), uses(200, 20_000))));
    let answered = Arc::new(AtomicUsize::new(0));
    let quick = [(); 4].map(|()| {
        let (client, answered) = (client.clone(), Arc::clone(&answered));
        tokio::spawn(async move {
            while let Some((uses, None)) = used(client.clone(), uses(CALLS, 0)).await {
                answered.fetch_add(uses, Ordering::Relaxed);
                // The slow ones have a part in the log as well.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
    });
    wait_until("quick ones are answered and slow ones have begun", || {
        let seen = answered.load(Ordering::Relaxed);
        (seen >= 10 * CALLS && recorded(service) >= before + seen + 8).then_some(())
    });
    service.crash();
    for quick in quick {
        // What was answered before the kill is counted by now, and nothing else comes.
        let _ended = tokio::time::timeout(Duration::from_millis(500), quick).await;
    }
    for slow in slow {
        assert!(!slow.is_finished() || slow.await.unwrap().is_none_or(|(uses, _)| uses == 0));
    }
    answered.load(Ordering::Relaxed)
}

/// A policy of one rule, which counts.
fn counting(rate: &str) -> String {
    format!(
        "[anonymous]\nroles = [\"r\"]\n[[role]]\nname = \"r\"\n\
         allow = [{{ name = \"a\", calls = [\"hash\"], rate = [\"{rate}\"] }}]\n"
    )
}

/// How many uses are allowed, of as many as are asked for.
async fn used_of(client: &Client, most: usize) -> usize {
    for uses in 0..most {
        match ask_plainly(client, "hash(\"sha256\", \"x\")").await.error.as_deref() {
            None => {}
            Some("rate-limited") => return uses,
            Some(other) => panic!("{other}"),
        }
    }
    most
}

/// What a note has of the account.
fn noted(service: &Service) -> serde_json::Value {
    let note = std::fs::read_to_string(service.home.join("audit.uses")).unwrap();
    let note: serde_json::Value = serde_json::from_str(note.lines().next().unwrap()).unwrap();
    note["accounts"][0].clone()
}

/// A note has what windows ask for and the latest hundred uses, so that a window that is made longer counts what
/// was used before, and a crash after that changes no count.
#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_a_reload_makes_longer_counts_what_was_used_before_also_after_a_crash() {
    let nats = Nats::plain();
    let mut service = Service::start(&nats, &counting("3/1s"));
    let client = nats.client().await;
    for _ in 0..3 {
        assert_eq!(used_of(&client, 3).await, 3);
        tokio::time::sleep(Duration::from_millis(1_100)).await;
    }
    service.scratch.policy(&counting("13/1h"));
    let mut command = cli();
    let done = command.args(["policy", "reload", "--home"]).arg(&service.home).output().unwrap();
    assert_eq!(outcome(&done).0, 0, "{done:?}");
    let account = noted(&service);
    assert_eq!((&account["total"], account["times"].as_array().unwrap().len()), (&9.into(), 9));
    assert_eq!(account["windows"], serde_json::json!({ "uses": 13, "milliseconds": 3_600_000 }));
    assert_eq!(used_of(&client, 2).await, 2);
    service.crash();
    service.restart(&nats);
    assert_eq!(used_of(&client, 20).await, 2, "thirteen in all");
    service.stop();
}

/// Runs a script in the home under another policy, which leaves a note.
fn run_under(service: &Service, policy: &str) {
    let text = format!("version = 1\nservice.name = \"{SERVICE}\"\n{policy}");
    let policy = service.scratch.write("other.toml", text);
    let script = service.scratch.write("one.rhai", "1");
    let mut command = cli();
    command.arg("run").arg(&script).arg("--home").arg(&service.home);
    command.arg("--policy").arg(policy).arg("--passphrase-file");
    command.arg(service.scratch.passphrase_file());
    let done = outcome(&command.output().unwrap());
    assert_eq!((done.0, done.1.as_str()), (0, "1\n"), "{}", done.2);
}

/// A policy that has no rule which counts.
const WITHOUT: &str = "[anonymous]\nroles = [\"o\"]\n[[role]]\nname = \"o\"\n";

/// Whoever may start a command in the home must not thereby give a client its rate back: not under a policy that
/// has no such rule, nor under one that rates in shorter windows; after a proper end as after a crash.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_under_another_policy_in_between_gives_no_use_back() {
    let nats = Nats::plain();
    let mut service = Service::start(&nats, &counting("150/1d"));
    let client = nats.client().await;
    assert_eq!(used_of(&client, 149).await, 149);
    service.crash();
    run_under(&service, WITHOUT);
    service.restart(&nats);
    assert_eq!(used_of(&client, 3).await, 1);
    service.stop();
    run_under(&service, WITHOUT);
    run_under(&service, &counting("1/1s"));
    service.restart(&nats);
    assert_eq!(used_of(&client, 3).await, 0);
    service.stop();
}

/// After a crash no note has the windows of what was used last: there was none yet, or the rule was widened since.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_the_windows_are_noted_gives_no_use_back() {
    let nats = Nats::plain();
    for is_widened in [false, true] {
        let first = counting(if is_widened { "1/1s" } else { "150/1d" });
        let mut service = Service::start(&nats, &first);
        let client = nats.client().await;
        assert_eq!(used_of(&client, 1).await, 1);
        if is_widened {
            service.stop();
            service.scratch.policy(&counting("150/1d"));
            service.restart(&nats);
        }
        assert_eq!(used_of(&client, 148).await, 148);
        service.crash();
        run_under(&service, &if is_widened { WITHOUT.to_owned() } else { counting("1/1s") });
        service.restart(&nats);
        assert_eq!(used_of(&client, 3).await, 1, "{is_widened}");
        service.stop();
    }
}

/// The uses that the log tells of.
fn recorded(service: &Service) -> usize {
    let log = std::fs::read_to_string(service.home.join("audit.log")).unwrap();
    log.matches("\"decision\":\"allow\"").count()
}

const IN_WINDOW: usize = 40;
const WINDOW: Duration = Duration::from_secs(2);

/// A window that slides, over a crash: no stretch of its length holds more, wherever it begins. Bursts come
/// at such times that windows which begin anew every two seconds would let two of them through.
#[tokio::test(flavor = "multi_thread")]
async fn a_short_window_slides_and_holds_over_a_kill_as_the_answers_show() {
    let nats = Nats::plain();
    let mut service = Service::start(&nats, &policy(&format!("\"{IN_WINDOW}/2s\"")));
    let client = nats.client().await;
    let mut answers = Vec::new();
    let begun = Instant::now();
    for burst in 0_u32.. {
        if answers.len() >= 4 * IN_WINDOW {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "only {} uses were allowed", answers.len());
        let one = |_| async {
            let asked = Instant::now();
            let answer = used(client.clone(), uses(1, 0)).await.expect("an answer");
            (answer, asked, Instant::now())
        };
        let asked = (0..IN_WINDOW + 5).map(one);
        let all: Vec<_> = futures_util::stream::iter(asked).buffered(8).collect().await;
        for ((uses, error), asked, answered) in all {
            assert_eq!(
                (uses, error.as_deref()),
                if uses == 1 { (1, None) } else { (0, Some("rate-limited")) }
            );
            answers.extend((uses == 1).then_some((asked, answered)));
        }
        if burst == 0 {
            assert_eq!(answers.len(), IN_WINDOW, "a burst is let through to the last");
            service.crash();
            service.restart(&nats);
        } else {
            tokio::time::sleep(WINDOW * 3 / 8).await;
        }
    }
    // Each use was at some moment between its two; the service counts in milliseconds.
    let window = WINDOW - Duration::from_millis(2);
    for (start, _) in &answers {
        let inside =
            |(asked, answered): &&(Instant, Instant)| asked >= start && *answered < *start + window;
        let inside = answers.iter().filter(inside).count();
        assert!(inside <= IN_WINDOW, "{inside} uses in {window:?}");
    }
}

/// A mark that was put back says nothing of the lines that were cut; the note of what was counted does.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_cut_to_where_an_old_mark_says_lacks_what_was_counted() {
    let nats = Nats::plain();
    let mut service = Service::start(&nats, &counting("100/1d"));
    let client = nats.client().await;
    assert_eq!(used_of(&client, 1).await, 1);
    service.stop();
    let [log, mark, uses] =
        ["audit.log", "audit.mark", "audit.uses"].map(|name| service.home.join(name));
    let read = |path: &std::path::Path| std::fs::read(path).unwrap();
    let (old_log, old_mark) = (read(&log), read(&mark));
    service.restart(&nats);
    assert_eq!(used_of(&client, 2).await, 2);
    service.stop();
    assert_eq!(service.audit_verify().0, 0);
    let (good_log, good_mark, good_uses) = (read(&log), read(&mark), read(&uses));
    let lines = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count();
    for (new_log, new_mark, new_uses, file, line, why) in [
        (&old_log, &*old_mark, &*good_uses, "audit.log", lines(&old_log) + 1, "are missing"),
        (&Vec::new(), &old_mark, &good_uses, "audit.log", 1, "are missing"),
        (&good_log, b"x", &good_uses, "audit.mark", 1, "not as the service signed it"),
        (&good_log, &good_mark, b"x", "audit.uses", 1, "not as the service signed it"),
    ] {
        for (path, bytes) in [(&log, &**new_log), (&mark, new_mark), (&uses, new_uses)] {
            std::fs::write(path, bytes).unwrap();
        }
        let (exit, _, err) = service.audit_verify();
        let place = format!("{file}:{line}: ");
        assert!(exit == 4 && err.contains(&place) && err.contains(why), "{place} {why}: {err}");
        // The service says the same by not starting.
        let mut again = Service::launch(&service.scratch, &service.home, &nats.url(), own());
        assert_eq!(again.ended().code(), Some(4), "{place} {why}");
    }
    std::fs::write(&uses, &good_uses).unwrap();
    std::fs::write(&log, "").unwrap();
    std::fs::remove_file(&mark).unwrap();
    let (exit, _, err) = service.audit_verify();
    assert!(exit == 4 && err.contains("audit.mark:1: ") && err.contains("is missing"), "{err}");
}
