//! What the operator's commands say to the service that holds a home, over the socket in that home.

use crate::codec::{Frame, Malformed, Reader, Writer};

/// The name of the socket, in the home.
pub const ADMIN_SOCKET: &str = "admin.socket";
/// Longest text of an answer, in bytes: all that is wrong with a policy.
pub const MAX_ADMIN_TEXT_BYTES: usize = 256 * 1024;

/// What an operator asks. One to a connection.
#[derive(Debug, Clone, PartialEq)]
pub enum ToAdmin {
    /// Read the policy file again.
    ReloadPolicy,
}

/// What the operator is told.
#[derive(Debug, Clone, PartialEq)]
pub enum FromAdmin {
    /// It is done; in words.
    Done(String),
    /// It is not, and nothing has changed; why.
    Refused(String),
}

impl ToAdmin {
    /// The word for it in the audit log.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::ReloadPolicy => "policy-reload",
        }
    }
}

impl Frame for ToAdmin {
    const MAX_BYTES: usize = 64;

    fn put(&self, w: &mut Writer) {
        match self {
            Self::ReloadPolicy => {
                w.u8(0);
                w.text(crate::BUILD);
            }
        }
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        match r.u8()? {
            0 if r.text()? == crate::BUILD => Ok(Self::ReloadPolicy),
            _ => Err(Malformed),
        }
    }
}

impl Frame for FromAdmin {
    const MAX_BYTES: usize = MAX_ADMIN_TEXT_BYTES + 64;

    fn put(&self, w: &mut Writer) {
        let (tag, text) = match self {
            Self::Done(text) => (0, text),
            Self::Refused(text) => (1, text),
        };
        w.u8(tag);
        let end = text.floor_char_boundary(MAX_ADMIN_TEXT_BYTES);
        w.text(text.get(..end).unwrap_or_default());
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        match r.u8()? {
            0 => Ok(Self::Done(r.text()?.to_owned())),
            1 => Ok(Self::Refused(r.text()?.to_owned())),
            _ => Err(Malformed),
        }
    }
}
