//! The decision, before the call is made: what can be said of it by what stands in a script.

use wire::{Algorithm, CallName, KeyPath, KeyRef, Touches};

use crate::decide::{Act, Refusal};
use crate::grant::Target;
use crate::pattern::Pattern;
use crate::terms::{Foreseen, Unmet};
use crate::{Caller, Policy, Rule};

/// What can be said of a call before it is made: if the script comes to make it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Foresight {
    /// It would be allowed, whatever the script does.
    Certain,
    /// It may be allowed: why that is not known before.
    Possible(String),
    /// It would be refused whatever the script does.
    Refused(String),
}

/// What a script writes out of a call, so that it is known before the call is made.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known<'a> {
    /// The key space or key. For calls on a key space, its `key` is the name of the space.
    pub key: Option<&'a KeyRef>,
    /// What is to be signed, verified or hashed.
    pub message: Option<&'a [u8]>,
    /// The namespace of `sign_in`.
    pub namespace: Option<&'a str>,
    /// The algorithm of a key that it makes.
    pub algorithm: Option<Algorithm>,
    /// Whether it is given a key that the script has itself, where the call may be on a stored one instead.
    pub own_key: Option<bool>,
    /// The time before which it is not made, in Unix seconds.
    pub now: Option<u64>,
}

impl Policy {
    /// Whether a call could be allowed at all, with what the script writes out of it.
    #[must_use]
    pub fn foresee(&self, caller: &Caller, call: CallName, known: Known<'_>) -> Foresight {
        let is_given_one = call.may_touch_nothing() && known.own_key == Some(true);
        let target = match (call.touches(), known.key) {
            (Touches::Nothing, _) => Some(Target::Nothing),
            (_, _) if is_given_one => Some(Target::Nothing),
            (Touches::Space | Touches::WholeSpace, Some(space)) => {
                Some(Target::Space(space.key.clone()))
            }
            (Touches::Key, Some(KeyRef { space: Some(space), key })) => {
                Some(Target::Key(KeyPath { space: space.clone(), key: key.clone() }))
            }
            (_, _) => None,
        };
        match target {
            Some(target) => self.foresee_on(caller, Act { call, target }, known),
            None => self.foresee_somewhere(caller, call, known),
        }
    }

    /// Where what it is on is known.
    fn foresee_on(&self, caller: &Caller, act: Act, known: Known<'_>) -> Foresight {
        let mut open_deny = None;
        for rule in self.denies_of(caller).filter(|rule| rule.names(&act)) {
            match rule.terms.foreseen(&act, known) {
                Foreseen::Always => {
                    let (rule, line) = (rule.name.clone(), rule.line);
                    return Foresight::Refused(Refusal::Denied { act, rule, line }.to_string());
                }
                Foreseen::Perhaps => open_deny = open_deny.or(Some(rule)),
                Foreseen::Never(_) => {}
            }
        }
        let matches = |rule: &Rule| rule.allows(&act);
        let first = match self.first_open(caller, &act, known, matches) {
            Ok(first) => first,
            Err(None) => return Foresight::Refused(Refusal::NoRule { act }.to_string()),
            Err(Some((rule, unmet))) => {
                let (rule, line) = (rule.name.clone(), rule.line);
                let refusal = Refusal::Unmet { act, rule, line, unmet };
                return Foresight::Refused(refusal.to_string());
            }
        };
        if let Some(rule) = open_deny {
            return Foresight::Possible(format!("{} may deny it", rule.place()));
        }
        self.foresee_by(caller, first, &act, known, matches)
    }

