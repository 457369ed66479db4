//! `crypto-cli dev`: everything from nothing, and nothing left behind.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use crate::support::*;

/// `dev.env` as a shell reads it.
fn environment(home: &Path) -> Vec<(String, String)> {
    let print = format!(". '{}/dev.env'; env -0", home.display());
    let output =
        std::process::Command::new("sh").env_clear().args(["-c", &print]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let pairs = text(&output.stdout);
    pairs
        .split_terminator('\0')
        .filter_map(|p| p.split_once('='))
        .map(|(k, v)| (k.into(), v.into()))
        .collect()
}

fn start(scratch: &Scratch) -> Running {
    let nats = std::env::var_os("NATS_SERVER");
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/nats-server");
    let mut command = cli();
    command.env("PATH", std::env::var_os("PATH").unwrap());
    if let Some(nats) = nats.or(own.is_file().then(|| own.into_os_string())) {
        command.env("NATS_SERVER", nats);
    }
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    command.args(["dev", "--port", &port.to_string(), "--home"]).arg(scratch.path("dev"));
    let errors = fs::File::create(scratch.path("dev.err")).unwrap();
    let mut process = Running::start(command.stdout(Stdio::piped()).stderr(errors));
    let mut line = String::new();
    BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n", "{}", fs::read_to_string(scratch.path("dev.err")).unwrap());
    process
}

#[test]
fn dev_is_usable_from_its_environment_and_leaves_nothing_running() {
    let scratch = Scratch::new();
    let mut dev = start(&scratch);
    let environment = environment(&scratch.path("dev"));
    let set: Vec<&str> = environment.iter().map(|(name, _)| name.as_str()).collect();
    for name in [
        "NATS_URL",
        "NATS_CA",
        "NATS_NKEY_SEED_FILE",
        "CRYPTO_SUBJECT",
        "CRYPTO_SERVICE",
        "CRYPTO_SERVICE_NKEY",
        "CRYPTO_POLICY",
        "CRYPTO_HOME",
    ] {
        assert!(set.contains(&name), "{name} is not in {set:?}");
    }
    let url = &environment.iter().find(|(name, _)| name == "NATS_URL").unwrap().1;
    assert!(url.starts_with("tls://"), "{url}");
    let ask = |script: &str| {
        let mut command = cli();
        command.arg("request").arg(scratch.write("s.rhai", script)).envs(environment.clone());
        outcome(&command.output().unwrap())
    };
    let (exit, signature, err) = ask(SEED_SCRIPT);
    assert_eq!(exit, 0, "{err}");
    let listed = ask("select_key_space(\"remote_space\"); list_keypairs()").1;
    assert_eq!(listed, "[\"remote_keypair\"]\n");
    let public = ask("public_key(\"remote_space/remote_keypair\")").1;
    assert!(verifies(public.trim(), SEED_MESSAGE, signature.trim()));
    let err = fs::read_to_string(scratch.path("dev.err")).unwrap();
    assert!(err.contains("DEVELOPMENT"), "{err}");

    let children = descendants(dev.pid());
    assert!(children.len() >= 3, "{children:?}");
    dev.signal("TERM");
    assert!(dev.ended().success());
    for (pid, command) in children {
        assert!(!is_alive(pid), "{command} is left");
    }
    // What it made is private, and it starts again with the same keys.
    use std::os::unix::fs::PermissionsExt;
    for entry in fs::read_dir(scratch.path("dev")).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{entry:?}");
    }
    let mut again = start(&scratch);
    let environment = self::environment(&scratch.path("dev"));
    let mut command = cli();
    command
        .arg("request")
        .arg(scratch.write("s.rhai", "public_key(\"remote_space/remote_keypair\")"));
    assert_eq!(outcome(&command.envs(environment).output().unwrap()).1, public);
    again.signal("INT");
    assert!(again.ended().success());
}

