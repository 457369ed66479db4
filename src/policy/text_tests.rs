//! What is said of a policy that is none, and what one says of itself.

use super::tests::*;
use super::*;

#[test]
fn a_name_that_no_rule_may_have_is_one_mistake() {
    for rules in
        ["{ RULE }, { name = \"allow[0]\", RULE }", "{ name = \"allow[1]\", RULE }, { RULE }"]
    {
        let rules = rules.replace("RULE", "calls = [\"hash\"]");
        let text = format!(
            "version = 1\nservice.name = \"s\"\n[[role]]\nname = \"r\"\nallow = [{rules}]\n"
        );
        let report = Policy::parse("p.toml", &text).unwrap_err().to_string();
        assert_eq!(report.matches("[policy-taken]").count(), 1, "{report}");
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
deny = [{ calls = ["hash"], rate = ["1/1s"] }]
limits.concurrent = 3
"#;
    let report = Policy::parse("p.toml", text).unwrap_err();
    let expected = "\
p.toml:1:11: this program reads policies of version 1 [policy-value]
p.toml:2:1: [service] lacks `name` [policy-missing]
  help: add `name = \"signer.example\"`: callers put it in `aud`
p.toml:3:1: unknown key `nmae` in [service] [policy-unknown-key]
  help: did you mean `name`?
p.toml:5:1: unknown key `memroy` in [limits] [policy-unknown-key]
  help: did you mean `memory`?
p.toml:6:14: not a size or a duration [policy-value]
  help: write a duration such as \"250 ms\" or \"1 s\": units are ms and s
p.toml:7:14: expected a whole number, 0 or more, found `-1` [policy-type]
  help: write digits, without quotes
p.toml:8:12: `new_keys` is 0, so no script could run [policy-bound]
  help: raise it
p.toml:9:10: `output` is at most 1048576 bytes [policy-bound]
  help: lower it
p.toml:12:8: not a public user nkey [policy-nkey]
  help: this looks like a secret seed: remove it, replace it, and write the public key
p.toml:13:10: no role is named `nobody` [policy-unknown-role]
p.toml:16:21: unknown call `sgin` [policy-unknown-call]
  help: did you mean `sign`?
p.toml:16:38: `a/b/c` is not a key pattern [policy-value]
  help: a key pattern has one `/`, between key space and key
p.toml:16:60: r.allow[1] allows `sign` but names no keys [policy-no-keys]
  help: add `keys = [\"space/*\"]`
p.toml:17:29: unknown key `rate` in r.deny[0] [policy-unknown-key]
  help: a deny always holds: count in the allow
p.toml:18:8: unknown key `concurrent` in a role's limits [policy-unknown-key]";
    let mut got = report.to_string();
    // The nearest key of another table may or may not be near enough to suggest: not the point here.
    got = got.replace("\n  help: did you mean `host_calls`?", "");
    assert_eq!(got, expected);
}

#[test]
fn what_is_said_of_a_mistake_leads_to_its_mending() {
    let reported = |rule: &str, role: &str| {
        let text = format!(
            "version = 1\nservice.name = \"s\"\nanonymous.roles = [\"x\"]\n[[role]]\nname = \"{role}\"\n{rule}\n"
        );
        Policy::parse("p.toml", &text).unwrap_err().to_string()
    };
    let of_text = reported("allow = [{ calls = \"sign\", keys = \"a/*\" }]", "x");
    assert_eq!(of_text.matches("expected an array, found string").count(), 2, "{of_text}");
    assert!(!of_text.contains("says nothing"), "{of_text}");
    assert!(!reported("", "a b").contains("``"), "{}", reported("", "a b"));
    let algorithm = reported("deny = [{ calls = [\"sign\"], algorithms = [\"aes\"] }]", "x");
    assert!(algorithm.contains("symmetric"), "{algorithm}");
    for (key, help) in [
        ("uses = 1", "count in the allow"),
        ("export_to = []", "a deny lets nobody have keys"),
        ("cals = []", "did you mean `calls`?"),
    ] {
        let report = reported(&format!("deny = [{{ calls = [\"sign\"], {key} }}]"), "x");
        assert_eq!(report.matches("\n  help: ").count(), 1, "{report}");
        assert!(report.contains(help), "{report}");
    }
    for (rule, role) in [
        ("allow = 1", "x"),
        ("allow = [1]", "x"),
        ("allow = [{ calls = [1] }]", "x"),
        ("allow = [{ calls = [] }]", "x"),
        ("scripts = []", "x"),
        ("limits.new_keys = \"2\"", "x"),
        ("limits.new_keys = 0", "x"),
        ("limits.new_keys = 1000000", "x"),
        ("= 1", "x"),
        ("deny = [{ calls = [\"sign\"], uses = 1 }]", "x"),
        ("allow = [{ calls = [\"hash\"], uses = 0 }]", "x"),
    ] {
        let report = reported(rule, role);
        let helps = report.matches("\n  help: ").count();
        assert_eq!(report.matches("p.toml:").count(), helps, "{rule}: {report}");
    }
}

/// Coverage, cases and the audit log go by role and rule: no two may be read as one.
#[test]
fn rules_of_two_roles_cannot_have_one_full_name() {
    let roles = |one: &str, two: &str| {
        let text = format!("version = 1\nservice.name = \"s\"\n[[role]]\n{one}\n[[role]]\n{two}\n");
        Policy::parse("p.toml", &text).map_err(|found| found.to_string())
    };
    let role = |role: &str, list: &str, name: &str| {
        let name = if name.is_empty() { String::new() } else { format!("name = \"{name}\", ") };
        format!("name = \"{role}\"\n{list} = [{{ {name}calls = [\"hash\"] }}]")
    };
    let taken = roles(&role("a", "allow", "b.c"), &role("a.b", "deny", "c")).unwrap_err();
    let expected = "p.toml:8:18: the rule on line 5 is called `a.b.c` as well [policy-taken]\n  \
         help: give one of them another `name`";
    assert_eq!(taken, expected);
    let taken = roles(&role("a", "allow", "b.allow[0]"), &role("a.b", "allow", "")).unwrap_err();
    assert!(taken.starts_with("p.toml:8:10: the rule on line 5 is called"), "{taken}");
    assert!(roles(&role("a", "allow", "b.c"), &role("a.b", "deny", "d")).is_ok());
    // Of two roles of one name that is said, and not of each of their rules.
    let twice = roles(&role("a", "allow", "b"), &role("a", "allow", "b")).unwrap_err();
    assert_eq!(twice.matches("p.toml:").count(), 1, "{twice}");
}

#[test]
fn what_is_said_of_a_number_or_a_time_is_what_is_wrong_with_it() {
    for (line, says) in [
        (
            "uses = 99999999999999999999",
            "6:8: a number is at most 18446744073709551615 [policy-bound]",
        ),
        ("uses = -1", "6:8: expected a whole number, 0 or more, found `-1`"),
        ("expires = 1969-12-31T23:59:59Z", "6:11: a time is in 1970 or later [policy-bound]"),
        ("expires = 1970-01-01T00:00:00", "6:11: expected a date and time with an offset"),
        ("between = \"24:00-06:00\"", "no hours begin at 24:00"),
        ("between = \"06:00-06:00\"", "these hours have no length"),
        ("between = \"06:00-07:00 Etc/Unknown\"", "no time zone of that name"),
        ("rate = [\"+5/1s\"]", "`+5/1s` is not a rate"),
        ("rate = [\"5 / 1 s\"]", "`5 / 1 s` is not a rate"),
        ("message_max = \"+5 B\"", "not a size or a duration"),
    ] {
        let head = "version = 1\nservice.name = \"s\"\n[[role]]\nname = \"r\"\n[[role.allow]]\n";
        let text = format!("{head}{line}\ncalls = [\"hash\"]\n");
        let report = Policy::parse("p", &text).unwrap_err().to_string();
        assert!(report.contains(says), "{line}: {report}");
    }
    // A mark before the first line is no character of it.
    let marked = Policy::parse("p", "\u{feff}version = 2\nservice.name = \"s\"\n").unwrap_err();
    assert!(marked.to_string().starts_with("p:1:11: "), "{marked}");
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
    // Nor where the message would have what stands there.
    let seed = format!("SU{}", "A".repeat(56));
    let identity = format!("AGE-SECRET-KEY-1{}", "Q".repeat(58));
    for (term, secret) in [("export_to", &identity), ("export_to", &seed), ("calls", &seed)] {
        let text = format!(
            "version = 1\nservice.name = \"s\"\n[[role]]\nname = \"r\"\nallow = [{{ {term} = [\"{secret}\"] }}]\n"
        );
        let report = Policy::parse("p.toml", &text).unwrap_err().to_string();
        assert!(report.contains("***") && !report.contains(secret.as_str()), "{report}");
    }
    // What is shown everywhere is no place for one.
    let named = format!("version = 1\nservice.name = \"{seed}\"\n");
    let report = Policy::parse("p.toml", &named).unwrap_err().to_string();
    assert!(report.contains("this service name looks like a secret"), "{report}");
}

#[test]
fn what_a_policy_says_of_itself_and_its_clients_is_what_stands_in_it() {
    let policy = Policy::parse("p.toml", &sample()).unwrap();
    assert_eq!(policy.service(), "signer.example");
    let callers = policy.callers(0);
    let known: Vec<_> = callers.iter().map(|who| (who.name(), who.nkey())).collect();
    assert_eq!(known, [("billing", Some(USER)), ("anonymous", None)]);
    let expired = policy.callers(2_000_000_000);
    assert_eq!(expired.iter().map(Caller::name).collect::<Vec<_>>(), ["anonymous"]);
}

#[test]
fn only_what_no_process_was_started_for_changes_without_a_restart() {
    let base = sample();
    let old = Policy::parse("p.toml", &base).unwrap();
    let restarts = |from: &str, to: &str, memory: u64| {
        assert!(base.contains(from), "{from}");
        Policy::parse("p.toml", &base.replace(from, to)).unwrap().restarts_for(&old, memory)
    };
    let started = old.limits().memory;
    for (from, to) in [
        ("operations = 1_000_000", "operations = 2"),
        ("memory = \"16 MiB\"", "memory = \"8 MiB\""),
        ("memory = \"16 MiB\"", "memory = \"16 MiB\" "),
        ("calls = [\"hash\"]", "calls = [\"random_bytes\"]"),
    ] {
        assert_eq!(restarts(from, to, started), [""; 0], "{to}");
    }
    for (from, to, what) in [
        ("signer.example", "another.example", "[service]"),
        ("isolation = \"script\"", "isolation = \"client\"", "[sandbox]"),
        ("concurrent = 8", "concurrent = 9", "[limits] concurrent"),
        ("concurrent = 8", "concurrent = 7", "[limits] concurrent"),
        ("memory = \"16 MiB\"", "memory = \"17 MiB\"", "[limits] memory"),
        ("[sandbox]", "[audit]\nsync = \"each\"\n[sandbox]", "[audit]"),
    ] {
        assert_eq!(restarts(from, to, started), [what], "{to}");
    }
    // What was lowered since the start may rise again, to what processes were started for.
    let more = ("memory = \"16 MiB\"", "memory = \"32 MiB\"");
    assert_eq!(restarts(more.0, more.1, 32 << 20), [""; 0]);
}

#[test]
fn policies_in_another_layout_say_the_same_and_others_do_not() {
    let parsed = |text: &str| Policy::parse("p.toml", text).unwrap();
    let moved = format!("# a line more\n{}", sample());
    let other = sample().replace("signer.example", "another.example");
    assert_eq!(parsed(&sample()).without_lines(), parsed(&moved).without_lines());
    assert_ne!(parsed(&sample()).without_lines(), parsed(&other).without_lines());
    assert_eq!(parsed(&sample()).file(), "p.toml");
}

#[test]
fn windows_have_all_that_their_bounds_allow_and_no_more() {
    use crate::rate::{LONGEST, Window};
    for text in ["100000/1s", "1/366d", "1/1m", "7/366h"] {
        assert!(Window::parse(text).is_ok(), "{text}");
    }
    for text in ["0/1s", "100001/1s", "1/0d", "1/367d", "1", "1/s", "x/1s"] {
        assert!(Window::parse(text).is_err(), "{text}");
    }
    assert_eq!(LONGEST, 366 * 24 * 60 * 60 * 1000);
}

#[test]
fn a_file_of_the_audit_log_has_64_kib_at_least() {
    let with = |size: &str| {
        sample().replace("[sandbox]", &format!("[audit]\nrotate = \"{size}\"\n[sandbox]"))
    };
    assert!(Policy::parse("p.toml", &with("64 KiB")).is_ok());
    for size in ["63 KiB", "65535 B"] {
        assert!(Policy::parse("p.toml", &with(size)).is_err(), "{size}");
    }
}

#[test]
fn one_caller_stands_for_another_who_has_the_same_roles_rates_and_script() {
    let text = "version = 1\nservice.name = \"s\"\n[[role]]\nname = \"r\"\n[[role]]\nname = \"q\"\n\
                [anonymous]\nroles = [\"r\", \"r\"]\n";
    let client = |name: &str, nkey: &str, more: &str| {
        format!("[[client]]\nname = \"{name}\"\nnkey = \"{nkey}\"\n{more}\n")
    };
    let same = client("same", USER, "roles = [\"r\"]");
    let pairs = [
        (client("c", OTHER, "roles = [\"q\"]"), false),
        (client("c", OTHER, "roles = [\"r\"]\nrate = [\"1/1s\"]"), false),
        (client("c", OTHER, "roles = [\"r\"]"), true),
    ];
    for (other, stands) in pairs {
        let policy = Policy::parse("p", &format!("{text}{same}{other}")).unwrap();
        let named = |name| policy.client_by_name(name, 0).unwrap();
        let (one, other) = (named("same"), named("c"));
        assert_eq!((one.may_do_what_may(&other), other.may_do_what_may(&one)), (stands, stands));
        // Who has a role twice has it once.
        assert!(policy.anonymous().unwrap().may_do_what_may(&one));
        assert!(!one.clone().running(b"1").may_do_what_may(&one.running(b"2")));
    }
}

#[test]
fn a_rule_takes_effect_in_a_case_where_it_allows_or_denies() {
    let text = "version = 1\nservice.name = \"s\"\nanonymous.roles = [\"r\"]\n[[role]]\nname = \"r\"\n\
                allow = [{ calls = [\"hash\"], message_prefix = [\"a\"], uses = 1 }]\n\
                deny = [{ calls = [\"hash\"], message_prefix = [\"ab\"] }]\n";
    let policy = Policy::parse("p", text).unwrap();
    for (message, times, allows, denies) in [
        ("a", 1, true, false),
        // It allowed one before.
        ("a", 2, true, false),
        ("b", 1, false, false),
        ("ab", 1, false, true),
    ] {
        let text = format!(
            "[[case]]\nname = \"n\"\nas = \"anonymous\"\ncall = \"hash\"\nexpect = \"allow\"\n\
             message = \"{message}\"\ntimes = {times}\n"
        );
        let verdict = Case::parse_all("c", &text).unwrap().remove(0).try_on(&policy);
        let has = ["r.allow[0]", "r.deny[0]"].map(|rule| verdict.has_effect_of(rule));
        assert_eq!(has, [allows, denies], "{message} {times}");
    }
}

#[test]
fn a_case_of_sign_in_is_in_a_namespace() {
    let case = |call: &str, more: &str| {
        let text = format!(
            "[[case]]\nname = \"n\"\nas = \"anonymous\"\ncall = \"{call}\"\nkey = \"a/k\"\nexpect = \"allow\"\n{more}\n"
        );
        Case::parse_all("c", &text).map(drop).map_err(|found| found.to_string())
    };
    assert_eq!(case("sign_in", "namespace = \"ci\""), Ok(()));
    assert_eq!(case("sign", ""), Ok(()));
    for (call, more, says) in [
        ("sign_in", "", "its call takes a namespace"),
        ("sign_in", "namespace = \"no name!\"", "`no name!` is not a namespace"),
        ("sign", "namespace = \"ci\"", "its call takes no namespace"),
    ] {
        let said = case(call, more).unwrap_err();
        assert!(said.contains(says), "{said}");
    }
}

#[test]
fn a_name_that_is_shown_is_printable_and_not_too_long() {
    let is_good = |name: &str| {
        Policy::parse("p", &format!("version = 1\nservice.name = \"{name}\"\n")).is_ok()
    };
    for good in ["a", "~!", &"n".repeat(128)] {
        assert!(is_good(good), "{good}");
    }
    for bad in ["", "a b", "\u{e9}", "\\u0007", &"n".repeat(129)] {
        assert!(!is_good(bad), "{bad}");
    }
}
