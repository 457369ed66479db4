//! Keys of every kind, and what others make of their signatures.

use std::path::Path;
use std::process::Command;

use crate::support::*;

/// Runs a script on an empty keyspace; its value.
fn run(script: &str) -> Result<serde_json::Value, String> {
    let scratch = Scratch::new();
    let (policy, script) = (
        scratch.policy(&format!("{OPEN_TO_ANYBODY}[limits]\nwall_clock = \"20 s\"\n")),
        scratch.write("s.rhai", script),
    );
    let mut command = cli();
    command.args(["run", "--ephemeral", "--format", "json", "--policy"]).arg(policy).arg(script);
    let (_, out, err) = outcome(&command.output().unwrap());
    let told: serde_json::Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{err}"));
    match told["error"]["message"].as_str() {
        Some(message) => Err(format!("{}: {message}", told["error"]["code"].as_str().unwrap())),
        None => Ok(told["result"].clone()),
    }
}

/// The values of an array of texts that a script ends with, after it has made a key.
fn with_key(algorithm: &str, values: &str) -> Vec<String> {
    let made =
        format!("create_key_space(\"s\"); create_keypair(\"k\", \"{algorithm}\"); [{values}]");
    let values = run(&made).unwrap();
    values.as_array().unwrap().iter().map(|value| value.as_str().unwrap().to_owned()).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap()
}

/// R and S as OpenSSL wants them (RFC 3279 §2.2.3).
fn der(signature: &[u8]) -> Vec<u8> {
    let integer = |bytes: &[u8]| {
        let bytes = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
        let pad = usize::from(bytes[0] & 0x80 != 0);
        let length = u8::try_from(bytes.len() + pad).unwrap();
        [&[2, length], &[0][..pad], bytes].concat()
    };
    let (r, s) = signature.split_at(32);
    let both = [integer(r), integer(s)].concat();
    [&[0x30, u8::try_from(both.len()).unwrap()], both.as_slice()].concat()
}

fn succeeds(command: &mut Command) -> bool {
    command.output().unwrap().status.success()
}

#[test]
fn openssl_verifies_what_is_signed() {
    for algorithm in ["ed25519", "secp256k1", "p256"] {
        let values = "public_key(\"k\", \"pem\"), sign(\"message\")";
        let [pem, signature] = with_key(algorithm, values).try_into().unwrap();
        let scratch = Scratch::new();
        let (key, message) = (scratch.write("k.pem", pem), scratch.write("m", "message"));
        let other = scratch.write("o", "another");
        let verifies = |message: &Path| {
            let mut openssl = Command::new("openssl");
            let signature = unhex(&signature);
            if algorithm == "ed25519" {
                let signature = scratch.write("sig", signature);
                openssl.args(["pkeyutl", "-verify", "-pubin", "-rawin", "-inkey"]).arg(&key);
                openssl.arg("-in").arg(message).arg("-sigfile").arg(signature);
            } else {
                let signature = scratch.write("sig", der(&signature));
                openssl.args(["dgst", "-sha256", "-verify"]).arg(&key).arg("-signature");
                openssl.arg(signature).arg(message);
            }
            succeeds(&mut openssl)
        };
        assert!(verifies(&message) && !verifies(&other), "{algorithm}");
    }
}

/// `ssh-keygen -Y verify` (PROTOCOL.sshsig of OpenSSH).
#[test]
fn ssh_keygen_verifies_what_is_signed() {
    use sha2::{Digest, Sha512};
    let string = |bytes: &[u8]| {
        let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
        [length.as_slice(), bytes].concat()
    };
    let digest = Sha512::digest(b"message");
    let parts = [b"file".as_slice(), b"", b"sha512", &digest];
    let signed = [b"SSHSIG".to_vec(), parts.map(string).concat()].concat();
    let script = format!("public_key(\"k\", \"ssh\"), sign(hex_decode(\"{}\"))", hex(&signed));
    let [line, signature] = with_key("ed25519", &script).try_into().unwrap();
    let blob = line.split(' ').nth(1).unwrap();
    let blob = data_encoding::BASE64.decode(blob.as_bytes()).unwrap();
    let inner = [string(b"ssh-ed25519"), string(&unhex(&signature))].concat();
    let body = [b"SSHSIG".to_vec(), vec![0, 0, 0, 1], string(&blob)].concat();
    let body = [body, string(b"file"), string(b""), string(b"sha512"), string(&inner)].concat();
    let armored = format!(
        "-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n",
        data_encoding::BASE64.encode(&body)
    );
    let scratch = Scratch::new();
    let signers = scratch.write("signers", format!("me {line}\n"));
    let signature = scratch.write("m.sig", armored);
    let verifies = |message: &str| {
        let message = std::fs::File::open(scratch.write("m", message)).unwrap();
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-Y", "verify", "-I", "me", "-n", "file", "-f"]).arg(&signers);
        succeeds(keygen.arg("-s").arg(&signature).stdin(message))
    };
    assert!(verifies("message") && !verifies("another"));
}

