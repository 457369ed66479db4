//! What can go wrong with a keyspace. No variant holds key bytes.

use std::path::PathBuf;

use wire::admin::Reason;

/// A keyspace operation that failed. Nothing was changed, except where it is [`KeyspaceError::Unconfirmed`].
#[derive(Debug, thiserror::Error)]
pub enum KeyspaceError {
    /// There is no keyspace in the home.
    #[error("there is no keyspace in `{}`: make one with `crypto-cli init`", .0.display())]
    Missing(PathBuf),
    /// There is one already.
    #[error("there is a keyspace in `{}` already: it is left as it was", .0.display())]
    Exists(PathBuf),
    /// Another process has it open.
    #[error("the keyspace in `{}` is in use by {holder}: stop it first", path.display())]
    InUse {
        /// The home.
        path: PathBuf,
        /// Who, as far as the kernel tells.
        holder: String,
    },
    /// It is older than it was, or another one.
    #[error(
        "the keyspace is not the one that was here last: {0}: use `--accept-older` if you restored it on purpose"
    )]
    Older(String),
    /// There is no such key space or key.
    #[error("there is no {what} `{name}`")]
    Unknown {
        /// `key space` or `key`.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// There is one of that name.
    #[error("there is a {what} `{name}` already")]
    Taken {
        /// `key space` or `key`.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// What an operator asks for cannot be done as things are.
    #[error("{0}")]
    Cannot(String),
    /// A bundle that cannot be opened with what was given.
    #[error(
        "the encrypted file does not open: the passphrase is wrong, it is for others, or it is damaged"
    )]
    NotForUs,
    /// A bundle that is damaged or foreign.
    #[error("the encrypted file is refused: {0}")]
    BadBundle(String),
    /// The folder or the file may be read or changed by others.
    #[error("`{}` {what}", path.display())]
    Exposed {
        /// Which.
        path: PathBuf,
        /// What is wrong and what to do.
        what: &'static str,
    },
    /// The passphrase does not open it. A damaged header gives the same answer.
    #[error("the passphrase is wrong, or the keyspace header is damaged")]
    WrongPassphrase,
    /// Made by another program or a later version.
    #[error("not a keyspace of this version: {0}")]
    Foreign(&'static str),
    /// A record does not open, is of another file, or the file's structure is broken.
    #[error("the keyspace is damaged: {0}: restore it from a backup")]
    Damaged(String),
    /// The passphrase cannot be one.
    #[error("{0}")]
    BadPassphrase(&'static str),
    /// The file system refused.
    #[error("`{}`: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A bundle could not be read or written, or whoever does it is gone.
    #[error("{0}")]
    Bundle(String),
    /// The database could not be read or written.
    #[error("keyspace storage: {0}")]
    Storage(String),
    /// The disk failed at the very end of a change, when it may have been made already.
    #[error("{0}: the change may or may not have been made")]
    Unconfirmed(Box<KeyspaceError>),
    /// The key is not made for that, or what it is given is not. A script can catch it.
    #[error("{0}")]
    Unfit(String),
    /// The script's time was over before all of a key space was read.
    #[error("the script's time is over")]
    OutOfTime,
    /// A permit was presented for something else than it permits. A fault of ours.
    #[error("the permit is for another act")]
    WrongPermit,
}

impl KeyspaceError {
    /// A bundle that is damaged or foreign.
    pub(crate) fn bad_bundle(what: &str) -> Self {
        Self::BadBundle(what.to_owned())
    }

    /// The same, said of what has this name.
    pub(crate) fn about(self, name: &impl std::fmt::Display) -> Self {
        if let Self::Damaged(what) = self {
            Self::Damaged(format!("{what}, `{name}`"))
        } else {
            self
        }
    }

    /// The end of a change that the disk did not confirm.
    pub(crate) fn unconfirmed(error: impl Into<Self>) -> Self {
        Self::Unconfirmed(Box::new(error.into()))
    }

    /// Of what kind it is, for whoever asked.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Foreign(_) | Self::Damaged(_) | Self::BadBundle(_) | Self::Older(_) => {
                Reason::Integrity
            }
            Self::WrongPassphrase | Self::BadPassphrase(_) | Self::NotForUs => Reason::Locked,
            Self::InUse { .. } | Self::Io { .. } | Self::Storage(_) | Self::Bundle(_) => {
                Reason::Unavailable
            }
            Self::Unconfirmed(error) => error.reason(),
            Self::WrongPermit => Reason::Internal,
            Self::Missing(_)
            | Self::Exists(_)
            | Self::Exposed { .. }
            | Self::Unknown { .. }
            | Self::Taken { .. }
            | Self::Cannot(_)
            | Self::OutOfTime
            | Self::Unfit(_) => Reason::Usage,
        }
    }
}

/// A commit that did not happen, as [`KeyspaceError`] has it.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Another script changed the same thing first.
    #[error("another script changed `{0}` first")]
    Conflict(String),
    /// Anything else.
    #[error(transparent)]
    Failed(#[from] KeyspaceError),
}

macro_rules! from_redb {
    ($($error:ty),+) => {
        $(impl From<$error> for KeyspaceError {
            fn from(error: $error) -> Self {
                redb::Error::from(error).into()
            }
        })+
    };
}

from_redb!(
    redb::TransactionError,
    redb::TableError,
    redb::StorageError,
    redb::CommitError,
    redb::SetDurabilityError
);

impl From<redb::Error> for KeyspaceError {
    fn from(error: redb::Error) -> Self {
        if let redb::Error::Corrupted(what) = error {
            Self::Damaged(what)
        } else {
            Self::Storage(error.to_string())
        }
    }
}
