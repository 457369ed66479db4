//! Bundles of many keys cost no more memory than bundles of few.

use std::fs;
use std::process::Stdio;

use crate::operator::{Place, arg};
use crate::support::*;

/// Keys of one bundle, and how many such key spaces are exported together at last.
const KEYS: usize = 2_000;
const SPACES: usize = 10;
/// How much more the command may take for ten times as many keys; they would not fit in.
const SLACK_KIB: u64 = 1024;
/// The same of the service, which keeps pages of its file as well.
const SERVICE_SLACK_KIB: u64 = 8 * 1024;

/// The most memory that a process has had so far, in KiB.
fn peak(pid: u32) -> Option<u64> {
    status_of(pid, "VmHWM")?.strip_suffix(" kB")?.trim().parse().ok()
}

/// The most memory that a command and the service behind it take, in KiB.
fn cost(service: &Service, place: &Place, words: &str) -> (u64, u64) {
    let pid = service.process.pid();
    if is_root() {
        // proc_pid_clear_refs(5): the peak is what there is now.
        fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
    }
    let mut command = place.command(words);
    let mut command = command.stderr(Stdio::null()).spawn().unwrap();
    let mut most = 0;
    let status = loop {
        most = most.max(peak(command.id()).unwrap_or(0));
        if let Some(status) = command.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(std::time::Duration::from_micros(500));
    };
    assert!(status.success(), "{words}");
    (most, peak(pid).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_times_as_many_keys_leave_and_come_in_the_same_memory() {
    let nats = Nats::plain();
    let limits = "[limits]\nnew_keys = 2_001\nhost_calls = 10_000\nwall_clock = \"60 s\"\n";
    let service = Service::start(&nats, &format!("{limits}{OPEN_TO_ANYBODY}"));
    let place = Place::of(&service);
    let make =
        format!("create_key_space(\"s0\"); for i in 0..{KEYS} {{ create_keypair(\"k\" + i); }} 0");
    assert_eq!(ask_plainly(&nats.client().await, &make).await.text, "0");
    let to = place.does("key recipient");
    let (few, many) = (place.scratch.path("few.age"), place.scratch.path("many.age"));
    let export = |what: &str, path| {
        format!("keyspace export {what} --to {} --output {}", to.trim(), arg(path))
    };
    let little_out = cost(&service, &place, &export("s0", &few));
    let mut little_in = (0, 0);
    for space in 1..SPACES {
        little_in = cost(
            &service,
            &place,
            &format!("keyspace import {} --to-us --rename s{space}", arg(&few)),
        );
    }
    let much_out = cost(&service, &place, &export("--all", &many));
    let size = fs::metadata(&many).unwrap().len() / 1024;
    assert!(size > SLACK_KIB * 3 / 2, "{size} KiB would not be noticed");
    for space in 0..SPACES {
        place.does(&format!("keyspace delete s{space} --yes"));
    }
    let much_in = cost(&service, &place, &format!("keyspace import {} --to-us", arg(&many)));
    assert_eq!(place.does("keyspace list").lines().count(), SPACES);
    for (what, few, many) in [("out", little_out, much_out), ("in", little_in, much_in)] {
        assert!(many.0 < few.0 + SLACK_KIB, "{what}: the command took {few:?}, {many:?} KiB");
        if is_root() {
            assert!(
                many.1 < few.1 + SERVICE_SLACK_KIB,
                "{what}: the service took {few:?}, {many:?} KiB"
            );
        }
    }
}
