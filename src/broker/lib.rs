//! The broker: verify proof → decide → run → audit → reply. The process that holds the keys. It has
//! no network, no script engine, and no parsers but those that `SECURITY.md` lists.
#![forbid(unsafe_code)]

mod admin;
mod answers;
mod audit;
mod calls;
mod clock;
mod entry;
mod files;
mod gate;
mod house;
mod identify;
mod lane;
mod lanes;
mod link;
mod loaded;
mod operate;
mod outcome;
mod queue;
mod remote;
mod replay;
mod serve;
mod session;
mod uses;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use keyspace::{CommitError, KeyspaceError, Unlocked};
use policy::{Caller, Policy, RateBook};
use proof::{Answered, Form, LogPlace, MOST_KEYS};
use wire::Code;
use wire::request::{MAX_REPLY_BYTES, ProofHeader, Reply, Request};
use wire::script::Task;

pub use admin::AdminSocket;
pub use audit::{AUDIT_LOG, AUDIT_MARK, Audit, AuditError, last_line_of};
pub use gate::{Gate, Sealed};
pub use lane::check;
pub use lanes::{Lanes, LanesError};
pub use loaded::Loaded;
pub use operate::{Desk, OperateError, Standalone};
pub use outcome::{Failure, Outcome, Usage};
pub use replay::ProofMark;
pub use serve::{ServeError, serve};
pub use uses::{AUDIT_USES, MOST_USES_BYTES, place_of_uses};

use crate::answers::Answers;
use crate::clock::Clock;
use crate::entry::{Asker, Entry};
use crate::identify::{Arrival, Identified, Proven};
use crate::outcome::Done;
use crate::replay::ReplayWindow;
use crate::session::Session;

/// How long a script's changes wait for those of others: an operator's can take minutes, and lanes that waited for
/// that would serve nobody meanwhile.
const COMMIT_PATIENCE: Duration = Duration::from_secs(2);
/// What a caller is told when the keyspace failed.
const NOT_KEPT: &str = "the keyspace could not be used";
/// The disk did not say whether a change is on it.
const UNCONFIRMED: &str = "the change may have been kept or not: look before you ask again";

/// What the broker writes besides the keyspace.
pub struct Records {
    /// The audit log.
    pub audit: Audit,
    /// The mark of used proofs.
    pub mark: ProofMark,
}

/// Everything that a request needs.
pub struct Broker {
    loaded: RwLock<Arc<Loaded>>,
    /// Held while a policy is read again.
    reloading: Mutex<()>,
    keyspace: Unlocked,
    audit: Audit,
    lanes: Lanes,
    rates: Mutex<RateBook>,
    replays: Mutex<ReplayWindow>,
    answers: Mutex<Answers>,
    /// The line up to which uses were noted last. Held while they are.
    noted: Mutex<u64>,
    clock: Clock,
    /// Largest reply body, in bytes: what the NATS server of the listener takes.
    reply_bytes: AtomicUsize,
}

impl Broker {
    /// Puts a broker together, and goes on where the records ended. `policy_text` is what `policy` was
    /// parsed from.
    ///
    /// # Errors
    /// When the audit log cannot be written, or is not as it was left; or an accepted keyspace cannot be noted.
    pub fn new(
        policy: Policy,
        policy_text: &str,
        keyspace: Unlocked,
        records: Records,
        lanes: Lanes,
    ) -> Result<Self, OperateError> {
        let clock = Clock::start();
        let broker = Self {
            loaded: RwLock::new(Arc::new(Loaded::new(policy, policy_text))),
            reloading: Mutex::default(),
            keyspace,
            audit: records.audit,
            lanes,
            rates: Mutex::default(),
            replays: Mutex::new(ReplayWindow::new(clock.started(), records.mark)),
            answers: Mutex::default(),
            noted: Mutex::default(),
            clock,
            reply_bytes: AtomicUsize::new(usize::MAX),
        };
        let sign = |bytes: &[u8]| broker.keyspace.sign_as_service(bytes);
        // Everything is looked at before anything is written.
        broker.audit.find_end(broker.service_nkey())?;
        broker.recall_uses()?;
        broker.audit.begin(broker.service_nkey(), &sign)?;
        broker.record(&Entry::loaded(&broker.policy().digest))?;
        if let Some(what) = broker.keyspace.accepted() {
            broker.record(&Entry::accepted(what))?;
            broker.keyspace.acknowledge()?;
        }
        Ok(broker)
    }

