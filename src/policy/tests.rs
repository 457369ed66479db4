use wire::{CallName, KeyPath, KeyRef, Name};

use super::*;

const USER: &str = "UBVYNMTT742PZYM5NOAE5722H5LUPLNE5KRC6HKJYAPFFXNXQ5NUXEGK";
const OTHER: &str = "UDKHGXR2EZPBN3XAH5MXDC43LUBQDHAH3C3MKH4Q3I5GM3XMCOVTLHIA";

/// The policy of the language's own page, with every key that it has.
fn sample() -> String {
    format!(
        r#"
version = 1
[service]
name = "signer.example"
[limits]
script = "64 KiB"
operations = 1_000_000
memory = "16 MiB"
wall_clock = "1 s"
call_depth = 32
host_calls = 1_000
new_keys = 16
output = "64 KiB"
result = "64 KiB"
concurrent = 8
[sandbox]
isolation = "script"
[[client]]
name = "billing"
nkey = "{USER}"
roles = ["billing-signer"]
expires = 2027-06-30T00:00:00Z
[anonymous]
roles = ["demo"]
[[role]]
name = "billing-signer"
limits.wall_clock = "250 ms"
allow = [
  {{ calls = ["select_key_space", "select_keypair", "sign"], keys = ["billing/*"], message_max = "4 KiB", rate = ["2/1s", "5000/1h"], between = "06:00-20:00" }},
]
deny = [{{ calls = ["*"], keys = ["billing/root-*"] }}]
[[role]]
name = "demo"
allow = [{{ calls = ["hash"] }}]
"#
    )
}

fn key(text: &str) -> Target {
    let (space, key) = text.split_once('/').unwrap();
    Target::Key(KeyPath { space: Name::parse(space).unwrap(), key: Name::parse(key).unwrap() })
}

fn space(text: &str) -> Target {
    Target::Space(Name::parse(text).unwrap())
}

/// Noon of 1970-01-01 in milliseconds.
const NOON: u64 = 12 * 3_600_000;

fn decide(policy: &Policy, who: &Caller, call: CallName, target: Target, now: u64) -> Decision {
    policy.decide(who, Act { call, target }, now)
}

#[test]
fn every_decision_of_the_sample_is_the_one_its_text_says() {
    let policy = Policy::parse("p.toml", &sample()).unwrap();
    let billing = policy.client_by_nkey(USER, 0).unwrap();
    let allowed = |call, target, now| {
        matches!(decide(&policy, &billing, call, target, now), Decision::Allow(_))
    };
    assert!(allowed(CallName::Sign, key("billing/k1"), NOON));
    assert!(allowed(CallName::SelectKeySpace, space("billing"), NOON));
    assert!(!allowed(CallName::Sign, key("billing/root-1"), NOON), "deny wins");
    assert!(!allowed(CallName::Sign, key("other/k1"), NOON));
    assert!(!allowed(CallName::DeleteKeypair, key("billing/k1"), NOON));
    assert!(!allowed(CallName::Hash, Target::Nothing, NOON), "not listed for billing");
    assert!(!allowed(CallName::Sign, key("billing/k1"), 3 * 3_600_000), "at night");
    assert_eq!(policy.limits_for(&billing).wall_clock, 250);
    assert_eq!(policy.limits_for(&policy.anonymous().unwrap()).wall_clock, 1000);
    assert_eq!(policy.calls_for(&policy.anonymous().unwrap()), [CallName::Hash]);
}

#[test]
fn a_refusal_names_the_rule_and_its_line() {
    let policy = Policy::parse("p.toml", &sample()).unwrap();
    let billing = policy.client_by_name("billing", 0).unwrap();
    let decision = decide(&policy, &billing, CallName::Sign, key("billing/root-1"), NOON);
    let Decision::Refuse(refusal) = decision else { panic!("allowed") };
    let line = sample().lines().position(|line| line.starts_with("deny")).unwrap() + 1;
    let expected =
        format!("billing-signer.deny[0] (line {line}) denies `sign` on `billing/root-1`");
    assert_eq!(refusal.to_string(), expected);
}

