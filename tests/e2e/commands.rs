//! Commands, their exit codes, and that bad input changes nothing.

use std::fs;
use std::os::fd::AsRawFd;

use crate::support::*;

/// Runs a script against the keyspace of a scratch home.
fn run(scratch: &Scratch, home: &std::path::Path, script: &str) -> (i32, String, String) {
    let mut command = cli();
    command.arg("run").arg(scratch.write("s.rhai", script));
    command.arg("--policy").arg(scratch.policy(OPEN_TO_ANYBODY)).arg("--home").arg(home);
    command.arg("--passphrase-file").arg(scratch.passphrase_file());
    outcome(&command.output().unwrap())
}

#[test]
fn run_prints_the_value_alone_and_what_was_printed_beside_it() {
    let scratch = Scratch::new();
    let (home, _) = scratch.home();
    let (exit, out, err) = run(&scratch, &home, SEED_SCRIPT);
    assert_eq!(exit, 0, "{err}");
    assert_eq!(out.trim_end().len(), 128);
    assert_eq!(err, format!("Signature: {out}"));
    let (_, out, _) = run(&scratch, &home, "#{a: 1}");
    assert_eq!(out, "{\"a\":1}\n");
}

#[test]
fn the_anonymous_caller_can_be_named_and_nobody_unknown() {
    let scratch = Scratch::new();
    let policy = scratch.policy(OPEN_TO_ANYBODY);
    let script = scratch.write("script.rhai", "hash(\"sha256\", \"\").len()");
    let ask = |words: &[&str], who: &str| {
        let mut command = cli();
        command.args(words).args(["--as", who, "--policy"]).arg(&policy).arg(&script);
        outcome(&command.output().unwrap())
    };
    assert_eq!(ask(&["run", "--ephemeral"], "anonymous"), (0, "64\n".into(), String::new()));
    assert_eq!(ask(&["check"], "anonymous").0, 0);
    for command in [["run", "--ephemeral"].as_slice(), &["check"]] {
        let (exit, _, err) = ask(command, "nobody");
        assert!(exit == 2 && err.contains("no client `nobody`"), "{err}");
    }
}

#[test]
fn what_run_made_is_listed_and_nothing_else() {
    let scratch = Scratch::new();
    let (home, _) = scratch.home();
    run(&scratch, &home, "create_key_space(\"a\"); create_keypair(\"k\"); create_keypair(\"l\")");
    run(&scratch, &home, "create_key_space(\"b\"); throw 1");
    let list = |words: &[&str]| {
        let mut command = cli();
        command.args(words).arg("--home").arg(&home);
        outcome(&command.arg("--passphrase-file").arg(scratch.passphrase_file()).output().unwrap())
    };
    assert_eq!(list(&["keyspace", "list"]), (0, "a\n".into(), String::new()));
    assert_eq!(list(&["key", "list"]).1, "a/k ed25519\na/l ed25519\n");
    assert_eq!(list(&["key", "list", "a"]).1, "a/k ed25519\na/l ed25519\n");
    assert_eq!(list(&["key", "list", "b"]).0, 2);
    let json: serde_json::Value =
        serde_json::from_str(&list(&["key", "list", "--format", "json"]).1).unwrap();
    assert_eq!(json["keys"][1]["key"], "l");
}

#[test]
fn the_exit_code_says_what_kind_of_end_it_was() {
    let scratch = Scratch::new();
    let (home, _) = scratch.home();
    for (script, code) in [
        ("1", 0),
        ("throw 1", 1),
        ("let", 1),
        ("loop {}", 6),
        ("let x = \"x\"; loop { x += x; }", 6),
    ] {
        assert_eq!(run(&scratch, &home, script).0, code, "{script}");
    }
    let (_, _, err) =
        run(&scratch, &home, "print(\"\\x1b[31m\"); throw \"a\\nok: b\\x1b[2J\\u202e\"");
    assert!(err.contains("\\u{1b}[31m") && err.contains("a\\nok: b"), "{err:?}");
    assert!(!err.contains('\u{1b}') && !err.contains('\u{202e}'), "{err:?}");
    let narrow = "[anonymous]\nroles = []\n";
    let mut command = cli();
    command.arg("run").arg(scratch.write("s.rhai", "hash(\"sha256\", \"\")")).arg("--ephemeral");
    let (exit, _, err) =
        outcome(&command.arg("--policy").arg(scratch.policy(narrow)).output().unwrap());
    assert_eq!(exit, 1);
    assert!(
        err.starts_with("policy-denied: the policy does not allow this use of `hash`"),
        "{err}"
    );
    for arguments in [&[][..], &["run"], &["frobnicate"], &["run", "x", "--policy", "y"]] {
        assert_eq!(cli().args(arguments).output().unwrap().status.code(), Some(2), "{arguments:?}");
    }
    let version = cli().arg("--version").output().unwrap();
    assert_eq!(version.status.code(), Some(0));
}

