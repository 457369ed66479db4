//! From inside of a script's process: every way out is tried, by system calls that a taken-over one
//! could make. `tests/hostile/probing_worker.rs` makes them.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sandbox::{Lane, Launcher};

use crate::support::*;

const MEMORY: u64 = 1024 * 1024;
const SIGILL: i32 = 4;
const SIGSEGV: i32 = 11;
const SIGSYS: i32 = 31;
const ENXIO: i64 = -6;

/// Calls that the kernel lets past any filter, by design: those that its probes of user code put into
/// a process. Without such a probe they do nothing.
const URETPROBE: u64 = 335;
const UPROBE: u64 = 336;

#[derive(Clone, Copy)]
enum By {
    Syscall = 0,
    Int80 = 1,
    Rdtsc = 2,
}

/// What became of a process that made a call.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Killed(i32),
    Exited(i32),
    Lived(i64),
}

fn probe(by: By, number: u64, arguments: [u64; 6]) -> Vec<u8> {
    let mut probe = vec![by as u8];
    probe.extend(number.to_le_bytes());
    probe.extend(arguments.into_iter().flat_map(u64::to_le_bytes));
    probe
}

fn lane(launcher: &Arc<Launcher>) -> Lane {
    Lane::start(launcher, MEMORY, false, wire::BUILD).unwrap()
}

