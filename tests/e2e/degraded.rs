//! Machines that grant less: what is refused, what is said, and that no script ever runs without the
//! filter of system calls.

use std::process::Command;

use crate::support::*;

/// Runs a command on a kernel that refuses these calls.
fn on(refused: &[&str], arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(hostile("refusing_kernel"));
    command.env_clear().args(refused).arg("--").arg(env!("CARGO_BIN_EXE_crypto-cli"));
    outcome(&command.args(arguments).output().unwrap())
}

#[test]
fn what_is_missing_is_said_and_what_is_needed_is_insisted_on() {
    let scratch = Scratch::new();
    let policy = scratch.policy(OPEN_TO_ANYBODY);
    let script = scratch.write("s.rhai", "40 + 2");
    let (policy, script) = (policy.to_str().unwrap(), script.to_str().unwrap());
    let (enough, refused) = (Some("42\n"), None);
    let no_filter = "the kernel refuses the system call filter";
    for (missing, strict, best_effort, says) in [
        (&[][..], enough, enough, &[][..]),
        (&["unshare"][..], enough, enough, &["namespaces: off", "empty root: off"][..]),
        (&["landlock"], enough, enough, &["sandbox: landlock: off", "broker: landlock: off"]),
        (&["unshare", "landlock"], refused, enough, &["neither landlock", "--sandbox best-effort"]),
        (&["seccomp"], refused, refused, &["a worker refused to start", "seccomp"]),
        (&["seccomp", "unshare", "landlock"], refused, refused, &["seccomp"]),
        (&["close_range"], refused, refused, &["close_range"]),
    ] {
        for (how, expected) in [("strict", strict), ("best-effort", best_effort)] {
            let run = ["run", "--ephemeral", "--sandbox", how, "--policy", policy, script];
            let (exit, out, err) = on(missing, &run);
            assert!(!err.contains(no_filter), "{err}");
            match expected {
                Some(value) => {
                    assert_eq!((exit, out.as_str()), (0, value), "{missing:?} {how}: {err}")
                }
                None => assert_eq!((exit, out.as_str()), (5, ""), "{missing:?} {how}: {err}"),
            }
            if expected.is_none() || how == "best-effort" {
                let said = |word: &&&str| err.contains(**word);
                let silent = expected.is_some() && strict.is_none();
                assert!(silent || says.iter().all(|word| said(&word)), "{missing:?} {how}: {err}");
            }
            if missing.is_empty() {
                assert_eq!(err, "", "nothing is missing here");
            }
        }
        // `doctor` says the same without a script.
        let (exit, _, _) = on(missing, &["doctor"]);
        assert_eq!(exit == 0, strict.is_some(), "{missing:?}");
    }
}

#[test]
fn doctor_names_every_layer() {
    let (exit, out, err) = on(&[], &["doctor", "--format", "json"]);
    assert_eq!((exit, err.as_str()), (0, ""));
    let said: serde_json::Value = serde_json::from_str(&out).unwrap();
    let layers = said["scripts"].as_object().unwrap();
    assert_eq!(layers.len(), 6);
    assert!(layers.values().all(|state| state == "on"), "{out}");
    assert_eq!(said["broker"]["landlock"], "on");
    let (exit, out, _) = on(&["unshare"], &["doctor", "--format", "json"]);
    let said: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(exit, 0);
    assert!(said["scripts"]["namespaces"].as_str().unwrap().starts_with("off: "), "{out}");
    let (exit, out, _) = on(&["unshare", "landlock"], &["doctor", "--format", "json"]);
    let said: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(exit, 5);
    assert!(said["problem"].as_str().unwrap().contains("best-effort"), "{out}");
}
