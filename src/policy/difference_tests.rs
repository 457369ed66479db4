//! What `policy diff` says, change by change.

use proptest::prelude::*;
use wire::CallName;

use crate::change::{Change, Changed, Kind, Where};
use crate::{Act, Decision, Facts, Isolation, Policy, target};

const KEYS: [&str; 2] = [
    "UBVYNMTT742PZYM5NOAE5722H5LUPLNE5KRC6HKJYAPFFXNXQ5NUXEGK",
    "UA6KOMQ67XOE3FHE37W4OXADVXVYISBNLTBUT2LSY5VFKAIJ7CRDR2RZ",
];

fn policy(head: &str, client: &str, role: &str) -> Policy {
    let text = format!(
        "version = 1\n{head}\n[[client]]\nname = \"c\"\nroles = [\"r\"]\n{client}\n[[role]]\nname = \"r\"\n{role}\n"
    );
    Policy::parse("p", &text).unwrap_or_else(|found| panic!("{found}\n{text}"))
}

/// In few words: who, what, from what to what.
fn short(Change { client, what }: &Change) -> String {
    let who = client.as_deref().unwrap_or("all");
    let what = match what {
        Changed::Service { old, new } => format!("service {old} {new}"),
        Changed::Isolation { old, new } => {
            let word =
                |one: &Isolation| if *one == Isolation::Client { "client" } else { "script" };
            format!("isolation {} {}", word(old), word(new))
        }
        Changed::Audit { old, new } => format!("audit {} {}", old.each_line, new.each_line),
        Changed::Known => "known".to_owned(),
        Changed::Unknown => "unknown".to_owned(),
        Changed::Nkey { old, new } => {
            let first = |nkey: &str| nkey.chars().take(4).collect::<String>();
            format!("nkey {} {}", first(old), first(new))
        }
        Changed::Expires { old, new } => format!("expires {old:?} {new:?}"),
        Changed::Allowance => "allowance".to_owned(),
        Changed::Runs { script, new } => {
            let mark = if *new { "+" } else { "-" };
            format!("{mark} runs {}", script.map_or(0, |script| script[0]))
        }
        Changed::Limit { bound, unit, script, old, new } => {
            format!("{bound} {unit} {} {old} {new}", script.map_or(0, |script| script[0]))
        }
        Changed::Call { call, on, kind, old, new, to } => {
            let kind = match kind {
                Kind::Allowed => "+",
                Kind::Refused => "-",
                Kind::OtherTerms => "~",
            };
            let rule = |rule: &Option<(String, usize)>| {
                rule.as_ref().map_or("none", |(name, _)| name.as_str()).to_owned()
            };
            let on = match on {
                Where::Nothing => "",
                Where::OwnKey => "own",
                Where::Pattern(on) => on,
            };
            format!("{kind} {} {on} {} {}{}", call.word(), rule(old), rule(new), to.concat())
        }
    };
    format!("{who}: {what}")
}

const HEAD: &str = "service.name = \"s\"";

fn says(old: &Policy, new: &Policy, expected: &[&str]) {
    let said: Vec<String> = old.changes_to(new, 0).iter().map(short).collect();
    assert_eq!(said, expected);
    assert!(old.changes_to(old, 0).is_empty() && new.changes_to(new, 0).is_empty());
}

fn nkey(number: usize) -> String {
    format!("nkey = \"{}\"", KEYS[number])
}

#[test]
fn what_concerns_the_whole_service_is_said() {
    let old = policy(HEAD, &nkey(0), "");
    let head = "service.name = \"t\"\nsandbox.isolation = \"client\"\naudit.sync = \"each\"\nlimits.concurrent = 3";
    let new = policy(head, &nkey(0), "");
    let expected = [
        "all: service s t",
        "all: isolation script client",
        "all: audit false true",
        "all: concurrent  0 8 3",
    ];
    says(&old, &new, &expected);
}