#[test]
fn public_keys_are_written_as_others_read_them() {
    let forms = "public_key(\"k\"), public_key(\"k\", \"base64\"), public_key(\"k\", \"jwk\")";
    for (algorithm, digits, kind, curve) in [
        ("ed25519", 64, "OKP", "Ed25519"),
        ("x25519", 64, "OKP", "X25519"),
        ("secp256k1", 66, "EC", "secp256k1"),
        ("p256", 66, "EC", "P-256"),
    ] {
        let [plain, base64, jwk] = with_key(algorithm, forms).try_into().unwrap();
        assert_eq!(plain.len(), digits);
        assert_eq!(data_encoding::BASE64.decode(base64.as_bytes()).unwrap(), unhex(&plain));
        let jwk: serde_json::Value = serde_json::from_str(&jwk).unwrap();
        assert_eq!((&jwk["kty"], &jwk["crv"]), (&kind.into(), &curve.into()));
        let x = jwk["x"].as_str().unwrap();
        let x = hex(&data_encoding::BASE64URL_NOPAD.decode(x.as_bytes()).unwrap());
        assert!(plain.ends_with(&x), "{algorithm}");
        let [pem] = with_key(algorithm, "public_key(\"k\", \"pem\")").try_into().unwrap();
        let scratch = Scratch::new();
        let mut openssl = Command::new("openssl");
        openssl.args(["pkey", "-pubin", "-noout", "-in"]).arg(scratch.write("k.pem", pem));
        assert!(succeeds(&mut openssl), "{algorithm}");
    }
    let [line] = with_key("p256", "public_key(\"k\", \"ssh\")").try_into().unwrap();
    let scratch = Scratch::new();
    let mut keygen = Command::new("ssh-keygen");
    assert!(succeeds(keygen.args(["-l", "-f"]).arg(scratch.write("k.pub", line))));
    let [nkey] = with_key("ed25519", "public_key(\"k\", \"nkey\")").try_into().unwrap();
    assert!(nkey.starts_with('U') && nkeys::from_public_key(&nkey).is_ok());
    let [address] = with_key("secp256k1", "ethereum_address()").try_into().unwrap();
    assert!(address.starts_with("0x") && address.len() == 42, "{address}");
}

#[test]
fn a_rotated_key_signs_anew_and_knows_what_it_did_before() {
    let script = r#"
        create_key_space("s"); create_keypair("k", "p256");
        let before = sign("m"); let old = public_key();
        rotate_keypair(); let after = sign("m");
        create_keypair("e", "symmetric"); let sealed = encrypt("text"); rotate_keypair("e");
        let again = encrypt("text"); let opened = [decrypt(sealed), decrypt(again)];
        create_keypair("x", "x25519"); let to = encrypt_to(public_key(), "text"); rotate_keypair("s/x");
        opened.push(decrypt_from(to)); select_keypair("k");
        [old != public_key(), before != after, verify("m", before), verify("m", after), verify("n", after),
         verify_with(old, "m", before, "p256"), verify_with(old, "m", after, "p256"), opened]"#;
    let expected =
        serde_json::json!([true, true, true, true, false, true, false, ["text", "text", "text"]]);
    assert_eq!(run(script).unwrap(), expected);
}

#[test]
fn what_a_key_is_not_for_is_an_error_that_a_script_can_catch() {
    let make = "create_key_space(\"s\"); create_keypair(\"k\", \"ALGORITHM\");";
    for (algorithm, call, says) in [
        ("ed25519", "encrypt(\"t\")", "cannot encrypt"),
        ("ed25519", "hmac(\"t\")", "cannot make an hmac"),
        ("ed25519", "sign_schnorr(\"m\")", "does not sign so"),
        ("ed25519", "ethereum_address()", "cannot be written as an address of Ethereum"),
        ("p256", "personal_sign(\"m\")", "does not sign so"),
        ("p256", "sign_digest(\"m\")", "a digest has 32 bytes"),
        ("x25519", "sign(\"m\")", "does not sign so"),
        ("x25519", "verify(\"m\", \"00\")", "does not sign"),
        ("symmetric", "public_key()", "a symmetric key has no public key"),
        ("symmetric", "decrypt(\"AAAA\")", "the text was not encrypted so"),
        ("symmetric", "decrypt_from(\"AAAA\")", "cannot decrypt what was encrypted to it"),
        ("symmetric", "decrypt(\"AAAA\", \"AAAA\")", "that is no key"),
        ("symmetric", "encrypt_to(\"00\", \"t\")", "that is no public key of x25519"),
        ("symmetric", "verify_with(\"02\", \"m\", \"00\")", "say the algorithm"),
        ("symmetric", "create_keypair(\"l\", \"rsa\")", "no algorithm `rsa`: use one of ed25519"),
        (
            "symmetric",
            "public_key(\"k\", \"xml\")",
            "no form `xml` of a public key: use one of hex",
        ),
    ] {
        let make = make.replace("ALGORITHM", algorithm);
        let caught = run(&format!(
            "{make} let r = (); try {{ {call}; }} catch (e) {{ r = `caught ${{e}}`; }} r"
        ));
        let caught = caught.unwrap();
        let caught = caught.as_str().unwrap();
        assert!(caught.starts_with("caught ") && caught.contains(says), "{call}: {caught}");
    }
}

