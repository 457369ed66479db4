//! What comes in and goes out encrypted, read and written by others.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::operator::{Place, arg};
use crate::support::*;

#[test]
fn a_bundle_to_a_recipient_is_a_file_of_age() {
    let (place, there) = (Place::new(), Place::new());
    place.does("keyspace new team");
    place.does("key new team/release");
    let identity = place.scratch.path("identity");
    let generated = Command::new("age-keygen").arg("-o").arg(&identity).output().unwrap();
    let recipient = text(&generated.stderr);
    let recipient = recipient.trim().rsplit(' ').next().unwrap().to_owned();
    let own = there.does("key recipient");
    let bundle = place.scratch.path("team.age");
    place.does(&format!(
        "keyspace export --all --output {} --to {recipient} --to {}",
        arg(&bundle),
        own.trim()
    ));
    let mut age = Command::new("age");
    let opened = age.arg("-d").arg("-i").arg(&identity).arg(&bundle).output().unwrap();
    assert!(opened.status.success(), "{}", text(&opened.stderr));
    assert!(opened.stdout.starts_with(b"CCKB\0\x01"));
    assert!(opened.stdout.windows(7).any(|window| window == b"release"));
    there.does(&format!("keyspace import {} --to-us", arg(&bundle)));
    assert_eq!(there.does("key public team/release"), place.does("key public team/release"));
    // What age encrypts is none of ours, but for a private key.
    let foreign = place.scratch.write("foreign", b"hello, world");
    let wrapped = place.scratch.path("foreign.age");
    let mut age = Command::new("age");
    assert!(
        age.args(["-r", own.trim(), "-o"]).arg(&wrapped).arg(&foreign).status().unwrap().success()
    );
    there.refuses(
        &format!("keyspace import {} --to-us", arg(&wrapped)),
        4,
        "another version, or holds",
    );
    there.refuses(
        &format!("key import team/x {}", arg(&wrapped)),
        2,
        "no private key that is known",
    );
}

/// A private key that others made, and its public key in a form that both know.
struct Foreign {
    name: &'static str,
    file: PathBuf,
    form: &'static str,
    public: String,
    algorithm: &'static str,
}

