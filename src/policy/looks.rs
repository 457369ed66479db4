//! What must be looked at before a decision, and when it must not be: who may not know of a key must not learn
//! whether there is one from the time that a look at it takes.

use crate::{Act, Caller, Policy, Rule};

impl Policy {
    /// Whether the decision turns on what the key is for: a rule of the caller that names this act on this key
    /// asks for it.
    #[must_use]
    pub fn looks_at_algorithms(&self, caller: &Caller, act: &Act) -> bool {
        self.has_rule_of(caller, act, |rule| !rule.terms.algorithms.is_empty())
    }

    /// Whether a rule of the caller that names this act asks for its message.
    #[must_use]
    pub fn looks_at_messages(&self, caller: &Caller, act: &Act) -> bool {
        let takes_message = act.call.takes_message();
        takes_message && self.has_rule_of(caller, act, |rule| rule.terms.look_at_messages())
    }

    fn has_rule_of(&self, caller: &Caller, act: &Act, asks: impl Fn(&Rule) -> bool) -> bool {
        self.allows_of(caller).any(|rule| asks(rule) && rule.allows(act))
            || self.denies_of(caller).any(|rule| asks(rule) && rule.names(act))
    }
}

#[cfg(test)]
mod tests {
    use wire::{CallName, KeyPath, Name};

    use super::*;
    use crate::Target;

    const POLICY: &str = r#"version = 1
service.name = "s"
anonymous.roles = ["r", "other"]
[[role]]
name = "r"
allow = [
    { calls = ["sign"], keys = ["open/*"], algorithms = ["ed25519"] },
    { calls = ["sign", "public_key"], keys = ["plain/*"] },
    { calls = ["sign", "public_key"], keys = ["short/*"], message_max = "1 B" },
]
deny = [
    { calls = ["public_key"], keys = ["*/root"], algorithms = ["p256"] },
    { calls = ["sign"], keys = ["plain/odd"], message_like = ["x*"] },
]
[[role]]
name = "other"
scripts = ["sha256:aa00000000000000000000000000000000000000000000000000000000000000"]
allow = [{ calls = ["sign"], keys = ["hidden/*"], algorithms = ["ed25519"] }]
"#;

    #[test]
    fn a_key_is_looked_at_only_where_a_rule_that_names_it_asks_what_it_is_for() {
        let policy = Policy::parse("p", POLICY).unwrap();
        let caller = policy.anonymous().unwrap().running(b"1");
        for (call, key, looks) in [
            (CallName::Sign, "open/k", true),
            (CallName::Verify, "open/k", false),
            (CallName::Sign, "plain/k", false),
            (CallName::Sign, "hidden/k", false),
            (CallName::PublicKey, "plain/root", true),
            (CallName::PublicKey, "hidden/root", true),
            (CallName::Sign, "plain/root", false),
        ] {
            let act = Act { call, target: target(key) };
            assert_eq!(policy.looks_at_algorithms(&caller, &act), looks, "{call} {key}");
        }
    }

    #[test]
    fn a_message_is_asked_for_only_where_a_rule_that_names_the_act_looks_at_it() {
        let policy = Policy::parse("p", POLICY).unwrap();
        let caller = policy.anonymous().unwrap().running(b"1");
        for (call, key, looks) in [
            (CallName::Sign, "short/k", true),
            (CallName::Sign, "plain/k", false),
            (CallName::Sign, "plain/odd", true),
            // That has none.
            (CallName::PublicKey, "short/k", false),
            (CallName::Sign, "other/k", false),
        ] {
            let act = Act { call, target: target(key) };
            assert_eq!(policy.looks_at_messages(&caller, &act), looks, "{call} {key}");
        }
    }

    fn target(key: &str) -> Target {
        let (space, key) = key.split_once('/').unwrap();
        let name = |text| Name::parse(text).unwrap();
        Target::Key(KeyPath { space: name(space), key: name(key) })
    }
}
