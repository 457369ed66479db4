//! The rules of a role.

use std::collections::BTreeMap;
use std::ops::Range;

use wire::operator::MOST_RECIPIENTS;
use wire::{CallName, Touches};

use crate::Rule;
use crate::diagnostic::{Findings, Mistake, did_you_mean};
use crate::file::{read_label, read_rates};
use crate::identity::identity;
use crate::pattern::Pattern;
use crate::rate::Allowance;
use crate::read_terms::{About, read_terms};
use crate::recipient::{NoRecipient, Recipient};
use crate::table::{Item, Table, read_each};

/// The names of rules with their roles, and their lines.
pub(crate) type Names = BTreeMap<String, usize>;

pub(crate) fn read_rules(
    item: &Item<'_>,
    role: &str,
    allows: bool,
    names: &mut Names,
    findings: &mut Findings<'_>,
) -> Vec<Rule> {
    let list = if allows { "allow" } else { "deny" };
    let mut rules = Vec::new();
    for (index, item) in item.list(findings).into_iter().enumerate() {
        let name = format!("{role}.{list}[{index}]");
        if let Some(table) = item.table(&name, findings) {
            rules.push(read_rule(role, name, table, allows, names, findings));
        }
    }
    rules
}

fn read_rule(
    role: &str,
    place: String,
    mut table: Table<'_>,
    allows: bool,
    names: &mut Names,
    findings: &mut Findings<'_>,
) -> Rule {
    let label = table.optional("name").and_then(|item| read_own_name(&item, findings));
    let (label, label_span) =
        label.map_or((None, table.span.clone()), |(text, at)| (Some(text), at));
    let calls_at = table.required("calls", "add `calls = [\"sign\"]`", findings);
    let calls = calls_at.map(|item| (read_calls(&item, findings), item.span));
    let (calls, calls_span) = calls.unwrap_or(((Vec::new(), false), table.span.clone()));
    let (mut calls, every) = calls;
    let keys_at = table.optional("keys");
    let keys_span = keys_at.as_ref().map_or(table.span.clone(), |item| item.span.clone());
    let names_keys = keys_at.is_some();
    let before = findings.count();
    let patterns = keys_at.map(|item| {
        read_each(&item, findings, "a key pattern", |text| {
            Ok((text.to_owned(), Pattern::parse(text)?))
        })
    });
    let are_all_read = findings.count() == before;
    let (texts, keys): (Vec<String>, Vec<Pattern>) =
        patterns.unwrap_or_default().into_iter().unzip();
    let about = About { calls: &calls, every, allows };
    let terms = read_terms(&mut table, &about, findings);
    let names_algorithms = !terms.algorithms.is_empty();
    let export_to =
        if allows { read_export_to(&mut table, &about, &calls_span, findings) } else { Vec::new() };
    if names_algorithms && !export_to.is_empty() {
        let message = format!("{place} has `algorithms`, which bind no export of a key space");
        let help = "give `export_key_space` a rule of its own";
        findings.add(&calls_span, Mistake::IdleTerm, message, help);
    }
    if allows && export_to.is_empty() {
        // Nor does `*` let keys out where nobody is named who may have them.
        calls.retain(|call| *call != CallName::ExportKeySpace);
    }
    let identity = identity(role, label.as_deref(), &calls, &texts, &table);
    let allowance = if allows {
        read_allowance(&mut table, findings)
    } else {
        // A denial is not used up: `rate` in it would say something else than its author means.
        table.refuse(&["rate", "uses"], "a deny always holds: count in the allow");
        table.refuse(&["export_to"], "a deny lets nobody have keys: leave it out");
        Allowance::default()
    };
    let (line, _) = findings.place(table.span.start);
    let about = About { calls: &calls, every, allows };
    if allows && !names_keys {
        report_no_keys(&place, &about, names_algorithms, &calls_span, findings);
    }
    if names_keys {
        report_idle_patterns(&place, &about, &keys, are_all_read, &keys_span, findings);
    }
    table.finish(findings);
    // Of a name that no rule may have that is said, and not that another rule is called so.
    let may_be_had = label.as_deref().is_none_or(|label| !is_that_of_a_place(label));
    let name = label.map_or(place, |label| format!("{role}.{label}"));
    if may_be_had && let Some(other) = names.insert(name.clone(), line) {
        let message = format!("the rule on line {other} is called `{name}` as well");
        findings.add(&label_span, Mistake::Taken, message, "give one of them another `name`");
    }
    Rule { name, line, identity, calls, names_keys, keys, terms, export_to, allowance }
}

/// The name of a rule. With its role before it, no other rule has it: cases, the audit log and counts go by it.
fn read_own_name(item: &Item<'_>, findings: &mut Findings<'_>) -> Option<(String, Range<usize>)> {
    let name = read_label(item, "rule name", findings)?;
    if is_that_of_a_place(&name) {
        let message = format!("`{name}` is how a rule without a name is called");
        findings.add(&item.span, Mistake::Taken, message, "give it another name, or none");
    }
    Some((name, item.span.clone()))
}

fn is_that_of_a_place(name: &str) -> bool {
    name.starts_with("allow[") || name.starts_with("deny[")
}

