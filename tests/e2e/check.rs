//! `crypto-cli check`: what the policy would refuse, with its place.

use sha2::{Digest, Sha256};

use crate::support::*;

const POLICY: &str = r#"
[anonymous]
roles = ["signer"]
[[role]]
name = "signer"
allow = [{ calls = ["select_key_space", "select_keypair", "sign"], keys = ["billing/k-*"] }]
"#;

fn check(scratch: &Scratch, scripts: &[&str], more: &[&str]) -> (i32, String, String) {
    let paths: Vec<_> = scripts
        .iter()
        .enumerate()
        .map(|(number, script)| scratch.write(&format!("{number}.rhai"), script))
        .collect();
    let mut command = cli();
    command.arg("check").args(paths).arg("--policy").arg(scratch.policy(POLICY)).args(more);
    outcome(&command.output().unwrap())
}

#[test]
fn a_script_that_the_policy_allows_has_no_findings() {
    let scratch = Scratch::new();
    let script = "select_key_space(\"billing\");\nselect_keypair(\"billing/k-1\");\nsign(\"m\", \"billing/k-1\")";
    let (exit, out, err) = check(&scratch, &[script], &["--strict"]);
    assert_eq!((exit, out.as_str()), (0, ""), "{err}");
    assert!(err.ends_with("0.rhai: allowed\n"), "{err}");
    let (exit, out, _) = check(&scratch, &[script], &["--format", "json"]);
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((exit, &told["findings"]), (0, &serde_json::json!([])));
    assert_eq!(told["verdicts"][0]["verdict"], "allowed");
}

#[test]
fn what_only_the_service_can_decide_is_said_to_be_so() {
    let scratch = Scratch::new();
    for (script, why) in [
        (
            "let k = \"billing/k-1\"; select_keypair(k); sign(\"m\")",
            "signer.allow[0] (line 9) allows it on some keys",
        ),
        ("Fn(\"si\" + \"gn\").call(\"m\")", "a function is named while the script runs"),
        ("let k = \"billing/k-1\"; sign(\"m\", k)", "allows it on some keys"),
    ] {
        let (exit, out, err) = check(&scratch, &[script], &[]);
        assert_eq!(exit, 0, "{script}: {out}");
        assert!(out.contains("warning[undecidable]") && out.contains(why), "{script}: {out}");
        assert!(err.ends_with("0.rhai: undecidable\n"), "{err}");
        assert_eq!(check(&scratch, &[script], &["--strict"]).0, 1, "{script}");
    }
}

/// Clients that are pinned to a script each, and the digests of those.
fn pinned(clients: &[(&str, &[u8; 32])]) -> String {
    let pinned = clients.iter().map(|(name, script)| {
        let nkey = proof::Identity::generate().nkey();
        let role =
            format!("[[role]]\nname = \"{name}\"\nscripts = [\"sha256:{}\"]\n", hex(*script));
        format!("[[client]]\nname = \"{name}\"\nnkey = \"{nkey}\"\nroles = [\"{name}\"]\n{role}")
    });
    pinned.collect()
}

/// A client that is pinned to another script does not speak against this one.
#[test]
fn a_script_that_one_of_its_callers_may_not_run_is_said_to_be_so_and_allowed() {
    let scratch = Scratch::new();
    let own = Sha256::digest("1 + 1").into();
    let policy = pinned(&[("own", &own), ("other", &[0; 32])]);
    for more in [&[] as &[&str], &["--strict"]] {
        let (exit, out, word) = verdict(&scratch, &policy, "1 + 1", more);
        assert_eq!((exit, word.as_str()), (0, "allowed"), "{out}");
        assert!(out.contains("note[policy-denied]") && out.contains("to `other`"), "{out}");
        assert!(!out.contains("`own`") && !out.contains("help"), "{out}");
    }
    assert_eq!(verdict(&scratch, &policy, "1 + 1", &["--as", "own"]).2, "allowed");
    let (exit, out, word) = verdict(&scratch, &policy, "1 + 1", &["--as", "other"]);
    assert_eq!((exit, word.as_str()), (1, "refused"), "{out}");
    // Where it is nobody's there is nothing to be allowed.
    let (exit, out, word) = verdict(&scratch, &policy, "1 + 2", &[]);
    assert_eq!((exit, word.as_str()), (1, "refused"), "{out}");
}

