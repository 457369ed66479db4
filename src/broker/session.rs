//! One script's session: its bounds, what it has selected and staged, and the decision at every call.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::Instant;

use keyspace::{KeyspaceError, Staged};
use policy::{
    Act, Caller, Decision, Facts, Foresight, Known, Limits, Permit, Policy, Refusal, Target,
};
use wire::script::{Answer, Call, Position};
use wire::{CallName, Code, KeyPath, Name};

use crate::entry::Entry;
use crate::outcome::Failure;
use crate::{Broker, clock, lanes};

/// One script's session.
pub(crate) struct Session<'b> {
    pub(crate) broker: &'b Broker,
    policy: &'b Policy,
    id: &'b str,
    pub(crate) caller: &'b Caller,
    limits: &'b Limits,
    /// When the script must have ended, once it has begun.
    deadline: Option<Instant>,
    pub(crate) staged: Staged<'b>,
    pub(crate) space: Option<Name>,
    pub(crate) key: Option<KeyPath>,
    host_calls: u64,
    pub(crate) new_keys: u64,
    output: String,
    /// The private keys that were used.
    used: RefCell<BTreeSet<String>>,
}

/// Why a call has no value.
pub(crate) enum Stop {
    /// The script may catch it.
    Fault(String),
    /// The script has ended.
    End(Failure),
    /// The keyspace failed: the script has ended, and the operator is told why.
    Storage(KeyspaceError),
}

pub(crate) type Done<T> = Result<T, Stop>;

impl From<KeyspaceError> for Stop {
    fn from(error: KeyspaceError) -> Self {
        // What a key is not made for, a script can find out; anything else is the operator's to know.
        if let KeyspaceError::Unfit(what) = error {
            Self::Fault(what)
        } else {
            Self::Storage(error)
        }
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::End(failure)
    }
}

impl<'b> Session<'b> {
    pub(crate) fn new(
        broker: &'b Broker,
        policy: &'b Policy,
        id: &'b str,
        caller: &'b Caller,
        limits: &'b Limits,
    ) -> Result<Self, KeyspaceError> {
        Ok(Self {
            broker,
            policy,
            id,
            caller,
            limits,
            deadline: None,
            staged: broker.keyspace.stage()?,
            space: None,
            key: None,
            host_calls: 0,
            new_keys: 0,
            output: String::new(),
            used: RefCell::default(),
        })
    }

    /// The script has its process: its time runs.
    pub(crate) fn ends_at(&mut self, deadline: Instant) {
        self.deadline = Some(deadline);
        self.staged.ends_at(deadline);
    }

    pub(crate) fn host_calls(&self) -> u64 {
        self.host_calls
    }

    pub(crate) fn result_bytes(&self) -> u64 {
        self.limits.result
    }

