//! What holds for every policy, tried on generated ones.

mod edited;
mod generated;
mod oracle;

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use wire::{Algorithm, CallName, KeyPath, KeyRef, Name, Touches};

use self::edited::{changed, edit, is_about};
use self::generated::{ALGORITHMS, MESSAGES, SCRIPTS, TIMES, World, line, world};
use super::*;

/// How often each permission is spent: more often than most generated rules let it be.
const TRIES: usize = 5;
/// The two clients and the anonymous caller.
const CALLERS: usize = 3;

/// When and how something is asked.
#[derive(Debug, Clone, Copy)]
struct Circumstance {
    script: &'static str,
    message: Option<&'static str>,
    namespace: Option<&'static str>,
    algorithm: Option<Algorithm>,
    /// The place in [`TIMES`].
    now: usize,
}

fn circumstances() -> impl Strategy<Value = Vec<Circumstance>> {
    let facts = (
        proptest::option::weighted(0.9, select(&MESSAGES)),
        proptest::option::weighted(0.9, select(&["n", "nn", "n-x", "m"])),
        proptest::option::weighted(0.9, select(&ALGORITHMS)),
    );
    let one = (select(&SCRIPTS), facts, 0..TIMES.len());
    let one = one.prop_map(|(script, (message, namespace, algorithm), now)| Circumstance {
        script,
        message,
        namespace,
        algorithm,
        now,
    });
    proptest::collection::vec(one, 3)
}

impl Circumstance {
    fn facts(&self) -> Facts<'static> {
        let Self { message, namespace, algorithm, now, .. } = *self;
        Facts { message: message.map(str::as_bytes), namespace, algorithm, now: TIMES[now] }
    }
}

fn targets(call: CallName) -> Vec<Target> {
    let names = ["a", "ab", "a-0"].map(|name| Name::parse(name).unwrap());
    let nothing = call.may_touch_nothing().then_some(Target::Nothing);
    let mut stored = match call.touches() {
        Touches::Nothing => Vec::new(),
        Touches::Space | Touches::WholeSpace => names.map(Target::Space).to_vec(),
        Touches::Key => {
            let on = |space: &Name| {
                names.clone().map(|key| Target::Key(KeyPath { space: space.clone(), key })).to_vec()
            };
            names.iter().flat_map(on).collect()
        }
    };
    stored.extend(nothing);
    stored
}

/// Every act of a small world.
fn acts() -> impl Iterator<Item = Act> {
    let on = |call: &CallName| {
        let call = *call;
        targets(call).into_iter().map(move |target| Act { call, target })
    };
    CallName::ALL.iter().flat_map(on)
}

/// Everything that is asked: by each caller each act, under each of the circumstances.
fn asked(circumstances: &[Circumstance]) -> impl Iterator<Item = (usize, Circumstance, Act)> {
    let whens = move |who| circumstances.iter().map(move |at| (who, *at));
    (0..CALLERS).flat_map(whens).flat_map(|(who, at)| acts().map(move |act| (who, at, act)))
}

fn parsed(world: &World) -> Policy {
    let text = world.text();
    Policy::parse("p.toml", &text).unwrap_or_else(|wrong| panic!("{wrong}\n{text}"))
}

/// The caller, where the policy knows it then.
fn caller(policy: &Policy, who: usize, at: &Circumstance) -> Option<Caller> {
    let now = TIMES[at.now] / 1000;
    let caller = match who {
        2 => policy.anonymous(),
        client => policy.client_by_name(&format!("c{client}"), now),
    };
    caller.map(|caller| caller.running(at.script.as_bytes()))
}

/// What is charged for each use that a new book has room for; `None` where it is refused.
type Told = Option<Vec<Vec<String>>>;

