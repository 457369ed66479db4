//! What can be said of a call before it is made, and of each rule.

use wire::{CallName, KeyRef};

use super::tests::*;
use super::*;

#[test]
fn foresight_refuses_only_what_the_decision_would_refuse() {
    let policy = Policy::parse("p.toml", &sample()).unwrap();
    let billing = policy.client_by_name("billing", 0).unwrap();
    let name = |text| Some(KeyRef::parse(text).unwrap());
    let foresee = |call, name: Option<KeyRef>| {
        policy.foresee(&billing, call, Known { key: name.as_ref(), ..Known::default() })
    };
    for (call, name) in [
        (CallName::Sign, None),
        (CallName::SelectKeySpace, name("billing")),
        (CallName::SelectKeypair, name("k1")),
    ] {
        assert!(matches!(foresee(call, name), Foresight::Possible(_)), "{call}");
    }
    for (call, name) in [
        (CallName::SelectKeySpace, name("other")),
        (CallName::Sign, name("other/k1")),
        (CallName::Sign, name("billing/root-1")),
        (CallName::CreateKeypair, name("k1")),
        (CallName::Hash, None),
    ] {
        assert!(matches!(foresee(call, name), Foresight::Refused(_)), "{call}");
    }
}

#[test]
fn foresight_refuses_what_is_written_out_and_fits_no_rule() {
    let policy = Policy::parse(
        "p.toml",
        "version = 1\nservice.name = \"s\"\nanonymous.roles = [\"r\"]\n[[role]]\nname = \"r\"\nallow = [\n\
         { calls = [\"sign\"], keys = [\"a/*\"], message_max = \"2 B\" },\n\
         { calls = [\"sign\"], keys = [\"b/*\"], message_prefix = [\"xy\"] },\n\
         { calls = [\"sign_in\"], keys = [\"*/*\"], namespaces = [\"ci-*\"] },\n]\n",
    );
    let policy = policy.unwrap();
    let who = policy.anonymous().unwrap();
    let refused = |call, key: Option<&str>, message: Option<&str>, namespace| {
        let key = key.map(|key| KeyRef::parse(key).unwrap());
        let message = message.map(str::as_bytes);
        let known = Known { key: key.as_ref(), message, namespace, ..Known::default() };
        match policy.foresee(&who, call, known) {
            Foresight::Refused(why) => Some(why),
            Foresight::Certain | Foresight::Possible(_) => None,
        }
    };
    let sign = |key, message| refused(CallName::Sign, key, message, None);
    assert_eq!(sign(Some("a/k"), Some("ab")), None);
    assert_eq!(
        sign(Some("a/k"), Some("abc")).unwrap(),
        "no rule allows `sign` on `a/k`: r.allow[0] (line 7) allows messages of at most 2 bytes"
    );
    assert_eq!(sign(None, Some("xyz")), None, "the other rule takes it");
    assert_eq!(
        sign(None, Some("abc")).unwrap(),
        "no rule allows `sign`: r.allow[0] (line 7) allows messages of at most 2 bytes"
    );
    assert_eq!(sign(Some("b/k"), None), None);
    let sign_in = |namespace| refused(CallName::SignIn, None, Some("m"), namespace);
    assert_eq!((sign_in(Some("ci-1")), sign_in(None)), (None, None));
    assert!(sign_in(Some("prod")).unwrap().ends_with("is for other namespaces"));
}

mod cases {
    use super::*;

    fn wrong(case: &str) -> Vec<Option<String>> {
        let policy = Policy::parse("p.toml", &sample()).unwrap();
        let cases = Case::parse_all("c.toml", case).unwrap();
        cases.iter().map(|case| case.try_on(&policy).wrong).collect()
    }

    fn case(lines: &str) -> String {
        format!(
            "[[case]]\nname = \"n\"\nas = \"billing\"\ncall = \"sign\"\nkey = \"billing/k\"\n{lines}\n"
        )
    }

