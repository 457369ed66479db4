//! What the operator's commands say to the service that holds a home, over the socket in that home.
//! Specified in `PROTOCOL.md`.

use crate::Algorithm;
use crate::codec::{Frame, Malformed, Reader, Writer};
use crate::done::{Done, Outcome};
use crate::hidden::Hidden;
use crate::id::{KeyPath, Name};
use crate::key_state::KeyState;
use crate::operator::{Act, SlotKind, take_algorithm};

/// The name of the socket, in the home.
pub const ADMIN_SOCKET: &str = "admin.socket";
/// Longest text of an answer, in bytes: all that is wrong with a policy.
pub const MAX_ADMIN_TEXT_BYTES: usize = 256 * 1024;
/// Longest part of a file in one frame, in bytes.
pub const MAX_PART_BYTES: usize = 64 * 1024;

/// What an operator asks, one to a connection; and the file that goes with it, part by part.
pub enum ToAdmin {
    /// Read the policy file again.
    ReloadPolicy,
    /// Unseal the keyspace with this passphrase.
    Unseal(Hidden),
    /// Do this.
    Act(Act),
    /// The next bytes of the file that an import was told of; none at its end.
    Part(Vec<u8>),
}

/// What the operator is told.
#[derive(Debug, PartialEq)]
pub enum FromAdmin {
    /// It is done.
    Done(Outcome),
    /// It is not, and nothing has changed; why.
    Refused(Reason, String),
    /// One of what was asked for.
    Row(Row),
    /// The next bytes of the file that is being written.
    Part(Vec<u8>),
    /// Send the file, from its start.
    Send,
    /// The next part of it.
    More,
    /// How far it is: so many keys of so many, or of nobody knows how many if that is 0.
    Progress(u64, u64),
}

/// Of what kind a refusal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// What was asked for is wrong, or cannot be done as things are.
    Usage = 1,
    /// A passphrase, or a key to a file, is wrong.
    Locked = 2,
    /// A file is damaged or foreign.
    Integrity = 3,
    /// The disk or the system refused.
    Unavailable = 4,
    /// A fault of the program.
    Internal = 5,
}

impl Reason {
    /// Every one.
    pub const ALL: &'static [Self] =
        &[Self::Usage, Self::Locked, Self::Integrity, Self::Unavailable, Self::Internal];
}

/// One thing that an operator asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// A key space.
    Space(SpaceRow),
    /// A key.
    Key(KeyRow),
    /// A version of the key before.
    Version {
        /// Its number, from 1.
        number: u32,
        /// Unix seconds.
        created: u64,
        /// Its public key, in hexadecimal digits; none of a symmetric key.
        public: String,
    },
    /// A text, such as a public key.
    Text(String),
}

/// A passphrase that opens the keyspace, and what deriving a key from it costs (Argon2id).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotRow {
    /// Whose it is.
    pub slot: SlotKind,
    /// KiB.
    pub memory_kib: u32,
    /// How often the memory is gone through.
    pub passes: u32,
    /// Threads.
    pub lanes: u32,
}

impl std::fmt::Display for SlotRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { slot, memory_kib, passes, lanes } = self;
        let (word, memory) = (slot.word(), memory_kib / 1024);
        write!(f, "{word} ({memory} MiB, {passes} passes, {lanes} lanes)")
    }
}

/// A key space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpaceRow {
    /// Its name.
    pub space: Name,
    /// Unix seconds.
    pub created: u64,
    /// How many keys there are in it, where they were counted.
    pub keys: Option<u64>,
}

/// A key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// Its place.
    pub key: KeyPath,
    /// What it is for.
    pub algorithm: Algorithm,
    /// Whether it can be used.
    pub state: KeyState,
    /// Unix seconds.
    pub created: u64,
    /// The version in use.
    pub version: u32,
}

impl Frame for ToAdmin {
    const MAX_BYTES: usize = MAX_PART_BYTES + 8 * 1024;