#[test]
fn what_concerns_a_client_is_said() {
    let old = policy(HEAD, &nkey(0), "");
    let with = |more: &str| policy(HEAD, &format!("{}\n{more}", nkey(0)), "");
    says(&old, &policy(HEAD, &nkey(1), ""), &["c: nkey UBVY UA6K"]);
    says(&old, &with("expires = 2027-01-01T00:00:00Z"), &["c: expires None Some(1798761600)"]);
    says(&old, &with("rate = [\"1/1s\"]"), &["c: allowance"]);
    says(&old, &with("revoked = true"), &["c: unknown"]);
    says(&with("revoked = true"), &old, &["c: known"]);
}

#[test]
fn limits_are_said_of_any_script_and_of_those_that_have_their_own() {
    let script =
        "scripts = [\"sha256:aa00000000000000000000000000000000000000000000000000000000000000\"]";
    let role =
        |limits: &str, scripts: &str| policy(HEAD, &nkey(0), &format!("{scripts}\n{limits}"));
    let (low, none) = ("limits.wall_clock = \"250 ms\"", "");
    says(&role(none, ""), &role(low, ""), &["c: wall_clock ms 0 1000 250"]);
    says(
        &role(low, ""),
        &role("limits.memory = \"4 MiB\"", ""),
        &["c: memory bytes 0 16777216 4194304", "c: wall_clock ms 0 250 1000"],
    );
    // A role that is for one script alone bounds that script, and no other.
    says(&role(none, script), &role(low, script), &["c: wall_clock ms 170 1000 250"]);
}

#[test]
fn calls_are_said_where_they_became_otherwise() {
    let allow = |rules: &str| policy(HEAD, &nkey(0), rules);
    let sign = "allow = [{ name = \"a\", calls = [\"sign\"], keys = [\"x/*\"] }]";
    let rated = |rate: &str, uses: u32| {
        let terms = format!("keys = [\"x/*\"], rate = [{rate}], uses = {uses} }}]");
        sign.replace("keys = [\"x/*\"] }]", &terms)
    };
    says(&allow(""), &allow(sign), &["c: + sign x/* none r.a"]);
    says(&allow(sign), &allow(""), &["c: - sign x/* r.a none"]);
    let one = rated("\"1/1s\"", 5);
    says(&allow(sign), &allow(&one), &["c: ~ sign x/* r.a r.a"]);
    says(&allow(&one), &allow(&rated("\"2/1s\"", 5)), &["c: ~ sign x/* r.a r.a"]);
    says(&allow(&one), &allow(&rated("\"1/1s\"", 6)), &["c: ~ sign x/* r.a r.a"]);
    // The order of rates says nothing.
    says(&allow(&rated("\"1/1s\", \"9/1m\"", 5)), &allow(&rated("\"9/1m\", \"1/1s\"", 5)), &[]);
    // A deny that holds under a condition leaves the call on other terms; one without closes it.
    let denied = |terms: &str| {
        format!(
            "{sign}\ndeny = [{{ name = \"d\", calls = [\"sign\"], keys = [\"x/root\"]{terms} }}]"
        )
    };
    says(&allow(sign), &allow(&denied("")), &["c: - sign x/root r.a r.d"]);
    let at_night = ", between = \"22:00-23:00\"";
    says(&allow(sign), &allow(&denied(at_night)), &["c: ~ sign x/root none r.d"]);
    // A rule without terms makes those of the others nothing.
    let both = format!("{one}\n")
        .replace("}]", "}, { name = \"b\", calls = [\"sign\"], keys = [\"x/*\"] }]");
    says(&allow(sign), &allow(&both), &[]);
    // What touches no key is said once, and a deny of everything is said of each call.
    let hash = "allow = [{ name = \"h\", calls = [\"hash\", \"random_bytes\"] }]";
    says(&allow(""), &allow(hash), &["c: + hash  none r.h", "c: + random_bytes  none r.h"]);
    let closed = format!("{hash}\ndeny = [{{ name = \"n\", calls = [\"*\"] }}]");
    says(&allow(hash), &allow(&closed), &["c: - hash  r.h r.n", "c: - random_bytes  r.h r.n"]);
}

