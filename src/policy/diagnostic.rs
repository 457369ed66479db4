//! What is wrong with a policy file, and where.

use std::fmt;
use std::ops::Range;

/// What some editors put before the text of a file.
pub const BYTE_ORDER_MARK: char = '\u{feff}';

macro_rules! mistakes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $word:literal;)+) => {
        /// What kind of thing is wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Mistake { $($(#[doc = $doc])+ $variant,)+ }

        impl Mistake {
            /// Its code: the same for as long as the language lives.
            #[must_use]
            pub fn code(self) -> &'static str {
                match self { $(Mistake::$variant => $word,)+ }
            }
        }
    };
}

mistakes! {
    /// The file is not TOML.
    Syntax = "policy-syntax";
    /// A key that must be there is not.
    Missing = "policy-missing";
    /// A key that does not exist.
    UnknownKey = "policy-unknown-key";
    /// A value of another type.
    Type = "policy-type";
    /// A value that cannot be read.
    Value = "policy-value";
    /// A number beyond its bounds.
    Bound = "policy-bound";
    /// A name that stands for something else already.
    Taken = "policy-taken";
    /// Not a public user nkey.
    Nkey = "policy-nkey";
    /// A role that does not exist.
    UnknownRole = "policy-unknown-role";
    /// A host function that does not exist.
    UnknownCall = "policy-unknown-call";
    /// A list that says nothing.
    EmptyList = "policy-empty-list";
    /// An allow on keys that names none.
    NoKeys = "policy-no-keys";
    /// A pattern that reaches nothing that the rule is about.
    IdlePattern = "policy-idle-pattern";
    /// A term that says nothing of the rule's calls.
    IdleTerm = "policy-idle-term";
    /// Two rules for one caller that do not agree to whom a key space may go.
    Recipients = "policy-recipients";
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// What kind of thing.
    pub mistake: Mistake,
    /// Where it stands in the file, in bytes.
    pub span: Range<usize>,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do, where that can be said.
    pub help: Option<String>,
}

/// Everything that is wrong with one file; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics {
    file: String,
    found: Vec<Diagnostic>,
}

