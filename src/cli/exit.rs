//! Exit codes, and the one kind of error that ends a command.

use std::process::ExitCode;

use client::ConnectFault;
use keyspace::KeyspaceError;
use wire::Code;
use wire::admin::Reason;

/// How a command ends. The numbers are documented in the README.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// It did what was asked.
    Done = 0,
    /// Findings, a refusal by the policy, or an error of the script.
    Refused = 1,
    /// The arguments or a file that they name are wrong.
    Usage = 2,
    /// Not authenticated, or the keyspace was not unlocked.
    Locked = 3,
    /// A file is damaged or an answer is not the service's.
    Integrity = 4,
    /// Somebody that is needed is not there.
    Unavailable = 5,
    /// A limit or a time was exceeded.
    Limit = 6,
    /// A fault of this program.
    Internal = 70,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) exit: Exit,
    pub(crate) message: String,
}

impl Fault {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// The system around us refused something: what was being done, and why not.
    pub(crate) fn system(doing: &str, error: &dyn std::fmt::Display) -> Self {
        Self::new(Exit::Unavailable, format!("{doing}: {error}"))
    }
}

impl From<KeyspaceError> for Fault {
    fn from(error: KeyspaceError) -> Self {
        Self::new(error.reason().into(), error.to_string())
    }
}

impl From<Reason> for Exit {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Usage => Self::Usage,
            Reason::Locked => Self::Locked,
            Reason::Integrity => Self::Integrity,
            Reason::Unavailable => Self::Unavailable,
            Reason::Internal => Self::Internal,
        }
    }
}

impl From<broker::OperateError> for Fault {
    fn from(error: broker::OperateError) -> Self {
        Self::new(error.reason().into(), error.to_string())
    }
}

impl From<broker::AuditError> for Fault {
    fn from(error: broker::AuditError) -> Self {
        Self::new(error.reason().into(), error.to_string())
    }
}

impl From<ConnectFault> for Fault {
    fn from(fault: ConnectFault) -> Self {
        let exit = match fault {
            ConnectFault::File(_) => Exit::Usage,
            ConnectFault::Refused { .. } => Exit::Locked,
            ConnectFault::Tls { .. } | ConnectFault::Unreachable { .. } => Exit::Unavailable,
        };
        Self::new(exit, fault.to_string())
    }
}

impl From<client::BadAddress> for Fault {
    fn from(error: client::BadAddress) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<sandbox::ConfineError> for Fault {
    fn from(error: sandbox::ConfineError) -> Self {
        Self::new(Exit::Internal, error.to_string())
    }
}

/// The exit code for how a script ended.
pub(crate) fn for_code(code: Code) -> Exit {
    match code {
        Code::ParseError | Code::ScriptError | Code::PolicyDenied | Code::Conflict => Exit::Refused,
        Code::LimitScriptSize
        | Code::LimitOperations
        | Code::LimitMemory
        | Code::LimitTime
        | Code::LimitDepth
        | Code::LimitHostCalls
        | Code::LimitNewKeys
        | Code::LimitOutput
        | Code::LimitResult
        | Code::RateLimited => Exit::Limit,
        Code::Unauthenticated | Code::Replayed => Exit::Locked,
        Code::Busy | Code::Sealed | Code::AuditUnavailable | Code::ShuttingDown => {
            Exit::Unavailable
        }
        Code::Internal => Exit::Internal,
    }
}

/// A panic is a fault of ours, except that the storage library answers some damage with one. It ends
/// the process: nothing that was half done is kept, and children end with us.
pub(crate) fn on_panic(info: &std::panic::PanicHookInfo<'_>) {
    let in_storage = info.location().is_some_and(|at| at.file().contains("/redb-"));
    let (exit, text) = if in_storage {
        (Exit::Integrity, "the keyspace is damaged: restore it from a backup".to_owned())
    } else {
        (Exit::Internal, format!("a fault of this program: {info}"))
    };
    crate::say::talk(&format!("crypto-cli: {text}"));
    std::process::exit(i32::from(exit as u8));
}