fn told(policy: &Policy, who: usize, at: &Circumstance, act: &Act) -> Told {
    let caller = caller(policy, who, at)?;
    let mut book = RateBook::default();
    let mut uses = Vec::new();
    for _ in 0..TRIES {
        match policy.decide(&caller, act.clone(), &at.facts()) {
            Decision::Refuse(_) => return None,
            Decision::Allow(grant) => match grant.spend(&mut book) {
                Ok(permit) => uses.push(permit.accounts().to_vec()),
                Err(_) => break,
            },
        }
    }
    Some(uses)
}

/// The target as a script writes it.
fn named(target: &Target) -> Option<KeyRef> {
    match target {
        Target::Nothing => None,
        Target::Space(space) => Some(KeyRef { space: None, key: space.clone() }),
        Target::Key(KeyPath { space, key }) => {
            Some(KeyRef { space: Some(space.clone()), key: key.clone() })
        }
    }
}

/// Whether a script of the caller's could be allowed the act, whatever the circumstances.
fn may_be_allowed(policy: &Policy, caller: &Caller, act: &Act) -> bool {
    let (caller, named) = (Caller { script: None, ..caller.clone() }, named(&act.target));
    let own_key = Some(act.target == Target::Nothing);
    let known = Known { key: named.as_ref(), own_key, now: Some(0), ..Known::default() };
    !matches!(policy.foresee(&caller, act.call, known), Foresight::Refused(_))
}

fn decisions(policy: &Policy, circumstances: &[Circumstance]) -> Vec<Told> {
    asked(circumstances).map(|(who, at, act)| told(policy, who, &at, &act)).collect()
}

/// Whether whatever can be done under the one can be done under the other at least as often.
fn is_no_more(less: &World, more: &World, circumstances: &[Circumstance]) -> bool {
    let counts = |world| {
        let told = decisions(&parsed(world), circumstances);
        told.into_iter().map(|told| told.map(|uses| uses.len())).collect::<Vec<_>>()
    };
    counts(less).iter().zip(counts(more)).all(|(less, more)| *less <= more)
}

