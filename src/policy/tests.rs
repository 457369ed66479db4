use wire::{Algorithm, CallName, KeyPath, Name};

use super::*;

pub(crate) const USER: &str = "UBVYNMTT742PZYM5NOAE5722H5LUPLNE5KRC6HKJYAPFFXNXQ5NUXEGK";
pub(crate) const OTHER: &str = "UDKHGXR2EZPBN3XAH5MXDC43LUBQDHAH3C3MKH4Q3I5GM3XMCOVTLHIA";

/// The policy of the language's own page, with every key that it has.
pub(crate) fn sample() -> String {
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

pub(crate) fn key(text: &str) -> Target {
    let (space, key) = text.split_once('/').unwrap();
    Target::Key(KeyPath { space: Name::parse(space).unwrap(), key: Name::parse(key).unwrap() })
}

pub(crate) fn space(text: &str) -> Target {
    Target::Space(Name::parse(text).unwrap())
}

/// Noon of 1970-01-01 in milliseconds.
pub(crate) const NOON: u64 = 12 * 3_600_000;

pub(crate) fn decide(
    policy: &Policy,
    who: &Caller,
    call: CallName,
    target: Target,
    now: u64,
) -> Decision {
    decide_with(policy, who, call, target, Facts { now, message: Some(b""), ..Facts::default() })
}

pub(crate) fn decide_with(
    policy: &Policy,
    who: &Caller,
    call: CallName,
    target: Target,
    facts: Facts<'_>,
) -> Decision {
    let facts = Facts { algorithm: Some(Algorithm::Ed25519), namespace: Some("n"), ..facts };
    policy.decide(who, Act { call, target }, &facts)
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
    let mut spend = |bytes| {
        let message = vec![b'm'; bytes];
        let facts = Facts { now: NOON, message: Some(&message), ..Facts::default() };
        match decide_with(&policy, &billing, CallName::Sign, key("billing/k"), facts) {
            Decision::Allow(grant) => grant.spend(&mut book),
            Decision::Refuse(refusal) => Err(refusal),
        }
    };
    let unmet = spend(4097).unwrap_err();
    assert!(matches!(unmet, Refusal::Unmet { unmet: Unmet::MessageMax { max: 4096 }, .. }));
    assert!(spend(4096).is_ok());
    assert!(spend(0).is_ok());
    assert!(matches!(spend(0), Err(Refusal::RateUsedUp { .. })));
}

/// A policy of one role `r` for anybody, with these lines.
pub(crate) fn role(lines: &str) -> Policy {
    let text = format!(
        "version = 1\nservice.name = \"s\"\nanonymous.roles = [\"r\"]\n[[role]]\nname = \"r\"\n{lines}\n"
    );
    Policy::parse("p.toml", &text).unwrap()
}

#[test]
fn each_term_of_an_allow_refuses_what_it_does_not_name() {
    let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let message = |message| Facts { message: Some(message), now: NOON, ..Facts::default() };
    let sign = CallName::Sign;
    for (calls, term, good, bad, unmet) in [
        (
            sign,
            "message_max = \"4 B\"".to_owned(),
            message(b"test"),
            message(b"tests"),
            Unmet::MessageMax { max: 4 },
        ),
        (
            sign,
            "message_prefix = [\"te\", \"hex:00ff\"]".to_owned(),
            message(b"\x00\xffx"),
            message(b"\x00"),
            Unmet::MessagePrefix,
        ),
        (
            sign,
            "message_like = [\"a*c*\"]".to_owned(),
            message(b"abcd"),
            message(b"bacd"),
            Unmet::MessageLike,
        ),
        (
            sign,
            format!("message_sha256 = [\"{digest}\"]"),
            message(b"test"),
            message(b"tess"),
            Unmet::MessageDigest,
        ),
        (
            sign,
            "expires = 1970-01-02T00:00:00Z".to_owned(),
            message(b""),
            Facts { now: 86_400_000, ..message(b"") },
            Unmet::Expired,
        ),
        (
            sign,
            "between = \"11:00-13:00\"".to_owned(),
            message(b""),
            Facts { now: 0, ..message(b"") },
            Unmet::Hours,
        ),
        // Terms of different kinds hold together.
        (
            sign,
            "message_prefix = [\"a\"], message_like = [\"*z\"]".to_owned(),
            message(b"az"),
            message(b"ab"),
            Unmet::MessageLike,
        ),
    ] {
        let policy =
            role(&format!("allow = [{{ calls = [\"{calls}\"], keys = [\"*/*\"], {term} }}]"));
        let who = policy.anonymous().unwrap();
        let ask = |facts| decide_with(&policy, &who, calls, key("a/b"), facts);
        assert!(matches!(ask(good), Decision::Allow(_)), "{term}");
        let Decision::Refuse(Refusal::Unmet { unmet: which, .. }) = ask(bad) else {
            panic!("{term}")
        };
        assert_eq!(which, unmet, "{term}");
    }
    // What is not known does not hold.
    let policy =
        role("allow = [{ calls = [\"sign\"], keys = [\"*/*\"], message_prefix = [\"a\"] }]");
    let who = policy.anonymous().unwrap();
    let unknown = decide_with(&policy, &who, sign, key("a/b"), Facts::default());
    assert!(matches!(unknown, Decision::Refuse(_)));
}

#[test]
fn namespaces_and_algorithms_hold_for_what_has_them() {
    let policy = role(
        "allow = [{ calls = [\"sign_in\"], keys = [\"*/*\"], namespaces = [\"release-*\"] },\n\
         { calls = [\"sign\", \"select_key_space\"], keys = [\"*/*\"], algorithms = [\"p256\"] }]",
    );
    let who = policy.anonymous().unwrap();
    let allows = |call, target, namespace, algorithm| {
        let facts = Facts { message: Some(b"m"), namespace, algorithm, now: 0 };
        matches!(policy.decide(&who, Act { call, target }, &facts), Decision::Allow(_))
    };
    let on = || key("a/b");
    assert!(allows(CallName::SignIn, on(), Some("release-1"), None));
    assert!(!allows(CallName::SignIn, on(), Some("prerelease-1"), None));
    assert!(!allows(CallName::SignIn, on(), None, None));
    assert!(allows(CallName::Sign, on(), None, Some(Algorithm::P256)));
    assert!(!allows(CallName::Sign, on(), None, Some(Algorithm::Ed25519)));
    assert!(!allows(CallName::Sign, on(), None, None));
    assert!(allows(CallName::SelectKeySpace, space("a"), None, None));
}

#[test]
fn a_deny_with_terms_denies_what_it_names_and_what_it_cannot_see() {
    let policy = role(
        "allow = [{ calls = [\"*\"], keys = [\"*/*\"] }]\n\
         deny = [{ calls = [\"sign\"], message_prefix = [\"tx:\"] }]",
    );
    let who = policy.anonymous().unwrap();
    let allows = |message| {
        let facts = Facts { message, ..Facts::default() };
        matches!(decide_with(&policy, &who, CallName::Sign, key("a/b"), facts), Decision::Allow(_))
    };
    assert!(!allows(Some(b"tx:1".as_slice())) && allows(Some(b"t")) && !allows(None));
}

#[test]
fn a_role_for_certain_scripts_gives_nothing_to_others_and_denies_them_still() {
    // The digest of "test".
    let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let policy = role(&format!(
        "scripts = [\"sha256:{digest}\"]\nlimits.wall_clock = \"5 ms\"\n\
         allow = [{{ calls = [\"sign\", \"hash\"], keys = [\"*/*\"] }}]"
    ));
    let running = |script: &[u8]| policy.anonymous().unwrap().running(script);
    let (good, other) = (running(b"test"), running(b"test "));
    assert!(policy.may_run(&good) && !policy.may_run(&other));
    let sign = |who| decide(&policy, who, CallName::Sign, key("a/b"), 0);
    assert!(matches!(sign(&good), Decision::Allow(_)));
    let Decision::Refuse(refusal) = sign(&other) else { panic!("allowed") };
    assert!(refusal.to_string().contains("is for other scripts"), "{refusal}");
    assert_eq!(policy.calls_for(&good), [CallName::Sign, CallName::Hash]);
    assert_eq!(policy.calls_for(&other), []);
    assert_eq!(policy.limits_for(&good).wall_clock, 5);
    assert_eq!(policy.limits_for(&other).wall_clock, 1000);
}

#[test]
fn rates_of_a_client_and_of_a_rule_are_spent_together_and_a_total_ends_it() {
    let text = format!(
        "version = 1\nservice.name = \"s\"\n[[client]]\nname = \"c\"\nnkey = \"{USER}\"\nroles = [\"r\"]\n\
         rate = [\"3/1h\"]\n[[role]]\nname = \"r\"\n\
         allow = [{{ calls = [\"sign\"], keys = [\"a/*\"], uses = 2 }}, {{ calls = [\"sign\"], keys = [\"*/*\"], rate = [\"1/1h\"], name = \"more\" }}]"
    );
    let policy = Policy::parse("p.toml", &text).unwrap();
    let who = policy.client_by_name("c", 0).unwrap();
    let mut book = RateBook::default();
    let mut sign = |now| match decide(&policy, &who, CallName::Sign, key("a/b"), now) {
        Decision::Allow(grant) => grant.spend(&mut book).map(|permit| permit.accounts().to_vec()),
        Decision::Refuse(refusal) => Err(refusal),
    };
    let first = sign(0).unwrap();
    assert_eq!(first[0], "client c");
    assert!(sign(0).is_ok() && sign(0).is_ok(), "two of one rule, one of the other");
    let refusal = sign(0).unwrap_err();
    assert_eq!(refusal.to_string(), "the rate of the client `c` is used up");
    assert_eq!(sign(3_600_000).unwrap(), ["client c", "rule r more c"]);
    let refusal = sign(3_600_000).unwrap_err();
    assert!(
        matches!(refusal, Refusal::UsesUsedUp { .. } | Refusal::RateUsedUp { .. }),
        "{refusal}"
    );
}

#[test]
fn what_a_rule_has_used_is_its_own_wherever_it_stands() {
    let account = |lines: &str| {
        let policy = role(lines);
        let who = policy.anonymous().unwrap();
        let Decision::Allow(grant) = decide(&policy, &who, CallName::Sign, key("a/b"), 0) else {
            panic!("{lines}")
        };
        grant.spend(&mut RateBook::default()).unwrap().accounts().to_vec()
    };
    let first = account(
        "allow = [{ calls = [\"sign\", \"hash\"], keys = [\"a/*\"], rate = [\"1/1s\"], message_max = \"1 B\", message_like = [\"*\"] }]",
    );
    let moved = account(
        "allow = [{ calls = [\"create_key_space\"], keys = [\"x/*\"] },\n\n\
         { message_like = ['*'], message_max = '1 B', rate = [\"9/1d\"], keys = [\"a/*\"], calls = [\"hash\", \"sign\"] }]",
    );
    assert_eq!(first, moved);
    let other =
        account("allow = [{ calls = [\"sign\", \"hash\"], keys = [\"a/b\"], rate = [\"1/1s\"] }]");
    assert_ne!(first, other);
}

#[test]
fn a_revoked_client_gets_nothing() {
    let text = sample()
        .replace("roles = [\"billing-signer\"]", "roles = [\"billing-signer\"]\nrevoked = true");
    let policy = Policy::parse("p.toml", &text).unwrap();
    assert!(
        policy.client_by_nkey(USER, 0).is_none() && policy.client_by_name("billing", 0).is_none()
    );
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
    let [delete_key, delete_space] = ["\"delete_keypair\"", "\"delete_key_space\""];
    let (select_delete, all) = ("\"select_key_space\", \"delete_key_space\"", "\"*\"");
    for (allow, calls, keys, select, delete) in [
        ("team/*", select_delete, "x", true, true),
        ("team", select_delete, "x", true, true),
        ("team/mine-*", select_delete, "x", true, false),
        ("team/*", delete_space, "team/root-*", true, false),
        ("team/*", all, "team/root-*", true, false),
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
