//! `crypto-cli audit`: is the log as the service wrote it, and what does it tell?

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use broker::{AUDIT_LOG, AUDIT_MARK, AUDIT_USES, MOST_USES_BYTES};
use proof::{LogPlace, MAX_LINE_BYTES};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::args::{AuditShowArgs, AuditVerifyArgs, Format};
use crate::exit::{Exit, Fault};
use crate::{files, say};

/// How often the files of a log are listed again when one was begun meanwhile.
const MOST_LISTINGS: usize = 20;
/// Largest mark of a log's end, in bytes: more than a number, a digest and a signature take.
const MOST_MARK_BYTES: usize = 4096;

/// What a log looks like from outside.
#[derive(Default)]
struct Seen {
    /// The number of its first line.
    first: Option<u64>,
    /// Of the file that was read last.
    lines: u64,
    place: Option<LogPlace>,
    first_bad: Option<Bad>,
}

struct Bad {
    file: PathBuf,
    line: u64,
    why: String,
}

#[derive(Deserialize)]
struct Numbered {
    seq: u64,
}

#[derive(Deserialize)]
struct Opened {
    seq: u64,
    prev: String,
    service: Option<String>,
}

pub(crate) fn verify(args: &AuditVerifyArgs) -> Result<Exit, Fault> {
    let asked = args.service_nkey.as_deref().map(files::checked_nkey).transpose()?;
    let (notes, logs) = if args.files.is_empty() {
        let folder = files::home_path(args.home.as_deref())?;
        // Before the log: a service that runs writes on.
        let notes = Notes::beside(&folder)?;
        (Some(notes), open_all(&folder)?)
    } else {
        (None, args.files.iter().map(|path| open(path)).collect::<Result<Vec<_>, Fault>>()?)
    };
    let named = service_of(logs.first());
    let mut seen = Seen::default();
    let service = match (asked, named) {
        (Some(nkey), Ok(named)) if nkey != named && !args.continued => {
            let file = logs.first().map(|log| log.path.clone()).unwrap_or_default();
            let why = format!("the log of the service `{named}`, and not of `{nkey}`");
            seen.first_bad = Some(Bad { file, line: 1, why });
            nkey.to_owned()
        }
        (Some(nkey), _) => nkey.to_owned(),
        (None, named) => named?,
    };
    for log in &logs {
        if seen.first_bad.is_none() {
            read(log, &service, args.continued, &mut seen)?;
        }
    }
    if let (None, Some(notes), Some(log)) = (&seen.first_bad, &notes, logs.last()) {
        seen.first_bad = notes.missed(&seen, &service, log);
    }
    let end_is_known = notes.is_some_and(|notes| notes.mark.is_some());
    tell(&seen, &service, end_is_known, args)
}

fn tell(
    seen: &Seen,
    service: &str,
    end_is_known: bool,
    args: &AuditVerifyArgs,
) -> Result<Exit, Fault> {
    let last = seen.place.as_ref().map_or(0, |place| place.seq);
    let bad = seen.first_bad.as_ref();
    match args.format {
        Format::Json => {
            let bad = bad.map(|Bad { file, line, why }| {
                json!({ "file": file.display().to_string(), "line": line, "reason": why })
            });
            let told = json!({ "schema": 1, "good": bad.is_none(), "service": service, "first": seen.first,
                "last": last, "end_is_known": end_is_known, "first_bad": bad });
            say::line(&told.to_string())?;
        }
        Format::Text => match bad {
            Some(Bad { file, line, why }) => {
                say::talk(&format!("{}:{line}: {why}", file.display()));
            }
            None => {
                let lines = match seen.first {
                    Some(first) => format!("lines {first} to {last}"),
                    None => "no lines".to_owned(),
                };
                say::line(&format!("{lines}, all as the service `{service}` wrote them"))?;
                if args.service_nkey.is_none() {
                    say::talk(
                        "compare that nkey with the one that `init` printed, or use --service-nkey",
                    );
                }
                if !end_is_known {
                    say::talk(
                        "no mark of its end: lines that were cut off there would not be missed",
                    );
                }
            }
        },
    }
    Ok(if bad.is_some() { Exit::Integrity } else { Exit::Done })
}