#[test]
fn when_dev_is_killed_everything_that_it_started_goes() {
    let scratch = Scratch::new();
    let mut dev = start(&scratch);
    let children = descendants(dev.pid());
    assert!(children.len() >= 3, "{children:?}");
    dev.signal("KILL");
    dev.ended();
    for (pid, command) in children {
        wait_until(&format!("{command} ends"), || (!is_alive(pid)).then_some(()));
    }
}

#[test]
fn dev_leaves_a_home_that_it_did_not_make_as_it_was() {
    let scratch = Scratch::new();
    let (home, _) = scratch.home();
    let mut command = cli();
    command.env("NATS_SERVER", "/bin/true").args(["dev", "--home"]).arg(&home);
    let (exit, out, err) = outcome(&command.output().unwrap());
    assert_eq!((exit, out.as_str()), (2, ""));
    assert!(err.contains("was not made by `crypto-cli dev`"), "{err}");
    let mut files: Vec<_> = fs::read_dir(&home).unwrap().map(|e| e.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["keyspace.pin", "keyspace.redb"]);
}

/// The callers in other languages, as they stand in `examples`: a command and its folder of packages.
fn caller(scratch: &Scratch, language: &str) -> std::process::Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let packages = root.join(".tools/callers").join(language);
    assert!(packages.is_dir(), "packages are missing: `scripts/client-packages` installs them");
    let mut command =
        std::process::Command::new(if language == "node" { "node" } else { "python3" });
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    if language == "node" {
        // Node looks for packages beside a program and above it, and nowhere else.
        let program = scratch.path("request.mjs");
        fs::copy(root.join("examples/node/request.mjs"), &program).unwrap();
        if !scratch.path("node_modules").exists() {
            let modules = packages.join("node_modules");
            std::os::unix::fs::symlink(modules, scratch.path("node_modules")).unwrap();
        }
        command.arg(program);
    } else {
        command.env("PYTHONPATH", packages).env("PYTHONDONTWRITEBYTECODE", "1");
        command.arg(root.join("examples/python/request.py"));
    }
    command
}

#[test]
fn callers_in_other_languages_are_served_and_believe_only_the_pinned_service() {
    let scratch = Scratch::new();
    let _dev = start(&scratch);
    let environment = environment(&scratch.path("dev"));
    for language in ["python", "node"] {
        let ask = |script: &str, pinned: Option<&str>| {
            let mut command = caller(&scratch, language);
            command.arg(scratch.write("s.rhai", script)).envs(environment.clone());
            command.envs(pinned.map(|nkey| ("CRYPTO_SERVICE_NKEY", nkey)));
            outcome(&command.output().unwrap())
        };
        let space = format!("space_of_{language}");
        let script = format!(
            "create_key_space(\"{space}\"); create_keypair(\"k\"); public_key() + \" \" + sign(\"m\")"
        );
        let (exit, out, err) = ask(&script, None);
        assert_eq!(exit, 0, "{language}: {err}");
        let (public, signature) = out.trim().split_once(' ').unwrap();
        assert!(verifies(public, b"m", signature));
        let (exit, out, err) = ask("throw \"no\"", None);
        assert!(exit == 1 && out.is_empty() && err.contains("script-error"), "{language}: {err}");
        let other = nkeys::KeyPair::new_server().public_key();
        let (exit, out, _) = ask("1", Some(&other));
        assert!(
            exit != 0 && out.is_empty(),
            "{language}: an answer of another service was believed"
        );
        let example = fs::read_dir(Path::new("examples").join(language)).unwrap();
        let program = example.map(|entry| entry.unwrap().path());
        let program = program.into_iter().find(|path| path.to_str().unwrap().contains("/request."));
        let lines = fs::read_to_string(program.unwrap()).unwrap().lines().count();
        assert!(lines < 40, "{language}: {lines} lines");
    }
}

