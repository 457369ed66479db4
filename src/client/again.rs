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
        // Where one try was not answered, the answers to others do not say what came of it.
        if !matches!(last, Some(Err(RequestFault::TimedOut { .. }))) {
            last = Some(answer);
        }
    }
    last.unwrap_or_else(|| Err(RequestFault::Failed("it was not sent".to_owned())))
}

/// Whether nothing else is to be expected: `is_only` if no other try is under way.
fn is_final(answer: &Result<Answer, RequestFault>, is_only: bool) -> bool {
    match answer {
        // There was no place, or another try is being executed.
        Ok(answer) => answer.error != Some(Code::Busy),
        Err(fault) => match fault {
            RequestFault::TimedOut { .. } => false,
            RequestFault::UnsignedError { code, .. } => *code != Code::Busy,
            // A service that stops takes nothing new, and answers what it has.
            RequestFault::NoResponders(_) => is_only,
            RequestFault::TooLarge { .. }
            | RequestFault::Unbelieved(_)
            | RequestFault::Unsigned
            | RequestFault::Failed(_) => true,
        },
    }
}

/// An answer that may have been given before has the time of then.
fn undated(mut answer: Answer) -> Answer {
    if let Some(proven) = &mut answer.proven {
        proven.clock_ahead = None;
    }
    answer
}