    /// The policy that holds now. A request keeps the one that it began with.
    #[must_use]
    pub fn policy(&self) -> Arc<Loaded> {
        Arc::clone(&self.loaded.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on this policy holds, if it can: `text` is the file's.
    ///
    /// # Errors
    /// Why the last one holds on, for the operator.
    pub(crate) fn reload(&self, text: &str) -> Result<(), String> {
        let now = self.policy();
        let policy = Policy::parse(now.policy.file(), text).map_err(|found| found.to_string())?;
        let restarts = policy.restarts_for(&now.policy, self.lanes.memory());
        if !restarts.is_empty() {
            return Err(format!("what has changed takes a restart: {}", restarts.join(", ")));
        }
        let loaded = Loaded::new(policy, text);
        self.learn_uses(&loaded.policy).map_err(|error| error.to_string())?;
        self.record(&Entry::loaded(&loaded.digest)).map_err(|error| error.to_string())?;
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
        Ok(())
    }

    /// The public nkey of the service.
    #[must_use]
    pub fn service_nkey(&self) -> &str {
        self.keyspace.service_nkey()
    }

    /// The life of one request: who asks, what it does, what it is told.
    pub(crate) fn answer(&self, arrival: &Arrival) -> Reply {
        let id = self.clock.request_id();
        let loaded = self.policy();
        let request = &arrival.request;
        let (script, as_json) = (&request.body, request.wants_json);
        match self.identify(&loaded, arrival) {
            Ok(Identified::Anonymous(caller)) => {
                let done = self.execute(&loaded, &id, &caller, &Asker::Anybody, script, as_json);
                self.reply(&loaded, request, done)
            }
            Ok(Identified::New { by: Proven { caller, proof }, held_as }) => {
                let asker = Asker::Client { proof };
                let done = self.execute(&loaded, &id, &caller, &asker, script, as_json);
                let reply = self.reply(&loaded, request, done);
                if let Some(digest) = held_as {
                    self.answers().give(&digest, &reply);
                }
                reply
            }
            Ok(Identified::Again { by, given }) => {
                match self.record(&Entry::repeated(&id, script, &by)) {
                    Ok(_) => given.again(request.ticket),
                    Err(error) => {
                        let done = Done::failed(error.into(), as_json).told_to(&by.caller);
                        self.reply(&loaded, request, done)
                    }
                }
            }
            Err(refusal) => {
                let entry = Entry::unidentified(&id, script, &refusal);
                let done = self.refused(&entry, refusal.public(), as_json);
                let done = match refusal.by() {
                    Some(by) => done.told_to(&by.caller),
                    None => done,
                };
                self.reply(&loaded, request, done)
            }
        }
    }

    /// Refuses a request that will not be looked at, signed like any other answer.
    pub(crate) fn decline(&self, request: &Request, failure: Failure) -> Reply {
        let id = self.clock.request_id();
        let entry = Entry::declined(&id, &request.body, &failure);
        let done = self.refused(&entry, failure.clone(), request.wants_json);
        self.reply(&self.policy(), request, done)
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refused(&self, entry: &Entry<'_>, failure: Failure, as_json: bool) -> Done {
        match self.record(entry) {
            Ok(audit) => Done { audit, ..Done::failed(failure, as_json) },
            Err(error) => Done::failed(error.into(), as_json),
        }
    }

    /// Writes one record: where it stands in the log, if there is one.
    pub(crate) fn record(&self, entry: &Entry<'_>) -> Result<Option<LogPlace>, AuditError> {
        let sign = |bytes: &[u8]| self.keyspace.sign_as_service(bytes);
        self.audit.record(entry, self.service_nkey(), &sign)
    }

    /// Forgets answers whose proofs are too old to come again.
    pub(crate) fn forget_answers(&self) {
        self.answers().forget(clock::seconds());
    }

    /// Puts the records on disk, with notes of where they end: for when nothing more is served.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn close(&self) -> Result<(), AuditError> {
        self.mark_audit()?;
        self.note_uses()
    }

    /// Notes where the audit log ends.
    pub(crate) fn mark_audit(&self) -> Result<(), AuditError> {
        self.audit.mark(&|bytes: &[u8]| self.keyspace.sign_as_service(bytes))
    }

    /// From now on, no reply body is larger than this.
    pub(crate) fn bound_replies(&self, bytes: u64) {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.reply_bytes.store(bytes.min(MAX_REPLY_BYTES), Ordering::Relaxed);
    }

    /// Runs a script for somebody the policy knows: staged, committed if it ends well, recorded.
    fn execute(
        &self,
        loaded: &Loaded,
        id: &str,
        caller: &Caller,
        asker: &Asker,
        script: &[u8],
        as_json: bool,
    ) -> Done {
        let (outcome, kept, keys) =
            self.execute_staged(&loaded.policy, id, caller, script, as_json);
        let body = outcome.body(as_json);
        let entry = Entry::ended(id, caller, asker, script, &loaded.digest, &outcome, &body);
        let recorded = self.record(&entry);
        let done = match recorded {
            Ok(audit) => Done { audit, ..Done::of(outcome, body) },
            // What was kept was recorded before; to deny it now would be untrue.
            Err(error) if kept => {
                serve::log(&error.to_string());
                Done::of(outcome, body)
            }
            Err(error) => Done::failed(error.into(), as_json),
        };
        // Whatever came of it, these were used.
        Done { keys, ..done.told_to(caller) }
    }

    /// Runs a script as this caller, for a user at the terminal.
    pub fn run(&self, caller: &Caller, uid: u32, script: &[u8]) -> Outcome {
        let (id, asker) = (self.clock.request_id(), Asker::User { uid });
        self.execute(&self.policy(), &id, caller, &asker, script, true).outcome
    }

    /// The outcome, whether changes were kept, and the private keys that were used.
    fn execute_staged(
        &self,
        policy: &Policy,
        id: &str,
        caller: &Caller,
        script: &[u8],
        as_json: bool,
    ) -> (Outcome, bool, BTreeSet<String>) {
        let started = std::time::Instant::now();
        let nothing = |failure| (Outcome::failed(failure), false, BTreeSet::new());
        let caller = &caller.clone().running(script);
        if !policy.may_run(caller) {
            let text = "the policy does not allow this script to this caller";
            return nothing(Failure::new(Code::PolicyDenied, text));
        }
        let limits = policy.limits_for(caller);
        let job = match lane::job(Task::Run, script, &limits, policy.calls_for(caller)) {
            Ok(job) => job,
            Err(failure) => return nothing(failure),
        };
        let mut session = match Session::new(self, policy, id, caller, &limits) {
            Ok(session) => session,
            Err(error) => return nothing(self.storage_failure(&error)),
        };
        let (ending, mut usage) = lane::run(&self.lanes, job, &limits, &mut session);
        usage.host_calls = session.host_calls();
        usage.wall_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let used = session.take_used();
        let outcome = Outcome { ending, output: session.take_output(), usage };
        let most = self.reply_bytes.load(Ordering::Relaxed);
        // An answer that cannot be sent is found out before anything is kept.
        let mut outcome = outcome.fitted(most, as_json);
        let mut kept = false;
        if outcome.ending.is_ok() {
            match self.commit(id, caller, session) {
                Ok(changed) => kept = changed,
                Err(failure) => {
                    outcome = Outcome { ending: Err(failure), ..outcome }.fitted(most, as_json);
                }
            }
        }
        (outcome, kept, used)
    }

    /// Keeps what a script changed, if anything. The records are on disk before the change that they
    /// tell of.
    fn commit(&self, id: &str, caller: &Caller, session: Session<'_>) -> Result<bool, Failure> {
        let staged = session.into_staged();
        if !staged.is_changed() {
            return Ok(false);
        }
        if self.keyspace.is_lost() {
            return Err(Failure::new(Code::Internal, NOT_KEPT));
        }
        // Not `busy`, after which the same proof may be sent again.
        let Some(staged) = staged.in_turn(COMMIT_PATIENCE) else {
            let text = "another change of the keyspace takes long, so this one was not kept: try again later";
            return Err(Failure::new(Code::Conflict, text));
        };
        self.record(&Entry::committing(id, caller))?;
        staged.commit(clock::seconds()).map_err(|error| match error {
            CommitError::Conflict(_) => Failure::new(Code::Conflict, error.to_string()),
            CommitError::Failed(error) => self.storage_failure(&error),
        })?;
        Ok(true)
    }

    /// The operator sees what is wrong with the keyspace; the caller sees that something is.
    fn storage_failure(&self, error: &KeyspaceError) -> Failure {
        serve::log(&format!("keyspace: {error}"));
        let is_known = !matches!(error, KeyspaceError::Unconfirmed(_));
        Failure::new(Code::Internal, if is_known { NOT_KEPT } else { UNCONFIRMED })
    }

    fn reply(&self, loaded: &Loaded, request: &Request, done: Done) -> Reply {
        let error = done.outcome.ending.as_ref().err().map(|failure| failure.code);
        let req = match &request.proof {
            ProofHeader::One(proof) => proof::digest(proof.as_bytes()),
            ProofHeader::Absent | ProofHeader::Unusable => String::new(),
        };
        let answered = Answered {
            req,
            bh: proof::digest(&done.body),
            form: Form::wanted(request.wants_json),
            st: error.map_or("ok", Code::word).to_owned(),
            iat: clock::seconds(),
            script: proof::digest(&request.body),
            policy: loaded.digest.clone(),
            caller: done.caller,
            key_count: u64::try_from(done.keys.len()).unwrap_or(u64::MAX),
            keys: done.keys.into_iter().take(MOST_KEYS).collect(),
            audit: done.audit,
        };
        let sign = |input: &[u8]| self.keyspace.sign_as_service(input);
        let proof = proof::write_reply(self.service_nkey(), &answered, sign);
        Reply { ticket: request.ticket, proof: Some(proof), error, body: done.body }
    }
}
