//! Patterns of text: `*` stands for any bytes, everything else for itself.

const STAR: u8 = b'*';
/// Most patterns by which it is told what two have in common.
const MOST_IN_COMMON: usize = 32;

/// A pattern as it is written.
type Form = Vec<u8>;

/// Literal parts with anything between them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Glob(Vec<Vec<u8>>);

impl Glob {
    pub(crate) fn parse(text: &str) -> Self {
        Self::of(text.as_bytes())
    }

    fn of(text: &[u8]) -> Self {
        let mut parts: Vec<Vec<u8>> =
            text.split(|byte| *byte == STAR).map(<[u8]>::to_vec).collect();
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
        self.matches(&other.with_strange_stars())
    }

    /// A text that stands for all that it matches.
    pub(crate) fn with_strange_stars(&self) -> Vec<u8> {
        self.0.join(&0)
    }

    /// Patterns of the texts that both match: together of all of them, unless there are more patterns than
    /// [`MOST_IN_COMMON`]. They are found from the end of both patterns to their beginning.
    pub(crate) fn in_common_with(&self, other: &Self) -> Vec<Self> {
        if self.covers(other) {
            return vec![other.clone()];
        }
        if other.covers(self) {
            return vec![self.clone()];
        }
        let (one, two) = (self.0.join(&STAR), other.0.join(&STAR));
        // What the rest of one pattern has in common with each rest of the other.
        let mut below = row(None, &two, &[]);
        for first in one.iter().rev() {
            below = row(Some(*first), &two, &below);
        }
        below.first().into_iter().flatten().map(|form| Self::of(form)).collect()
    }

    pub(crate) fn literal_bytes(&self) -> usize {
        self.0.iter().map(Vec::len).sum()
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

/// What the rest of a pattern that begins with `first` has in common with each rest of `two`, the whole
/// first; `below` is that of what comes after `first`.
fn row(first: Option<u8>, two: &[u8], below: &[Vec<Form>]) -> Vec<Vec<Form>> {
    let forms_at = |forms: &[Vec<Form>], at: usize| forms.get(at).cloned().unwrap_or_default();
    let then = |byte: u8, forms: Vec<Form>| -> Vec<Form> {
        let after = |form: Form| match (byte, form.first()) {
            (STAR, Some(&STAR)) => form,
            (_, _) => [vec![byte], form].concat(),
        };
        forms.into_iter().map(after).collect()
    };
    let mut row: Vec<Vec<Form>> = Vec::new();
    for at in (0..=two.len()).rev() {
        let right = row.last().cloned().unwrap_or_default();
        let under = forms_at(below, at);
        row.push(widest(match (first, two.get(at).copied()) {
            (None, None) => vec![Form::new()],
            // One of the stars ends first.
            (Some(STAR), Some(STAR)) => then(STAR, [under, right].concat()),
            // A star ends, or takes what the other pattern has there.
            (Some(STAR), None) => under,
            (Some(STAR), Some(byte)) => [under, then(byte, right)].concat(),
            (None, Some(STAR)) => right,
            (Some(byte), Some(STAR)) => [right, then(byte, under)].concat(),
            (Some(one), Some(other)) if one == other => then(one, forms_at(below, at + 1)),
            (_, _) => Vec::new(),
        }));
    }
    row.reverse();
    row
}

/// The forms that no other covers.
fn widest(mut forms: Vec<Form>) -> Vec<Form> {
    if forms.len() > 1 {
        forms.sort();
        forms.dedup();
        let globs: Vec<Glob> = forms.iter().map(|form| Glob::of(form)).collect();
        let texts: Vec<Form> = globs.iter().map(Glob::with_strange_stars).collect();
        let is_widest = |(one, text): (&Glob, &Form)| {
            !globs.iter().any(|other| other != one && other.matches(text))
        };
        let mut kept = globs.iter().zip(&texts).map(is_widest);
        forms.retain(|_| kept.next().unwrap_or(true));
        forms.truncate(MOST_IN_COMMON);
    }
    forms
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

    #[test]
    fn all_overlaps_of_two_patterns_are_found() {
        for (one, other, both) in [
            ("a*b", "ab*", "ab ab*b"),
            ("a*", "*b", "a*b"),
            ("aa*", "*aa", "aa aa*aa aaa"),
            ("*x*", "*y*", "*x*y* *y*x*"),
            ("a*m*b", "am*", "am*b"),
            ("a*", "b*", ""),
            ("a*b", "a", ""),
        ] {
            let (one, other) = (Glob::parse(one), Glob::parse(other));
            let found = one.in_common_with(&other);
            let mut found: Vec<String> = found.iter().map(|form| form.filled("*")).collect();
            found.sort();
            assert_eq!(found.join(" "), both);
        }
        let many = |byte: &str| Glob::parse(&(format!("*{byte}").repeat(6) + "*"));
        assert_eq!(many("x").in_common_with(&many("y")).len(), MOST_IN_COMMON);
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
            for both in one.in_common_with(&other) {
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
        fn a_text_that_two_patterns_match_is_in_what_they_have_in_common(text in "[ab]{0,6}", one in "[ab*]{1,6}", other in "[ab*]{1,6}") {
            let (one, other) = (Glob::parse(&one), Glob::parse(&other));
            if one.matches(text.as_bytes()) && other.matches(text.as_bytes()) {
                let both = one.in_common_with(&other);
                prop_assert!(both.iter().any(|form| form.matches(text.as_bytes())), "{:?}", both);
            }
        }
    }
}
