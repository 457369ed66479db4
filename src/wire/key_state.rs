//! Whether a key can be used.

/// What an operator has said of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// It can be used.
    Enabled,
    /// It cannot, until it is enabled again.
    Disabled,
    /// It cannot, and after this time, in Unix seconds, it may be destroyed for good.
    Deleted {
        /// When.
        until: u64,
    },
}

impl KeyState {
    /// Its name for people and programs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::Deleted { .. } => "deleted",
        }
    }

    /// Its byte, and the time that goes with it.
    #[must_use]
    pub fn numbers(self) -> (u8, u64) {
        match self {
            Self::Enabled => (1, 0),
            Self::Disabled => (2, 0),
            Self::Deleted { until } => (3, until),
        }
    }

    /// The state of these numbers.
    #[must_use]
    pub fn from_numbers(state: u8, until: u64) -> Option<Self> {
        match (state, until) {
            (1, 0) => Some(Self::Enabled),
            (2, 0) => Some(Self::Disabled),
            (3, until) => Some(Self::Deleted { until }),
            _ => None,
        }
    }
}
