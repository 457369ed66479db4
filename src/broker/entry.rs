//! What is recorded: these members and no others. No message, no signature, no key.

use std::borrow::Cow;

use keyspace::KeyspaceError;
use policy::{Act, Caller, Permit, Refusal, Target};
use serde::Serialize;
use wire::done::Done;
use wire::{CallName, Name};

use crate::identify::{Proven, Unidentified};
use crate::operate::Undone;
use crate::outcome::{Failure, Outcome};

/// The word of it.
pub(crate) const RELOAD: &str = "policy reload";

/// An act of an operator, as far as it is told.
pub(crate) struct Acted {
    word: &'static str,
    on: Option<String>,
    to: Vec<String>,
    changes_or_exports: bool,
}

impl Acted {
    pub(crate) fn of(act: &wire::operator::Act) -> Self {
        Self {
            word: act.word(),
            on: act.on(),
            to: act.to().to_vec(),
            changes_or_exports: act.changes_or_exports(),
        }
    }
}

/// Who had a script run, as whomever.
#[derive(Debug, Clone)]
pub(crate) enum Asker {
    /// A request without a proof.
    Anybody,
    /// The client, by a proof with this digest.
    Client { proof: String },
    /// A user of this machine, with the passphrase: `crypto-cli run`.
    User { uid: u32 },
}

/// One record.
#[derive(Default, Serialize)]
pub(crate) struct Entry<'a> {
    at: String,
    kind: &'static str,
    /// Whether what it tells of waits until it is on disk.
    #[serde(skip)]
    pub(crate) is_awaited: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    request: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nkey: Option<&'a str>,
    /// The digest of the proof that the request came with, where that verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    call: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on: Option<String>,
    /// To whom keys are exported.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    to: Cow<'a, [String]>,
    /// How many.
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    /// The accounts of the rates that it was counted in.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    counted: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    script: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'a str>,
    /// The user of an operator's command, and of `crypto-cli run`.
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    torn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wall_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host_calls: Option<u64>,
}

impl<'a> Entry<'a> {
    fn new(kind: &'static str, request: &'a str) -> Self {
        let at = jiff::Timestamp::now().to_string();
        Self { at, kind, request, ..Self::default() }
    }

    /// The first line of each process, and of each file. `torn` is what a process before this one
    /// could not finish: the line just before, which counts for nothing.
    pub(crate) fn opened(service: &'a str, torn: &[u8]) -> Self {
        let torn = (!torn.is_empty()).then(|| proof::digest(torn));
        Self { service: Some(service), torn, ..Self::new("opened", "") }
    }

    /// A policy that holds from now on.
    pub(crate) fn loaded(policy: &'a str) -> Self {
        Self { policy: Some(policy), ..Self::new("policy", "") }
    }

    /// What an operator asks of the running service, or does without one.
    pub(crate) fn administered(word: &'static str, uid: u32) -> Self {
        Self { call: Some(word), uid: Some(uid), ..Self::new("admin", "") }
    }

    /// The same of an act on the keyspace.
    pub(crate) fn operated(acted: &'a Acted, uid: u32) -> Self {
        let Acted { word, on, to, changes_or_exports: is_awaited } = acted;
        let is_awaited = *is_awaited;
        Self { is_awaited, on: on.clone(), to: to.into(), ..Self::administered(word, uid) }
    }

    /// A keyspace that is not the one that was here last, which its operator accepted.
    pub(crate) fn accepted(what: &str) -> Self {
        let what = Some(what.to_owned());
        Self { call: Some("accept-older"), reason: what, ..Self::new("admin", "") }
    }

    /// What came of it.
    pub(crate) fn done(acted: &'a Acted, uid: u32, done: &Result<Done, Undone>) -> Self {
        let status = match done {
            Ok(_) => "ok",
            Err(Undone { error: KeyspaceError::Unconfirmed(_), .. }) => "unconfirmed",
            Err(Undone { in_part: true, .. }) => "partial",
            Err(Undone { in_part: false, .. }) => "refused",
        };
        Self { is_awaited: false, status: Some(status), ..Self::operated(acted, uid) }
    }

    /// A policy that was asked for and does not hold.
    pub(crate) fn not_loaded(uid: u32) -> Self {
        Self { status: Some("refused"), ..Self::administered(RELOAD, uid) }
    }

