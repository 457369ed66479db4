//! Rules that would do nothing, and what is said of them.

use wire::{CallName, Name, Touches};

use super::tests::*;
use super::*;

#[test]
fn rules_that_would_do_nothing_are_mistakes() {
    for (rule, says) in [
        ("deny = [{ calls = [], keys = [\"a/*\"] }]", "names no calls says nothing"),
        ("deny = [{ calls = [\"sign\"], keys = [] }]", "an empty list says nothing"),
        ("deny = [{ calls = [\"create_key_space\"], keys = [] }]", "an empty list says nothing"),
        ("deny = [{ calls = [\"sign\"], keys = [\"a/*\", \"vault\"] }]", "names no key"),
        ("deny = [{ calls = [\"sign\"], keys = [\"billing\"] }]", "names no key"),
        ("deny = [{ calls = [\"*\"], keys = [\"billing\"] }]", "names no key"),
        ("allow = [{ calls = [\"sign\"], keys = [\"billing\"] }]", "names no key"),
        (
            "deny = [{ calls = [\"hash\"], between = \"06:00-06:00\" }]",
            "these hours have no length",
        ),
        ("deny = [{ calls = [\"*\"], message_max = \"1 B\" }]", "which has no message"),
        (
            "deny = [{ calls = [\"sign\", \"select_keypair\"], message_like = [\"a\"] }]",
            "which has no message",
        ),
        (
            "allow = [{ calls = [\"create_keypair\"], keys = [\"a/*\"], message_max = \"1 B\" }]",
            "which has no message",
        ),
        (
            "allow = [{ calls = [\"sign\", \"sign_in\"], keys = [\"a/*\"], namespaces = [\"a\"] }]",
            "which has no namespace",
        ),
        ("allow = [{ calls = [\"hash\"], algorithms = [\"p256\"] }]", "which has no key"),
        (
            "allow = [{ calls = [\"encrypt\"], algorithms = [\"p256\"] }]",
            "r.allow[0] has `algorithms` but names no keys",
        ),
        (
            "allow = [{ calls = [\"*\"], algorithms = [\"p256\"] }]",
            "r.allow[0] has `algorithms` but names no keys",
        ),
        (
            "allow = [{ calls = [\"sign\"], keys = [\"a/*\"], message_sha256 = [\"00\"] }]",
            "not a SHA-256 digest",
        ),
        (
            "allow = [{ calls = [\"sign\"], keys = [\"a/*\"], message_prefix = [\"hex:0\"] }]",
            "not a prefix",
        ),
        (
            "allow = [{ name = \"x\", calls = [\"hash\"] }, { name = \"x\", calls = [\"random_bytes\"] }]",
            "is called `r.x` as well",
        ),
        (
            "allow = [{ name = \"x\", calls = [\"hash\"] }]\ndeny = [{ name = \"x\", calls = [\"hash\"] }]",
            "is called `r.x` as well",
        ),
        (
            "allow = [{ calls = [\"hash\"] }, { name = \"allow[0]\", calls = [\"random_bytes\"] }]",
            "`allow[0]` is how a rule without a name is called",
        ),
        ("deny = [{ name = \"deny[1]\", calls = [\"hash\"] }]", "is how a rule without a name"),
        ("scripts = []", "an empty list says nothing"),
        ("scripts = [\"9f\"]", "not the digest of a script"),
        ("deny = [{ calls = [\"sign\"], uses = 3 }]", "unknown key `uses`"),
        (
            "allow = [{ calls = [\"hash\"], between = \"06:00-07:00\", uses = 1 }, { calls = [\"hash\"] }]",
            "would count their uses together",
        ),
        (
            "deny = [{ calls = [\"sign\"], keys = [\"a/*\"], message_prefix = [\"secret:*\"] }]",
            "a prefix is no pattern",
        ),
        (
            "deny = [{ calls = [\"sign\"], keys = [\"a/*\"], message_like = [\"hex:01*\"] }]",
            "a pattern is text",
        ),
        (
            "allow = [{ calls = [\"sign\"], keys = [\"a/*\"], message_prefix = [\"1234\", \"12345\"], message_max = \"3 B\" }]",
            "no message is as short",
        ),
        (
            "deny = [{ calls = [\"sign\"], keys = [\"a/*\"], message_like = [\"1*234\"], message_max = \"3 B\" }]",
            "no message is as short",
        ),
    ] {
        let text = format!("version = 1\nservice.name = \"s\"\n[[role]]\nname = \"r\"\n{rule}\n");
        let report = Policy::parse("p.toml", &text).unwrap_err().to_string();
        assert!(report.contains(says), "{rule}: {report}");
    }
}

