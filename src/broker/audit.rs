//! The audit log: one signed line of JSON for each decision, commit and request, written before its
//! effect. `AUDIT.md` in `src/proof` has the format.

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use policy::AuditTerms;
use proof::{LogPlace, MAX_LINE_BYTES};
use wire::admin::Reason;

use crate::entry::Entry;
use crate::files::{read_small, replace};

/// The log that is written.
pub const AUDIT_LOG: &str = "audit.log";
/// Where the log ended a short while ago, signed: a log that ends before was cut.
pub const AUDIT_MARK: &str = "audit.mark";
/// Largest mark, in bytes: a number, a digest and a signature take 153.
const MOST_MARK_BYTES: u64 = 256;

/// Where records go.
pub struct Audit {
    sink: Option<Mutex<Sink>>,
    terms: AuditTerms,
}

struct Sink {
    folder: PathBuf,
    /// None where there ought to be one: it is made once the log is known to end where it was left.
    file: Option<File>,
    bytes: u64,
    place: LogPlace,
    /// Bytes after the last whole line, because the disk took only a part of one.
    torn: Vec<u8>,
    is_on_disk: bool,
    is_marked: bool,
    /// The disk could not take what was written before, and nobody knows what it has of it.
    is_lost: bool,
}

/// The log cannot be written: nothing that needs a record may happen.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The system refused something.
    #[error("audit log: {0}")]
    Io(#[from] io::Error),
    /// Its end is not what was written.
    #[error("audit log: {0}: `crypto-cli audit verify` says more")]
    Damaged(Cow<'static, str>),
    /// It does not go with what rates and quotas have counted.
    #[error("audit log: {0}: what rates and quotas have counted is not known")]
    Counts(String),
}

impl AuditError {
    /// The kind of it.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Io(_) => Reason::Unavailable,
            Self::Damaged(_) | Self::Counts(_) => Reason::Integrity,
        }
    }
}

type Sign<'s> = &'s dyn Fn(&[u8]) -> [u8; 64];

impl Audit {
    /// Opens the log in a folder, or makes it where there was none. Only its owner can read it.
    ///
    /// # Errors
    /// When it cannot be opened or made.
    pub fn open(folder: &Path, terms: AuditTerms) -> Result<Self, AuditError> {
        let path = folder.join(AUDIT_LOG);
        let file = if folder.join(AUDIT_MARK).exists() && !path.exists() {
            None
        } else {
            Some(append_to(&path)?)
        };
        let bytes = file.as_ref().map_or(Ok(0), |file| file.metadata().map(|found| found.len()))?;
        // A file whose name is not on disk is lost with the power.
        File::open(folder)?.sync_all()?;
        let sink = Sink {
            folder: folder.to_owned(),
            file,
            bytes,
            place: LogPlace::start(),
            torn: Vec::new(),
            is_on_disk: false,
            is_marked: false,
            is_lost: false,
        };
        Ok(Self { sink: Some(Mutex::new(sink)), terms })
    }

    /// Keeps nothing: for a keyspace that is in memory and goes with the process.
    #[must_use]
    pub fn ephemeral() -> Self {
        Self { sink: None, terms: AuditTerms::default() }
    }

    /// Finds the end of the log and sees that it is where it was left. No line is written.
    pub(crate) fn find_end(&self, service_nkey: &str) -> Result<(), AuditError> {
        let Some(mut sink) = self.sink() else { return Ok(()) };
        sink.find_end(service_nkey)?;
        sink.compare_with_mark(service_nkey)?;
        if sink.file.is_none() {
            sink.file = Some(append_to(&sink.folder.join(AUDIT_LOG))?);
            File::open(&sink.folder)?.sync_all()?;
        }
        Ok(())
    }

    /// Says that a process begins.
    pub(crate) fn begin(&self, service_nkey: &str, sign: Sign<'_>) -> Result<(), AuditError> {
        let Some(mut sink) = self.sink() else { return Ok(()) };
        // There is no line without a mark: one that is missing was removed.
        sink.mark(sign)?;
        let torn = std::mem::take(&mut sink.torn);
        if !torn.is_empty() {
            sink.file()?.set_len(sink.bytes)?;
        }
        sink.write(&Entry::opened(service_nkey, &torn), sign)?;
        sink.mark(sign)
    }

