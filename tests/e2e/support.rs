//! A nats-server, a service behind it, and callers: real ones, each test its own.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_nats::{Client, HeaderMap};
use proof::Identity;
use tempfile::TempDir;

pub(crate) use crate::processes::*;

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

/// A nats-server on loopback.
pub(crate) struct Nats {
    pub(crate) port: u16,
    _process: Running,
    _folder: Scratch,
}

impl Nats {
    /// Without TLS and logins.
    pub(crate) fn plain() -> Self {
        Self::start(Scratch::new(), "max_payload: 16MB\n")
    }

    /// With more configuration, whose files are in `folder`.
    pub(crate) fn start(folder: Scratch, configuration: &str) -> Self {
        let text = format!("listen: \"127.0.0.1:-1\"\n{configuration}");
        let configuration = folder.write("nats.conf", text);
        let log = folder.path("nats.log");
        let child = Command::new(nats_server())
            .arg("-c")
            .arg(configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let process = Running(child);
        let port = wait_until("nats-server listens", || {
            let log = fs::read_to_string(&log).unwrap();
            assert!(!log.contains("[FTL]"), "{log}");
            let (_, rest) = log.split_once("client connections on 127.0.0.1:")?;
            // The line may be half written: the port is whole once the line has ended.
            rest.split_once('\n')?.0.trim().parse().ok()
        });
        Self { port, _process: process, _folder: folder }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://localhost:{}", self.port)
    }

    pub(crate) async fn client(&self) -> Client {
        async_nats::connect(self.url()).await.unwrap()
    }
}

/// The server that `scripts/test` found, or the first on the path.
fn nats_server() -> PathBuf {
    if let Some(named) = std::env::var_os("NATS_SERVER") {
        return PathBuf::from(named);
    }
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/nats-server");
    if own.is_file() { own } else { PathBuf::from("nats-server") }
}

/// `crypto-cli listen`, ready.
pub(crate) struct Service {
    pub(crate) process: Running,
    pub(crate) home: PathBuf,
    pub(crate) nkey: String,
    pub(crate) scratch: Scratch,
}

impl Service {
    /// Behind a plain nats-server, with this policy after its `[service]`.
    pub(crate) fn start(nats: &Nats, policy: &str) -> Self {
        let scratch = Scratch::new();
        let (home, nkey) = scratch.home();
        scratch.policy(policy);
        let process = Self::launch(&scratch, &home, &nats.url(), own());
        let service = Self { process, home, nkey, scratch };
        service.await_ready();
        service
    }

    pub(crate) fn launch(scratch: &Scratch, home: &Path, server: &str, program: &Path) -> Running {
        let passphrase = scratch.passphrase_file();
        let unlock = ["--passphrase-file", passphrase.to_str().unwrap()];
        Self::launch_with(scratch, home, server, program, &unlock)
    }

    /// Starts it again in the same home, sealed.
    pub(crate) fn restart_sealed(&mut self, nats: &Nats) {
        let (scratch, home) = (&self.scratch, &self.home);
        self.process = Self::launch_with(scratch, home, &nats.url(), own(), &["--sealed"]);
        self.await_ready();
    }

    fn launch_with(
        scratch: &Scratch,
        home: &Path,
        server: &str,
        program: &Path,
        unlock: &[&str],
    ) -> Running {
        let log = fs::File::create(scratch.path("listen.log")).unwrap();
        let child = Command::new(program)
            .env_clear()
            .stdin(Stdio::null())
            .args(["listen", "--server", server, "--subject", SUBJECT, "--policy"])
            .arg(scratch.path("policy.toml"))
            .arg("--home")
            .arg(home)
            .args(unlock)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Running(child)
    }

    /// Starts it again in the same home.
    pub(crate) fn restart(&mut self, nats: &Nats) {
        self.restart_as(nats, own());
    }

    /// The same, of another program.
    pub(crate) fn restart_as(&mut self, nats: &Nats, program: &Path) {
        self.process = Self::launch(&self.scratch, &self.home, &nats.url(), program);
        self.await_ready();
    }

    pub(crate) fn await_ready(&self) {
        wait_until("the service is ready", || {
            let log = self.log();
            assert!(!log.contains("could not start"), "{log}");
            log.contains("serves `").then_some(())
        });
    }

    /// Waits until proofs of this moment are accepted: those of the start's second are not.
    pub(crate) fn await_proofs(&self) {
        let started = fs::metadata(self.scratch.path("listen.log")).unwrap().modified().unwrap();
        let accepting = started + Duration::from_millis(1100);
        if let Ok(wait) = accepting.duration_since(SystemTime::now()) {
            std::thread::sleep(wait);
        }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.scratch.path("listen.log")).unwrap()
    }

    /// What the audit log tells, but for where processes and policies begin.
    pub(crate) fn audit(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.home.join("audit.log")).unwrap_or_default();
        let lines = text.lines().filter(|line| !line.is_empty());
        let entries = lines.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let beside =
            |entry: &serde_json::Value| entry["kind"] == "opened" || entry["kind"] == "policy";
        entries.filter(|entry| !beside(entry)).collect()
    }

    /// `crypto-cli audit verify`, pinned to the service's nkey.
    pub(crate) fn audit_verify(&self) -> (i32, String, String) {
        let mut command = cli();
        command.args(["audit", "verify", "--service-nkey", &self.nkey, "--home"]).arg(&self.home);
        outcome(&command.output().unwrap())
    }

    /// Ends it as an operator does.
    pub(crate) fn stop(&mut self) {
        self.process.signal("TERM");
        assert!(self.process.ended().success());
    }

    /// What the operator sees once the service has stopped.
    pub(crate) fn stored_keys(&self) -> String {
        let output = cli()
            .args(["key", "list", "--home"])
            .arg(&self.home)
            .arg("--passphrase-file")
            .arg(self.scratch.passphrase_file())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Ends it at once, as a crash would.
    pub(crate) fn crash(&mut self) {
        self.process.signal("KILL");
        assert_eq!(self.process.ended().signal(), Some(9));
    }
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
    let proof = prove(who, script.as_bytes());
    let reply = ask(client, script.as_bytes(), proof_header(&proof)).await;
    let signed = reply.proof.as_deref().expect("an answer with a proof");
    let answered = proof::read_reply(
        signed,
        &service.nkey,
        Some(&proof),
        script.as_bytes(),
        reply.text.as_bytes(),
    );
    assert_eq!(answered.unwrap().st, reply.error.as_deref().unwrap_or("ok"));
    reply
}

pub(crate) fn proof_header(proof: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Crypto-Proof", proof);
    headers
}

pub(crate) fn prove(who: &Identity, body: &[u8]) -> String {
    proof::write_request(who, SERVICE, now(), &jti(), body, proof::Terms::default())
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
