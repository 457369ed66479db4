//! A TOML table with places: every value is asked for by name and type, and what was not asked for
//! is an error.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::{Findings, Mistake, did_you_mean};
use crate::file::MAX_POLICY_BYTES;

/// Reads a whole file's text, unless it is too long or no TOML. `what` begins the sentence that says so.
pub(crate) fn read_document<'t>(
    what: &str,
    text: &'t str,
    findings: &mut Findings<'_>,
) -> Option<Spanned<DeTable<'t>>> {
    if text.len() > MAX_POLICY_BYTES {
        let message = format!("{what} more than {MAX_POLICY_BYTES} bytes");
        findings.add(&(0..0), Mistake::Bound, message, "split it, or say more with patterns");
        return None;
    }
    DeTable::parse(text)
        .inspect_err(|error| {
            let message = error.message().replace('\n', ", ");
            let help = "the file is TOML (https://toml.io): see `policy/README.md`";
            findings.add(&error.span().unwrap_or(0..0), Mistake::Syntax, message, help);
        })
        .ok()
}

/// One table of the file, being read.
pub(crate) struct Table<'a> {
    /// How the table is called in messages, such as `[limits]`.
    pub(crate) name: String,
    pub(crate) span: Range<usize>,
    entries: &'a DeTable<'a>,
    asked: Vec<&'static str>,
    /// Keys that stand elsewhere, and what to do about them here.
    refused: Vec<(&'static str, &'static str)>,
}

/// A value with its place.
pub(crate) struct Item<'a> {
    pub(crate) span: Range<usize>,
    value: &'a DeValue<'a>,
}

impl<'a> Table<'a> {
    pub(crate) fn new(name: &str, span: Range<usize>, entries: &'a DeTable<'a>) -> Self {
        Self { name: name.to_owned(), span, entries, asked: Vec::new(), refused: Vec::new() }
    }

    /// The value of a key, if it is there.
    pub(crate) fn optional(&mut self, key: &'static str) -> Option<Item<'a>> {
        self.asked.push(key);
        let value =
            self.entries.iter().find(|(k, _)| k.get_ref() == key).map(|(_, value)| value)?;
        Some(Item { span: value.span(), value: value.get_ref() })
    }

    /// The value of a key that must be there.
    pub(crate) fn required(
        &mut self,
        key: &'static str,
        help: &str,
        findings: &mut Findings<'_>,
    ) -> Option<Item<'a>> {
        let item = self.optional(key);
        if item.is_none() {
            let message = format!("{} lacks `{key}`", self.name);
            findings.add(&self.span, Mistake::Missing, message, help);
        }
        item
    }

    /// Keys and values, but for these keys, as words.
    pub(crate) fn words_of_all_but(&self, keys: &[&str]) -> Vec<String> {
        let others = self.entries.iter().filter(|(key, _)| !keys.contains(&key.get_ref().as_ref()));
        others
            .map(|(key, value)| format!("{} {}", key.get_ref(), words_of(value.get_ref())))
            .collect()
    }

    /// Has keys that mean something elsewhere reported with this help.
    pub(crate) fn refuse(&mut self, keys: &[&'static str], help: &'static str) {
        self.refused.extend(keys.iter().map(|key| (*key, help)));
    }

    /// Reports the keys that nobody asked for.
    pub(crate) fn finish(self, findings: &mut Findings<'_>) {
        for key in self.entries.keys() {
            let word = key.get_ref();
            if !self.asked.contains(&word.as_ref()) {
                let refused = self.refused.iter().find(|(key, _)| key == word);
                let near = || did_you_mean(word, self.asked.iter().copied());
                let help = refused.map_or_else(near, |(_, help)| (*help).to_owned());
                let message = format!("unknown key `{}` in {}", word.escape_debug(), self.name);
                findings.add(&key.span(), Mistake::UnknownKey, message, &help);
            }
        }
    }
}

impl<'a> Item<'a> {
    fn wrong(&self, wanted: &str, help: &str, findings: &mut Findings<'_>) {
        let found = match self.value.as_integer() {
            Some(number) => format!("`{}`", number.as_str()),
            None => self.value.type_str().to_owned(),
        };
        findings.add(&self.span, Mistake::Type, format!("expected {wanted}, found {found}"), help);
    }

