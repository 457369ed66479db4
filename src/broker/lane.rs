//! One worker, one script: started, served, ended.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use policy::Limits;
use sandbox::Program;
use wire::script::{Ending, FromWorker, Job, Sighting, Task, ToWorker};
use wire::tree::Tree;
use wire::{Channel, Code, ReceiveError};

use crate::outcome::{Failure, Usage};
use crate::session::Session;

/// Longest error message of a script, in characters, escapes included.
const MOST_MESSAGE_CHARS: usize = 40_000;
/// How long a worker that closed its socket may take to be gone.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Signals that end a worker whose native stack overflows: the fault itself, and the abort with
/// which the runtime answers it.
const SEGMENTATION_FAULT: i32 = 11;
const ABORT: i32 = 6;

/// A running worker. It is gone when this is dropped.
pub(crate) struct Worker {
    child: Child,
    channel: Channel<FromWorker, ToWorker>,
}

/// A job for a script's bytes, if they are a text of allowed length.
pub(crate) fn job(task: Task, script: &[u8], limits: &Limits) -> Result<Job, Failure> {
    if u64::try_from(script.len()).unwrap_or(u64::MAX) > limits.script {
        let text = format!("the script has more than {} bytes", limits.script);
        return Err(Failure::new(Code::LimitScriptSize, text));
    }
    let source = std::str::from_utf8(script).map_err(|error| {
        let text = format!("the script is not UTF-8 from byte {}", error.valid_up_to());
        Failure::new(Code::ParseError, text)
    })?;
    Ok(Job {
        build: wire::BUILD.to_owned(),
        task,
        source: source.to_owned(),
        operations: limits.operations,
        memory_bytes: limits.memory,
        call_depth: u32::try_from(limits.call_depth).unwrap_or(u32::MAX),
        result_bytes: limits.result,
    })
}

impl Worker {
    pub(crate) fn start(program: &Program, job: &Job) -> Result<Self, Failure> {
        let started = program.start(&[job.memory_bytes.to_string()], false);
        let (child, socket) = started.map_err(|error| {
            crate::serve::log(&format!("cannot start a worker: {error}"));
            Failure::new(Code::Internal, "no worker could be started")
        })?;
        Ok(Self { child, channel: Channel::new(socket) })
    }

    /// Serves the script until it ends or may not go on. What the worker says of itself is told on;
    /// what counts is counted here.
    pub(crate) fn run(
        mut self,
        job: &Job,
        limits: &Limits,
        session: &mut Session<'_>,
    ) -> (Result<Tree, Failure>, Usage) {
        let deadline = Instant::now() + Duration::from_millis(limits.wall_clock);
        let mut usage = Usage::default();
        let ending = self.converse(job, deadline, session, &mut usage);
        (ending.map_err(|end| self.explain(end, limits)), usage)
    }

    fn converse(
        &mut self,
        job: &Job,
        deadline: Instant,
        session: &mut Session<'_>,
        usage: &mut Usage,
    ) -> Result<Tree, End> {
        self.channel.send(&ToWorker::Job(job.clone()), Some(deadline))?;
        loop {
            match self.channel.receive(Some(deadline))? {
                FromWorker::Call(call, at) => {
                    let answer = session.call(call, at)?;
                    if Instant::now() >= deadline {
                        return Err(End::OutOfTime);
                    }
                    self.channel.send(&ToWorker::Answer(answer), Some(deadline))?;
                }
                FromWorker::Print(line) => session.print(&line)?,
                FromWorker::Done(ending, reported) => {
                    usage.operations = reported.operations;
                    usage.memory_bytes = reported.memory_bytes;
                    return told(ending, session.result_bytes()).map_err(End::Failed);
                }
                FromWorker::Sightings(_) => return Err(End::Misbehaved),
            }
        }
    }

