//! A log of several files: who tampers with one is found, and what it tells is found again.

use std::fs;
use std::path::{Path, PathBuf};

use proof::Identity;
use serde_json::Value;

use crate::audit::{MAKE, SIGN};
use crate::support::*;

/// A service that has stopped, with files of a log in their order: alice has signed in the middle of it.
struct Rotated {
    service: Service,
    files: Vec<PathBuf>,
}

impl Rotated {
    async fn new(nats: &Nats) -> Self {
        let alice = Identity::generate();
        let rotate = "[audit]\nrotate = \"64 KiB\"\n";
        let policy = format!("{rotate}{}{OPEN_TO_ANYBODY}", client_entry("alice", &alice, "all"));
        let mut service = Service::start(nats, &policy);
        service.await_proofs();
        let client = nats.client().await;
        ask_plainly(&client, MAKE).await;
        let many = "for i in 0..200 { sign(\"m\", \"s/k\"); } 0";
        assert_eq!(ask_plainly(&client, many).await.text, "0");
        for _ in 0..2 {
            assert_eq!(ask_signed(&client, &service, &alice, SIGN).await.text.len(), 128);
        }
        for _ in 0..2 {
            assert_eq!(ask_plainly(&client, many).await.text, "0");
        }
        service.stop();
        let mut files: Vec<_> =
            fs::read_dir(&service.home).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
        // The current one has the shortest name.
        files.sort_by_key(|path| (path.ends_with("audit.log"), path.clone()));
        assert!(files.len() >= 4, "{files:?}");
        Self { service, files }
    }

