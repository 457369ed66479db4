//! What an operator's command does: by the service that holds the home, or by itself.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::time::{Duration, Instant};

use broker::{Desk, Standalone};
use keyspace::{Opening, Passphrase, Source};
use sandbox::LocalPeer;
use serde_json::{Map, Value, json};
use wire::admin::{KeyRow, Row, SpaceRow, ToAdmin};
use wire::done::{Done, Outcome};
use wire::operator::{Act, KdfCost, SlotKind};
use wire::{Hidden, KeyPath, KeyState, Name};

use crate::admin::Service;
use crate::args::{Format, Kdf, OpenArgs, OperateArgs, Slot, Unlock};
use crate::exit::{Exit, Fault};
use crate::output::Output;
use crate::{files, outcome, passphrase, say};

/// Columns of a bar.
const BAR: u64 = 30;
/// How often it is drawn.
const REDRAWN: Duration = Duration::from_millis(100);

/// Does it, and prints what comes of it.
pub(crate) fn operate(args: &OperateArgs, act: Act, files: Files) -> Result<Exit, Fault> {
    Session::new(&args.unlock).operate(args.format, act, files)
}

/// One command, whose operator is asked for the passphrase once.
pub(crate) struct Session<'a> {
    unlock: &'a Unlock,
    passphrase: Option<Hidden>,
}

impl<'a> Session<'a> {
    pub(crate) fn new(unlock: &'a Unlock) -> Self {
        Self { unlock, passphrase: None }
    }

    /// Does it, and prints what comes of it.
    pub(crate) fn operate(
        &mut self,
        format: Format,
        act: Act,
        files: Files,
    ) -> Result<Exit, Fault> {
        let keys = matches!(act, Act::ListKeys(_)).then_some("keys");
        let listing = keys.or(matches!(act, Act::ListSpaces).then_some("key_spaces"));
        let mut desk = Terminal { files, ..Terminal::default() };
        let done = self.perform(act, &mut desk);
        desk.end_bar();
        let outcome = done?;
        if let Some(output) = desk.files.output.take() {
            output.finish()?;
        }
        if listing.is_some() {
            desk.rows.sort_by_key(name_of);
        }
        print(format, &desk.rows, listing, &outcome)?;
        Ok(Exit::Done)
    }

    /// How many keys there are in a key space.
    pub(crate) fn key_count(&mut self, space: &Name) -> Result<u64, Fault> {
        let mut desk = Terminal::default();
        self.perform(Act::ShowSpace(space.clone()), &mut desk)?;
        Ok(desk.rows.iter().find_map(counted).unwrap_or_default())
    }

    fn perform(&mut self, act: Act, desk: &mut Terminal) -> Result<Outcome, Fault> {
        let unlock = self.unlock;
        // Before the home is looked at: root reaches the service in a home that is another user's.
        if let Some(mut service) = Service::reach(&files::home_path(unlock.home.as_deref())?)? {
            return service.ask(&ToAdmin::Act(act), desk);
        }
        let home = files::home(unlock.home.as_deref())?;
        // Before the keyspace is held: a prompt that nobody answers must hold nobody up.
        let passphrase = match act.current() {
            Some(current) => Passphrase::of(current)?,
            None => {
                let given = match self.passphrase.take() {
                    Some(given) => given,
                    None => passphrase::current(&unlock.passphrase)?,
                };
                Passphrase::of(self.passphrase.insert(given))?
            }
        };
        let locked = match files::hold(&home) {
            Ok(locked) => locked,
            // A service may have been started meanwhile.
            Err(held) => match Service::reach(home.path())? {
                Some(mut service) => return service.ask(&ToAdmin::Act(act), desk),
                None => return Err(held),
            },
        };
        let keyspace = locked.unlock(&passphrase, unlock.open.opening())?;
        let uid = LocalPeer::this().uid;
        Ok(Standalone::new(keyspace, home.path()).perform(act, uid, files::now(), desk)?)
    }
}

fn counted(row: &Row) -> Option<u64> {
    if let Row::Space(row) = row { row.keys } else { None }
}