    /// Whose script it is, unless it is anybody's.
    pub(crate) fn client(&self) -> Option<&'b str> {
        self.caller.nkey().map(|_| self.caller.name())
    }

    pub(crate) fn take_output(&mut self) -> String {
        std::mem::take(&mut self.output)
    }

    /// A private key was used.
    pub(crate) fn note_use(&self, path: &KeyPath) {
        self.used.borrow_mut().insert(path.to_string());
    }

    /// The private keys that were used, by name.
    pub(crate) fn take_used(&mut self) -> BTreeSet<String> {
        self.used.take()
    }

    pub(crate) fn into_staged(self) -> Staged<'b> {
        self.staged
    }

    /// Takes one printed line.
    pub(crate) fn print(&mut self, line: &str) -> Result<(), Failure> {
        let size = u64::try_from(self.output.len() + line.len() + 1).unwrap_or(u64::MAX);
        if size > self.limits.output {
            let text = format!("the script printed more than {} bytes", self.limits.output);
            return Err(Failure::new(Code::LimitOutput, text));
        }
        self.output.push_str(line);
        self.output.push('\n');
        Ok(())
    }

    /// Answers one call, or ends the script.
    pub(crate) fn call(&mut self, call: Call, at: Position) -> Result<Answer, Failure> {
        self.count_call().map_err(|failure| failure.at(at))?;
        match self.perform(call) {
            Ok(value) => Ok(Answer::Value(value)),
            Err(Stop::Fault(message)) => Ok(Answer::Fault(message)),
            Err(Stop::End(failure)) => Err(failure.at(at)),
            Err(Stop::Storage(KeyspaceError::OutOfTime)) => {
                Err(lanes::out_of_time(self.limits).at(at))
            }
            Err(Stop::Storage(error)) => Err(self.broker.storage_failure(&error).at(at)),
        }
    }

    /// A function was called that the script was not given.
    pub(crate) fn not_granted(&mut self, call: CallName, at: Position) -> Failure {
        let act = Act { call, target: Target::Nothing };
        let failure = match self.count_call() {
            Ok(()) => self.refuse(&act, &Refusal::NoRule { act: act.clone() }),
            Err(failure) => failure,
        };
        failure.at(at)
    }

    /// A listing has no target of its own: it may be asked for where it could show something.
    pub(crate) fn may_list(&self, call: CallName) -> Result<(), Failure> {
        match self.policy.foresee(self.caller, call, Known::default()) {
            Foresight::Certain | Foresight::Possible(_) => {
                let entry = Entry::listed(self.id, self.caller, call);
                self.broker.record(&entry)?;
                Ok(())
            }
            Foresight::Refused(_) => {
                let act = Act { call, target: Target::Nothing };
                Err(self.refuse(&act, &Refusal::NoRule { act: act.clone() }))
            }
        }
    }

    /// The decision, its terms, its record: what a key cannot be used without.
    pub(crate) fn permit(&self, call: CallName, target: Target, facts: Facts<'_>) -> Done<Permit> {
        let act = Act { call, target };
        match self.decide(act.clone(), facts)? {
            Decision::Refuse(refusal) => Err(self.refuse(&act, &refusal).into()),
            Decision::Allow(grant) => {
                // What is counted is recorded before anything else is: the counts can be had from the
                // log again. A thread that panicked with the book left whole uses in it.
                let mut book = self.broker.rates.lock().unwrap_or_else(PoisonError::into_inner);
                // Whoever waited for the book counts from now on, and not from before those who had it meanwhile.
                let spent = grant.at(clock::milliseconds()).spend(&mut book);
                let permit = spent.map_err(|refusal| self.refuse(&act, &refusal))?;
                let entry = Entry::allowed(self.id, self.caller, &permit);
                let recorded = self.broker.record(&entry);
                drop(book);
                recorded.map_err(Failure::from)?;
                Ok(permit)
            }
        }
    }

    /// What is about to leave, and to whom: on disk when this returns.
    pub(crate) fn record_export(
        &self,
        space: &Name,
        to: &[String],
        keys: usize,
        bundle: &[u8],
    ) -> Result<(), Failure> {
        let entry = Entry::exporting(self.id, self.caller, space, to, keys, bundle);
        self.broker.record(&entry)?;
        Ok(())
    }

    /// The decision at this moment.
    pub(crate) fn decide(&self, act: Act, facts: Facts<'_>) -> Result<Decision, KeyspaceError> {
        let now = clock::milliseconds();
        let algorithm = match (&act.target, facts.algorithm) {
            // Only where the decision turns on it: who may not know of a key must not learn of it from
            // the time that a look at it takes.
            (Target::Key(path), None) if self.policy.looks_at_algorithms(self.caller, &act) => {
                self.staged.algorithm(path)?
            }
            (_, told) => told,
        };
        Ok(self.policy.decide(self.caller, act, &Facts { algorithm, now, ..facts }))
    }

    fn refuse(&self, act: &Act, refusal: &Refusal) -> Failure {
        let entry = Entry::refused(self.id, self.caller, act, refusal);
        if let Err(error) = self.broker.record(&entry) {
            return error.into();
        }
        match refusal {
            Refusal::RateUsedUp { .. } | Refusal::UsesUsedUp { .. } => {
                Failure::new(Code::RateLimited, format!("`{}` was used too often", act.call))
            }
            Refusal::NoRule { .. } | Refusal::Denied { .. } | Refusal::Unmet { .. } => {
                let text = format!("the policy does not allow this use of `{}`", act.call);
                Failure::new(Code::PolicyDenied, text)
            }
        }
    }

    pub(crate) fn count_call(&mut self) -> Result<(), Failure> {
        self.host_calls += 1;
        if self.host_calls > self.limits.host_calls {
            let text = format!("more than {} calls of host functions", self.limits.host_calls);
            return Err(Failure::new(Code::LimitHostCalls, text));
        }
        Ok(())
    }

    /// For calls that do many things, between one and the next.
    pub(crate) fn in_time(&self) -> Result<(), Failure> {
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(lanes::out_of_time(self.limits));
        }
        Ok(())
    }

    pub(crate) fn room_for_new_key(&self) -> Result<(), Failure> {
        if self.new_keys >= self.limits.new_keys {
            let text = format!("more than {} new keys and key spaces", self.limits.new_keys);
            return Err(Failure::new(Code::LimitNewKeys, text));
        }
        Ok(())
    }
}
