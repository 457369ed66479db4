//! The decision: may this caller do this?

use wire::{Algorithm, CallName, KeyPath, KeyRef, Name, Touches};

use crate::grant::{Grant, Offer, Target};
use crate::terms::Unmet;
use crate::{Caller, Policy, Role, Rule};

/// What a caller wants to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// The host function.
    pub call: CallName,
    /// What it is to be done to.
    pub target: Target,
}

/// What is known of an act beside its name, as far as there is such a thing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts<'a> {
    /// What is to be signed, verified or hashed.
    pub message: Option<&'a [u8]>,
    /// The namespace of `sign_in`.
    pub namespace: Option<&'a str>,
    /// The algorithm of the key.
    pub algorithm: Option<Algorithm>,
    /// Unix milliseconds.
    pub now: u64,
}

/// May it be done?
#[derive(Debug)]
#[must_use]
pub enum Decision {
    /// Yes, on these terms, once.
    Allow(Grant),
    /// No.
    Refuse(Refusal),
}

/// Why not. For the audit log and the operator; callers get a code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No rule allows it.
    #[error("no rule allows `{call}`{on}", call = act.call, on = act.target.on())]
    NoRule {
        /// What was asked.
        act: Act,
    },
    /// A rule denies it.
    #[error("{rule} (line {line}) denies `{call}`{on}", call = act.call, on = act.target.on())]
    Denied {
        /// What was asked.
        act: Act,
        /// The rule.
        rule: String,
        /// Its line.
        line: usize,
    },
    /// The rules that would allow it do so on other terms; this is the first of them.
    #[error("no rule allows `{call}`{on}: {rule} (line {line}) {unmet}", call = act.call, on = act.target.on())]
    Unmet {
        /// What was asked.
        act: Act,
        /// The rule.
        rule: String,
        /// Its line.
        line: usize,
        /// The term.
        unmet: Unmet,
    },
    /// The rate is used up.
    #[error("the rate of {account} is used up")]
    RateUsedUp {
        /// A rule with its line, or a client.
        account: String,
    },
    /// The uses are used up, for good.
    #[error("the uses of {account} are used up")]
    UsesUsedUp {
        /// A rule with its line, or a client.
        account: String,
    },
}

impl Refusal {
    /// The rule that decided, if one did.
    #[must_use]
    pub fn rule(&self) -> Option<&str> {
        match self {
            Self::Denied { rule, .. } | Self::Unmet { rule, .. } => Some(rule),
            Self::NoRule { .. } | Self::RateUsedUp { .. } | Self::UsesUsedUp { .. } => None,
        }
    }
}

/// What can be said of a call before it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Foresight {
    /// There are keys for which it would be allowed.
    Possible,
    /// It would be refused whatever the script does.
    Refused(String),
}

impl Policy {
    /// Decides. Any deny that matches refuses; else every allow that matches and whose terms hold is
    /// offered; without one it is refused. The order of rules and roles changes nothing.
    pub fn decide(&self, caller: &Caller, act: Act, facts: &Facts<'_>) -> Decision {
        let mut denies = self.denies_of(caller);
        if let Some(rule) = denies.find(|rule| rule.denies(&act, facts)) {
            let (rule, line) = (rule.name.clone(), rule.line);
            return Decision::Refuse(Refusal::Denied { act, rule, line });
        }
        let (mut offers, mut first_unmet) = (Vec::new(), None);
        let roles = self.roles_of(caller);
        for (role, rule) in roles.flat_map(|role| role.allow.iter().map(move |rule| (role, rule))) {
            if !rule.allows(&act) {
                continue;
            }
            let other_script = (!role.is_for(caller)).then_some(Unmet::Script);
            match other_script.or_else(|| rule.terms.unmet(&act, facts)) {
                None => offers.push(Offer::new(caller, rule)),
                Some(unmet) => {
                    first_unmet.get_or_insert((rule, unmet));
                }
            }
        }
        if offers.is_empty() {
            return Decision::Refuse(match first_unmet {
                Some((rule, unmet)) => {
                    Refusal::Unmet { act, rule: rule.name.clone(), line: rule.line, unmet }
                }
                None => Refusal::NoRule { act },
            });
        }
        Decision::Allow(Grant::new(caller, act, offers, facts.now))
    }

    /// Whether a call could be allowed at all, with the key space or key that it is given where the
    /// script writes it out. For calls on a key space, `known.key` is the name of the space.
    #[must_use]
    pub fn foresee(&self, caller: &Caller, call: CallName, known: Option<&KeyRef>) -> Foresight {
        let on_space = matches!(call.touches(), Touches::Space | Touches::WholeSpace);
        if let Some(space) = known.filter(|_| on_space) {
            return self.foresee_on_space(caller, call, &space.key);
        }
        let known = known.filter(|_| call.touches() == Touches::Key);
        if self.allows_of(caller).any(|rule| rule.could_allow(call, known)) {
            return Foresight::Possible;
        }
        let on = known.map_or(String::new(), |known| format!(" on a key named `{}`", known.key));
        Foresight::Refused(format!("no rule allows `{call}`{on}"))
    }