    #[test]
    fn a_case_passes_when_the_policy_decides_as_it_says_and_by_the_rule_it_says() {
        for (lines, expected) in [
            ("expect = \"allow\"", None),
            ("expect = \"allow\"\nby = \"billing-signer.allow[0]\"", None),
            (
                "expect = \"allow\"\nby = \"other\"",
                Some("it is decided by billing-signer.allow[0]"),
            ),
            ("expect = \"refuse\"", Some("it is allowed")),
            ("expect = \"refuse\"\ntimes = 3", None),
            ("expect = \"allow\"\ntimes = 2", None),
            ("expect = \"refuse\"\nat = 2026-01-01T03:00:00Z", None),
            ("expect = \"refuse\"\nat = 2028-01-01T12:00:00Z", None),
            (
                "expect = \"allow\"\nat = 2028-01-01T12:00:00Z",
                Some("`billing` is refused at that time"),
            ),
        ] {
            assert_eq!(wrong(&case(lines))[0].as_deref(), expected, "{lines}");
        }
        let stranger = case("expect = \"refuse\"").replace("\"billing\"", "\"biling\"");
        assert_eq!(wrong(&stranger)[0].as_deref(), Some("the policy has no client `biling`"));
    }

    #[test]
    fn cases_have_at_most_the_bytes_of_a_policy() {
        let comment = |bytes: usize| format!("#{}\n", "x".repeat(bytes - 2));
        let found = Case::parse_all("c.toml", &comment(MAX_POLICY_BYTES + 1)).unwrap_err();
        assert!(found.to_string().contains("more than"), "{found}");
        let read = Case::parse_all("c.toml", &comment(MAX_POLICY_BYTES));
        assert!(!read.is_err_and(|found| found.to_string().contains("more than")));
    }

    #[test]
    fn what_is_wrong_with_cases_is_said_with_its_place() {
        for (text, says) in [
            ("", "lacks `case`"),
            ("[[case]]\nname = \"n\"\n", "lacks `as`"),
            ("[[case]]\nnmae = \"n\"\n", "did you mean `name`?"),
            (&case("expect = \"maybe\""), "c.toml:6:10: `maybe` is not a decision"),
            (&case("expect = \"allow\"\ntimes = 0"), "`times` is 1 to"),
            (&case("expect = \"allow\"\ntimes = 1000001"), "`times` is 1 to"),
            (&case("expect = \"allow\"").replace("\"sign\"", "\"sing\""), "did you mean `sign`?"),
            (&case("expect = \"allow\"").replace("billing/k", "k"), "name a key as `space/key`"),
            (&case("expect = \"allow\"\nmessage_hex = \"0\""), "`0` is not bytes"),
        ] {
            let report = Case::parse_all("c.toml", text).unwrap_err().to_string();
            assert!(report.contains(says), "{text}: {report}");
        }
        Case::parse_all("c.toml", &case("expect = \"allow\"\ntimes = 1000000")).unwrap();
    }
}

#[test]
fn opinions_add_up_to_the_decision() {
    let policy = Policy::parse("p.toml", &sample()).unwrap();
    let billing = policy.client_by_name("billing", 0).unwrap();
    let says = |call, target: Target, now| {
        let facts = Facts { now, message: Some(b"m"), ..Facts::default() };
        let act = Act { call, target };
        let opinions = policy.opinions(&billing, &act, &facts);
        let allowed = matches!(policy.decide(&billing, act, &facts), Decision::Allow(_));
        let has = |says| opinions.iter().any(|opinion| opinion.says == says);
        assert_eq!(allowed, has(Says::Allow) && !has(Says::Deny));
        opinions.into_iter().map(|opinion| opinion.says).collect::<Vec<_>>()
    };
    let sign = CallName::Sign;
    assert_eq!(says(sign, key("billing/k"), NOON), [Says::Allow, Says::OtherKeys]);
    assert_eq!(says(sign, key("billing/root-1"), NOON), [Says::Allow, Says::Deny]);
    let at_night = [Says::Unless(Unmet::Hours), Says::OtherKeys];
    assert_eq!(says(sign, key("billing/k"), 0), at_night);
    assert_eq!(says(sign, key("other/k"), NOON), [Says::OtherKeys, Says::OtherKeys]);
    let delete = says(CallName::DeleteKeypair, key("billing/root-1"), NOON);
    assert_eq!(delete, [Says::OtherCalls, Says::Deny]);
    let denied =
        role("allow = [{ calls = [\"hash\"] }]\ndeny = [{ calls = [\"sign\"], keys = [\"*/*\"] }]");
    let act = Act { call: CallName::Hash, target: Target::Nothing };
    let opinions = denied.opinions(
        &denied.anonymous().unwrap(),
        &act,
        &Facts { now: NOON, ..Facts::default() },
    );
    assert_eq!(opinions.last().unwrap().says, Says::OtherCalls);
}

