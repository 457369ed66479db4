//! What an operator has done to a keyspace: by a service that holds it, or by the operator's own command.

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use keyspace::{Imported, Importing, KeyspaceError, Passphrase, Source, Told, Unlocked, Verified};
use policy::AuditTerms;
use wire::admin::{Reason, Row};
use wire::done::{Done, Outcome};
use wire::operator::Act;

use crate::entry::{Acted, Entry};
use crate::{Audit, AuditError};

/// Whom the operator's end of it is: who hears what is told, and has the file that goes along.
pub trait Desk {
    /// Takes one of what was asked for.
    ///
    /// # Errors
    /// When nobody listens any more.
    fn tell(&mut self, row: Row) -> io::Result<()>;
    /// Hears how far it is: keys of keys, or of nobody knows how many if that is 0.
    fn progress(&mut self, done: u64, total: u64);
    /// Writes more of the file that an export makes.
    ///
    /// # Errors
    /// When it cannot be written.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Goes to the start of the file that an import reads.
    ///
    /// # Errors
    /// When it cannot be read.
    fn again(&mut self) -> io::Result<()>;
    /// Reads more of it.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;
}

/// Why an operator's act was not done.
#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    /// By the keyspace.
    #[error(transparent)]
    Keyspace(#[from] KeyspaceError),
    /// It could not be recorded.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// Neither was it done, nor could that be recorded.
    #[error("{why}; {error}")]
    Both {
        /// Why it was not done.
        why: Box<OperateError>,
        /// Why that could not be recorded.
        error: AuditError,
    },
}

impl OperateError {
    /// The kind of it.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Keyspace(why) => why.reason(),
            Self::Audit(why) => why.reason(),
            Self::Both { why, .. } => why.reason(),
        }
    }
}

/// A keyspace that no service holds, with the folder of the log of what is done to it.
pub struct Standalone {
    keyspace: Unlocked,
    folder: PathBuf,
}

impl Standalone {
    /// Takes both.
    #[must_use]
    pub fn new(keyspace: Unlocked, folder: &Path) -> Self {
        Self { keyspace, folder: folder.to_owned() }
    }

    /// Does it for this user. What changes keys or lets them out is recorded before, as a service does, and
    /// then what came of it.
    ///
    /// # Errors
    /// When it was not done. Then nothing has changed, unless it is [`KeyspaceError::Unconfirmed`].
    pub fn perform(
        &self,
        act: Act,
        uid: u32,
        now: u64,
        desk: &mut dyn Desk,
    ) -> Result<Outcome, OperateError> {
        let accepted = self.keyspace.accepted();
        if !act.changes_or_exports() && accepted.is_none() {
            let done = perform(&self.keyspace, act, now, desk);
            return Ok(done.map_err(|undone| undone.error)?.into());
        }
        let sign = |bytes: &[u8]| self.keyspace.sign_as_service(bytes);
        let service = self.keyspace.service_nkey();
        // What only looks needs no log. All that is recorded here is on disk before it is done, whatever the policy.
        let audit = Audit::open(&self.folder, AuditTerms::default())?;
        audit.find_end(service)?;
        audit.begin(service, &sign)?;
        let record = |entry: &Entry<'_>| audit.record(entry, service, &sign).map(drop);
        if let Some(what) = accepted {
            record(&Entry::accepted(what))?;
            self.keyspace.acknowledge()?;
        }
        let end = || audit.mark(&sign);
        recorded(act, uid, &record, &end, |act| perform(&self.keyspace, act, now, desk))
    }
}

