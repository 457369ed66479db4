//! The terms of a rule, as they are written.

use wire::{Algorithm, CallName, Touches};

use crate::diagnostic::{Findings, Mistake};
use crate::file::read_measure;
use crate::glob::Glob;
use crate::limits::Unit;
use crate::moment::Hours;
use crate::pattern::name;
use crate::rules::hex;
use crate::table::{Item, Table, read_each};
use crate::terms::Terms;

/// Longest prefix or pattern of messages, in bytes: it is compared with every message.
const MAX_FORM_BYTES: usize = 256;

pub(crate) fn read_terms<'t>(
    table: &mut Table<'t>,
    about: &About<'_>,
    findings: &mut Findings<'_>,
) -> Terms {
    let mut terms = Terms::default();
    if let Some(item) = table.optional("between") {
        let hours = item.text(findings).map(Hours::parse);
        terms.between = hours.and_then(|hours| item.good(hours, "a part of the day", findings));
    }
    if let Some(item) = table.optional("expires") {
        terms.expires = item.instant(findings);
    }
    let mut fits = |table: &mut Table<'t>, key, takes: fn(CallName) -> bool, what| {
        about.fitting(table, key, takes, what, findings)
    };
    let message = CallName::takes_message;
    let max = fits(table, "message_max", message, "message");
    let prefix = fits(table, "message_prefix", message, "message");
    let like = fits(table, "message_like", message, "message");
    let digest = fits(table, "message_sha256", message, "message");
    let namespaces = fits(table, "namespaces", |call| call == CallName::SignIn, "namespace");
    let algorithms = fits(table, "algorithms", |call| call.touches() == Touches::Key, "key");
    let max_span = max.as_ref().map(|item| item.span.clone());
    if let Some(item) = max {
        terms.message_max = read_measure(&item, Unit::Bytes, findings);
    }
    let before = findings.count();
    terms.prefixes = texts(prefix, "a prefix", prefix_of, findings);
    terms.likes = texts(like, "a pattern of messages", like_of, findings);
    let are_all_read = findings.count() == before;
    terms.digests = texts(digest, "a SHA-256 digest", digest_of, findings);
    terms.namespaces = texts(namespaces, "a pattern of namespaces", name, findings);
    terms.algorithms = texts(algorithms, "an algorithm", algorithm_of, findings);
    // Of forms that could not be read, nothing is known.
    if let Some(span) = max_span.filter(|_| are_all_read && terms.take_no_message()) {
        let message = "no message is as short as that and has one of these forms";
        findings.add(&span, Mistake::IdleTerm, message, "raise it, or leave one of them out");
    }
    terms
}

fn texts<T>(
    item: Option<Item<'_>>,
    what: &str,
    read: fn(&str) -> Result<T, &'static str>,
    findings: &mut Findings<'_>,
) -> Vec<T> {
    item.map(|item| read_each(&item, findings, what, read)).unwrap_or_default()
}

/// What a rule is about, as far as its terms must fit it.
pub(crate) struct About<'c> {
    pub(crate) calls: &'c [CallName],
    /// Whether they were written as `"*"`.
    pub(crate) every: bool,
    pub(crate) allows: bool,
}

impl About<'_> {
    /// A term, and a report if it says nothing of the rule's calls. In an allow it may say nothing of
    /// some; in a deny those would be denied with the others.
    pub(crate) fn fitting<'t>(
        &self,
        table: &mut Table<'t>,
        key: &'static str,
        takes: fn(CallName) -> bool,
        what: &str,
        findings: &mut Findings<'_>,
    ) -> Option<Item<'t>> {
        let item = table.optional(key)?;
        let must_all = !self.allows || key == "namespaces";
        let stray = self.calls.iter().find(|call| !takes(**call)).filter(|_| must_all);
        let none = !self.calls.iter().any(|call| takes(*call));
        if let Some(call) = stray.or(self.calls.first().filter(|_| none)) {
            let call = if self.every { "*" } else { call.word() };
            let message = format!("`{key}` in a rule that lists `{call}`, which has no {what}");
            let help = "give the calls that have one a rule of their own";
            findings.add(&item.span, Mistake::IdleTerm, message, help);
        }
        Some(item)
    }
}

/// Text as it is, or bytes as `hex:00ff`. What looks like a pattern is none, and is not taken for text either.
fn prefix_of(text: &str) -> Result<Vec<u8>, &'static str> {
    let bytes = match text.strip_prefix("hex:") {
        None if text.contains('*') => {
            return Err(
                "a prefix is no pattern: use `message_like`, or write it as `hex:`, where a `*` is `2a`",
            );
        }
        None => text.as_bytes().to_vec(),
        Some(digits) => hex(digits).ok_or("after `hex:` come pairs of hexadecimal digits")?,
    };
    if bytes.is_empty() || bytes.len() > MAX_FORM_BYTES {
        return Err("a prefix has 1 to 256 bytes");
    }
    Ok(bytes)
}

fn like_of(text: &str) -> Result<Glob, &'static str> {
    if text.is_empty() || text.len() > MAX_FORM_BYTES {
        return Err("a pattern has 1 to 256 bytes");
    }
    if text.starts_with("hex:") {
        return Err("a pattern is text: bytes as `hex:` are for `message_prefix`");
    }
    Ok(Glob::parse(text))
}

fn digest_of(text: &str) -> Result<[u8; 32], &'static str> {
    let digest = hex(text).and_then(|bytes| bytes.try_into().ok());
    digest.ok_or("write the 64 hexadecimal digits that `sha256sum` prints")
}

fn algorithm_of(text: &str) -> Result<Algorithm, &'static str> {
    Algorithm::from_word(text).ok_or(Algorithm::HELP)
}