#[test]
fn a_grant_holds_to_the_terms_of_its_rule() {
    let policy = Policy::parse("p.toml", &sample()).unwrap();
    let billing = policy.client_by_name("billing", 0).unwrap();
    let mut book = RateBook::default();
    let mut spend = |bytes| match decide(&policy, &billing, CallName::Sign, key("billing/k"), NOON)
    {
        Decision::Allow(grant) => grant.spend(bytes, &mut book),
        Decision::Refuse(refusal) => Err(refusal),
    };
    assert!(matches!(spend(4097), Err(Refusal::MessageTooLong { .. })));
    assert!(spend(4096).is_ok());
    assert!(spend(0).is_ok());
    assert!(matches!(spend(0), Err(Refusal::RateUsedUp { .. })));
}

#[test]
fn unknown_and_expired_clients_get_nothing() {
    let policy = Policy::parse("p.toml", &sample()).unwrap();
    assert!(policy.client_by_nkey(OTHER, 0).is_none());
    let expiry = 1_814_313_600;
    assert!(policy.client_by_nkey(USER, expiry - 1).is_some());
    assert!(policy.client_by_nkey(USER, expiry).is_none());
}

#[test]
fn a_policy_without_anonymous_has_no_anonymous_caller() {
    let text = "version = 1\n[service]\nname = \"s\"\n";
    assert!(Policy::parse("p.toml", text).unwrap().anonymous().is_none());
}

#[test]
fn a_deny_without_keys_denies_its_calls_everywhere() {
    let text = r#"
version = 1
service.name = "s"
anonymous.roles = ["r"]
[[role]]
name = "r"
allow = [{ calls = ["*"], keys = ["*/*"] }]
deny = [{ calls = ["sign"] }]
"#;
    let policy = Policy::parse("p.toml", text).unwrap();
    let who = policy.anonymous().unwrap();
    let sign = decide(&policy, &who, CallName::Sign, key("a/b"), 0);
    assert!(matches!(sign, Decision::Refuse(Refusal::Denied { .. })));
    let public = decide(&policy, &who, CallName::PublicKey, key("a/b"), 0);
    assert!(matches!(public, Decision::Allow(_)));
}

#[test]
fn a_space_is_deleted_only_by_who_may_touch_all_its_keys() {
    let policy = |allow: &str, deny: &str| {
        let text = format!(
            "version = 1\nservice.name = \"s\"\nanonymous.roles = [\"r\"]\n[[role]]\nname = \"r\"\n\
             allow = [{{ calls = [\"*\"], keys = [\"{allow}\"] }}]\n\
             deny = [{{ calls = [{deny}] }}]\n"
        );
        Policy::parse("p.toml", &text).unwrap()
    };
    let may = |policy: &Policy, call| {
        let who = policy.anonymous().unwrap();
        matches!(decide(policy, &who, call, space("team"), 0), Decision::Allow(_))
    };
    let (select_delete, delete_key) =
        ("\"select_key_space\", \"delete_key_space\"", "\"delete_keypair\"");
    for (allow, calls, keys, select, delete) in [
        ("team/*", select_delete, "x", true, true),
        ("team", select_delete, "x", true, true),
        ("team/mine-*", select_delete, "x", true, false),
        ("team/*", select_delete, "team/root-*", true, false),
        ("team/*", select_delete, "team/*", false, false),
        ("team/*", select_delete, "team", false, false),
        // To delete a key space is to delete its keys.
        ("team/*", delete_key, "team/root-*", true, false),
        ("team/*", delete_key, "other/*", true, true),
    ] {
        let deny = &format!("{calls}], keys = [\"{keys}\"");
        let policy = policy(allow, deny);
        assert_eq!(may(&policy, CallName::SelectKeySpace), select, "{allow} {deny}");
        assert_eq!(may(&policy, CallName::DeleteKeySpace), delete, "{allow} {deny}");
    }
}

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
        ("deny = [{ calls = [\"hash\"], between = \"06:00-06:00\" }]", "not a part of the day"),
    ] {
        let text = format!("version = 1\nservice.name = \"s\"\n[[role]]\nname = \"r\"\n{rule}\n");
        let report = Policy::parse("p.toml", &text).unwrap_err().to_string();
        assert!(report.contains(says), "{rule}: {report}");
    }
}