/// Does it between two records: what is asked for, and what came of it, after which the log may have an end.
pub(crate) fn recorded(
    act: Act,
    uid: u32,
    record: &dyn Fn(&Entry<'_>) -> Result<(), AuditError>,
    end: &dyn Fn() -> Result<(), AuditError>,
    perform: impl FnOnce(Act) -> Result<Done, Undone>,
) -> Result<Outcome, OperateError> {
    let acted = Acted::of(&act);
    record(&Entry::operated(&acted, uid))?;
    let done = perform(act);
    let told = record(&Entry::done(&acted, uid, &done)).and_then(|()| end());
    with_record(done.map_err(|undone| undone.error.into()), told)
}

/// Once it is done it is said to be, even if that cannot be recorded: to deny it would be untrue.
fn with_record(
    done: Result<Done, OperateError>,
    told: Result<(), AuditError>,
) -> Result<Outcome, OperateError> {
    match (done, told) {
        (Ok(done), Ok(())) => Ok(done.into()),
        (Err(why), Ok(())) => Err(why),
        (Ok(done), Err(error)) => Ok(Outcome { done, unrecorded: Some(error.to_string()) }),
        (Err(why), Err(error)) => Err(OperateError::Both { why: Box::new(why), error }),
    }
}

/// Why an act was not done.
pub(crate) struct Undone {
    pub(crate) error: KeyspaceError,
    /// Whether a part of an export may have left all the same.
    pub(crate) in_part: bool,
}

/// Does it.
pub(crate) fn perform(
    keyspace: &Unlocked,
    act: Act,
    now: u64,
    desk: &mut dyn Desk,
) -> Result<Done, Undone> {
    let in_part = Cell::new(false);
    let done = attempt(keyspace, act, now, desk, &in_part);
    done.map_err(|error| Undone { error, in_part: in_part.get() })
}

#[expect(clippy::too_many_lines, reason = "one act after another")]
fn attempt(
    keyspace: &Unlocked,
    act: Act,
    now: u64,
    desk: &mut dyn Desk,
    in_part: &Cell<bool>,
) -> Result<Done, KeyspaceError> {
    let operator = keyspace.as_operator();
    let desk = RefCell::new(desk);
    let tell = |row| desk.borrow_mut().tell(row).map_err(unheard);
    let progress = |done, total| desk.borrow_mut().progress(done, total);
    match act {
        Act::NewSpace(space) => {
            operator.new_space(&space, now)?;
            Ok(Done::NewSpace(space))
        }
        Act::ListSpaces => said(operator.spaces(tell)),
        Act::ShowSpace(space) => said(tell(Row::Space(operator.space(&space)?))),
        Act::RenameSpace(from, to) => {
            let keys = operator.rename_space(&from, &to)?;
            Ok(Done::RenamedSpace(from, to, keys))
        }
        Act::DeleteSpace(space) => {
            let keys = operator.delete_space(&space, now)?;
            Ok(Done::DeletedSpace(space, keys))
        }
        Act::ListKeys(space) => said(operator.keys(space.as_ref(), tell)),
        Act::ShowKey(key) => said(operator.key(&key, tell)),
        Act::PublicKey(key, form) => said(tell(Row::Text(operator.public_key(&key, form)?))),
        Act::Recipient => said(tell(Row::Text(operator.recipient()?))),
        Act::NewKey(key, algorithm) => {
            operator.new_key(&key, algorithm, now)?;
            Ok(Done::NewKey(key, algorithm))
        }
        Act::RotateKey(key) => {
            let version = operator.rotate_key(&key, now)?;
            Ok(Done::RotatedKey(key, version))
        }
        Act::DisableKey(key) => {
            operator.enable_key(&key, false)?;
            Ok(Done::DisabledKey(key))
        }
        Act::EnableKey(key) => {
            operator.enable_key(&key, true)?;
            Ok(Done::EnabledKey(key))
        }
        Act::DeleteKey(key, wait) => {
            let until = operator.delete_key(&key, wait, now)?;
            Ok(Done::DeletedKey(key, until))
        }
        Act::RestoreKey(key) => {
            operator.restore_key(&key)?;
            Ok(Done::RestoredKey(key))
        }
        Act::DestroyKey(key) => {
            operator.destroy_key(&key, now)?;
            Ok(Done::DestroyedKey(key))
        }
        Act::ImportKey(key, algorithm, wrapped) => {
            let algorithm = operator.import_key(&key, algorithm, &wrapped, now)?;
            Ok(Done::ImportedKey(key, algorithm))
        }
        Act::Export(spaces, protection) => {
            let part = Part { desk: &desk, in_part };
            operator.export(&spaces, &protection, part, progress).map(Done::Exported)
        }
        Act::Import { rename, skip_existing, passphrase } => {
            let passphrase = passphrase.as_ref().map(Passphrase::of).transpose()?;
            desk.borrow_mut().again().map_err(unheard)?;
            let done = operator.import(
                &mut Part { desk: &desk, in_part },
                passphrase.as_ref(),
                &Importing { rename, skip_existing },
                |done| progress(done, 0),
            )?;
            let Imported { spaces, keys, skipped } = done;
            Ok(Done::Imported { spaces, keys, skipped })
        }
        Act::Passwd { current, slot, new: Some(new), cost } => {
            let (current, new) = (Passphrase::of(&current)?, Passphrase::of(&new)?);
            operator.set_passphrase(&current, slot, &new, cost)?;
            Ok(Done::SetPassphrase(slot))
        }
        Act::Passwd { current, slot, new: None, cost: _ } => {
            operator.remove_passphrase(&Passphrase::of(&current)?, slot)?;
            Ok(Done::RemovedPassphrase(slot))
        }
        Act::Rotate(current) => {
            operator.rotate_root(&Passphrase::of(&current)?, progress).map(Done::RotatedRoot)
        }
        Act::Verify => {
            let Verified { spaces, keys, slots } = operator.verify(progress)?;
            Ok(Done::Verified { spaces, keys, slots })
        }
    }
}

fn said(told: Told) -> Result<Done, KeyspaceError> {
    told.map(|()| Done::Told)
}

fn unheard(error: io::Error) -> KeyspaceError {
    KeyspaceError::Bundle(format!("the operator's end: {error}"))
}

/// The operator's file.
struct Part<'d, 'a> {
    desk: &'d RefCell<&'a mut dyn Desk>,
    in_part: &'d Cell<bool>,
}

impl Read for Part<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.desk.borrow_mut().read(buffer)
    }
}