/// An allow without `keys` is for what touches nothing that is stored.
fn report_no_keys(
    place: &str,
    about: &About<'_>,
    names_algorithms: bool,
    calls_span: &Range<usize>,
    findings: &mut Findings<'_>,
) {
    let needs = |call: &&CallName| !about.every && !call.may_touch_nothing();
    let help = "add `keys = [\"space/*\"]`";
    if let Some(call) = about.calls.iter().find(needs) {
        let message = format!("{place} allows `{call}` but names no keys");
        findings.add(calls_span, Mistake::NoKeys, message, help);
    } else if names_algorithms && about.calls.iter().any(|call| call.touches() == Touches::Key) {
        // Of a key of the script's own no term asks what it is for.
        let message = format!("{place} has `algorithms` but names no keys");
        findings.add(calls_span, Mistake::IdleTerm, message, help);
    }
}

/// What a deny lists is meant to be denied somewhere.
fn report_idle_patterns(
    place: &str,
    about: &About<'_>,
    keys: &[Pattern],
    are_all_read: bool,
    keys_span: &Range<usize>,
    findings: &mut Findings<'_>,
) {
    // One that could not be read may be the companion of another, or name a whole key space.
    if !are_all_read && !about.calls.iter().all(|call| call.touches() == Touches::Key) {
        return;
    }
    let mut add = |what: String, help| {
        findings.add(keys_span, Mistake::IdlePattern, format!("{place} lists {what}"), help);
    };
    let is_on_a_space = |call: &&CallName| call.touches() == Touches::Space;
    let names_whole_spaces = keys.iter().any(Pattern::takes_all_keys);
    if let Some(call) = reaches_no_key(about.calls, keys, about.allows) {
        let what = format!("`{call}`, and one of its `keys` names no key");
        add(what, "write `space/*` for the keys of a key space");
    } else if !about.allows
        && !about.every
        && !names_whole_spaces
        && let Some(call) = about.calls.iter().find(is_on_a_space)
    {
        // A deny of some keys does not close their key space.
        let what = format!("`{call}`, and none of its `keys` names a whole key space");
        add(what, "leave that call out: a deny of some keys leaves their key space open");
    }
}

/// A pattern of a key space alone says nothing of its keys. Beside calls on key spaces that may be
/// meant in an allow; in a deny it must not pass for more than it does.
fn reaches_no_key(calls: &[CallName], keys: &[Pattern], allows: bool) -> Option<CallName> {
    let on_keys = calls.iter().copied().find(|call| call.touches() == Touches::Key)?;
    let on_keys_alone = calls.iter().all(|call| call.touches() == Touches::Key);
    let idle = |one: &Pattern| !keys.iter().any(|other| other.is_companion_of(one));
    let mut spaces = keys.iter().filter(|one| !one.names_a_key());
    let is_idle = spaces.any(|one| on_keys_alone || idle(one));
    (is_idle && (on_keys_alone || !allows)).then_some(on_keys)
}

/// The calls of a rule, and whether they were written as `"*"`.
fn read_calls(item: &Item<'_>, findings: &mut Findings<'_>) -> (Vec<CallName>, bool) {
    let (mut calls, mut every) = (Vec::new(), false);
    let words = item.texts(findings);
    if item.is_empty_list() {
        let message = "a rule that names no calls says nothing";
        findings.add(&item.span, Mistake::EmptyList, message, "name a host function, or `*`");
    }
    for (span, word) in words {
        if word == "*" {
            let all = if every { &[] } else { CallName::ALL };
            calls.extend_from_slice(all);
            every = true;
        } else if let Some(call) = CallName::from_word(word) {
            calls.push(call);
        } else {
            let known = CallName::ALL.iter().flat_map(|call| call.words()).copied();
            let message = format!("unknown call `{}`", word.escape_debug());
            findings.add(&span, Mistake::UnknownCall, message, &did_you_mean(word, known));
        }
    }
    (calls, every)
}

fn read_allowance(table: &mut Table<'_>, findings: &mut Findings<'_>) -> Allowance {
    let rate = table.optional("rate").map(|item| read_rates(&item, findings));
    let uses = table.optional("uses").and_then(|item| {
        let uses = item.whole_number(findings)?;
        if uses == 0 {
            let message = "`uses` is 0, so the rule would allow nothing";
            findings.add(&item.span, Mistake::Bound, message, "raise it, or remove the rule");
        }
        Some(uses)
    });
    Allowance { rate: rate.unwrap_or_default(), uses }
}

/// To whom a rule lets keys be exported. A script says what, and never to whom.
fn read_export_to(
    table: &mut Table<'_>,
    about: &About<'_>,
    calls_span: &Range<usize>,
    findings: &mut Findings<'_>,
) -> Vec<Recipient> {
    let exports = |call| call == CallName::ExportKeySpace;
    let Some(item) = about.fitting(table, "export_to", exports, "recipient", findings) else {
        let listed = about.calls.iter().filter(|call| exports(**call)).count();
        // `*` lists it as well, but does not mean it.
        if listed > usize::from(about.every) {
            let message = "it allows `export_key_space` and does not say to whom";
            let help = "add `export_to = [\"age1...\"]`";
            findings.add(calls_span, Mistake::Missing, message, help);
        }
        return Vec::new();
    };
    let mut recipients = read_recipients(&item, findings);
    recipients.sort();
    recipients.dedup();
    if recipients.len() > MOST_RECIPIENTS {
        let message = format!("more than {MOST_RECIPIENTS} recipients");
        findings.add(&item.span, Mistake::Bound, message, "name fewer");
    }
    recipients
}

pub(crate) fn read_recipients(item: &Item<'_>, findings: &mut Findings<'_>) -> Vec<Recipient> {
    read_each(item, findings, "a recipient", |text| {
        Recipient::parse(text).map_err(|_| NoRecipient::HELP)
    })
}

pub(crate) fn hex(digits: &str) -> Option<Vec<u8>> {
    data_encoding::HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok()
}
