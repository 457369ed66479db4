//! What running a script costs: a trivial one and one with a signature, in a fresh process, in one that
//! is kept for its client, and beside them in this very process without any containment. Prints
//! microseconds of processor time of all processes together, and of waiting.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    reason = "a measurement: it prints, and stops where something is wrong"
)]

use std::fs;
use std::path::Path;
use std::time::Instant;

use broker::{Audit, Broker, Lanes, ProofMark, Records};
use keyspace::Unlocked;
use policy::Policy;
use sandbox::{Launcher, Strictness};

/// Fewer than the scripts after which a lane is replaced: what that had taken would be lost.
const RUNS: usize = 850;
const NKEY: &str = "NKEY";

fn main() {
    println!("{:<34}{:>10}{:>10}{:>10}{:>10}", "", "cpu us", "wall min", "p50", "p99");
    for (name, script) in [("trivial", "40 + 2"), ("one sign", "sign(\"m\", \"s/k\")")] {
        for isolation in ["script", "client"] {
            measure(&format!("{name}, isolation = {isolation}"), isolation, script);
        }
    }
    in_process();
    refusals();
    check();
    memory();
    after_a_kill();
}

fn broker(isolation: &str) -> Broker {
    let identity = proof::Identity::generate();
    let text = r#"
version = 1
[service]
name = "bench"
[sandbox]
isolation = "ISOLATION"
[[client]]
name = "bench"
nkey = "NKEY"
roles = ["all"]
[[role]]
name = "all"
allow = [{ calls = ["*"], keys = ["*/*"] }]
deny = [{ calls = ["sign"], keys = ["denied/*"] }]
"#;
    let text = text.replace("ISOLATION", isolation).replace(NKEY, &identity.nkey());
    let policy = Policy::parse("bench", &text).unwrap();
    let lanes = lanes(&policy);
    let records = Records { audit: Audit::ephemeral(), mark: ProofMark::ephemeral() };
    let keyspace = Unlocked::ephemeral(0).unwrap();
    Broker::new(policy, &text, keyspace, records, lanes).unwrap()
}

fn lanes(policy: &Policy) -> Lanes {
    let worker = env!("CARGO_BIN_EXE_crypto-cli-worker");
    let arguments = ["launcher".to_owned(), format!("--worker={worker}")];
    let launcher =
        Launcher::start(Path::new(env!("CARGO_BIN_EXE_crypto-cli")), &arguments).unwrap();
    Lanes::open(launcher, policy, Strictness::BestEffort).unwrap()
}

fn measure(name: &str, isolation: &str, script: &str) {
    let broker = broker(isolation);
    let caller = broker.policy().client_by_name("bench", 0).unwrap();
    let run = |script: &str| {
        let outcome = broker.run(&caller, 0, script.as_bytes());
        assert!(outcome.ending.is_ok(), "{}", outcome.json());
    };
    run("create_key_space(\"s\"); create_keypair(\"k\")");
    for _ in 0..100 {
        run(script);
    }
    let before = ticks();
    let mut walls: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            run(script);
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    let cpu = (ticks() - before) as f64 * 1e4 / RUNS as f64;
    walls.sort_by(f64::total_cmp);
    let at = |share: usize| walls[(walls.len() - 1) * share / 100];
    println!("{name:<34}{cpu:>10.0}{:>10.0}{:>10.0}{:>10.0}", walls[0], at(50), at(99));
}

/// What the same costs without a process in between: the engine as the worker builds it, and one
/// Ed25519 signature by the library. It contains nothing.
fn in_process() {
    let count = 20_000_u32;
    let per = |before: u64| (ticks() - before) as f64 * 1e4 / f64::from(count);
    let engine = script::Probe::new();
    let before = ticks();
    for _ in 0..count {
        assert!(engine.run("40 + 2"));
    }
    println!("{:<34}{:>10.1}", "trivial, in process", per(before));
    let keyspace = Unlocked::ephemeral(0).unwrap();
    let before = ticks();
    for _ in 0..count {
        assert!(engine.run("40 + 2"));
        std::hint::black_box(keyspace.sign_as_service(b"m"));
    }
    println!("{:<34}{:>10.1}", "one sign, in process", per(before));
}

/// A refusal where there is a key, and one where there is none: nobody learns from the time which.
fn refusals() {
    let broker = broker("client");
    let caller = broker.policy().client_by_name("bench", 0).unwrap();
    let made =
        broker.run(&caller, 0, b"create_key_space(\"denied\"); create_keypair(\"denied/k\")");
    assert!(made.ending.is_ok());
    let scripts = ["sign(\"m\", \"denied/k\")", "sign(\"m\", \"denied/n\")"];
    let mut walls = scripts.map(|_| Vec::new());
    for _ in 0..400 {
        for (script, walls) in scripts.iter().zip(&mut walls) {
            let start = Instant::now();
            assert!(broker.run(&caller, 0, script.as_bytes()).ending.is_err());
            walls.push(start.elapsed().as_secs_f64() * 1e6);
        }
    }
    let [there, nowhere] = walls.map(|mut walls| {
        walls.sort_by(f64::total_cmp);
        walls[walls.len() / 2]
    });
    println!(
        "refused, p50: {there:.0} us where there is a key, {nowhere:.0} us where there is none"
    );
}

