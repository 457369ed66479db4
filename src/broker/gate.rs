//! The way to the broker: open, or sealed until an operator brings the passphrase.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keyspace::{KeyspaceError, Locked, Opening, Passphrase, Unlocked};
use policy::Policy;
use sandbox::{Launcher, LocalPeer};
use wire::admin::Reason;
use wire::done::{self, Done};
use wire::request::{Reply, Request};
use wire::{Code, Hidden};

use crate::entry::Entry;
use crate::house::keep_house;
use crate::identify::Arrival;
use crate::outcome::{Failure, Outcome};
use crate::serve::log;
use crate::{Broker, Lanes, Records};

/// Everything of a broker but the keys.
pub struct Sealed {
    /// The policy, and the text that it was parsed from.
    pub policy: (Policy, String),
    /// The keyspace, whose file is open.
    pub locked: Locked,
    /// How it is to be opened.
    pub opening: Opening,
    /// What is written besides it.
    pub records: Records,
    /// Where scripts run.
    pub lanes: Lanes,
}

/// What is behind the gate.
enum Way {
    /// Everything but the keys.
    Sealed(Box<Sealed>),
    Open(Arc<Broker>),
    /// A passphrase is being tried; or one was right, and what stands beside the keyspace is not.
    Broken,
}

/// What requests and operators come to.
pub struct Gate {
    way: Mutex<Way>,
    pub(crate) launcher: Arc<Launcher>,
    /// Scripts at once, which takes a restart to change.
    pub(crate) concurrent: usize,
    /// Largest reply body, in bytes, once a listener has said it.
    reply_bytes: AtomicU64,
    /// Whether the policy is to be read again once the way is open. Set only while one has the way, so that it is not set too late.
    is_reload_due: AtomicBool,
}

impl Gate {
    /// A gate that stands open.
    #[must_use]
    pub fn open(broker: Broker) -> Arc<Self> {
        let launcher = Arc::clone(broker.lanes.launcher());
        let concurrent = broker.policy().limits().concurrent;
        Arc::new(Self::of(concurrent, launcher, Way::Open(Arc::new(broker))))
    }

    /// A gate that is sealed.
    #[must_use]
    pub fn sealed(sealed: Sealed) -> Arc<Self> {
        let launcher = Arc::clone(sealed.lanes.launcher());
        let concurrent = sealed.policy.0.limits().concurrent;
        Arc::new(Self::of(concurrent, launcher, Way::Sealed(Box::new(sealed))))
    }

    fn of(concurrent: u64, launcher: Arc<Launcher>, way: Way) -> Self {
        Self {
            way: Mutex::new(way),
            launcher,
            concurrent: usize::try_from(concurrent).unwrap_or(1),
            reply_bytes: AtomicU64::new(u64::MAX),
            is_reload_due: AtomicBool::new(false),
        }
    }

    /// Held for a moment only, so that requests are answered while a passphrase is tried.
    fn way(&self) -> MutexGuard<'_, Way> {
        self.way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The broker, once there is one.
    pub(crate) fn broker(&self) -> Option<Arc<Broker>> {
        match &*self.way() {
            Way::Open(broker) => Some(Arc::clone(broker)),
            Way::Sealed(_) | Way::Broken => None,
        }
    }

    /// Reads the policy again, now or once there is a keyspace to serve. It says how it went.
    pub(crate) fn reload(&self) {
        let broker = match &*self.way() {
            Way::Open(broker) => Some(Arc::clone(broker)),
            Way::Sealed(_) | Way::Broken => {
                self.is_reload_due.store(true, Ordering::SeqCst);
                None
            }
        };
        match broker {
            Some(broker) => drop(broker.reload_from_file()),
            None => log("the keyspace is sealed: the policy is read again when it is unsealed"),
        }
    }

    /// Whose request this is, before it waits.
    pub(crate) fn receive(&self, request: Request) -> Arrival {
        match self.broker() {
            Some(broker) => broker.receive(request),
            None => Arrival::unproven(request),
        }
    }

    /// The answer to a request.
    pub(crate) fn answer(&self, arrival: &Arrival) -> Reply {
        match self.broker() {
            Some(broker) => broker.answer(arrival),
            None => {
                let text = "the keyspace is sealed: its operator unseals it";
                unsigned(&arrival.request, Code::Sealed, text)
            }
        }
    }

