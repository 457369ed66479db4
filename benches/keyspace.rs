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

use keyspace::{Home, Locked, Opening, Passphrase, Staged, Unlocked};
use policy::{Act, Decision, Facts, Permit, Policy, RateBook, Target};
use wire::operator::KdfCost;
use wire::script::Scheme;
use wire::{Algorithm, CallName, KeyPath, Name};

/// Keys of one commit.
const BATCH: u64 = 1_000;
/// Keys that sign, from all over the keyspace, and how often each of them does.
const SIGNERS: u64 = 4_000;
const ROUNDS: u64 = 5;
/// New keys that are measured.
const NEW_KEYS: u64 = 200;
/// Parts in which times are compared: a disturbance spoils some, and the median is one of the others.
const PARTS: usize = 10;
/// What a signature at a million keys may take, of what it takes at one: also the first one of a key, which is read
/// from the file.
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
        let [large, small] = [(); 2].map(|()| Home::open(Path::new(&arguments.next().unwrap())));
        return hold(&large.unwrap(), &small.unwrap());
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
    let one = unlock(&small).0;
    // In turns, so that a machine that is slower for a while is so for both.
    let [(first, first_ratio), (again, sign_ratio)] = {
        let signers = [Signer::new(&one, 1), Signer::new(&keyspace, keys)];
        [0..SIGNERS, SIGNERS..SIGNERS * ROUNDS].map(|uses| {
            compared(uses.map(|number| signers.each_ref().map(|signer| signer.sign(number))))
        })
    };
    println!("a signature, p50: {again}; the first one of a key: {first}");
    let (create, create_ratio) =
        compared((0..NEW_KEYS).map(|number| [&one, &keyspace].map(|on| add(on, number))));
    println!("one more key, on disk, p50: {create}");
    drop((one, keyspace));
    let held = Command::new(std::env::current_exe().unwrap())
        .arg("hold")
        .args([large.path(), small.path()])
        .output()
        .unwrap();
    assert!(held.status.success(), "{held:?}");
    let held = String::from_utf8(held.stdout).unwrap();
    let (held, peak) = held.trim().split_once(' ').unwrap();
    let [held, peak] = [held, peak].map(|number| number.parse::<u64>().unwrap());
    println!(
        "memory of a process that holds it and signed with {SIGNERS} of them: {held} KiB, {peak} KiB at its most"
    );
    assert!(opened < OPEN, "opening takes {opened:?}");
    assert!(create_ratio < CREATE_RATIO, "one more key takes {create_ratio:.2} times as long");
    for ratio in [sign_ratio, first_ratio] {
        assert!(ratio < SIGN_RATIO, "a signature takes {ratio:.2} times as long");
    }
    // Also while a key is derived, which takes 64 MiB.
    assert!(held <= peak && peak < MEMORY, "the process takes {peak} KiB");
}

/// A process that holds the large keyspace, uses it, and derives another key meanwhile, as for a new passphrase: its
/// memory, and the most that it was.
fn hold(large: &Home, small: &Home) {
    let (keyspace, _) = unlock(large);
    let keys = keyspace.as_operator().space(&name("s")).unwrap().keys.unwrap() - NEW_KEYS;
    let signer = Signer::new(&keyspace, keys);
    for number in 0..SIGNERS {
        signer.sign(number);
    }
    drop(unlock(small));
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

/// The time that one more key takes, until it is on disk.
fn add(keyspace: &Unlocked, number: u64) -> Duration {
    let key = KeyPath { space: name("s"), key: name(&format!("more{number}")) };
    let started = Instant::now();
    keyspace.as_operator().new_key(&key, Algorithm::Ed25519, 1).unwrap();
    started.elapsed()
}

/// Signs as a script does, with keys from all over a keyspace.
struct Signer<'k> {
    staged: Staged<'k>,
    policy: Policy,
    keys: u64,
}

impl<'k> Signer<'k> {
    fn new(keyspace: &'k Unlocked, keys: u64) -> Self {
        Self { staged: keyspace.stage().unwrap(), policy: everything(), keys }
    }

    /// The time of one signature.
    fn sign(&self, number: u64) -> Duration {
        // Steps of a large prime come everywhere.
        let number = (number % SIGNERS).wrapping_mul(2_654_435_761) % self.keys;
        let started = Instant::now();
        let permit = permit(&self.policy, CallName::Sign, Target::Key(path(number)));
        let signature = self.staged.sign(permit, Scheme::Plain, b"message").unwrap();
        assert_eq!(signature.map(|bytes| bytes.len()), Some(64));
        started.elapsed()
    }
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

/// Both medians in words, and how many times the first the second is: the median of what the parts say.
fn compared(pairs: impl Iterator<Item = [Duration; 2]>) -> (String, f64) {
    let pairs: Vec<_> = pairs.collect();
    let medians = |pairs: &[[Duration; 2]]| {
        [0, 1].map(|which| median(pairs.iter().map(|pair| pair[which].as_secs_f64()).collect()))
    };
    let ratio = |part| {
        let [one, many] = medians(part);
        many / one
    };
    let ratio = median(pairs.chunks_exact(pairs.len() / PARTS).map(ratio).collect());
    let [one, many] = medians(&pairs).map(|seconds| seconds * 1e6);
    (format!("{one:.1} us at one key, {many:.1} us at many: {ratio:.2} times"), ratio)
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}
