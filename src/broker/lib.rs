//! The broker: verify proof → decide → run → audit → reply. The process that holds the keys. It has
//! no network, no script engine and no parser but that of its own frames and of request proofs.
#![forbid(unsafe_code)]

mod audit;
mod calls;
mod clock;
mod identify;
mod lane;
mod lanes;
mod outcome;
mod replay;
mod serve;
mod session;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use keyspace::{CommitError, Unlocked};
use policy::{Caller, Policy, RateBook};
use proof::Answered;
use wire::Code;
use wire::request::{MAX_REPLY_BYTES, ProofHeader, Reply, Request};
use wire::script::Task;

pub use audit::{Audit, AuditError};
pub use lane::check;
pub use lanes::{Lanes, LanesError};
pub use outcome::{Failure, Outcome, Usage};
pub use replay::ProofMark;
pub use serve::{ServeError, serve};

use crate::audit::Entry;
use crate::clock::Clock;
use crate::replay::ReplayWindow;
use crate::session::Session;

/// What the broker writes besides the keyspace.
pub struct Records {
    /// The audit log.
    pub audit: Audit,
    /// The mark of used proofs.
    pub mark: ProofMark,
}

/// Everything that a request needs.
pub struct Broker {
    policy: Policy,
    policy_digest: String,
    keyspace: Unlocked,
    audit: Audit,
    lanes: Lanes,
    rates: Mutex<RateBook>,
    replays: Mutex<ReplayWindow>,
    clock: Clock,
    /// Largest reply body, in bytes: what the NATS server of the listener takes.
    reply_bytes: AtomicUsize,
}

