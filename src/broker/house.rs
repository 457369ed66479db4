//! What is done now and then for as long as there is a broker: records are put on disk, notes are taken, and what
//! has waited too long is ended.

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::Broker;
use crate::audit::AuditError;
use crate::serve::log;

/// How long a line of the audit log may be on its way to the disk, unless the policy wants each there
/// first.
const SYNC: Duration = Duration::from_millis(100);
/// How often lanes are looked at that wait, and where the audit log ends is noted.
const SWEEP_SYNCS: u32 = 20;
const MARK_SYNCS: u32 = 10;
/// How often it is noted what was used.
const NOTE: Duration = Duration::from_secs(60);

/// Keeps house for a broker until it is gone.
pub(crate) fn keep_house(broker: &Arc<Broker>) -> io::Result<()> {
    let (keeper, noter) = (Arc::downgrade(broker), Arc::downgrade(broker));
    std::thread::Builder::new().name("keeper".to_owned()).spawn(move || keep(&keeper))?;
    // A large note takes its time, which records do not have.
    std::thread::Builder::new().name("noter".to_owned()).spawn(move || note(&noter))?;
    Ok(())
}

fn keep(broker: &Weak<Broker>) {
    let mut told = String::new();
    for tick in 1_u32.. {
        std::thread::sleep(SYNC);
        let Some(broker) = broker.upgrade() else { return };
        let mut done = broker.audit.sync();
        if tick.is_multiple_of(MARK_SYNCS) {
            done = done.and_then(|()| broker.mark_audit());
        }
        // Not everything that failed is tried again at each tick.
        if done.is_err() || tick.is_multiple_of(MARK_SYNCS) {
            tell(done, &mut told);
        }
        if tick.is_multiple_of(SWEEP_SYNCS) {
            broker.lanes.sweep();
            broker.forget_answers();
        }
    }
}

fn note(broker: &Weak<Broker>) {
    let mut told = String::new();
    loop {
        std::thread::sleep(NOTE);
        let Some(broker) = broker.upgrade() else { return };
        tell(broker.note_uses(), &mut told);
    }
}

/// Tells the operator of what failed.
fn tell(done: Result<(), AuditError>, told: &mut String) {
    if let Some(news) = news(done, told) {
        log(&news);
    }
}

/// What failed, once for as long as it fails so.
fn news(done: Result<(), AuditError>, told: &mut String) -> Option<String> {
    let failed = done.err().map(|error| error.to_string()).unwrap_or_default();
    let is_news = !failed.is_empty() && failed != *told;
    told.clone_from(&failed);
    is_news.then_some(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operator_is_told_once_for_as_long_as_something_fails_so() {
        let mut told = String::new();
        let mut is_told = |what: Option<&str>| {
            let done = what.map_or(Ok(()), |what| Err(AuditError::Counts(what.to_owned())));
            news(done, &mut told).map(|news| news.contains(what.unwrap()))
        };
        assert_eq!(is_told(None), None);
        assert_eq!([is_told(Some("a")), is_told(Some("a"))], [Some(true), None]);
        assert_eq!([is_told(Some("b")), is_told(None), is_told(None)], [Some(true), None, None]);
        assert_eq!(is_told(Some("b")), Some(true), "it fails again");
    }
}
