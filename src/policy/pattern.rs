//! Key patterns: `space/key`, or `space` for calls on a space alone. `*` stays inside one name.

use wire::{KeyPath, KeyRef, Name};

/// A key pattern of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    space: Glob,
    key: Option<Glob>,
}

impl Pattern {
    /// Parses `space` or `space/key`. The error says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let mut parts = text.split('/');
        let space = Glob::parse(parts.next().unwrap_or_default())?;
        let key = parts.next().map(Glob::parse).transpose()?;
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

    /// Whether a call on a whole space matches: by the pattern of a space, or by the space part of
    /// the pattern of a key.
    pub(crate) fn matches_space(&self, space: &Name) -> bool {
        self.space.matches(space.as_str())
    }

    /// Whether the pattern covers a key space with all its keys, whatever their names.
    pub(crate) fn covers_space(&self, space: &Name) -> bool {
        self.matches_space(space) && self.key.as_ref().is_none_or(Glob::is_star)
    }

    /// Whether a call on one key matches: only by the pattern of a key.
    pub(crate) fn matches_key(&self, path: &KeyPath) -> bool {
        let key = self.key.as_ref();
        self.space.matches(path.space.as_str())
            && key.is_some_and(|key| key.matches(path.key.as_str()))
    }

    /// Whether some key could match, with what is known of the key's place.
    pub(crate) fn could_match_key(&self, known: Option<&KeyRef>) -> bool {
        let Some(part) = &self.key else { return false };
        known.is_none_or(|known| {
            part.matches(known.key.as_str())
                && known.space.as_ref().is_none_or(|space| self.matches_space(space))
        })
    }
}

/// Literal parts with any text between them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Glob(Vec<String>);

impl Glob {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err("a name in a key pattern is empty");
        }
        if text.len() > wire::id::MAX_NAME_BYTES {
            return Err("a name in a key pattern is longer than any name can be");
        }
        if !text.bytes().all(|byte| byte == b'*' || wire::id::is_name_byte(byte)) {
            return Err("a key pattern holds only A-Z a-z 0-9 . _ - and `*`");
        }
        Ok(Self(text.split('*').map(str::to_owned).collect()))
    }

    fn is_star(&self) -> bool {
        self.0.len() > 1 && self.0.iter().all(String::is_empty)
    }

    /// First part at the start, last part at the end, the others in order between them: leftmost
    /// finds suffice, so this takes linear steps per part and never backtracks.
    fn matches(&self, text: &str) -> bool {
        let [first, middle @ .., last] = self.0.as_slice() else {
            return self.0.first().is_some_and(|only| only == text);
        };
        let Some(mut rest) = text.strip_prefix(first.as_str()) else {
            return false;
        };
        for part in middle {
            let Some((_, after)) = rest.split_once(part.as_str()) else {
                return false;
            };
            rest = after;
        }
        rest.ends_with(last.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The obvious recursive matcher, to compare with.
    fn slow(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.first(), text.first()) {
            (None, None) => true,
            (Some(b'*'), _) => {
                slow(&pattern[1..], text) || (!text.is_empty() && slow(pattern, &text[1..]))
            }
            (Some(p), Some(t)) if p == t => slow(&pattern[1..], &text[1..]),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn a_star_means_what_the_obvious_matcher_says(pattern in "[ab*]{1,8}", text in "[ab]{1,10}") {
            let glob = Glob::parse(&pattern).unwrap();
            prop_assert_eq!(glob.matches(&text), slow(pattern.as_bytes(), text.as_bytes()));
        }
    }

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