    fn sightings(mut self, job: &Job, limits: &Limits) -> Result<Vec<Sighting>, Failure> {
        let deadline = Instant::now() + Duration::from_millis(limits.wall_clock);
        let heard = self
            .channel
            .send(&ToWorker::Job(job.clone()), Some(deadline))
            .map_err(End::from)
            .and_then(|()| Ok(self.channel.receive(Some(deadline))?));
        let end = match heard {
            Ok(FromWorker::Sightings(sightings)) => return Ok(sightings),
            Ok(FromWorker::Done(ending, _)) => match told(ending, 0) {
                Err(failure) => End::Failed(failure),
                Ok(_) => End::Misbehaved,
            },
            Ok(FromWorker::Call(..) | FromWorker::Print(_)) => End::Misbehaved,
            Err(end) => end,
        };
        Err(self.explain(end, limits))
    }

    /// Why there is no value.
    fn explain(mut self, end: End, limits: &Limits) -> Failure {
        match end {
            End::Failed(failure) => failure,
            End::OutOfTime => {
                let text = format!("the script took more than {} ms", limits.wall_clock);
                Failure::new(Code::LimitTime, text)
            }
            End::Misbehaved => {
                crate::serve::log("a worker broke the protocol and was ended");
                Failure::new(Code::Internal, "the worker failed")
            }
            End::Gone => died(sandbox::last_words(&mut self.child, LAST_WORDS), limits),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.channel.close();
        // Either it has ended by itself, or it is ended now: both are what is wanted.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Why a conversation stopped without a value.
enum End {
    Failed(Failure),
    OutOfTime,
    Gone,
    Misbehaved,
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<ReceiveError> for End {
    fn from(error: ReceiveError) -> Self {
        match error {
            ReceiveError::Closed | ReceiveError::Io(_) => Self::Gone,
            ReceiveError::TimedOut => Self::OutOfTime,
            ReceiveError::Malformed => Self::Misbehaved,
        }
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        let is = |kind| error.kind() == kind;
        if is(io::ErrorKind::TimedOut) || is(io::ErrorKind::WouldBlock) {
            Self::OutOfTime
        } else {
            Self::Gone
        }
    }
}

/// The worker's word on how its script ended. The size of a value is checked again here.
fn told(ending: Ending, result_bytes: u64) -> Result<Tree, Failure> {
    use wire::script::Failure as Said;
    match ending {
        Ending::Value(tree) => {
            let size = u64::try_from(tree.text_bytes()).unwrap_or(u64::MAX);
            if size > result_bytes {
                let text = format!("the result has more than {result_bytes} bytes");
                return Err(Failure::new(Code::LimitResult, text));
            }
            Ok(tree)
        }
        Ending::Failed(said, message, at) => {
            let code = match said {
                Said::Parse => Code::ParseError,
                Said::Script => Code::ScriptError,
                Said::Operations => Code::LimitOperations,
                Said::Memory => Code::LimitMemory,
                Said::Depth => Code::LimitDepth,
                Said::Result => Code::LimitResult,
            };
            // The worker has bounded and escaped it; that is its word, so it is done again.
            let message = wire::shown(&message, MOST_MESSAGE_CHARS, false);
            Err(Failure::new(code, message).at(at))
        }
    }
}

/// What the end of a worker that said nothing means.
fn died(status: io::Result<ExitStatus>, limits: &Limits) -> Failure {
    let Ok(status) = status else {
        return Failure::new(Code::Internal, "the worker failed");
    };
    if status.code() == Some(sandbox::EXIT_MEMORY) {
        let text = format!("the script took more than {} bytes of memory", limits.memory);
        Failure::new(Code::LimitMemory, text)
    } else if matches!(status.signal(), Some(SEGMENTATION_FAULT | ABORT)) {
        Failure::new(Code::LimitDepth, "the script nested deeper than the native stack")
    } else {
        crate::serve::log(&format!("a worker ended unexpectedly: {status}"));
        Failure::new(Code::Internal, "the worker ended unexpectedly")
    }
}

/// Lets a worker parse a script and name the host functions in it. No keys are anywhere near.
///
/// # Errors
/// Why it is no script.
pub fn check(program: &Program, script: &[u8], limits: &Limits) -> Result<Vec<Sighting>, Failure> {
    let job = job(Task::Check, script, limits)?;
    Worker::start(program, &job)?.sightings(&job, limits)
}