/// The files that go along with an act.
#[derive(Default)]
pub(crate) struct Files {
    pub(crate) source: Option<File>,
    pub(crate) output: Option<Output>,
}

/// The operator's terminal.
#[derive(Default)]
pub(crate) struct Terminal {
    rows: Vec<Row>,
    files: Files,
    bar: Bar,
}

/// How far it is, and when that was shown.
#[derive(Default)]
struct Bar {
    reached: Option<(u64, u64)>,
    shown: Option<Instant>,
}

impl Terminal {
    fn end_bar(&mut self) {
        if let Some((done, total)) = self.bar.reached.take() {
            draw(done, total);
            let _unseen = writeln!(io::stderr().lock());
        }
    }
}

fn draw(done: u64, total: u64) {
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

impl Desk for Terminal {
    fn tell(&mut self, row: Row) -> io::Result<()> {
        self.rows.push(row);
        Ok(())
    }

    fn progress(&mut self, done: u64, total: u64) {
        if !io::stderr().is_terminal() {
            return;
        }
        self.bar.reached = Some((done, total));
        if self.bar.shown.is_none_or(|last| last.elapsed() >= REDRAWN) {
            self.bar.shown = Some(Instant::now());
            draw(done, total);
        }
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

/// What a list is put in order by.
fn name_of(row: &Row) -> String {
    match row {
        Row::Space(row) => row.space.to_string(),
        Row::Key(row) => row.key.to_string(),
        Row::Version { .. } | Row::Text(_) => String::new(),
    }
}

/// Prints what was told and what was done.
pub(crate) fn print(
    format: Format,
    rows: &[Row],
    listing: Option<&str>,
    outcome: &Outcome,
) -> Result<(), Fault> {
    if format == Format::Json {
        return say::line(&document(rows, listing, outcome).to_string());
    }
    rows.iter().try_for_each(|row| say::line(&line(row)))?;
    let sentence = outcome::sentence(&outcome.done);
    if matches!(outcome.done, Done::Verified { .. }) {
        // What was found is what was asked for.
        say::line(&sentence)?;
    } else if !sentence.is_empty() {
        say::talk(&sentence);
    }
    if let Some(why) = &outcome.unrecorded {
        say::talk(&format!("crypto-cli: warning: {why}"));
    }
    Ok(())
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

fn document(rows: &[Row], listing: Option<&str>, outcome: &Outcome) -> Value {
    let mut document = Map::from_iter([("schema".to_owned(), json!(1))]);
    let mut versions = Vec::new();
    let mut listed = Vec::new();
    for row in rows {
        let (member, shown) = match row {
            Row::Space(row) if listing.is_some() => {
                listed.push(space_json(row));
                continue;
            }
            Row::Key(row) if listing.is_some() => {
                listed.push(key_json(row));
                continue;
            }
            Row::Version { number, created, public } => {
                let version =
                    json!({ "version": number, "created": created, "public_key": public });
                versions.push(version);
                ("versions", json!(versions))
            }
            Row::Space(row) => ("key_space", space_json(row)),
            Row::Key(row) => ("key", key_json(row)),
            Row::Text(text) => ("value", value_json(text)),
        };
        document.insert(member.to_owned(), shown);
    }
    if let Some(member) = listing {
        document.insert(member.to_owned(), json!(listed));
    }
    if let Some(done) = outcome::document(&outcome.done) {
        document.insert("done".to_owned(), done);
        document.insert("message".to_owned(), json!(outcome::sentence(&outcome.done)));
    }
    if let Some(why) = &outcome.unrecorded {
        document.insert("warning".to_owned(), json!(why));
    }
    Value::Object(document)
}

fn space_json(SpaceRow { space, created, keys }: &SpaceRow) -> Value {
    json!({ "key_space": space.as_str(), "created": created, "key_count": keys })
}

/// A JWK is an object, and no text that holds one.
fn value_json(text: &str) -> Value {
    let object = serde_json::from_str::<Map<String, Value>>(text);
    object.map_or_else(|_| json!(text), Value::Object)
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

pub(crate) fn when(seconds: u64) -> String {
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
