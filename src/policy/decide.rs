//! The decision: may this caller do this?

use wire::{CallName, KeyPath, KeyRef, Name, Touches};

use crate::grant::{Grant, Target};
use crate::{Caller, Policy, Rule};

/// What a caller wants to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// The host function.
    pub call: CallName,
    /// What it is to be done to.
    pub target: Target,
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
    /// The rule does not hold at this time of day.
    #[error("{rule} (line {line}) does not allow `{call}` at this time of day", call = act.call)]
    WrongTime {
        /// What was asked.
        act: Act,
        /// The rule.
        rule: String,
        /// Its line.
        line: usize,
    },
    /// The message is longer than the rule allows.
    #[error("the message has {bytes} bytes, {rule} (line {line}) allows {max}")]
    MessageTooLong {
        /// Of the message.
        bytes: u64,
        /// Of the rule.
        max: u64,
        /// The rule.
        rule: String,
        /// Its line.
        line: usize,
    },
    /// The rate of the rule is used up.
    #[error("the rate of {rule} (line {line}) is used up")]
    RateUsedUp {
        /// The rule.
        rule: String,
        /// Its line.
        line: usize,
    },
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
    /// Decides. Any deny that matches refuses; else the first allow that matches and holds at this
    /// time grants; else it is refused. `now` is Unix milliseconds.
    pub fn decide(&self, caller: &Caller, act: Act, now: u64) -> Decision {
        let mut denies = self.denies_of(caller);
        if let Some(rule) = denies.find(|rule| rule.denies(&act) && rule.holds_at(now)) {
            let (rule, line) = (rule.name.clone(), rule.line);
            return Decision::Refuse(Refusal::Denied { act, rule, line });
        }
        let allows = self.allows_of(caller);
        let mut matching = allows.filter(|rule| rule.allows(&act)).peekable();
        let untimely = matching.peek().map(|rule| (rule.name.clone(), rule.line));
        if let Some(rule) = matching.find(|rule| rule.holds_at(now)) {
            return Decision::Allow(Grant::new(caller, rule, act, now));
        }
        Decision::Refuse(match untimely {
            Some((rule, line)) => Refusal::WrongTime { act, rule, line },
            None => Refusal::NoRule { act },
        })
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
        // A rule with a time of day may hold later, so only the timeless ones are certain.
        let mut denies = self.denies_of(caller);
        if let Some(rule) = denies.find(|rule| rule.denies(&act) && rule.between.is_none()) {
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
        self.roles_of(caller).flat_map(|role| &role.allow)
    }

    fn denies_of<'a>(&'a self, caller: &'a Caller) -> impl Iterator<Item = &'a Rule> {
        self.roles_of(caller).flat_map(|role| &role.deny)
    }
}

impl Rule {
    /// An allow reaches a key space through the pattern of one of its keys, but a call that takes
    /// all the keys with it needs a pattern that covers them all.
    fn allows(&self, act: &Act) -> bool {
        self.calls.contains(&act.call)
            && match &act.target {
                Target::Nothing => true,
                Target::Key(path) => self.keys.iter().any(|keys| keys.matches_key(path)),
                Target::Space(space) if act.call.touches() == Touches::WholeSpace => {
                    self.keys.iter().any(|keys| keys.covers_space(space))
                }
                Target::Space(space) => self.keys.iter().any(|keys| keys.matches_space(space)),
            }
    }

    /// A deny without `keys` denies its calls on everything. A deny on keys does not close their
    /// key space, but no call that takes all its keys may take those, and to delete a key space is
    /// to delete its keys.
    fn denies(&self, act: &Act) -> bool {
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

    fn holds_at(&self, now: u64) -> bool {
        let minute = (now / 60_000) % (24 * 60);
        self.between.is_none_or(|day| {
            if day.from <= day.to {
                (day.from..day.to).contains(&minute)
            } else {
                minute >= day.from || minute < day.to
            }
        })
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