    /// What was read, or else a report that it is not `what`.
    pub(crate) fn good<T>(
        &self,
        read: Result<T, &str>,
        what: &str,
        findings: &mut Findings<'_>,
    ) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(help) => {
                let message = format!("`{}` is not {what}", self.word().escape_debug());
                findings.add(&self.span, Mistake::Value, message, help);
                None
            }
        }
    }

    fn word(&self) -> &str {
        self.value.as_str().unwrap_or_default()
    }

    pub(crate) fn table(&self, name: &str, findings: &mut Findings<'_>) -> Option<Table<'a>> {
        let table = self.value.as_table();
        if table.is_none() {
            self.wrong("a table", "write `{ key = value }`, or a header of its own", findings);
        }
        table.map(|table| Table::new(name, self.span.clone(), table))
    }

    pub(crate) fn text(&self, findings: &mut Findings<'_>) -> Option<&'a str> {
        let text = self.value.as_str();
        if text.is_none() {
            self.wrong("a string", "put it in quotes", findings);
        }
        text
    }

    pub(crate) fn whole_number(&self, findings: &mut Findings<'_>) -> Option<u64> {
        let number = self.value.as_integer();
        let digits = number.map(|n| (n.as_str().replace('_', ""), n.radix()));
        let is_too_large = digits.as_ref().is_some_and(|(digits, _)| !digits.starts_with('-'));
        let value = digits.and_then(|(digits, radix)| u64::from_str_radix(&digits, radix).ok());
        if value.is_none() && is_too_large {
            let message = format!("a number is at most {}", u64::MAX);
            findings.add(&self.span, Mistake::Bound, message, "lower it");
        } else if value.is_none() {
            self.wrong("a whole number, 0 or more", "write digits, without quotes", findings);
        }
        value
    }

    /// Unix seconds of a TOML date-time with an offset.
    pub(crate) fn instant(&self, findings: &mut Findings<'_>) -> Option<u64> {
        const HELP: &str = "write it as 2027-06-30T00:00:00Z, without quotes";
        let text = self.value.as_datetime().map(ToString::to_string);
        let Some(instant) = text.and_then(|text| text.parse::<jiff::Timestamp>().ok()) else {
            let message = "expected a date and time with an offset";
            findings.add(&self.span, Mistake::Type, message, HELP);
            return None;
        };
        let seconds = u64::try_from(instant.as_second()).ok();
        if seconds.is_none() {
            findings.add(&self.span, Mistake::Bound, "a time is in 1970 or later", HELP);
        }
        seconds
    }

    pub(crate) fn flag(&self, findings: &mut Findings<'_>) -> Option<bool> {
        let flag = self.value.as_bool();
        if flag.is_none() {
            self.wrong("`true` or `false`", "write one of them, without quotes", findings);
        }
        flag
    }

    pub(crate) fn is_empty_list(&self) -> bool {
        self.value.as_array().is_some_and(|list| list.is_empty())
    }

    pub(crate) fn list(&self, findings: &mut Findings<'_>) -> Vec<Item<'a>> {
        let Some(array) = self.value.as_array() else {
            self.wrong("an array", "put it in `[` and `]`", findings);
            return Vec::new();
        };
        let item =
            |value: &'a Spanned<DeValue<'a>>| Item { span: value.span(), value: value.get_ref() };
        array.iter().map(item).collect()
    }

    pub(crate) fn texts(&self, findings: &mut Findings<'_>) -> Vec<(Range<usize>, &'a str)> {
        let items = self.list(findings);
        items.iter().filter_map(|item| Some((item.span.clone(), item.text(findings)?))).collect()
    }
}

/// Reads every text of a list, and reports those that are not `what`.
pub(crate) fn read_each<T>(
    item: &Item<'_>,
    findings: &mut Findings<'_>,
    what: &str,
    read: impl Fn(&str) -> Result<T, &'static str>,
) -> Vec<T> {
    let items = item.list(findings);
    if item.is_empty_list() {
        let help = "write what it is to hold, or leave it out";
        findings.add(&item.span, Mistake::EmptyList, "an empty list says nothing", help);
    }
    let mut values = Vec::new();
    for item in items {
        let text = item.text(findings);
        values.extend(text.and_then(|text| item.good(read(text), what, findings)));
    }
    values
}

/// A value as words, the same for the same value however it is written.
fn words_of(value: &DeValue<'_>) -> String {
    if let Some(list) = value.as_array() {
        let mut words: Vec<String> = list.iter().map(|value| words_of(value.get_ref())).collect();
        words.sort_unstable();
        return format!("{words:?}");
    }
    value.as_str().map_or_else(|| format!("{value:?}"), str::to_owned)
}
