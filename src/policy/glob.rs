//! Patterns of text: `*` stands for any bytes, everything else for itself.

/// Literal parts with anything between them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Glob(Vec<Vec<u8>>);

impl Glob {
    pub(crate) fn parse(text: &str) -> Self {
        let mut parts: Vec<Vec<u8>> =
            text.split('*').map(|part| part.as_bytes().to_vec()).collect();
        // Stars in a row are one.
        let last = parts.len() - 1;
        let mut at = 0;
        parts.retain(|part| {
            at += 1;
            at == 1 || at == last + 1 || !part.is_empty()
        });
        Self(parts)
    }

    /// Whether it matches everything.
    pub(crate) fn is_star(&self) -> bool {
        self.0.len() > 1 && self.0.iter().all(Vec::is_empty)
    }

    /// Whether every text that the other matches matches this one. A byte that stands in no pattern
    /// stands for what the other's stars may be: only a star of this one takes it.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.matches(&other.0.join(&0))
    }

    /// A pattern of texts that both match, of as many as one pattern can tell; `None` when there are none.
    pub(crate) fn in_common_with(&self, other: &Self) -> Option<Self> {
        let longer = |one: &Vec<u8>, other: &Vec<u8>, fits: fn(&[u8], &[u8]) -> bool| {
            let (long, short) = if one.len() < other.len() { (other, one) } else { (one, other) };
            fits(long, short).then(|| long.clone())
        };
        if self == other {
            return Some(self.clone());
        }
        match (self.0.as_slice(), other.0.as_slice()) {
            ([text], _) => other.matches(text).then(|| self.clone()),
            (_, [text]) => self.matches(text).then(|| other.clone()),
            ([first, middle @ .., last], [other_first, other_middle @ .., other_last]) => {
                let mut both =
                    vec![longer(first, other_first, |long, short| long.starts_with(short))?];
                both.extend(middle.iter().chain(other_middle).cloned());
                both.push(longer(last, other_last, |long, short| long.ends_with(short))?);
                Some(Self(both))
            }
            ([], _) | (_, []) => None,
        }
    }

    /// The pattern, with this for each `*`.
    pub(crate) fn filled(&self, with: &str) -> String {
        let parts: Vec<_> = self.0.iter().map(|part| String::from_utf8_lossy(part)).collect();
        parts.join(with)
    }

    /// First part at the start, last part at the end, the others in order between them: leftmost
    /// finds suffice, so there is no going back.
    pub(crate) fn matches(&self, text: &[u8]) -> bool {
        let [first, middle @ .., last] = self.0.as_slice() else {
            return self.0.first().is_some_and(|only| only == text);
        };
        let Some(mut rest) = text.strip_prefix(first.as_slice()) else {
            return false;
        };
        for part in middle {
            let Some(at) = memchr::memmem::find(rest, part) else {
                return false;
            };
            rest = rest.get(at + part.len()..).unwrap_or_default();
        }
        rest.ends_with(last)
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

    #[test]
    fn only_a_star_is_everything() {
        for (pattern, is_star) in [("*", true), ("**", true), ("", false), ("a*", false)] {
            assert_eq!(Glob::parse(pattern).is_star(), is_star, "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn a_star_means_what_the_obvious_matcher_says(pattern in "[ab*]{1,8}", text in "[ab]{0,10}") {
            let glob = Glob::parse(&pattern);
            prop_assert_eq!(glob.matches(text.as_bytes()), slow(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn what_two_patterns_have_in_common_both_match(one in "[ab*]{1,6}", other in "[ab*]{1,6}", fill in "[ab]{0,3}") {
            let (one, other) = (Glob::parse(&one), Glob::parse(&other));
            if let Some(both) = one.in_common_with(&other) {
                let text = both.filled(&fill);
                prop_assert!(one.matches(text.as_bytes()) && other.matches(text.as_bytes()), "{}", text);
            }
        }

        #[test]
        fn one_pattern_covers_another_if_it_matches_whatever_that_matches(
            one in "[ab*]{1,5}", other in "[ab*]{1,5}", fill in "[abc]{0,3}"
        ) {
            let (one, other) = (Glob::parse(&one), Glob::parse(&other));
            if one.covers(&other) {
                prop_assert!(one.matches(other.filled(&fill).as_bytes()));
            } else {
                prop_assert!(!one.matches(other.filled("c").as_bytes()));
            }
        }

        #[test]
        fn patterns_that_a_text_matches_have_something_in_common(text in "[ab]{0,6}", one in "[ab*]{1,6}", other in "[ab*]{1,6}") {
            let (one, other) = (Glob::parse(&one), Glob::parse(&other));
            if one.matches(text.as_bytes()) && other.matches(text.as_bytes()) {
                prop_assert!(one.in_common_with(&other).is_some());
            }
        }
    }
}
