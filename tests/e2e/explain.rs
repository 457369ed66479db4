//! `crypto-cli policy explain` is asked about what a script can do, and says what it took for granted.

use crate::support::*;

/// `explain`, of a policy with one role that anybody has.
fn explained<'a>(
    scratch: &'a Scratch,
    allow: &str,
) -> impl Fn(&[&str]) -> (i32, String, String) + 'a {
    let policy = scratch.policy(&format!(
        "[anonymous]\nroles = [\"r\"]\n[[role]]\nname = \"r\"\nallow = [\n{allow}\n]\n"
    ));
    move |more| {
        let mut command = cli();
        command.args(["policy", "explain", "--policy"]).arg(&policy).args(more);
        outcome(&command.output().unwrap())
    }
}

#[test]
fn what_a_key_is_for_is_asked_or_said_to_be_assumed() {
    let scratch = Scratch::new();
    let explain = explained(
        &scratch,
        "{ calls = [\"sign\"], keys = [\"a/*\"], algorithms = [\"secp256k1\"] },\n{ calls = [\"hash\"] },",
    );
    let sign = ["--call", "sign", "--key", "a/k"];
    let (exit, out, _) = explain(&[&sign[..], &["--algorithm", "secp256k1"]].concat());
    assert!(exit == 0 && out.starts_with("allowed: ") && !out.contains("--algorithm"), "{out}");
    let (exit, out, _) = explain(&sign);
    assert!(
        exit == 1 && out.contains("for a key of ed25519: `--algorithm` names another"),
        "{out}"
    );
    let (_, out, _) = explain(&[&sign[..], &["--format", "json"]].concat());
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(told["assumed"]["algorithm"], "ed25519");
    let (exit, _, err) = explain(&[&sign[..], &["--algorithm", "rsa"]].concat());
    assert!(exit == 2 && err.contains("`rsa` is no algorithm: use ed25519"), "{err}");
    let (exit, out, _) = explain(&["--call", "hash"]);
    assert!(exit == 0 && !out.contains("--algorithm"), "{out}");
}

#[test]
fn what_a_message_is_is_asked_or_said_to_be_assumed() {
    let scratch = Scratch::new();
    let explain = explained(
        &scratch,
        "{ calls = [\"sign\"], keys = [\"a/*\"], message_prefix = [\"inv:\"] },\n{ calls = [\"hash\", \"random_bytes\"] },",
    );
    let sign = ["--call", "sign", "--key", "a/k"];
    let (exit, out, _) = explain(&sign);
    assert!(exit == 1 && out.contains("for an empty message: `--message` names"), "{out}");
    let (_, out, _) = explain(&[&sign[..], &["--format", "json"]].concat());
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(told["assumed"], serde_json::json!({ "message": "" }));
    let message = scratch.write("message", "inv:1");
    let message = ["--message", message.to_str().unwrap()];
    let (exit, out, _) = explain(&[&sign[..], &message].concat());
    assert!(exit == 0 && !out.contains("empty message"), "{out}");
    // An empty one may be what every pattern is not for, as one that is not known.
    let like = explained(
        &scratch,
        "{ calls = [\"sign\"], keys = [\"a/*\"], message_like = [\"inv:*\"] },",
    );
    assert!(like(&sign).1.contains("for an empty message"));
    // Where no rule asks there is nothing to say.
    let explain = explained(&scratch, "{ calls = [\"hash\", \"random_bytes\"] },");
    let (exit, out, _) = explain(&["--call", "hash"]);
    assert!(exit == 0 && !out.contains("empty message"), "{out}");
    let (exit, _, err) = explain(&[&["--call", "random_bytes"][..], &message].concat());
    assert!(exit == 2 && err.contains("`random_bytes` takes no message"), "{err}");
}

#[test]
fn what_no_script_can_call_is_not_explained() {
    let scratch = Scratch::new();
    let explain = explained(
        &scratch,
        "{ calls = [\"sign_in\"], keys = [\"a/*\"], namespaces = [\"ci\"] },\n{ calls = [\"hash\"] },",
    );
    let sign_in = ["--call", "sign_in", "--key", "a/k"];
    let (exit, _, err) = explain(&sign_in);
    assert!(exit == 2 && err.contains("takes a namespace: name it with `--namespace`"), "{err}");
    let (exit, _, err) = explain(&[&sign_in[..], &["--namespace", "no name!"]].concat());
    assert!(exit == 2 && err.contains("`--namespace`: `no name!`"), "{err}");
    assert_eq!(explain(&[&sign_in[..], &["--namespace", "ci"]].concat()).0, 0);
    let (exit, _, err) = explain(&["--call", "hash", "--namespace", "ci"]);
    assert!(exit == 2 && err.contains("`hash` takes no namespace"), "{err}");
}

/// The report of a policy goes where the policy may not.
#[test]
fn a_secret_in_a_policy_is_told_of_and_not_shown() {
    let scratch = Scratch::new();
    let seed = proof::Identity::generate().with_seed(str::to_owned);
    let role = "[[role]]\nname = \"r\"\n";
    let policy = scratch
        .policy(&format!("[[client]]\nname = \"a\"\nnkey = \"{seed}\"\nroles = [\"r\"]\n{role}"));
    for format in ["text", "json", "sarif", "github"] {
        let mut check = cli();
        let check = check.args(["policy", "check", "--format", format]).arg(&policy);
        let (exit, out, err) = outcome(&check.output().unwrap());
        assert!(exit == 2 && out.contains("this looks like a secret seed"), "{out}");
        assert!(!out.contains(&seed) && !err.contains(&seed), "{format}: {out}");
    }
    // In a name, in a text that breaks off, and in the place of other words.
    let named = scratch.policy(&format!("[[role]]\nname = \"{seed}\"\n"));
    let broken = scratch.write("broken.toml", format!("nkey = \"{seed}\n"));
    let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    for words in [
        ["policy", "check", &path(&named)],
        ["policy", "fmt", &path(&broken)],
        ["identity", "show", &seed],
        ["identity", "new", &seed],
        ["policy", &seed, "x"],
        ["doctor", "--format", &seed],
    ] {
        let (exit, out, err) = outcome(&cli().args(words).output().unwrap());
        let said = out + &err;
        assert!(exit == 2 && said.contains("****") && !said.contains(&seed), "{words:?}: {said}");
    }
}
