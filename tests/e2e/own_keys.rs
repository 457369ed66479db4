//! Calls that are given a key of the script's own, which is nothing stored: what judges them judges alike.

use crate::support::*;

/// The exit codes of running and of checking a script under a policy of one role, and the verdict.
fn judged(scratch: &Scratch, policy: &str, script: &str) -> (i32, i32, String) {
    let role = "[anonymous]\nroles = [\"r\"]\n[[role]]\nname = \"r\"\n";
    let policy = scratch.policy(&format!("{role}{policy}\n"));
    let script = scratch.write("s.rhai", script);
    let ask = |arguments: &[&str]| {
        let mut command = cli();
        command.args(arguments).arg("--policy").arg(&policy).arg(&script);
        outcome(&command.output().unwrap())
    };
    let (ran, (checked, _, err)) = (ask(&["run", "--ephemeral"]).0, ask(&["check"]));
    (ran, checked, err.rsplit(": ").next().unwrap().trim().to_owned())
}

/// Scripts that encrypt with a key of their own.
const OWN: [&str; 2] =
    ["let k = generate_key(); decrypt(k, encrypt(k, \"m\"))", "encrypt(generate_key(), \"m\")"];

#[test]
fn a_rule_without_keys_allows_a_key_of_its_own_and_check_knows_it() {
    let scratch = Scratch::new();
    for policy in [
        "allow = [{ calls = [\"*\"] }]",
        "allow = [{ calls = [\"generate_key\", \"encrypt\", \"decrypt\"] }]",
        "allow = [{ calls = [\"generate_key\", \"encrypt\", \"decrypt\"], keys = [\"x/*\"] }]",
    ] {
        for script in OWN {
            let allowed = (0, 0, "allowed".to_owned());
            assert_eq!(judged(&scratch, policy, script), allowed, "{policy}");
        }
    }
}

#[test]
fn a_deny_on_whichever_keys_closes_a_key_of_its_own() {
    let scratch = Scratch::new();
    for keys in ["", ", keys = [\"y/*\"]"] {
        let denied =
            format!("allow = [{{ calls = [\"*\"] }}]\ndeny = [{{ calls = [\"encrypt\"]{keys} }}]");
        for script in OWN {
            let refused = (1, 1, "refused".to_owned());
            assert_eq!(judged(&scratch, &denied, script), refused, "{keys}");
        }
    }
}

#[test]
fn a_rule_without_keys_does_not_allow_the_selected_key() {
    let scratch = Scratch::new();
    for script in ["encrypt(\"m\")", "decrypt(\"m\")"] {
        let policy = "allow = [{ calls = [\"encrypt\", \"decrypt\"] }]";
        let refused = (1, 1, "refused".to_owned());
        assert_eq!(judged(&scratch, policy, script), refused, "{script}");
    }
}

#[test]
fn explain_judges_a_key_of_its_own_where_no_key_is_named() {
    let scratch = Scratch::new();
    let explain = |rules: &str| {
        let role = "[anonymous]\nroles = [\"r\"]\n[[role]]\nname = \"r\"\n";
        let mut command = cli();
        command.args(["policy", "explain", "--as", "anonymous", "--call", "encrypt"]);
        command.arg("--policy").arg(scratch.policy(&format!("{role}{rules}\n")));
        outcome(&command.output().unwrap())
    };
    let deny = "\ndeny = [{ calls = [\"encrypt\"] }]";
    for (allow, says) in [
        ("allow = [{ calls = [\"*\"] }]", "allows it with a key of the script's own, as long"),
        // It is not about its keys that this one is asked.
        (
            "allow = [{ calls = [\"encrypt\"], keys = [\"x/*\"] }]",
            "allows it with a key of the script's own, as long",
        ),
        (
            "allow = [{ calls = [\"hash\"] }]",
            "no rule allows `encrypt` with a key of the script's own",
        ),
    ] {
        let (exit, out, _) = explain(allow);
        assert_eq!(exit, i32::from(says.starts_with("no rule")), "{out}");
        assert!(out.contains(says) && out.contains("`--key` names a stored one"), "{out}");
        let (exit, out, _) = explain(&format!("{allow}{deny}"));
        let says = "denies `encrypt` with a key of the script's own\n";
        assert!(exit == 1 && out.contains(says), "{out}");
    }
}

#[test]
fn diff_tells_a_key_of_its_own_from_no_key_at_all() {
    let scratch = Scratch::new();
    let policy = |name: &str, rules: &str| {
        let head = "version = 1\nservice.name = \"s\"\nanonymous.roles = [\"r\"]\n";
        scratch.write(name, format!("{head}[[role]]\nname = \"r\"\n{rules}\n"))
    };
    let allow = "allow = [{ calls = [\"encrypt\", \"hash\"], keys = [\"x/*\"] }]";
    let (old, new) = (policy("old.toml", ""), policy("new.toml", allow));
    let diff = |format: &str| {
        let mut command = cli();
        command.args(["policy", "diff", "--format", format]).arg(&old).arg(&new);
        outcome(&command.output().unwrap()).1
    };
    let told: serde_json::Value = serde_json::from_str(&diff("json")).unwrap();
    let changes = told["changes"].as_array().unwrap().iter();
    let told: Vec<_> = changes
        .map(|change| (change["call"].as_str().unwrap(), change["on"].as_str(), &change["own_key"]))
        .collect();
    let (yes, no) = (&true.into(), &false.into());
    let expected = [("encrypt", None, yes), ("encrypt", Some("x/*"), no), ("hash", None, no)];
    assert!(expected.iter().all(|one| told.contains(one)) && told.len() == 3, "{told:?}");
    let text = diff("text");
    assert!(text.contains("+ encrypt with a key of the script's own ("), "{text}");
    assert!(text.contains("+ encrypt on x/* (") && text.contains("+ hash ("), "{text}");
}
