//! What an operator does to a keyspace: by the service that holds it, and without one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::Value;
use wire::Channel;
use wire::admin::{ADMIN_SOCKET, FromAdmin, MAX_PART_BYTES, ToAdmin};
use wire::operator::{Act, Protection};

use crate::support::*;

/// A home and whoever acts on it.
pub(crate) struct Place {
    pub(crate) scratch: Scratch,
    pub(crate) home: PathBuf,
    pub(crate) nkey: String,
    pub(crate) passphrase: PathBuf,
}

impl Place {
    pub(crate) fn new() -> Self {
        let scratch = Scratch::new();
        let (home, nkey) = scratch.home();
        let passphrase = scratch.passphrase_file();
        Self { scratch, home, nkey, passphrase }
    }

    /// The home of a service that was unlocked: what is asked of it takes no passphrase, but for what needs one.
    pub(crate) fn of(service: &Service) -> Self {
        let passphrase = service.scratch.passphrase_file();
        let nkey = service.nkey.clone();
        Self { scratch: Scratch::new(), home: service.home.clone(), nkey, passphrase }
    }

    pub(crate) fn command(&self, words: &str) -> Command {
        let mut command = cli();
        command.args(words.split(' ')).arg("--home").arg(&self.home);
        command.arg("--passphrase-file").arg(&self.passphrase);
        command
    }

    pub(crate) fn ask(&self, words: &str) -> (i32, String, String) {
        outcome(&self.command(words).output().unwrap())
    }

    /// Its output, of a command that must succeed.
    pub(crate) fn does(&self, words: &str) -> String {
        let (exit, out, err) = self.ask(words);
        assert_eq!(exit, 0, "{words}: {err}");
        out
    }

    pub(crate) fn refuses(&self, words: &str, exit: i32, why: &str) {
        let (got, out, err) = self.ask(words);
        assert!(got == exit && out.is_empty() && err.contains(why), "{words}: {got} {err}");
    }
}

/// A file by its name, for a command that is split at spaces.
pub(crate) fn arg(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Commands with what they print, and those that are refused; both in an order that makes sense.
fn a_day_at_work(place: &Place) -> Vec<String> {
    let bundle_passphrase = place.scratch.write("bundle-passphrase", "for the bundle\n");
    let bundle = place.scratch.path("a.ccb");
    let with = format!("--bundle-passphrase-file {}", arg(&bundle_passphrase));
    let mut told = Vec::new();
    let mut does = |words: &str| told.push(place.does(words));
    does("keyspace new team");
    does("key new team/release");
    does("key new team/eth --algorithm secp256k1");
    does("key new team/data --algorithm symmetric");
    does("key rotate team/release");
    does("key disable team/eth");
    does("key list");
    does("key delete team/data --yes --wait-days 2");
    does("key list team");
    does("key restore team/data");
    does("key enable team/data");
    does("key enable team/eth");
    does("keyspace rename team group");
    does(&format!("keyspace export group --output {} {with}", arg(&bundle)));
    does(&format!("keyspace import {} --rename copy {with}", arg(&bundle)));
    does(&format!("keyspace import {} --skip-existing {with}", arg(&bundle)));
    does("keyspace rotate --yes");
    does("keyspace verify");
    does("key list");
    does("keyspace list");
    let all = place.scratch.path("all.ccb");
    does(&format!("keyspace export --all --output {} {with}", arg(&all)));
    let public = |key: &str| place.does(&format!("key public {key}"));
    assert_eq!(public("group/release"), public("copy/release"));
    assert_ne!(public("group/release"), public("group/eth"));
    place.refuses("keyspace new group", 2, "there is a key space `group` already");
    place.refuses("key new none/k", 2, "there is no key space `none`");
    place.refuses("key new group/k --algorithm rsa", 2, "`rsa` is no algorithm: use ed25519,");
    place.refuses("key show group/none", 2, "there is no key `group/none`");
    place.refuses("key show group", 2, "write it as `space/key`");
    place.refuses("key public group/data", 2, "has no public key");
    place.refuses("keyspace delete group", 2, "pass `--yes` to destroy the key space `group`");
    place.refuses("key destroy group/data --yes", 2, "is not deleted: use `crypto-cli key delete`");
    place.refuses("key delete group/data --yes --wait-days 0", 2, "0 is not in 1..=3650");
    place.refuses("key delete group/data --yes --wait-days 3651", 2, "3651 is not in 1..=3650");
    let wrong = format!(
        "keyspace import {} --rename x --bundle-passphrase-file {}",
        arg(&bundle),
        arg(&place.passphrase)
    );
    place.refuses(&wrong, 3, "the encrypted file does not open");
    place.refuses(&format!("keyspace import {} {with}", arg(&bundle)), 2, "`--rename`");
    let over = format!("keyspace export group --output {} {with}", arg(&bundle));
    place.refuses(&over, 2, "is there already: it is left as it was");
    let none = place.scratch.path("none.ccb");
    place.refuses(
        &format!("keyspace export none --output {} {with}", arg(&none)),
        2,
        "no key space",
    );
    let to =
        |recipients: &str| format!("keyspace export group --output {} {recipients}", arg(&none));
    place.refuses(&to("--to age1none"), 2, "`age1none` is not a recipient");
    let recipient = place.does("key recipient");
    let many = format!("--to {recipient} ").repeat(17);
    place.refuses(&to(many.trim()), 2, "at most 16 recipients");
    assert!(!none.exists() && !leftover(place));
    let whole = std::fs::read(&bundle).unwrap();
    let cut = place.scratch.write("cut.ccb", &whole[..whole.len() - 1]);
    place.refuses(&format!("keyspace import {} --rename x {with}", arg(&cut)), 4, "refused");
    let list = place.does("key list --format json");
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list["keys"].as_array().unwrap().len(), 6, "{list}");
    told
}

