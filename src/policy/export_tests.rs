//! Who may let keys out, and to whom.

use wire::{CallName, Name};

use super::*;

const A: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

/// A recipient whose private key nobody has.
fn recipient(number: u8) -> String {
    Recipient::new([number; 32]).to_string()
}

fn text(rules: &str) -> String {
    format!(
        "version = 1\nservice.name = \"s\"\nanonymous.roles = [\"r\"]\n[[role]]\nname = \"r\"\n{rules}\n"
    )
}

fn policy(rules: &str) -> Policy {
    Policy::parse("p.toml", &text(rules)).unwrap_or_else(|found| panic!("{found}\n{rules}"))
}

/// To whom the key space `team` may be exported, if it may be.
fn to_whom(policy: &Policy) -> Option<Vec<String>> {
    let who = policy.anonymous().unwrap();
    let target = Target::Space(Name::parse("team").unwrap());
    let act = Act { call: CallName::ExportKeySpace, target };
    match policy.decide(&who, act, &Facts::default()) {
        Decision::Allow(grant) => {
            let told = grant.recipients().to_vec();
            let permit = grant.spend(&mut RateBook::default()).unwrap();
            assert_eq!(permit.recipients(), told);
            Some(permit.recipients().iter().map(ToString::to_string).collect())
        }
        Decision::Refuse(_) => None,
    }
}

#[test]
fn keys_leave_only_where_a_rule_says_to_whom() {
    let every = "allow = [{ calls = [\"*\"], keys = [\"*/*\"] }]";
    let policy_of_every = policy(every);
    assert_eq!(to_whom(&policy_of_every), None, "`*` lets no keys out");
    let calls = policy_of_every.calls_for(&policy_of_every.anonymous().unwrap());
    assert_eq!(calls.len(), CallName::ALL.len() - 1);
    assert!(!calls.contains(&CallName::ExportKeySpace), "it does not exist for a script");
    let b = recipient(7);
    let with = |calls: &str, keys: &str| {
        format!(
            "allow = [{{ calls = [{calls}], keys = [\"{keys}\"], export_to = [\"{b}\", \"{A}\", \"{b}\"] }}]\n"
        )
    };
    let mut both = vec![b.clone(), A.to_owned()];
    both.sort_by_key(|text| Recipient::parse(text).unwrap());
    let both = Some(both);
    for (calls, keys, to) in [
        ("\"export_key_space\"", "team/*", &both),
        ("\"export_key_space\"", "team", &both),
        ("\"*\"", "*/*", &both),
        ("\"sign\", \"export_key_space\"", "team/*", &both),
        // Not all its keys, and not this key space.
        ("\"export_key_space\"", "team/mine-*", &None),
        ("\"export_key_space\"", "other/*", &None),
    ] {
        assert_eq!(to_whom(&policy(&with(calls, keys))), *to, "{calls} {keys}");
    }
    for (deny, is_denied) in [
        ("calls = [\"export_key_space\"]", true),
        ("calls = [\"export_key_space\"], keys = [\"team\"]", true),
        ("calls = [\"export_key_space\"], keys = [\"team/root-*\"]", true),
        ("calls = [\"*\"], keys = [\"team/root-*\"]", true),
        ("calls = [\"*\"], keys = [\"other/*\"]", false),
        ("calls = [\"delete_keypair\", \"delete_key_space\"], keys = [\"team/*\"]", false),
    ] {
        let rules = with("\"*\"", "*/*") + &format!("deny = [{{ {deny} }}]");
        assert_eq!(to_whom(&policy(&rules)).is_none(), is_denied, "{deny}");
    }
}

#[test]
fn a_permit_for_another_act_names_nobody() {
    let policy = policy(&format!(
        "allow = [{{ calls = [\"*\"], keys = [\"*/*\"], export_to = [\"{A}\"] }}]"
    ));
    let who = policy.anonymous().unwrap();
    let act = Act { call: CallName::RandomBytes, target: Target::Nothing };
    let Decision::Allow(grant) = policy.decide(&who, act, &Facts::default()) else {
        panic!("refused")
    };
    assert!(grant.spend(&mut RateBook::default()).unwrap().recipients().is_empty());
}

#[test]
fn what_is_said_of_recipients_and_would_do_nothing_is_a_mistake() {
    let many: Vec<String> = (0..17).map(recipient).collect();
    let (many, some) = (format!("{many:?}"), format!("{:?}", many.get(..16).unwrap()));
    let export =
        |to: &str| format!("allow = [{{ calls = [\"export_key_space\"], keys = [\"a/*\"]{to} }}]");
    policy(&export(&format!(", export_to = {some}")));
    policy("allow = [{ calls = [\"*\", \"*\"], keys = [\"a/*\"] }]");
    for (rules, says) in [
        (export(""), "does not say to whom"),
        (
            "allow = [{ calls = [\"*\", \"export_key_space\"], keys = [\"a/*\"] }]".to_owned(),
            "does not say to whom",
        ),
        (
            export(&format!(", export_to = [\"{A}\"], algorithms = [\"p256\"]"))
                .replace("calls = [", "calls = [\"sign\", "),
            "`algorithms`, which bind no export",
        ),
        (export(", export_to = []"), "an empty list says nothing"),
        (export(", export_to = [\"age1\"]"), "`age1` is not a recipient"),
        (export(&format!(", export_to = {many}")), "more than 16 recipients"),
        (
            format!("allow = [{{ calls = [\"sign\"], keys = [\"a/*\"], export_to = [\"{A}\"] }}]"),
            "`export_to` in a rule that lists `sign`, which has no recipient",
        ),
        (
            format!("deny = [{{ calls = [\"export_key_space\"], export_to = [\"{A}\"] }}]"),
            "unknown key `export_to`",
        ),
    ] {
        let report = Policy::parse("p.toml", &text(&rules)).unwrap_err().to_string();
        assert!(report.contains(says), "{rules}: {report}");
    }
}