/// Of the findings only the first hundred are drawn.
#[test]
fn no_number_of_clients_hides_a_call_that_is_refused() {
    let scratch = Scratch::new();
    let names: Vec<String> = (0..101).map(|number| format!("c{number}")).collect();
    let clients: Vec<_> = names.iter().map(|name| (name.as_str(), &[0; 32])).collect();
    let roles = "[anonymous]\nroles = [\"r\"]\n[[role]]\nname = \"r\"\n";
    let (exit, out, _) =
        verdict(&scratch, &(pinned(&clients) + roles), "delete_keypair(\"a/k\")", &[]);
    assert!(exit == 1 && out.contains("error[policy-denied]: no rule allows"), "{out}");
    assert_eq!(out.matches("[policy-denied]").count(), 2, "{out}");
    assert!(out.contains("and 93 more") && out.len() < 2_000, "{out}");
    // Each of them has limits that the script exceeds.
    let roles = roles.replace("[[role]]", &format!("{}[[role]]", narrow(&names)));
    let (exit, out, _) = verdict(&scratch, &roles, "delete_keypair(\"a/k\")", &[]);
    assert!(exit == 1 && out.starts_with("error[policy-denied]"), "{out}");
}

/// Clients whose scripts may not be longer than a byte.
fn narrow(names: &[String]) -> String {
    let client = |name| {
        let nkey = proof::Identity::generate().nkey();
        format!("[[client]]\nname = \"{name}\"\nnkey = \"{nkey}\"\nroles = [\"narrow\"]\n")
    };
    let clients: String = names.iter().map(client).collect();
    format!("{clients}[[role]]\nname = \"narrow\"\nlimits.script = \"1 B\"\n")
}

#[test]
fn every_refused_call_is_found_with_file_line_and_column() {
    let scratch = Scratch::new();
    let scripts = [
        "let x = 1;\n  delete_keypair(\"k-1\");\nselect_key_space(\"other\");\nsign(\"m\", \"billing/root\");",
        "let f = Fn(\"create_keypair\");\n\"m\".hash(\"x\");",
        "if {",
        "fn sign(m) { m }",
    ];
    let (exit, out, err) = check(&scratch, &scripts, &[]);
    assert_eq!(exit, 1, "{err}");
    let expected = [
        ("0", 2, 3, "policy-denied", "no rule allows `delete_keypair`"),
        ("0", 3, 1, "policy-denied", "no rule allows `select_key_space` on the key space `other`"),
        ("0", 4, 1, "policy-denied", "no rule allows `sign` on `billing/root`"),
        ("1", 1, 9, "policy-denied", "no rule allows `create_keypair`"),
        ("1", 2, 5, "policy-denied", "no rule allows `hash`"),
        ("2", 1, 4, "parse-error", ""),
        ("3", 1, 4, "parse-error", "`sign` is a function of the host"),
    ];
    for (file, line, column, code, message) in expected {
        assert!(out.contains(&format!("{file}.rhai:{line}:{column}")), "{file}:{line}: {out}");
        assert!(out.contains(&format!("error[{code}]: ")) && out.contains(message), "{out}");
    }
    assert_eq!(out.matches("error[").count(), expected.len(), "{out}");
    assert!(out.contains("2 |   delete_keypair(\"k-1\");"), "the line itself is shown: {out}");
    let (exit, out, _) = check(&scratch, &scripts, &["--format", "json"]);
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    let found = told["findings"].as_array().unwrap();
    assert_eq!((exit, found.len()), (1, expected.len()));
    for (found, (file, line, column, code, message)) in found.iter().zip(expected) {
        assert!(found["file"].as_str().unwrap().ends_with(&format!("{file}.rhai")));
        assert_eq!((&found["line"], &found["column"]), (&line.into(), &column.into()), "{found}");
        assert_eq!(found["code"], code);
        assert!(found["message"].as_str().unwrap().contains(message), "{found}");
    }
    let (_, out, _) = check(&scratch, &scripts, &["--format", "sarif"]);
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(told["runs"][0]["results"].as_array().unwrap().len(), expected.len());
}

