//! The same request again, for as long as no answer comes: the service executes it once.

use std::time::Duration;

use async_nats::Client;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use wire::Code;

use crate::request::{Answer, Asked, RequestFault};

/// How long nothing is heard before it is sent again.
const TRY_PATIENCE: Duration = Duration::from_secs(5);
/// How long after nobody had a place for it.
const AGAIN_PAUSE: Duration = Duration::from_millis(500);
/// How long it is sent again: a service takes a proof for 30 seconds, less what clocks may differ by.
const AGAIN_WITHIN: Duration = Duration::from_secs(25);

/// Every try is listened to until the end: the answer to a long script comes to the one that it was run for.
pub(crate) async fn persist(asked: &Asked<'_>, client: &Client) -> Result<Answer, RequestFault> {
    let started = Instant::now();
    let until = started + asked.asking.patience;
    let last_try = until.min(started + AGAIN_WITHIN);
    let (mut tries, mut sent, mut next) = (JoinSet::new(), 0_usize, started);
    let mut last = None;
    loop {
        let heard = tokio::select! {
            () = sleep_until(next), if next <= last_try => {
                tries.spawn(asked.send(client, until.saturating_duration_since(Instant::now())));
                (sent, next) = (sent + 1, Instant::now() + TRY_PATIENCE);
                continue;
            }
            Some(heard) = tries.join_next() => heard,
            else => break,
        };
        let heard = heard.unwrap_or_else(|error| Err(RequestFault::Failed(error.to_string())));
        let answer = asked.believe(heard);
        if is_final(&answer, tries.is_empty()) {
            return answer.map(|answer| if sent > 1 { undated(answer) } else { answer });
        }
        if tries.is_empty() {
            next = next.min(Instant::now() + AGAIN_PAUSE);
        }
        // Where nobody knows what came of one try, the answers to others do not say it.
        if !last.as_ref().is_some_and(is_unknown) {
            last = Some(answer);
        }
    }
    last.unwrap_or_else(|| Err(RequestFault::Failed("it was not sent".to_owned())))
}

/// Whether nobody knows what came of it: the listener lost its broker, or there was no answer at all.
fn is_unknown(answer: &Result<Answer, RequestFault>) -> bool {
    use RequestFault::{TimedOut, UnsignedError};
    matches!(answer, Err(TimedOut { .. } | UnsignedError { code: Code::Internal, .. }))
}

/// Whether nothing else is to be expected: `is_only` if no other try is under way.
fn is_final(answer: &Result<Answer, RequestFault>, is_only: bool) -> bool {
    match answer {
        Ok(answer) => answer.error.is_none_or(|code| ends_all(code, is_only)),
        Err(fault) => match fault {
            RequestFault::TimedOut { .. } => false,
            // The broker may be executing it, and may still answer it.
            RequestFault::UnsignedError { code: Code::Internal, .. } => false,
            RequestFault::UnsignedError { code, .. } => ends_all(*code, is_only),
            // A service that stops takes nothing new, and answers what it has.
            RequestFault::NoResponders(_) => is_only,
            RequestFault::TooLarge { .. }
            | RequestFault::Unbelieved(_)
            | RequestFault::Unsigned
            | RequestFault::Failed(_) => true,
        },
    }
}

/// Whether this is what came of the script, and not of one try to have it run.
fn ends_all(code: Code, is_only: bool) -> bool {
    match code {
        // There was no place, or another try is being executed.
        Code::Busy => false,
        // So a later try is refused while an earlier one is being executed: the policy was read again since, the
        // service stops, or it waited for too long.
        Code::Replayed
        | Code::Unauthenticated
        | Code::ShuttingDown
        | Code::Sealed
        | Code::AuditUnavailable => is_only,
        Code::ParseError
        | Code::ScriptError
        | Code::PolicyDenied
        | Code::LimitScriptSize
        | Code::LimitOperations
        | Code::LimitMemory
        | Code::LimitTime
        | Code::LimitDepth
        | Code::LimitHostCalls
        | Code::LimitNewKeys
        | Code::LimitOutput
        | Code::LimitResult
        | Code::RateLimited
        | Code::Conflict
        | Code::Internal => true,
    }
}

/// An answer that may have been given before has the time of then.
fn undated(mut answer: Answer) -> Answer {
    if let Some(proven) = &mut answer.proven {
        proven.clock_ahead = None;
    }
    answer
}
