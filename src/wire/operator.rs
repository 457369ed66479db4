//! What an operator can have done to a keyspace.

use crate::Algorithm;
use crate::codec::{Malformed, Reader, Writer};
use crate::hidden::Hidden;
use crate::id::{KeyPath, Name};
use crate::script::PublicForm;

/// Largest wrapped file with a private key, in bytes: those of the formats that are read have less than 8 KiB.
pub const MAX_WRAPPED_BYTES: usize = 16 * 1024;
/// Most recipients of one bundle.
pub const MOST_RECIPIENTS: usize = 16;

/// All key spaces, in a record. No key space is called so.
const EVERY: &str = "*";

/// One act. Each is one transaction.
pub enum Act {
    /// Make a key space.
    NewSpace(Name),
    /// Tell all key spaces.
    ListSpaces,
    /// Tell one, with the number of its keys.
    ShowSpace(Name),
    /// Give a key space another name.
    RenameSpace(Name, Name),
    /// Destroy a key space with all its keys.
    DeleteSpace(Name),
    /// Tell the keys of one key space, or of all.
    ListKeys(Option<Name>),
    /// Tell a key with its versions.
    ShowKey(KeyPath),
    /// Make a key.
    NewKey(KeyPath, Algorithm),
    /// Give a key a new version.
    RotateKey(KeyPath),
    /// Let it not be used.
    DisableKey(KeyPath),
    /// Let it be used again.
    EnableKey(KeyPath),
    /// Let it not be used, and be destroyed after so many seconds.
    DeleteKey(KeyPath, u64),
    /// Take a deleted key back; it is disabled then.
    RestoreKey(KeyPath),
    /// Destroy a deleted key whose time has come.
    DestroyKey(KeyPath),
    /// Make a key of a private key that others made, from its file encrypted to the keyspace's recipient.
    ImportKey(KeyPath, Option<Algorithm>, Vec<u8>),
    /// Tell a public key.
    PublicKey(KeyPath, PublicForm),
    /// Tell to whom private keys and bundles are encrypted that this keyspace is to open.
    Recipient,
    /// Write a bundle of these key spaces; of all, if none is named.
    Export(Vec<Name>, Protection),
    /// Read a bundle.
    Import {
        /// The name that its one key space is given here.
        rename: Option<Name>,
        /// Leave what is here already as it is, and take the rest.
        skip_existing: bool,
        /// Its passphrase, unless it is encrypted to this keyspace.
        passphrase: Option<Hidden>,
    },
    /// Give the keyspace a new passphrase, or take one away.
    Passwd {
        /// One that opens it now.
        current: Hidden,
        /// Whose.
        slot: SlotKind,
        /// The new one; none to take it away.
        new: Option<Hidden>,
        /// What deriving a key from it is to cost.
        cost: KdfCost,
    },
    /// Give it a new root key, and write everything anew under it.
    Rotate(Hidden),
    /// Open every record.
    Verify,
}

/// Who can open a bundle.
pub enum Protection {
    /// Whoever has the passphrase.
    Passphrase(Hidden),
    /// Whoever has the private key of one of these `age1...`.
    Recipients(Vec<String>),
}

/// Whose a passphrase is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum SlotKind {
    /// The operator's.
    Operator = 1,
    /// One that is kept away for the day that the others are lost.
    Backup = 2,
    /// One that the machine gives to the service at its start.
    Credential = 3,
}

/// What deriving a key from a passphrase is to cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum KdfCost {
    /// What it costs now, where that is more than the standard.
    Kept = 0,
    /// 64 MiB, 3 passes, 4 lanes.
    Standard = 1,
    /// Of more memory, so that it takes about a second here; never less than the standard.
    Calibrated = 2,
}

impl KdfCost {
    const ALL: &'static [Self] = &[Self::Kept, Self::Standard, Self::Calibrated];
}

impl SlotKind {
    /// Every one.
    pub const ALL: &'static [Self] = &[Self::Operator, Self::Backup, Self::Credential];

    /// Its name for people.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Backup => "backup",
            Self::Credential => "credential",
        }
    }

    /// The kind of this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| *kind as u8 == number)
    }
}

impl Act {
    /// The passphrase that opens the keyspace now, where it is part of what is asked.
    #[must_use]
    pub fn current(&self) -> Option<&Hidden> {
        if let Self::Passwd { current, .. } | Self::Rotate(current) = self {
            Some(current)
        } else {
            None
        }
    }

