//! Key patterns: `space/key`, or `space` for calls on a space alone. `*` stays inside one name.

use std::borrow::Cow;

use wire::{CallName, KeyPath, KeyRef, Name, Touches};

use crate::glob::Glob;
use crate::grant::Target;

/// What a call is on, as patterns are held against it: one key or key space, or all that a pattern matches.
#[derive(Debug)]
pub(crate) enum On<'a> {
    /// Nothing that is stored.
    Nothing,
    /// The text of a key space.
    Space(Cow<'a, [u8]>),
    /// The texts of a key space and of a key.
    Key(Cow<'a, [u8]>, Cow<'a, [u8]>),
}

impl<'a> From<&'a Target> for On<'a> {
    fn from(target: &'a Target) -> Self {
        let text = |name: &'a Name| Cow::Borrowed(name.as_str().as_bytes());
        match target {
            Target::Nothing => Self::Nothing,
            Target::Space(space) => Self::Space(text(space)),
            Target::Key(KeyPath { space, key }) => Self::Key(text(space), text(key)),
        }
    }
}

/// A key pattern of a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pattern {
    space: Glob,
    key: Option<Glob>,
}

impl Pattern {
    /// Parses `space` or `space/key`. The error says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let mut parts = text.split('/');
        let space = name(parts.next().unwrap_or_default())?;
        let key = parts.next().map(name).transpose()?;
        if parts.next().is_some() {
            return Err("a key pattern has one `/`, between key space and key");
        }
        Ok(Self { space, key })
    }

    /// Whether it reaches keys, rather than a key space alone.
    pub(crate) fn names_a_key(&self) -> bool {
        self.key.is_some()
    }

    /// Whether this is a pattern of keys in the very key spaces of the other.
    pub(crate) fn is_companion_of(&self, other: &Self) -> bool {
        self.key.is_some() && self.space == other.space
    }

    /// Whether it is `*/*`, every key.
    pub(crate) fn is_all(&self) -> bool {
        self.space.is_star() && self.key.as_ref().is_some_and(Glob::is_star)
    }

    /// Whether it reaches all keys of the key spaces that it matches, whatever their names.
    pub(crate) fn takes_all_keys(&self) -> bool {
        self.key.as_ref().is_none_or(Glob::is_star)
    }

    /// All that it matches.
    pub(crate) fn whole(&self) -> On<'static> {
        let text = |glob: &Glob| Cow::Owned(glob.with_strange_stars());
        match &self.key {
            None => On::Space(text(&self.space)),
            Some(key) => On::Key(text(&self.space), text(key)),
        }
    }

    /// Whether everything that the other pattern matches matches this one.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.space.covers(&other.space)
            && match (&self.key, &other.key) {
                (Some(one), Some(other)) => one.covers(other),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            }
    }

    /// What this and the other pattern have in common. A pattern of a space alone has the keys of the
    /// other in common with it.
    pub(crate) fn in_common_with(&self, other: &Self) -> Vec<Self> {
        let spaces = self.space.in_common_with(&other.space);
        let keys: Vec<Option<Glob>> = match (&self.key, &other.key) {
            (Some(one), Some(other)) => one.in_common_with(other).into_iter().map(Some).collect(),
            (_, _) => vec![None],
        };
        let with = |space: &Glob| -> Vec<Self> {
            keys.iter().map(|key| Self { space: space.clone(), key: key.clone() }).collect()
        };
        spaces.iter().flat_map(with).collect()
    }

    /// The key spaces of it.
    pub(crate) fn space_alone(&self) -> Self {
        Self { space: self.space.clone(), key: None }
    }

    /// What of it a call can be on: its keys, or their key spaces.
    pub(crate) fn fitting(&self, call: CallName) -> Option<Self> {
        match call.touches() {
            Touches::Nothing => None,
            Touches::Key => self.names_a_key().then(|| self.clone()),
            Touches::Space | Touches::WholeSpace => Some(self.space_alone()),
        }
    }

    /// How many bytes of it are no `*`: what covers another pattern has no more of them than that.
    pub(crate) fn literal_bytes(&self) -> usize {
        self.space.literal_bytes() + self.key.as_ref().map_or(0, Glob::literal_bytes)
    }

    /// As it is written.
    pub(crate) fn text(&self) -> String {
        let key = self.key.as_ref().map_or(String::new(), |key| format!("/{}", key.filled("*")));
        self.space.filled("*") + &key
    }

    /// Whether a call on a whole space matches: by the pattern of a space, or by the space part of
    /// the pattern of a key.
    pub(crate) fn matches_space(&self, space: &[u8]) -> bool {
        self.space.matches(space)
    }

    /// Whether the pattern covers a key space with all its keys.
    pub(crate) fn covers_space(&self, space: &[u8]) -> bool {
        self.matches_space(space) && self.takes_all_keys()
    }

    /// Whether a call on one key matches: only by the pattern of a key.
    pub(crate) fn matches_key(&self, space: &[u8], key: &[u8]) -> bool {
        self.space.matches(space) && self.key.as_ref().is_some_and(|own| own.matches(key))
    }

    /// Whether some key could match, with what is known of the key's place.
    pub(crate) fn could_match_key(&self, known: Option<&KeyRef>) -> bool {
        let Some(part) = &self.key else { return false };
        known.is_none_or(|known| {
            part.matches(known.key.as_str().as_bytes())
                && known
                    .space
                    .as_ref()
                    .is_none_or(|space| self.matches_space(space.as_str().as_bytes()))
        })
    }
}

/// A name, or a pattern of names.
pub(crate) fn name(text: &str) -> Result<Glob, &'static str> {
    if text.is_empty() {
        return Err("a name in a pattern is empty");
    }
    if text.len() > wire::id::MAX_NAME_BYTES {
        return Err("a name in a pattern is longer than any name can be");
    }
    if !text.bytes().all(|byte| byte == b'*' || wire::id::is_name_byte(byte)) {
        return Err("a pattern of names holds only A-Z a-z 0-9 . _ - and `*`");
    }
    Ok(Glob::parse(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_does_not_cross_from_space_to_key() {
        let pattern = Pattern::parse("bill*").unwrap();
        assert!(pattern.matches_space(b"billing"));
        assert!(!pattern.matches_key(b"billing", b"k1"));
        let pattern = Pattern::parse("*/k1").unwrap();
        assert!(pattern.matches_key(b"any", b"k1"));
        assert!(!pattern.matches_key(b"any", b"k2"));
    }

    #[test]
    fn a_key_of_another_key_space_or_of_another_name_could_not_match() {
        let pattern = Pattern::parse("a/k*").unwrap();
        let could = |text: &str| pattern.could_match_key(Some(&KeyRef::parse(text).unwrap()));
        assert!(could("a/k1") && could("k1") && pattern.could_match_key(None));
        assert!(!could("b/k1") && !could("a/x") && !could("x"));
        assert!(!Pattern::parse("a").unwrap().could_match_key(None));
    }

    #[test]
    fn the_bytes_of_a_pattern_are_those_of_both_parts_without_stars() {
        for (text, bytes) in [("team/k*y", 6), ("*/*", 0), ("te*m", 3), ("*/abc", 3)] {
            assert_eq!(Pattern::parse(text).unwrap().literal_bytes(), bytes, "{text}");
        }
    }

    #[test]
    fn patterns_that_cannot_be_names_are_refused() {
        for bad in ["", "/", "a/", "/a", "a/b/c", "a b", "a?", "[a]"] {
            assert!(Pattern::parse(bad).is_err(), "{bad:?}");
        }
    }
}
