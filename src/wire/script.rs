//! Broker and worker: one job, its calls, its end.

use crate::algorithm::Algorithm;
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
    /// Some of what is found for [`Task::Check`], which then is done with nothing as its value.
    Sightings(Vec<Sighting>),
}

/// A place in a script. 0 is unknown. It comes from the worker, so it labels and never decides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// From 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
}

/// A host function with its arguments. Without a key it is the selected one. See [`CallName`] for each.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// Name.
    CreateKeySpace(Name),
    /// Name.
    SelectKeySpace(Name),
    /// Nothing.
    ListKeySpaces,
    /// Name.
    DeleteKeySpace(Name),
    /// Name.
    ExportKeySpace(Name),
    /// Name, and what it is for.
    CreateKeypair(KeyRef, Algorithm),
    /// Name.
    SelectKeypair(KeyRef),
    /// Nothing.
    ListKeypairs,
    /// Key, and how it is to be written.
    PublicKey(Option<KeyRef>, PublicForm),
    /// Key.
    RotateKeypair(Option<KeyRef>),
    /// Name.
    DeleteKeypair(KeyRef),
    /// How, message or digest, and key.
    Sign(Scheme, Vec<u8>, Option<KeyRef>),
    /// Namespace and message, under the selected key.
    SignIn(Name, Vec<u8>),
    /// Messages, under the selected key.
    SignAll(Vec<Vec<u8>>),
    /// Message, and key.
    Hmac(Vec<u8>, Option<KeyRef>),
    /// A key of `generate_key` in base64 or else the selected key, and the text.
    Encrypt(Option<String>, Vec<u8>),
    /// The same, and what `Encrypt` gave.
    Decrypt(Option<String>, String),
    /// Public key in hex, and the text.
    EncryptTo(String, Vec<u8>),
    /// What `EncryptTo` gave.
    DecryptFrom(String),
    /// Nothing.
    GenerateKey,
    /// Message and signature in hex, under the selected key.
    Verify(Vec<u8>, String),
    /// Public key in hex, message, signature in hex; the algorithm where the length of the key does not tell it.
    VerifyWith(String, Vec<u8>, String, Option<Algorithm>),
    /// Algorithm and data.
    Hash(String, Vec<u8>),
    /// How many.
    RandomBytes(u32),
}

/// How something is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Scheme {
    /// As the algorithm of the key does it: Ed25519 signs the message, ECDSA its SHA-256.
    Plain = 0,
    /// ECDSA of a digest of 32 bytes that was made elsewhere.
    Digest = 1,
    /// BIP-340.
    Schnorr = 2,
    /// EIP-191, version 0x45: `personal_sign`.
    Ethereum = 3,
}

impl Scheme {
    /// Every scheme, in the order of their numbers.
    pub const ALL: [Scheme; 4] = [Self::Plain, Self::Digest, Self::Schnorr, Self::Ethereum];
}

/// How a public key is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum PublicForm {
    /// Hexadecimal digits; a point is compressed (SEC 1 §2.3.3).
    Hex = 0,
    /// The same bytes in base64.
    Base64 = 1,
    /// `SubjectPublicKeyInfo` in PEM (RFC 5280, 8410, 5480, 7468).
    Pem = 2,
    /// JSON Web Key (RFC 7517, 8037, 8812).
    Jwk = 3,
    /// One line of OpenSSH (RFC 4253 §6.6, 5656, 8709).
    Ssh = 4,
    /// A user nkey of NATS.
    Nkey = 5,
    /// An address of Ethereum with its checksum (EIP-55).
    Ethereum = 6,
}

impl PublicForm {
    /// Every form, in the order of their numbers.
    pub const ALL: [PublicForm; 7] =
        [Self::Hex, Self::Base64, Self::Pem, Self::Jwk, Self::Ssh, Self::Nkey, Self::Ethereum];

