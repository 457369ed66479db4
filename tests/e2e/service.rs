//! A nats-server and the service behind it.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use async_nats::Client;

use crate::support::*;

/// A nats-server on loopback.
pub(crate) struct Nats {
    pub(crate) port: u16,
    process: Running,
    pub(crate) folder: Scratch,
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
        let mut server = Command::new(nats_server());
        server.arg("-c").arg(configuration).stdin(Stdio::null()).stdout(Stdio::null());
        server.stderr(fs::File::create(&log).unwrap());
        let process = Running::start(&mut server);
        let port = wait_until("nats-server listens", || {
            let log = fs::read_to_string(&log).unwrap();
            assert!(!log.contains("[FTL]"), "{log}");
            let (_, rest) = log.split_once("client connections on 127.0.0.1:")?;
            // The line may be half written: the port is whole once the line has ended.
            rest.split_once('\n')?.0.trim().parse().ok()
        });
        Self { port, process, folder }
    }

    /// Has it read another configuration, as an operator does.
    pub(crate) fn reload(&self, configuration: &str) {
        let log = || fs::read_to_string(self.folder.path("nats.log")).unwrap();
        let before = log().matches("Reloaded server configuration").count();
        let listen = format!("listen: \"127.0.0.1:{}\"\n", self.port);
        self.folder.write("nats.conf", listen + configuration);
        self.process.signal("HUP");
        wait_until("nats-server has read it", || {
            let log = log();
            assert!(!log.contains("[ERR] Failed to reload"), "{log}");
            (log.matches("Reloaded server configuration").count() > before).then_some(())
        });
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
    /// Whom a proof for it is for.
    pub(crate) fn addressee(&self) -> proof::Addressee<'_> {
        proof::Addressee { aud: SERVICE, nkey: &self.nkey }
    }

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
        let mut listen = Command::new(program);
        listen.env_clear().stdin(Stdio::null());
        listen.args(["listen", "--server", server, "--subject", SUBJECT, "--policy"]);
        listen.arg(scratch.path("policy.toml")).arg("--home").arg(home).args(unlock);
        listen.stdout(Stdio::null()).stderr(log);
        Running::start(&mut listen)
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
