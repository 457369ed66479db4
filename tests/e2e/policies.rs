//! `crypto-cli policy`: what it says of policies, and how it ends.

use crate::support::*;

const BAD: &str = "version = 1\n[service]\nname = \"s\"\n[[role]]\nname = \"r\"\n\
    allow = [{ calls = [\"sgin\"], keys = [\"a/b/c\"] }]\n";

#[test]
fn every_mistake_is_shown_with_its_line_and_as_data() {
    let scratch = Scratch::new();
    let path = scratch.write("bad.toml", BAD);
    let check = |format: &str| {
        let mut command = cli();
        command.args(["policy", "check", "--format", format]).arg(&path);
        outcome(&command.output().unwrap())
    };
    let (exit, out, err) = check("text");
    assert_eq!((exit, err.as_str()), (2, ""));
    for part in [
        "error[policy-unknown-call]: unknown call `sgin`",
        "bad.toml:6:21",
        "^^^^^^",
        "did you mean `sign`?",
        "policy-value",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
    let (_, out, _) = check("json");
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(told["findings"][0]["code"], "policy-unknown-call");
    assert_eq!(
        (&told["findings"][0]["line"], &told["findings"][0]["column"]),
        (&6.into(), &21.into())
    );
    let (_, out, _) = check("sarif");
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    let result = &told["runs"][0]["results"][1];
    assert_eq!((&told["version"], &result["ruleId"]), (&"2.1.0".into(), &"policy-value".into()));
    let place = &result["locations"][0]["physicalLocation"];
    assert_eq!(place["region"]["startLine"], 6);
    let (_, out, _) = check("github");
    assert!(out.starts_with("::error file="), "{out}");
    assert!(
        out.contains(",line=6,col=21,title=policy-unknown-call::unknown call `sgin`%0A"),
        "{out}"
    );
}

#[test]
fn a_mistake_is_drawn_in_a_file_of_any_editor() {
    let scratch = Scratch::new();
    let check = |text: &str| {
        let path = scratch.write("p.toml", text);
        outcome(&cli().args(["policy", "check"]).arg(path).output().unwrap()).1
    };
    let tabs = check("version = 1\r\nservice.name = \"s\"\t#\r\n\tlimts = 1 # \u{202e}\r\n");
    assert!(tabs.contains("3 |  limts = 1 # \u{fffd}\n"), "{tabs}");
    assert!(tabs.contains("  |  ^^^^^"), "{tabs}");
    assert!(!tabs.contains('\u{202e}'), "{tabs}");
    let steering = check("version = 1 # \u{1b}[2J\n");
    assert!(steering.contains("1 | version = 1 # \u{fffd}[2J\n"), "{steering}");
    let marked = check("\u{feff}version = 1\nservice.name = \"s\"\nlimts = 1\n");
    assert!(marked.contains("3 | limts = 1\n"), "{marked}");
}

#[test]
fn a_file_full_of_mistakes_is_not_drawn_whole() {
    let scratch = Scratch::new();
    let keys: String = (0..20_000).map(|number| format!("k{number} = 1\n")).collect();
    let path = scratch.write("p.toml", format!("version = 1\nservice.name = \"s\"\n{keys}"));
    let (exit, out, _) = outcome(&cli().args(["policy", "check"]).arg(path).output().unwrap());
    assert_eq!((exit, out.matches("error[policy-unknown-key]").count()), (2, 100));
    assert!(
        out.ends_with("and 19900 more, which `--format json` lists\n"),
        "{}",
        &out[out.len() - 200..]
    );
}

#[test]
fn an_allow_that_a_deny_closes_is_pointed_out() {
    let scratch = Scratch::new();
    let rules = "[[role]]\nname = \"r\"\nallow = [{ calls = [\"sign\"], keys = [\"a/b\"] }, { calls = [\"sign\"], keys = [\"c/b\"] }]\n\
        deny = [{ calls = [\"*\"], keys = [\"a/*\"] }]\n";
    let path = scratch.policy(rules);
    let output = cli().args(["policy", "check"]).arg(path).output().unwrap();
    let (exit, out, _) = outcome(&output);
    assert_eq!(exit, 0, "it is a policy all the same");
    assert!(out.contains("warning[policy-closed-rule]: r.allow[0] allows nothing"), "{out}");
    assert!(!out.contains("r.allow[1]"), "{out}");
}

#[test]
fn a_decision_is_explained_by_every_rule() {
    let explain = |key: &str, at: &str| {
        let mut command = cli();
        command.args([
            "policy",
            "explain",
            "--policy",
            "policy/examples/team.toml",
            "--as",
            "billing",
        ]);
        command.args(["--call", "sign", "--key", key, "--at", at]);
        outcome(&command.output().unwrap())
    };
    let (exit, out, _) = explain("billing/invoice-1", "2026-11-23T12:00:00Z");
    assert_eq!(exit, 0);
    assert!(out.starts_with("allowed: billing-signer.allow[0] (line "), "{out}");
    assert!(out.contains("billing-signer.allow[1] is for other calls"), "{out}");
    let (exit, out, _) = explain("billing/invoice-1", "2026-11-23T23:00:00Z");
    assert_eq!(exit, 1);
    assert!(out.contains("billing-signer.allow[0] does not hold at this time"), "{out}");
    let (exit, _, err) = explain("billing", "2026-11-23T12:00:00Z");
    assert!(exit == 2 && err.contains("name a key as `space/key`"), "{err}");
}

#[test]
fn a_failed_case_and_an_untried_rule_fail_the_test() {
    let scratch = Scratch::new();
    let policy = scratch.policy(
        "[anonymous]\nroles = [\"r\"]\n[[role]]\nname = \"r\"\n\
        allow = [{ calls = [\"hash\"] }, { calls = [\"random_bytes\"] }]\n",
    );
    let case = "[[case]]\nname = \"a & b\"\nas = \"anonymous\"\ncall = \"hash\"\nexpect = ";
    let test = |expect: &str, more: &[&str]| {
        scratch.write("policy.cases.toml", format!("{case}\"{expect}\"\n"));
        let output = cli().args(["policy", "test"]).arg(&policy).args(more).output().unwrap();
        outcome(&output)
    };
    assert_eq!(test("allow", &[]), (0, "1 cases, 0 failed\n".into(), String::new()));
    let (exit, out, _) = test("refuse", &[]);
    assert!(exit == 1 && out.contains("policy.cases.toml:1: a & b: it is allowed"), "{out}");
    let (exit, out, _) = test("allow", &["--coverage"]);
    assert!(exit == 1 && out.contains("r.allow[1] takes effect in no case"), "{out}");
    let (exit, out, _) = test("refuse", &["--format", "junit"]);
    assert_eq!(exit, 1);
    assert!(out.contains("failures=\"1\"") && out.contains("name=\"a &amp; b\""), "{out}");
    // What fails the test is a failure in every form.
    let (exit, out, _) = test("allow", &["--coverage", "--format", "junit"]);
    assert!(exit == 1 && out.contains("tests=\"2\" failures=\"1\""), "{out}");
    assert!(out.contains("name=\"r.allow[1] takes effect in a case\""), "{out}");
    assert!(test("allow", &["--format", "junit"]).1.contains("tests=\"1\" failures=\"0\""));
    // An allow that only fails to allow decides, and takes no effect.
    scratch.policy(
        "[anonymous]\nroles = [\"r\"]\n[[role]]\nname = \"r\"\n\
        allow = [{ calls = [\"hash\"], message_prefix = [\"a\"] }]\n",
    );
    let (exit, out, _) = test("refuse", &["--coverage"]);
    assert!(exit == 1 && out.contains("r.allow[0] takes effect in no case"), "{out}");
}

#[test]
fn a_name_of_a_case_neither_steers_a_terminal_nor_breaks_a_report() {
    let scratch = Scratch::new();
    let policy = scratch.policy("[anonymous]\nroles = []\n");
    let case = "[[case]]\nname = \"\\u001b[2J\\uFFFE\"\nas = \"anonymous\"\ncall = \"hash\"\nexpect = \"allow\"\n";
    scratch.write("policy.cases.toml", case);
    for format in ["text", "junit"] {
        let mut command = cli();
        command.args(["policy", "test", "--format", format]).arg(&policy);
        let (exit, out, _) = outcome(&command.output().unwrap());
        assert_eq!(exit, 1);
        assert!(!out.contains('\u{1b}'), "{out:?}");
        assert!(format == "text" || !out.contains('\u{fffe}'), "{out:?}");
    }
}

#[test]
fn a_place_is_written_as_each_format_has_it() {
    let scratch = Scratch::new();
    let path = scratch.write("a b%.toml", "version = 1\n");
    let check = |path: &std::path::Path, format: &str| {
        let mut command = cli();
        command.args(["policy", "check", "--format", format]).arg(path);
        outcome(&command.output().unwrap()).1
    };
    assert!(check(&path, "sarif").contains("/a%20b%25.toml\""));
    let script = scratch.write("s.rhai", "1");
    let mut command = cli();
    command.args(["check", "--format", "github"]).arg(script);
    command.arg("--policy").arg(scratch.policy("[[role]]\nname = \"r\"\n"));
    let (_, out, _) = outcome(&command.output().unwrap());
    assert!(out.contains("s.rhai,title=policy-denied::") && !out.contains("line=0"), "{out}");
}

#[test]
fn the_application_of_the_example_can_create_its_key_and_no_more() {
    let scratch = Scratch::new();
    let run = |name: &str, script: &str| {
        let script = scratch.write(name, script);
        let mut command = cli();
        command.args(["run", "--ephemeral", "--as", "application"]).arg(script);
        command.args(["--policy", "policy/examples/single-signer.toml"]);
        outcome(&command.output().unwrap())
    };
    let begin = "create_key_space(\"app\"); create_keypair(\"signing\"); public_key()";
    let (exit, out, err) = run("setup.rhai", begin);
    assert_eq!((exit, out.trim().len()), (0, 64), "{err}");
    let (exit, _, err) = run("more.rhai", &format!("{begin}; create_keypair(\"app/other\")"));
    assert!(exit != 0 && err.contains("policy-denied"), "{err}");
}

#[test]
fn fmt_lays_out_once_and_check_says_which() {
    let scratch = Scratch::new();
    let path = scratch.write("p.toml", "version=1\n# why\nservice.name=\"s\"   # this\n");
    let fmt = |more: &[&str]| {
        let output = cli().args(["policy", "fmt"]).args(more).arg(&path).output().unwrap();
        outcome(&output)
    };
    let (exit, out, _) = fmt(&["--check"]);
    assert!(exit == 1 && out.trim().ends_with("p.toml"), "{out}");
    assert_eq!(fmt(&[]), (0, String::new(), String::new()));
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, "version = 1\n# why\nservice.name = \"s\"   # this\n");
    assert_eq!(fmt(&["--check"]).0, 0);
    std::fs::write(&path, "version = ").unwrap();
    let (exit, _, err) = fmt(&[]);
    assert!(exit == 2 && err.contains("p.toml"), "{err}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "version = ");
}

#[test]
fn what_a_new_policy_opens_and_closes_is_said_for_each_client() {
    let scratch = Scratch::new();
    let nkey = proof::Identity::generate().nkey();
    let policy = |name: &str, limit: &str, revoked: bool, rules: &str| {
        let text = format!(
            "version = 1\nservice.name = \"s\"\nlimits.wall_clock = \"{limit}\"\n\
             [[client]]\nname = \"a\"\nnkey = \"{nkey}\"\nroles = [\"r\"]\nrevoked = {revoked}\n\
             [anonymous]\nroles = [\"none\"]\n[[role]]\nname = \"none\"\n[[role]]\nname = \"r\"\n{rules}"
        );
        scratch.write(name, text)
    };
    let diff = |old: &std::path::Path, new: &std::path::Path, format: &str| {
        let mut command = cli();
        command.args(["policy", "diff", "--format", format]).arg(old).arg(new);
        outcome(&command.output().unwrap())
    };
    let old = policy(
        "old.toml",
        "1 s",
        false,
        "allow = [\n{ calls = [\"sign\"], keys = [\"a/*\"] },\n{ calls = [\"hash\"] },\n]\n",
    );
    let new = policy(
        "new.toml",
        "2 s",
        false,
        "allow = [\n{ calls = [\"sign\"], keys = [\"a/*\"], uses = 1 },\n{ calls = [\"random_bytes\"] },\n]\n\
         deny = [{ calls = [\"sign\"], keys = [\"*/root\"] }]\n",
    );
    assert_eq!(diff(&old, &old, "text"), (0, String::new(), String::new()));
    let (exit, out, _) = diff(&old, &new, "text");
    let lines: Vec<&str> = out.lines().map(|line| line.split(" (").next().unwrap()).collect();
    let expected = [
        "a",
        "  ~ wall_clock = 1000 ms becomes 2000 ms",
        "  ~ sign on a/* on other terms",
        "  - sign on a/root",
        "  - hash",
        "  + random_bytes",
        "anonymous",
        "  ~ wall_clock = 1000 ms becomes 2000 ms",
    ];
    assert_eq!((exit, lines.as_slice()), (1, expected.as_slice()), "{out}");
    assert!(
        out.contains("old.toml:16 r.allow[0]") && out.contains("new.toml:19 r.deny[0]"),
        "{out}"
    );
    let (exit, out, _) = diff(&old, &new, "json");
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    let change = &told["changes"][2];
    assert_eq!((exit, &change["change"], &change["on"]), (1, &"refused".into(), &"a/root".into()));
    let revoked = policy("revoked.toml", "1 s", true, "allow = [{ calls = [\"hash\"] }]\n");
    let (_, out, _) = diff(&old, &revoked, "text");
    assert!(
        out.contains("- is no client") && out.contains("- hash (") && out.contains("- sign on a/*"),
        "{out}"
    );
}

/// What a look at one example of a pattern would miss, and what is not a rule.
#[test]
fn no_change_of_a_policy_goes_unsaid() {
    let scratch = Scratch::new();
    let nkeys = [(); 2].map(|()| proof::Identity::generate().nkey());
    let write = |name: &str, head: &str, allow: &str, deny: &str| {
        let text = format!(
            "version = 1\nservice.name = \"s\"\n[[client]]\nname = \"a\"\nnkey = \"{}\"\nroles = [\"r\", \"t\"]\n\
             {head}\n[[role]]\nname = \"r\"\nallow = [{allow}]\ndeny = [{deny}]\n",
            nkeys[0]
        );
        let text = if text.contains("name = \"t\"") {
            text
        } else {
            format!("{text}[[role]]\nname = \"t\"\n")
        };
        scratch.write(name, text)
    };
    let sign = |keys: &str| format!("{{ calls = [\"sign\"], keys = [\"{keys}\"] }}");
    let counted = |name: &str, keys: &str| {
        format!("{{ name = \"{name}\", calls = [\"sign\"], keys = [{keys}], uses = 10 }}, ")
    };
    let prefixed = "{ calls = [\"sign\"], keys = [\"a/root-*\"], message_prefix = [\"x\"] }";
    let long =
        |max: &str| format!("{{ calls = [\"sign\"], keys = [\"a/*\"], message_max = \"{max}\" }}");
    let role = |limit: &str| {
        let script = "1".repeat(64);
        format!("[[role]]\nname = \"t\"\nscripts = [\"sha256:{script}\"]\n{limit}")
    };
    let slow = role("limits.wall_clock = \"1 s\"\n");
    let quick = role("limits.wall_clock = \"100 ms\"\n");
    let x33 = "x".repeat(33);
    let (head, tail) = (sign(&format!("a/{x33}*")), sign(&format!("a/*{x33}")));
    let both = format!("{}{}", counted("x", "\"a/*\""), counted("y", "\"b/*\""));
    for ((head, allow, deny), (head2, allow2, deny2), says) in [
        (("", &*sign("billing/*-*"), ""), ("", &*sign("billing/*"), ""), "+ sign on billing/* ("),
        (
            ("", "", &sign("*/*-*")),
            ("", &sign("billing/*"), &sign("*/*-*")),
            "+ sign on billing/* (",
        ),
        (("", &sign("b/*"), ""), ("", &sign("b/*"), &sign("b/*_*")), "- sign on b/*_* ("),
        (("", &head, ""), ("", &head, &tail), "- sign on a/x"),
        (
            ("", &counted("x", "\"a/*\", \"b/*\""), ""),
            ("", &both, ""),
            "~ sign on b/* on other terms",
        ),
        (
            ("", &counted("x", "\"a/*\""), ""),
            ("", &counted("z", "\"a/*\""), ""),
            "~ sign on a/* on other terms",
        ),
        (
            ("", &long("4 KiB"), prefixed),
            ("", &long("8 KiB"), ""),
            "~ sign on a/root-* on other terms",
        ),
        (
            ("expires = 2120-01-01T00:00:00Z", "", ""),
            ("", "", ""),
            "~ expires never, was 2120-01-01",
        ),
        (("[sandbox]\nisolation = \"client\"", "", ""), ("", "", ""), "becomes \"script\""),
        (("[audit]\nsync = \"each\"", "", ""), ("", "", ""), "~ [audit] sync = \"each\""),
        (("[limits]\nconcurrent = 2", "", ""), ("", "", ""), "~ concurrent = 2 becomes 8"),
        ((&quick, "", ""), (&slow, "", ""), "~ wall_clock = 100 ms becomes 1000 ms for sha256:"),
    ] {
        let old = write("old.toml", head, allow, deny);
        let new = write("new.toml", head2, allow2, deny2);
        let output = cli().args(["policy", "diff"]).arg(&old).arg(&new).output().unwrap();
        let (exit, out, err) = outcome(&output);
        assert!(exit == 1 && out.contains(says), "{says}: {out}{err}");
        let same = cli().args(["policy", "diff"]).arg(&old).arg(&old).output().unwrap();
        assert_eq!(outcome(&same), (0, String::new(), String::new()));
    }
    // What is the same in another order is not said.
    let listed = |list: &str| {
        format!(
            "{{ calls = [\"sign\"], keys = [\"a/*\"], message_prefix = [{list}], rate = [\"1/1s\", \"2/1m\"] }}"
        )
    };
    let old = write("old.toml", "", &listed("\"x\", \"y\""), "");
    let turned = listed("\"y\", \"x\"").replace("\"1/1s\", \"2/1m\"", "\"2/1m\", \"1/1s\"");
    let new = write("new.toml", "", &turned, "");
    let output = cli().args(["policy", "diff"]).arg(&old).arg(&new).output().unwrap();
    assert_eq!(outcome(&output), (0, String::new(), String::new()));
}
