//! Running processes of ours that are taken over: code in them makes system calls of its own choice.
//! `tests/hostile/injector.rs` is that code. Root can do that; another user, the service's own, may not even begin to.

use crate::support::*;

/// What became of a running process that was made to make calls from outside, each a number and four
/// arguments. It is ended afterwards.
pub(crate) fn injected(pid: u32, calls: &[[u64; 5]]) -> String {
    let output = std::process::Command::new(hostile("injector"))
        .arg(pid.to_string())
        .args(calls.iter().flatten().map(u64::to_string))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// The real worker in the middle of a real script, made to call the kernel from outside. Root can do
/// that; another user, the service's own, may not even begin to.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_script_that_is_taken_over_dies_of_its_first_other_call() {
    let nats = Nats::plain();
    let limits = "[limits]\nwall_clock = \"20 s\"\noperations = 1_000_000_000_000\n";
    let service = Service::start(&nats, &format!("{limits}{OPEN_TO_ANYBODY}"));
    let client = nats.client().await;
    let calls = [
        2, 3, 9, 10, 11, 12, 13, 15, 16, 20, 32, 33, 39, 41, 42, 45, 47, 56, 57, 59, 60, 61, 62,
        72, 89, 96, 101, 157, 186, 201, 228, 231, 247, 257, 262, 302, 308, 317, 318, 319, 322, 425,
        426, 435, 437, 447,
    ];
    for call in calls {
        let asker = client.clone();
        let running = tokio::spawn(async move { ask_plainly(&asker, "print(1); loop {}").await });
        let script = worker_of(&service);
        let fate = injected(script, &[[call, 1, 0, 0, 0]]);
        if !is_root() {
            assert_eq!(fate, "refused 1\n", "its own user may trace it");
            running.abort();
            return;
        }
        let expected = if call == 231 { "exited 1\n" } else { "killed 31\n" };
        assert_eq!(fate, expected, "{call}");
        assert_eq!(running.await.unwrap().error.as_deref(), Some("internal"));
        wait_until("it is gone", || (!is_alive(script)).then_some(()));
    }
    assert!(service.log().contains("forbidden system call"), "{}", service.log());
}

/// What `call` does when it is refused by a filter that does not kill.
const REFUSED: &str = "lived -1";
const MSG_FASTOPEN: u64 = 0x2000_0000;
const ANONYMOUS: u64 = 0x22;
const READ_EXECUTE: u64 = 5;

/// Calls that neither broker nor listener may make; what each would say if it were let past the filter is
/// something else, for nothing in them is there.
const FORBIDDEN_TO_BOTH: [(&str, [u64; 5]); 16] = [
    ("open", [2, 0, 0, 0, 0]),
    ("mmap of code", [9, 0, 4096, READ_EXECUTE, ANONYMOUS]),
    ("mprotect to code", [10, 0, 4096, READ_EXECUTE, 0]),
    ("shmat of code", [30, 9999, 0, 0o100_000, 0]),
    ("bind", [49, 9999, 0, 0, 0]),
    ("listen", [50, 9999, 1, 0, 0]),
    ("clone to a process", [56, 17, 0, 0, 0]),
    ("fork", [57, 0, 0, 0, 0]),
    ("vfork", [58, 0, 0, 0, 0]),
    ("execve", [59, 0, 0, 0, 0]),
    ("ptrace", [101, 16, 0, 0, 0]),
    ("process_vm_readv", [310, 1, 0, 0, 0]),
    ("memfd_create", [319, 0, 0, 0, 0]),
    ("execveat", [322, 9999, 0, 0, 0]),
    ("pkey_mprotect to code", [329, 0, 4096, READ_EXECUTE, 0]),
    ("io_uring_setup", [425, 1, 0, 0, 0]),
];

/// Each of these calls is refused to the process, which lives on; none is looked at where nobody may trace.
fn refuses_each(pid: u32, calls: &[(&str, [u64; 5])]) {
    let numbers: Vec<[u64; 5]> = calls.iter().map(|(_, call)| *call).collect();
    let fates = injected(pid, &numbers);
    if !is_root() {
        assert_eq!(fates, "refused 1\n", "its own user may trace it");
        return;
    }
    let told: Vec<_> = fates.lines().zip(calls).map(|(fate, (name, _))| (*name, fate)).collect();
    let expected: Vec<_> = calls.iter().map(|(name, _)| (*name, REFUSED)).collect();
    assert_eq!(told, expected);
}

#[test]
fn a_broker_that_is_taken_over_starts_nothing_connects_nowhere_and_maps_no_code() {
    let nats = Nats::plain();
    let service = Service::start(&nats, OPEN_TO_ANYBODY);
    let own = [
        ("socket", [41, 2, 1, 0, 0]),
        ("socket of this machine", [41, 1, 1, 0, 0]),
        ("connect", [42, 9999, 0, 0, 0]),
        ("sendto that connects", [44, 9999, 0, 0, MSG_FASTOPEN]),
        ("sendmsg that connects", [46, 9999, 0, MSG_FASTOPEN, 0]),
        ("socketpair of another kind", [53, 2, 1, 0, 0]),
    ];
    refuses_each(service.process.pid(), &[&FORBIDDEN_TO_BOTH[..], &own].concat());
}

#[test]
fn a_listener_that_is_taken_over_opens_no_file_starts_nothing_and_maps_no_code() {
    let nats = Nats::plain();
    let service = Service::start(&nats, OPEN_TO_ANYBODY);
    let own = [
        ("openat", [257, 9999, 0, 0, 0]),
        ("openat2", [437, 9999, 0, 0, 0]),
        ("open_by_handle_at", [304, 9999, 0, 0, 0]),
        ("getdents64", [217, 9999, 0, 0, 0]),
        ("unlink", [87, 0, 0, 0, 0]),
        ("rename", [82, 0, 0, 0, 0]),
        ("accept4", [288, 9999, 0, 0, 0]),
    ];
    refuses_each(listener_of(&service), &[&FORBIDDEN_TO_BOTH[..], &own].concat());
}

#[test]
fn a_listener_that_is_taken_over_cannot_connect_out_of_landlocks_sight() {
    const SOCKET: u64 = 41;
    const SENDTO: u64 = 44;
    const MPTCP: u64 = 262;
    const UNIX: u64 = 1;
    let nats = Nats::plain();
    let service = Service::start(&nats, OPEN_TO_ANYBODY);
    let listener = listener_of(&service);
    let calls = [
        [SOCKET, 2, 1, MPTCP, 0],
        [SOCKET, 10, 1, MPTCP, 0],
        [SOCKET, 2, 2, 0, 0],
        [SOCKET, UNIX, 1, 0, 0],
        [SENDTO, 9999, 0, 0, MSG_FASTOPEN],
        // That the filter alone refuses: without the flag it is for the want of such a socket.
        [SENDTO, 9999, 0, 0, 0],
    ];
    let expected =
        if is_root() { "lived -1\n".repeat(5) + "lived -9\n" } else { "refused 1\n".to_owned() };
    assert_eq!(injected(listener, &calls), expected);
}
