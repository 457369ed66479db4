//! What an operator's command does: by the service that holds the home, or by itself.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use broker::{Audit, AuditSettings, Desk, Standalone};
use keyspace::{Home, Locked, Opening, Source};
use policy::Policy;
use sandbox::LocalPeer;
use serde_json::{Value, json};
use wire::admin::{KeyRow, Row, SpaceRow, ToAdmin};
use wire::operator::{Act, KdfCost, SlotKind};
use wire::{Hidden, KeyPath, KeyState, Name};

use crate::admin::Service;
use crate::args::{Format, Kdf, OpenArgs, OperateArgs, Slot, Unlock};
use crate::exit::{Exit, Fault};
use crate::{files, passphrase, say};

/// Columns of a bar.
const BAR: u64 = 30;

/// Does it, and prints what comes of it.
pub(crate) fn operate(args: &OperateArgs, act: Act, files: Files) -> Result<Exit, Fault> {
    operate_with(args, act, None, files)
}

/// The same, where the passphrase was read already.
pub(crate) fn operate_with(
    args: &OperateArgs,
    act: Act,
    current: Option<Hidden>,
    files: Files,
) -> Result<Exit, Fault> {
    let listed = if matches!(act, Act::ListKeys(_)) {
        Some("keys")
    } else if matches!(act, Act::ListSpaces) {
        Some("key_spaces")
    } else {
        None
    };
    let mut desk = Terminal { rows: Vec::new(), files, has_bar: false };
    let done = perform(&args.unlock, act, current, &mut desk);
    desk.end_bar();
    let text = done?;
    if let Some(output) = desk.files.output.take() {
        output.finish()?;
    }
    desk.rows.sort_by_key(place);
    print(args.format, &desk.rows, listed, &text)?;
    Ok(Exit::Done)
}

fn perform(
    unlock: &Unlock,
    act: Act,
    current: Option<Hidden>,
    desk: &mut Terminal,
) -> Result<String, Fault> {
    let home = Home::open(&files::home_path(unlock.home.as_deref())?)?;
    if let Some(mut service) = Service::reach(home.path())? {
        return service.ask(&ToAdmin::Act(act), desk);
    }
    let locked = Locked::open(&home)?;
    let current = current.map_or_else(|| passphrase::hidden(&unlock.passphrase), Ok)?;
    let keyspace = locked.unlock(&passphrase::unhidden(&current)?, unlock.open.opening())?;
    let audit = Audit::open(home.path(), settings(&home));
    let audit = audit.map_err(|error| Fault::system("cannot open the audit log", &error))?;
    let uid = LocalPeer::this().uid;
    Ok(Standalone::new(keyspace, audit).perform(act, uid, files::now(), desk)?)
}

/// As the policy in the home has them, if there is a good one.
fn settings(home: &Home) -> AuditSettings {
    let text = fs::read_to_string(home.file("policy.toml")).unwrap_or_default();
    let terms = Policy::parse("policy.toml", &text).map(|policy| policy.audit());
    let terms = terms.unwrap_or_default();
    AuditSettings { each_line: terms.each_line, rotate_bytes: terms.rotate_bytes }
}

/// The files that go along with an act.
#[derive(Default)]
pub(crate) struct Files {
    pub(crate) source: Option<File>,
    pub(crate) output: Option<Output>,
}

/// A file that is written whole and takes no other's place.
pub(crate) struct Output {
    path: PathBuf,
    draft: PathBuf,
    file: File,
}

impl Output {
    /// Refuses a place that is taken, before anybody is asked anything.
    pub(crate) fn check(path: &Path) -> Result<(), Fault> {
        if fs::symlink_metadata(path).is_err() {
            return Ok(());
        }
        let shown = path.display();
        Err(Fault::usage(format!("`{shown}` is there already: it is left as it was")))
    }