#[test]
fn what_is_written_out_is_held_against_the_terms() {
    let scratch = Scratch::new();
    let terms = "[anonymous]\nroles = [\"r\"]\n[[role]]\nname = \"r\"\nallow = [\n\
        { calls = [\"sign\"], keys = [\"a/*\"], message_max = \"4 B\" },\n\
        { calls = [\"hash\"], message_prefix = [\"x\"] },\n\
        { calls = [\"sign_in\"], keys = [\"a/*\"], namespaces = [\"ci\"] },\n\
        { calls = [\"random_bytes\"], expires = 2020-01-01T00:00:00Z },\n]\n\
        deny = [{ calls = [\"sign\"], keys = [\"a/*\"], message_prefix = [\"no\"] }]\n";
    let policy = scratch.policy(terms);
    let check = |script: &str| {
        let script = scratch.write("s.rhai", script);
        let output = cli().arg("check").arg(script).arg("--policy").arg(&policy).output().unwrap();
        outcome(&output)
    };
    for (script, why) in [
        ("sign(\"too long\", \"a/k\")", "allows messages of at most 4 bytes"),
        ("let k = \"a/k\"; sign(\"too long\", k)", "allows messages of at most 4 bytes"),
        ("hash(\"sha256\", \"y\")", "is for messages that begin otherwise"),
        ("sign_in(\"prod\", \"m\")", "is for other namespaces"),
        ("sign(\"no\", \"a/k\")", "r.deny[0] (line 14) denies `sign` on `a/k`"),
        ("random_bytes(1)", "r.allow[3] (line 12) has expired"),
    ] {
        let (exit, out, _) = check(script);
        assert!(
            exit == 1 && out.contains("error[policy-denied]") && out.contains(why),
            "{script}: {out}"
        );
    }
    for script in [
        "sign(\"good\", \"a/k\")",
        "hash(\"sha256\", \"x\")",
        "sign_in(\"ci\", \"m\")",
        "let m = \"too long\"; sign(m, \"a/k\")",
        "sign_all([\"too long\"])",
        "\"m\".sign(\"too long\")",
        // Errors of the script, of which nothing is decided.
        "sign_in(\"pro d\", \"m\")",
        "sign(\"too long\", \"a/k\", 1)",
    ] {
        assert_eq!(check(script).0, 0, "{script}");
    }
    // What is surely met, and what surely is not, leaves nothing to the service.
    for script in ["hash(\"sha256\", \"x\")", "sign(\"good\", \"a/k\")"] {
        let (_, out, err) = check(script);
        assert!(out.is_empty() && err.ends_with(": allowed\n"), "{script}: {out}{err}");
    }
}

#[test]
fn a_script_is_parsed_and_not_run() {
    let scratch = Scratch::new();
    let (exit, out, err) = check(&scratch, &["loop { print(\"running\"); }"], &[]);
    assert_eq!((exit, out.as_str()), (0, ""), "{err}");
    assert!(!err.contains("running"));
}

#[test]
fn unknown_clients_and_missing_files_are_usage_errors() {
    let scratch = Scratch::new();
    let (exit, _, err) = check(&scratch, &["1"], &["--as", "nobody"]);
    assert_eq!(exit, 2);
    assert!(err.contains("no client `nobody`"), "{err}");
    let output =
        cli().args(["check", "/nowhere/s.rhai", "--policy"]).arg(scratch.policy(POLICY)).output();
    let (exit, _, err) = outcome(&output.unwrap());
    assert_eq!(exit, 2);
    assert!(err.contains("cannot open `/nowhere/s.rhai`"), "{err}");
}

fn verdict(scratch: &Scratch, policy: &str, script: &str, more: &[&str]) -> (i32, String, String) {
    let (policy, script) = (scratch.policy(policy), scratch.write("s.rhai", script));
    let mut command = cli();
    command.arg("check").arg(script).arg("--policy").arg(policy).args(more);
    let (exit, out, err) = outcome(&command.output().unwrap());
    (exit, out, err.rsplit(": ").next().unwrap().trim().to_owned())
}

