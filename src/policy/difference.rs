//! What a new policy allows and refuses otherwise than an old one, per client.
//!
//! Policies are compared at the patterns of their rules: at each pattern, and at what two of them
//! have in common. What is said of a pattern holds of a key that matches it and no narrower one.

use std::collections::BTreeSet;

use wire::{CallName, Touches};

use crate::decide::Act;
use crate::grant::Target;
use crate::limits::Bound;
use crate::pattern::Pattern;
use crate::{Caller, Policy};

/// Something that is otherwise for a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The client, or `anonymous`.
    pub client: String,
    /// What.
    pub what: Changed,
}

/// What is otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// The policy has or knows the client, and did not.
    Known,
    /// The policy does not have the client any more, or it has ended or been revoked.
    Unknown,
    /// Another nkey speaks for the client.
    Nkey,
    /// How often the client may do anything.
    Allowance,
    /// One of the bounds of its scripts.
    Limit {
        /// Its name in a policy.
        bound: &'static str,
        /// Before; in bytes, milliseconds, or a count.
        old: u64,
        /// Now.
        new: u64,
    },
    /// A call on keys of a pattern.
    Call {
        /// The host function.
        call: CallName,
        /// The pattern; empty for calls that touch no key.
        on: String,
        /// What became of it.
        kind: Kind,
        /// The rule of the old policy, with its line.
        old: Option<(String, usize)>,
        /// The rule of the new one.
        new: Option<(String, usize)>,
    },
}

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// It was refused and may be allowed.
    Allowed,
    /// It may have been allowed and is refused.
    Refused,
    /// It may be allowed as before, on other terms.
    OtherTerms,
}

/// What a policy says of a call at a pattern.
struct Stance {
    allows: bool,
    /// The rule that says it.
    rule: Option<(String, usize)>,
    /// All terms that bear on it, in an order that does not come from the file.
    terms: BTreeSet<String>,
}

impl Policy {
    /// What `new` decides otherwise, at `now` in Unix seconds: by client, in the order of their names.
    #[must_use]
    pub fn changes_to(&self, new: &Self, now: u64) -> Vec<Change> {
        let names = |policy: &Self| policy.callers(now).into_iter().map(|who| who.name);
        let clients: BTreeSet<String> = names(self).chain(names(new)).collect();
        let mut changes = Vec::new();
        for client in clients {
            let whats = changes_for(
                &client,
                (self, self.who(&client, now)),
                (new, new.who(&client, now)),
                now,
            );
            changes.extend(whats.into_iter().map(|what| Change { client: client.clone(), what }));
        }
        changes
    }

    fn who(&self, name: &str, now: u64) -> Option<Caller> {
        self.client_by_name(name, now).or_else(|| self.anonymous().filter(|who| who.name == name))
    }

    /// The patterns that the rules of a caller name.
    fn patterns_of<'a>(&'a self, who: &'a Caller) -> Vec<&'a Pattern> {
        let rules = self.roles_of(who).flat_map(|role| role.allow.iter().chain(&role.deny));
        rules.flat_map(|rule| &rule.keys).collect()
    }

    fn stance(&self, who: &Caller, act: &Act, now: u64) -> Stance {
        let mut terms = BTreeSet::new();
        let denies = self.denies_of(who);
        let denies: Vec<_> =
            denies.filter(|rule| rule.names(act) && !rule.terms.have_ended(now)).collect();
        if let Some(rule) = denies.iter().find(|rule| rule.terms.are_none()) {
            let rule = Some((rule.name.clone(), rule.line));
            return Stance { allows: false, rule, terms };
        }
        terms.extend(denies.iter().map(|rule| format!("deny {:?}", rule.terms)));
        let mut first = None;
        for role in self.roles_of(who) {
            for rule in
                role.allow.iter().filter(|rule| rule.allows(act) && !rule.terms.have_ended(now))
            {
                terms.insert(format!("{:?} {:?} {:?}", role.scripts, rule.terms, rule.allowance));
                first.get_or_insert((rule.name.clone(), rule.line));
            }
        }
        Stance { allows: first.is_some(), rule: first, terms }
    }
}