impl Broker {
    /// Puts a broker together. `policy_text` is what `policy` was parsed from.
    #[must_use]
    pub fn new(
        policy: Policy,
        policy_text: &str,
        keyspace: Unlocked,
        records: Records,
        lanes: Lanes,
    ) -> Self {
        let clock = Clock::start();
        Self {
            policy_digest: proof::digest(policy_text.as_bytes()),
            policy,
            keyspace,
            audit: records.audit,
            lanes,
            rates: Mutex::default(),
            replays: Mutex::new(ReplayWindow::new(clock.started(), records.mark)),
            clock,
            reply_bytes: AtomicUsize::new(usize::MAX),
        }
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The public nkey of the service.
    #[must_use]
    pub fn service_nkey(&self) -> &str {
        self.keyspace.service_nkey()
    }

    /// The life of one request: who asks, what it does, what it is told.
    pub fn answer(&self, request: &Request) -> Reply {
        let id = self.clock.request_id();
        let outcome = match self.identify(request) {
            Ok(caller) => self.execute(&id, &caller, &request.body, request.wants_json),
            Err(refusal) => {
                let entry = Entry::unidentified(&id, &request.body, &refusal);
                let failure = self.audit.record(&entry).err().map(Failure::from);
                Outcome::failed(failure.unwrap_or_else(|| refusal.public()))
            }
        };
        self.reply(request, &outcome)
    }

    /// Refuses a request that will not be looked at, signed like any other answer.
    pub(crate) fn decline(&self, request: &Request, failure: Failure) -> Reply {
        let id = self.clock.request_id();
        let recorded = self.audit.record(&Entry::declined(&id, &request.body, &failure));
        let failure = recorded.err().map_or(failure, Failure::from);
        self.reply(request, &Outcome::failed(failure))
    }

    /// From now on, no reply body is larger than this.
    pub(crate) fn bound_replies(&self, bytes: u64) {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.reply_bytes.store(bytes.min(MAX_REPLY_BYTES), Ordering::Relaxed);
    }

    /// Runs a script for somebody the policy knows: staged, committed if it ends well, recorded.
    fn execute(&self, id: &str, caller: &Caller, script: &[u8], as_json: bool) -> Outcome {
        let started = std::time::Instant::now();
        let (mut outcome, kept) = self.execute_staged(id, caller, script, as_json);
        outcome.usage.wall_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        match self.audit.record(&Entry::ended(id, caller, script, &outcome)) {
            Ok(()) => outcome,
            // What was kept was recorded before; to deny it now would be untrue.
            Err(error) if kept => {
                serve::log(&error.to_string());
                outcome
            }
            Err(error) => Outcome::failed(error.into()),
        }
    }

    /// Runs a script for a caller at the terminal.
    pub fn run(&self, caller: &Caller, script: &[u8]) -> Outcome {
        self.execute(&self.clock.request_id(), caller, script, true)
    }

    /// The outcome, and whether changes were kept.
    fn execute_staged(
        &self,
        id: &str,
        caller: &Caller,
        script: &[u8],
        as_json: bool,
    ) -> (Outcome, bool) {
        let caller = &caller.clone().running(script);
        if !self.policy.may_run(caller) {
            let text = "the policy does not allow this script to this caller";
            return (Outcome::failed(Failure::new(Code::PolicyDenied, text)), false);
        }
        let limits = self.policy.limits_for(caller);
        let job = match lane::job(Task::Run, script, &limits, self.policy.calls_for(caller)) {
            Ok(job) => job,
            Err(failure) => return (Outcome::failed(failure), false),
        };
        let mut session = match Session::new(self, id, caller, &limits) {
            Ok(session) => session,
            Err(error) => return (Outcome::failed(self.storage_failure(&error)), false),
        };
        let (ending, mut usage) = lane::run(&self.lanes, job, &limits, &mut session);
        usage.host_calls = session.host_calls();
        let outcome = Outcome { ending, output: session.take_output(), usage };
        // An answer that cannot be sent is found out before anything is kept.
        let mut outcome = outcome.fitted(self.reply_bytes.load(Ordering::Relaxed), as_json);
        let mut kept = false;
        if outcome.ending.is_ok() {
            match self.commit(id, caller, session) {
                Ok(changed) => kept = changed,
                Err(failure) => outcome.ending = Err(failure),
            }
        }
        (outcome, kept)
    }

    /// Keeps what a script changed, if anything. The records are on disk before the change that they
    /// tell of.
    fn commit(&self, id: &str, caller: &Caller, session: Session<'_>) -> Result<bool, Failure> {
        let staged = session.into_staged();
        if !staged.is_changed() {
            return Ok(false);
        }
        self.audit.record(&Entry::committing(id, caller))?;
        self.audit.sync()?;
        staged.commit(self.clock.seconds()).map_err(|error| match error {
            CommitError::Conflict(_) => Failure::new(Code::Conflict, error.to_string()),
            CommitError::Failed(error) => self.storage_failure(&error),
        })?;
        Ok(true)
    }

    /// The operator sees what is wrong with the keyspace; the caller sees that something is.
    fn storage_failure(&self, error: &keyspace::KeyspaceError) -> Failure {
        serve::log(&format!("keyspace: {error}"));
        Failure::new(Code::Internal, "the keyspace could not be used")
    }

    fn reply(&self, request: &Request, outcome: &Outcome) -> Reply {
        let body = outcome.body(request.wants_json);
        let error = outcome.ending.as_ref().err().map(|failure| failure.code);
        let req = match &request.proof {
            ProofHeader::One(proof) => proof::digest(proof.as_bytes()),
            ProofHeader::Absent | ProofHeader::Unusable => String::new(),
        };
        let answered = Answered {
            req,
            bh: proof::digest(&body),
            st: error.map_or("ok", Code::word).to_owned(),
            iat: self.clock.seconds(),
            script: proof::digest(&request.body),
            policy: self.policy_digest.clone(),
        };
        let sign = |input: &[u8]| self.keyspace.sign_as_service(input);
        let proof = proof::write_reply(self.service_nkey(), &answered, sign);
        Reply { ticket: request.ticket, proof, error, body }
    }
}
