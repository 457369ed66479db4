//! A nats-server, a service behind it, and callers: real ones, each test its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_nats::{Client, HeaderMap};
use proof::Identity;
use tempfile::TempDir;

pub(crate) use crate::processes::*;
pub(crate) use crate::service::*;

pub(crate) const PASSPHRASE: &str = "correct horse battery staple";
pub(crate) const SUBJECT: &str = "crypto.scripts";
pub(crate) const SERVICE: &str = "signer.test";
/// How long anything may take before a test gives up on it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The script of the README.
pub(crate) const SEED_SCRIPT: &str = r#"
if create_key_space("remote_space") { if create_keypair("remote_keypair") { if select_keypair("remote_keypair") {
    let message = "Hello from remote system"; let signature = sign(message); print("Signature: " + signature); signature
} else { "Failed to select keypair" } } else { "Failed to create keypair" } } else { "Failed to create key space" }
"#;
pub(crate) const SEED_MESSAGE: &[u8] = b"Hello from remote system";

/// A policy in which everybody who is named may do everything.
pub(crate) const OPEN_TO_ANYBODY: &str = r#"
[anonymous]
roles = ["all"]
[[role]]
name = "all"
allow = [{ calls = ["*"], keys = ["*/*"] }]
"#;

pub(crate) fn own() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_crypto-cli"))
}

pub(crate) fn cli() -> Command {
    let mut command = Command::new(own());
    command.env_clear().stdin(Stdio::null());
    command
}

/// One of the programs of `tests/hostile`.
pub(crate) fn hostile(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let built = tests.parent().and_then(Path::parent).unwrap().join("examples").join(name);
    assert!(built.is_file(), "`{}` is missing: `cargo build --examples` makes it", built.display());
    built
}

/// A launcher of this worker.
pub(crate) fn launcher(worker: &Path) -> std::sync::Arc<sandbox::Launcher> {
    let arguments = ["launcher".to_owned(), format!("--worker={}", worker.display())];
    sandbox::Launcher::start(Path::new(env!("CARGO_BIN_EXE_crypto-cli")), &arguments).unwrap()
}

/// A scratch folder of this test.
pub(crate) struct Scratch(TempDir);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path(name);
        fs::write(&path, contents).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    pub(crate) fn policy(&self, rest: &str) -> PathBuf {
        let text = format!("version = 1\n[service]\nname = \"{SERVICE}\"\n{rest}");
        self.write("policy.toml", text)
    }

    pub(crate) fn passphrase_file(&self) -> PathBuf {
        self.write("passphrase", PASSPHRASE)
    }

    /// A home with a keyspace; returns its folder and the service's nkey.
    pub(crate) fn home(&self) -> (PathBuf, String) {
        let home = self.path("home");
        let output = cli()
            .args(["init", "--yes", "--home"])
            .arg(&home)
            .arg("--passphrase-file")
            .arg(self.passphrase_file())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        (home, String::from_utf8(output.stdout).unwrap().trim().to_owned())
    }

    pub(crate) fn seed_file(&self, name: &str, identity: &Identity) -> PathBuf {
        identity.with_seed(|seed| self.write(name, seed))
    }
}

/// A child that is killed when the test ends.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    /// Tied to the thread of the test: one that is killed itself leaves nothing that looks for its
    /// nats-server on a port that a later test is given.
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(sandbox::tie_to_parent(command).spawn().unwrap())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        wait_until("the process ends", || self.0.try_wait().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

/// Repeats until there is an answer.
pub(crate) fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let patience = Instant::now() + PATIENCE;
    while Instant::now() < patience {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("waited in vain until {what}");
}

/// One answer as a plain NATS client sees it.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) text: String,
    pub(crate) error: Option<String>,
    pub(crate) proof: Option<String>,
}

/// Sends a payload with these headers.
pub(crate) async fn ask(client: &Client, body: impl Into<Vec<u8>>, headers: HeaderMap) -> Reply {
    let request = async_nats::Request::new()
        .payload(body.into().into())
        .headers(headers)
        .timeout(Some(PATIENCE));
    let message = client.send_request(SUBJECT, request).await.unwrap();
    let header = |name: &str| {
        let headers = message.headers.as_ref()?;
        headers.get(name).map(|value| value.as_str().to_owned())
    };
    Reply {
        text: String::from_utf8(message.payload.to_vec()).unwrap(),
        error: header("Nats-Service-Error"),
        proof: header("Crypto-Proof"),
    }
}

/// Sends a script as a client that knows nothing of proofs.
pub(crate) async fn ask_plainly(client: &Client, script: &str) -> Reply {
    ask(client, script.as_bytes(), HeaderMap::new()).await
}

/// Sends a script with a proof; the answer's proof is checked.
pub(crate) async fn ask_signed(
    client: &Client,
    service: &Service,
    who: &Identity,
    script: &str,
) -> Reply {
    let proof = prove(service, who, script.as_bytes());
    let reply = ask(client, script.as_bytes(), proof_header(&proof)).await;
    let signed = reply.proof.as_deref().expect("an answer with a proof");
    let answered = proof::read_reply(
        signed,
        &service.nkey,
        Some(&proof),
        script.as_bytes(),
        reply.text.as_bytes(),
        proof::Form::Value,
    );
    assert_eq!(answered.unwrap().st, reply.error.as_deref().unwrap_or("ok"));
    reply
}

pub(crate) fn proof_header(proof: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Crypto-Proof", proof);
    headers
}

pub(crate) fn prove(service: &Service, who: &Identity, body: &[u8]) -> String {
    proof::write_request(who, service.addressee(), now(), &jti(), body, proof::Terms::default())
}

pub(crate) fn jti() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).unwrap();
    hex(&bytes)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Whether a signature in hex is good, by another hand than the service's own.
pub(crate) fn verifies(public: &str, message: &[u8], signature: &str) -> bool {
    let bytes = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap();
    let key = ed25519_dalek::VerifyingKey::from_bytes(&bytes(public).try_into().unwrap()).unwrap();
    let signature = ed25519_dalek::Signature::from_slice(&bytes(signature)).unwrap();
    key.verify_strict(message, &signature).is_ok()
}

/// A `[[client]]` with one role.
pub(crate) fn client_entry(name: &str, who: &Identity, role: &str) -> String {
    let nkey = who.nkey();
    format!("[[client]]\nname = \"{name}\"\nnkey = \"{nkey}\"\nroles = [\"{role}\"]\n")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The exit code, standard output and standard error of a command.
pub(crate) fn outcome(output: &Output) -> (i32, String, String) {
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}