    fn lines(&self) -> Vec<Value> {
        let texts = self.files.iter().map(|path| fs::read_to_string(path).unwrap());
        let text: String = texts.collect();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn audit(&self, words: &[&str]) -> (i32, String, String) {
        let mut command = cli();
        command.arg("audit").args(words).arg("--home").arg(&self.service.home);
        outcome(&command.output().unwrap())
    }

    /// What `audit verify` says of it to programs.
    fn verified(&self) -> (i32, Value) {
        let words = ["verify", "--format", "json", "--service-nkey", &self.service.nkey];
        let (exit, out, err) = self.audit(&words);
        assert_eq!(err, "");
        (exit, serde_json::from_str(&out).unwrap())
    }

    /// Does something to the files, has the first bad line named, and undoes it.
    fn names(&self, what: &str, file: &Path, line: usize, tamper: impl FnOnce()) {
        let good: Vec<_> = self.files.iter().map(|path| fs::read(path).unwrap()).collect();
        tamper();
        let (exit, told) = self.verified();
        let bad = &told["first_bad"];
        assert!(told["last"].as_u64() > Some(0) || line == 1, "{what}: {told}");
        let named = (bad["file"].as_str(), bad["line"].as_u64());
        let expected = (file.to_str(), u64::try_from(line).ok());
        assert_eq!(
            (exit, told["good"].as_bool(), named),
            (4, Some(false), expected),
            "{what}: {told}"
        );
        let (exit, _, err) = self.service.audit_verify();
        let place = format!("{}:{line}: ", file.display());
        assert!(exit == 4 && err.starts_with(&place), "{what}: {err}");
        self.files.iter().zip(good).for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
        assert_eq!(self.verified().0, 0, "{what} is undone");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_log_of_several_files_the_first_that_was_tampered_with_is_named() {
    let nats = Nats::plain();
    let log = Rotated::new(&nats).await;
    let (_, told) = log.verified();
    let last = log.lines().len();
    assert_eq!((told["schema"].as_u64(), told["good"].as_bool()), (Some(1), Some(true)), "{told}");
    assert_eq!(
        (told["first"].as_u64(), told["last"].as_u64(), told["end_is_known"].as_bool()),
        (Some(1), Some(last as u64), Some(true))
    );
    assert_eq!(
        (&told["service"], &told["first_bad"]),
        (&log.service.nkey.clone().into(), &Value::Null)
    );

    let [first, second, third, ..] = &log.files[..] else { panic!("{:?}", log.files) };
    let current = log.files.last().unwrap();
    let text = fs::read_to_string(second).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    for at in [0, lines.len() / 2, lines.len() - 1] {
        let before = lines[..at].concat();
        log.names("a flipped bit", second, at + 1, || {
            let mut flipped = text.clone().into_bytes();
            flipped[before.len() + lines[at].len() / 2] ^= 1;
            fs::write(second, flipped).unwrap();
        });
        let rest = lines[at + 1..].concat();
        // After the last line of a file comes the first of the next.
        let (file, line) = if rest.is_empty() { (third, 1) } else { (second, at + 1) };
        log.names("a removed line", file, line, || fs::write(second, before + &rest).unwrap());
    }
    let swap = |one: &Path, other: &Path| {
        let (left, right) = (fs::read(one).unwrap(), fs::read(other).unwrap());
        fs::write(one, right).unwrap();
        fs::write(other, left).unwrap();
    };
    log.names("two files swapped", second, 1, || swap(second, third));
    log.names("the first and the last swapped", first, 1, || swap(first, current));
    log.names("the first file removed", second, 1, || fs::remove_file(first).unwrap());
    log.names("a file in the middle removed", third, 1, || fs::remove_file(second).unwrap());
    let before = &log.files[log.files.len() - 2];
    let end = fs::read_to_string(before).unwrap().lines().count() + 1;
    log.names("the last file removed", before, end, || fs::remove_file(current).unwrap());
    log.names("a file in two places", third, 1, || {
        fs::copy(second, third).unwrap();
    });
}

/// Files whose beginning is kept elsewhere begin as each file of a log does.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_begins_elsewhere_is_verified_from_the_first_line_of_a_file() {
    let nats = Nats::plain();
    let log = Rotated::new(&nats).await;
    let verify = |files: &[&Path]| {
        let mut verify = cli();
        verify.args(["audit", "verify", "--continued", "--service-nkey", &log.service.nkey]);
        outcome(&verify.args(files).output().unwrap())
    };
    let [first, second, third, ..] = &log.files[..] else { panic!("{:?}", log.files) };
    let lines = |path: &Path| fs::read_to_string(path).unwrap().lines().count();
    let before = lines(first) + 1;
    let told = format!("lines {before} to {}, all", lines(first) + lines(second));
    let (exit, out, err) = verify(&[second]);
    assert!(exit == 0 && out.starts_with(&told), "{out} {err}");
    assert_eq!(verify(&[second, third]).0, 0);
    let text = fs::read_to_string(second).unwrap();
    fs::write(second, text.split_once('\n').unwrap().1).unwrap();
    let (exit, out, err) = verify(&[second]);
    let place = format!("{}:1: no file of a log begins with it", second.display());
    assert!(exit == 4 && out.is_empty() && err.starts_with(&place), "{out} {err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_log_of_several_files_tells_is_shown_by_client_and_by_time() {
    let nats = Nats::plain();
    let log = Rotated::new(&nats).await;
    let lines = log.lines();
    let shown = |words: &[&str]| {
        let (exit, out, err) = log.audit(&[&["show"], words].concat());
        assert_eq!((exit, err.as_str()), (0, ""));
        out.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let json = |words: &[&str]| {
        let lines = shown(&[words, &["--format", "json"]].concat());
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    assert_eq!(json(&[]), lines);
    let of = |client: &str| {
        let theirs = lines.iter().filter(|line| line["client"] == client);
        theirs.cloned().collect::<Vec<_>>()
    };
    let alice = of("alice");
    // A decision and the end of a request, twice.
    assert_eq!((json(&["--client", "alice"]), alice.len()), (alice.clone(), 4));
    assert_eq!(json(&["--client", "anonymous"]), of("anonymous"));
    assert!(of("anonymous").len() > 600 && json(&["--client", "bob"]).is_empty());
    // From the very instant of her second request on.
    let since = alice[2]["at"].as_str().unwrap();
    let at = lines.iter().position(|line| *line == alice[2]).unwrap();
    assert_eq!(json(&["--since", since]), lines[at..]);
    assert_eq!(json(&["--since", since, "--client", "alice"]), alice[2..]);
    assert!(json(&["--since", "2999-01-01T00:00:00Z"]).is_empty());
    let text = shown(&["--since", since, "--client", "alice"]);
    let [decision, request] = &text[..] else { panic!("{text:?}") };
    assert!(
        decision.starts_with(&format!("{since} decision alice sign s/k allow all.allow[0] ")),
        "{decision}"
    );
    assert!(request.contains(" request alice ok"), "{request}");
    let (exit, out, err) = log.audit(&["show", "--since", "yesterday"]);
    assert!(exit == 2 && out.is_empty() && err.contains("yesterday"), "{err}");
}