    fn put(&self, w: &mut Writer) {
        w.text(crate::BUILD);
        match self {
            Self::ReloadPolicy => w.u8(0),
            Self::Unseal(passphrase) => {
                w.u8(1);
                w.hidden(passphrase);
            }
            Self::Act(act) => {
                w.u8(2);
                act.put(w);
            }
            Self::Part(bytes) => {
                w.u8(3);
                w.bytes(bytes);
            }
        }
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        if r.text()? != crate::BUILD {
            return Err(Malformed);
        }
        match r.u8()? {
            0 => Ok(Self::ReloadPolicy),
            1 => Ok(Self::Unseal(r.hidden()?)),
            2 => Ok(Self::Act(Act::take(r)?)),
            3 => Ok(Self::Part(take_part(r)?)),
            _ => Err(Malformed),
        }
    }
}

impl Frame for FromAdmin {
    const MAX_BYTES: usize = MAX_ADMIN_TEXT_BYTES + 512;

    fn put(&self, w: &mut Writer) {
        match self {
            Self::Done(Outcome { done, unrecorded }) => {
                w.u8(0);
                done.put(w);
                w.option(unrecorded.as_ref(), |w, why| put_text(w, why));
            }
            Self::Refused(reason, text) => {
                w.u8(1);
                w.u8(*reason as u8);
                put_text(w, text);
            }
            Self::Row(row) => {
                w.u8(2);
                row.put(w);
            }
            Self::Part(bytes) => {
                w.u8(3);
                w.bytes(bytes);
            }
            Self::Send => w.u8(4),
            Self::More => w.u8(5),
            Self::Progress(done, total) => {
                w.u8(6);
                w.u64(*done);
                w.u64(*total);
            }
        }
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        match r.u8()? {
            0 => {
                let done = Done::take(r)?;
                let unrecorded = r.option(|r| Ok(r.text()?.to_owned()))?;
                Ok(Self::Done(Outcome { done, unrecorded }))
            }
            1 => {
                let number = r.u8()?;
                let reason = Reason::ALL.iter().copied().find(|reason| *reason as u8 == number);
                Ok(Self::Refused(reason.ok_or(Malformed)?, r.text()?.to_owned()))
            }
            2 => Ok(Self::Row(Row::take(r)?)),
            3 => Ok(Self::Part(take_part(r)?)),
            4 => Ok(Self::Send),
            5 => Ok(Self::More),
            6 => Ok(Self::Progress(r.u64()?, r.u64()?)),
            _ => Err(Malformed),
        }
    }
}

impl Row {
    fn put(&self, w: &mut Writer) {
        match self {
            Self::Space(row) => {
                w.u8(0);
                w.name(&row.space);
                w.u64(row.created);
                w.option(row.keys.as_ref(), |w, keys| w.u64(*keys));
            }
            Self::Key(row) => {
                w.u8(1);
                w.key_path(&row.key);
                w.u8(row.algorithm.number());
                let (state, until) = row.state.numbers();
                w.u8(state);
                w.u64(until);
                w.u64(row.created);
                w.u32(row.version);
            }
            Self::Version { number, created, public } => {
                w.u8(2);
                w.u32(*number);
                w.u64(*created);
                w.text(public);
            }
            Self::Text(text) => {
                w.u8(3);
                put_text(w, text);
            }
        }
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        match r.u8()? {
            0 => {
                let (space, created) = (r.name()?, r.u64()?);
                Ok(Self::Space(SpaceRow { space, created, keys: r.option(Reader::u64)? }))
            }
            1 => {
                let (key, algorithm) = (r.key_path()?, take_algorithm(r)?);
                let state = KeyState::from_numbers(r.u8()?, r.u64()?).ok_or(Malformed)?;
                let (created, version) = (r.u64()?, r.u32()?);
                Ok(Self::Key(KeyRow { key, algorithm, state, created, version }))
            }
            2 => {
                let (number, created) = (r.u32()?, r.u64()?);
                Ok(Self::Version { number, created, public: r.text()?.to_owned() })
            }
            3 => Ok(Self::Text(r.text()?.to_owned())),
            _ => Err(Malformed),
        }
    }
}

fn put_text(w: &mut Writer, text: &str) {
    let end = text.floor_char_boundary(MAX_ADMIN_TEXT_BYTES);
    w.text(text.get(..end).unwrap_or_default());
}

fn take_part(r: &mut Reader<'_>) -> Result<Vec<u8>, Malformed> {
    let bytes = r.bytes()?;
    if bytes.len() > MAX_PART_BYTES { Err(Malformed) } else { Ok(bytes.to_vec()) }
}