/// What `check` takes of the longest script that a policy allows by default, once its lane is there: to
/// parse it in a process of its own, and to hold every call against the policy.
fn check() {
    let text = "version = 1\nservice.name = \"bench\"\nanonymous.roles = [\"all\"]\n[[role]]\nname = \"all\"\n\
        allow = [{ calls = [\"sign\"], keys = [\"s/*\"], message_max = \"1 KiB\" }, { calls = [\"hash\"] }]\n";
    let policy = Policy::parse("bench", text).unwrap();
    let (lanes, who) = (lanes(&policy), policy.anonymous().unwrap());
    let line =
        "let a = hash(\"sha256\", \"some text\") + \"x\"; if a.len() > 3 { sign(a, \"s/k\"); }\n";
    let script = line.repeat(65_536 / line.len());
    let mut walls: Vec<f64> = (0..50)
        .map(|_| {
            let start = Instant::now();
            let sightings = broker::check(&lanes, script.as_bytes(), policy.limits()).unwrap();
            assert_eq!(sightings.len(), 2 * script.lines().count());
            for sighting in &sightings {
                let known = policy::Known {
                    key: sighting.literal.as_ref(),
                    message: sighting.message.as_deref(),
                    namespace: sighting.namespace.as_deref(),
                    algorithm: sighting.algorithm,
                    own_key: None,
                    now: Some(0),
                };
                std::hint::black_box(policy.foresee(&who, sighting.call.unwrap(), known));
            }
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    walls.sort_by(f64::total_cmp);
    println!(
        "check of {} bytes: min {:.1} ms, p50 {:.1} ms, p99 {:.1} ms",
        script.len(),
        walls[0],
        walls[25],
        walls[49]
    );
    assert!(walls[25] < 50.0, "it takes longer than 50 ms");
}

/// What a lane and a script's process take, by `smaps_rollup`, which is shown to root alone.
fn memory() {
    for isolation in ["script", "client"] {
        let broker = broker(isolation);
        let caller = broker.policy().client_by_name("bench", 0).unwrap();
        std::thread::scope(|scope| {
            let running = scope
                .spawn(|| broker.run(&caller, 0, b"let i = 0; while i < 150000 { i += 1; } i"));
            std::thread::sleep(std::time::Duration::from_millis(25));
            for pid in tree(std::process::id()).into_iter().skip(1) {
                let Ok(text) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else {
                    continue;
                };
                let field = |name: &str| {
                    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
                    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0)
                };
                let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
                let filters =
                    status.lines().find(|l| l.starts_with("Seccomp_filters")).unwrap_or("");
                let own = field("Private_Dirty:") + field("Private_Clean:");
                let command =
                    fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                println!(
                    "{isolation}: pid {pid}, {}, {filters}: RSS {} kB, PSS {} kB, private {own} kB",
                    command.replace('\0', " ").chars().take(30).collect::<String>(),
                    field("Rss:"),
                    field("Pss:"),
                );
            }
            let outcome = running.join().unwrap();
            assert!(outcome.ending.is_ok(), "{}", outcome.json());
        });
    }
}

/// From the kill of a lane to the end of the next script.
fn after_a_kill() {
    let broker = broker("script");
    let caller = broker.policy().client_by_name("bench", 0).unwrap();
    let mut walls: Vec<f64> = (0..20)
        .map(|_| {
            assert!(broker.run(&caller, 0, b"1").ending.is_ok());
            for pid in tree(std::process::id()).into_iter().skip(2) {
                let _gone =
                    std::process::Command::new("kill").args(["-9", &pid.to_string()]).output();
            }
            let start = Instant::now();
            // One that meets the dying lane is lost with it.
            while broker.run(&caller, 0, b"1").ending.is_err() {}
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    walls.sort_by(f64::total_cmp);
    println!(
        "kill of a lane to the next script served: min {:.1} ms, p50 {:.1} ms",
        walls[0], walls[10]
    );
}

/// This process and all below it, parents first.
fn tree(root: u32) -> Vec<u32> {
    let all: Vec<(u32, u32)> = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid: u32| Some((pid, fields(pid)?[1].parse().ok()?)))
        .collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(all.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found
}

/// Fields of `/proc/PID/stat` after the name, beginning with the state.
fn fields(pid: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

/// Processor time of all of them and of their children that ended, in hundredths of a second.
fn ticks() -> u64 {
    let times = |pid| {
        let fields = fields(pid).unwrap_or_default();
        fields
            .get(11..15)
            .unwrap_or_default()
            .iter()
            .map(|t| t.parse::<u64>().unwrap_or(0))
            .sum::<u64>()
    };
    tree(std::process::id()).into_iter().map(times).sum()
}