    pub(crate) fn create(path: &Path) -> Result<Self, Fault> {
        Self::check(path)?;
        let mut draft = path.as_os_str().to_owned();
        draft.push(format!(".{}.part", std::process::id()));
        let draft = PathBuf::from(draft);
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&draft);
        let file = file.map_err(|error| {
            Fault::usage(format!("cannot write `{}`: {error}", draft.display()))
        })?;
        Ok(Self { path: path.to_owned(), draft, file })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Puts it in its place, on disk.
    pub(crate) fn finish(self) -> Result<(), Fault> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let placed = self.file.sync_all();
        // A link, unlike a rename, does not take the place of a file that was made meanwhile.
        let placed = placed.and_then(|()| match fs::hard_link(&self.draft, &self.path) {
            // Not every file system has links.
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists && !self.path.exists() => {
                fs::rename(&self.draft, &self.path)
            }
            linked => linked,
        });
        let placed = placed.and_then(|()| File::open(folder)?.sync_all());
        placed.map_err(|error| {
            Fault::new(
                Exit::Unavailable,
                format!("cannot write `{}`: {error}", self.path.display()),
            )
        })
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // What is left over has no use, and is in nobody's way: its name is this process's.
        let _left = fs::remove_file(&self.draft);
    }
}

/// The operator's terminal.
struct Terminal {
    rows: Vec<Row>,
    files: Files,
    has_bar: bool,
}

impl Terminal {
    fn end_bar(&mut self) {
        if std::mem::take(&mut self.has_bar) {
            let _unseen = writeln!(io::stderr().lock());
        }
    }
}

impl Desk for Terminal {
    fn tell(&mut self, row: Row) -> io::Result<()> {
        self.rows.push(row);
        Ok(())
    }