impl Diagnostics {
    /// What was found, in the order of the file.
    #[must_use]
    pub fn found(&self) -> &[Diagnostic] {
        &self.found
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.found.iter().enumerate() {
            let Diagnostic { mistake, line, column, message, help, .. } = diagnostic;
            let newline = if index == 0 { "" } else { "\n" };
            let code = mistake.code();
            write!(f, "{newline}{}:{line}:{column}: {message} [{code}]", self.file)?;
            if let Some(help) = help {
                write!(f, "\n  help: {help}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

/// Collects what is wrong while a file is read.
pub(crate) struct Findings<'t> {
    file: &'t str,
    text: &'t str,
    /// Where each line begins.
    lines: Vec<usize>,
    found: Vec<Diagnostic>,
}

impl<'t> Findings<'t> {
    pub(crate) fn new(file: &'t str, text: &'t str) -> Self {
        let begins = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = [0].into_iter().chain(begins.map(|(at, _)| at + 1)).collect();
        Self { file, text, lines, found: Vec::new() }
    }

    pub(crate) fn add(
        &mut self,
        span: &Range<usize>,
        mistake: Mistake,
        message: impl Into<String>,
        help: &str,
    ) {
        let (line, column) = self.place(span.start);
        let help = (!help.is_empty()).then(|| help.to_owned());
        let (span, message) = (span.clone(), without_secrets(&message.into()));
        self.found.push(Diagnostic { mistake, span, line, column, message, help });
    }

    /// How much was found up to now.
    pub(crate) fn count(&self) -> usize {
        self.found.len()
    }

    /// Line and column of a byte offset, both from 1.
    pub(crate) fn place(&self, offset: usize) -> (usize, usize) {
        let line = self.lines.partition_point(|begin| *begin <= offset);
        let begin = self.lines.get(line.saturating_sub(1)).copied().unwrap_or_default();
        let before = self.text.get(begin..offset).unwrap_or_default();
        // What some editors put before the first line is no character of it.
        let column = before.trim_start_matches(BYTE_ORDER_MARK).chars().count() + 1;
        (line, column)
    }

    /// `Ok` with the value when nothing was wrong.
    pub(crate) fn finish<T>(mut self, value: Option<T>) -> Result<T, Diagnostics> {
        if let (Some(value), true) = (value, self.found.is_empty()) {
            return Ok(value);
        }
        if self.found.is_empty() {
            self.add(&(0..0), Mistake::Syntax, "the policy could not be read", "");
        }
        self.found.sort_by_key(|diagnostic| diagnostic.span.start);
        Err(Diagnostics { file: self.file.to_owned(), found: self.found })
    }
}

/// The text with a `*` for each letter of what looks like a seed of an nkey or an identity of age, so that what is
/// told of a file goes where the file may not.
#[must_use]
pub fn without_secrets(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for piece in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let end = piece.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(piece.len());
        let (word, rest) = piece.split_at(end);
        let is_identity = word.len() >= LEAST_SECRET_LETTERS && ends_as_age_does(&shown);
        let is_secret = is_identity || looks_like_seed(word);
        shown.push_str(&if is_secret { "*".repeat(word.len()) } else { word.to_owned() });
        shown.push_str(rest);
    }
    shown
}

/// Both have 58 letters and more that are secret; one of which a part was lost is one still. A SHA-256 digest has 52 of
/// the same letters.
const LEAST_SECRET_LETTERS: usize = 54;

fn looks_like_seed(word: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_uppercase() || (b'2'..=b'7').contains(&byte);
    word.len() >= LEAST_SECRET_LETTERS && word.starts_with('S') && word.bytes().all(is_letter)
}

/// Whether an identity of age may follow: `AGE-SECRET-KEY-1...`, or all of it in small letters.
fn ends_as_age_does(text: &str) -> bool {
    ["AGE-SECRET-KEY-", "age-secret-key-"].iter().any(|begin| text.ends_with(begin))
}

/// The candidate that `word` was probably meant to be, as help text.
pub(crate) fn did_you_mean<'c>(word: &str, candidates: impl Iterator<Item = &'c str>) -> String {
    let near = candidates.map(|c| (distance(word, c), c)).min();
    match near {
        Some((edits, candidate)) if edits <= (word.len() / 3).max(1) => {
            format!("did you mean `{candidate}`?")
        }
        Some(_) | None => String::new(),
    }
}

/// Edit distance with swaps of neighbours counted as one, over at most 64 bytes of each word.
fn distance(a: &str, b: &str) -> usize {
    let cut = |text: &str| text.bytes().take(64).collect::<Vec<u8>>();
    let (a, b) = (cut(a), cut(b));
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let at =
                |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX / 2);
            let mut best = (at(&above, j) + usize::from(x != y))
                .min(at(&above, j + 1) + 1)
                .min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_secret_is_covered_letter_by_letter() {
        let seed = format!("SU{}", "A7".repeat(28));
        let (public, cut) = (format!("U{}", "A7".repeat(27)), "SA".repeat(27));
        let (large, small) = ("1Q".repeat(29), "1q".repeat(29));
        for (text, secret) in [
            (seed.clone(), &*seed),
            (format!("nkey = \"{seed}\" # {public}"), &seed),
            (format!("é{seed}/x"), &seed),
            (format!("caller-{seed}.nk"), &seed),
            (cut.clone(), &cut),
            (format!("AGE-SECRET-KEY-{large}, age1qq"), &large),
            (format!("age-secret-key-{small}"), &small),
            (format!("{public} {} {}", "5".repeat(64), "S".repeat(53)), "-"),
            ("age-secret-key-prod.toml AGE-SECRET-KEY-1QQ".to_owned(), "no"),
        ] {
            let shown = without_secrets(&text);
            let expected = match secret {
                "-" | "no" => text.clone(),
                secret => text.replace(secret, &"*".repeat(secret.len())),
            };
            assert_eq!(shown, expected, "{text}");
        }
    }

    #[test]
    fn a_slip_is_recognised_and_a_stranger_is_not() {
        let known = ["clients", "limits", "role"];
        assert_eq!(did_you_mean("limts", known.into_iter()), "did you mean `limits`?");
        assert_eq!(did_you_mean("roel", known.into_iter()), "did you mean `role`?");
        assert_eq!(did_you_mean("rate", ["name"].into_iter()), "");
        assert_eq!(did_you_mean("zebra", known.into_iter()), "");
        // A slip for each three letters.
        assert_eq!(
            did_you_mean("anonimuos", ["anonymous"].into_iter()),
            "did you mean `anonymous`?"
        );
        assert_eq!(
            did_you_mean("anonimuus", ["anonymous"].into_iter()),
            "did you mean `anonymous`?"
        );
        assert_eq!(
            did_you_mean("enonimuus", ["anonymous"].into_iter()),
            "did you mean `anonymous`?"
        );
        assert_eq!(did_you_mean("enonimuuz", ["anonymous"].into_iter()), "");
    }
}
