//! Cases: what a policy must decide, written beside it and tried against it.

use std::collections::BTreeSet;

use wire::{Algorithm, CallName, KeyPath, KeyRef, Name, Touches};

use crate::decide::{Act, Decision, Facts, Refusal};
use crate::diagnostic::{Diagnostics, Findings, Mistake, did_you_mean};
use crate::grant::Target;
use crate::rate::RateBook;
use crate::recipient::Recipient;
use crate::rules::{hex, read_recipients};
use crate::table::{Item, Table, read_document};
use crate::{Caller, Policy};

/// Most times that a case may repeat its act.
const MAX_TIMES: u64 = 1_000_000;

/// One case.
#[derive(Debug)]
pub struct Case {
    /// What it is about.
    pub name: String,
    /// Line of its file.
    pub line: usize,
    caller: String,
    act: Act,
    message: Option<Vec<u8>>,
    namespace: Option<Name>,
    algorithm: Algorithm,
    script: Option<Vec<u8>>,
    /// Unix milliseconds.
    at: u64,
    times: u64,
    expect: bool,
    by: Option<String>,
    /// To whom keys are to go.
    to: Option<BTreeSet<Recipient>>,
}

/// What became of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The rule that decided it, if one did.
    pub rule: Option<String>,
    /// Whether that rule took effect: it allowed something, or is a deny. An allow whose terms do not hold decides
    /// as well, and shows nothing of what it allows.
    has_acted: bool,
    /// What was decided otherwise than expected.
    pub wrong: Option<String>,
}

impl Verdict {
    /// Whether this rule took effect.
    #[must_use]
    pub fn has_effect_of(&self, rule: &str) -> bool {
        self.has_acted && self.rule.as_deref() == Some(rule)
    }
}

/// What was decided once.
struct Decided {
    rule: Option<String>,
    has_acted: bool,
    /// To whom keys go, or why not.
    to: Result<BTreeSet<Recipient>, String>,
}

impl Case {
    /// Parses a file of cases. `file` is its name in messages.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse_all(file: &str, text: &str) -> Result<Vec<Self>, Diagnostics> {
        let mut findings = Findings::new(file, text);
        let Some(document) = read_document("the cases have", text, &mut findings) else {
            return findings.finish(None);
        };
        let mut top = Table::new("the cases", 0..0, document.get_ref());
        let list = top.required("case", "add `[[case]]`", &mut findings);
        let list = list.map(|item| item.list(&mut findings)).unwrap_or_default();
        let cases = list.iter().filter_map(|item| read_case(item, &mut findings)).collect();
        top.finish(&mut findings);
        findings.finish(Some(cases))
    }

    /// Tries it against a policy, with nothing used up before.
    #[must_use]
    pub fn try_on(&self, policy: &Policy) -> Verdict {
        let Some(caller) = self.caller_of(policy) else {
            // A name that the policy never heard of is a slip of the case.
            let unknown = self.caller != "anonymous" && !policy.names(&self.caller);
            let by = self.by.as_ref().map(|by| format!("no rule decides it, not even {by}"));
            let wrong = if unknown {
                Some(format!("the policy has no client `{}`", self.caller.escape_debug()))
            } else {
                let refused =
                    self.expect.then(|| format!("`{}` is refused at that time", self.caller));
                refused.or(by)
            };
            return Verdict { rule: None, has_acted: false, wrong };
        };
        let mut book = RateBook::default();
        let mut last = self.decide(policy, &caller, &mut book);
        for _ in 1..self.times {
            last = self.decide(policy, &caller, &mut book);
        }
        let Decided { rule, has_acted, to: decided } = last;
        let wrong = match (&decided, self.expect) {
            (Ok(to), true) if self.to.as_ref().is_some_and(|expected| expected != to) => {
                let to: Vec<String> = to.iter().map(ToString::to_string).collect();
                Some(format!("the keys go to {}", to.join(" ")))
            }
            (Ok(_), true) | (Err(_), false) => None,
            (Ok(_), false) => Some("it is allowed".to_owned()),
            (Err(why), true) => Some(why.clone()),
        };
        let other = self.by.as_ref().filter(|by| rule.as_ref() != Some(by));
        let by = rule.as_deref().unwrap_or("no rule");
        let wrong = wrong.or_else(|| other.map(|_| format!("it is decided by {by}")));
        Verdict { rule, has_acted, wrong }
    }

    fn decide(&self, policy: &Policy, caller: &Caller, book: &mut RateBook) -> Decided {
        let facts = Facts {
            message: self.message.as_deref(),
            namespace: self.namespace.as_ref().map(Name::as_str),
            algorithm: Some(self.algorithm),
            now: self.at,
        };
        match policy.decide(caller, self.act.clone(), &facts) {
            Decision::Refuse(refusal) => Decided {
                rule: refusal.rule().map(str::to_owned),
                has_acted: matches!(refusal, Refusal::Denied { .. }),
                to: Err(refusal.to_string()),
            },
            Decision::Allow(grant) => {
                let first = grant.rule().0.to_owned();
                let (rule, to) = match grant.spend(book) {
                    Ok(permit) => {
                        let to = permit.recipients().iter().cloned().collect();
                        (permit.rule().0.to_owned(), Ok(to))
                    }
                    // It allowed some before.
                    Err(refusal) => (first, Err(refusal.to_string())),
                };
                Decided { rule: Some(rule), has_acted: true, to }
            }
        }
    }

    fn caller_of(&self, policy: &Policy) -> Option<Caller> {
        let caller = if self.caller == "anonymous" {
            policy.anonymous()
        } else {
            policy.client_by_name(&self.caller, self.at / 1000)
        };
        // Without a script it is none of those that a role may be for.
        Some(caller?.running(self.script.as_deref().unwrap_or_default()))
    }
}