/// The same entries in one of six orders, which are all that there are of three.
fn turned<T>(list: &mut [T], by: usize) {
    list.rotate_left(by % 3 % list.len().max(1));
    if by >= 3 {
        list.reverse();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_decided_is_what_the_page_of_the_language_says(
        world in world(), circumstances in circumstances()
    ) {
        let policy = parsed(&world);
        for (who, at, act) in asked(&circumstances) {
            let told = told(&policy, who, &at, &act);
            let expected = oracle::uses(&world, who, &at, &act).map(|uses| uses.min(TRIES));
            let uses = told.as_ref().map(Vec::len);
            prop_assert_eq!(uses, expected, "{} {:?} of {} {:?}\n{}", act.call, act.target, who, at, world.text());
        }
    }

    #[test]
    fn more_denies_or_fewer_allows_never_allow_more(
        world in world(), circumstances in circumstances(), role in 0..3_usize, extra in line(false),
    ) {
        let role = role % world.roles.len();
        let mut denied = world.clone();
        denied.roles[role].deny.push(extra);
        prop_assert!(is_no_more(&denied, &world, &circumstances));
        let mut fewer = world.clone();
        fewer.roles[role].allow.pop();
        prop_assert!(is_no_more(&fewer, &world, &circumstances));
        let mut none = world.clone();
        none.roles.iter_mut().for_each(|role| role.allow.clear());
        prop_assert!(decisions(&parsed(&none), &circumstances).iter().all(Option::is_none));
    }

    #[test]
    fn who_is_unknown_expired_or_revoked_is_nobody_among_those_who_are_known(
        world in world(), now in select(&TIMES)
    ) {
        let policy = parsed(&world);
        let now = now / 1000;
        prop_assert!(policy.client_by_name("nobody", now).is_none());
        prop_assert!(policy.client_by_name("anonymous", now).is_none());
        prop_assert!(policy.client_by_name("", now).is_none());
        let unknown = nkeys::KeyPair::new_user().public_key();
        prop_assert!(policy.client_by_nkey(&unknown, now).is_none());
        let mut known = BTreeSet::new();
        for client in &world.clients {
            let is_known = !client.is_revoked && client.expires.is_none_or(|end| now < end);
            for found in [policy.client_by_name(client.name, now), policy.client_by_nkey(client.nkey, now)] {
                let found = found.map(|caller| (caller.name().to_owned(), caller.nkey().map(str::to_owned)));
                let expected = (client.name.to_owned(), Some(client.nkey.to_owned()));
                prop_assert_eq!(found, is_known.then_some(expected));
            }
            if is_known {
                known.insert(client.name.to_owned());
            }
        }
        known.extend(world.anonymous.is_some().then(|| "anonymous".to_owned()));
        let callers = policy.callers(now);
        prop_assert_eq!(callers.iter().map(|caller| caller.name().to_owned()).collect::<BTreeSet<_>>(), known);
    }

    #[test]
    fn the_order_of_rules_roles_and_clients_is_nothing(
        world in world(), circumstances in circumstances(), by in proptest::array::uniform4(0..6_usize),
    ) {
        let mut other = world.clone();
        turned(&mut other.roles, by[0]);
        turned(&mut other.clients, by[1]);
        other.clients.iter_mut().for_each(|client| turned(&mut client.roles, by[2]));
        other.anonymous.iter_mut().for_each(|roles| turned(roles, by[2]));
        for role in &mut other.roles {
            turned(&mut role.allow, by[3]);
            turned(&mut role.deny, by[3]);
        }
        prop_assert_eq!(
            decisions(&parsed(&other), &circumstances),
            decisions(&parsed(&world), &circumstances)
        );
    }

    #[test]
    fn what_rules_say_adds_up_to_what_is_decided(world in world(), circumstances in circumstances()) {
        let policy = parsed(&world);
        for (who, at, act) in asked(&circumstances) {
            let Some(who) = caller(&policy, who, &at) else { continue };
            let facts = at.facts();
            let opinions = policy.opinions(&who, &act, &facts);
            let has = |says| opinions.iter().any(|opinion| opinion.says == says);
            let expected = has(Says::Allow) && !has(Says::Deny);
            let call = act.call;
            let is_allowed = matches!(policy.decide(&who, act.clone(), &facts), Decision::Allow(_));
            prop_assert_eq!(is_allowed, expected);
            // Where no role is for the script, nothing is decided: it does not run.
            prop_assert!(!is_allowed || policy.may_run(&who));
            // What is foreseen for certain is decided so.
            let named = named(&act.target);
            let (key, own_key) = (named.as_ref(), Some(act.target == Target::Nothing));
            // Only `sign_in` has a namespace that a script could write out.
            let (message, namespace) = (facts.message, facts.namespace.filter(|_| call == CallName::SignIn));
            for known in [
                Known { key, message, namespace, now: Some(facts.now / 1000), ..Known::default() },
                Known { key, message, namespace, ..Known::default() },
                Known { key, ..Known::default() },
                Known { key, own_key, message, namespace, ..Known::default() },
                Known { own_key, message, ..Known::default() },
                Known { message, ..Known::default() },
                Known::default(),
            ] {
                match policy.foresee(&who, call, known) {
                    Foresight::Certain => prop_assert!(is_allowed, "{:?} {:?} {:?}\n{}", act, at, known, world.text()),
                    Foresight::Refused(_) => prop_assert!(!is_allowed, "{:?} {:?} {:?}\n{}", act, at, known, world.text()),
                    Foresight::Possible(_) => {}
                }
            }
        }
    }

    #[test]
    fn a_rule_that_is_said_to_be_closed_allows_nothing_to_anybody(
        world in world(), circumstances in circumstances()
    ) {
        let policy = parsed(&world);
        let remarks = policy.remarks(0).into_iter();
        let closed: Vec<usize> =
            remarks.filter(|one| one.code == "policy-closed-rule").map(|one| one.line).collect();
        for (who, at, act) in asked(&circumstances) {
            let Some(who) = caller(&policy, who, &at) else { continue };
            if let Decision::Allow(_) = policy.decide(&who, act.clone(), &at.facts()) {
                let opinions = policy.opinions(&who, &act, &at.facts());
                let by_closed = |one: &Opinion| one.says == Says::Allow && closed.contains(&one.line);
                prop_assert!(!opinions.iter().any(by_closed), "{act:?} {closed:?}\n{}", world.text());
            }
        }
    }

    #[test]
    fn what_is_allowed_exists_in_the_engine_of_the_script(world in world(), circumstances in circumstances()) {
        let policy = parsed(&world);
        for (who, at) in (0..CALLERS).flat_map(|who| circumstances.iter().map(move |at| (who, at))) {
            let Some(caller) = caller(&policy, who, at) else { continue };
            let granted = policy.calls_for(&caller);
            for act in acts().filter(|act| !granted.contains(&act.call)) {
                prop_assert_eq!(told(&policy, who, at, &act), None);
            }
        }
    }

    #[test]
    fn nothing_is_decided_otherwise_between_two_policies_without_a_word_about_it(
        world in world(), circumstances in circumstances(), edit in edit(),
    ) {
        let other = changed(&world, edit);
        let (old, new) = (parsed(&world), parsed(&other));
        let changes = old.changes_to(&new, 0);
        for (who, at, act) in asked(&circumstances) {
            let (Some(before), Some(after)) = (caller(&old, who, &at), caller(&new, who, &at)) else {
                continue;
            };
            let of_it = changes.iter().filter(|change| change.client.as_deref() == Some(before.name()));
            let of_it: Vec<&Changed> = of_it.map(|change| &change.what).collect();
            let (was, is) = (told(&old, who, &at, &act), told(&new, who, &at, &act));
            let may = (may_be_allowed(&old, &before, &act), may_be_allowed(&new, &after, &act));
            let said = was == is || of_it.iter().any(|change| is_about(change, &act, (&was, &is), may));
            prop_assert!(said, "{act:?} {at:?} {was:?} {is:?} {of_it:?}\n{}\n{}", world.text(), other.text());
            let runs = new.may_run(&after);
            let said = |change: &&Changed| matches!(change, Changed::Runs { new, .. } if *new == runs);
            prop_assert!(old.may_run(&before) == runs || of_it.iter().any(said), "{at:?} {of_it:?}");
        }
        prop_assert_eq!(new.changes_to(&old, 0).len(), changes.len());
        prop_assert!(old.changes_to(&old, 0).is_empty());
    }

    #[test]
    fn the_layout_of_a_policy_decides_nothing(world in world(), circumstances in circumstances()) {
        let text = world.text();
        let laid_out = formatted(&text).unwrap();
        prop_assert_eq!(&formatted(&laid_out).unwrap(), &laid_out);
        let again = || Policy::parse("p.toml", &laid_out).unwrap();
        prop_assert_eq!(decisions(&again(), &circumstances), decisions(&parsed(&world), &circumstances));
        prop_assert_eq!(again().without_lines(), parsed(&world).without_lines());
    }
}

/// Properties say something only where there is some of everything.
#[test]
fn generated_policies_allow_refuse_and_count() {
    let mut runner = TestRunner::deterministic();
    let (mut refused, mut counted, mut free) = (0, 0, 0);
    for _ in 0..50 {
        let (world, circumstances) =
            (world(), circumstances()).new_tree(&mut runner).unwrap().current();
        for (who, at, act) in asked(&circumstances) {
            match oracle::uses(&world, who, &at, &act) {
                None => refused += 1,
                Some(usize::MAX) => free += 1,
                Some(_) => counted += 1,
            }
        }
    }
    let all = refused + counted + free;
    assert!(refused < all * 9 / 10, "{refused} of {all} are refused");
    for (what, some) in [("counted", counted), ("free", free)] {
        assert!(some > all / 500, "{some} of {all} are {what}");
    }
}
