//! What is asked, and shown, at a terminal; and what happens without one.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::operator::{Place, arg};
use crate::support::*;

/// Runs a command at a terminal of its own, and types an answer there: its exit code and all that is shown.
fn at_a_terminal(place: &Place, words: &str, answer: &str) -> (i32, String) {
    let command = place.command(words);
    let mut line = vec![command.get_program()];
    line.extend(command.get_args());
    let line: Vec<&str> = line.into_iter().map(|word| word.to_str().unwrap()).collect();
    let mut script = Command::new("script")
        .args(["-qec", &line.join(" "), "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut keyboard = script.stdin.take().unwrap();
    keyboard.write_all(answer.as_bytes()).unwrap();
    let output = script.wait_with_output().unwrap();
    drop(keyboard);
    (output.status.code().unwrap(), text(&output.stdout))
}

fn furnished() -> Place {
    let place = Place::new();
    place.does("keyspace new team");
    place.does("key new team/release");
    place.does("key new team/old");
    place.does("key delete team/old --yes");
    place
}

/// What the home holds, and where its keyspace was last changed.
fn state(place: &Place) -> (String, String) {
    let pin = std::fs::read(place.home.join("keyspace.pin")).unwrap();
    (place.does("key list"), hex(&pin))
}

#[test]
fn what_destroys_something_asks_at_a_terminal_and_refuses_without_one() {
    let place = furnished();
    let before = state(&place);
    for words in [
        "keyspace delete team",
        "key delete team/release",
        "key destroy team/old",
        "keyspace rotate",
        "keyspace passwd --set backup --remove",
    ] {
        place.refuses(words, 2, "pass `--yes`");
        for answer in ["n\n", "\n", "yse\n"] {
            let (exit, shown) = at_a_terminal(&place, words, answer);
            assert!(exit == 1 && shown.contains("[y/N]"), "{words}: {exit} {shown}");
            assert!(shown.contains("nothing was done"), "{words}: {shown}");
        }
        assert_eq!(state(&place), before, "{words}");
    }
    let (exit, shown) = at_a_terminal(&place, "key delete team/release", "y\n");
    assert!(exit == 0 && shown.contains("delete the key `team/release`?"), "{shown}");
    assert!(place.does("key list").contains("team/release ed25519 deleted"));
    let (exit, shown) = at_a_terminal(&place, "keyspace delete team", "yes\n");
    assert!(exit == 2 && shown.contains("is deleted and waits for"), "{shown}");
    place.does("key restore team/release");
    place.does("key restore team/old");
    let (exit, shown) = at_a_terminal(&place, "keyspace delete team", "yes\n");
    assert_eq!(exit, 0, "{shown}");
    assert_eq!(place.does("keyspace list"), "");
}

#[test]
fn long_work_shows_how_far_it_is_at_a_terminal_and_nowhere_else() {
    let place = furnished();
    let passphrase = place.scratch.write("bundle-passphrase", "for the bundle\n");
    let with = format!("--bundle-passphrase-file {}", arg(&passphrase));
    let bundle = place.scratch.path("team.ccb");
    let export = |path| format!("keyspace export team --output {} {with}", arg(path));
    let import = |name| format!("keyspace import {} --rename {name} {with}", arg(&bundle));
    for (words, bar) in [
        (export(&bundle), "[==============================] 2 of 2 keys\r\n"),
        // Nobody knows how many are in a file before its end.
        (import("one"), "\r2 keys\r\n"),
        ("keyspace verify".to_owned(), "] 4 of 4 keys\r\n"),
    ] {
        let (exit, shown) = at_a_terminal(&place, &words, "");
        assert!(exit == 0 && shown.contains(bar), "{words}: {shown:?}");
    }
    for words in
        [export(&place.scratch.path("again.ccb")), import("two"), "keyspace verify".to_owned()]
    {
        let (exit, out, err) = place.ask(&words);
        assert_eq!(exit, 0, "{words}: {err}");
        assert_eq!(out.is_empty(), words != "keyspace verify", "{out}");
        assert!(!err.contains(['\r', '[', '=']) && !err.contains(" of "), "{words}: {err:?}");
    }
}

/// A clock that is ahead stands for the days of waiting.
#[test]
fn a_deleted_key_is_destroyed_when_its_time_has_come_and_can_be_restored_until_then() {
    let place = furnished();
    let after = |days: u64, words: &str| {
        let mut command = place.command(words);
        command.env("LD_PRELOAD", hostile("libpreloaded.so"));
        command.env("PRELOADED_AHEAD", (days * 24 * 60 * 60).to_string());
        outcome(&command.output().unwrap())
    };
    place.does("key delete team/release --yes --wait-days 3");
    for (days, key) in [(0, "team/release"), (2, "team/release"), (6, "team/old")] {
        let (exit, _, err) = after(days, &format!("key destroy {key} --yes"));
        let hours = if days == 0 { 72 } else { 24 };
        let waits = format!("the key `{key}` is deleted and waits for {hours} hours more");
        assert!(exit == 2 && err.contains(&waits), "after {days} days: {err}");
    }
    assert_eq!(after(2, "key restore team/release").0, 0);
    assert!(place.does("key list").contains("team/release ed25519 disabled\n"));
    let (exit, _, err) = after(9, "key destroy team/release --yes");
    assert!(exit == 2 && err.contains("is not deleted"), "{err}");
    // A week is what `key delete` waits unless it is told otherwise.
    let (exit, _, err) = after(8, "key destroy team/old --yes");
    assert_eq!(exit, 0, "{err}");
    place.refuses("key show team/old", 2, "there is no key `team/old`");
    place.refuses("key restore team/old", 2, "there is no key `team/old`");
    place.does("key enable team/release");
    let log = std::fs::read_to_string(place.home.join("audit.log")).unwrap();
    let told = |words: &str| log.lines().filter(|line| line.contains(words)).count();
    assert_eq!(told("\"call\":\"key destroy\",\"on\":\"team/old\",\"status\":\"ok\""), 1, "{log}");
    assert_eq!(told("\"call\":\"key destroy\",\"on\":\"team/old\",\"status\":\"refused\""), 1);
}