/// Whether a draft was left behind.
fn leftover(place: &Place) -> bool {
    let folder = place.scratch.path("x").parent().unwrap().to_owned();
    let mut names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    names.any(|name| name.to_str().unwrap().contains(".part"))
}

const TOLD: [&str; 4] = [
    "team/data symmetric\nteam/eth secp256k1 disabled\nteam/release ed25519 version 2\n",
    "copy/data symmetric\ncopy/eth secp256k1\ncopy/release ed25519 version 2\n\
     group/data symmetric\ngroup/eth secp256k1\ngroup/release ed25519 version 2\n",
    "copy\ngroup\n",
    "team/data symmetric deleted, may be destroyed from ",
];

fn is_a_day_at_work(told: &[String]) {
    assert_eq!(
        (told[6].as_str(), told[18].as_str(), told[19].as_str()),
        (TOLD[0], TOLD[1], TOLD[2])
    );
    assert!(told[8].starts_with(TOLD[3]), "{}", told[8]);
}

/// The commands that changed something, as the log has them.
fn recorded(audit: &[Value]) -> Vec<String> {
    let of = |entry: &Value| {
        let word = |member: &str| entry[member].as_str().unwrap_or_default().to_owned();
        format!("{} {} {}", word("call"), word("on"), word("status"))
    };
    audit.iter().filter(|entry| entry["kind"] == "admin").map(of).collect()
}

