//! Mistakes that an operator can make, and that they cost nothing.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};

use crate::operator::{Place, arg};
use crate::support::*;

const UNTIDY: &str = "version=1\n[service]\nname=\"s\"\n";

fn policy_fmt(path: &std::path::Path) -> (i32, String, String) {
    outcome(&cli().args(["policy", "fmt"]).arg(path).output().unwrap())
}

#[test]
fn a_policy_is_laid_out_in_its_place_and_no_other_file_is_touched() {
    let scratch = Scratch::new();
    let (policy, link) = (scratch.write("policy.toml", UNTIDY), scratch.path("link.toml"));
    let beside = scratch.write("policy.toml.new", "a draft of somebody");
    std::os::unix::fs::symlink(&policy, &link).unwrap();
    fs::set_permissions(&policy, fs::Permissions::from_mode(0o640)).unwrap();
    // Root formats what belongs to the service's user.
    let owner = if is_root() { 65534 } else { fs::metadata(&policy).unwrap().uid() };
    std::os::unix::fs::chown(&policy, Some(owner), None).unwrap();
    assert_eq!(policy_fmt(&link), (0, String::new(), String::new()));
    assert!(fs::read_to_string(&policy).unwrap().starts_with("version = 1\n"));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink(), "the link is still one");
    let after = fs::metadata(&policy).unwrap();
    assert_eq!((after.uid(), after.mode() & 0o777), (owner, 0o640));
    assert_eq!(fs::read_to_string(&beside).unwrap(), "a draft of somebody");
    assert_eq!(fs::read_dir(scratch.path("")).unwrap().count(), 3);
}

/// A command at a terminal, at which this is typed.
pub(crate) fn typed(command: &Command, lines: &str) -> (i32, String) {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<&str> = words.map(|word| word.to_str().unwrap()).collect();
    let mut script = Command::new("script");
    script.args(["-qec", &words.join(" "), "/dev/null"]);
    let mut script = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    script.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = script.wait_with_output().unwrap();
    (output.status.code().unwrap(), text(&output.stdout))
}

#[test]
fn a_key_space_is_not_destroyed_while_a_key_in_it_waits() {
    let place = Place::new();
    place.does("keyspace new team");
    place.does("key new team/a");
    place.does("key new team/release");
    place.does("key delete team/release --yes");
    let why = "the key `team/release` is deleted and waits for 168 hours more";
    place.refuses("keyspace delete team --yes", 2, why);
    assert_eq!(place.does("key list").lines().count(), 2);
    place.does("key restore team/release");
    let question = place.command("keyspace delete team");
    let (exit, told) = typed(&question, "n\n");
    assert!(exit == 1 && told.contains("destroy the key space `team` with its 2 keys?"), "{told}");
    let (exit, told) = typed(&place.command("keyspace delete none"), "y\n");
    assert!(exit == 2 && told.contains("no key space `none`") && !told.contains('?'), "{told}");
    assert_eq!(typed(&question, "y\n").0, 0);
    assert_eq!(place.does("keyspace list"), "");
}

#[test]
fn a_private_key_that_is_not_wrapped_is_told_how_to_be() {
    let place = Place::new();
    place.does("keyspace new team");
    let seed = place.scratch.write("user.nk", nkeys::KeyPair::new_user().seed().unwrap());
    let (shown, wrapped) = (arg(&seed), format!("{}.age", arg(&seed)));
    let how = format!(
        "`crypto-cli key wrap {shown} --to $(crypto-cli key recipient) --output {wrapped}`"
    );
    place.refuses(&format!("key import team/user {shown}"), 2, &how);
    let recipient = place.does("key recipient");
    let wrap = || {
        let mut wrap = cli();
        wrap.args(["key", "wrap", shown, "--to", recipient.trim(), "--output", &wrapped]);
        outcome(&wrap.output().unwrap())
    };
    fs::set_permissions(&seed, fs::Permissions::from_mode(0o644)).unwrap();
    let (exit, _, err) = wrap();
    let warning = format!("other users may read `{shown}`: `chmod go=` it");
    assert!(exit == 0 && err.contains(&warning), "{err}");
    place.does(&format!("key import team/user {wrapped}"));
}

#[test]
fn a_passphrase_that_is_missing_is_told_by_its_own_options() {
    let place = Place::new();
    let bundle = place.scratch.write("bundle", "");
    for (words, why) in [
        (
            format!("keyspace export --all --output {}.ccb", arg(&bundle)),
            "no bundle passphrase: use --bundle-passphrase-file, --bundle-passphrase-fd, --to or a terminal",
        ),
        (
            format!("keyspace import {}", arg(&bundle)),
            "no bundle passphrase: use --bundle-passphrase-file, --bundle-passphrase-fd, --to-us or a terminal",
        ),
        (
            "keyspace passwd --set backup".to_owned(),
            "no backup passphrase: use --new-passphrase-file, --new-passphrase-fd or a terminal",
        ),
    ] {
        place.refuses(&words, 2, why);
    }
}

#[test]
fn a_file_that_holds_no_passphrase_is_named() {
    let place = Place::new();
    let lines = place.scratch.write("lines", "one\ntwo\n");
    let short = place.scratch.write("short", "1234567");
    let (out, bundle) = (place.scratch.path("out.ccb"), place.scratch.write("bundle", ""));
    for (words, file, why) in [
        ("keyspace passwd --new-passphrase-file", &short, "has fewer than 8 bytes"),
        ("keyspace passwd --new-passphrase-file", &lines, "a zero byte or a line break"),
        ("keyspace import BUNDLE --bundle-passphrase-file", &lines, "a line break"),
        ("keyspace export --all --bundle-passphrase-file", &short, "has fewer than 8 bytes"),
    ] {
        let mut command =
            place.command(&format!("{words} {}", arg(file)).replace("BUNDLE", arg(&bundle)));
        if words.contains("export") {
            command.arg("--output").arg(&out);
        }
        let (exit, _, err) = outcome(&command.output().unwrap());
        let named = format!("`{}`: the passphrase ", arg(file));
        assert!(exit == 2 && err.contains(&named) && err.contains(why), "{words}: {exit} {err}");
    }
    let home = place.scratch.path("new-home");
    let mut init = cli();
    init.args(["init", "--yes", "--home"]).arg(&home).arg("--passphrase-file").arg(&short);
    let (exit, _, err) = outcome(&init.output().unwrap());
    assert!(exit == 2 && err.contains(&format!("`{}`: ", arg(&short))), "{err}");
    assert!(!home.exists());
}

#[test]
fn what_is_missing_for_a_service_is_told_with_the_next_step() {
    let scratch = Scratch::new();
    let passphrase = scratch.passphrase_file();
    let script = scratch.write("s.rhai", "1");
    let refused = |home: &std::path::Path, why: &str| {
        for words in [&["listen", "--server", "nats://localhost:1"][..], &["run", arg(&script)]] {
            let mut command = cli();
            command.args(words).arg("--home").arg(home).arg("--passphrase-file").arg(&passphrase);
            let (exit, _, err) = outcome(&command.output().unwrap());
            assert!(exit == 2 && err.contains(why), "{words:?}: {exit} {err}");
        }
    };
    refused(&scratch.path("none"), "there is no keyspace in");
    let (home, _) = scratch.home();
    refused(&home, "policy.toml`: write one there, or name another with `--policy`");
}
