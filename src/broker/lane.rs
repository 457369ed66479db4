//! One script in its process: sent, served, ended.

use std::collections::BTreeSet;
use std::io;
use std::time::{Duration, Instant};

use policy::Limits;
use sandbox::Ended;
use wire::script::{Ending, FromWorker, Job, Sighting, Task, ToWorker};
use wire::tree::{Token, Tree};
use wire::{CallName, Code, ReceiveError};

use crate::lanes::{self, Lanes, Stage};
use crate::outcome::{Failure, Usage};
use crate::session::Session;

/// Longest error message of a script, in characters, escapes included.
const MOST_MESSAGE_CHARS: usize = 40_000;

/// A job for a script's bytes, if they are a text of allowed length.
pub(crate) fn job(
    task: Task,
    script: &[u8],
    limits: &Limits,
    granted: Vec<CallName>,
) -> Result<Job, Failure> {
    if u64::try_from(script.len()).unwrap_or(u64::MAX) > limits.script {
        let text = format!("the script has more than {} bytes", limits.script);
        return Err(Failure::new(Code::LimitScriptSize, text));
    }
    let source = std::str::from_utf8(script).map_err(|error| {
        let text = format!("the script is not UTF-8 from byte {}", error.valid_up_to());
        Failure::new(Code::ParseError, text)
    })?;
    Ok(Job {
        task,
        source: source.to_owned(),
        operations: limits.operations,
        memory_bytes: limits.memory,
        call_depth: u32::try_from(limits.call_depth).unwrap_or(u32::MAX),
        result_bytes: limits.result,
        granted,
    })
}

/// Serves a script until it ends or may not go on. What its process says of itself is told on; what
/// counts is counted here.
pub(crate) fn run(
    lanes: &Lanes,
    job: Job,
    limits: &Limits,
    session: &mut Session<'_>,
) -> (Result<Tree, Failure>, Usage) {
    let mut usage = Usage::default();
    let mut stage = match lanes.stage(session.client(), limits) {
        Ok(stage) => stage,
        Err(failure) => return (Err(failure), usage),
    };
    let deadline = Instant::now() + Duration::from_millis(limits.wall_clock);
    session.ends_at(deadline);
    let ending = converse(&mut stage, job, deadline, session, &mut usage);
    let (ending, ended) = leave(stage, ending, limits, usage.memory_bytes);
    // One that could not say what it took is spoken for by the kernel.
    if let Some(ended) = ended {
        usage.memory_bytes = ended.peak_bytes;
    }
    (ending, usage)
}

fn converse(
    stage: &mut Stage<'_>,
    job: Job,
    deadline: Instant,
    session: &mut Session<'_>,
    usage: &mut Usage,
) -> Result<Tree, End> {
    let conversation = &mut stage.conversation;
    conversation.send(&ToWorker::Job(job), Some(deadline))?;
    loop {
        match conversation.receive(Some(deadline))? {
            FromWorker::Call(call, at) => {
                let answer = session.call(call, at).map_err(End::Refused)?;
                if Instant::now() >= deadline {
                    return Err(End::OutOfTime);
                }
                conversation.send(&ToWorker::Answer(answer), Some(deadline))?;
            }
            FromWorker::NotGranted(call, at) => {
                return Err(End::Refused(session.not_granted(call, at)));
            }
            FromWorker::Print(line) => session.print(&line).map_err(End::Refused)?,
            FromWorker::Done(ending, reported) => {
                usage.operations = reported.operations;
                usage.memory_bytes = reported.memory_bytes;
                return told(ending, session.result_bytes()).map_err(End::Failed);
            }
            FromWorker::Sightings(_) => return Err(End::Misbehaved),
        }
    }
}

/// Lets a worker parse a script and name the host functions in it. No keys are anywhere near.
///
/// # Errors
/// Why it is no script.
pub fn check(lanes: &Lanes, script: &[u8], limits: &Limits) -> Result<Vec<Sighting>, Failure> {
    let job = job(Task::Check, script, limits, Vec::new())?;
    // What a worker tells of a script stands in it: it is asked for no more, however much it says.
    let (mut seen, mut room) = (BTreeSet::new(), script.len());
    ask(lanes, job, limits, |frame| match frame {
        FromWorker::Sightings(part) => {
            for sighting in part {
                // It is the worker's word, and is shown.
                let shadows = sighting.shadows;
                let shadows = shadows.map(|name| wire::shown(&name, MOST_MESSAGE_CHARS, false));
                let sighting = Sighting { shadows, ..sighting };
                let bytes = sighting.least_bytes();
                if seen.insert(sighting) {
                    room = room.checked_sub(bytes).ok_or(End::Misbehaved)?;
                }
            }
            Ok(None)
        }
        FromWorker::Done(ending, _) => told(ending, u64::MAX).map(Some).map_err(End::Failed),
        FromWorker::Call(..) | FromWorker::NotGranted(..) | FromWorker::Print(_) => {
            Err(End::Misbehaved)
        }
    })?;
    Ok(seen.into_iter().collect())
}