fn changes_for(
    client: &str,
    (old, before): (&Policy, Option<Caller>),
    (new, after): (&Policy, Option<Caller>),
    now: u64,
) -> Vec<Changed> {
    let mut changes = Vec::new();
    // Somebody without roles stands for whom a policy does not know: nothing is allowed to that one.
    let nobody = || Caller {
        name: client.to_owned(),
        nkey: None,
        roles: Vec::new(),
        allowance: crate::rate::Allowance::default(),
        script: None,
    };
    match (&before, &after) {
        (None, Some(_)) => changes.push(Changed::Known),
        (Some(_), None) => changes.push(Changed::Unknown),
        (Some(before), Some(after)) => {
            if before.nkey != after.nkey {
                changes.push(Changed::Nkey);
            }
            if before.allowance != after.allowance {
                changes.push(Changed::Allowance);
            }
            let (mut before, mut after) = (old.limits_for(before), new.limits_for(after));
            for bound in Bound::ALL {
                let (old, new) = (*before.slot(*bound), *after.slot(*bound));
                if old != new {
                    changes.push(Changed::Limit { bound: bound.key(), old, new });
                }
            }
        }
        (None, None) => {}
    }
    let (before, after) = (before.unwrap_or_else(nobody), after.unwrap_or_else(nobody));
    let mut patterns: BTreeSet<&Pattern> = old.patterns_of(&before).into_iter().collect();
    patterns.extend(new.patterns_of(&after));
    for call in CallName::ALL {
        let mut found: Vec<(Option<Pattern>, Changed)> = Vec::new();
        for (pattern, target) in places(*call, &patterns) {
            let act = Act { call: *call, target };
            let (was, is) = (old.stance(&before, &act, now), new.stance(&after, &act, now));
            let kind = match (was.allows, is.allows) {
                (false, true) => Kind::Allowed,
                (true, false) => Kind::Refused,
                (true, true) if was.terms != is.terms => Kind::OtherTerms,
                (true, true) | (false, false) => continue,
            };
            let on = pattern.as_ref().map(Pattern::text).unwrap_or_default();
            let change = Changed::Call { call: *call, on, kind, old: was.rule, new: is.rule };
            found.push((pattern, change));
        }
        let widest = found.iter().filter(|(pattern, change)| {
            !found.iter().any(|(wider, same)| {
                wider != pattern && covers(wider, pattern) && is_like(same, change)
            })
        });
        changes.extend(widest.map(|(_, change)| change.clone()));
    }
    changes
}

fn covers(wider: &Option<Pattern>, pattern: &Option<Pattern>) -> bool {
    wider
        .as_ref()
        .zip(pattern.as_ref())
        .is_some_and(|(wider, pattern)| wider.reaches_all_of(pattern))
}

/// Whether both say the same of their patterns.
fn is_like(one: &Changed, other: &Changed) -> bool {
    let said = |change: &Changed| match change {
        Changed::Call { kind, old, new, .. } => Some((*kind, old.clone(), new.clone())),
        Changed::Known | Changed::Unknown | Changed::Nkey | Changed::Allowance => None,
        Changed::Limit { .. } => None,
    };
    said(one) == said(other)
}

/// Where to look: each pattern, and what each two have in common, with a key or key space there.
fn places(call: CallName, patterns: &BTreeSet<&Pattern>) -> Vec<(Option<Pattern>, Target)> {
    let patterns: BTreeSet<Pattern> = match call.touches() {
        Touches::Nothing => return vec![(None, Target::Nothing)],
        Touches::Space | Touches::WholeSpace => {
            patterns.iter().map(|pattern| pattern.space_alone()).collect()
        }
        Touches::Key => patterns.iter().map(|pattern| (*pattern).clone()).collect(),
    };
    let pairs = patterns.iter().flat_map(|one| patterns.iter().map(move |other| (one, other)));
    let common: BTreeSet<Pattern> =
        pairs.filter_map(|(one, other)| one.in_common_with(other)).collect();
    let placed = common.into_iter().filter_map(|pattern| {
        let target = match pattern.example()? {
            (space, Some(key)) => Target::Key(wire::KeyPath { space, key }),
            (space, None) => Target::Space(space),
        };
        let is_of_call = matches!(target, Target::Key(_)) == (call.touches() == Touches::Key);
        is_of_call.then_some((Some(pattern), target))
    });
    placed.collect()
}