#[test]
fn every_mistake_is_reported_with_its_place_and_what_to_do() {
    let text = r#"version = 2
[service]
nmae = "s"
[limits]
memroy = "1 MiB"
wall_clock = "10 h"
operations = -1
new_keys = 0
output = "2 GiB"
[[client]]
name = "a"
nkey = "SUXYZ"
roles = ["nobody"]
[[role]]
name = "r"
allow = [{ calls = ["sgin"], keys = ["a/b/c"] }, { calls = ["sign"] }]
deny = [{ calls = ["hash"], message_max = "1 KiB" }]
limits.concurrent = 3
"#;
    let report = Policy::parse("p.toml", text).unwrap_err();
    let expected = "\
p.toml:1:11: this program reads policies of version 1
p.toml:2:1: [service] lacks `name`
  help: add `name = \"signer.example\"`: callers put it in `aud`
p.toml:3:1: unknown key `nmae` in [service]
  help: did you mean `name`?
p.toml:5:1: unknown key `memroy` in [limits]
  help: did you mean `memory`?
p.toml:6:14: not a size or a duration
  help: write a duration such as \"250 ms\" or \"1 s\": units are ms and s
p.toml:7:14: expected a whole number, 0 or more, found integer
p.toml:8:12: `new_keys` is 0, so no script could run
p.toml:9:10: `output` is at most 1048576 bytes
p.toml:12:8: not a public user nkey
  help: this looks like a secret seed: remove it, replace it, and write the public key
p.toml:13:10: no role is named `nobody`
p.toml:16:21: unknown call `sgin`
  help: did you mean `sign`?
p.toml:16:38: `a/b/c` is not a key pattern
  help: a key pattern has one `/`, between key space and key
p.toml:16:60: r.allow[1] allows `sign` but names no keys
  help: add `keys = [\"space/*\"]`
p.toml:17:29: unknown key `message_max` in r.deny[0]
p.toml:18:8: unknown key `concurrent` in a role's limits";
    let mut got = report.to_string();
    // The nearest key of another table may or may not be near enough to suggest: not the point here.
    got = got.replace("\n  help: did you mean `host_calls`?", "");
    assert_eq!(got, expected);
}

#[test]
fn text_that_is_not_toml_is_refused_with_its_place() {
    let report = Policy::parse("p.toml", "version = 1\n[service\n").unwrap_err().to_string();
    assert!(report.starts_with("p.toml:2:"), "{report}");
    let twice = Policy::parse("p.toml", "version = 1\nversion = 1\n").unwrap_err().to_string();
    assert!(twice.starts_with("p.toml:2:"), "{twice}");
    assert!(Policy::parse("p.toml", "").is_err());
}

#[test]
fn a_secret_seed_in_the_wrong_place_is_not_repeated() {
    let text = "version = 1\nservice.name = \"s\"\n[[client]]\nname = \"a\"\nnkey = \"SUABC\"\nroles = []\n";
    let report = Policy::parse("p.toml", text).unwrap_err().to_string();
    assert!(!report.contains("SUABC"), "{report}");
}

