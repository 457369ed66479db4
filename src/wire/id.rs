//! Names of key spaces and keys: parsed once, bounded, printable.

use std::fmt;

/// Longest name, in bytes. Long enough for a UUID and a prefix, short enough to print on a line.
pub const MAX_NAME_BYTES: usize = 64;

/// A name of a key space or a key: 1 to 64 of `A-Z a-z 0-9 . _ -`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// Parses a name.
    ///
    /// # Errors
    /// [`BadName`] says which text it was and what a name is.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        let sized = (1..=MAX_NAME_BYTES).contains(&text.len());
        if sized && text.bytes().all(is_name_byte) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadName { text: text.chars().take(MAX_NAME_BYTES + 1).collect() })
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a byte may stand in a [`Name`].
#[must_use]
pub fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// A text that is not a [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a name: use 1 to {MAX_NAME_BYTES} of A-Z a-z 0-9 . _ -", text.escape_debug())]
pub struct BadName {
    text: String,
}

/// Where a key lives: its key space and its name, written `space/key`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyPath {
    /// The key space.
    pub space: Name,
    /// The key within it.
    pub key: Name,
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.space, self.key)
    }
}

/// A key as a script names it: `key` in the selected key space, or `space/key`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyRef {
    /// The key space, where it is written out.
    pub space: Option<Name>,
    /// The key.
    pub key: Name,
}

impl KeyRef {
    /// Parses `key` or `space/key`.
    ///
    /// # Errors
    /// [`BadName`] for the part that is not a name.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        let (space, key) = match text.split_once('/') {
            Some((space, key)) => (Some(Name::parse(space)?), key),
            None => (None, text),
        };
        Ok(Self { space, key: Name::parse(key)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_be_paths_patterns_or_terminal_codes_are_refused() {
        for bad in ["", "a/b", "../x", "a*", "a b", "naïve", "\u{1b}[2J", "a\0", &"x".repeat(65)] {
            assert!(Name::parse(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "remote_space", "K-1.2", &"x".repeat(64)] {
            assert_eq!(Name::parse(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn the_error_does_not_repeat_control_characters() {
        let message = Name::parse("\u{1b}[2J").unwrap_err().to_string();
        assert!(!message.contains('\u{1b}'), "{message}");
    }
}