fn log_of(home: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(home.join("audit.log")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn verify_audit(home: &Path, nkey: &str) -> (i32, String, String) {
    let mut command = cli();
    command.args(["audit", "verify", "--service-nkey", nkey, "--home"]).arg(home);
    outcome(&command.output().unwrap())
}

#[test]
fn an_operator_does_it_without_a_service_and_it_is_recorded() {
    let place = Place::new();
    is_a_day_at_work(&a_day_at_work(&place));
    let audit = recorded(&log_of(&place.home));
    for entry in [
        "key new team/release ",
        "key new team/release ok",
        "key new none/k refused",
        "keyspace export group by passphrase ok",
        "keyspace export * by passphrase ok",
        "keyspace import * skip-existing ok",
        "keyspace import copy ok",
        "keyspace rotate  ok",
        "key delete team/data ok",
    ] {
        assert!(audit.iter().any(|line| line == entry), "{entry}: {audit:#?}");
    }
    assert!(!audit.iter().any(|line| line.contains("key list")), "what only looks is not recorded");
    let (exit, _, err) = verify_audit(&place.home, &place.nkey);
    assert_eq!(exit, 0, "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_does_it_through_the_service_that_holds_the_home() {
    let nats = Nats::plain();
    let mut service = Service::start(&nats, OPEN_TO_ANYBODY);
    let place = Place::of(&service);
    is_a_day_at_work(&a_day_at_work(&place));
    let audit = recorded(&service.audit());
    for entry in [
        "key new team/release ok",
        "keyspace export group by passphrase ok",
        "keyspace export * by passphrase ok",
        "keyspace import * skip-existing ok",
        "key list  ok",
        "keyspace rotate  ok",
    ] {
        assert!(audit.iter().any(|line| line == entry), "{entry}: {audit:#?}");
    }
    // Scripts see what the operator has made, before and after the root key changed.
    let client = nats.client().await;
    let script = "select_keypair(\"group/release\"); let s = sign(\"m\"); verify(\"m\", s)";
    assert_eq!(ask_plainly(&client, script).await.text, "true");
    place.does("key disable group/release");
    let refused = ask_plainly(&client, "sign(\"m\", \"group/release\")").await;
    assert_eq!(refused.error.as_deref(), Some("script-error"));
    assert!(refused.text.contains("is disabled"), "{}", refused.text);
    let still = "let p = public_key(\"group/release\"); p.len()";
    assert_eq!(ask_plainly(&client, still).await.text, "64");
    place.does("key enable group/release");
    place.does("key delete group/release --yes");
    let refused = ask_plainly(&client, "sign(\"m\", \"group/release\")").await;
    assert!(refused.text.contains("is deleted"), "{}", refused.text);
    assert_eq!(service.audit_verify().0, 0);
    service.stop();
    assert_eq!(place.does("key list group").lines().count(), 3);
}

#[test]
fn a_second_opener_is_told_who_holds_the_home() {
    let place = Place::new();
    let script = place.scratch.write("s.rhai", "let i = 0; while i < 100000000 { i += 1 }");
    let policy = place.scratch.policy(&format!(
        "{OPEN_TO_ANYBODY}[limits]\nwall_clock = \"20 s\"\noperations = 2_000_000_000\n"
    ));
    let mut run = place.command("run");
    let mut run = run.arg("--policy").arg(policy).arg(script).spawn().unwrap();
    // Its records are opened when the lock is its own.
    wait_until("the lock", || place.home.join("audit.log").exists().then_some(()));
    let told = place.ask("keyspace list");
    run.kill().unwrap();
    run.wait().unwrap();
    let who = format!("in use by process {} (`crypto-cli`)", run.id());
    assert!(told.0 == 5 && told.2.contains(&who), "{}", told.2);
}

#[test]
fn an_older_keyspace_is_refused_until_it_is_said_to_be_meant() {
    let place = Place::new();
    let file = place.home.join("keyspace.redb");
    place.does("keyspace new team");
    let older = std::fs::read(&file).unwrap();
    place.does("keyspace new group");
    std::fs::write(&file, older).unwrap();
    place.refuses("keyspace list", 4, "is of generation 2, and was at 3: use `--accept-older`");
    assert_eq!(place.does("keyspace list --accept-older"), "team\n");
    let audit = recorded(&log_of(&place.home));
    assert!(audit.iter().any(|line| line.starts_with("accept-older")), "{audit:?}");
    assert_eq!(place.does("keyspace list"), "team\n");
}

#[test]
fn passphrases_are_added_changed_and_taken_away() {
    let mut place = Place::new();
    let [backup, new] = [("backup", "for the day after\n"), ("new", "a new passphrase\n")]
        .map(|(name, text)| place.scratch.write(name, text));
    place.does(&format!("keyspace passwd --set backup --new-passphrase-file {}", arg(&backup)));
    place.does(&format!("keyspace passwd --new-passphrase-file {} --kdf calibrate", arg(&new)));
    place.refuses("keyspace list", 3, "the passphrase is wrong");
    place.passphrase = backup;
    place.refuses("keyspace list --slot operator", 3, "the passphrase is wrong");
    place.does("keyspace list --slot backup");
    place.passphrase = new;
    place.does("keyspace passwd --set backup --remove --yes");
    place.refuses("keyspace passwd --remove --yes", 2, "or it is the only one");
    let told = place.does("keyspace verify");
    assert!(
        told.contains("passphrases: operator (") && told.contains(" MiB, 3 passes, 4 lanes)\n"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_service_answers_so_until_it_is_unsealed() {
    let nats = Nats::plain();
    let mut service = Service::start(&nats, OPEN_TO_ANYBODY);
    service.stop();
    service.restart_sealed(&nats);
    let client = nats.client().await;
    let sealed = ask_plainly(&client, "1 + 1").await;
    assert_eq!((sealed.error.as_deref(), sealed.proof), (Some("sealed"), None), "{}", sealed.text);
    let place = Place::of(&service);
    place.refuses("key list", 3, "the keyspace is sealed: use `crypto-cli unseal`");
    let wrong = Place {
        passphrase: place.scratch.write("wrong", "another passphrase\n"),
        home: service.home.clone(),
        nkey: service.nkey.clone(),
        scratch: Scratch::new(),
    };
    wrong.refuses("unseal", 3, "the passphrase is wrong");
    assert_eq!(ask_plainly(&client, "1").await.error.as_deref(), Some("sealed"));
    place.does("unseal");
    let (_, _, told) = place.ask("unseal");
    assert!(told.contains("unsealed already"), "{told}");
    let answer = ask_plainly(&client, "1 + 1").await;
    assert!(answer.text == "2" && answer.proof.is_some(), "{answer:?}");
    place.does("keyspace new team");
    let audit = service.audit();
    let admin: Vec<_> = audit.iter().filter(|entry| entry["kind"] == "admin").collect();
    assert_eq!(admin[0]["call"], "unseal");
    assert!(service.log().contains("did not unseal the keyspace: the passphrase is wrong"));
    assert_eq!(service.audit_verify().0, 0);
    service.stop();
    service.restart_sealed(&nats);
    service.stop();
    place.refuses("unseal", 5, "no service runs in");
}

/// A bundle of more than one part of a file, both ways, and how far it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_bundle_goes_through_the_service_and_its_progress_is_told() {
    let nats = Nats::plain();
    let limits = "[limits]\nnew_keys = 1_000\nhost_calls = 1_000\nwall_clock = \"20 s\"\n";
    let service = Service::start(&nats, &format!("{limits}{OPEN_TO_ANYBODY}"));
    let place = Place::of(&service);
    let make = "create_key_space(\"many\"); for i in 0..900 { create_keypair(\"k\" + i); } 0";
    assert_eq!(ask_plainly(&nats.client().await, make).await.text, "0");
    let to = place.does("key recipient");
    let bundle = place.scratch.path("many.age");
    place.does(&format!("keyspace export many --to {} --output {}", to.trim(), arg(&bundle)));
    let parts = std::fs::metadata(&bundle).unwrap().len() / MAX_PART_BYTES as u64;
    assert!(parts >= 1, "one part is all");
    place.does(&format!("keyspace import {} --to-us --rename copy", arg(&bundle)));
    assert_eq!(place.does("key list copy").lines().count(), 900);
    let public = |key: &str| place.does(&format!("key public {key}"));
    assert_eq!(public("many/k899"), public("copy/k899"));
    // As the command hears it, which shows it to a terminal.
    let socket = sandbox::LocalSocket::connect(&place.home, ADMIN_SOCKET).unwrap();
    let mut channel = Channel::<FromAdmin, ToAdmin>::new(socket);
    let begun = Instant::now();
    let protection = Protection::Recipients(vec![to.trim().to_owned()]);
    channel.send(&ToAdmin::Act(Act::Export(Vec::new(), protection)), None).unwrap();
    let mut told = Vec::new();
    loop {
        match channel.receive(None).unwrap() {
            FromAdmin::Progress(done, total) => told.push((done, total)),
            FromAdmin::Part(_) => {}
            FromAdmin::Done(_) => break,
            other @ (FromAdmin::Refused(..)
            | FromAdmin::Row(_)
            | FromAdmin::Send
            | FromAdmin::More) => {
                panic!("{other:?}")
            }
        }
    }
    let most = begun.elapsed().as_millis() / 100 + 1;
    assert!(!told.is_empty() && told.len() as u128 <= most, "{} in {most}00 ms", told.len());
    assert!(told.is_sorted() && told.iter().all(|(done, total)| done <= total && *total == 1800));
}
