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

/// Tells the operator of what failed, once for as long as it fails so.
fn tell(done: Result<(), AuditError>, told: &mut String) {
    let failed = done.err().map(|error| error.to_string()).unwrap_or_default();
    if !failed.is_empty() && failed != *told {
        log(&failed);
    }
    *told = failed;
}