fn fate(lane: &mut Lane, by: By, number: u64, arguments: [u64; 6]) -> Fate {
    let mut socket = lane.fork(false, None).unwrap();
    socket.write_all(&probe(by, number, arguments)).unwrap();
    let mut result = [0; 8];
    let answered = socket.read_exact(&mut result);
    drop(socket);
    let ended = lane.ended(Duration::from_secs(10)).unwrap().expect("it ends");
    match (answered, ended.status.signal(), ended.status.code()) {
        (Ok(()), None, _) => Fate::Lived(i64::from_le_bytes(result)),
        (Err(_), Some(signal), _) => Fate::Killed(signal),
        (Err(_), None, Some(code)) => Fate::Exited(code),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_script_process_can_read_and_write_its_socket_and_end_and_nothing_else() {
    let launcher = launcher(&hostile("probing_worker"));
    let mut lane = lane(&launcher);
    let mut survivors = Vec::new();
    for number in 0..=600 {
        let fate = fate(&mut lane, By::Syscall, number, [0; 6]);
        if fate != Fate::Killed(SIGSYS) {
            survivors.push((number, fate));
        }
    }
    // read(0, NULL, 0), write(0, NULL, 0), exit_group(0); what is let past the filter does no good.
    let known = |survivor: &(u64, Fate)| {
        matches!(
            survivor,
            (0 | 1, Fate::Lived(0))
                | (231, Fate::Exited(0))
                | (URETPROBE, Fate::Killed(SIGILL))
                | (UPROBE, Fate::Lived(ENXIO))
        )
    };
    let numbers: Vec<u64> = survivors.iter().map(|(number, _)| *number).collect();
    assert!(survivors.iter().all(known), "{survivors:?}");
    assert!(numbers.starts_with(&[0, 1, 231]), "{survivors:?}");
}

#[test]
fn other_doors_into_the_kernel_are_shut() {
    let launcher = launcher(&hostile("probing_worker"));
    let mut lane = lane(&launcher);
    const X32: u64 = 0x4000_0000;
    for number in (0..=600).chain([X32 - 1]) {
        let fate = fate(&mut lane, By::Syscall, number | X32, [0; 6]);
        assert_eq!(fate, Fate::Killed(SIGSYS), "x32 {number}");
    }
    for number in 0..=470 {
        let fate = fate(&mut lane, By::Int80, number, [0; 6]);
        assert_eq!(fate, Fate::Killed(SIGSYS), "int 0x80 {number}");
    }
    for number in [u64::from(u32::MAX), 1 << 31, 601, 1000, 5000] {
        assert_eq!(fate(&mut lane, By::Syscall, number, [0; 6]), Fate::Killed(SIGSYS), "{number}");
    }
    // The kernel looks at 32 bits of a number, and so does the filter: this is `read`.
    assert_eq!(fate(&mut lane, By::Syscall, 1 << 40, [0; 6]), Fate::Lived(0));
    assert_eq!(fate(&mut lane, By::Rdtsc, 0, [0; 6]), Fate::Killed(SIGSEGV), "it has a clock");
}

#[test]
fn the_calls_that_are_allowed_are_allowed_on_its_socket_alone() {
    let launcher = launcher(&hostile("probing_worker"));
    let mut lane = lane(&launcher);
    for call in [0, 1] {
        for descriptor in [1, 2, 3, 4, 63, 255, 1024, u64::from(u32::MAX), 1 << 31, (1 << 32) | 1] {
            let fate = fate(&mut lane, By::Syscall, call, [descriptor, 0, 0, 0, 0, 0]);
            assert_eq!(fate, Fate::Killed(SIGSYS), "call {call} on {descriptor}");
        }
        // A descriptor is 32 bits for the kernel too, so this one is 0.
        assert_eq!(fate(&mut lane, By::Syscall, call, [1 << 32, 0, 0, 0, 0, 0]), Fate::Lived(0));
    }
    for code in [1, 86, 255] {
        assert_eq!(fate(&mut lane, By::Syscall, 231, [code, 0, 0, 0, 0, 0]), {
            Fate::Exited(i32::try_from(code).unwrap())
        });
    }
}

/// What became of a zygote that made a call at the moment when it would begin to serve.
fn zygote_fate(worker: &Path, number: u64, arguments: [u64; 6]) -> bool {
    let beside = worker.with_file_name("probe");
    std::fs::write(&beside, probe(By::Syscall, number, arguments)).unwrap();
    let launcher = launcher(worker);
    let lived = Lane::start(&launcher, MEMORY, false, wire::BUILD).is_ok();
    std::fs::remove_file(beside).unwrap();
    lived
}

/// Calls with the arguments that make them something else than what a zygote does.
#[rustfmt::skip]
fn forbidden_to_a_zygote() -> Vec<(u64, [u64; 6])> {
    const SIGCHLD: u64 = 17;
    let first = |value: u64| [value, 0, 0, 0, 0, 0];
    let two = |one: u64, two: u64| [one, two, 0, 0, 0, 0];
    // clone that shares memory, files, signals, a parent, or enters namespaces; clone3 through them.
    let flags = [
        0x100, 0x200, 0x400, 0x800, 0x1000, 0x2000, 0x4000, 0x8000, 0x10000, 0x20000, 0x200_0000,
        0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000, 1 << 32, 1 << 33,
    ];
    let mut cases = flags.map(|flag| (56, first(SIGCHLD | flag))).to_vec();
    cases.extend([(56, first(0)), (56, first(SIGCHLD + 1)), (56, two(SIGCHLD, 0x1000))]);
    // write, read, recvmsg elsewhere; dup2 to elsewhere; other timers.
    cases.extend([(1, first(1)), (0, first(1)), (47, first(1)), (33, two(0, 1)), (33, two(0, 2))]);
    cases.extend([(38, first(1)), (38, first(2))]);
    // prctl: another death signal, dumpable, the clock, seccomp by the old way, new privileges.
    cases.extend([(1, 15), (1, 0), (4, 1), (26, 1), (22, 0), (38, 1)].map(|(a, b)| (157, two(a, b))));
    // seccomp: strict, with flags, questions.
    cases.extend([(317, first(0)), (317, two(1, 1)), (317, first(2))]);
    let never = [
        2, 9, 10, 11, 12, 41, 42, 49, 53, 57, 58, 59, 62, 101, 105, 155, 160, 161, 165, 166, 200,
        234, 257, 272, 302, 308, 310, 311, 321, 322, 323, 424, 425, 426, 427, 434, 435, 437, 438,
    ];
    cases.extend(never.map(|number| (number, [0; 6])));
    cases
}

#[test]
fn a_zygote_can_fork_and_wait_and_nothing_that_shares_or_reaches_out() {
    let scratch = Scratch::new();
    let worker = scratch.path("worker");
    std::fs::copy(hostile("probing_worker"), &worker).unwrap();
    // That the probe itself works: a call that is allowed, which fails for its arguments.
    assert!(zygote_fate(&worker, 61, [u64::from(u32::MAX), 0, 0, 0, 0, 0]), "wait4 is allowed");
    for (number, arguments) in forbidden_to_a_zygote() {
        assert!(!zygote_fate(&worker, number, arguments), "{number} {arguments:?} is allowed");
    }
}