#[test]
fn limits_are_those_of_the_script_and_of_each_caller() {
    let scratch = Scratch::new();
    let nkeys = [(); 2].map(|()| proof::Identity::generate().nkey());
    let clients = |roles: [&str; 2]| {
        format!(
            "[[client]]\nname = \"a\"\nnkey = \"{}\"\nroles = [{}]\n[[client]]\nname = \"b\"\nnkey = \"{}\"\nroles = [{}]\n",
            nkeys[0], roles[0], nkeys[1], roles[1]
        )
    };
    let role = |name: &str, more: &str| {
        format!("[[role]]\nname = \"{name}\"\nallow = [{{ calls = [\"hash\"] }}]\n{more}\n")
    };
    let script = "hash(\"sha256\", \"a message that is longer\")";
    let other = format!("scripts = [\"sha256:{}\"]\nlimits.script = \"10 B\"", "1".repeat(64));
    // A role that is for other scripts bounds only those.
    let policy =
        clients(["\"wide\", \"pinned\"", "\"wide\""]) + &role("wide", "") + &role("pinned", &other);
    for more in [&[] as &[&str], &["--as", "a"]] {
        let (exit, out, word) = verdict(&scratch, &policy, script, more);
        assert_eq!((exit, &*word), (0, "allowed"), "{out}");
    }
    let narrow = role("narrow", "limits.script = \"10 B\"");
    let policy = clients(["\"narrow\"", "\"narrow\""]) + &narrow;
    let (exit, out, word) = verdict(&scratch, &policy, script, &[]);
    assert!(exit == 1 && word == "refused" && out.contains("limit-script-size"), "{out}");
    let policy = clients(["\"narrow\"", "\"wide\""]) + &narrow + &role("wide", "");
    let (exit, out, word) = verdict(&scratch, &policy, script, &[]);
    assert!(exit == 0 && word == "undecidable" && out.contains("(for `a`)"), "{out}");
    assert_eq!(verdict(&scratch, &policy, script, &["--as", "b"]).2, "allowed");
}

#[test]
fn a_function_that_an_object_map_may_have_is_not_surely_that_of_the_host() {
    let scratch = Scratch::new();
    for (script, expected) in [
        (
            "let m = #{ delete_keypair: |x| \"mine \" + x }; m.delete_keypair(\"a/k\")",
            "undecidable",
        ),
        ("\"a/k\".delete_keypair()", "refused"),
        ("[1].delete_keypair()", "refused"),
        ("delete_keypair(\"a/k\")", "refused"),
    ] {
        let (_, out, word) = verdict(&scratch, POLICY, script, &[]);
        assert_eq!(word, expected, "{script}: {out}");
    }
}

#[test]
fn a_policy_that_knows_nobody_allows_no_script() {
    let scratch = Scratch::new();
    let (exit, out, word) = verdict(&scratch, "[[role]]\nname = \"r\"\n", "1", &[]);
    assert!(exit == 1 && word == "refused" && out.contains("knows nobody"), "{out}");
}

#[test]
fn the_algorithm_of_a_new_key_is_held_against_the_terms() {
    let scratch = Scratch::new();
    let policy = "[anonymous]\nroles = [\"r\"]\n[[role]]\nname = \"r\"\nallow = [\n\
         { calls = [\"create_keypair\"], keys = [\"a/*\"], algorithms = [\"secp256k1\"] }]\n";
    for (script, expected) in [
        ("create_keypair(\"a/k\", \"secp256k1\")", "allowed"),
        ("create_keypair(\"a/k\")", "refused"),
        ("create_keypair(\"a/k\", \"p256\")", "refused"),
        ("let a = \"p256\"; create_keypair(\"a/k\", a)", "undecidable"),
    ] {
        let (_, out, word) = verdict(&scratch, policy, script, &[]);
        assert_eq!(word, expected, "{script}: {out}");
    }
}