#[test]
fn what_is_done_with_a_key_of_the_scripts_own_is_said_as_a_place_of_its_own() {
    let allow = "allow = [{ name = \"a\", calls = [\"encrypt\"], keys = [\"x/*\"] }]";
    let denied = |keys: &str| {
        let deny = format!("[{{ name = \"d\", calls = [\"encrypt\"], keys = [\"{keys}\"] }}]");
        policy(HEAD, &nkey(0), &format!("{allow}\ndeny = {deny}"))
    };
    let open = policy(HEAD, &nkey(0), allow);
    // Of keys it closes nothing; the text under a key of the script's own it does.
    says(&open, &denied("y/*"), &["c: - encrypt own r.a r.d"]);
    says(&denied("y/*"), &open, &["c: + encrypt own r.d r.a"]);
    says(&denied("y/*"), &denied("z/*"), &[]);
}

/// A key of the script's own has no algorithm that a term could ask for.
#[test]
fn what_a_rule_asks_of_stored_keys_alone_is_not_said_of_a_key_of_the_scripts_own() {
    let allow = |keys: &str| {
        format!("allow = [{{ name = \"a\", calls = [\"encrypt\"], keys = [\"x/*\"]{keys} }}]")
    };
    let open = |keys: &str| policy(HEAD, &nkey(0), &allow(keys));
    let (one, other) = (", algorithms = [\"ed25519\"]", ", algorithms = [\"x25519\"]");
    says(&open(one), &open(other), &["c: ~ encrypt x/* r.a r.a"]);
    says(&open(""), &open(one), &["c: ~ encrypt x/* r.a r.a"]);
    let deny = format!("deny = [{{ name = \"d\", calls = [\"encrypt\"]{one} }}]");
    let denied = policy(HEAD, &nkey(0), &format!("{}\n{deny}", allow("")));
    says(&open(""), &denied, &["c: - encrypt own r.a r.d", "c: ~ encrypt x/* none r.d"]);
}

/// A term that does not bear on a call is none there.
#[test]
fn what_a_rule_asks_of_other_calls_of_it_is_not_said() {
    let both = "{ name = \"a\", calls = [\"sign\", \"public_key\"], keys = [\"x/*\"], message_max = \"1 B\" }";
    let one = "{ name = \"b\", calls = [\"public_key\"], keys = [\"x/*\"] }";
    let allow = |rules: &str| policy(HEAD, &nkey(0), &format!("allow = [{rules}]"));
    says(&allow(both), &allow(&format!("{both}, {one}")), &[]);
    // Nor does it spare a key space from a deny of the deletion of its keys.
    let space = "allow = [{ name = \"a\", calls = [\"delete_key_space\"], keys = [\"x\"] }]";
    let deny = "deny = [{ name = \"d\", calls = [\"delete_keypair\"], algorithms = [\"p256\"] }]";
    let (open, denied) = (space.to_owned(), format!("{space}\n{deny}"));
    let with = |role: &str| policy(HEAD, &nkey(0), role);
    says(&with(&open), &with(&denied), &["c: - delete_key_space x r.a r.d"]);
}

