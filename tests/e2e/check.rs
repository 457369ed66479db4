//! `crypto-cli check`: what the policy would refuse, with its place.

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
    let script = "select_key_space(\"billing\");\nselect_keypair(\"k-1\");\nsign(\"m\")";
    let (exit, out, err) = check(&scratch, &[script], &[]);
    assert_eq!((exit, out.as_str()), (0, ""), "{err}");
    let (exit, out, _) = check(&scratch, &[script], &["--format", "json"]);
    assert_eq!((exit, out.trim()), (0, "{\"findings\":[],\"schema\":1}"));
}

#[test]
fn every_refused_call_is_found_with_file_line_and_column() {
    let scratch = Scratch::new();
    let scripts = [
        "let x = 1;\n  delete_keypair(\"k-1\");\nselect_key_space(\"other\");\nsign(\"m\", \"billing/root\");",
        "let f = Fn(\"create_keypair\");\n\"m\".hash(\"x\");",
        "if {",
    ];
    let (exit, out, err) = check(&scratch, &scripts, &[]);
    assert_eq!(exit, 1, "{err}");
    let found: Vec<_> = out
        .lines()
        .map(|line| {
            let (place, message) = line.rsplit_once(".rhai:").unwrap();
            (place.rsplit_once('/').unwrap().1.to_owned(), message.to_owned())
        })
        .collect();
    let starts = [
        ("0", "2:3: policy-denied: no rule allows `delete_keypair`"),
        ("0", "3:1: policy-denied: no rule allows `select_key_space` on the key space `other`"),
        ("0", "4:1: policy-denied: no rule allows `sign` on a key named `root`"),
        ("1", "1:9: policy-denied: no rule allows `create_keypair`"),
        ("1", "2:5: policy-denied: no rule allows `hash`"),
        ("2", "1:4: parse-error: "),
    ];
    assert_eq!(found.len(), starts.len(), "{out}");
    for ((file, message), (in_file, start)) in found.iter().zip(starts) {
        assert_eq!(file, in_file, "{out}");
        assert!(message.starts_with(start), "{message:?} does not start with {start:?}");
    }
    let (exit, out, _) = check(&scratch, &scripts, &["--format", "json"]);
    let whole: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((exit, whole["findings"].as_array().unwrap().len()), (1, 6));
    assert_eq!(whole["findings"][0]["line"], 2);
    assert_eq!(whole["findings"][0]["code"], "policy-denied");
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