fn read_case(item: &Item<'_>, findings: &mut Findings<'_>) -> Option<Case> {
    let mut table = item.table("[[case]]", findings)?;
    let span = table.span.clone();
    let (line, _) = findings.place(span.start);
    let text = |item: Option<Item<'_>>, findings: &mut Findings<'_>| {
        item.and_then(|item| item.text(findings)).map(str::to_owned)
    };
    let name = table.required("name", "say what it is about", findings);
    let name = text(name, findings);
    let caller = table.required("as", "name a client, or \"anonymous\"", findings);
    let caller = text(caller, findings);
    let act = read_act(&mut table, findings);
    let message = table.optional("message");
    let message = text(message, findings).map(String::into_bytes);
    let message_hex = table.optional("message_hex").and_then(|item| {
        let bytes = hex(item.text(findings)?).ok_or("pairs of hexadecimal digits");
        item.good(bytes, "bytes", findings)
    });
    let namespace = table.optional("namespace").and_then(|item| {
        let name = Name::parse(item.text(findings)?).map_err(|_| "a namespace is a name");
        item.good(name, "a namespace", findings)
    });
    let algorithm = table.optional("algorithm").and_then(|item| {
        let algorithm = Algorithm::from_word(item.text(findings)?).ok_or(Algorithm::HELP);
        item.good(algorithm, "an algorithm", findings)
    });
    let script = table.optional("script");
    let script = text(script, findings).map(String::into_bytes);
    let at = table.optional("at").and_then(|item| item.instant(findings));
    let times = table.optional("times").and_then(|item| read_times(&item, findings));
    let expect = table.required("expect", "write \"allow\" or \"refuse\"", findings);
    let expect = expect.and_then(|item| read_expected(&item, findings));
    let by = table.optional("by");
    let by = text(by, findings);
    let to = table.optional("to").map(|item| read_recipients(&item, findings));
    let to = to.map(BTreeSet::from_iter);
    table.finish(findings);
    let act = act?;
    let is_idle = !act.call.takes_message() && (message.is_some() || message_hex.is_some());
    if is_idle || (message.is_some() && message_hex.is_some()) {
        let text = if is_idle { "its call takes no message" } else { "it has two messages" };
        findings.add(&span, Mistake::IdleTerm, text, "");
    }
    if namespace.is_some() && act.call != CallName::SignIn {
        findings.add(&span, Mistake::IdleTerm, "its call takes no namespace", "");
    }
    if namespace.is_none() && act.call == CallName::SignIn {
        let help = "add `namespace = \"...\"`: no script signs without one";
        findings.add(&span, Mistake::Missing, "its call takes a namespace", help);
    }
    if to.is_some() && (act.call != CallName::ExportKeySpace || expect == Some(false)) {
        findings.add(&span, Mistake::IdleTerm, "it lets no keys go to anybody", "");
    }
    // A call that takes a message is given an empty one if the case says nothing of it.
    let empty = act.call.takes_message().then(Vec::new);
    Some(Case {
        name: name?,
        line,
        caller: caller?,
        message: message.or(message_hex).or(empty),
        act,
        namespace,
        algorithm: algorithm.unwrap_or(Algorithm::Ed25519),
        script,
        at: at.unwrap_or(NOON) * 1000,
        times: times.unwrap_or(1).min(MAX_TIMES),
        expect: expect?,
        by,
        to,
    })
}

