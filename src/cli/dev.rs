//! `crypto-cli dev`: a development service in one command.

use std::fs::OpenOptions;
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use client::{Asking, Caller, Connect, Login, ServerUrl};
use keyspace::Home;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::args::DevArgs;
use crate::dev_files::{DevFiles, SUBJECT};
use crate::exit::{Exit, Fault};
use crate::say;

/// The port that NATS clients try first.
const USUAL_PORT: u16 = 4222;
/// How long everything may take to answer its first request.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one request may take while everything starts.
const ATTEMPT: Duration = Duration::from_secs(2);
/// How long a child may take to end when it is asked to.
const FAREWELL: Duration = Duration::from_secs(30);

pub(crate) fn dev(args: &DevArgs) -> Result<Exit, Fault> {
    say::talk(
        "crypto-cli: DEVELOPMENT SERVICE: throw-away keys, a permissive policy; do not use it for anything real",
    );
    let mut signals = Signals::new([SIGINT, SIGTERM])
        .map_err(|error| Fault::system("cannot watch for signals", &error))?;
    let nats_server = find_nats_server()?;
    let home = Home::create(&args.home)?;
    let port = choose_port(args.port)?;
    let files = DevFiles::prepare(home, port)?;
    let mut nats = Running::start("nats-server", &mut nats_command(&nats_server, &files)?)?;
    if !await_port(port, &mut nats, &mut signals)? {
        return Ok(Exit::Done);
    }
    let mut service = Running::start("crypto-cli listen", &mut listen_command(&files, port)?)?;
    if !await_answer(&files, port, &mut service, &mut signals)? {
        return Ok(Exit::Done);
    }
    say::talk(&format!("crypto-cli: use it with `. {}`", files.shown("dev.env")?));
    say::line("ready")?;
    watch(&mut signals, &mut nats, &mut service)
}