#[test]
fn foresight_refuses_only_what_the_decision_would_refuse() {
    let policy = Policy::parse("p.toml", &sample()).unwrap();
    let billing = policy.client_by_name("billing", 0).unwrap();
    let name = |text| Some(KeyRef::parse(text).unwrap());
    let foresee = |call, name: Option<KeyRef>| policy.foresee(&billing, call, name.as_ref());
    assert_eq!(foresee(CallName::Sign, None), Foresight::Possible);
    assert_eq!(foresee(CallName::SelectKeySpace, name("billing")), Foresight::Possible);
    assert_eq!(foresee(CallName::SelectKeypair, name("k1")), Foresight::Possible);
    for (call, name) in [
        (CallName::SelectKeySpace, name("other")),
        (CallName::Sign, name("other/k1")),
        (CallName::CreateKeypair, name("k1")),
        (CallName::Hash, None),
    ] {
        assert!(matches!(foresee(call, name), Foresight::Refused(_)), "{call}");
    }
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    struct Line {
        calls: Vec<CallName>,
        keys: Vec<String>,
    }

    fn line() -> impl Strategy<Value = Line> {
        let calls = proptest::sample::subsequence(CallName::ALL.to_vec(), 1..4);
        let keys = proptest::collection::vec("[ab*]{1,2}/[ab*]{1,2}", 0..3);
        // Each names keys: a rule that lists calls on keys and names none is a mistake.
        (calls, keys, "[ab*]{1,2}/[ab*]{1,2}").prop_map(|(calls, mut keys, key)| {
            keys.push(key);
            Line { calls, keys }
        })
    }

    fn policy(allow: &[Line], deny: &[Line]) -> Policy {
        let list = |lines: &[Line]| {
            let one = |line: &Line| {
                let calls: Vec<&str> = line.calls.iter().map(|call| call.word()).collect();
                format!("{{ calls = {calls:?}, keys = {:?} }},\n", line.keys)
            };
            lines.iter().map(one).collect::<String>()
        };
        let text = format!(
            "version = 1\nservice.name = \"s\"\nanonymous.roles = [\"r\"]\n[[role]]\nname = \"r\"\n\
             allow = [{}]\ndeny = [{}]\n",
            list(allow),
            list(deny)
        );
        Policy::parse("p.toml", &text).unwrap()
    }

    fn targets(call: CallName) -> Vec<Target> {
        let names = ["a", "b", "ab", "ba"];
        match call.touches() {
            wire::Touches::Nothing => vec![Target::Nothing],
            wire::Touches::Space | wire::Touches::WholeSpace => names.map(space).to_vec(),
            wire::Touches::Key => {
                let keys = |s| names.map(|k| key(&format!("{s}/{k}"))).to_vec();
                names.into_iter().flat_map(keys).collect()
            }
        }
    }

    /// Everything of a small world that the policy allows.
    fn allowed(policy: &Policy) -> Vec<(CallName, Target)> {
        let who = policy.anonymous().unwrap();
        let all =
            CallName::ALL.iter().flat_map(|call| targets(*call).into_iter().map(|t| (*call, t)));
        let yes = |(call, target): &(CallName, Target)| {
            matches!(decide(policy, &who, *call, target.clone(), 0), Decision::Allow(_))
        };
        all.filter(yes).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn more_denies_or_fewer_allows_never_allow_more_and_order_is_nothing(
            allow in proptest::collection::vec(line(), 0..4),
            deny in proptest::collection::vec(line(), 0..3),
            extra in line(),
        ) {
            let base = allowed(&policy(&allow, &deny));
            let denied = allowed(&policy(&allow, &[deny.as_slice(), std::slice::from_ref(&extra)].concat()));
            prop_assert!(denied.iter().all(|act| base.contains(act)));
            if !allow.is_empty() {
                let fewer = allowed(&policy(&allow[1..], &deny));
                prop_assert!(fewer.iter().all(|act| base.contains(act)));
            }
            let turned: Vec<Line> = allow.iter().rev().cloned().collect();
            prop_assert_eq!(allowed(&policy(&turned, &deny)), base);
            prop_assert!(allowed(&policy(&[], &deny)).is_empty());
        }
    }
}
