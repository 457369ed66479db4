//! What each kind of record tells.

use keyspace::KeyspaceError;
use policy::{Decision, Facts, Policy, RateBook};
use serde_json::{Value, json};
use wire::{Code, KeyPath, Name};

use super::*;
use crate::identify::Spent;
use crate::outcome::{Outcome, Usage};

const NKEY: &str = "UBVYNMTT742PZYM5NOAE5722H5LUPLNE5KRC6HKJYAPFFXNXQ5NUXEGK";

fn policy() -> Policy {
    let text = format!(
        "version = 1\nservice.name = \"s\"\n[[client]]\nname = \"c\"\nnkey = \"{NKEY}\"\nroles = [\"r\"]\n\
         [[role]]\nname = \"r\"\nallow = [{{ name = \"a\", calls = [\"sign\"], keys = [\"x/*\"], uses = 1 }}]\n"
    );
    Policy::parse("p", &text).unwrap()
}

fn act() -> Act {
    let name = |text| Name::parse(text).unwrap();
    let target = Target::Key(KeyPath { space: name("x"), key: name("y") });
    Act { call: CallName::Sign, target }
}

/// The members but for the time, which is there, and whether anything waits for it.
fn told(entry: &Entry<'_>) -> Value {
    let mut told = serde_json::to_value(entry).unwrap();
    let members = told.as_object_mut().unwrap();
    let at = members.remove("at").unwrap();
    assert!(at.as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    if entry.is_awaited {
        members.insert("awaited".to_owned(), true.into());
    }
    told
}

#[test]
#[expect(clippy::too_many_lines, reason = "one kind after another")]
fn each_entry_tells_what_its_kind_tells_and_nothing_else() {
    let (policy, digest) = (policy(), proof::digest(b"text"));
    let who = policy.client_by_name("c", 0).unwrap();
    let Decision::Allow(grant) = policy.decide(&who, act(), &Facts::default()) else { panic!() };
    let mut book = RateBook::default();
    let permit = grant.spend(&mut book).unwrap();
    let space = Name::parse("x").unwrap();
    let acted = |on: &str, to: &[&str]| {
        let to = to.iter().copied().map(str::to_owned).collect();
        Acted { word: "key new", on: Some(on.to_owned()), to, changes_or_exports: true }
    };
    let Decision::Allow(again) = policy.decide(&who, act(), &Facts::default()) else { panic!() };
    let refusal = again.spend(&mut book).unwrap_err();
    let failure = || Failure::new(Code::Busy, "later");
    let cannot = || KeyspaceError::Cannot(String::new());
    let undone = |in_part| Err(Undone { error: cannot(), in_part });
    let unconfirmed =
        Err(Undone { error: KeyspaceError::Unconfirmed(Box::new(cannot())), in_part: false });
    let usage = Usage { wall_us: 7, host_calls: 3, ..Usage::default() };
    let failed = Outcome { ending: Err(failure()), output: String::new(), usage };
    let ran = |asker: &Asker, outcome: &Outcome| {
        told(&Entry::ended("q", &who, asker, b"text", "p", outcome, b"text"))
    };
    let proven = || Proven { caller: who.clone(), proof: "d".to_owned() };
    let spent = Unidentified::Spent { by: Box::new(proven()), why: Spent::Used };
    for (entry, expected) in [
        (told(&Entry::opened("N1", b"")), json!({ "kind": "opened", "service": "N1" })),
        (
            told(&Entry::opened("N1", b"text")),
            json!({ "kind": "opened", "service": "N1", "torn": digest }),
        ),
        (told(&Entry::loaded("p")), json!({ "kind": "policy", "policy": "p" })),
        (
            told(&Entry::administered("policy reload", 5)),
            json!({ "kind": "admin", "call": "policy reload", "uid": 5 }),
        ),
        (
            told(&Entry::accepted("text")),
            json!({ "kind": "admin", "call": "accept-older", "reason": "text" }),
        ),
        (
            told(&Entry::done(&acted("a/b", &[]), 5, &undone(false))),
            json!({ "kind": "admin", "call": "key new", "on": "a/b", "uid": 5, "status": "refused" }),
        ),
        (
            told(&Entry::done(&acted("a/b", &[]), 5, &undone(true))),
            json!({ "kind": "admin", "call": "key new", "on": "a/b", "uid": 5, "status": "partial" }),
        ),
        (
            told(&Entry::done(&acted("a/b", &[]), 5, &unconfirmed)),
            json!({ "kind": "admin", "call": "key new", "on": "a/b", "uid": 5, "status": "unconfirmed" }),
        ),
        (
            told(&Entry::not_loaded(5)),
            json!({ "kind": "admin", "call": "policy reload", "uid": 5, "status": "refused" }),
        ),
        (
            told(&Entry::allowed("q", &who, &permit)),
            json!({ "kind": "decision", "request": "q", "client": "c", "call": "sign", "on": "x/y",
                "decision": "allow", "rule": "r.a (line 9)", "counted": ["rule r a c"] }),
        ),
        (
            told(&Entry::operated(&acted("a b", &["age1"]), 5)),
            json!({ "kind": "admin", "call": "key new", "on": "a b", "to": ["age1"], "uid": 5,
                "awaited": true }),
        ),
        (
            told(&Entry::exporting("q", &who, &space, &["age1".to_owned()], 2, b"text")),
            json!({ "kind": "export", "request": "q", "client": "c", "on": "x", "to": ["age1"], "keys": 2,
                "result": digest, "awaited": true }),
        ),
        (
            told(&Entry::listed("q", &who, CallName::ListKeypairs)),
            json!({ "kind": "decision", "request": "q", "client": "c", "call": "list_keypairs",
                "decision": "allow" }),
        ),
        (
            told(&Entry::refused("q", &who, &act(), &refusal)),
            json!({ "kind": "decision", "request": "q", "client": "c", "call": "sign", "on": "x/y",
                "decision": "refuse", "reason": "the uses of r.a (line 9) are used up" }),
        ),
        (
            told(&Entry::committing("q", &who)),
            json!({ "kind": "commit", "request": "q", "client": "c", "awaited": true }),
        ),
        (
            told(&Entry::unidentified("q", b"text", &spent)),
            json!({ "kind": "request", "request": "q", "client": "c", "nkey": NKEY, "proof": "d",
                "status": "replayed", "reason": "the proof was used before", "script": digest }),
        ),
        (
            told(&Entry::unidentified("q", b"text", &Unidentified::UnusableHeader)),
            json!({ "kind": "request", "request": "q", "status": "unauthenticated",
                "reason": "the header is repeated, misspelt, too long or not text", "script": digest }),
        ),
        (
            told(&Entry::repeated("q", b"text", &proven())),
            json!({ "kind": "request", "request": "q", "client": "c", "nkey": NKEY, "proof": "d",
                "status": "repeated", "script": digest }),
        ),
        (
            told(&Entry::declined("q", b"text", &failure())),
            json!({ "kind": "request", "request": "q", "status": "busy", "script": digest }),
        ),
        (
            ran(&Asker::Client { proof: "d".to_owned() }, &failed),
            json!({ "kind": "request", "request": "q", "client": "c", "nkey": NKEY, "proof": "d",
                "status": "busy", "script": digest, "policy": "p", "result": digest, "wall_us": 7,
                "host_calls": 3 }),
        ),
        (
            ran(&Asker::User { uid: 5 }, &failed),
            json!({ "kind": "request", "request": "q", "client": "c", "uid": 5, "status": "busy",
                "script": digest, "policy": "p", "result": digest, "wall_us": 7, "host_calls": 3 }),
        ),
        (
            ran(&Asker::Anybody, &failed),
            json!({ "kind": "request", "request": "q", "client": "c", "status": "busy",
                "script": digest, "policy": "p", "result": digest, "wall_us": 7, "host_calls": 3 }),
        ),
    ] {
        assert_eq!(entry, expected);
    }
}
