//! Broker and worker: one job, its calls, its end.

use crate::call::CallName;
use crate::id::{KeyRef, Name};
use crate::tree::Tree;

/// Largest script of any policy, in bytes: the default message size of a NATS server.
pub const MAX_SCRIPT_BYTES: usize = 1024 * 1024;
/// Largest argument, result or printed text of any policy, in bytes: the same reason.
pub const MAX_VALUE_BYTES: usize = 1024 * 1024;
/// Most messages of one `sign_all`: the time that they take lies far below any deadline.
pub const MAX_MESSAGES: usize = 256;
/// Longest signature, public key or name of an algorithm that a script may pass, in bytes.
pub const MAX_WORD_BYTES: usize = 1024;
/// Room for tags, lengths and positions around one script or value, in bytes.
pub(crate) const OVERHEAD_BYTES: usize = 64 * 1024;

/// What the broker sends a worker.
#[derive(Debug, Clone, PartialEq)]
pub enum ToWorker {
    /// The one job, always first.
    Job(Job),
    /// The answer to a call.
    Answer(Answer),
}

/// One script and its bounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Run the script, or only read it.
    pub task: Task,
    /// The script.
    pub source: String,
    /// Steps of the engine the script may take.
    pub operations: u64,
    /// Bytes the script may hold at once.
    pub memory_bytes: u64,
    /// Levels of function calls the script may nest.
    pub call_depth: u32,
    /// Bytes of the value the script may return.
    pub result_bytes: u64,
    /// The host functions that the policy may allow it. No other exists for it.
    pub granted: Vec<CallName>,
}

/// What a worker does with its script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Run it.
    Run,
    /// Parse it and report the host functions that it names.
    Check,
}

/// The answer to a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// It was done.
    Value(Value),
    /// It failed in a way that the script may catch.
    Fault(String),
}

/// A value that a host function returns.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `true` or `false`.
    Bool(bool),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// An array of texts.
    Texts(Vec<String>),
}

/// What a worker sends the broker.
#[derive(Debug, Clone, PartialEq)]
pub enum FromWorker {
    /// A host function was called.
    Call(Call, Position),
    /// A host function was called that is not granted, and so does not exist. It is not answered.
    NotGranted(CallName, Position),
    /// Something was printed: one text, without the line end that `print` adds.
    Print(String),
    /// The script has ended. Nothing after this is read.
    Done(Ending, Usage),
    /// The answer to [`Task::Check`].
    Sightings(Vec<Sighting>),
}

/// A place in a script. 0 is unknown. It comes from the worker, so it labels and never decides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Position {
    /// From 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
}

/// A host function with its arguments.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// See [`CallName`] for each.
    CreateKeySpace(Name),
    /// See [`CallName`].
    SelectKeySpace(Name),
    /// See [`CallName`].
    ListKeySpaces,
    /// See [`CallName`].
    DeleteKeySpace(Name),
    /// See [`CallName`].
    CreateKeypair(KeyRef),
    /// See [`CallName`].
    SelectKeypair(KeyRef),
    /// See [`CallName`].
    ListKeypairs,
    /// Of the named or the selected key.
    PublicKey(Option<KeyRef>),
    /// See [`CallName`].
    DeleteKeypair(KeyRef),
    /// Message, and the named or the selected key.
    Sign(Vec<u8>, Option<KeyRef>),
    /// Namespace and message, under the selected key.
    SignIn(Name, Vec<u8>),
    /// Messages, under the selected key.
    SignAll(Vec<Vec<u8>>),
    /// Message and signature in hex, under the selected key.
    Verify(Vec<u8>, String),
    /// Public key in hex, message, signature in hex.
    VerifyWith(String, Vec<u8>, String),
    /// Algorithm and data.
    Hash(String, Vec<u8>),
    /// How many.
    RandomBytes(u32),
}

impl Call {
    /// Which function it is.
    #[must_use]
    pub fn name(&self) -> CallName {
        match self {
            Call::CreateKeySpace(_) => CallName::CreateKeySpace,
            Call::SelectKeySpace(_) => CallName::SelectKeySpace,
            Call::ListKeySpaces => CallName::ListKeySpaces,
            Call::DeleteKeySpace(_) => CallName::DeleteKeySpace,
            Call::CreateKeypair(_) => CallName::CreateKeypair,
            Call::SelectKeypair(_) => CallName::SelectKeypair,
            Call::ListKeypairs => CallName::ListKeypairs,
            Call::PublicKey(_) => CallName::PublicKey,
            Call::DeleteKeypair(_) => CallName::DeleteKeypair,
            Call::Sign(..) => CallName::Sign,
            Call::SignIn(..) => CallName::SignIn,
            Call::SignAll(_) => CallName::Sign,
            Call::Verify(..) => CallName::Verify,
            Call::VerifyWith(..) => CallName::VerifyWith,
            Call::Hash(..) => CallName::Hash,
            Call::RandomBytes(_) => CallName::RandomBytes,
        }
    }

    /// Length of its message, in bytes. Those of a `sign_all` are looked at one by one.
    #[must_use]
    pub fn message_bytes(&self) -> usize {
        match self {
            Call::Sign(message, _)
            | Call::SignIn(_, message)
            | Call::Verify(message, _)
            | Call::VerifyWith(_, message, _)
            | Call::Hash(_, message) => message.len(),
            Call::CreateKeySpace(_)
            | Call::SelectKeySpace(_)
            | Call::ListKeySpaces
            | Call::DeleteKeySpace(_)
            | Call::CreateKeypair(_)
            | Call::SelectKeypair(_)
            | Call::ListKeypairs
            | Call::PublicKey(_)
            | Call::DeleteKeypair(_)
            | Call::SignAll(_)
            | Call::RandomBytes(_) => 0,
        }
    }
}

/// How a script ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// With a value.
    Value(Tree),
    /// With an error.
    Failed(Failure, String, Position),
}

/// Why a script failed, as the worker saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Failure {
    /// It could not be parsed.
    Parse,
    /// It threw, or did what cannot be done.
    Script,
    /// It took too many operations.
    Operations,
    /// It held too much memory.
    Memory,
    /// It nested too deep.
    Depth,
    /// Its value was too large.
    Result,
}

impl Failure {
    pub(crate) const ALL: [Failure; 6] = [
        Failure::Parse,
        Failure::Script,
        Failure::Operations,
        Failure::Memory,
        Failure::Depth,
        Failure::Result,
    ];
}

/// What a script took, by the worker's own account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Engine steps.
    pub operations: u64,
    /// Most bytes held at once.
    pub memory_bytes: u64,
}

/// A host function that a script names.
#[derive(Debug, Clone, PartialEq)]
pub struct Sighting {
    /// Which; `None` is a name that is put together while the script runs.
    pub call: Option<CallName>,
    /// Where.
    pub at: Position,
    /// The key space or key it is given, where that is written out in the script.
    pub literal: Option<KeyRef>,
    /// The same of what is to be signed, verified or hashed.
    pub message: Option<Vec<u8>>,
    /// The same of the namespace of `sign_in`.
    pub namespace: Option<String>,
}