/// Follows one file. Stops at the first line that is not the next.
fn read(log: &Log, service: &str, continued: bool, seen: &mut Seen) -> Result<(), Fault> {
    seen.lines = 0;
    for line in lines(log)? {
        let line = line?;
        seen.lines += 1;
        match next(&line, service, continued, seen.place.as_ref()) {
            Ok(place) => {
                seen.first = seen.first.or(Some(place.seq));
                seen.place = Some(place);
            }
            Err(why) => {
                seen.first_bad = Some(Bad { file: log.path.clone(), line: seen.lines, why });
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The place of the line that follows, or why it does not.
fn next(
    line: &[u8],
    service: &str,
    continued: bool,
    before: Option<&LogPlace>,
) -> Result<LogPlace, String> {
    let line = line.strip_suffix(b"\n").ok_or("its end is missing")?;
    let before = match before {
        Some(place) => place.clone(),
        None if continued => place_before(line)
            .ok_or("no file of a log begins with it: lines before it may be missing")?,
        None => LogPlace::start(),
    };
    before.read_next(line, service).map_err(|fault| fault.to_string())
}

/// Where a line says that it stands with which a file begins: for the first of a log that begins elsewhere.
fn place_before(line: &[u8]) -> Option<LogPlace> {
    let opened = serde_json::from_slice::<Opened>(line).ok()?;
    opened.service?;
    Some(LogPlace { seq: opened.seq.saturating_sub(1), line: opened.prev })
}

/// What stands beside a log and says how far it goes.
struct Notes {
    folder: PathBuf,
    mark: Option<String>,
    uses: Option<String>,
}

impl Notes {
    fn beside(log: &Path) -> Result<Self, Fault> {
        let note = |name, most| {
            let path = log.join(name);
            let note = path.exists().then(|| files::read_bounded(&path, most)).transpose();
            // What is no text is no note either.
            note.map(|note| note.map(|note| String::from_utf8(note).unwrap_or_default()))
        };
        let mark = note(AUDIT_MARK, MOST_MARK_BYTES)?;
        let most = usize::try_from(MOST_USES_BYTES).unwrap_or(usize::MAX);
        Ok(Self { folder: log.to_owned(), mark, uses: note(AUDIT_USES, most)? })
    }

    /// What they say of lines that a log does not have which ends in this file.
    fn missed(&self, seen: &Seen, service: &str, last: &Log) -> Option<Bad> {
        let of_note = |name: &str, why: &str| {
            Some(Bad { file: self.folder.join(name), line: 1, why: why.to_owned() })
        };
        let marked = match &self.mark {
            Some(mark) => LogPlace::of_mark(mark, service).ok(),
            // A service that has written a line has marked its end. Whoever cuts the log can remove the mark.
            None if seen.place.is_some() || self.uses.is_some() => {
                let why =
                    "the mark of the log's end, `audit.mark`, is missing: lines may be missing too";
                return of_note(AUDIT_MARK, why);
            }
            None => return None,
        };
        let Some(marked) = marked else {
            return of_note(AUDIT_MARK, "it is not as the service signed it");
        };
        // Of the two, a mark that was put back does not know the latest lines.
        let counted = match &self.uses {
            Some(uses) => broker::place_of_uses(uses, service),
            None => Some(LogPlace::start()),
        };
        let Some(counted) = counted else {
            return of_note(AUDIT_USES, "it is not as the service signed it");
        };
        let end = seen.place.clone().unwrap_or_else(LogPlace::start);
        let missing = [marked, counted].into_iter().filter(|place| !end.reaches(place));
        let up_to = missing.map(|place| place.seq).max()?;
        let why = format!("lines up to number {up_to} were written and are missing");
        Some(Bad { file: last.path.clone(), line: seen.lines + 1, why })
    }
}

pub(crate) fn show(args: &AuditShowArgs) -> Result<Exit, Fault> {
    let folder = files::home_path(args.home.as_deref())?;
    let since = args.since.as_deref().map(files::instant).transpose()?;
    let mut is_whole = true;
    for log in open_all(&folder)? {
        for line in lines(&log)? {
            let line = line?;
            let line = line.strip_suffix(b"\n").unwrap_or(&line);
            let Ok(entry) = serde_json::from_slice::<Value>(line) else {
                is_whole = false;
                continue;
            };
            let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default();
            let at = text("at").parse::<jiff::Timestamp>().ok();
            let is_late = since.is_none_or(|since| at.is_some_and(|at| at >= since));
            let is_theirs = args.client.as_deref().is_none_or(|client| text("client") == client);
            if is_late && is_theirs {
                show_one(line, &entry, args.format)?;
            }
        }
    }
    if !is_whole {
        say::talk("some lines cannot be read: `crypto-cli audit verify` says which");
    }
    Ok(Exit::Done)
}

fn show_one(line: &[u8], entry: &Value, format: Format) -> Result<(), Fault> {
    if format == Format::Json {
        // As it stands, so that its digest is the one that receipts and the next line name.
        return say::line(&String::from_utf8_lossy(line));
    }
    let words = [
        "at", "kind", "uid", "client", "call", "on", "to", "keys", "decision", "status", "rule",
        "reason",
    ];
    let words = words.iter().filter_map(|key| {
        let value = entry.get(*key)?;
        let list = value.as_array().map(|list| list.iter().filter_map(Value::as_str));
        let list = list.map(|list| format!("{key} {}", list.collect::<Vec<_>>().join(" ")));
        let number = || value.as_u64().map(|number| format!("{key} {number}"));
        list.or_else(number).or_else(|| value.as_str().map(str::to_owned))
    });
    // A reason may repeat what a caller sent.
    let line = words.collect::<Vec<_>>().join(" ");
    say::line(&wire::shown(&line, usize::MAX, false))
}

/// The digest of the line with this number, if the log has it.
pub(crate) fn digest_of(logs: &[PathBuf], seq: u64) -> Result<Option<String>, Fault> {
    for log in logs {
        for line in lines(&open(log)?)? {
            let line = line?;
            let line = line.strip_suffix(b"\n").unwrap_or(&line);
            let opened = serde_json::from_slice::<Numbered>(line);
            if opened.is_ok_and(|told| told.seq == seq) {
                return Ok(Some(proof::digest(line)));
            }
        }
    }
    Ok(None)
}

/// The files of a home's log, in their order.
pub(crate) fn logs_of(folder: &Path) -> Result<Vec<PathBuf>, Fault> {
    let unreadable =
        |error| Fault::usage(format!("cannot read the folder `{}`: {error}", folder.display()));
    let mut logs = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let last = entry.file_name().to_str().and_then(broker::last_line_of);
        logs.extend(last.map(|last| (last, entry.path())));
    }
    logs.sort();
    let current = folder.join(AUDIT_LOG);
    let logs: Vec<_> = logs.into_iter().map(|(_, path)| path).collect();
    if !current.exists() && logs.is_empty() {
        let text = format!("there is no audit log in `{}`", folder.display());
        if !folder.join(AUDIT_MARK).exists() {
            return Err(Fault::usage(text));
        }
        let text = format!(
            "{text}, though lines were written: put back the file that was moved, or restore the home from a backup"
        );
        return Err(Fault::new(Exit::Integrity, text));
    }
    Ok(logs.into_iter().chain(current.exists().then_some(current)).collect())
}

/// One file of a log.
struct Log {
    path: PathBuf,
    file: File,
}

fn open(path: &Path) -> Result<Log, Fault> {
    let file = File::open(path);
    let file = file.map_err(|e| Fault::usage(format!("cannot open `{}`: {e}", path.display())))?;
    Ok(Log { path: path.to_owned(), file })
}

/// All files of a home's log, as they were at one moment: a service that runs may begin another.
fn open_all(folder: &Path) -> Result<Vec<Log>, Fault> {
    for _ in 0..MOST_LISTINGS {
        let paths = logs_of(folder)?;
        let logs = paths.iter().map(|path| open(path)).collect::<Result<Vec<_>, Fault>>();
        if logs_of(folder)? == paths {
            return logs;
        }
    }
    Err(Fault::new(Exit::Unavailable, "files of the log are begun faster than they can be read"))
}

/// Whom the log itself names as its writer.
fn service_of(first: Option<&Log>) -> Result<String, Fault> {
    let line = first.map(lines).transpose()?.and_then(|mut lines| lines.next()).transpose()?;
    let opened = line.and_then(|line| serde_json::from_slice::<Opened>(&line).ok());
    opened.and_then(|opened| opened.service).ok_or_else(|| {
        let text = "the log does not begin with the name of its service: use --service-nkey";
        Fault::new(Exit::Integrity, text)
    })
}

/// The lines of a file with their ends, none longer than a line of a log may be.
fn lines(log: &Log) -> Result<impl Iterator<Item = Result<Vec<u8>, Fault>>, Fault> {
    let name = log.path.display().to_string();
    let unreadable = move |error| Fault::usage(format!("cannot read `{name}`: {error}"));
    let mut file = log.file.try_clone().map_err(&unreadable)?;
    file.rewind().map_err(&unreadable)?;
    let mut reader = BufReader::new(file);
    let most = u64::try_from(MAX_LINE_BYTES).unwrap_or(u64::MAX);
    Ok(std::iter::from_fn(move || {
        let mut line = Vec::new();
        match Read::take(&mut reader, most).read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) => Some(Ok(line)),
            Err(error) => Some(Err(unreadable(error))),
        }
    }))
}
