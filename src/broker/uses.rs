//! What rates and quotas have counted, across restarts. The audit log tells of every use that is
//! counted; a note beside it has the counts up to some line of it, so that little must be read again.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use policy::{Policy, RateBook, Reach};
use proof::LogPlace;
use serde::{Deserialize, Serialize};

use crate::audit::{self, AuditError, damaged};
use crate::files::{read_small, replace};
use crate::{Broker, clock};

/// The note.
pub const AUDIT_USES: &str = "audit.uses";
/// Largest note, in bytes: some 700,000 accounts with the 100 times that are kept of each, or some 700 with 100,000,
/// which are the most.
pub const MOST_USES_BYTES: u64 = 1024 * 1024 * 1024;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    schema: u32,
    /// The line up to which everything is counted.
    place: LogPlace,
    accounts: Vec<Account>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Account {
    name: String,
    total: u64,
    /// Unix milliseconds.
    times: Vec<u64>,
    /// The widest windows that it ever had, or may have had. Notes of earlier programs do not say, nor do those that were written
    /// before a policy named the account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    windows: Option<Windows>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Windows {
    uses: usize,
    milliseconds: u64,
}

impl Note {
    /// Nothing if it is not as the service of this nkey signed it.
    fn read(text: &str, service_nkey: &str) -> Option<Self> {
        let note = proof::read_note(text, service_nkey).ok()?;
        serde_json::from_str(note).ok().filter(|note: &Self| note.schema == 1)
    }
}

/// The line up to which a note tells what was counted: a log that does not reach it was cut. Nothing if it is not
/// as the service of this nkey signed it.
#[must_use]
pub fn place_of_uses(note: &str, service_nkey: &str) -> Option<LogPlace> {
    Note::read(note, service_nkey).map(|note| note.place)
}

/// What a line of the log says of counts.
#[derive(Deserialize)]
struct Counted {
    at: String,
    #[serde(default)]
    counted: Vec<String>,
}

impl Broker {
    /// Puts the counts back as they were when the last process ended, however it ended.
    pub(crate) fn recall_uses(&self) -> Result<(), AuditError> {
        let Some((folder, end)) = self.audit.end() else { return Ok(()) };
        let mut book = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let mut place = LogPlace::start();
        if let Some(text) = read_small(&folder, AUDIT_USES, MOST_USES_BYTES)? {
            let damaged = AuditError::Counts("`audit.uses` is not as it was left".to_owned());
            let note = Note::read(&text, self.service_nkey()).ok_or(damaged)?;
            for Account { name, total, times, windows } in note.accounts {
                let reach =
                    windows.map(|Windows { uses, milliseconds }| Reach { uses, milliseconds });
                book.put_back(&name, total, times, reach);
            }
            place = note.place;
        }
        for path in files_after(&folder, place.seq)? {
            place = count(&path, place, &mut book, clock::milliseconds())?;
        }
        book.learn(&self.policy());
        book.trim(clock::milliseconds());
        if place == end {
            Ok(())
        } else {
            let next = place.seq.min(end.seq) + 1;
            Err(AuditError::Counts(format!("line {next} is missing")))
        }
    }

    /// Learns the windows of a policy that is to hold, and has them noted, also where the log has no line that the
    /// note does not count. What they may ask for is what is known now, also after a crash: the log alone has more.
    pub(crate) fn learn_uses(&self, policy: &Policy) -> Result<(), AuditError> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner).learn(policy);
        *self.noted.lock().unwrap_or_else(PoisonError::into_inner) = 0;
        self.note_uses()
    }

    /// Notes the counts up to now.
    pub(crate) fn note_uses(&self) -> Result<(), AuditError> {
        // One after the other: a later note is never replaced by an earlier one.
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if self.audit.end().is_some_and(|(_, end)| end.seq == *noted) {
            return Ok(());
        }
        let Some((folder, note)) = self.uses() else { return Ok(()) };
        // A note must not be ahead of the log.
        self.audit.sync()?;
        let text = serde_json::to_string(&note).map_err(std::io::Error::other)?;
        let sign = |bytes: &[u8]| self.keyspace.sign_as_service(bytes);
        let text = proof::write_note(&text, sign);
        // One that could not be read again would be worse than the one before it.
        if u64::try_from(text.len()).unwrap_or(u64::MAX) >= MOST_USES_BYTES {
            return Err(AuditError::Counts("they are too many for `audit.uses`".to_owned()));
        }
        replace(&folder, AUDIT_USES, text.as_bytes())?;
        *noted = note.place.seq;
        Ok(())
    }

    /// The counts of this moment, and the folder of the log.
    fn uses(&self) -> Option<(PathBuf, Note)> {
        // While the book is held, nothing is counted that the log does not tell of yet.
        let mut book = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let (folder, place) = self.audit.end()?;
        book.trim(clock::milliseconds());
        let windows = |Reach { uses, milliseconds }| Windows { uses, milliseconds };
        let accounts = book.accounts().map(|(name, used)| Account {
            name: name.to_owned(),
            total: used.total(),
            times: used.times().collect(),
            windows: used.reach().map(windows),
        });
        Some((folder, Note { schema: 1, place, accounts: accounts.collect() }))
    }
}

/// The log's files that have lines after this number, in their order.
fn files_after(folder: &Path, seq: u64) -> Result<Vec<PathBuf>, AuditError> {
    let mut rotated = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let last = entry.file_name().to_str().and_then(audit::last_line_of);
        rotated.extend(last.filter(|last| *last > seq).map(|last| (last, entry.path())));
    }
    rotated.sort();
    Ok(rotated.into_iter().map(|(_, path)| path).chain([folder.join(audit::AUDIT_LOG)]).collect())
}

/// Counts what the lines of a file tell of that come after a place: the place of its last line.
fn count(
    path: &Path,
    mut place: LogPlace,
    book: &mut RateBook,
    now: u64,
) -> Result<LogPlace, AuditError> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut line = Vec::new();
    loop {
        line.clear();
        let limit = u64::try_from(proof::MAX_LINE_BYTES).unwrap_or(u64::MAX);
        std::io::Read::take(&mut reader, limit).read_until(b'\n', &mut line)?;
        let Some(line) = line.strip_suffix(b"\n") else { return Ok(place) };
        let Ok(next) = place.follow(line) else { continue };
        let damaged = || damaged(format!("line {} of it cannot be read", next.seq));
        let told = serde_json::from_slice::<Counted>(line).map_err(|_| damaged())?;
        let at = told.at.parse::<jiff::Timestamp>().map_err(|_| damaged())?;
        // A clock that was ahead must not shut accounts until it is that late.
        let at = u64::try_from(at.as_millisecond()).unwrap_or_default().min(now);
        told.counted.iter().for_each(|account| book.recall(account, at));
        place = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_of_an_earlier_program_is_read_and_one_without_windows_is_written_as_it_was() {
        let old = "{\"name\":\"client c\",\"total\":3,\"times\":[1,2]}";
        let account: Account = serde_json::from_str(old).unwrap();
        assert!(account.windows.is_none());
        assert_eq!(serde_json::to_string(&account).unwrap(), old);
        let new = old.replace('}', ",\"windows\":{\"uses\":2,\"milliseconds\":1000}}");
        let account: Account = serde_json::from_str(&new).unwrap();
        assert_eq!(account.windows.map(|windows| windows.uses), Some(2));
    }
}
