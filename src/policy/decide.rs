//! The decision: may this caller do this?

use wire::{Algorithm, CallName, KeyPath, Touches};

use crate::grant::{Grant, Offer, Target};
use crate::pattern::{On, Pattern};
use crate::recipient::Recipient;
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

impl Act {
    /// Whether it is done with a key that the script has itself, by a call that may be on a stored one instead.
    #[must_use]
    pub fn has_own_key(&self) -> bool {
        self.target == Target::Nothing
            && self.call.touches() == Touches::Key
            && self.call.may_touch_nothing()
    }

    fn on(&self) -> String {
        match &self.target {
            Target::Nothing if self.has_own_key() => " with a key of the script's own".to_owned(),
            Target::Nothing => String::new(),
            Target::Space(space) => format!(" on the key space `{space}`"),
            Target::Key(KeyPath { space, key }) => format!(" on `{space}/{key}`"),
        }
    }
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
    #[error("no rule allows `{call}`{on}", call = act.call, on = act.on())]
    NoRule {
        /// What was asked.
        act: Act,
    },
    /// A rule denies it.
    #[error("{rule} (line {line}) denies `{call}`{on}", call = act.call, on = act.on())]
    Denied {
        /// What was asked.
        act: Act,
        /// The rule.
        rule: String,
        /// Its line.
        line: usize,
    },
    /// The rules that would allow it do so on other terms; this is the first of them.
    #[error("no rule allows `{call}`{on}: {rule} (line {line}) {unmet}", call = act.call, on = act.on())]
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
                None => offers.push(Offer::new(caller, rule, act.call)),
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

    pub(crate) fn allows_of<'a>(&'a self, caller: &'a Caller) -> impl Iterator<Item = &'a Rule> {
        self.roles_of(caller).filter(|role| role.is_for(caller)).flat_map(|role| &role.allow)
    }

    pub(crate) fn denies_of<'a>(&'a self, caller: &'a Caller) -> impl Iterator<Item = &'a Rule> {
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

    /// Its name and line.
    pub(crate) fn place(&self) -> String {
        format!("{} (line {})", self.name, self.line)
    }

    /// Whether a deny may be about this call, for some key: to delete a key space is to delete its keys.
    pub(crate) fn lists_or_follows(&self, call: CallName) -> bool {
        let deletes_keys = call == CallName::DeleteKeySpace;
        self.lists(call) || (deletes_keys && self.lists(CallName::DeleteKeypair))
    }

    pub(crate) fn allows(&self, act: &Act) -> bool {
        self.allows_on(act.call, &On::from(&act.target))
    }

    /// Whether an allow is about a call on this, or on all of it.
    pub(crate) fn allows_on(&self, call: CallName, on: &On<'_>) -> bool {
        self.lists(call) && self.reaches(call, on, true)
    }

    /// An allow reaches a key space through the pattern of one of its keys, but a call that takes
    /// all the keys with it needs a pattern that covers them all. A deny on keys does not close their
    /// key space, but no call that takes all its keys may take those.
    fn reaches(&self, call: CallName, on: &On<'_>, opens: bool) -> bool {
        let mut keys = self.keys.iter();
        match on {
            On::Nothing => true,
            On::Key(space, key) => keys.any(|keys| keys.matches_key(space, key)),
            On::Space(space) if opens == (call.touches() == Touches::WholeSpace) => {
                keys.any(|keys| keys.covers_space(space))
            }
            On::Space(space) => keys.any(|keys| keys.matches_space(space)),
        }
    }

    pub(crate) fn denies(&self, act: &Act, facts: &Facts<'_>) -> bool {
        self.names(act) && self.spares_for(act, facts).is_none()
    }

    /// The term by which a deny leaves alone what it names. One that cannot be looked at is taken to
    /// hold: what is not known does not open anything.
    pub(crate) fn spares_for(&self, act: &Act, facts: &Facts<'_>) -> Option<Unmet> {
        self.terms.all_unmet(act, facts).find(|unmet| unmet.is_known(facts))
    }

    pub(crate) fn names(&self, act: &Act) -> bool {
        self.names_on(act.call, &On::from(&act.target))
    }

    /// Whether a deny is about a call on this, or on all of it. One without `keys` denies its calls on everything.
    pub(crate) fn names_on(&self, call: CallName, on: &On<'_>) -> bool {
        self.lists_or_follows(call) && (!self.names_keys || self.reaches(call, on, false))
    }

    /// To whom it lets this call export keys.
    pub(crate) fn recipients_of(&self, call: CallName) -> &[Recipient] {
        if call == CallName::ExportKeySpace { &self.export_to } else { &[] }
    }

    /// Whether there may be a key space that both cover with all its keys.
    pub(crate) fn shares_a_whole_space_with(&self, other: &Self) -> bool {
        let whole = |rule: &'_ Self| -> Vec<Pattern> {
            let all = rule.keys.iter().filter(|keys| keys.takes_all_keys());
            all.map(Pattern::space_alone).collect()
        };
        let others = whole(other);
        whole(self)
            .iter()
            .any(|one| others.iter().any(|other| !one.in_common_with(other).is_empty()))
    }
}