fn read_times(item: &Item<'_>, findings: &mut Findings<'_>) -> Option<u64> {
    let times = item.whole_number(findings)?;
    if times == 0 || times > MAX_TIMES {
        let (text, help) = ("`times` is 1 to 1000000", "repeat it less often");
        findings.add(&item.span, Mistake::Bound, text, help);
    }
    Some(times)
}

fn read_expected(item: &Item<'_>, findings: &mut Findings<'_>) -> Option<bool> {
    let expect = match item.text(findings)? {
        "allow" => Ok(true),
        "refuse" => Ok(false),
        _ => Err("write \"allow\" or \"refuse\""),
    };
    item.good(expect, "a decision", findings)
}

/// Unix seconds of the moment of a case that names none: a Wednesday's noon in UTC, 2026-07-01.
const NOON: u64 = 1_782_907_200;

fn read_act(table: &mut Table<'_>, findings: &mut Findings<'_>) -> Option<Act> {
    let call_at = table.required("call", "name a host function", findings);
    let key = table.optional("key");
    let call_at = call_at?;
    let word = call_at.text(findings)?;
    let Some(call) = CallName::from_word(word) else {
        let known = CallName::ALL.iter().flat_map(|call| call.words()).copied();
        let message = format!("unknown call `{}`", word.escape_debug());
        findings.add(&call_at.span, Mistake::UnknownCall, message, &did_you_mean(word, known));
        return None;
    };
    let span = key.as_ref().map_or(call_at.span.clone(), |item| item.span.clone());
    let key = match key {
        Some(item) => Some(item.text(findings)?),
        None => None,
    };
    let target = target(call, key);
    if let Err(help) = &target {
        findings.add(&span, Mistake::Value, format!("`{call}` on what?"), help);
    }
    Some(Act { call, target: target.ok()? })
}

/// What a call is on, as people write it: `space/key`, `space`, or nothing. The error says which.
///
/// # Errors
/// When it does not fit the call.
pub fn target(call: CallName, key: Option<&str>) -> Result<Target, &'static str> {
    match (call.touches(), key) {
        (_, None) if call.may_touch_nothing() => Ok(Target::Nothing),
        (Touches::Nothing, _) => Err("it touches no key: leave `key` out"),
        (Touches::Space | Touches::WholeSpace, Some(space)) => {
            Name::parse(space).map(Target::Space).map_err(|_| "name a key space")
        }
        (Touches::Space | Touches::WholeSpace, None) => Err("name a key space with `key`"),
        (Touches::Key, Some(key)) => match KeyRef::parse(key) {
            Ok(KeyRef { space: Some(space), key }) => Ok(Target::Key(KeyPath { space, key })),
            Ok(KeyRef { space: None, .. }) | Err(_) => Err("name a key as `space/key`"),
        },
        (Touches::Key, None) => Err("name a key with `key`, as `space/key`"),
    }
}