    /// Refuses a request that comes too late.
    pub(crate) fn decline(&self, request: &Request) -> Reply {
        let text = "the service is stopping: nothing was run";
        match self.broker() {
            Some(broker) => broker.decline(request, Failure::new(Code::ShuttingDown, text)),
            None => unsigned(request, Code::ShuttingDown, text),
        }
    }

    /// From now on, no reply body is larger than this.
    pub(crate) fn bound_replies(&self, bytes: u64) {
        self.reply_bytes.store(bytes, Ordering::SeqCst);
        if let Some(broker) = self.broker() {
            broker.bound_replies(bytes);
        }
    }

    /// Opens the keyspace, and the gate.
    pub(crate) fn unseal(
        &self,
        passphrase: &Hidden,
        peer: LocalPeer,
    ) -> Result<done::Outcome, (Reason, String)> {
        let Sealed { policy, locked, opening, records, lanes } = match self.take_sealed() {
            Ok(sealed) => *sealed,
            Err(answer) => return answer,
        };
        let keyspace = match unlock(locked, passphrase, opening) {
            Ok(keyspace) => keyspace,
            Err((locked, error)) => {
                // There is no key yet to sign a record of it with.
                log(&format!(
                    "process {} of user {} did not unseal the keyspace: {error}",
                    peer.pid, peer.uid
                ));
                let sealed = Sealed { policy, locked: *locked, opening, records, lanes };
                *self.way() = Way::Sealed(Box::new(sealed));
                return Err((error.reason(), error.to_string()));
            }
        };
        let broker = Broker::new(policy.0, &policy.1, keyspace, records, lanes);
        let recorded = broker.and_then(|broker| {
            broker.record(&Entry::administered("unseal", peer.uid))?;
            Ok(Arc::new(broker))
        });
        match recorded {
            Ok(broker) => self.open_to(&broker),
            Err(error) => {
                let text = format!("{error}: mend it and start the service again");
                log(&text);
                Err((error.reason(), text))
            }
        }
    }

    /// What is sealed, to be opened or put back; or what there is to say where nothing is.
    fn take_sealed(&self) -> Result<Box<Sealed>, Result<done::Outcome, (Reason, String)>> {
        let mut way = self.way();
        match std::mem::replace(&mut *way, Way::Broken) {
            Way::Sealed(sealed) => Ok(sealed),
            open @ Way::Open(_) => {
                *way = open;
                Err(Ok(Done::Unsealed(true).into()))
            }
            Way::Broken => {
                let text = "unsealing failed: start the service again".to_owned();
                Err(Err((Reason::Integrity, text)))
            }
        }
    }

    fn open_to(&self, broker: &Arc<Broker>) -> Result<done::Outcome, (Reason, String)> {
        keep_house(broker).map_err(|error| (Reason::Unavailable, error.to_string()))?;
        // By this nkey callers know the service; when it was started, nobody knew it.
        log(&format!("the keyspace is unsealed: the service is {}", broker.service_nkey()));
        // The file may have changed since the service was started.
        self.is_reload_due.store(false, Ordering::SeqCst);
        let _said = broker.reload_from_file();
        *self.way() = Way::Open(Arc::clone(broker));
        if self.is_reload_due.load(Ordering::SeqCst) {
            // And again since it was read.
            let _said = broker.reload_from_file();
        }
        // After it can be seen: what a listener says meanwhile is not lost.
        broker.bound_replies(self.reply_bytes.load(Ordering::SeqCst));
        Ok(Done::Unsealed(false).into())
    }
}

/// A keyspace that stays locked is given back.
fn unlock(
    locked: Locked,
    passphrase: &Hidden,
    opening: Opening,
) -> Result<Unlocked, (Box<Locked>, KeyspaceError)> {
    match Passphrase::of(passphrase) {
        Ok(passphrase) => locked.try_unlock(&passphrase, opening),
        Err(error) => Err((Box::new(locked), error)),
    }
}

/// The answer to a request that has no place among those that wait. The listener's own is like it: what a
/// flood is told costs no signature and no record.
pub(crate) fn crowded_out(request: &Request) -> Reply {
    unsigned(
        request,
        Code::Busy,
        "too many requests wait, or this one waits already: try again later",
    )
}

/// An answer without a proof.
fn unsigned(request: &Request, code: Code, text: &str) -> Reply {
    let outcome = Outcome::failed(Failure::new(code, text));
    let body = outcome.body(request.wants_json);
    Reply { ticket: request.ticket, proof: None, error: Some(code), body }
}
