//! Calls with a key that the script has itself, and calls of whose key only a part is known.

use wire::{CallName, KeyRef};

use super::tests::*;
use super::*;

fn foreseen(policy: &Policy, call: CallName, known: Known<'_>) -> Foresight {
    policy.foresee(&policy.anonymous().unwrap(), call, known)
}

#[test]
fn a_rule_without_keys_is_about_keys_of_the_scripts_own_alone() {
    let policy = role("allow = [{ calls = [\"encrypt\"] }]");
    let with = |own_key| {
        foreseen(&policy, CallName::Encrypt, Known { own_key: Some(own_key), ..Known::default() })
    };
    assert_eq!(with(true), Foresight::Certain);
    assert!(matches!(with(false), Foresight::Refused(_)));
    let key = KeyRef::parse("k").unwrap();
    let named = foreseen(&policy, CallName::Encrypt, Known { key: Some(&key), ..Known::default() });
    assert!(matches!(named, Foresight::Refused(_)), "a stored key of this name");
}

#[test]
fn a_refusal_says_whether_it_is_of_a_key_of_the_scripts_own() {
    let policy = role("allow = [{ calls = [\"random_bytes\"] }]");
    let refused = |call| {
        let (who, act) = (policy.anonymous().unwrap(), Act { call, target: Target::Nothing });
        match policy.decide(&who, act, &Facts::default()) {
            Decision::Refuse(refusal) => refusal.to_string(),
            Decision::Allow(_) => panic!("allowed"),
        }
    };
    assert!(refused(CallName::Encrypt).contains("with a key of the script's own"));
    assert!(!refused(CallName::Hash).contains("own"));
}

#[test]
fn a_deny_of_algorithms_closes_what_is_about_keys_of_the_scripts_own_alone() {
    let deny = "deny = [{ calls = [\"encrypt\"], keys = [\"*/*\"], algorithms = [\"symmetric\"] }]";
    for (allow, is_closed) in [
        ("allow = [{ calls = [\"encrypt\"] }]", true),
        ("allow = [{ calls = [\"encrypt\"], keys = [\"*/*\"] }]", false),
    ] {
        let remarks = role(&format!("{allow}\n{deny}")).remarks(0);
        assert_eq!(!remarks.is_empty(), is_closed, "{allow}");
    }
}

#[test]
fn the_name_of_a_key_is_looked_at_where_its_key_space_is_not_known() {
    let policy = role("allow = [{ calls = [\"sign\"], keys = [\"a/x\"] }]");
    let named = |text: &str| {
        let key = KeyRef::parse(text).unwrap();
        foreseen(&policy, CallName::Sign, Known { key: Some(&key), ..Known::default() })
    };
    assert!(matches!(named("x"), Foresight::Possible(_)));
    let Foresight::Refused(why) = named("k") else { panic!("not refused") };
    assert!(why.contains("on a key named `k`"), "{why}");
}

#[test]
fn a_deny_of_one_call_everywhere_says_nothing_of_another() {
    let policy = role(
        "allow = [{ calls = [\"sign\"], keys = [\"*/*\"] }]\n\
         deny = [{ calls = [\"verify\"], keys = [\"*/*\"] }]",
    );
    assert_eq!(foreseen(&policy, CallName::Sign, Known::default()), Foresight::Certain);
    let verify = foreseen(&policy, CallName::Verify, Known::default());
    assert!(matches!(verify, Foresight::Refused(_)));
}

#[test]
fn a_term_bears_on_the_calls_that_it_can_ask_something_of_alone() {
    let rule = |terms: &str| {
        let calls = "\"sign\", \"encrypt\", \"create_key_space\"";
        role(&format!("allow = [{{ calls = [{calls}], keys = [\"*/*\"]{terms} }}]"))
    };
    let (with, without) = (rule(", algorithms = [\"p256\"]"), rule(""));
    let (with, without) = (&with.roles[0].allow[0].terms, &without.roles[0].allow[0].terms);
    for (call, is_stored, bears) in [
        (CallName::Sign, true, true),
        (CallName::Encrypt, true, true),
        (CallName::Encrypt, false, false),
        (CallName::CreateKeySpace, true, false),
    ] {
        assert_eq!(with.are_none_for(call, is_stored), !bears, "{call}");
        let (one, other) =
            (with.written_for(call, is_stored), without.written_for(call, is_stored));
        assert_eq!(one != other, bears, "{call}");
    }
    let named = "calls = [\"sign_in\"], keys = [\"*/*\"], namespaces = [\"n\"]";
    let named = role(&format!("allow = [{{ {named} }}]"));
    assert!(!named.roles[0].allow[0].terms.are_none_for(CallName::SignIn, true));
}