    /// A decision that allowed.
    pub(crate) fn allowed(request: &'a str, caller: &'a Caller, permit: &'a Permit) -> Self {
        let (rule, line) = permit.rule();
        Self {
            client: Some(caller.name()),
            call: Some(permit.call().word()),
            on: named(permit.target()),
            decision: Some("allow"),
            rule: Some(format!("{rule} (line {line})")),
            counted: permit.accounts(),
            ..Self::new("decision", request)
        }
    }

    /// Keys that are about to leave.
    pub(crate) fn exporting(
        request: &'a str,
        caller: &'a Caller,
        space: &Name,
        to: &'a [String],
        keys: usize,
        bundle: &[u8],
    ) -> Self {
        Self {
            is_awaited: true,
            client: Some(caller.name()),
            on: Some(space.to_string()),
            to: to.into(),
            keys: Some(keys),
            result: Some(proof::digest(bundle)),
            ..Self::new("export", request)
        }
    }

    /// A listing that was allowed: each name that it shows is decided on its own.
    pub(crate) fn listed(request: &'a str, caller: &'a Caller, call: CallName) -> Self {
        Self {
            client: Some(caller.name()),
            call: Some(call.word()),
            decision: Some("allow"),
            ..Self::new("decision", request)
        }
    }

    /// A decision that refused.
    pub(crate) fn refused(
        request: &'a str,
        caller: &'a Caller,
        act: &Act,
        refusal: &Refusal,
    ) -> Self {
        Self {
            client: Some(caller.name()),
            call: Some(act.call.word()),
            on: named(&act.target),
            decision: Some("refuse"),
            reason: Some(refusal.to_string()),
            ..Self::new("decision", request)
        }
    }

    /// The changes of a script that are about to be kept.
    pub(crate) fn committing(request: &'a str, caller: &'a Caller) -> Self {
        Self { is_awaited: true, client: Some(caller.name()), ..Self::new("commit", request) }
    }

    /// A request that is not executed: nobody could be identified for it, or its proof was used up.
    pub(crate) fn unidentified(request: &'a str, script: &[u8], why: &'a Unidentified) -> Self {
        let by = match why.by() {
            Some(by) => Self::proven(by, request),
            None => Self::new("request", request),
        };
        Self {
            status: Some(why.public().code.word()),
            reason: Some(why.to_string()),
            script: Some(proof::digest(script)),
            ..by
        }
    }

    /// A request whose answer was given again.
    pub(crate) fn repeated(request: &'a str, script: &[u8], by: &'a Proven) -> Self {
        let script = Some(proof::digest(script));
        Self { status: Some("repeated"), script, ..Self::proven(by, request) }
    }

    fn proven(by: &'a Proven, request: &'a str) -> Self {
        let Proven { caller, proof } = by;
        let client = Some(caller.name());
        Self { client, nkey: caller.nkey(), proof: Some(proof), ..Self::new("request", request) }
    }

    /// A request that was not looked at.
    pub(crate) fn declined(request: &'a str, script: &[u8], failure: &Failure) -> Self {
        Self {
            status: Some(failure.code.word()),
            script: Some(proof::digest(script)),
            ..Self::new("request", request)
        }
    }

    /// The end of a request.
    pub(crate) fn ended(
        request: &'a str,
        caller: &'a Caller,
        asker: &'a Asker,
        script: &[u8],
        policy: &'a str,
        outcome: &Outcome,
        result: &[u8],
    ) -> Self {
        let failure = outcome.ending.as_ref().err();
        let (nkey, proof, uid) = match asker {
            Asker::Anybody => (None, None, None),
            Asker::Client { proof } => (caller.nkey(), Some(proof.as_str()), None),
            Asker::User { uid } => (None, None, Some(*uid)),
        };
        Self {
            client: Some(caller.name()),
            nkey,
            proof,
            uid,
            status: Some(failure.map_or("ok", |failure| failure.code.word())),
            script: Some(proof::digest(script)),
            policy: Some(policy),
            result: Some(proof::digest(result)),
            wall_us: Some(outcome.usage.wall_us),
            host_calls: Some(outcome.usage.host_calls),
            ..Self::new("request", request)
        }
    }
}

fn named(target: &Target) -> Option<String> {
    match target {
        Target::Nothing => None,
        Target::Space(space) => Some(space.to_string()),
        Target::Key(path) => Some(path.to_string()),
    }
}

#[cfg(test)]
#[path = "entry_tests.rs"]
mod tests;
