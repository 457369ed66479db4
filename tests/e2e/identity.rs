//! `crypto-cli identity`: a caller's nkey, and proofs for clients of another kind.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::*;

fn identity(words: &[&str]) -> (i32, String, String) {
    outcome(&cli().arg("identity").args(words).output().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_identity_is_in_a_file_of_its_own_and_its_proof_is_good_once_for_one_script() {
    let scratch = Scratch::new();
    let seed = scratch.path("caller.nk");
    let path = seed.to_str().unwrap();
    let (exit, nkey, err) = identity(&["new", "--output", path]);
    assert!(exit == 0 && err.contains("wrote the seed to"), "{err}");
    let nkey = nkey.trim();
    assert!(nkey.starts_with('U') && nkeys::from_public_key(nkey).is_ok(), "{nkey}");
    assert_eq!(fs::metadata(&seed).unwrap().permissions().mode() & 0o777, 0o600);
    let written = fs::read_to_string(&seed).unwrap();
    assert_eq!(nkeys::KeyPair::from_seed(written.trim()).unwrap().public_key(), nkey);
    assert!(!err.contains(written.trim()), "the seed is shown to nobody");
    // One that is there is not lost.
    let (exit, out, err) = identity(&["new", "--output", path]);
    assert_eq!((exit, out.as_str()), (2, ""), "{err}");
    assert_eq!(fs::read_to_string(&seed).unwrap(), written);
    assert_eq!(identity(&["show", path]), (0, format!("{nkey}\n"), String::new()));
    let other = scratch.write("other.nk", "SUAnothing\n");
    let (exit, out, _) = identity(&["show", other.to_str().unwrap()]);
    assert_eq!((exit, out.as_str()), (2, ""));

    let nats = Nats::plain();
    let client = format!("[[client]]\nname = \"caller\"\nnkey = \"{nkey}\"\nroles = [\"all\"]\n");
    let role = OPEN_TO_ANYBODY.split_once("[[role]]").unwrap().1;
    let service = Service::start(&nats, &format!("{client}[[role]]{role}"));
    service.await_proofs();
    let client = nats.client().await;
    let script = scratch.write("s.rhai", "40 + 2");
    let to = ["--service-nkey", &service.nkey];
    let words = ["proof", script.to_str().unwrap(), "--seed", path, "--service", SERVICE];
    let words = [&words[..], &to].concat();
    let (exit, proof, err) = identity(&words);
    assert_eq!(exit, 0, "{err}");
    let send = |body: &'static str| ask(&client, body, proof_header(proof.trim()));
    assert_eq!(send("40 + 3").await.error.as_deref(), Some("unauthenticated"));
    let reply = send("40 + 2").await;
    assert_eq!((reply.error.as_deref(), reply.text.as_str()), (None, "42"));
    assert_eq!(send("40 + 2").await.error.as_deref(), Some("replayed"));
    let audit = service.audit();
    let served = audit.iter().find(|line| line["status"] == "ok").unwrap();
    assert_eq!((served["client"].as_str(), served["nkey"].as_str()), (Some("caller"), Some(nkey)));
    // `--idem` lets the same proof have the same answer.
    let (_, again, _) = identity(&[&words[..], &["--idem"]].concat());
    let send = || ask(&client, "40 + 2", proof_header(again.trim()));
    let (one, two) = (send().await, send().await);
    assert_eq!((one.error, one.proof), (None, two.proof));
}

#[test]
fn no_proof_is_made_that_nobody_would_believe() {
    let scratch = Scratch::new();
    let seed = scratch.seed_file("caller.nk", &proof::Identity::generate());
    let nkey = nkeys::KeyPair::new_server().public_key();
    let secret = nkeys::KeyPair::new_server().seed().unwrap();
    let other = if &nkey[10..11] == "A" { "B" } else { "A" };
    let slip = format!("{}{other}{}", &nkey[..10], &nkey[11..]);
    let (small, large) =
        (scratch.write("s.rhai", "1"), scratch.write("l.rhai", "1 ".repeat(600_000)));
    let proof = |script: &std::path::Path, service: &str, nkey: &str| {
        let [script, seed] = [script, &*seed].map(|path| path.to_str().unwrap());
        let to = ["--service", service, "--service-nkey", nkey];
        identity(&[&["proof", script, "--seed", seed][..], &to].concat())
    };
    assert_eq!(proof(&small, SERVICE, &nkey).0, 0);
    for ((exit, out, err), says) in [
        (proof(&large, SERVICE, &nkey), "has more than 1048576 bytes"),
        (proof(&small, "", &nkey), "`CRYPTO_SERVICE`, is empty"),
        (proof(&small, SERVICE, &slip), "is not the public nkey of a service"),
        (proof(&small, SERVICE, &secret), "is not the public nkey of a service"),
    ] {
        assert!(!err.contains(&secret), "{err}");
        assert!(exit == 2 && out.is_empty() && err.contains(says), "{out} {err}");
    }
    // A seed in the place of its file.
    let (exit, _, err) = identity(&["show", &secret]);
    assert!(exit == 2 && err.contains("`****") && !err.contains(&secret), "{err}");
    fs::set_permissions(&seed, fs::Permissions::from_mode(0o644)).unwrap();
    let (exit, _, err) = proof(&small, SERVICE, &nkey);
    assert!(exit == 0 && err.contains("other users may read"), "{err}");
}