    /// Its name in scripts and on the command line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Hex => "hex",
            Self::Base64 => "base64",
            Self::Pem => "pem",
            Self::Jwk => "jwk",
            Self::Ssh => "ssh",
            Self::Nkey => "nkey",
            Self::Ethereum => "ethereum",
        }
    }

    /// The form of this name.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|form| form.word() == word)
    }
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
            Call::ExportKeySpace(_) => CallName::ExportKeySpace,
            Call::CreateKeypair(..) => CallName::CreateKeypair,
            Call::SelectKeypair(_) => CallName::SelectKeypair,
            Call::ListKeypairs => CallName::ListKeypairs,
            Call::PublicKey(..) => CallName::PublicKey,
            Call::RotateKeypair(_) => CallName::RotateKeypair,
            Call::DeleteKeypair(_) => CallName::DeleteKeypair,
            Call::Sign(Scheme::Plain, ..) | Call::SignAll(_) => CallName::Sign,
            Call::Sign(Scheme::Digest, ..) => CallName::SignDigest,
            Call::Sign(Scheme::Schnorr, ..) => CallName::SignSchnorr,
            Call::Sign(Scheme::Ethereum, ..) => CallName::PersonalSign,
            Call::SignIn(..) => CallName::SignIn,
            Call::Hmac(..) => CallName::Hmac,
            Call::Encrypt(..) => CallName::Encrypt,
            Call::Decrypt(..) => CallName::Decrypt,
            Call::EncryptTo(..) => CallName::EncryptTo,
            Call::DecryptFrom(_) => CallName::DecryptFrom,
            Call::GenerateKey => CallName::GenerateKey,
            Call::Verify(..) => CallName::Verify,
            Call::VerifyWith(..) => CallName::VerifyWith,
            Call::Hash(..) => CallName::Hash,
            Call::RandomBytes(_) => CallName::RandomBytes,
        }
    }

    /// Length of what it is to sign, hash or encrypt, in bytes. Those of a `sign_all` are looked at one by
    /// one.
    #[must_use]
    pub fn message_bytes(&self) -> usize {
        match self {
            Call::Sign(_, message, _)
            | Call::SignIn(_, message)
            | Call::Hmac(message, _)
            | Call::Encrypt(_, message)
            | Call::EncryptTo(_, message)
            | Call::Verify(message, _)
            | Call::VerifyWith(_, message, _, _)
            | Call::Hash(_, message) => message.len(),
            Call::Decrypt(_, text) | Call::DecryptFrom(text) => text.len(),
            Call::CreateKeySpace(_)
            | Call::SelectKeySpace(_)
            | Call::ListKeySpaces
            | Call::DeleteKeySpace(_)
            | Call::ExportKeySpace(_)
            | Call::CreateKeypair(..)
            | Call::SelectKeypair(_)
            | Call::ListKeypairs
            | Call::PublicKey(..)
            | Call::RotateKeypair(_)
            | Call::DeleteKeypair(_)
            | Call::SignAll(_)
            | Call::GenerateKey
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

/// What is wrong with a function of a script that has this name.
#[must_use]
pub fn shadowed(name: &str) -> String {
    format!("`{name}` is a function of the host: give yours another name")
}

/// A host function that a script names. In their order they are in that of the script.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sighting {
    /// Where.
    pub at: Position,
    /// Which; `None` is a name that is put together while the script runs.
    pub call: Option<CallName>,
    /// The key space or key it is given, where that is written out in the script.
    pub literal: Option<KeyRef>,
    /// The same of what is to be signed, verified or hashed.
    pub message: Option<Vec<u8>>,
    /// The same of the namespace of `sign_in`.
    pub namespace: Option<String>,
    /// Whether it is given no key, and so is on the one that is selected then.
    pub on_selected: bool,
    /// Whether it is given a key that the script has itself, where it may be given a stored one instead.
    pub own_key: bool,
    /// The algorithm of a key that it makes.
    pub algorithm: Option<Algorithm>,
    /// A name of the host's that the script gives to a function of its own, which is a mistake and no call.
    pub shadows: Option<String>,
    /// Whether it is called as a method of a value that may have a function of its own by that name.
    pub perhaps_own: bool,
}

impl Sighting {
    /// The bytes of the script that it takes at least: a name, brackets, and what is written out in it.
    #[must_use]
    pub fn least_bytes(&self) -> usize {
        let names = self.literal.iter().flat_map(|KeyRef { space, key }| space.iter().chain([key]));
        let names = names.map(|name| name.as_str().len());
        let texts = [&self.namespace, &self.shadows].into_iter().flatten().map(String::len);
        let message = self.message.as_ref().map_or(0, Vec::len);
        "Fn()".len() + names.chain(texts).sum::<usize>() + message
    }
}