    /// Writes one record, on disk if what it tells of waits for that: where it stands, unless there is no log.
    pub(crate) fn record(
        &self,
        entry: &Entry<'_>,
        service_nkey: &str,
        sign: Sign<'_>,
    ) -> Result<Option<LogPlace>, AuditError> {
        let Some(mut sink) = self.sink() else { return Ok(None) };
        if sink.bytes >= self.terms.rotate_bytes {
            sink.rotate(service_nkey, sign)?;
        }
        sink.write(entry, sign)?;
        if self.terms.each_line || entry.is_awaited {
            sink.sync()?;
        }
        Ok(Some(sink.place.clone()))
    }

    /// Puts what was written on disk.
    pub(crate) fn sync(&self) -> Result<(), AuditError> {
        self.sink().map_or(Ok(()), |mut sink| sink.sync())
    }

    /// Notes where the log ends now, once that is on disk.
    pub(crate) fn mark(&self, sign: Sign<'_>) -> Result<(), AuditError> {
        self.sink().map_or(Ok(()), |mut sink| sink.mark(sign))
    }

    /// The folder of the log, and where it ends.
    pub(crate) fn end(&self) -> Option<(PathBuf, LogPlace)> {
        self.sink().map(|sink| (sink.folder.clone(), sink.place.clone()))
    }

