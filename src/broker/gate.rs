//! The way to the broker: open, or sealed until an operator brings the passphrase.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use keyspace::{KeyspaceError, Locked, Opening, Passphrase};
use policy::Policy;
use sandbox::{Launcher, LocalPeer};
use wire::admin::Reason;
use wire::request::{Reply, Request};
use wire::{Code, Hidden};

use crate::entry::Entry;
use crate::house::keep_house;
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

/// What requests and operators come to.
pub struct Gate {
    broker: OnceLock<Arc<Broker>>,
    sealed: Mutex<Option<Sealed>>,
    pub(crate) launcher: Arc<Launcher>,
    /// Scripts at once, which takes a restart to change.
    pub(crate) concurrent: usize,
    /// Largest reply body, in bytes, once a listener has said it.
    reply_bytes: AtomicU64,
}

impl Gate {
    /// A gate that stands open.
    #[must_use]
    pub fn open(broker: Broker) -> Arc<Self> {
        let launcher = Arc::clone(broker.lanes.launcher());
        let gate = Self::of(broker.policy().limits().concurrent, launcher, None);
        let _set = gate.broker.set(Arc::new(broker));
        Arc::new(gate)
    }

    /// A gate that is sealed.
    #[must_use]
    pub fn sealed(sealed: Sealed) -> Arc<Self> {
        let launcher = Arc::clone(sealed.lanes.launcher());
        let concurrent = sealed.policy.0.limits().concurrent;
        Arc::new(Self::of(concurrent, launcher, Some(sealed)))
    }

    fn of(concurrent: u64, launcher: Arc<Launcher>, sealed: Option<Sealed>) -> Self {
        Self {
            broker: OnceLock::new(),
            sealed: Mutex::new(sealed),
            launcher,
            concurrent: usize::try_from(concurrent).unwrap_or(1),
            reply_bytes: AtomicU64::new(u64::MAX),
        }
    }

    /// The broker, once there is one.
    pub(crate) fn broker(&self) -> Option<&Arc<Broker>> {
        self.broker.get()
    }

    /// The answer to a request.
    pub(crate) fn answer(&self, request: &Request) -> Reply {
        match self.broker() {
            Some(broker) => broker.answer(request),
            None => {
                unsigned(request, Code::Sealed, "the keyspace is sealed: its operator unseals it")
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
    ) -> Result<String, (Reason, String)> {
        let mut held = self.sealed.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(sealed) = held.take() else {
            return match self.broker() {
                Some(_) => Ok("the keyspace is unsealed already".to_owned()),
                None => {
                    Err((Reason::Integrity, "unsealing failed: start the service again".to_owned()))
                }
            };
        };
        let told = |error: &KeyspaceError| (error.reason(), error.to_string());
        let passphrase = match Passphrase::of(passphrase) {
            Ok(passphrase) => passphrase,
            Err(error) => {
                *held = Some(sealed);
                return Err(told(&error));
            }
        };
        let Sealed { policy, locked, opening, records, lanes } = sealed;
        let keyspace = match locked.try_unlock(&passphrase, opening) {
            Ok(keyspace) => keyspace,
            Err((locked, error)) => {
                // There is no key yet to sign a record of it with.
                log(&format!(
                    "process {} of user {} did not unseal the keyspace: {error}",
                    peer.pid, peer.uid
                ));
                *held = Some(Sealed { policy, locked: *locked, opening, records, lanes });
                return Err(told(&error));
            }
        };
        let broker = Broker::new(policy.0, &policy.1, keyspace, records, lanes);
        let opened = broker.and_then(|broker| {
            broker.record(&Entry::administered("unseal", peer.uid))?;
            Ok(Arc::new(broker))
        });
        match opened {
            Ok(broker) => {
                keep_house(&broker).map_err(|error| (Reason::Unavailable, error.to_string()))?;
                let text = "the keyspace is unsealed";
                log(text);
                // The file may have changed since the service was started.
                let _said = broker.reload_from_file();
                let broker = self.broker.get_or_init(|| broker);
                // After it can be seen: what a listener says meanwhile is not lost.
                broker.bound_replies(self.reply_bytes.load(Ordering::SeqCst));
                Ok(text.to_owned())
            }
            Err(error) => {
                let text = format!("{error}: mend it and start the service again");
                log(&text);
                Err((error.reason(), text))
            }
        }
    }
}

/// An answer without a proof: there is no key to sign it with.
fn unsigned(request: &Request, code: Code, text: &str) -> Reply {
    let outcome = Outcome::failed(Failure::new(code, text));
    let body = outcome.body(request.wants_json);
    Reply { ticket: request.ticket, proof: None, error: Some(code), body }
}
