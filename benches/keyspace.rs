//! What a large keyspace costs: opening it, a signature, one more key, and the memory of the process that holds
//! it, at one key and at a million (or `KEYS`). Fails when a million keys cost more than they may.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a measurement: it prints, and stops where something is wrong"
)]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use keyspace::{Home, Locked, Opening, Passphrase, Unlocked};
use policy::{Act, Decision, Facts, Permit, Policy, RateBook, Target};
use wire::operator::KdfCost;
use wire::script::Scheme;
use wire::{Algorithm, CallName, KeyPath, Name};

/// Keys of one commit.
const BATCH: u64 = 1_000;
/// Uses that are measured.
const USES: u64 = 2_000;
/// What a signature at a million keys may take, of what it takes at one.
const SIGN_RATIO: f64 = 1.2;
/// What one more key may take at a million keys, of what it takes at one.
const CREATE_RATIO: f64 = 1.5;
/// What opening may take besides the key derivation.
const OPEN: Duration = Duration::from_secs(1);
/// What the process that holds the keys may take, in KiB.
const MEMORY: u64 = 200 * 1024;

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    if arguments.next().as_deref() == Some("hold") {
        return hold(Path::new(&arguments.next().unwrap()));
    }
    let keys = std::env::var("KEYS").map_or(1_000_000, |keys| keys.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let [small, large] = ["small", "large"].map(|name| {
        let home = Home::create(&folder.path().join(name)).unwrap();
        Unlocked::create(&home, &passphrase(), KdfCost::Standard, 1).unwrap();
        home
    });
    fill(&unlock(&small).0, 1);
    let (first, last) = fill(&unlock(&large).0, keys);
    println!(
        "{BATCH} keys in one commit: the first in {first:.1?}, the last of {keys} in {last:.1?}"
    );
    let (_, derive) = unlock(&small);
    let (keyspace, open) = unlock(&large);
    let opened = open.saturating_sub(derive);
    println!("opened, key derivation ({derive:.1?}) taken off: {opened:.1?}");
    let one_more =
        |keyspace: &Unlocked| p50((0..100).map(|number| timed(|| add(keyspace, number))));
    let (at_many, at_one) = (one_more(&keyspace), one_more(&unlock(&small).0));
    let create_ratio = at_many.as_secs_f64() / at_one.as_secs_f64();
    println!(
        "one more key, on disk, p50: {at_one:.1?} at one key, {at_many:.1?} at {keys}: {create_ratio:.2} times"
    );
    drop(keyspace);
    let (one, many) = (signs(&unlock(&small).0, 1), signs(&unlock(&large).0, keys));
    let ratio = many.as_secs_f64() / one.as_secs_f64();
    println!("a signature, p50: {one:.1?} at one key, {many:.1?} at {keys}: {ratio:.2} times");
    let held = Command::new(std::env::current_exe().unwrap())
        .arg("hold")
        .arg(large.path())
        .output()
        .unwrap();
    assert!(held.status.success(), "{held:?}");
    let held = String::from_utf8(held.stdout).unwrap();
    let (held, peak) = held.trim().split_once(' ').unwrap();
    let [held, peak] = [held, peak].map(|number| number.parse::<u64>().unwrap());
    println!(
        "memory of a process that holds it and used {USES} keys: {held} KiB, {peak} KiB at its most"
    );
    assert!(opened < OPEN, "opening takes {opened:?}");
    assert!(create_ratio < CREATE_RATIO, "one more key takes {create_ratio:.2} times as long");
    assert!(ratio < SIGN_RATIO, "a signature takes {ratio:.2} times as long");
    // Also while the key is derived, which takes 64 MiB.
    assert!(held <= peak && peak < MEMORY, "the process takes {peak} KiB");
}

/// A process that holds the keyspace and uses it: its memory, once the derivation's is given back, and the most that
/// it was.
fn hold(home: &Path) {
    let home = Home::open(home).unwrap();
    let (keyspace, _) = unlock(&home);
    let keys = keyspace.as_operator().space(&name("s")).unwrap().keys.unwrap();
    signs(&keyspace, keys);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let [held, peak] = ["VmRSS:", "VmHWM:"].map(|what| {
        let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
        line.trim().trim_end_matches(" kB")
    });
    println!("{held} {peak}");
}

fn passphrase() -> Passphrase {
    Passphrase::new(b"correct horse battery".to_vec()).unwrap()
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn path(number: u64) -> KeyPath {
    KeyPath { space: name("s"), key: name(&format!("k{number}")) }
}

fn unlock(home: &Home) -> (Unlocked, Duration) {
    let started = Instant::now();
    let keyspace = Locked::open(home).unwrap().unlock(&passphrase(), Opening::default()).unwrap();
    (keyspace, started.elapsed())
}

/// So many keys, a batch to a commit, as scripts make them: what the first and the last batch took.
fn fill(keyspace: &Unlocked, keys: u64) -> (Duration, Duration) {
    let policy = everything();
    let mut times = Vec::new();
    for batch in 0..keys.div_ceil(BATCH) {
        let started = Instant::now();
        let mut staged = keyspace.stage().unwrap();
        if batch == 0 {
            staged
                .create_space(permit(&policy, CallName::CreateKeySpace, Target::Space(name("s"))))
                .unwrap();
        }
        for number in batch * BATCH..keys.min((batch + 1) * BATCH) {
            let permit = permit(&policy, CallName::CreateKeypair, Target::Key(path(number)));
            staged.create_key(permit, Algorithm::Ed25519, 1).unwrap();
        }
        staged.in_turn(Duration::from_secs(60)).unwrap().commit(1).unwrap();
        times.push(started.elapsed());
    }
    (times[0], times[times.len() - 1])
}

fn add(keyspace: &Unlocked, number: u64) {
    let key = KeyPath { space: name("s"), key: name(&format!("more{number}")) };
    keyspace.as_operator().new_key(&key, Algorithm::Ed25519, 1).unwrap();
}

/// The time of a signature by keys from all over the keyspace.
fn signs(keyspace: &Unlocked, keys: u64) -> Duration {
    let policy = everything();
    let staged = keyspace.stage().unwrap();
    p50((0..USES).map(|use_| {
        // Steps of a large prime come everywhere.
        let number = use_.wrapping_mul(2_654_435_761) % keys.min(1_000_000);
        timed(|| {
            let permit = permit(&policy, CallName::Sign, Target::Key(path(number)));
            let signature = staged.sign(permit, Scheme::Plain, b"message").unwrap();
            assert_eq!(signature.map(|bytes| bytes.len()), Some(64));
        })
    }))
}

fn everything() -> Policy {
    let text = "version = 1\nservice.name = \"s\"\nanonymous.roles = [\"r\"]\n[[role]]\nname = \"r\"\n\
                allow = [{ calls = [\"*\"], keys = [\"*/*\"] }]\n";
    Policy::parse("p.toml", text).unwrap()
}

fn permit(policy: &Policy, call: CallName, target: Target) -> Permit {
    let caller = policy.anonymous().unwrap();
    match policy.decide(&caller, Act { call, target }, &Facts::default()) {
        Decision::Allow(grant) => grant.spend(&mut RateBook::default()).unwrap(),
        Decision::Refuse(_) => unreachable!(),
    }
}

fn timed(act: impl FnOnce()) -> Duration {
    let started = Instant::now();
    act();
    started.elapsed()
}

fn p50(times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<_> = times.collect();
    times.sort();
    times[times.len() / 2]
}
