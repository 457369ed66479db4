//! What can be otherwise between two policies.

use wire::CallName;

use crate::{AuditTerms, Isolation};

/// Something that is otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The client, or `anonymous`; `None` for what concerns the whole service.
    pub client: Option<String>,
    /// What.
    pub what: Changed,
}

/// What is otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// The name of the service: callers sign for it.
    Service {
        /// Before.
        old: String,
        /// Now.
        new: String,
    },
    /// `[sandbox] isolation`.
    Isolation {
        /// Before.
        old: Isolation,
        /// Now.
        new: Isolation,
    },
    /// `[audit]`.
    Audit {
        /// Before.
        old: AuditTerms,
        /// Now.
        new: AuditTerms,
    },
    /// The policy has or knows the client, and did not.
    Known,
    /// The policy does not have the client any more, or it has ended or been revoked.
    Unknown,
    /// Another nkey speaks for the client.
    Nkey {
        /// Before.
        old: String,
        /// Now.
        new: String,
    },
    /// When the client ends, in Unix seconds.
    Expires {
        /// Before.
        old: Option<u64>,
        /// Now.
        new: Option<u64>,
    },
    /// How often the client may do anything.
    Allowance,
    /// Whether its scripts run at all, whatever they may do then.
    Runs {
        /// SHA-256 of the one that it is about; `None` for those that none of its roles names.
        script: Option<[u8; 32]>,
        /// Whether they run now; they did not before, or the reverse.
        new: bool,
    },
    /// A bound of its scripts, or of all of them.
    Limit {
        /// Its name in a policy.
        bound: &'static str,
        /// `bytes`, `ms`, or nothing for a count.
        unit: &'static str,
        /// SHA-256 of the script that it is for, if it is for one.
        script: Option<[u8; 32]>,
        /// Before.
        old: u64,
        /// Now.
        new: u64,
    },
    /// A call.
    Call {
        /// The host function.
        call: CallName,
        /// On what.
        on: Where,
        /// What became of it.
        kind: Kind,
        /// The rule of the old policy, with its line.
        old: Option<(String, usize)>,
        /// The rule of the new one.
        new: Option<(String, usize)>,
        /// To whom keys may be exported by the new policy, where that is the call.
        to: Vec<String>,
    },
}

/// What a call is on that is decided otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Where {
    /// Nothing that is stored: it never is.
    Nothing,
    /// A key that the script has itself, where it may be on a stored one instead.
    OwnKey,
    /// The keys or key spaces of a pattern.
    Pattern(String),
}

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// It was refused and may be allowed.
    Allowed,
    /// It may have been allowed and is refused.
    Refused,
    /// It may be allowed as before, on other terms.
    OtherTerms,
}