#[test]
fn what_is_allowed_on_every_key_is_certain_and_on_some_is_not() {
    for (keys, is_certain) in [("*/*", true), ("a/*", false), ("*/a", false), ("*", false)] {
        let policy = role(&format!(
            "allow = [{{ calls = [\"sign\", \"select_key_space\"], keys = [\"{keys}\"] }}]"
        ));
        let who = policy.anonymous().unwrap();
        for call in [CallName::Sign, CallName::SelectKeySpace] {
            let foreseen = policy.foresee(&who, call, Known::default());
            let is_open = call == CallName::Sign && keys == "*";
            let is_as_said = match foreseen {
                Foresight::Certain => is_certain,
                Foresight::Possible(_) => !is_certain && !is_open,
                Foresight::Refused(_) => is_open,
            };
            assert!(is_as_said, "{call} on {keys}: {foreseen:?}");
        }
    }
}

#[test]
fn a_rule_without_keys_allows_what_is_done_with_a_key_of_the_scripts_own_and_nothing_stored() {
    for (rule, is_own) in [
        ("calls = [\"*\"]", true),
        ("calls = [\"encrypt\", \"decrypt\", \"generate_key\"]", true),
        ("calls = [\"encrypt\"], keys = [\"b/*\"]", true),
        ("calls = [\"hash\"]", false),
    ] {
        let policy = role(&format!("allow = [{{ {rule} }}]"));
        let who = policy.anonymous().unwrap();
        let call = CallName::Encrypt;
        let allows = |key| {
            let act = Act { call, target: target(call, key).unwrap() };
            matches!(policy.decide(&who, act, &Facts::default()), Decision::Allow(_))
        };
        assert_eq!((allows(None), allows(Some("a/k"))), (is_own, false), "{rule}");
        // The function exists for the script, and `check` does not call it refused.
        assert_eq!(policy.calls_for(&who).contains(&call), is_own, "{rule}");
    }
    assert!(target(CallName::Sign, None).is_err() && target(CallName::Hash, Some("a/k")).is_err());
}

#[test]
fn a_rule_is_closed_by_a_deny_of_all_that_it_allows() {
    for (calls, allow, deny, is_closed) in [
        ("select_key_space", "a/*", "a/*", true),
        ("select_key_space", "a/*", "a", true),
        ("select_key_space", "a/*", "b/*", false),
        ("sign", "a/*", "a/*", true),
        ("sign", "a/*", "*/*", true),
        ("sign", "a/*", "a/k*", false),
        ("delete_key_space", "a/*", "a/*", true),
        ("delete_key_space", "a/*", "a/root-*", true),
        ("delete_key_space", "a/*", "b/*", false),
    ] {
        let policy = role(&format!(
            "allow = [{{ calls = [\"{calls}\"], keys = [\"{allow}\"] }}]\n\
             deny = [{{ calls = [\"{calls}\"], keys = [\"{deny}\"] }}]"
        ));
        assert_eq!(!policy.remarks(0).is_empty(), is_closed, "{calls} {allow} {deny}");
    }
    // A deny on keys denies by their names the calls that are on nothing stored.
    for (allow, deny, is_closed) in [
        ("calls = [\"hash\"]", "calls = [\"hash\", \"sign\"], keys = [\"a/*\"]", true),
        ("calls = [\"hash\", \"random_bytes\"]", "calls = [\"hash\"]", false),
        (
            "calls = [\"hash\", \"sign\"], keys = [\"a/*\"]",
            "calls = [\"*\"], keys = [\"a/*\"]",
            true,
        ),
        (
            "calls = [\"hash\", \"sign\"], keys = [\"a/*\"]",
            "calls = [\"*\"], keys = [\"b/*\"]",
            false,
        ),
        ("calls = [\"*\"]", "calls = [\"*\"], keys = [\"a/*\"]", true),
        // What is listed and reaches nothing leaves nothing open.
        ("calls = [\"sign\", \"delete_key_space\"], keys = [\"a/k\"]", "calls = [\"sign\"]", true),
    ] {
        let policy = role(&format!("allow = [{{ {allow} }}]\ndeny = [{{ {deny} }}]"));
        assert_eq!(!policy.remarks(0).is_empty(), is_closed, "{allow} {deny}");
    }
}