#[test]
fn whether_scripts_run_at_all_is_said() {
    let digest = |digit: &str| format!("\"sha256:{}\"", digit.repeat(64));
    let world = |roles: &str, scripts: &str| {
        let text = format!(
            "version = 1\n{HEAD}\n[[client]]\nname = \"c\"\nroles = [{roles}]\n{}\n\
             [[role]]\nname = \"r\"\nscripts = [{scripts}]\n[[role]]\nname = \"idle\"\n",
            nkey(0)
        );
        Policy::parse("p", &text).unwrap()
    };
    let (one, two) = (digest("1"), digest("2"));
    let (bound, free) = (world("\"r\"", &one), world("\"r\", \"idle\"", &one));
    says(&bound, &free, &["c: + runs 0"]);
    says(&free, &bound, &["c: - runs 0"]);
    says(&bound, &world("\"r\"", &two), &["c: - runs 17", "c: + runs 34"]);
    says(&world("", &one), &bound, &["c: - runs 0"]);
    // No digest stands for those of scripts that no role names.
    let zeros = digest("0");
    says(&world("\"r\"", &zeros), &world("\"r\", \"idle\"", &zeros), &["c: + runs 0"]);
    // The order of scripts says nothing, nor does one that is named twice.
    let pinned = |scripts: &[&str]| {
        let role =
            format!("scripts = [{}]\nallow = [{{ calls = [\"hash\"] }}]", scripts.join(", "));
        policy(HEAD, &nkey(0), &role)
    };
    says(&pinned(&[&one, &two]), &pinned(&[&two, &one]), &[]);
    says(&pinned(&[&one, &one]), &pinned(&[&one]), &[]);
}

#[test]
fn calls_are_said_at_the_patterns_where_they_became_otherwise() {
    let policy = |rules: &str| policy(HEAD, &nkey(0), rules);
    let rule = |name: &str, call: &str, keys: &str, terms: &str| {
        format!("{{ name = \"{name}\", calls = [\"{call}\"], keys = [{keys}]{terms} }}")
    };
    let allow = |rules: &[String]| format!("allow = [{}]\n", rules.join(", "));
    let wide = rule("a", "sign", "\"x/*\"", "");
    // A deny without keys is about every pattern that there is.
    let denied =
        allow(std::slice::from_ref(&wide)) + "deny = [{ name = \"d\", calls = [\"sign\"] }]";
    says(&policy(&allow(&[wide])), &policy(&denied), &["c: - sign x/* r.a r.d"]);
    // What is said of a wider place is not said again of one in it, unless it is something else.
    let both = rule("a", "sign", "\"x/*\", \"x/k\"", "");
    says(&policy(""), &policy(&allow(&[both])), &["c: + sign x/* none r.a"]);
    let short = rule("a", "sign", "\"x/*\"", ", message_max = \"1 B\"");
    let free = rule("b", "sign", "\"x/k\"", "");
    let expected = ["c: + sign x/* none r.a", "c: + sign x/k none r.a"];
    says(&policy(""), &policy(&allow(&[short, free])), &expected);
    // Of a key space: the place is the space, and other key spaces are others.
    let enter = |name: &str, keys: &str| rule(name, "select_key_space", keys, "");
    let (one, other) = (enter("a", "\"x/*\""), enter("b", "\"y/k\""));
    let expected = ["c: + select_key_space y none r.b"];
    says(&policy(&allow(std::slice::from_ref(&one))), &policy(&allow(&[one, other])), &expected);
    // Of a key space with all its keys: some of them are not enough, and a deny of some of them is.
    let delete = |name: &str, keys: &str| rule(name, "delete_key_space", keys, "");
    says(&policy(""), &policy(&allow(&[delete("a", "\"x/k*\"")])), &[]);
    says(
        &policy(""),
        &policy(&allow(&[delete("a", "\"x/*\"")])),
        &["c: + delete_key_space x none r.a"],
    );
    let all = allow(&[delete("a", "\"x/*\", \"y/*\"")]);
    let denied = |keys: &str| format!("{all}deny = [{}]", delete("d", keys));
    says(&policy(&all), &policy(&denied("\"x/k*\"")), &["c: - delete_key_space x r.a r.d"]);
    says(&policy(&all), &policy(&denied("\"z/*\"")), &[]);
    // A deny of some keys closes no key space to those who enter it.
    let entered = allow(&[enter("a", "\"x/*\"")]);
    let denied = |keys: &str| format!("{entered}deny = [{}]", enter("d", keys));
    let all_on_some = rule("d", "*", "\"x/k*\"", "");
    says(&policy(&entered), &policy(&format!("{entered}deny = [{all_on_some}]")), &[]);
    says(&policy(&entered), &policy(&denied("\"x/*\"")), &["c: - select_key_space x r.a r.d"]);
}

