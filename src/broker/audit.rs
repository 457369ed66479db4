//! The audit log: one JSON line for each decision, commit and request, written before its effect.
//! A record that the disk took only in part is a line that is not JSON; empty lines mean nothing.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use policy::{Act, Caller, Permit, Refusal, Target};
use serde::Serialize;
use wire::CallName;

use crate::identify::Unidentified;
use crate::outcome::{Failure, Outcome};

/// Where records go.
pub struct Audit {
    sink: Option<Mutex<Sink>>,
}

struct Sink {
    file: File,
    /// Whether the last line may be incomplete, because the disk took only a part of it.
    torn: bool,
}

/// The log cannot be written: nothing that needs a record may happen.
#[derive(Debug, thiserror::Error)]
#[error("audit log: {0}")]
pub struct AuditError(#[from] io::Error);

impl Audit {
    /// Appends to a file that only its owner can read.
    ///
    /// # Errors
    /// When it cannot be opened or made.
    pub fn open(path: &Path) -> Result<Self, AuditError> {
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create(true).mode(0o600).open(path)?;
        // A line that a process before us could not finish must not swallow our first one.
        let mut last = [b'\n'];
        if let Some(end) = file.metadata()?.len().checked_sub(1) {
            file.read_exact_at(&mut last, end)?;
        }
        let torn = last != [b'\n'];
        Ok(Self { sink: Some(Mutex::new(Sink { file, torn })) })
    }

    /// Keeps nothing: for a keyspace that is in memory and goes with the process.
    #[must_use]
    pub fn ephemeral() -> Self {
        Self { sink: None }
    }

    /// Writes one record.
    pub(crate) fn record(&self, entry: &Entry<'_>) -> Result<(), AuditError> {
        let Some(sink) = &self.sink else {
            return Ok(());
        };
        let mut line = serde_json::to_vec(entry).map_err(io::Error::other)?;
        line.push(b'\n');
        let mut sink = sink.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut sink.torn, true) {
            line.insert(0, b'\n');
        }
        sink.file.write_all(&line)?;
        sink.torn = false;
        Ok(())
    }

    /// Puts what was written on disk.
    pub(crate) fn sync(&self) -> Result<(), AuditError> {
        let Some(sink) = &self.sink else {
            return Ok(());
        };
        sink.lock().unwrap_or_else(PoisonError::into_inner).file.sync_data()?;
        Ok(())
    }
}

/// One record. These members and no others: no message, no signature, no key.
#[derive(Default, Serialize)]
pub(crate) struct Entry<'a> {
    at: String,
    kind: &'static str,
    request: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nkey: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    call: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    script: Option<String>,
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

    /// A decision that allowed.
    pub(crate) fn allowed(request: &'a str, caller: &'a Caller, permit: &Permit) -> Self {
        let (rule, line) = permit.rule();
        Self {
            client: Some(caller.name()),
            call: Some(permit.call().word()),
            on: named(permit.target()),
            decision: Some("allow"),
            rule: Some(format!("{rule} (line {line})")),
            ..Self::new("decision", request)
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
        Self { client: Some(caller.name()), ..Self::new("commit", request) }
    }

    /// A request that nobody could be identified for.
    pub(crate) fn unidentified(request: &'a str, script: &[u8], why: &Unidentified) -> Self {
        Self {
            status: Some(why.public().code.word()),
            reason: Some(why.to_string()),
            script: Some(proof::digest(script)),
            ..Self::new("request", request)
        }
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
        script: &[u8],
        outcome: &Outcome,
    ) -> Self {
        let failure = outcome.ending.as_ref().err();
        Self {
            client: Some(caller.name()),
            nkey: caller.nkey(),
            status: Some(failure.map_or("ok", |failure| failure.code.word())),
            script: Some(proof::digest(script)),
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
mod tests {
    use super::*;

    #[test]
    fn a_torn_line_does_not_swallow_the_next_record() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("audit.log");
        std::fs::write(&path, "{\"whole\":1}\n{\"torn\":").unwrap();
        let audit = Audit::open(&path).unwrap();
        audit.record(&Entry::new("request", "a")).unwrap();
        audit.record(&Entry::new("request", "b")).unwrap();
        drop(audit);
        Audit::open(&path).unwrap().record(&Entry::new("request", "c")).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 5, "{text}");
        let whole = |line: &&&str| serde_json::from_str::<serde_json::Value>(line).is_ok();
        assert_eq!(lines.iter().filter(whole).count(), 4, "{text}");
    }
}
