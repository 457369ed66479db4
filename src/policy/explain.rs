//! What each rule says of an act: the decision, taken apart.

use wire::{CallName, Touches};

use crate::decide::{Act, Facts};
use crate::pattern::On;
use crate::terms::Unmet;
use crate::{Caller, Policy, Role, RoleId, Rule};

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

/// Something in a policy that gives nothing to anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// Line of the file.
    pub line: usize,
    /// What kind of thing: the same for as long as the language lives.
    pub code: &'static str,
    /// What.
    pub message: String,
    /// What to do.
    pub help: &'static str,
    /// Whether it gave something until it ended: what was meant, and no mistake.
    pub has_ended: bool,
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

    /// What stands in it and gives nothing to anybody at `now` in Unix seconds, in the order of the file.
    #[must_use]
    pub fn remarks(&self, now: u64) -> Vec<Remark> {
        let mut remarks = self.ended(now);
        let mut say = |line, code, message, help| {
            remarks.push(Remark { line, code, message, help, has_ended: false });
        };
        for client in self.clients.iter().filter(|client| client.roles.is_empty()) {
            let message =
                format!("the client `{}` has no roles, so it may do nothing", client.name);
            say(client.line, "policy-idle-client", message, "give it a role, or remove it");
        }
        let mut ceilings = self.limits.clone();
        for (index, role) in self.roles.iter().enumerate() {
            let holders = self.holders_of(RoleId(index));
            if holders.is_empty() {
                let message = format!("nobody has the role `{}`", role.name);
                say(role.line, "policy-idle-role", message, "give it to a client, or remove it");
            }
            for (bound, _) in
                role.limits.iter().filter(|(one, most)| **most > *ceilings.slot(**one))
            {
                let (name, bound) = (&role.name, bound.key());
                let message = format!(
                    "the role `{name}` has a higher `{bound}` than the service, whose own holds"
                );
                say(
                    role.line,
                    "policy-idle-limit",
                    message,
                    "lower it, or raise the one in `[limits]`",
                );
            }
            for allow in &role.allow {
                if let Some(deny) = self.closing(allow, role, &holders) {
                    let message =
                        format!("{} allows nothing: {} denies all of it", allow.name, deny.name);
                    say(
                        allow.line,
                        "policy-closed-rule",
                        message,
                        "remove the allow, or narrow the deny",
                    );
                }
            }
        }
        remarks.sort_by_key(|remark| remark.line);
        remarks
    }

    /// The clients and rules that have expired.
    fn ended(&self, now: u64) -> Vec<Remark> {
        let remark = |line, code, what: &str| {
            let (message, help) =
                (format!("{what} has expired"), "remove it, or let it expire later");
            Remark { line, code, message, help, has_ended: true }
        };
        let clients = self.clients.iter().filter(|one| one.expires.is_some_and(|at| now >= at));
        let clients = clients.map(|client| {
            let what = format!("the client `{}`", client.name);
            remark(client.line, "policy-expired-client", &what)
        });
        let rules = self.roles.iter().flat_map(|role| role.allow.iter().chain(&role.deny));
        let rules = rules.filter(|rule| rule.terms.have_ended(now));
        let rules = rules.map(|rule| remark(rule.line, "policy-expired-rule", &rule.name));
        clients.chain(rules).collect()
    }

    /// The roles of each who has this one.
    fn holders_of(&self, role: RoleId) -> Vec<&[RoleId]> {
        let clients = self.clients.iter().map(|client| client.roles.as_slice());
        let anonymous = self.anonymous.iter().map(|(roles, _)| roles.as_slice());
        clients.chain(anonymous).filter(|roles| roles.contains(&role)).collect()
    }

    /// A deny that closes an allow altogether, where one does to each who has its role.
    fn closing<'a>(
        &'a self,
        allow: &Rule,
        role: &'a Role,
        holders: &[&[RoleId]],
    ) -> Option<&'a Rule> {
        let closes = |role: &'a Role| role.deny.iter().find(|deny| deny.closes(allow));
        let own = closes(role);
        if own.is_some() {
            return own;
        }
        let among =
            |roles: &&[RoleId]| roles.iter().filter_map(|id| self.roles.get(id.0)).find_map(closes);
        let denies: Option<Vec<&Rule>> = holders.iter().map(among).collect();
        denies?.into_iter().next()
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
        let is_closed = |(call, on): &(CallName, On<'_>)| {
            let is_stored = !matches!(on, On::Nothing);
            self.names_on(*call, on) && self.terms.are_none_for(*call, is_stored)
        };
        let opened = allow.opened();
        !opened.is_empty() && opened.iter().all(is_closed)
    }

    /// Each call that an allow is about, on each that it allows it on.
    fn opened(&self) -> Vec<(CallName, On<'_>)> {
        let on = |call: &CallName| {
            let call = *call;
            let of_part = call.touches() != Touches::WholeSpace;
            let keys = self.keys.iter().filter(move |keys| of_part || keys.takes_all_keys());
            let on = keys.filter_map(move |keys| Some(keys.fitting(call)?.whole()));
            let nothing = call.may_touch_nothing().then_some(On::Nothing);
            on.chain(nothing).map(move |on| (call, on))
        };
        self.calls.iter().flat_map(on).collect()
    }
}