#[test]
fn the_wrong_passphrase_is_told_from_a_damaged_file() {
    let scratch = Scratch::new();
    let (home, _) = scratch.home();
    let list = |passphrase: &str| {
        let mut command = cli();
        command.args(["keyspace", "list", "--home"]).arg(&home);
        command.arg("--passphrase-file").arg(scratch.write("other", passphrase));
        outcome(&command.output().unwrap())
    };
    let (exit, _, err) = list("wrong horse battery");
    assert_eq!(exit, 3);
    assert!(err.contains("the passphrase is wrong"), "{err}");
    let (exit, _, err) = list("");
    assert!(exit == 2 && err.contains("/other`: the passphrase is empty"), "{err}");
    let file = home.join("keyspace.redb");
    let whole = fs::read(&file).unwrap();
    fs::write(&file, b"not a keyspace").unwrap();
    let (exit, _, err) = list(PASSPHRASE);
    assert_eq!(exit, 4, "{err}");
    assert_eq!(fs::read(&file).unwrap(), b"not a keyspace");
    fs::write(&file, whole).unwrap();
    assert_eq!(list(PASSPHRASE).0, 0);
}

#[test]
fn init_never_touches_what_is_there() {
    let scratch = Scratch::new();
    let (home, nkey) = scratch.home();
    assert!(nkey.starts_with('N') && nkey.len() == 56, "{nkey}");
    let before = fs::read(home.join("keyspace.redb")).unwrap();
    let mut command = cli();
    command.args(["init", "--yes", "--home"]).arg(&home);
    command.arg("--passphrase-file").arg(scratch.write("new", "another passphrase"));
    let (exit, out, err) = outcome(&command.output().unwrap());
    assert_eq!((exit, out.as_str()), (2, ""));
    assert!(err.contains("there is a keyspace"), "{err}");
    assert_eq!(fs::read(home.join("keyspace.redb")).unwrap(), before);
}

#[test]
fn a_passphrase_comes_from_a_descriptor_or_a_credential_and_never_from_nothing() {
    let scratch = Scratch::new();
    let (home, _) = scratch.home();
    let list = || {
        let mut command = cli();
        command.args(["keyspace", "list", "--home"]).arg(&home);
        command
    };
    let (reader, mut writer) = std::io::pipe().unwrap();
    std::io::Write::write_all(&mut writer, PASSPHRASE.as_bytes()).unwrap();
    drop(writer);
    let mut command = list();
    let output = command.args(["--passphrase-fd", "0"]).stdin(reader).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let credentials = Scratch::new();
    credentials.write("crypto-cli-passphrase", PASSPHRASE);
    let output = list().env("CREDENTIALS_DIRECTORY", credentials.path("")).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let (exit, _, err) = outcome(&list().output().unwrap());
    assert_eq!(exit, 2);
    assert!(err.contains("no passphrase: use --passphrase-file"), "{err}");
    let closed = fs::File::open("/dev/null").unwrap().as_raw_fd() + 100;
    let output = list().args(["--passphrase-fd", &closed.to_string()]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_bad_policy_is_refused_with_every_mistake_and_its_place() {
    let scratch = Scratch::new();
    let policy = scratch.write(
        "policy.toml",
        "version = 1\n[service]\nname = \"s\"\n[limits]\nmemroy = \"1 MiB\"\n[anonymous]\nroles = [\"x\"]\n",
    );
    for command in [&["run"][..], &["check"]] {
        let script = scratch.write("s.rhai", "1");
        let mut call = cli();
        call.args(command).arg(script).arg("--policy").arg(&policy);
        if command == ["run"] {
            call.arg("--ephemeral");
        }
        let (exit, out, err) = outcome(&call.output().unwrap());
        assert_eq!((exit, out.as_str()), (2, ""));
        assert!(err.contains("policy.toml:5:1: unknown key `memroy`"), "{err}");
        assert!(err.contains("did you mean `memory`?"), "{err}");
        assert!(err.contains("policy.toml:7:10: no role is named `x`"), "{err}");
    }
}

#[test]
fn what_runs_scripts_is_told_that_a_service_holds_the_home() {
    let nats = Nats::plain();
    let service = Service::start(&nats, OPEN_TO_ANYBODY);
    let output = cli()
        .arg("run")
        .arg(service.scratch.write("s.rhai", "1"))
        .arg("--policy")
        .arg(service.scratch.path("policy.toml"))
        .arg("--home")
        .arg(&service.home)
        .arg("--passphrase-file")
        .arg(service.scratch.passphrase_file())
        .output()
        .unwrap();
    let (exit, _, err) = outcome(&output);
    let who = format!("in use by process {} (`crypto-cli`)", service.process.pid());
    assert!(exit == 5 && err.contains(&who), "{err}");
}
