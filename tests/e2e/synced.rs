//! `[audit] sync`: when a line of the log is on disk. `tests/hostile/preloaded.rs` sees it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::audit::MAKE;
use crate::support::*;

/// A disk may take its time.
const LIMITS: &str = "[limits]\nwall_clock = \"20 s\"\n";
const SIGNATURES: usize = 100;

/// How often the log was put on disk while a script signed, and how long that took.
async fn syncs(nats: &Nats, audit: &str) -> (usize, Duration) {
    let scratch = Scratch::new();
    let (home, _) = scratch.home();
    let log = scratch.path("listen.log");
    let synced = home.join("synced");
    fs::write(&synced, "").unwrap();
    let mut listen = cli();
    listen.env("LD_PRELOAD", hostile("libpreloaded.so")).env("PRELOADED_SYNCED", &synced);
    listen.args(["listen", "--server", &nats.url(), "--subject", SUBJECT, "--policy"]);
    listen.arg(scratch.policy(&format!("{audit}{LIMITS}{OPEN_TO_ANYBODY}")));
    listen.arg("--home").arg(&home).arg("--passphrase-file").arg(scratch.passphrase_file());
    listen.stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap());
    let _service = Running::start(&mut listen);
    wait_until("the service is ready", || {
        fs::read_to_string(&log).unwrap().contains("serves `").then_some(())
    });
    let client = nats.client().await;
    ask_plainly(&client, MAKE).await;
    let of_the_log = || {
        let inode = fs::metadata(home.join("audit.log")).unwrap().ino().to_string();
        fs::read_to_string(&synced).unwrap().lines().filter(|line| *line == inode).count()
    };
    assert!(of_the_log() > 0, "a commit is on disk before it is acknowledged");
    let (before, begun) = (of_the_log(), Instant::now());
    let script = format!("for i in 0..{SIGNATURES} {{ sign(\"m\", \"s/k\"); }} 0");
    assert_eq!(ask_plainly(&client, &script).await.text, "0");
    assert_eq!(decisions(&home), SIGNATURES + 2);
    let (during, took) = (of_the_log() - before, begun.elapsed());
    // Nobody asks for anything more.
    wait_until("the lines are on disk", || (of_the_log() > before).then_some(()));
    (during, took)
}

fn decisions(home: &Path) -> usize {
    fs::read_to_string(home.join("audit.log")).unwrap().matches("\"kind\":\"decision\"").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_line_is_on_disk_before_its_effect_where_the_policy_says_so() {
    let nats = Nats::plain();
    // Every decision, and the end of the request.
    let (each, _) = syncs(&nats, "[audit]\nsync = \"each\"\n").await;
    assert!(each > SIGNATURES, "{each} of {SIGNATURES}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_what_only_signs_are_put_on_disk_together() {
    let nats = Nats::plain();
    let (together, took) = syncs(&nats, "").await;
    let most = took.as_millis() / 100 + 2;
    assert!(together as u128 <= most, "{together} in {took:?}");
}