    /// Where that is known in part, or not at all.
    fn foresee_somewhere(&self, caller: &Caller, call: CallName, known: Known<'_>) -> Foresight {
        let key = known.key.filter(|_| call.touches() == Touches::Key);
        let on = key.map_or(String::new(), |key| format!(" on a key named `{}`", key.key));
        let act = Act { call, target: Target::Nothing };
        let could_allow = |rule: &Rule| rule.could_allow(call, key, known.own_key);
        let first = match self.first_open(caller, &act, known, could_allow) {
            Ok(first) => first,
            Err(None) => return Foresight::Refused(format!("no rule allows `{call}`{on}")),
            Err(Some((rule, unmet))) => {
                let why = format!("no rule allows `{call}`{on}: {} {unmet}", rule.place());
                return Foresight::Refused(why);
            }
        };
        let is_everywhere = |rule: &&Rule| {
            let always = rule.terms.foreseen(&act, known) == Foreseen::Always;
            let on_all = !rule.names_keys || rule.keys.iter().any(Pattern::is_all);
            rule.lists_or_follows(call) && always && on_all
        };
        if let Some(rule) = self.denies_of(caller).find(is_everywhere) {
            return Foresight::Refused(format!("{} denies `{call}`{on}", rule.place()));
        }
        let bears = |rule: &&Rule| {
            let never = matches!(rule.terms.foreseen(&act, known), Foreseen::Never(_));
            rule.lists_or_follows(call) && !never
        };
        if let Some(rule) = self.denies_of(caller).find(bears) {
            return Foresight::Possible(format!("{} may deny it", rule.place()));
        }
        let everywhere = |rule: &Rule| rule.lists(call) && rule.keys.iter().any(Pattern::is_all);
        if self.allows_of(caller).any(everywhere) {
            return self.foresee_by(caller, first, &act, known, everywhere);
        }
        Foresight::Possible(format!("{} allows it on some keys", first.place()))
    }

    /// The first of the rules that match whose terms could hold, or else the first that matches and why
    /// it does not.
    fn first_open<'a>(
        &'a self,
        caller: &'a Caller,
        act: &Act,
        known: Known<'_>,
        matches: impl Fn(&Rule) -> bool,
    ) -> Result<&'a Rule, Option<(&'a Rule, Unmet)>> {
        let mut first_closed = None;
        for rule in self.allows_of(caller).filter(|rule| matches(rule)) {
            match rule.terms.foreseen(act, known) {
                Foreseen::Always | Foreseen::Perhaps => return Ok(rule),
                Foreseen::Never(unmet) => {
                    first_closed.get_or_insert((rule, unmet));
                }
            }
        }
        Err(first_closed)
    }

    /// Whether one of the rules that match holds whatever happens, and counts nothing.
    fn foresee_by(
        &self,
        caller: &Caller,
        first: &Rule,
        act: &Act,
        known: Known<'_>,
        matches: impl Fn(&Rule) -> bool,
    ) -> Foresight {
        let is_free = |rule: &Rule| {
            rule.terms.foreseen(act, known) == Foreseen::Always && rule.allowance.is_boundless()
        };
        let mut roles = self.roles_of(caller).filter(|role| {
            role.scripts.is_empty() || (caller.script.is_some() && role.is_for(caller))
        });
        let is_certain = caller.allowance.is_boundless()
            && roles.any(|role| role.allow.iter().any(|rule| matches(rule) && is_free(rule)));
        if is_certain {
            Foresight::Certain
        } else {
            Foresight::Possible(format!("{} allows it on its terms", first.place()))
        }
    }

    /// The functions that could be allowed to this caller: what exists in its scripts' engines.
    #[must_use]
    pub fn calls_for(&self, caller: &Caller) -> Vec<CallName> {
        let possible =
            |call| !matches!(self.foresee(caller, call, Known::default()), Foresight::Refused(_));
        CallName::ALL.iter().copied().filter(|call| possible(*call)).collect()
    }
}

impl Rule {
    fn could_allow(&self, call: CallName, known: Option<&KeyRef>, own_key: Option<bool>) -> bool {
        let is_stored = known.is_some() || own_key == Some(false);
        self.calls.contains(&call)
            && match call.touches() {
                _ if !is_stored && call.may_touch_nothing() => true,
                Touches::Nothing => true,
                Touches::Space | Touches::WholeSpace => !self.keys.is_empty(),
                Touches::Key => self.keys.iter().any(|keys| keys.could_match_key(known)),
            }
    }
}
