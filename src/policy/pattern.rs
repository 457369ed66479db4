//! Key patterns: `space/key`, or `space` for calls on a space alone. `*` stays inside one name.

use wire::{KeyPath, KeyRef, Name};

use crate::glob::Glob;

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

    /// Whether it covers the key spaces of the other pattern with all their keys.
    pub(crate) fn covers_space_of(&self, other: &Self) -> bool {
        self.space.covers(&other.space) && self.key.as_ref().is_none_or(Glob::is_star)
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

    /// How many bytes of it are no `*`: what covers another pattern has no more of them than that.
    pub(crate) fn literal_bytes(&self) -> usize {
        self.space.literal_bytes() + self.key.as_ref().map_or(0, Glob::literal_bytes)
    }

    /// As it is written.
    pub(crate) fn text(&self) -> String {
        let key = self.key.as_ref().map_or(String::new(), |key| format!("/{}", key.filled("*")));
        self.space.filled("*") + &key
    }

    /// Whether it reaches the key spaces of the other pattern.
    pub(crate) fn reaches_space_of(&self, other: &Self) -> bool {
        self.space.covers(&other.space)
    }

    /// Whether a call on a whole space matches: by the pattern of a space, or by the space part of
    /// the pattern of a key.
    pub(crate) fn matches_space(&self, space: &Name) -> bool {
        self.space.matches(space.as_str().as_bytes())
    }

    /// Whether the pattern covers a key space with all its keys, whatever their names.
    pub(crate) fn covers_space(&self, space: &Name) -> bool {
        self.matches_space(space) && self.key.as_ref().is_none_or(Glob::is_star)
    }

    /// Whether a call on one key matches: only by the pattern of a key.
    pub(crate) fn matches_key(&self, path: &KeyPath) -> bool {
        let key = self.key.as_ref();
        self.space.matches(path.space.as_str().as_bytes())
            && key.is_some_and(|key| key.matches(path.key.as_str().as_bytes()))
    }

    /// Whether some key could match, with what is known of the key's place.
    pub(crate) fn could_match_key(&self, known: Option<&KeyRef>) -> bool {
        let Some(part) = &self.key else { return false };
        known.is_none_or(|known| {
            part.matches(known.key.as_str().as_bytes())
                && known.space.as_ref().is_none_or(|space| self.matches_space(space))
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
        let path = |space: &str, key: &str| KeyPath {
            space: Name::parse(space).unwrap(),
            key: Name::parse(key).unwrap(),
        };
        let pattern = Pattern::parse("bill*").unwrap();
        assert!(pattern.matches_space(&Name::parse("billing").unwrap()));
        assert!(!pattern.matches_key(&path("billing", "k1")));
        let pattern = Pattern::parse("*/k1").unwrap();
        assert!(pattern.matches_key(&path("any", "k1")));
        assert!(!pattern.matches_key(&path("any", "k2")));
    }

    #[test]
    fn patterns_that_cannot_be_names_are_refused() {
        for bad in ["", "/", "a/", "/a", "a/b/c", "a b", "a?", "[a]"] {
            assert!(Pattern::parse(bad).is_err(), "{bad:?}");
        }
    }
}