    fn foresee_on_space(&self, caller: &Caller, call: CallName, space: &Name) -> Foresight {
        let act = Act { call, target: Target::Space(space.clone()) };
        // A rule with terms may not hold when the call is made, so only those without are certain.
        let mut denies = self.denies_of(caller);
        if let Some(rule) = denies.find(|rule| rule.denies_always(&act)) {
            let (rule, line) = (rule.name.clone(), rule.line);
            return Foresight::Refused(Refusal::Denied { act, rule, line }.to_string());
        }
        if self.allows_of(caller).any(|rule| rule.allows(&act)) {
            Foresight::Possible
        } else {
            Foresight::Refused(Refusal::NoRule { act }.to_string())
        }
    }

    /// The functions that could be allowed to this caller: what exists in its scripts' engines.
    #[must_use]
    pub fn calls_for(&self, caller: &Caller) -> Vec<CallName> {
        let possible = |call| self.foresee(caller, call, None) == Foresight::Possible;
        CallName::ALL.iter().copied().filter(|call| possible(*call)).collect()
    }

    fn allows_of<'a>(&'a self, caller: &'a Caller) -> impl Iterator<Item = &'a Rule> {
        self.roles_of(caller).filter(|role| role.is_for(caller)).flat_map(|role| &role.allow)
    }

    fn denies_of<'a>(&'a self, caller: &'a Caller) -> impl Iterator<Item = &'a Rule> {
        self.roles_of(caller).flat_map(|role| &role.deny)
    }
}

impl Role {
    /// Whether the role is for the script that the caller runs. Before there is one, it may be.
    pub(crate) fn is_for(&self, caller: &Caller) -> bool {
        let script = caller.script.as_ref();
        self.scripts.is_empty() || script.is_none_or(|script| self.scripts.contains(script))
    }
}

impl Rule {
    /// Whether it is about this call.
    pub(crate) fn lists(&self, call: CallName) -> bool {
        self.calls.contains(&call)
    }

    /// An allow reaches a key space through the pattern of one of its keys, but a call that takes
    /// all the keys with it needs a pattern that covers them all.
    pub(crate) fn allows(&self, act: &Act) -> bool {
        self.lists(act.call)
            && match &act.target {
                Target::Nothing => true,
                Target::Key(path) => self.keys.iter().any(|keys| keys.matches_key(path)),
                Target::Space(space) if act.call.touches() == Touches::WholeSpace => {
                    self.keys.iter().any(|keys| keys.covers_space(space))
                }
                Target::Space(space) => self.keys.iter().any(|keys| keys.matches_space(space)),
            }
    }

    /// A term that cannot be looked at is taken to hold: what is not known does not open anything.
    pub(crate) fn denies(&self, act: &Act, facts: &Facts<'_>) -> bool {
        self.names(act) && self.terms.unmet(act, facts).is_none_or(|unmet| !unmet.is_known(facts))
    }

    fn denies_always(&self, act: &Act) -> bool {
        self.names(act) && self.terms.are_none()
    }

    /// A deny without `keys` denies its calls on everything. A deny on keys does not close their
    /// key space, but no call that takes all its keys may take those, and to delete a key space is
    /// to delete its keys.
    pub(crate) fn names(&self, act: &Act) -> bool {
        let deletes_keys = act.call == CallName::DeleteKeySpace;
        let listed = self.calls.contains(&act.call)
            || (deletes_keys && self.calls.contains(&CallName::DeleteKeypair));
        listed
            && match &act.target {
                _ if !self.names_keys => true,
                Target::Nothing => true,
                Target::Key(path) => self.keys.iter().any(|keys| keys.matches_key(path)),
                Target::Space(space) if act.call.touches() == Touches::WholeSpace => {
                    self.keys.iter().any(|keys| keys.matches_space(space))
                }
                Target::Space(space) => self.keys.iter().any(|keys| keys.covers_space(space)),
            }
    }

    fn could_allow(&self, call: CallName, known: Option<&KeyRef>) -> bool {
        self.calls.contains(&call)
            && match call.touches() {
                Touches::Nothing => true,
                Touches::Space | Touches::WholeSpace => !self.keys.is_empty(),
                Touches::Key => self.keys.iter().any(|keys| keys.could_match_key(known)),
            }
    }
}

impl Target {
    pub(crate) fn on(&self) -> String {
        match self {
            Target::Nothing => String::new(),
            Target::Space(space) => format!(" on the key space `{space}`"),
            Target::Key(KeyPath { space, key }) => format!(" on `{space}/{key}`"),
        }
    }
}