    fn progress(&mut self, done: u64, total: u64) {
        let is_end = done == total;
        if !io::stderr().is_terminal() || !(is_end || done.is_multiple_of(1000) || total == 0) {
            return;
        }
        self.has_bar = true;
        let bar = match (done * BAR).checked_div(total) {
            Some(full) => {
                let full = usize::try_from(full.min(BAR)).unwrap_or(0);
                let empty = usize::try_from(BAR).unwrap_or(0) - full;
                format!("[{}{}] {done} of {total} keys", "=".repeat(full), " ".repeat(empty))
            }
            None => format!("{done} keys"),
        };
        let mut out = io::stderr().lock();
        // If it cannot be shown, it is not needed.
        let _unseen = write!(out, "\r{bar}").and_then(|()| out.flush());
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.files.output {
            Some(output) => output.write(bytes),
            None => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn again(&mut self) -> io::Result<()> {
        self.files.source.as_mut().ok_or(io::ErrorKind::InvalidInput)?.again()
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.files.source.as_mut().ok_or(io::ErrorKind::InvalidInput)?.read(buffer)
    }
}

/// What rows are put in order by. Versions stay behind their key.
fn place(row: &Row) -> (String, u32) {
    match row {
        Row::Space(row) => (row.space.to_string(), 0),
        Row::Key(row) => (row.key.to_string(), 0),
        Row::Version { number, .. } => ("~".to_owned(), *number),
        Row::Text(text) => (text.clone(), 0),
    }
}

fn print(format: Format, rows: &[Row], listed: Option<&str>, text: &str) -> Result<(), Fault> {
    match format {
        Format::Text => {
            rows.iter().try_for_each(|row| say::line(&line(row)))?;
            if !text.is_empty() {
                say::talk(text);
            }
            Ok(())
        }
        Format::Json => say::line(&document(rows, listed, text).to_string()),
    }
}

fn line(row: &Row) -> String {
    match row {
        Row::Space(SpaceRow { space, keys: None, .. }) => space.to_string(),
        Row::Space(SpaceRow { space, keys: Some(keys), created }) => {
            format!("{space} {keys} keys, made {}", when(*created))
        }
        Row::Key(KeyRow { key, algorithm, state, version, .. }) => {
            let version = if *version > 1 { format!(" version {version}") } else { String::new() };
            let state = match state {
                KeyState::Enabled => String::new(),
                KeyState::Disabled => " disabled".to_owned(),
                KeyState::Deleted { until } => {
                    format!(" deleted, may be destroyed from {} on", when(*until))
                }
            };
            format!("{key} {algorithm}{version}{state}")
        }
        Row::Version { number, created, public } => {
            format!("version {number} {public} made {}", when(*created))
        }
        Row::Text(text) => text.trim_end().to_owned(),
    }
}

fn document(rows: &[Row], listed: Option<&str>, text: &str) -> Value {
    let spaces =
        || rows.iter().filter_map(|row| if let Row::Space(row) = row { Some(row) } else { None });
    let keys: Vec<Value> = rows
        .iter()
        .filter_map(|row| if let Row::Key(row) = row { Some(key_json(row)) } else { None })
        .collect();
    let versions: Vec<Value> = rows
        .iter()
        .filter_map(|row| match row {
            Row::Version { number, created, public } => {
                Some(json!({ "version": number, "created": created, "public_key": public }))
            }
            Row::Space(_) | Row::Key(_) | Row::Text(_) => None,
        })
        .collect();
    let texts =
        rows.iter().find_map(|row| if let Row::Text(text) = row { Some(text) } else { None });
    let mut document = json!({ "schema": 1 });
    if let Some(found) = document.as_object_mut() {
        if listed == Some("key_spaces") {
            let names: Vec<&str> = spaces().map(|row| row.space.as_str()).collect();
            found.insert("key_spaces".to_owned(), json!(names));
        }
        if listed == Some("keys") {
            found.insert("keys".to_owned(), json!(keys));
        } else if let Some(key) = keys.first() {
            found.insert("key".to_owned(), key.clone());
            found.insert("versions".to_owned(), json!(versions));
        } else if let (None, Some(row)) = (listed, spaces().next()) {
            let (name, created, keys) = (row.space.as_str(), row.created, row.keys);
            let shown = json!({ "key_space": name, "created": created, "keys": keys });
            found.insert("key_space".to_owned(), shown);
        }
        if let Some(text) = texts {
            found.insert("value".to_owned(), json!(text));
        }
        if !text.is_empty() {
            found.insert("done".to_owned(), json!(text));
        }
    }
    document
}

fn key_json(row: &KeyRow) -> Value {
    let until = match row.state {
        KeyState::Deleted { until } => Some(until),
        KeyState::Enabled | KeyState::Disabled => None,
    };
    json!({
        "key_space": row.key.space.as_str(), "key": row.key.key.as_str(), "algorithm": row.algorithm.word(),
        "state": row.state.word(), "deleted_until": until, "created": row.created, "version": row.version,
    })
}

fn when(seconds: u64) -> String {
    let stamp = i64::try_from(seconds).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
    stamp.map_or_else(|| format!("at {seconds}"), |stamp| stamp.to_string())
}

pub(crate) fn name(text: &str) -> Result<Name, Fault> {
    Name::parse(text).map_err(|error| Fault::usage(error.to_string()))
}

/// `space/key`.
pub(crate) fn key_path(text: &str) -> Result<KeyPath, Fault> {
    let (space, key) = text.split_once('/').ok_or_else(|| {
        Fault::usage(format!("`{}` names no key: write it as `space/key`", text.escape_debug()))
    })?;
    Ok(KeyPath { space: name(space)?, key: name(key)? })
}

impl OpenArgs {
    /// As the keyspace takes it.
    pub(crate) fn opening(&self) -> Opening {
        Opening { slot: self.slot.map(Slot::kind), accept_older: self.accept_older }
    }
}

impl Slot {
    pub(crate) fn kind(self) -> SlotKind {
        match self {
            Self::Operator => SlotKind::Operator,
            Self::Backup => SlotKind::Backup,
            Self::Credential => SlotKind::Credential,
        }
    }
}

impl Kdf {
    pub(crate) fn cost(self) -> KdfCost {
        match self {
            Self::Standard => KdfCost::Standard,
            Self::Calibrate => KdfCost::Calibrated,
        }
    }
}