#[test]
fn what_every_selection_of_a_script_allows_is_allowed() {
    let scratch = Scratch::new();
    let policy = "[anonymous]\nroles = [\"r\"]\n[[role]]\nname = \"r\"\nallow = [\n\
         { calls = [\"create_key_space\", \"select_key_space\", \"create_keypair\", \"select_keypair\"], keys = [\"*/*\"] },\n\
         { calls = [\"sign\", \"public_key\"], keys = [\"a/*\"] },\n]\n";
    for (script, expected) in [
        (
            "create_key_space(\"a\"); create_keypair(\"k\"); select_keypair(\"a/k\"); sign(\"m\"); public_key()",
            "allowed",
        ),
        ("select_key_space(\"a\"); sign(\"m\", \"k\")", "allowed"),
        (
            "fn f() { sign(\"m\") } if true { select_keypair(\"a/k\") } else { select_keypair(\"a/l\") } f()",
            "allowed",
        ),
        ("select_keypair(\"a/k\"); sign_all([\"m\"])", "allowed"),
        ("select_keypair(\"b/k\"); sign(\"m\")", "refused"),
        ("select_key_space(\"b\"); select_keypair(\"k\"); sign(\"m\")", "refused"),
        // What is selected where is not followed, so one that is refused leaves it open.
        ("select_keypair(\"a/k\"); sign(\"m\"); select_keypair(\"b/k\")", "undecidable"),
        (
            "select_key_space(\"a\"); select_keypair(\"b/k\"); select_keypair(\"l\"); sign(\"m\")",
            "undecidable",
        ),
        ("select_keypair(\"a/k\"); let n = \"a/k\"; select_keypair(n); sign(\"m\")", "undecidable"),
        ("select_keypair(\"b/k\"); let n = \"a/k\"; select_keypair(n); sign(\"m\")", "undecidable"),
        ("select_keypair(\"a/k\"); let k = \"a/k\"; sign(\"m\", k)", "undecidable"),
        ("select_keypair(\"a/k\"); \"b/k\".select_keypair(); sign(\"m\")", "undecidable"),
        (
            "select_keypair(\"a/k\"); Fn(\"select_keypair\").call(\"b/k\"); sign(\"m\")",
            "undecidable",
        ),
        (
            "select_keypair(\"a/k\"); Fn(\"select_\" + \"keypair\").call(\"b/k\"); sign(\"m\")",
            "undecidable",
        ),
        ("sign(\"m\")", "undecidable"),
    ] {
        let (_, out, word) = verdict(&scratch, policy, script, &[]);
        assert_eq!(word, expected, "{script}: {out}");
    }
}

/// What is found is told in parts, so that a script which may be run may be checked.
#[test]
fn a_script_full_of_calls_is_checked_within_the_bounds_in_which_it_runs() {
    let scratch = Scratch::new();
    for (calls, limits) in [
        (1_550, "memory = \"1 MiB\""),
        (100_000, "script = \"1 MiB\"\nmemory = \"512 MiB\"\nwall_clock = \"60 s\""),
    ] {
        let script = format!("if false {{ {} }} 42", "hash(); ".repeat(calls));
        let policy = format!("[limits]\n{limits}\n{OPEN_TO_ANYBODY}");
        let (_, out, word) = verdict(&scratch, &policy, &script, &[]);
        assert_eq!((word.as_str(), out.as_str()), ("allowed", ""), "{calls}");
        let mut run = cli();
        run.args(["run", "--ephemeral"]).arg(scratch.write("s.rhai", &script)).arg("--policy");
        let run = run.arg(scratch.policy(&policy)).output().unwrap();
        assert_eq!(outcome(&run).1, "42\n", "{calls}");
    }
}

/// The parser's syntax tree has what stands in a branch once for each of its cases.
#[test]
fn a_call_in_a_branch_of_many_cases_is_one_call() {
    let scratch = Scratch::new();
    let nested = |levels, cases: &str| {
        let around = |inner, _| format!("switch 1{{{cases}=>{inner}}}");
        (0..levels).fold("hash()".to_owned(), around)
    };
    let text = "a".repeat(300);
    for script in [
        format!("switch 1 {{ 1|2|3|4|5|6|7|8 => hash(\"sha256\", \"{text}\"), _ => \"\" }}"),
        format!("switch 1 {{ 0..10 | 20..30 => hash(\"sha256\", \"{text}\"), _ => \"\" }}"),
        format!("switch 1 {{ 1|2|3 if hash(\"sha256\", \"{text}\") == \"\" => 1 }}"),
        nested(9, "1|2"),
        // The parser has it tens of thousands of times.
        nested(9, "1|2|3"),
        nested(4, "1|2|3|4|5|6|7|8|9|10|11|12|13|14|15|16"),
    ] {
        let (_, out, word) = verdict(&scratch, OPEN_TO_ANYBODY, &script, &[]);
        assert_eq!((word.as_str(), out.as_str()), ("allowed", ""), "{script}");
        let policy = "[anonymous]\nroles = [\"r\"]\n[[role]]\nname = \"r\"\n";
        let (_, out, word) = verdict(&scratch, policy, &script, &[]);
        let count = out.matches("error[policy-denied]").count();
        assert_eq!((word.as_str(), count), ("refused", 1), "{script}: {out}");
    }
}