#[test]
fn what_anybody_may_do_is_said_of_the_anonymous() {
    let anonymous = format!("{HEAD}\nanonymous.roles = [\"r\"]");
    let role = "allow = [{ name = \"h\", calls = [\"hash\"] }]";
    let (old, new) = (policy(HEAD, &nkey(0), role), policy(&anonymous, &nkey(0), role));
    says(&old, &new, &["anonymous: known", "anonymous: + hash  none r.h"]);
    says(&new, &old, &["anonymous: unknown", "anonymous: - hash  r.h none"]);
}

#[test]
fn where_two_patterns_overlap_in_several_ways_no_overlap_is_forgotten() {
    let policy = |denies: &str| {
        let allow = "allow = [{ name = \"a\", calls = [\"sign\"], keys = [\"s/a*b\"] }]";
        policy(HEAD, &nkey(0), &format!("{allow}\ndeny = [{denies}]"))
    };
    let deny = |keys: &str| format!("{{ calls = [\"sign\"], keys = [\"s/{keys}\"] }}");
    let both = format!("{}, {}", deny("ab*b"), deny("ab*"));
    says(&policy(&both), &policy(&deny("ab*b")), &["c: + sign s/ab r.deny[1] r.a"]);
    // What is between, and begins where something else ends.
    let both = format!("{}, {}", deny("*ba*"), deny("*ab*ba*"));
    says(&policy(&both), &policy(&deny("*ab*ba*")), &["c: + sign s/a*ba*b r.deny[0] r.a"]);
}

proptest! {
    #[test]
    fn no_key_is_decided_otherwise_without_a_word_about_it(
        old in prop::collection::vec(("[ab*]{1,4}", any::<bool>()), 0..5),
        new in prop::collection::vec(("[ab*]{1,4}", any::<bool>()), 0..3),
        shared in prop::collection::vec(("[ab*]{1,4}", any::<bool>()), 0..3),
        key in "[ab]{1,6}",
    ) {
        let written = |own: &[(String, bool)]| {
            let list = |allows: bool| -> String {
                let rules = own.iter().chain(&shared).filter(|(_, one)| *one == allows);
                rules.map(|(keys, _)| format!("{{ calls = [\"sign\"], keys = [\"s/{keys}\"] }},")).collect()
            };
            policy(HEAD, &nkey(0), &format!("allow = [{}]\ndeny = [{}]", list(true), list(false)))
        };
        let (old, new) = (written(&old), written(&new));
        let on = format!("s/{key}");
        let allows = |policy: &Policy| {
            let act = Act { call: CallName::Sign, target: target(CallName::Sign, Some(&on)).unwrap() };
            let who = policy.client_by_name("c", 0).unwrap();
            matches!(policy.decide(&who, act, &Facts::default()), Decision::Allow(_))
        };
        let wanted = match (allows(&old), allows(&new)) {
            (false, true) => Kind::Allowed,
            (true, false) => Kind::Refused,
            (_, _) => return Ok(()),
        };
        let pattern = |text: &str| crate::pattern::Pattern::parse(text).unwrap();
        let about_it = |Change { what, .. }: &Change| {
            matches!(what, Changed::Call { on: Where::Pattern(place), kind, .. }
                if *kind == wanted && pattern(place).covers(&pattern(&on)))
        };
        let changes = old.changes_to(&new, 0);
        prop_assert!(changes.iter().any(about_it), "{} {:?}", on, changes);
    }
}