impl Source for Part<'_, '_> {
    fn again(&mut self) -> io::Result<()> {
        self.desk.borrow_mut().again()
    }
}

impl Write for Part<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.in_part.set(true);
        self.desk.borrow_mut().write(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use keyspace::Unlocked;
    use wire::Name;
    use wire::operator::Protection;

    use super::*;

    /// An operator's end that takes so many parts of a file.
    struct Takes(usize);

    impl Desk for Takes {
        fn tell(&mut self, _row: Row) -> io::Result<()> {
            Ok(())
        }

        fn progress(&mut self, _done: u64, _total: u64) {}

        fn write(&mut self, _bytes: &[u8]) -> io::Result<()> {
            self.0 = self.0.checked_sub(1).ok_or(io::ErrorKind::BrokenPipe)?;
            Ok(())
        }

        fn again(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn read(&mut self, _buffer: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    #[test]
    fn an_export_that_is_broken_off_may_have_left_in_part() {
        let folder = tempfile::tempdir().unwrap();
        let keyspace = Unlocked::ephemeral(5).unwrap();
        let to = keyspace.as_operator().recipient().unwrap();
        let space = Name::parse("space").unwrap();
        keyspace.as_operator().new_space(&space, 5).unwrap();
        let standalone = Standalone::new(keyspace, folder.path());
        let export = |spaces: &[&Name], parts| {
            let spaces = spaces.iter().copied().cloned().collect();
            let act = Act::Export(spaces, Protection::Recipients(vec![to.clone()]));
            standalone.perform(act, 5, 5, &mut Takes(parts)).is_ok()
        };
        let none = Name::parse("none").unwrap();
        assert!(!export(&[&none], usize::MAX) && !export(&[&space], 0) && !export(&[&space], 1));
        assert!(export(&[&space], usize::MAX));
        let log = std::fs::read_to_string(folder.path().join(crate::audit::AUDIT_LOG)).unwrap();
        let lines = log.lines().map(|line| serde_json::from_str(line).unwrap());
        let status = |line: serde_json::Value| line["status"].as_str().map(str::to_owned);
        let statuses: Vec<String> = lines.filter_map(status).collect();
        assert_eq!(statuses, ["refused", "partial", "partial", "ok"]);
    }

    #[test]
    fn what_was_done_is_not_denied_and_why_it_was_not_is_told() {
        let full = || AuditError::Io(io::ErrorKind::StorageFull.into());
        let outcome = with_record(Ok(Done::Exported(7)), Err(full())).unwrap();
        assert_eq!(outcome.done, Done::Exported(7));
        assert_eq!(outcome.unrecorded.as_deref(), Some("audit log: no storage space"));
        let why = KeyspaceError::WrongPassphrase;
        let refused = with_record(Err(why.into()), Err(full())).unwrap_err();
        let why = KeyspaceError::WrongPassphrase.to_string();
        assert_eq!(refused.to_string(), format!("{why}; audit log: no storage space"));
        assert!(matches!(refused.reason(), Reason::Locked));
    }
}
