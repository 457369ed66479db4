//! The worker process: an engine is built and used once, then the process is confined and forks one
//! process for each script. Destructors never run there: dropping what a script built can take as long
//! and go as deep as the script likes.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use rhai::Engine;
use sandbox::{Arena, ScriptProcess, Zygote};
use wire::script::{FromWorker, Job, Task, ToWorker, Usage};

use crate::engine::{self, RawScript, check_source};
use crate::host::{Host, register};
use crate::watch::Watch;

/// Serves the broker at the other end of `control` until it is gone. `memory` is the most bytes that
/// any script may hold.
pub fn serve(control: OwnedFd, memory: u64, arena: &'static Arena) -> ! {
    std::panic::set_hook(Box::new(|panic| sandbox::exit_now(exit_after(panic))));
    let stack = engine::here();
    let engine = engine::prepare();
    if arena.reserve(size(memory)).is_err() {
        sandbox::exit_now(sandbox::EXIT_MEMORY);
    }
    let process = Zygote::confine(control, memory).fork_for_each_script(wire::BUILD);
    run_script(process, engine, stack, arena)
}

/// The life of a script's process.
fn run_script(process: ScriptProcess, engine: Engine, stack: usize, arena: &'static Arena) -> ! {
    let _confined = process.confined;
    let host = Host::new(process.socket);
    let ToWorker::Job(job) = host.receive() else { sandbox::exit_now(sandbox::EXIT_PANIC) };
    arena.cap(size(job.memory_bytes));
    let last = match job.task {
        Task::Run => run(job, engine, stack, &host, arena),
        Task::Check => match check_source(&job) {
            Ok(sightings) => FromWorker::Sightings(sightings),
            Err(ending) => FromWorker::Done(ending, Usage::default()),
        },
    };
    host.send(&last);
    sandbox::exit_now(0)
}

fn run(
    job: Job,
    mut engine: Engine,
    stack: usize,
    host: &Host,
    arena: &'static Arena,
) -> FromWorker {
    let watch = Rc::new(Watch::new(job.operations, size(job.call_depth.into()), stack));
    engine::bound(&mut engine, &watch);
    register(&mut engine, host, &job.granted);
    let ending = match RawScript::new(job.source).parse(&engine) {
        Ok(script) => script.run(&engine, &watch, size(job.result_bytes)),
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