/// A script that uses some of everything, without keys: what it needs of the kernel is not forbidden
/// and what it gives is right.
pub(crate) fn self_test(lanes: &Lanes, policy: &Limits) -> Result<(), String> {
    // Its own bounds: those of the policy may be too narrow even for this.
    let mut limits = policy.clone();
    (limits.script, limits.operations, limits.memory) = (1_000, 100_000, SELF_TEST_BYTES);
    (limits.wall_clock, limits.call_depth, limits.result) = (5_000, 16, 1_000);
    let script =
        br#"let l = []; for i in 0..100 { l.push(`${i}`); } parse_json("[42]")[0] + l.len()"#;
    let job = job(Task::Run, script, &limits, Vec::new());
    let given = job.and_then(|job| {
        ask(lanes, job, &limits, |frame| match frame {
            FromWorker::Done(ending, _) => {
                told(ending, limits.result).map(Some).map_err(End::Failed)
            }
            FromWorker::Call(..)
            | FromWorker::NotGranted(..)
            | FromWorker::Print(_)
            | FromWorker::Sightings(_) => Err(End::Misbehaved),
        })
    });
    match given {
        Ok(tree) if tree.tokens() == [Token::Int(142)] => Ok(()),
        Ok(_) => Err("a sum came out wrong".to_owned()),
        Err(failure) => Err(failure.to_string()),
    }
}

/// One job and the frames that answer it: `read` says when that was the last.
fn ask<T>(
    lanes: &Lanes,
    job: Job,
    limits: &Limits,
    mut read: impl FnMut(FromWorker) -> Result<Option<T>, End>,
) -> Result<T, Failure> {
    let mut stage = lanes.stage(None, limits)?;
    let deadline = Instant::now() + Duration::from_millis(limits.wall_clock);
    let conversation = &mut stage.conversation;
    let hear = || {
        conversation.send(&ToWorker::Job(job), Some(deadline))?;
        loop {
            if let Some(answer) = read(conversation.receive(Some(deadline))?)? {
                return Ok(answer);
            }
        }
    };
    let heard = hear();
    leave(stage, heard, limits, 0).0
}

/// What the first script may hold, in bytes: a lane has at least this.
pub(crate) const SELF_TEST_BYTES: u64 = 1024 * 1024;

/// Gives the lane back or ends it, and says why there is no value, and how a process ended that was
/// cut off.
fn leave<T>(
    stage: Stage<'_>,
    heard: Result<T, End>,
    limits: &Limits,
    memory_bytes: u64,
) -> (Result<T, Failure>, Option<Ended>) {
    let end = match heard {
        Ok(value) => {
            stage.leave_well(memory_bytes);
            return (Ok(value), None);
        }
        Err(End::Failed(failure)) => {
            stage.leave_well(memory_bytes);
            return (Err(failure), None);
        }
        Err(end) => end,
    };
    let ended = stage.leave_badly(matches!(end, End::Gone));
    let failure = match end {
        End::Failed(failure) | End::Refused(failure) => failure,
        End::OutOfTime => lanes::out_of_time(limits),
        End::Gone => lanes::explain(ended.map(|ended| ended.status), limits),
        End::Misbehaved => {
            crate::serve::log("a worker broke the protocol and was ended");
            Failure::new(Code::Internal, "the worker failed")
        }
    };
    (Err(failure), ended)
}

/// Why a conversation stopped without a value.
enum End {
    /// The process said so, and has nothing more to say.
    Failed(Failure),
    /// The broker cut it off.
    Refused(Failure),
    OutOfTime,
    Gone,
    Misbehaved,
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

#[cfg(test)]
mod tests {
    use policy::Policy;

    use super::*;

    fn limits() -> Limits {
        Policy::parse("p", "version = 1\nservice.name = \"s\"\n").unwrap().limits().clone()
    }

    #[test]
    fn sizes_are_bounded_to_the_byte() {
        let limits = Limits { script: 10, ..limits() };
        let job_of = |bytes: &[u8]| job(Task::Run, bytes, &limits, Vec::new());
        assert!(job_of(&[b' '; 10]).is_ok());
        assert_eq!(job_of(&[b' '; 11]).err().unwrap().code, Code::LimitScriptSize);
        let tree = || Tree::new(vec![Token::Text("12345".to_owned())]).unwrap();
        let value = || Ending::Value(tree());
        let size = u64::try_from(tree().text_bytes()).unwrap();
        assert!(told(value(), size).is_ok());
        assert_eq!(told(value(), size - 1).err().unwrap().code, Code::LimitResult);
    }

    #[test]
    fn a_worker_that_does_not_read_is_late_and_one_that_is_gone_is_gone() {
        for kind in [io::ErrorKind::TimedOut, io::ErrorKind::WouldBlock] {
            assert!(matches!(End::from(io::Error::from(kind)), End::OutOfTime));
        }
        assert!(matches!(End::from(io::Error::from(io::ErrorKind::BrokenPipe)), End::Gone));
    }
}
