//! What holds for every policy, tried on generated ones.

use proptest::prelude::*;
use wire::{Algorithm, CallName, KeyPath, Name, Touches};

use super::*;

/// One rule, as its calls, keys and terms are written.
#[derive(Debug, Clone)]
struct Line {
    calls: Vec<CallName>,
    keys: Vec<String>,
    terms: Vec<&'static str>,
}

/// Terms that fit a rule whose calls all take messages.
const ON_MESSAGES: [&str; 5] = [
    "message_max = '1 B'",
    "message_prefix = ['a', 'hex:62']",
    "message_like = ['*b']",
    "message_sha256 = ['ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb']",
    "message_max = '2 B', message_like = ['a*', 'b']",
];
/// Terms that fit every rule.
const ON_ALL: [&str; 3] =
    ["between = '06:00-18:00'", "between = 'thu 22:00-03:00'", "expires = 1970-01-01T12:00:00Z"];
/// Only in an allow.
const COUNTS: [&str; 3] = ["rate = ['1/1s']", "uses = 0", "uses = 2"];
const MESSAGES: [&[u8]; 5] = [b"", b"a", b"b", b"ab", b"ba"];
/// The epoch is a Thursday.
const TIMES: [u64; 4] = [0, 8 * 3_600_000, 13 * 3_600_000, 23 * 3_600_000];

fn line() -> impl Strategy<Value = Line> {
    let on_messages = vec![CallName::Sign, CallName::Hash, CallName::Verify, CallName::VerifyWith];
    let calls = prop_oneof![
        proptest::sample::subsequence(CallName::ALL.to_vec(), 1..4),
        proptest::sample::subsequence(on_messages, 1..3),
    ];
    // Each names keys: a rule that lists calls on keys and names none is a mistake.
    let keys = proptest::collection::vec("[ab*]{1,2}/[ab0*-]{1,3}", 1..3);
    let terms =
        proptest::sample::subsequence([ON_MESSAGES.as_slice(), &ON_ALL, &COUNTS].concat(), 0..3);
    (calls, keys, terms).prop_map(|(calls, keys, terms)| Line { calls, keys, terms })
}

fn written(line: &Line, allows: bool) -> String {
    let calls: Vec<&str> = line.calls.iter().map(|call| call.word()).collect();
    let take_messages = line.calls.iter().all(|call| call.takes_message());
    let fits = |term: &&&str| {
        (take_messages || !ON_MESSAGES.contains(*term)) && (allows || !COUNTS.contains(*term))
    };
    let mut names = Vec::new();
    let mut terms = String::new();
    for term in line.terms.iter().filter(fits) {
        let keys = term.split(", ").filter_map(|part| part.split_once(" = ").map(|(key, _)| key));
        let keys: Vec<_> = keys.collect();
        if !keys.iter().any(|key| names.contains(key)) {
            names.extend(keys);
            terms.push_str(&format!(", {term}"));
        }
    }
    if allows && line.calls.contains(&CallName::ExportKeySpace) {
        // All the same: a policy whose rules differ in it is none.
        terms.push_str(&format!(", export_to = ['{}']", Recipient::new([7; 32])));
    }
    format!("{{ calls = {calls:?}, keys = {:?}{terms} }},\n", line.keys)
}

fn text(allow: &[Line], deny: &[Line]) -> String {
    let list =
        |lines: &[Line], allows| lines.iter().map(|line| written(line, allows)).collect::<String>();
    format!(
        "version = 1\nservice.name = \"s\"\nanonymous.roles = [\"r\"]\n[[role]]\nname = \"r\"\n\
         allow = [{}]\ndeny = [{}]\n",
        list(allow, true),
        list(deny, false)
    )
}

fn policy(allow: &[Line], deny: &[Line]) -> Policy {
    Policy::parse("p.toml", &text(allow, deny)).unwrap()
}

fn targets(call: CallName) -> Vec<Target> {
    let names = ["a", "ab", "a-0"].map(|name| Name::parse(name).unwrap());
    match call.touches() {
        Touches::Nothing => vec![Target::Nothing],
        Touches::Space | Touches::WholeSpace => names.map(Target::Space).to_vec(),
        Touches::Key => {
            let on = |space: &Name| {
                names.clone().map(|key| Target::Key(KeyPath { space: space.clone(), key })).to_vec()
            };
            names.iter().flat_map(on).collect()
        }
    }
}

/// Every act of a small world, with every fact about it.
fn world() -> Vec<(Act, Facts<'static>)> {
    let mut world = Vec::new();
    for call in CallName::ALL {
        let messages: Vec<Option<&[u8]>> = if call.takes_message() {
            MESSAGES.iter().map(|message| Some(*message)).chain([None]).collect()
        } else {
            vec![None]
        };
        for target in targets(*call) {
            for message in &messages {
                for now in TIMES {
                    let facts = Facts {
                        message: *message,
                        namespace: Some("n"),
                        algorithm: Some(Algorithm::Ed25519),
                        now,
                    };
                    world.push((Act { call: *call, target: target.clone() }, facts));
                }
            }
        }
    }
    world
}