#[test]
fn the_rules_of_a_caller_agree_to_whom_a_key_space_goes() {
    let rule = |keys: &str, to: &str| {
        format!("{{ calls = [\"export_key_space\"], keys = [{keys}], export_to = [\"{to}\"] }}")
    };
    let b = recipient(7);
    for (one, other, is_good) in [
        (rule("\"a/*\"", A), rule("\"b/*\"", &b), true),
        (rule("\"a/*\"", A), rule("\"*/*\"", A), true),
        // Not all the keys of it, so nothing of it.
        (rule("\"a/*\"", A), rule("\"*/k*\"", &b), true),
        (rule("\"a/*\"", A), rule("\"*/*\"", &b), false),
        (rule("\"a\"", A), rule("\"x/*\", \"a*/*\"", &b), false),
        (rule("\"*x\"", A), rule("\"y*\"", &b), false),
    ] {
        // In one role, and in two that somebody has.
        let in_one = format!("allow = [{one}, {other}]");
        let in_two = format!("allow = [{one}]\n[[role]]\nname = \"q\"\nallow = [{other}]");
        let in_two = text(&in_two).replace("[\"r\"]", "[\"r\", \"q\"]");
        for text in [text(&in_one), in_two.clone()] {
            let read = Policy::parse("p.toml", &text).map_err(|found| found.to_string());
            let told = read.map_or_else(|told| told, |_| String::new());
            assert_eq!(told.is_empty(), is_good, "{told}{text}");
            assert!(is_good || told.contains("let the same key space be exported"), "{told}");
        }
        // Of two callers, each has its own.
        let apart = in_two.replace("[\"r\", \"q\"]", "[\"r\"]");
        Policy::parse("p.toml", &apart).unwrap();
    }
}

#[test]
fn a_case_says_to_whom() {
    let policy = policy(&format!(
        "allow = [{{ calls = [\"export_key_space\"], keys = [\"team/*\"], export_to = [\"{A}\"] }}]"
    ));
    let case = |more: &str| {
        format!(
            "[[case]]\nname = \"c\"\nas = \"anonymous\"\ncall = \"export_key_space\"\nkey = \"team\"\n{more}\n"
        )
    };
    let wrong = |more: &str| {
        let cases = Case::parse_all("c", &case(more)).unwrap();
        cases.first().unwrap().try_on(&policy).wrong
    };
    assert_eq!(wrong("expect = \"allow\""), None);
    assert_eq!(wrong(&format!("expect = \"allow\"\nto = [\"{A}\"]")), None);
    let other = recipient(7);
    for to in [format!("\"{other}\""), format!("\"{A}\", \"{other}\"")] {
        let told = wrong(&format!("expect = \"allow\"\nto = [{to}]"));
        assert_eq!(told, Some(format!("the keys go to {A}")));
    }
    let idle = case(&format!("expect = \"refuse\"\nto = [\"{A}\"]"));
    assert!(Case::parse_all("c", &idle).is_err());
    let idle = case("expect = \"allow\"").replace("export_key_space", "delete_key_space");
    assert!(Case::parse_all("c", &format!("{idle}to = [\"{A}\"]\n")).is_err());
}

#[test]
fn another_recipient_is_a_change() {
    let every =
        |to: &str| policy(&format!("allow = [{{ calls = [\"*\"], keys = [\"*/*\"]{to} }}]"));
    let (nobody, one, other) = (
        every(""),
        every(&format!(", export_to = [\"{A}\"]")),
        every(&format!(", export_to = [\"{}\"]", recipient(7))),
    );
    let said = |old: &Policy, new: &Policy| -> Vec<(CallName, Kind, Vec<String>)> {
        let changes = old.changes_to(new, 0).into_iter();
        let calls = changes.map(|change| {
            let Changed::Call { call, kind, to, .. } = change.what else { panic!("{change:?}") };
            (call, kind, to)
        });
        calls.collect()
    };
    let export = CallName::ExportKeySpace;
    assert_eq!(said(&nobody, &one), [(export, Kind::Allowed, vec![A.to_owned()])]);
    assert_eq!(said(&one, &other), [(export, Kind::OtherTerms, vec![recipient(7)])]);
    assert_eq!(said(&one, &nobody), [(export, Kind::Refused, vec![])]);
    assert_eq!(said(&one, &one), []);
}