/// What the callers in other languages must not believe, and to whom they must not speak. The service is a
/// fake that signs with the pinned key what it should not.
#[tokio::test(flavor = "multi_thread")]
async fn callers_in_other_languages_believe_only_the_answer_to_their_request() {
    use futures_util::StreamExt;

    let (nats, scratch) = (Nats::plain(), Scratch::new());
    let fake = nkeys::KeyPair::new_server();
    let nkey = fake.public_key();
    let client = nats.client().await;
    let mut requests = client.subscribe(SUBJECT).await.unwrap();
    let me = scratch.seed_file("me.nk", &proof::Identity::generate());
    let script = scratch.write("s.rhai", "1");
    let wrongs = ["nothing", "req", "script", "bh", "form", "typ", "signature", "proof"];
    let answers = tokio::spawn(async move {
        for wrong in wrongs.iter().chain(&wrongs) {
            let asked = requests.next().await.unwrap();
            let proof = asked.headers.unwrap().get("Crypto-Proof").unwrap().to_string();
            let reply = answer_with(wrong, &fake, &proof, &asked.payload);
            let headers =
                if *wrong == "proof" { async_nats::HeaderMap::new() } else { proof_header(&reply) };
            let to = asked.reply.unwrap();
            client.publish_with_headers(to, headers, "believed".into()).await.unwrap();
            client.flush().await.unwrap();
        }
    });
    let url = nats.url();
    let asked = tokio::task::spawn_blocking(move || {
        for language in ["python", "node"] {
            let ask = |url: &str| {
                let mut command = caller(&scratch, language);
                command.arg(&script).env("NATS_URL", url).env("NATS_NKEY_SEED_FILE", &me);
                command.env("CRYPTO_SUBJECT", SUBJECT).env("CRYPTO_SERVICE", SERVICE);
                outcome(&command.env("CRYPTO_SERVICE_NKEY", &nkey).output().unwrap())
            };
            for wrong in wrongs {
                let (exit, out, err) = ask(&url);
                let believed = exit == 0 && out.trim() == "believed";
                assert_eq!(believed, wrong == "nothing", "{language}: {wrong}: {exit} {out} {err}");
                assert!(believed || out.is_empty(), "{language}: {wrong}: {out}");
            }
            // This server has no TLS. Nothing is sent to it as if it had.
            let tls = url.replace("nats://", "tls://");
            // This is the same server, by a name that is none of this machine's.
            let named = url.replace("nats://localhost", "nats://127.1");
            for url in [tls, named] {
                let (exit, out, _) = ask(&url);
                assert!(exit != 0 && out.is_empty(), "{language}: {url}: {out}");
            }
        }
    });
    asked.await.unwrap();
    answers.await.unwrap();
}

/// The proof of an answer to this request, with one thing wrong in it.
fn answer_with(wrong: &str, fake: &nkeys::KeyPair, proof: &str, payload: &[u8]) -> String {
    let other = proof::digest(b"other");
    let either = |what: &str, digest: String| if wrong == what { other.clone() } else { digest };
    let answered = proof::Answered {
        req: either("req", proof::digest(proof.as_bytes())),
        bh: either("bh", proof::digest(b"believed")),
        form: proof::Form::wanted(wrong == "form"),
        st: "ok".into(),
        iat: now(),
        script: either("script", proof::digest(payload)),
        policy: String::new(),
        caller: String::new(),
        keys: Vec::new(),
        key_count: 0,
        audit: None,
    };
    let sign = |bytes: &[u8]| -> [u8; 64] { fake.sign(bytes).unwrap().try_into().unwrap() };
    let mut reply = proof::write_reply(&fake.public_key(), &answered, sign);
    if wrong == "typ" {
        let claims = reply.split('.').nth(1).unwrap().to_owned();
        let head = format!(r#"{{"alg":"EdDSA","typ":"ccreq+jwt","kid":"{}"}}"#, fake.public_key());
        let b64 = &data_encoding::BASE64URL_NOPAD;
        let signed = format!("{}.{claims}", b64.encode(head.as_bytes()));
        reply = format!("{signed}.{}", b64.encode(&sign(signed.as_bytes())));
    }
    if wrong == "signature" {
        let at = reply.len() - 4;
        let other = if reply.as_bytes()[at] == b'A' { "B" } else { "A" };
        reply.replace_range(at..=at, other);
    }
    reply
}