fn made(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn of_openssl(
    scratch: &Scratch,
    name: &'static str,
    words: &str,
    algorithm: &'static str,
) -> Foreign {
    let file = scratch.path(name);
    let mut openssl = Command::new("openssl");
    made(&openssl.args(words.split(' ')).arg("-out").arg(&file).output().unwrap());
    let mut openssl = Command::new("openssl");
    let public = openssl.args(["pkey", "-pubout", "-in"]).arg(&file).output().unwrap();
    Foreign { name, file, form: "pem", public: made(&public), algorithm }
}

fn of_ssh(scratch: &Scratch, name: &'static str, kind: &str, algorithm: &'static str) -> Foreign {
    let file = scratch.path(name);
    let mut keygen = Command::new("ssh-keygen");
    made(&keygen.args(["-q", "-N", "", "-C", "", "-t", kind, "-f"]).arg(&file).output().unwrap());
    let public = std::fs::read_to_string(file.with_extension("pub")).unwrap();
    Foreign { name, file, form: "ssh", public: format!("{}\n", public.trim()), algorithm }
}

#[test]
fn private_keys_of_others_come_wrapped_and_keep_their_public_keys() {
    let place = Place::new();
    place.does("keyspace new team");
    let recipient = place.does("key recipient");
    let identity = nkeys::KeyPair::new_user();
    let seed = place.scratch.write("nkey", identity.seed().unwrap());
    let ec = "genpkey -algorithm EC -pkeyopt ec_param_enc:named_curve -pkeyopt ec_paramgen_curve";
    let scratch = &place.scratch;
    let foreign = [
        of_openssl(scratch, "ed25519", "genpkey -algorithm ed25519", "ed25519"),
        of_openssl(scratch, "x25519", "genpkey -algorithm x25519", "x25519"),
        of_openssl(scratch, "p256", &format!("{ec}:P-256"), "p256"),
        of_openssl(scratch, "secp256k1", &format!("{ec}:secp256k1"), "secp256k1"),
        of_openssl(scratch, "sec1", "ecparam -name secp256k1 -genkey", "secp256k1"),
        of_ssh(scratch, "ssh-ed25519", "ed25519", "ed25519"),
        of_ssh(scratch, "ssh-ecdsa", "ecdsa", "p256"),
        Foreign {
            name: "seed",
            file: seed,
            form: "nkey",
            public: format!("{}\n", identity.public_key()),
            algorithm: "ed25519",
        },
    ];
    for (number, Foreign { name, file, form, public, algorithm }) in foreign.iter().enumerate() {
        let wrapped = scratch.path(&format!("{name}.wrapped"));
        let by = if number % 2 == 0 { "age" } else { "crypto-cli" };
        let mut wrap = if by == "age" { Command::new("age") } else { cli() };
        if by == "age" {
            wrap.args(["-r", recipient.trim(), "-o"]).arg(&wrapped).arg(file);
        } else {
            wrap.args(["key", "wrap", "--to", recipient.trim(), "--output"])
                .arg(&wrapped)
                .arg(file);
        }
        made(&wrap.output().unwrap());
        place.does(&format!("key import team/{name} {}", arg(&wrapped)));
        assert_eq!(place.does(&format!("key public team/{name} --as {form}")), *public, "{name}");
        let list = place.does("key list team");
        assert!(list.contains(&format!("team/{name} {algorithm}\n")), "{list}");
        let other = if *algorithm == "p256" { "ed25519" } else { "p256" };
        let wrong = format!("key import team/other {} --algorithm {other}", arg(&wrapped));
        place.refuses(&wrong, 2, &format!("holds a key for {algorithm}"));
    }
    let locked = scratch.path("locked");
    let mut keygen = Command::new("ssh-keygen");
    made(
        &keygen
            .args(["-q", "-N", "a passphrase", "-t", "ed25519", "-f"])
            .arg(&locked)
            .output()
            .unwrap(),
    );
    let out = scratch.path("locked.wrapped");
    let mut wrap = cli();
    wrap.args(["key", "wrap", "--to", recipient.trim(), "--output"]).arg(&out).arg(&locked);
    let (exit, _, err) = outcome(&wrap.output().unwrap());
    assert!(
        exit == 2 && err.contains("take it off with `ssh-keygen -p`") && !out.exists(),
        "{err}"
    );
}

/// `tests/vectors/read_bundle.py` was written from FORMAT.md by somebody who had not seen the program.
#[test]
fn the_specification_is_enough_to_read_a_bundle() {
    let place = Place::new();
    place.does("keyspace new team");
    let algorithms = ["ed25519", "secp256k1", "p256", "x25519", "symmetric"];
    for algorithm in algorithms {
        place.does(&format!("key new team/{algorithm} --algorithm {algorithm}"));
    }
    place.does("key rotate team/p256");
    place.does("key disable team/x25519");
    let (bundle, passphrase) = (place.scratch.path("team.ccb"), place.scratch.path("bp"));
    std::fs::write(&passphrase, "for the bundle\n").unwrap();
    let with = format!("--bundle-passphrase-file {}", arg(&passphrase));
    place.does(&format!("keyspace export team --output {} {with}", arg(&bundle)));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let packages = root.join(".tools/callers/python");
    assert!(packages.is_dir(), "packages are missing: `scripts/client-packages` installs them");
    let python = |script: &str| {
        let mut python = Command::new("python3");
        python.env("PYTHONPATH", &packages).env("PYTHONDONTWRITEBYTECODE", "1");
        python.arg(root.join("tests/vectors").join(script));
        python
    };
    let mut reader = python("read_bundle.py");
    let read = reader.arg(&bundle).arg("--passphrase-file").arg(&passphrase).output().unwrap();
    assert!(read.status.success(), "{}", text(&read.stderr));
    let read: Value = serde_json::from_slice(&read.stdout).unwrap();
    let keys = read["key_spaces"][0]["keys"].as_array().unwrap();
    assert_eq!((&read["key_spaces"][0]["name"], keys.len()), (&Value::from("team"), 5));
    for key in keys {
        let name = key["name"].as_str().unwrap();
        let shown = place.does(&format!("key show team/{name} --format json"));
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(
            (&key["algorithm"], &key["state"]),
            (&shown["key"]["algorithm"], &shown["key"]["state"])
        );
        let publics = |of: &Value| -> Vec<String> {
            let versions = of["versions"].as_array().unwrap();
            versions.iter().map(|v| v["public_key"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(publics(key), publics(&shown), "{name}");
    }
    // The files of the vectors are those that their script makes, and its reader is of their opinion.
    let check = python("make_bundles.py").arg("--check").output().unwrap();
    assert!(check.status.success(), "{}", text(&check.stderr));
}