/// What the policy decides of everything: whether it allows, and what a use costs then.
fn decisions(policy: &Policy) -> Vec<Option<Result<Vec<String>, String>>> {
    let who = policy.anonymous().unwrap();
    let decide = |(act, facts): (Act, Facts<'_>)| match policy.decide(&who, act, &facts) {
        Decision::Refuse(_) => None,
        Decision::Allow(grant) => {
            let spent = grant.spend(&mut RateBook::default());
            Some(spent.map(|permit| permit.accounts().to_vec()).map_err(|_| "used up".to_owned()))
        }
    };
    world().into_iter().map(decide).collect()
}

fn is_no_more(less: &Policy, more: &Policy) -> bool {
    let (less, more) = (decisions(less), decisions(more));
    less.iter().zip(&more).all(|(less, more)| less.is_none() || more.is_some())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn more_denies_or_fewer_allows_never_allow_more(
        allow in proptest::collection::vec(line(), 1..4),
        deny in proptest::collection::vec(line(), 0..3),
        extra in line(),
    ) {
        let base = policy(&allow, &deny);
        let denied = policy(&allow, &[deny.as_slice(), &[extra]].concat());
        prop_assert!(is_no_more(&denied, &base));
        prop_assert!(is_no_more(&policy(&allow[1..], &deny), &base));
        prop_assert!(decisions(&policy(&[], &deny)).iter().all(Option::is_none));
        prop_assert!(base.client_by_name("nobody", 0).is_none());
    }

    #[test]
    fn the_order_of_rules_is_nothing(
        allow in proptest::collection::vec(line(), 0..4),
        deny in proptest::collection::vec(line(), 0..3),
    ) {
        let turned = |lines: &[Line]| lines.iter().rev().cloned().collect::<Vec<Line>>();
        let base = decisions(&policy(&allow, &deny));
        prop_assert_eq!(decisions(&policy(&turned(&allow), &turned(&deny))), base);
    }

    #[test]
    fn what_rules_say_adds_up_to_what_is_decided(
        allow in proptest::collection::vec(line(), 0..4),
        deny in proptest::collection::vec(line(), 0..3),
    ) {
        let policy = policy(&allow, &deny);
        let who = policy.anonymous().unwrap();
        let granted = policy.calls_for(&who);
        for (act, facts) in world() {
            let opinions = policy.opinions(&who, &act, &facts);
            let has = |says| opinions.iter().any(|opinion| opinion.says == says);
            let expected = has(Says::Allow) && !has(Says::Deny);
            let call = act.call;
            let is_allowed = matches!(policy.decide(&who, act.clone(), &facts), Decision::Allow(_));
            prop_assert_eq!(is_allowed, expected);
            // What is foreseen for certain is decided so.
            let known = match &act.target {
                Target::Nothing => None,
                Target::Space(space) => Some(wire::KeyRef { space: None, key: space.clone() }),
                Target::Key(path) => {
                    let (space, key) = (Some(path.space.clone()), path.key.clone());
                    Some(wire::KeyRef { space, key })
                }
            };
            let key = known.as_ref();
            let (message, namespace) = (facts.message, facts.namespace);
            for known in [
                Known { key, message, namespace, now: Some(facts.now / 1000) },
                Known { key, message, namespace, now: None },
                Known { key, ..Known::default() },
                Known { message, ..Known::default() },
                Known::default(),
            ] {
                match policy.foresee(&who, call, known) {
                    Foresight::Certain => prop_assert!(is_allowed),
                    Foresight::Refused(_) => prop_assert!(!is_allowed),
                    Foresight::Possible(_) => {}
                }
            }
            // What is decided to be allowed exists in the script's engine.
            prop_assert!(!is_allowed || granted.contains(&call));
        }
    }

    #[test]
    fn policies_between_which_nothing_changed_decide_the_same(
        allow in proptest::collection::vec(line(), 0..4),
        deny in proptest::collection::vec(line(), 0..3),
        other in line(),
        at in 0..6_usize,
    ) {
        let old = policy(&allow, &deny);
        // One rule more, less, or other than before.
        let (mut allow, mut deny) = (allow, deny);
        let list = if at % 2 == 0 { &mut allow } else { &mut deny };
        match at / 2 {
            0 => list.push(other),
            1 => drop(list.pop()),
            _ => list.iter_mut().take(1).for_each(|line| *line = other.clone()),
        }
        let new = policy(&allow, &deny);
        let changes = old.changes_to(&new, 0);
        if changes.is_empty() {
            prop_assert_eq!(decisions(&old), decisions(&new));
        }
        prop_assert_eq!(new.changes_to(&old, 0).len(), changes.len());
        prop_assert!(old.changes_to(&old, 0).is_empty());
    }

    #[test]
    fn the_layout_of_a_policy_decides_nothing(
        allow in proptest::collection::vec(line(), 0..4),
        deny in proptest::collection::vec(line(), 0..3),
    ) {
        let text = text(&allow, &deny);
        let laid_out = formatted(&text).unwrap();
        prop_assert_eq!(&formatted(&laid_out).unwrap(), &laid_out);
        let again = Policy::parse("p.toml", &laid_out).unwrap();
        prop_assert_eq!(decisions(&again), decisions(&Policy::parse("p.toml", &text).unwrap()));
    }
}
