//! Patterns of text: `*` stands for any bytes, everything else for itself.

/// Literal parts with anything between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Glob(Vec<Vec<u8>>);

impl Glob {
    pub(crate) fn parse(text: &str) -> Self {
        Self(text.split('*').map(|part| part.as_bytes().to_vec()).collect())
    }

    /// Whether it matches everything.
    pub(crate) fn is_star(&self) -> bool {
        self.0.len() > 1 && self.0.iter().all(Vec::is_empty)
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
        for part in middle.iter().filter(|part| !part.is_empty()) {
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

    proptest! {
        #[test]
        fn a_star_means_what_the_obvious_matcher_says(pattern in "[ab*]{1,8}", text in "[ab]{0,10}") {
            let glob = Glob::parse(&pattern);
            prop_assert_eq!(glob.matches(text.as_bytes()), slow(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