    /// The word for it in the audit log: the command.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::NewSpace(_) => "keyspace new",
            Self::ListSpaces => "keyspace list",
            Self::ShowSpace(_) => "keyspace show",
            Self::RenameSpace(..) => "keyspace rename",
            Self::DeleteSpace(_) => "keyspace delete",
            Self::ListKeys(_) => "key list",
            Self::ShowKey(_) => "key show",
            Self::NewKey(..) => "key new",
            Self::RotateKey(_) => "key rotate",
            Self::DisableKey(_) => "key disable",
            Self::EnableKey(_) => "key enable",
            Self::DeleteKey(..) => "key delete",
            Self::RestoreKey(_) => "key restore",
            Self::DestroyKey(_) => "key destroy",
            Self::ImportKey(..) => "key import",
            Self::PublicKey(..) => "key public",
            Self::Recipient => "key recipient",
            Self::Export(..) => "keyspace export",
            Self::Import { .. } => "keyspace import",
            Self::Passwd { .. } => "keyspace passwd",
            Self::Rotate(_) => "keyspace rotate",
            Self::Verify => "keyspace verify",
        }
    }

    /// What it is on, for the audit log.
    #[must_use]
    pub fn on(&self) -> Option<String> {
        match self {
            Self::NewSpace(space) | Self::ShowSpace(space) | Self::DeleteSpace(space) => {
                Some(space.to_string())
            }
            Self::RenameSpace(from, to) => Some(format!("{from} {to}")),
            Self::ShowKey(key)
            | Self::NewKey(key, _)
            | Self::RotateKey(key)
            | Self::DisableKey(key)
            | Self::EnableKey(key)
            | Self::DeleteKey(key, _)
            | Self::RestoreKey(key)
            | Self::DestroyKey(key)
            | Self::ImportKey(key, ..)
            | Self::PublicKey(key, _) => Some(key.to_string()),
            Self::ListKeys(space) => space.as_ref().map(Name::to_string),
            Self::Export(spaces, protection) => {
                let names: Vec<&str> = spaces.iter().map(Name::as_str).collect();
                let names = if names.is_empty() { EVERY.to_owned() } else { names.join(" ") };
                Some(match protection {
                    Protection::Passphrase(_) => format!("{names} by passphrase"),
                    Protection::Recipients(_) => names,
                })
            }
            Self::Import { rename, skip_existing, .. } => {
                let name = rename.as_ref().map_or(EVERY, Name::as_str);
                let skip = if *skip_existing { " skip-existing" } else { "" };
                Some(format!("{name}{skip}"))
            }
            Self::Passwd { slot, .. } => Some(slot.word().to_owned()),
            Self::ListSpaces | Self::Recipient | Self::Rotate(_) | Self::Verify => None,
        }
    }

    /// To whom it lets keys out, for the audit log.
    #[must_use]
    pub fn to(&self) -> &[String] {
        if let Self::Export(_, Protection::Recipients(to)) = self { to } else { &[] }
    }

    /// Whether it changes the keyspace or lets keys out of it.
    #[must_use]
    pub fn changes_or_exports(&self) -> bool {
        match self {
            Self::ListSpaces
            | Self::ShowSpace(_)
            | Self::ListKeys(_)
            | Self::ShowKey(_)
            | Self::PublicKey(..)
            | Self::Recipient
            | Self::Verify => false,
            Self::NewSpace(_)
            | Self::RenameSpace(..)
            | Self::DeleteSpace(_)
            | Self::NewKey(..)
            | Self::RotateKey(_)
            | Self::DisableKey(_)
            | Self::EnableKey(_)
            | Self::DeleteKey(..)
            | Self::RestoreKey(_)
            | Self::DestroyKey(_)
            | Self::ImportKey(..)
            | Self::Export(..)
            | Self::Import { .. }
            | Self::Passwd { .. }
            | Self::Rotate(_) => true,
        }
    }

    pub(crate) fn put(&self, w: &mut Writer) {
        match self {
            Self::NewSpace(space) => put_space(w, 0, space),
            Self::ListSpaces => w.u8(1),
            Self::ShowSpace(space) => put_space(w, 2, space),
            Self::RenameSpace(from, to) => {
                put_space(w, 3, from);
                w.name(to);
            }
            Self::DeleteSpace(space) => put_space(w, 4, space),
            Self::ListKeys(space) => {
                w.u8(5);
                w.option(space.as_ref(), Writer::name);
            }
            Self::ShowKey(key) => put_key(w, 6, key),
            Self::NewKey(key, algorithm) => {
                put_key(w, 7, key);
                w.u8(algorithm.number());
            }
            Self::RotateKey(key) => put_key(w, 8, key),
            Self::DisableKey(key) => put_key(w, 9, key),
            Self::EnableKey(key) => put_key(w, 10, key),
            Self::DeleteKey(key, wait) => {
                put_key(w, 11, key);
                w.u64(*wait);
            }
            Self::RestoreKey(key) => put_key(w, 12, key),
            Self::DestroyKey(key) => put_key(w, 13, key),
            Self::ImportKey(key, algorithm, wrapped) => {
                put_key(w, 14, key);
                w.option(algorithm.as_ref(), |w, algorithm| w.u8(algorithm.number()));
                w.bytes(wrapped);
            }
            Self::PublicKey(key, form) => {
                put_key(w, 15, key);
                w.u8(*form as u8);
            }
            Self::Recipient => w.u8(16),
            Self::Export(spaces, protection) => {
                w.u8(17);
                w.list(spaces, Writer::name);
                protection.put(w);
            }
            Self::Import { rename, skip_existing, passphrase } => {
                w.u8(18);
                w.option(rename.as_ref(), Writer::name);
                w.u8(u8::from(*skip_existing));
                w.option(passphrase.as_ref(), Writer::hidden);
            }
            Self::Passwd { current, slot, new, cost } => {
                w.u8(19);
                w.hidden(current);
                w.u8(*slot as u8);
                w.option(new.as_ref(), Writer::hidden);
                w.u8(*cost as u8);
            }
            Self::Rotate(current) => {
                w.u8(20);
                w.hidden(current);
            }
            Self::Verify => w.u8(21),
        }
    }

    pub(crate) fn take(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match r.u8()? {
            0 => Self::NewSpace(r.name()?),
            1 => Self::ListSpaces,
            2 => Self::ShowSpace(r.name()?),
            3 => Self::RenameSpace(r.name()?, r.name()?),
            4 => Self::DeleteSpace(r.name()?),
            5 => Self::ListKeys(r.option(Reader::name)?),
            6 => Self::ShowKey(r.key_path()?),
            7 => Self::NewKey(r.key_path()?, take_algorithm(r)?),
            8 => Self::RotateKey(r.key_path()?),
            9 => Self::DisableKey(r.key_path()?),
            10 => Self::EnableKey(r.key_path()?),
            11 => Self::DeleteKey(r.key_path()?, r.u64()?),
            12 => Self::RestoreKey(r.key_path()?),
            13 => Self::DestroyKey(r.key_path()?),
            14 => {
                let (key, algorithm) = (r.key_path()?, r.option(take_algorithm)?);
                let wrapped = r.bytes()?;
                if wrapped.len() > MAX_WRAPPED_BYTES {
                    return Err(Malformed);
                }
                Self::ImportKey(key, algorithm, wrapped.to_vec())
            }
            15 => {
                let key = r.key_path()?;
                let form = PublicForm::ALL.get(usize::from(r.u8()?)).ok_or(Malformed)?;
                Self::PublicKey(key, *form)
            }
            16 => Self::Recipient,
            17 => Self::Export(r.list(Reader::name)?, Protection::take(r)?),
            18 => Self::Import {
                rename: r.option(Reader::name)?,
                skip_existing: r.flag()?,
                passphrase: r.option(Reader::hidden)?,
            },
            19 => Self::Passwd {
                current: r.hidden()?,
                slot: SlotKind::from_number(r.u8()?).ok_or(Malformed)?,
                new: r.option(Reader::hidden)?,
                cost: *KdfCost::ALL.get(usize::from(r.u8()?)).ok_or(Malformed)?,
            },
            20 => Self::Rotate(r.hidden()?),
            21 => Self::Verify,
            _ => return Err(Malformed),
        })
    }
}

impl Protection {
    fn put(&self, w: &mut Writer) {
        match self {
            Self::Passphrase(passphrase) => {
                w.u8(0);
                w.hidden(passphrase);
            }
            Self::Recipients(recipients) => {
                w.u8(1);
                w.list(recipients, |w, recipient| w.text(recipient));
            }
        }
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        if !r.flag()? {
            return Ok(Self::Passphrase(r.hidden()?));
        }
        let taken = r.list_of_at_most(MOST_RECIPIENTS, |r| Ok(r.text()?.to_owned()))?;
        Ok(Self::Recipients(taken))
    }
}

fn put_key(w: &mut Writer, number: u8, key: &KeyPath) {
    w.u8(number);
    w.key_path(key);
}

fn put_space(w: &mut Writer, number: u8, space: &Name) {
    w.u8(number);
    w.name(space);
}

pub(crate) fn take_algorithm(r: &mut Reader<'_>) -> Result<Algorithm, Malformed> {
    Algorithm::from_number(r.u8()?).ok_or(Malformed)
}