    fn sink(&self) -> Option<MutexGuard<'_, Sink>> {
        self.sink.as_ref().map(|sink| sink.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Sink {
    fn file(&self) -> io::Result<&File> {
        self.file.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn find_end(&mut self, service_nkey: &str) -> Result<(), AuditError> {
        let (mut end, from) = match &self.file {
            Some(file) => last_of(file, self.bytes)?,
            None => (Vec::new(), 0),
        };
        let whole = end.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.torn = end.split_off(whole);
        self.bytes = from + u64::try_from(whole).unwrap_or(0);
        if end.is_empty() {
            // It was begun and nothing was written yet: the last line is that of the file before.
            let Some(before) = last_rotated(&self.folder)? else { return Ok(()) };
            let before = File::open(before)?;
            (end, _) = last_of(&before, before.metadata()?.len())?;
        }
        let lines = end.strip_suffix(b"\n").unwrap_or(&end);
        let last = lines.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        self.place = LogPlace::read(last, service_nkey)
            .map_err(|_| damaged("its last line is not as this service signed it"))?;
        // A line that lacks only its end was written.
        if let Ok(place) = self.place.read_next(&self.torn, service_nkey) {
            self.file()?.write_all(b"\n")?;
            self.bytes += u64::try_from(self.torn.len() + 1).unwrap_or(0);
            self.place = place;
            self.torn.clear();
        }
        Ok(())
    }

    fn compare_with_mark(&self, service_nkey: &str) -> Result<(), AuditError> {
        let Some(mark) = read_small(&self.folder, AUDIT_MARK, MOST_MARK_BYTES)? else {
            let missing = || damaged("the mark of its end, `audit.mark`, is missing");
            return (self.place.seq == 0).then_some(()).ok_or_else(missing);
        };
        let mark = LogPlace::of_mark(&mark, service_nkey)
            .map_err(|_| damaged("the mark of its end, `audit.mark`, is not as it was left"))?;
        let is_there = self.place.reaches(&mark);
        is_there.then_some(()).ok_or(damaged(
            "it ends before lines that were written: put back the file that was moved, or restore the home from a \
             backup",
        ))
    }

    fn write(&mut self, entry: &Entry<'_>, sign: Sign<'_>) -> Result<(), AuditError> {
        self.check_disk()?;
        // What the disk took of a line that it could not take whole is dropped before the next.
        if !self.torn.is_empty() {
            self.file()?.set_len(self.bytes)?;
            self.torn.clear();
        }
        let (mut line, place) = self.place.write_next(entry, sign);
        line.push('\n');
        if line.len() > MAX_LINE_BYTES {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge).into());
        }
        self.torn = vec![0];
        self.is_on_disk = false;
        self.is_marked = false;
        self.file()?.write_all(line.as_bytes())?;
        self.torn.clear();
        self.bytes += u64::try_from(line.len()).unwrap_or(0);
        self.place = place;
        Ok(())
    }

    /// Begins a new file. The old one is named for the number of its last line. If it cannot be done,
    /// everything is as it was, or nobody knows what the disk has of it.
    fn rotate(&mut self, service_nkey: &str, sign: Sign<'_>) -> Result<(), AuditError> {
        self.sync()?;
        let old = self.folder.join(rotated(self.place.seq));
        let (current, beside) = (self.folder.join(AUDIT_LOG), self.folder.join("audit.log.new"));
        if old.exists() {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists).into());
        }
        let (line, place) = self.place.write_next(&Entry::opened(service_nkey, &[]), sign);
        let line = line + "\n";
        let mut file = append_to(&beside)?;
        file.set_len(0)?;
        file.write_all(line.as_bytes())?;
        file.sync_data()?;
        std::fs::rename(&current, &old)?;
        if let Err(error) = std::fs::rename(&beside, &current) {
            std::fs::rename(&old, &current)?;
            return Err(error.into());
        }
        self.file = Some(file);
        self.bytes = u64::try_from(line.len()).unwrap_or(0);
        self.place = place;
        self.is_marked = false;
        self.is_lost = true;
        File::open(&self.folder)?.sync_all()?;
        self.is_lost = false;
        Ok(())
    }

    /// The kernel tells of a failure once, and takes the pages for written then.
    fn check_disk(&self) -> Result<(), AuditError> {
        if self.is_lost {
            return Err(io::Error::other("the disk has lost records: restart the service").into());
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), AuditError> {
        self.check_disk()?;
        if !self.is_on_disk {
            self.is_lost = true;
            self.file()?.sync_data()?;
            (self.is_on_disk, self.is_lost) = (true, false);
        }
        Ok(())
    }

    fn mark(&mut self, sign: Sign<'_>) -> Result<(), AuditError> {
        if self.is_marked {
            return Ok(());
        }
        self.sync()?;
        replace(&self.folder, AUDIT_MARK, self.place.mark(sign).as_bytes())?;
        self.is_marked = true;
        Ok(())
    }
}

/// The name of a file whose last line has this number.
fn rotated(last: u64) -> String {
    format!("audit-{last:012}.log")
}

/// The number of the last line of a rotated file of this name.
#[must_use]
pub fn last_line_of(name: &str) -> Option<u64> {
    let last = name.strip_prefix("audit-")?.strip_suffix(".log")?.parse().ok()?;
    (rotated(last) == name).then_some(last)
}

/// The last bytes of a file that has so many, enough for the longest line and a part of another, and where
/// they begin.
fn last_of(file: &File, bytes: u64) -> io::Result<(Vec<u8>, u64)> {
    let window = 2 * u64::try_from(MAX_LINE_BYTES).unwrap_or(u64::MAX);
    let from = bytes.saturating_sub(window);
    let mut end = vec![0; usize::try_from(bytes - from).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut end, from)?;
    Ok((end, from))
}

pub(crate) fn damaged(what: impl Into<Cow<'static, str>>) -> AuditError {
    AuditError::Damaged(what.into())
}

/// The file that was rotated last.
fn last_rotated(folder: &Path) -> io::Result<Option<PathBuf>> {
    let mut last = None;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let number = entry.file_name().to_str().and_then(last_line_of);
        last = last.max(number.map(|number| (number, entry.path())));
    }
    Ok(last.map(|(_, path)| path))
}

fn append_to(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let opened = options.read(true).append(true).create(true).mode(0o600).open(path);
    opened.map_err(|error| io::Error::new(error.kind(), format!("`{}`: {error}", path.display())))
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