#[test]
fn what_could_not_be_read_leads_to_no_second_mistake() {
    for rule in [
        "deny = [{ calls = [\"sign\"], keys = [\"a/*\"], message_prefix = [\"a*\", \"12345\"], message_max = \"3 B\" }]",
        "deny = [{ calls = [\"sign\", \"select_key_space\"], keys = [\"a b/*\", \"b/k*\"] }]",
    ] {
        let text = format!("version = 1\nservice.name = \"s\"\n[[role]]\nname = \"r\"\n{rule}\n");
        let found = Policy::parse("p.toml", &text).unwrap_err();
        assert_eq!(found.found().len(), 1, "{rule}: {found}");
    }
    // What is wrong with one pattern whatever the others are is said at once.
    let text = "version = 1\nservice.name = \"s\"\n[[role]]\nname = \"r\"\n\
                deny = [{ calls = [\"sign\"], keys = [\"a b/*\", \"vault\"] }]\n";
    let found = Policy::parse("p.toml", text).unwrap_err();
    assert_eq!(found.found().len(), 2, "{found}");
}

#[test]
fn a_pattern_of_a_key_space_may_stand_beside_one_of_its_own_keys() {
    for (keys, is_good) in [("\"a\", \"a/*\"", true), ("\"a\", \"b/*\"", false), ("\"a\"", false)] {
        let text = format!(
            "version = 1\nservice.name = \"s\"\n[[role]]\nname = \"r\"\n\
             deny = [{{ calls = [\"delete_key_space\", \"delete_keypair\"], keys = [{keys}] }}]\n"
        );
        assert_eq!(Policy::parse("p.toml", &text).is_ok(), is_good, "{keys}");
    }
}

/// A deny of a call that its patterns are never for would deny nothing, and nobody would know.
#[test]
fn a_deny_lists_no_call_that_its_patterns_are_never_for() {
    let space = Target::Space(Name::parse("team").unwrap());
    for call in CallName::ALL {
        let (targets, good) = match call.touches() {
            Touches::Nothing => (vec![Target::Nothing], "team team/* team/k*"),
            Touches::Space => (vec![space.clone()], "team team/*"),
            Touches::WholeSpace => (vec![space.clone()], "team team/* team/k*"),
            Touches::Key => (vec![key("team/k1")], "team/* team/k*"),
        };
        for keys in ["team", "team/*", "team/k*"] {
            let text = format!(
                "version = 1\nservice.name = \"s\"\nanonymous.roles = [\"r\"]\n[[role]]\nname = \"r\"\n\
                 deny = [{{ calls = [\"{call}\"], keys = [\"{keys}\"] }}]\n"
            );
            let denies_some = |policy: &Policy| {
                let is_denied = |target: &Target| {
                    let act = Act { call: *call, target: target.clone() };
                    let decision =
                        policy.decide(&policy.anonymous().unwrap(), act, &Facts::default());
                    matches!(decision, Decision::Refuse(Refusal::Denied { .. }))
                };
                targets.iter().any(is_denied)
            };
            let is_good = good.split(' ').any(|one| one == keys);
            match Policy::parse("p.toml", &text) {
                Ok(policy) => assert!(is_good && denies_some(&policy), "{call} {keys}"),
                Err(found) => {
                    let said = found.to_string();
                    assert!(
                        !is_good && said.contains("[policy-idle-pattern]"),
                        "{call} {keys}: {said}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_message_has_a_form_of_so_many_bytes_as_it_may_have() {
    let is_good = |terms: &str| {
        let text = format!(
            "version = 1\nservice.name = \"s\"\n[[role]]\nname = \"r\"\n\
             allow = [{{ calls = [\"sign\"], keys = [\"a/*\"], {terms} }}]\n"
        );
        Policy::parse("p.toml", &text).is_ok()
    };
    for term in ["message_prefix", "message_like"] {
        let of = |length: usize| format!("{term} = [\"{}\"]", "p".repeat(length));
        let good = [0, 1, 256, 257].map(|length| is_good(&of(length)));
        assert_eq!(good, [false, true, true, false], "{term}");
        let good =
            ["3 B", "4 B"].map(|max| is_good(&format!("{}, message_max = \"{max}\"", of(4))));
        assert_eq!(good, [false, true], "{term}");
    }
    let hex = |length: usize| format!("message_prefix = [\"hex:{}\"]", "2a".repeat(length));
    assert_eq!([0, 1, 256, 257].map(|length| is_good(&hex(length))), [false, true, true, false]);
}
