//! The corpus of `tests/attacks` and `tests/benign`, each script under the policy that lies there.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::*;

/// The memory bound of the policy, and what the process may have besides.
const MOST_BYTES: u64 = (16 + 4) * 1024 * 1024;
/// The time bound of the policy, and how much later the answer may be there.
const MOST_US: u64 = 1_000_000 + 100_000;
const CODES: [&str; 13] = [
    "ok",
    "parse-error",
    "script-error",
    "policy-denied",
    "limit-script-size",
    "limit-operations",
    "limit-memory",
    "limit-time",
    "limit-depth",
    "limit-host-calls",
    "limit-new-keys",
    "limit-output",
    "limit-result",
];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

fn scripts_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = entries
        .flat_map(|path| if path.is_dir() { scripts_below(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rhai"))
        .collect();
    found.sort();
    found
}

/// The second line of a script, after what it begins with.
fn promise(script: &[u8], begins: &str) -> String {
    let line = script.split(|byte| *byte == b'\n').nth(1).unwrap();
    let line = std::str::from_utf8(line).unwrap();
    line.strip_prefix(begins).unwrap_or_else(|| panic!("`{line}`")).trim().to_owned()
}

fn run(script: &Path) -> serde_json::Value {
    let output = cli()
        .args(["run", "--ephemeral", "--format", "json", "--policy"])
        .arg(folder("attacks").join("policy.toml"))
        .arg(script)
        .output()
        .unwrap();
    let shown = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(!shown.trim_end().chars().any(wire::steers), "{script:?}: {shown}");
    serde_json::from_str(&shown).unwrap_or_else(|_| panic!("{script:?}: {output:?}"))
}

/// Runs `look` on each, two at a time: more would take the time of each other.
fn on_each(scripts: &[PathBuf], look: impl Fn(&Path) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(script) = scripts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    look(script);
                }
            });
        }
    });
}

#[test]
fn every_attack_is_contained_in_time_and_memory() {
    let scripts = scripts_below(&folder("attacks"));
    assert!(scripts.len() >= 500, "{}", scripts.len());
    on_each(&scripts, |script| {
        let head = promise(&fs::read(script).unwrap(), "// may end in:");
        let allowed: Vec<&str> = head.split(", ").collect();
        assert!(allowed.iter().all(|code| CODES.contains(code)), "{script:?}: {allowed:?}");
        // A machine that stood still for a moment is not the program's fault; one that always does is.
        let late = (0..3).all(|_| {
            let outcome = run(script);
            let code = outcome["error"]["code"].as_str().unwrap_or("ok");
            assert!(allowed.contains(&code), "{script:?}: {outcome}");
            let memory = outcome["usage"]["memory_bytes"].as_u64().unwrap();
            assert!(memory <= MOST_BYTES, "{script:?}: {memory} bytes");
            outcome["usage"]["wall_us"].as_u64().unwrap() > MOST_US
        });
        assert!(!late, "{script:?} takes too long");
    });
}

#[test]
fn what_real_users_send_passes_under_the_default_limits() {
    let scripts = scripts_below(&folder("benign"));
    assert!(scripts.len() >= 40, "{}", scripts.len());
    on_each(&scripts, |script| {
        let promised = promise(&fs::read(script).unwrap(), "// gives:");
        let outcome = run(script);
        assert_eq!(outcome["status"], "ok", "{script:?}: {outcome}");
        let given = &outcome["result"];
        let is_signature = |value: &serde_json::Value| {
            let text = value.as_str().unwrap_or_default();
            text.len() == 128 && text.bytes().all(|b| b.is_ascii_hexdigit())
        };
        let holds = match promised.strip_prefix("signature") {
            Some("") => is_signature(given),
            Some(count) => {
                let given = given.as_array().unwrap();
                given.len().to_string() == count.trim_start_matches("s ").trim()
                    && given.iter().all(is_signature)
            }
            None => *given == serde_json::from_str::<serde_json::Value>(&promised).unwrap(),
        };
        assert!(holds, "{script:?} gives {given}, not {promised}");
    });
}

/// One service takes the whole corpus and signs between any two of its scripts.
#[tokio::test(flavor = "multi_thread")]
async fn after_every_attack_the_service_signs_correctly() {
    let nats = Nats::plain();
    let policy = fs::read_to_string(folder("attacks").join("policy.toml")).unwrap();
    let scratch_policy = policy.split_once("[anonymous]").unwrap().1;
    // Any limit may end a script here, so none needs the whole second.
    let limits = "[limits]\nwall_clock = \"250 ms\"\n";
    let service = Service::start(&nats, &format!("{limits}[anonymous]{scratch_policy}"));
    let client = nats.client().await;
    let make = "create_key_space(\"lab\"); create_keypair(\"steady\"); public_key()";
    let public = ask_plainly(&client, make).await.text;
    for script in scripts_below(&folder("attacks")) {
        let body = fs::read(&script).unwrap();
        let head = promise(&body, "// may end in:");
        let reply = ask(&client, body, async_nats::HeaderMap::new()).await;
        // Keys of earlier scripts are there now, so an end may be another than the head's.
        let code = reply.error.as_deref().unwrap_or("ok");
        assert!(CODES.contains(&code), "{script:?}: {code}: {}", reply.text);
        assert!(head != "policy-denied" || code != "ok", "{script:?}: {}", reply.text);
        let message = format!("after {}", script.display());
        let signature = ask_plainly(&client, &format!("sign(\"{message}\", \"lab/steady\")")).await;
        assert!(verifies(&public, message.as_bytes(), &signature.text), "{script:?}");
    }
    let log = service.log();
    assert!(!log.contains("broke the protocol") && !log.contains("forbidden"), "{log}");
    // Every process that a script had is gone, and no more lanes are there than may run at once.
    wait_until("no script's process is left", || {
        script_processes_below(service.process.pid()).is_empty().then_some(())
    });
    let left = descendants(service.process.pid()).len();
    assert!(left <= 2 + 2 * 8, "{left} processes");
}
