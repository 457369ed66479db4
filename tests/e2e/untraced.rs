//! What another process of the service's own user sees of it: no memory, no core file, nothing of `/proc`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::seized::injected;
use crate::support::*;

/// `nobody`: neither root nor anybody who owns something.
const NOBODY: u32 = 65_534;

/// As that user where the tests may choose, as their own where not.
fn as_nobody(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::null());
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// Why that user cannot read a file of `/proc`, or nothing if it can.
fn refusal(pid: u32, file: &str) -> Option<String> {
    let path = format!("/proc/{pid}/{file}");
    let program = if file == "fd" { "/bin/ls" } else { "/bin/cat" };
    let output = as_nobody(program).arg(path).output().unwrap();
    (!output.status.success()).then(|| text(&output.stderr))
}

#[test]
fn a_process_of_the_same_user_reads_no_memory_of_broker_and_listener_and_no_core_is_written() {
    let nats = Nats::plain();
    let scratch = Scratch::new();
    let (home, _) = scratch.home();
    scratch.policy(OPEN_TO_ANYBODY);
    scratch.passphrase_file();
    for (program, name) in [
        (own(), "crypto-cli"),
        (own().with_file_name("crypto-cli-worker").as_path(), "crypto-cli-worker"),
    ] {
        fs::copy(program, scratch.path(name)).unwrap();
    }
    if is_root() {
        let all = scratch.path("");
        let owner = format!("{NOBODY}:{NOBODY}");
        assert!(Command::new("chown").args(["-R", &owner]).arg(all).status().unwrap().success());
    }
    let log = scratch.path("listen.log");
    let mut listen = as_nobody(scratch.path("crypto-cli"));
    listen.args(["listen", "--server", &nats.url(), "--subject", SUBJECT, "--policy"]);
    listen.arg(scratch.path("policy.toml")).arg("--home").arg(&home);
    listen.arg("--passphrase-file").arg(scratch.path("passphrase"));
    listen.stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap());
    let service = Running::start(&mut listen);
    wait_until("the service is ready", || {
        let log = fs::read_to_string(&log).unwrap();
        assert!(!log.contains("cannot"), "{log}");
        log.contains("serves `").then_some(())
    });
    let listener = wait_until("there is a listener", || {
        let children = descendants(service.pid());
        children.into_iter().find(|(_, command)| is_listener(command)).map(|(pid, _)| pid)
    });
    // An ordinary process of that user shows itself to the user's others.
    let sleep = Running::start(as_nobody("/bin/sleep").arg("60"));
    let user = status_of(sleep.pid(), "Uid").unwrap();
    assert_eq!(refusal(sleep.pid(), "environ"), None);
    assert_eq!(refusal(sleep.pid(), "fd"), None);
    for (who, pid) in [("broker", service.pid()), ("listener", listener)] {
        assert_eq!(status_of(pid, "Uid").unwrap(), user, "{who}");
        for file in ["mem", "environ", "maps", "fd"] {
            let why = refusal(pid, file).unwrap_or_else(|| panic!("{who}: {file} can be read"));
            assert!(why.contains("Permission denied"), "{who}: {file}: {why}");
        }
        // What the kernel gives to root belongs to a process that is not dumpable.
        assert_eq!(fs::metadata(format!("/proc/{pid}/mem")).unwrap().uid(), 0, "{who}");
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size"));
        let core: Vec<_> = core.unwrap().split_whitespace().collect();
        assert_eq!(core, ["0", "0", "bytes"], "{who}");
    }
}

#[test]
fn where_the_kernel_has_memory_for_secrets_the_keys_are_in_it() {
    const MEMFD_SECRET: u64 = 447;
    let doctor = cli().args(["doctor", "--format", "json"]).output().unwrap();
    let told: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let kind = told["broker"]["secret_memory"].as_str().unwrap().to_owned();
    // What the kernel says to a process that is not ours.
    let sleep = Running::start(Command::new("/bin/sleep").arg("60"));
    let answer = injected(sleep.pid(), &[[MEMFD_SECRET, 0, 0, 0, 0]]);
    match answer.trim().strip_prefix("lived ").map(|result| result.parse::<i64>().unwrap()) {
        Some(descriptor) if descriptor >= 0 => assert_eq!(kind, "memfd_secret"),
        Some(_) => assert_ne!(kind, "memfd_secret", "{answer}"),
        None => assert!(!is_root() && answer.starts_with("refused"), "{answer}"),
    }
}