fn watch(signals: &mut Signals, nats: &mut Running, service: &mut Running) -> Result<Exit, Fault> {
    loop {
        if signals.pending().next().is_some() {
            // First the service, so that it can answer what it has taken.
            service.stop();
            nats.stop();
            return Ok(Exit::Done);
        }
        for child in [&mut *nats, &mut *service] {
            child.must_run()?;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A child that is ended when this is dropped.
struct Running {
    name: &'static str,
    child: Child,
}

impl Running {
    fn start(name: &'static str, command: &mut Command) -> Result<Self, Fault> {
        // In a group of its own: a Ctrl-C reaches us, and we end the children in order.
        let child = sandbox::tie_to_parent(command.process_group(0).stdin(Stdio::null())).spawn();
        let child =
            child.map_err(|error| Fault::system(&format!("cannot start {name}"), &error))?;
        Ok(Self { name, child })
    }

    fn must_run(&mut self) -> Result<(), Fault> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => {
                let text = format!("{} ended unexpectedly ({status})", self.name);
                Err(Fault::new(Exit::Unavailable, text))
            }
            Err(error) => Err(Fault::system("cannot watch a child", &error)),
        }
    }

    /// Asks it to end, and ends it if it does not.
    fn stop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let asked = sandbox::terminate(&self.child).is_ok();
        let patience = Instant::now() + FAREWELL;
        while asked && Instant::now() < patience {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // Already gone or gone now: both are what is wanted.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// `NATS_SERVER`, or the first `nats-server` on the path.
fn find_nats_server() -> Result<PathBuf, Fault> {
    if let Some(named) = std::env::var_os("NATS_SERVER").map(PathBuf::from) {
        return if named.is_file() {
            Ok(named)
        } else {
            Err(Fault::usage(format!("NATS_SERVER names `{}`, which is no file", named.display())))
        };
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&folders).map(|folder| folder.join("nats-server"));
    found.find(|path| path.is_file()).ok_or_else(|| {
        let text = "no nats-server on the path: install one, or name it in NATS_SERVER";
        Fault::new(Exit::Unavailable, text)
    })
}

/// The wanted port, the usual one, or a free one: loopback only.
fn choose_port(wanted: Option<u16>) -> Result<u16, Fault> {
    let bind = |port| TcpListener::bind(("127.0.0.1", port));
    let bound = match wanted {
        Some(port) => bind(port),
        None => bind(USUAL_PORT).or_else(|_| bind(0)),
    };
    let bound = bound.and_then(|socket| socket.local_addr());
    bound.map(|address| address.port()).map_err(|error| {
        let port = wanted.unwrap_or(USUAL_PORT);
        Fault::new(Exit::Unavailable, format!("port {port} cannot be used: {error}"))
    })
}

fn nats_command(program: &PathBuf, files: &DevFiles) -> Result<Command, Fault> {
    let path = files.path("nats.log");
    let mut options = OpenOptions::new();
    let log = options.append(true).create(true).mode(0o600).open(&path);
    let log = log.map_err(|e| Fault::usage(format!("cannot write `{}`: {e}", path.display())))?;
    let mut command = Command::new(program);
    command.arg("-c").arg(files.path("nats.conf")).stdout(Stdio::null()).stderr(log);
    Ok(command)
}

fn listen_command(files: &DevFiles, port: u16) -> Result<Command, Fault> {
    let own = std::env::current_exe();
    let own = own.map_err(|error| Fault::system("cannot find this program's own file", &error))?;
    let mut command = Command::new(own);
    command.env_clear().stdout(Stdio::null());
    command.args(["listen", "--subject", SUBJECT]);
    command.args(["--server", &format!("tls://localhost:{port}")]);
    let paths = [
        ("--ca", "ca.pem"),
        ("--nkey-seed-file", "service.nk"),
        ("--policy", "policy.toml"),
        ("--passphrase-file", "passphrase"),
        ("--home", ""),
    ];
    for (flag, name) in paths {
        command.args([flag, &files.shown(name)?]);
    }
    Ok(command)
}

/// Whether nats-server listens; `false` when a signal came first.
fn await_port(port: u16, nats: &mut Running, signals: &mut Signals) -> Result<bool, Fault> {
    let patience = Instant::now() + PATIENCE;
    while Instant::now() < patience {
        nats.must_run()?;
        if signals.pending().next().is_some() {
            return Ok(false);
        }
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(Fault::new(Exit::Unavailable, "nats-server does not listen: see nats.log in the home"))
}

/// Asks the service until it answers, as its client would; `false` when a signal came first.
fn await_answer(
    files: &DevFiles,
    port: u16,
    service: &mut Running,
    signals: &mut Signals,
) -> Result<bool, Fault> {
    let seed = files.path("client.nk");
    let connect = Connect {
        server: ServerUrl::parse(&format!("tls://localhost:{port}"))?,
        login: Login::NkeySeedFile(seed.clone()),
        ca: Some(files.path("ca.pem")),
        name: "crypto-cli dev".to_owned(),
    };
    let caller = Caller {
        identity: client::read_identity(&seed)?,
        service: files.service.clone(),
        service_nkey: files.service_nkey.clone(),
    };
    let asking = Asking { json: false, again: false, patience: ATTEMPT };
    let patience = Instant::now() + PATIENCE;
    loop {
        service.must_run()?;
        let caller = Some(&caller);
        let answer = client::blocking::request(&connect, SUBJECT, b"40 + 2", caller, asking);
        let last = match answer {
            Ok(answer) if answer.error.is_none() && answer.payload == b"42" => return Ok(true),
            Ok(answer) => String::from_utf8_lossy(&answer.payload).into_owned(),
            Err(error) => error.to_string(),
        };
        if signals.pending().next().is_some() {
            return Ok(false);
        }
        if Instant::now() >= patience {
            return Err(Fault::new(
                Exit::Unavailable,
                format!("the service does not answer: {last}"),
            ));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
