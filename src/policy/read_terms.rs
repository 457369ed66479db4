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
    let before = findings.count();
    let max_span = max.as_ref().map(|item| item.span.clone());
    if let Some(item) = max {
        terms.message_max = read_measure(&item, Unit::Bytes, findings);
    }
    let mut texts = |item: Option<Item<'_>>, what, read: fn(&str) -> Result<Text, &'static str>| {
        item.map(|item| read_each(&item, findings, what, read)).unwrap_or_default()
    };
    for text in [
        texts(prefix, "a prefix", prefix_of),
        texts(like, "a pattern of messages", like_of),
        texts(digest, "a SHA-256 digest", digest_of),
        texts(namespaces, "a pattern of namespaces", namespace_of),
        texts(algorithms, "an algorithm", algorithm_of),
    ]
    .into_iter()
    .flatten()
    {
        match text {
            Text::Prefix(prefix) => terms.prefixes.push(prefix),
            Text::Like(glob) => terms.likes.push(glob),
            Text::Digest(digest) => terms.digests.push(digest),
            Text::Namespace(glob) => terms.namespaces.push(glob),
            Text::Algorithm(algorithm) => terms.algorithms.push(algorithm),
        }
    }
    let are_all_read = findings.count() == before;
    if let Some(span) = max_span.filter(|_| are_all_read && terms.take_no_message()) {
        let message = "no message is as short as that and has one of these forms";
        findings.add(&span, Mistake::IdleTerm, message, "raise it, or leave one of them out");
    }
    terms
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

/// One entry of a list of a term.
enum Text {
    Prefix(Vec<u8>),
    Like(Glob),
    Digest([u8; 32]),
    Namespace(Glob),
    Algorithm(Algorithm),
}

/// Text as it is, or bytes as `hex:00ff`. What looks like a pattern is none, and is not taken for text either.
fn prefix_of(text: &str) -> Result<Text, &'static str> {
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
    Ok(Text::Prefix(bytes))
}

fn like_of(text: &str) -> Result<Text, &'static str> {
    if text.is_empty() || text.len() > MAX_FORM_BYTES {
        return Err("a pattern has 1 to 256 bytes");
    }
    if text.starts_with("hex:") {
        return Err("a pattern is text: bytes as `hex:` are for `message_prefix`");
    }
    Ok(Text::Like(Glob::parse(text)))
}

fn digest_of(text: &str) -> Result<Text, &'static str> {
    let digest = hex(text).and_then(|bytes| bytes.try_into().ok());
    digest.map(Text::Digest).ok_or("write the 64 hexadecimal digits that `sha256sum` prints")
}

fn namespace_of(text: &str) -> Result<Text, &'static str> {
    name(text).map(Text::Namespace)
}

fn algorithm_of(text: &str) -> Result<Text, &'static str> {
    Algorithm::from_word(text).map(Text::Algorithm).ok_or(Algorithm::HELP)
}