#[test]
fn a_deny_spares_what_one_of_its_terms_is_seen_not_to_name_whatever_else_is_unseen() {
    let policy = role(
        "allow = [{ calls = [\"sign\"], keys = [\"*/*\"] }]\n\
         deny = [{ calls = [\"sign\"], algorithms = [\"p256\"], message_prefix = [\"no\"] }]",
    );
    let who = policy.anonymous().unwrap();
    // Of a key that is not there nobody knows the algorithm.
    let allows = |message| {
        let act = Act { call: CallName::Sign, target: key("a/missing") };
        let facts = Facts { message, ..Facts::default() };
        matches!(policy.decide(&who, act, &facts), Decision::Allow(_))
    };
    let (good, bad) = (Some(b"yes".as_slice()), Some(b"no".as_slice()));
    assert!(allows(good) && !allows(bad) && !allows(None));
    let named = wire::KeyRef::parse("a/missing").unwrap();
    let known = Known { key: Some(&named), message: good, ..Known::default() };
    assert_eq!(policy.foresee(&who, CallName::Sign, known), Foresight::Certain);
}

#[test]
fn a_key_that_a_script_makes_of_an_algorithm_that_no_rule_has_is_refused() {
    let make = CallName::CreateKeypair;
    let named = wire::KeyRef::parse("a/k").unwrap();
    for (terms, p256, unknown) in [
        ("", true, Some(true)),
        (", algorithms = [\"p256\", \"x25519\"]", true, None),
        (", algorithms = [\"ed25519\"]", false, None),
    ] {
        let policy =
            role(&format!("allow = [{{ calls = [\"create_keypair\"], keys = [\"*/*\"]{terms} }}]"));
        let who = policy.anonymous().unwrap();
        let foreseen = |algorithm| match policy.foresee(
            &who,
            make,
            Known { key: Some(&named), algorithm, ..Known::default() },
        ) {
            Foresight::Certain => Some(true),
            Foresight::Refused(_) => Some(false),
            Foresight::Possible(_) => None,
        };
        assert_eq!(foreseen(Some(wire::Algorithm::P256)), Some(p256), "{terms}");
        assert_eq!(foreseen(None), unknown, "{terms}");
    }
}

