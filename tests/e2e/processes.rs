//! Processes as the kernel shows them: whose child is whose, who is alive, and signals to them.

use std::fs;
use std::process::Command;

use crate::support::{Service, wait_until};

/// Sends a signal to a process that this test started.
pub(crate) fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status().unwrap();
    assert!(sent.success(), "kill -{name} {pid}");
}

/// Children, grandchildren and so on of a process, with their command lines.
pub(crate) fn descendants(pid: u32) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    let mut parents = vec![pid];
    let all: Vec<(u32, u32, String)> = processes();
    while let Some(parent) = parents.pop() {
        for (child, _, command) in all.iter().filter(|(_, of, _)| *of == parent) {
            found.push((*child, command.clone()));
            parents.push(*child);
        }
    }
    found
}

/// All processes: id, parent, command line. Zombies are gone already.
fn processes() -> Vec<(u32, u32, String)> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, after) = stat.rsplit_once(')')?;
        let mut fields = after.split_whitespace();
        let (state, parent) = (fields.next()?, fields.next()?.parse().ok()?);
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        (state != "Z").then_some((pid, parent, command))
    })
    .collect()
}

pub(crate) fn is_alive(pid: u32) -> bool {
    processes().iter().any(|(alive, ..)| *alive == pid)
}

/// The launcher's command line holds the listener's.
pub(crate) fn is_listener(command: &str) -> bool {
    command.contains("listener") && !command.contains("launcher")
}

/// The listener of a service.
pub(crate) fn listener_of(service: &Service) -> u32 {
    wait_until("there is a listener", || {
        let children = descendants(service.process.pid());
        children.into_iter().find(|(_, command)| is_listener(command)).map(|(pid, _)| pid)
    })
}

/// The process of a script that a service runs now: the one under two filters.
pub(crate) fn worker_of(service: &Service) -> u32 {
    wait_until("a script runs", || script_process_below(service.process.pid()))
}

pub(crate) fn script_process_below(pid: u32) -> Option<u32> {
    script_processes_below(pid).first().copied()
}

pub(crate) fn script_processes_below(pid: u32) -> Vec<u32> {
    let workers = descendants(pid).into_iter().filter(|(_, command)| !command.contains("listener"));
    let mut found: Vec<u32> =
        workers.map(|(pid, _)| pid).filter(|pid| filters_of(*pid) == Some(2)).collect();
    found.sort_unstable();
    found
}

/// How many filters of system calls a process is bound to.
pub(crate) fn filters_of(pid: u32) -> Option<u32> {
    status_of(pid, "Seccomp_filters")?.parse().ok()
}

/// One line of what the kernel says of a process.
pub(crate) fn status_of(pid: u32, field: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}

pub(crate) fn parent_of(pid: u32) -> u32 {
    status_of(pid, "PPid").unwrap().parse().unwrap()
}

/// Root sees into processes that others cannot look at, their own included.
pub(crate) fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    status.lines().any(|line| line.starts_with("Uid:\t0\t"))
}
