//! The worker process: one job, then the end. Destructors never run: dropping what a script built
//! can take as long and as deep as the script likes.

use std::os::unix::net::UnixStream;

use sandbox::{CappedHeap, Confined};
use wire::script::{FromWorker, Job, Task, ToWorker, Usage};

use crate::engine::{RawScript, Steps, build, check_source};
use crate::host::{Host, register};

/// Serves the one job that comes over the socket.
pub fn serve(_confined: Confined, socket: UnixStream, heap: &'static CappedHeap) -> ! {
    std::panic::set_hook(Box::new(|_| sandbox::exit_now(sandbox::EXIT_PANIC)));
    let host = Host::new(socket);
    let ToWorker::Job(job) = host.receive() else { sandbox::exit_now(sandbox::EXIT_PANIC) };
    if job.build != wire::BUILD {
        sandbox::exit_now(sandbox::EXIT_PANIC);
    }
    heap.cap(size(job.memory_bytes));
    let last = match job.task {
        Task::Run => run(job, &host, heap),
        Task::Check => match check_source(&job) {
            Ok(sightings) => FromWorker::Sightings(sightings),
            Err(ending) => FromWorker::Done(ending, Usage::default()),
        },
    };
    host.send(&last);
    sandbox::exit_now(0)
}

fn run(job: Job, host: &Host, heap: &'static CappedHeap) -> FromWorker {
    let steps = Steps::new(job.operations);
    let mut engine = build(size(job.call_depth.into()), &steps);
    register(&mut engine, host);
    let cap = size(job.memory_bytes);
    let ending = match RawScript::new(job.source).parse(&engine) {
        Ok(script) => script.run(&engine, &steps, size(job.result_bytes)),
        Err(ending) => ending,
    };
    let memory_bytes = heap.peak(cap).try_into().unwrap_or(u64::MAX);
    FromWorker::Done(ending, Usage { operations: steps.taken(), memory_bytes })
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
