//! The closed list of error codes a caller can meet.

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $word:literal, $number:literal;)+) => {
        /// What went wrong, as the caller may know it. The audit log knows more.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[doc = $doc])+ $variant,)+ }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Code] = &[$(Code::$variant,)+];

            /// The word that stands in replies and in the header `Nats-Service-Error`.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Code::$variant => $word,)+ }
            }

            /// The number of the header `Nats-Service-Error-Code`, in the manner of HTTP.
            #[must_use]
            pub fn number(self) -> u16 {
                match self { $(Code::$variant => $number,)+ }
            }
        }
    };
}

codes! {
    /// The script is not a script.
    ParseError = "parse-error", 400;
    /// The script ended by an error of its own.
    ScriptError = "script-error", 422;
    /// The policy does not allow what was asked.
    PolicyDenied = "policy-denied", 403;
    /// The script is longer than allowed.
    LimitScriptSize = "limit-script-size", 413;
    /// The script took more operations than allowed.
    LimitOperations = "limit-operations", 429;
    /// The script took more memory than allowed.
    LimitMemory = "limit-memory", 429;
    /// The script took more time than allowed.
    LimitTime = "limit-time", 408;
    /// Calls or values nest deeper than allowed.
    LimitDepth = "limit-depth", 429;
    /// The script called host functions more often than allowed.
    LimitHostCalls = "limit-host-calls", 429;
    /// The script made more keys and key spaces than allowed.
    LimitNewKeys = "limit-new-keys", 429;
    /// The script printed more than allowed.
    LimitOutput = "limit-output", 413;
    /// The value of the script is larger than allowed.
    LimitResult = "limit-result", 413;
    /// The service cannot tell who asks, or does not know them.
    Unauthenticated = "unauthenticated", 401;
    /// A request proof was used before.
    Replayed = "replayed", 409;
    /// The caller used up its share of the time window.
    RateLimited = "rate-limited", 429;
    /// Another script changed the same thing first.
    Conflict = "conflict", 409;
    /// The queue is full.
    Busy = "busy", 503;
    /// The keyspace is not unlocked.
    Sealed = "sealed", 503;
    /// The audit log cannot be written, so nothing is signed.
    AuditUnavailable = "audit-unavailable", 503;
    /// The service is stopping.
    ShuttingDown = "shutting-down", 503;
    /// A fault of the service itself.
    Internal = "internal", 500;
}

impl Code {
    /// The code that a word names.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.word() == word)
    }

    /// Whether a service says it without a signature: from a process that has no key, or has none yet.
    #[must_use]
    pub fn may_be_unsigned(self) -> bool {
        match self {
            Self::Busy
            | Self::LimitScriptSize
            | Self::Internal
            | Self::Sealed
            | Self::ShuttingDown => true,
            Self::ParseError
            | Self::ScriptError
            | Self::PolicyDenied
            | Self::LimitOperations
            | Self::LimitMemory
            | Self::LimitTime
            | Self::LimitDepth
            | Self::LimitHostCalls
            | Self::LimitNewKeys
            | Self::LimitOutput
            | Self::LimitResult
            | Self::Unauthenticated
            | Self::Replayed
            | Self::RateLimited
            | Self::Conflict
            | Self::AuditUnavailable => false,
        }
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}
