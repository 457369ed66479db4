//! What each rule says of an act: the decision, taken apart.

use wire::{CallName, Touches};

use crate::decide::{Act, Facts};
use crate::pattern::Pattern;
use crate::terms::Unmet;
use crate::{Caller, Policy, Rule};

/// A rule and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opinion {
    /// Role and place or name, such as `billing-signer.allow[1]`.
    pub rule: String,
    /// Line of the file.
    pub line: usize,
    /// What it says.
    pub says: Says,
}

/// What a rule says of an act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    /// It allows it.
    Allow,
    /// It denies it.
    Deny,
    /// It is about other calls.
    OtherCalls,
    /// It is about other keys.
    OtherKeys,
    /// It would, if this term held.
    Unless(Unmet),
}

impl std::fmt::Display for Says {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Allow => f.write_str("allows it"),
            Self::Deny => f.write_str("denies it"),
            Self::OtherCalls => f.write_str("is for other calls"),
            Self::OtherKeys => f.write_str("is for other keys"),
            Self::Unless(unmet) => unmet.fmt(f),
        }
    }
}

impl Policy {
    /// What each rule of the caller's roles says, in the order of the file. The decision that follows
    /// is that of [`Policy::decide`]: one deny refuses, else one allow allows.
    #[must_use]
    pub fn opinions(&self, caller: &Caller, act: &Act, facts: &Facts<'_>) -> Vec<Opinion> {
        let mut opinions = Vec::new();
        for role in self.roles_of(caller) {
            let other_script = (!role.is_for(caller)).then_some(Unmet::Script);
            for rule in &role.allow {
                let says = match other_script.or_else(|| rule.terms.unmet(act, facts)) {
                    _ if !rule.lists(act.call) => Says::OtherCalls,
                    _ if !rule.allows(act) => Says::OtherKeys,
                    Some(unmet) => Says::Unless(unmet),
                    None => Says::Allow,
                };
                opinions.push(Opinion { rule: rule.name.clone(), line: rule.line, says });
            }
            for rule in &role.deny {
                let says = match rule.spares_for(act, facts) {
                    _ if !rule.lists_or_follows(act.call) => Says::OtherCalls,
                    _ if !rule.names(act) => Says::OtherKeys,
                    Some(unmet) => Says::Unless(unmet),
                    None => Says::Deny,
                };
                opinions.push(Opinion { rule: rule.name.clone(), line: rule.line, says });
            }
        }
        opinions.sort_by_key(|opinion| opinion.line);
        opinions
    }

    /// The allows that a deny of their own role closes altogether: rule, line, and the deny.
    #[must_use]
    pub fn closed_rules(&self) -> Vec<(&str, usize, &str)> {
        let mut closed = Vec::new();
        for role in &self.roles {
            for allow in &role.allow {
                let deny = role.deny.iter().find(|deny| deny.closes(allow));
                closed
                    .extend(deny.map(|deny| (allow.name.as_str(), allow.line, deny.name.as_str())));
            }
        }
        closed
    }

    /// Every rule with its line, in the order of the file.
    #[must_use]
    pub fn rules(&self) -> Vec<(&str, usize)> {
        let rules = self.roles.iter().flat_map(|role| role.allow.iter().chain(&role.deny));
        let mut rules: Vec<_> = rules.map(|rule| (rule.name.as_str(), rule.line)).collect();
        rules.sort_by_key(|(_, line)| *line);
        rules
    }
}

impl Rule {
    /// Whether nothing of an allow is left beside this deny.
    fn closes(&self, allow: &Self) -> bool {
        // A deny on keys does not close their key space, unless it is on all of them.
        let closes = |call: &CallName| {
            let covers = |pattern: &Pattern| match call.touches() {
                Touches::Space => self.keys.iter().any(|own| own.covers_space_of(pattern)),
                // A deny on some of its keys is enough.
                Touches::WholeSpace => self.keys.iter().any(|own| own.reaches_space_of(pattern)),
                Touches::Nothing | Touches::Key => self.keys.iter().any(|own| own.covers(pattern)),
            };
            !self.names_keys || (!allow.keys.is_empty() && allow.keys.iter().all(covers))
        };
        self.terms.are_none()
            && allow.calls.iter().all(|call| self.lists_or_follows(*call) && closes(call))
    }
}
