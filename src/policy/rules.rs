//! The rules of a role.

use wire::{CallName, Touches};

use crate::diagnostic::{Findings, did_you_mean};
use crate::file::read_measure;
use crate::limits::Unit;
use crate::pattern::Pattern;
use crate::rate::Window;
use crate::table::{Item, Table};
use crate::{DayTime, Rule};

pub(crate) fn read_rules(
    item: &Item<'_>,
    role: &str,
    allows: bool,
    findings: &mut Findings<'_>,
) -> Vec<Rule> {
    let list = if allows { "allow" } else { "deny" };
    let mut rules = Vec::new();
    for (index, item) in item.list(findings).into_iter().enumerate() {
        let name = format!("{role}.{list}[{index}]");
        if let Some(table) = item.table(&name, findings) {
            rules.push(read_rule(name, table, allows, findings));
        }
    }
    rules
}

fn read_rule(
    name: String,
    mut table: Table<'_>,
    allows: bool,
    findings: &mut Findings<'_>,
) -> Rule {
    let calls_at = table.required("calls", "add `calls = [\"sign\"]`", findings);
    let calls = calls_at.map(|item| (read_calls(&item, findings), item.span));
    let (calls, calls_span) = calls.unwrap_or(((Vec::new(), false), table.span.clone()));
    let keys = table.optional("keys");
    let names_keys = keys.is_some();
    let keys_span = keys.as_ref().map_or(table.span.clone(), |item| item.span.clone());
    let keys = keys.map(|item| read_patterns(&item, findings)).unwrap_or_default();
    let between = table.optional("between").and_then(|item| read_between(&item, findings));
    let (mut message_max, mut rate) = (None, Vec::new());
    // A denial has no terms: `rate` or `message_max` in it would say less than its author means.
    if allows {
        let max = table.optional("message_max");
        message_max = max.and_then(|item| read_measure(&item, Unit::Bytes, findings));
        rate = table.optional("rate").map(|item| read_rates(&item, findings)).unwrap_or_default();
    }
    let (line, _) = findings.place(table.span.start);
    let (calls, every) = calls;
    let mut needing = calls.iter().filter(|call| call.touches() != Touches::Nothing);
    if allows
        && !names_keys
        && !every
        && let Some(call) = needing.next()
    {
        let message = format!("{name} allows `{call}` but names no keys");
        findings.add(&calls_span, message, "add `keys = [\"space/*\"]`");
    }
    let on_keys = calls.iter().find(|call| call.touches() == Touches::Key);
    let on_keys_alone = calls.iter().all(|call| call.touches() == Touches::Key);
    // A pattern of a key space alone says nothing of its keys. Beside calls on key spaces that may be
    // meant in an allow; in a deny it must not pass for more than it does.
    let idle = |keys_of: &Pattern| !keys.iter().any(|other| other.is_companion_of(keys_of));
    if let Some(call) = on_keys.filter(|_| on_keys_alone || !allows)
        && keys.iter().any(|one| !one.names_a_key() && (on_keys_alone || idle(one)))
    {
        let message = format!("{name} lists `{call}`, and one of its `keys` names no key");
        findings.add(&keys_span, message, "write `space/*` for the keys of a key space");
    }
    table.finish(findings);
    Rule { name, line, calls, names_keys, keys, message_max, rate, between }
}

/// The calls of a rule, and whether they were written as `"*"`.
fn read_calls(item: &Item<'_>, findings: &mut Findings<'_>) -> (Vec<CallName>, bool) {
    let (mut calls, mut every) = (Vec::new(), false);
    let words = item.texts(findings);
    if words.is_empty() {
        findings.add(&item.span, "a rule that names no calls says nothing", "");
    }
    for (span, word) in words {
        if word == "*" {
            every = true;
            calls.extend_from_slice(CallName::ALL);
        } else if let Some(call) = CallName::from_word(word) {
            calls.push(call);
        } else {
            let known = CallName::ALL.iter().flat_map(|call| call.words()).copied();
            let message = format!("unknown call `{}`", word.escape_debug());
            findings.add(&span, message, &did_you_mean(word, known));
        }
    }
    (calls, every)
}

fn read_patterns(item: &Item<'_>, findings: &mut Findings<'_>) -> Vec<Pattern> {
    collect(item, findings, Pattern::parse, "a key pattern")
}

fn read_rates(item: &Item<'_>, findings: &mut Findings<'_>) -> Vec<Window> {
    collect(item, findings, Window::parse, "a rate")
}

fn collect<T>(
    item: &Item<'_>,
    findings: &mut Findings<'_>,
    parse: impl Fn(&str) -> Result<T, &'static str>,
    what: &str,
) -> Vec<T> {
    let mut values = Vec::new();
    let texts = item.texts(findings);
    if texts.is_empty() {
        findings.add(&item.span, "an empty list says nothing", "");
    }
    for (span, text) in texts {
        match parse(text) {
            Ok(value) => values.push(value),
            Err(help) => {
                findings.add(&span, format!("`{}` is not {what}", text.escape_debug()), help);
            }
        }
    }
    values
}

fn read_between(item: &Item<'_>, findings: &mut Findings<'_>) -> Option<DayTime> {
    let text = item.text(findings)?;
    let day = text.split_once('-').and_then(|(from, to)| {
        Some(DayTime { from: minute_of_day(from.trim())?, to: minute_of_day(to.trim())? })
    });
    let day = day.filter(|day| day.from != day.to);
    if day.is_none() {
        let message = format!("`{}` is not a part of the day", text.escape_debug());
        findings.add(&item.span, message, "write it as \"06:00-20:00\", in UTC");
    }
    day
}

fn minute_of_day(text: &str) -> Option<u64> {
    let (hours, minutes) = text.split_once(':')?;
    let digits = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(hours) || !digits(minutes) {
        return None;
    }
    let (hours, minutes) = (hours.parse::<u64>().ok()?, minutes.parse::<u64>().ok()?);
    let day_end = hours == 24 && minutes == 0;
    (day_end || (hours < 24 && minutes < 60)).then_some(hours * 60 + minutes)
}