#[test]
fn what_is_denied_everywhere_and_always_is_refused_and_does_not_exist_for_a_script() {
    for (deny, is_refused) in [
        ("calls = [\"sign\", \"delete_keypair\", \"create_key_space\"]", true),
        ("calls = [\"*\"], keys = [\"*/*\"]", true),
        ("calls = [\"*\"], keys = [\"a/*\"]", false),
        (
            "calls = [\"sign\", \"delete_keypair\", \"create_key_space\"], between = \"06:00-07:00\"",
            false,
        ),
        (
            "calls = [\"sign\", \"delete_keypair\", \"create_key_space\"], expires = 2999-01-01T00:00:00Z",
            false,
        ),
    ] {
        let policy = role(&format!(
            "allow = [{{ calls = [\"*\"], keys = [\"*/*\"] }}]\ndeny = [{{ {deny} }}]"
        ));
        let who = policy.anonymous().unwrap();
        let exist = policy.calls_for(&who);
        for call in [
            CallName::Sign,
            CallName::DeleteKeypair,
            CallName::DeleteKeySpace,
            CallName::CreateKeySpace,
        ] {
            let foreseen = policy.foresee(&who, call, Known::default());
            assert_eq!(
                matches!(foreseen, Foresight::Refused(_)),
                is_refused,
                "{call}: {deny}: {foreseen:?}"
            );
            assert_eq!(exist.contains(&call), !is_refused, "{call}: {deny}");
        }
    }
}

#[test]
fn what_has_expired_is_remarked_upon_as_no_mistake() {
    let text = format!(
        "version = 1\nservice.name = \"s\"\n[[client]]\nname = \"c\"\nnkey = \"{USER}\"\nroles = [\"r\"]\n\
         expires = 1970-01-01T00:00:10Z\n[[role]]\nname = \"r\"\n\
         allow = [{{ calls = [\"hash\"], expires = 1970-01-01T00:00:20Z }}]\n\
         deny = [{{ calls = [\"sign\"], expires = 1970-01-01T00:00:30Z }}]\n"
    );
    let policy = Policy::parse("p.toml", &text).unwrap();
    let (client, rule) = ("policy-expired-client", "policy-expired-rule");
    for (now, expected) in [
        (9, vec![]),
        (10, vec![(3, client)]),
        (29, vec![(3, client), (10, rule)]),
        (30, vec![(3, client), (10, rule), (11, rule)]),
    ] {
        let remarks = policy.remarks(now);
        assert!(remarks.iter().all(|remark| remark.has_ended));
        let said: Vec<_> = remarks.iter().map(|remark| (remark.line, remark.code)).collect();
        assert_eq!(said, expected, "{now}");
    }
}

#[test]
fn what_gives_nothing_to_anybody_is_remarked_upon() {
    let remarks = |text: &str| {
        let head = format!("version = 1\nservice.name = \"s\"\n{text}");
        let policy = Policy::parse("p.toml", &head).unwrap_or_else(|found| panic!("{found}"));
        let said = policy.remarks(0).into_iter();
        said.map(|one| format!("{} {}", one.line, one.code)).collect::<Vec<_>>().join(", ")
    };
    let allow = "[[role]]\nname = \"a\"\nallow = [{ calls = [\"sign\"], keys = [\"x/*\"] }]\n";
    let deny = "[[role]]\nname = \"d\"\ndeny = [{ calls = [\"*\"], keys = [\"*/*\"] }]\n";
    let anonymous = |roles: &str| format!("[anonymous]\nroles = [{roles}]\n");
    let client =
        |roles: &str| format!("[[client]]\nname = \"c\"\nnkey = \"{USER}\"\nroles = [{roles}]\n");
    for (text, expected) in [
        (anonymous("\"a\"") + allow, ""),
        (allow.to_owned(), "3 policy-idle-role"),
        (client("") + &anonymous("\"a\"") + allow, "3 policy-idle-client"),
        // A deny in another role of the only one who has the role.
        (anonymous("\"a\", \"d\"") + allow + deny, "7 policy-closed-rule"),
        (client("\"a\"") + &anonymous("\"a\", \"d\"") + allow + deny, ""),
        (
            client("\"d\", \"a\"") + &anonymous("\"a\", \"d\"") + allow + deny,
            "11 policy-closed-rule",
        ),
        (
            anonymous("\"a\"") + allow + "limits = { new_keys = 16, output = \"65 KiB\" }\n",
            "5 policy-idle-limit",
        ),
        (anonymous("\"a\"") + allow + "limits = { new_keys = 16, output = \"63 KiB\" }\n", ""),
    ] {
        assert_eq!(remarks(&text), expected, "{text}");
    }
}
