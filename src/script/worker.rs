//! The worker process: an engine is built and used once, then the process is confined and forks one
//! process for each script, or for the scripts of one client. Destructors never run there: dropping
//! what a script built can take as long and go as deep as the script likes.

use std::collections::BTreeSet;
use std::mem::ManuallyDrop;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rhai::Engine;
use sandbox::{Arena, Image, ScriptProcess, Zygote, exit_now};
use wire::script::{Ending, FromWorker, Job, Position, Task, ToWorker, Usage};
use wire::tree::Tree;

use crate::engine::{self, RawScript, check};
use crate::host::{Host, register};
use crate::watch::Watch;

/// Bytes for a job beside its frame and its source.
const ROOM_FOR_A_JOB: usize = 64 * 1024;
/// So many take some kilobytes.
const SIGHTINGS_AT_ONCE: usize = 16;

/// Serves the broker at the other end of `control` until it is gone. `memory` is the most bytes that
/// any script may hold; with `keeps`, processes may be kept for a client.
pub fn serve(control: OwnedFd, memory: u64, keeps: bool, arena: &'static Arena) -> ! {
    std::panic::set_hook(Box::new(|panic| exit_now(exit_after(panic))));
    let stack = engine::here();
    let engine = Box::leak(Box::new(engine::prepare()));
    if arena.reserve(size(memory)).is_err() {
        exit_now(sandbox::EXIT_MEMORY);
    }
    let image =
        keeps.then(|| Image::take(arena).unwrap_or_else(|_| exit_now(sandbox::EXIT_MEMORY)));
    let process = Zygote::confine(control, memory).fork_for_each_script(wire::BUILD);
    match image.filter(|_| process.is_reused) {
        None => {
            run_script(&process, engine, stack, arena);
            exit_now(0)
        }
        Some(image) => loop {
            // The compiler must not think that it knows what is in memory that was put back.
            run_script(&process, std::hint::black_box(&mut *engine), stack, arena);
            image.put_back();
        },
    }
}

/// The life of one script, from its first byte to the last of its answer.
fn run_script(process: &ScriptProcess, engine: &mut Engine, stack: usize, arena: &'static Arena) {
    let host = Host::new(process.socket);
    // The frame, the source in it, and some: what the script may hold is not known yet.
    let job = host.receive_into(|length| arena.open(2 * length + ROOM_FOR_A_JOB));
    let ToWorker::Job(job) = job else { exit_now(sandbox::EXIT_PANIC) };
    arena.cap(size(job.memory_bytes));
    let last = match job.task {
        Task::Run => run(job, engine, stack, host, arena),
        Task::Check => find(job, engine, host),
    };
    host.send(&ManuallyDrop::new(last));
}

/// What is found is told in parts: a script that it may run is checked within the same bounds.
fn find(job: Job, engine: &Engine, host: Host) -> FromWorker {
    let (mut part, mut told) = (Vec::with_capacity(SIGHTINGS_AT_ONCE), BTreeSet::new());
    let found = check(job, engine, &mut |sighting| {
        // One in a branch of a `switch` is found for each of its cases; places that are too far off are all one.
        let Position { line, column } = sighting.at;
        let is_its_own = line < u16::MAX.into() && column < u16::MAX.into();
        if is_its_own && !told.insert((line, column, sighting.call, sighting.perhaps_own)) {
            return;
        }
        part.push(sighting);
        if part.len() == SIGHTINGS_AT_ONCE {
            host.send(&FromWorker::Sightings(std::mem::take(&mut part)));
        }
    });
    if !part.is_empty() {
        host.send(&FromWorker::Sightings(part));
    }
    let ending = found.map_or_else(|ending| ending, |()| Ending::Value(Tree::unit()));
    FromWorker::Done(ending, Usage::default())
}

fn run(
    job: Job,
    engine: &mut Engine,
    stack: usize,
    host: Host,
    arena: &'static Arena,
) -> FromWorker {
    let watch = Rc::new(Watch::new(job.operations, size(job.call_depth.into()), stack));
    engine::bound(engine, &watch);
    register(engine, host, &job.granted);
    let ending = match RawScript::new(job.source).parse(engine) {
        Ok(script) => ManuallyDrop::new(script).run(engine, &watch, size(job.result_bytes)),
        Err(ending) => ending,
    };
    let memory_bytes = arena.peak(size(job.memory_bytes)).try_into().unwrap_or(u64::MAX);
    FromWorker::Done(ending, Usage { operations: watch.steps(), memory_bytes })
}

/// A script can make the engine panic: by a comparison without an order, or by asking for more bytes
/// than there are addresses, which is a matter of memory.
fn exit_after(panic: &std::panic::PanicHookInfo<'_>) -> i32 {
    if panic.payload_as_str() == Some("capacity overflow") {
        sandbox::EXIT_MEMORY
    } else {
        sandbox::EXIT_PANIC
    }
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