#[test]
fn encrypted_texts_open_with_their_key_alone_and_unchanged() {
    let script = r#"
        create_key_space("s"); create_keypair("a", "symmetric"); create_keypair("b", "symmetric");
        let key = generate_key(); let other = generate_key();
        let blob = blob(3, 255);
        let tries = [];
        let attempt = |open| { let r = "refused"; try { r = open.call(); } catch {} r };
        tries.push(decrypt(key, encrypt(key, "text")));
        tries.push(decrypt(key, encrypt(key, blob)) == blob);
        tries.push(attempt.call(|| decrypt(other, encrypt(key, "text"))));
        tries.push(attempt.call(|| decrypt(key, encrypt("text"))));
        tries.push(attempt.call(|| decrypt(encrypt(key, "text"))));
        let sealed = encrypt("text"); tries.push(decrypt(sealed));
        select_keypair("a"); tries.push(attempt.call(|| decrypt(sealed)));
        tries.push(hmac("m", "a") != hmac("m", "b") && hmac("m", "a") == hmac("m"));
        tries.push(encrypt("text") != encrypt("text"));
        tries"#;
    let expected = serde_json::json!([
        "text", true, "refused", "refused", "refused", "text", "refused", true, true
    ]);
    assert_eq!(run(script).unwrap(), expected);
}

/// The algorithm of the key that is there counts, not what a script says of it.
#[test]
fn a_rule_for_some_algorithms_is_for_those_keys_alone() {
    let scratch = Scratch::new();
    let rules = "[anonymous]\nroles = [\"r\"]\n[[role]]\nname = \"r\"\nallow = [\n\
        { calls = [\"create_key_space\", \"select_keypair\", \"create_keypair\"], keys = [\"s/*\"] },\n\
        { calls = [\"sign\", \"create_keypair\"], keys = [\"s/*\"], algorithms = [\"p256\"] },\n]\n\
        deny = [{ calls = [\"create_keypair\"], keys = [\"s/*\"], algorithms = [\"symmetric\"] }]\n";
    let policy = scratch.policy(rules);
    for (script, error) in [
        ("create_keypair(\"k\", \"p256\"); sign(\"m\").len()", None),
        ("create_keypair(\"k\"); sign(\"m\")", Some("policy-denied")),
        ("sign(\"m\", \"s/nothing\")", Some("policy-denied")),
        ("create_keypair(\"k\", \"symmetric\")", Some("policy-denied")),
    ] {
        let script = scratch.write("s.rhai", format!("create_key_space(\"s\"); {script}"));
        let mut command = cli();
        command
            .args(["run", "--ephemeral", "--format", "json", "--policy"])
            .arg(&policy)
            .arg(script);
        let (_, out, _) = outcome(&command.output().unwrap());
        let told: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(told["error"]["code"].as_str(), error, "{told}");
    }
}

#[test]
fn the_longest_text_that_can_be_encrypted_comes_back_and_a_longer_one_does_not_end_the_script() {
    let script = r#"
        create_key_space("s"); create_keypair("k", "symmetric"); create_keypair("x", "x25519");
        let to = public_key(); let key = generate_key();
        let text = ""; text.pad(512 * 1024, "x"); let longer = text + "x";
        let lengths = [decrypt_from(encrypt_to(to, text)).len(), decrypt(key, encrypt(key, text)).len()];
        select_keypair("k"); lengths.push(decrypt(encrypt(text)).len());
        for attempt in [|| encrypt(longer), || encrypt(key, longer), || encrypt_to(to, longer)] {
            try { attempt.call(); lengths.push("none"); } catch (e) { lengths.push(e); }
        }
        lengths"#;
    let told = run(script).unwrap();
    let told = told.as_array().unwrap();
    assert!(told[..3].iter().all(|length| *length == 512 * 1024), "{told:?}");
    assert!(
        told[3..].iter().all(|e| e.as_str().unwrap().contains("at most 524288 bytes")),
        "{told:?}"
    );
}
