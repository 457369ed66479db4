//! What `policy/README.md` says a policy decides, worked out in the slow and obvious way.

use wire::CallName;

use super::Circumstance;
use super::generated::{HOURS, Line, Role, TIMES, World};
use crate::{Act, Target};

/// How often the caller may do this at one moment, having used nothing before; `None` where it is refused.
pub(super) fn uses(world: &World, who: usize, at: &Circumstance, act: &Act) -> Option<usize> {
    let (roles, most) = roles_of(world, who, at)?;
    let denies = |line: &Line| {
        reaches(line, act, false) && terms(line, act, at).all(|holds| holds != Some(false))
    };
    if roles.iter().any(|role| role.deny.iter().any(denies)) {
        return None;
    }
    let allows = |line: &&Line| {
        reaches(line, act, true) && terms(line, act, at).all(|holds| holds == Some(true))
    };
    let open =
        roles.iter().filter(|role| role.scripts.is_empty() || role.scripts.contains(&at.script));
    let lines: Vec<&Line> = open.flat_map(|role| &role.allow).filter(allows).collect();
    let each = lines.iter().map(|Line { terms, .. }| {
        terms.uses.into_iter().chain(terms.rate).min().unwrap_or(usize::MAX)
    });
    each.reduce(usize::saturating_add).map(|all| all.min(most))
}

/// The roles of a caller that is known then, and how often it may do anything.
fn roles_of<'w>(world: &'w World, who: usize, at: &Circumstance) -> Option<(Vec<&'w Role>, usize)> {
    let (names, most) = match world.clients.iter().find(|client| client.name == format!("c{who}")) {
        None => (world.anonymous.as_ref()?, usize::MAX),
        Some(client) if client.is_revoked => return None,
        Some(client) if client.expires.is_some_and(|end| TIMES[at.now] >= end * 1000) => {
            return None;
        }
        Some(client) => (&client.roles, client.rate.unwrap_or(usize::MAX)),
    };
    Some((world.roles.iter().filter(|role| names.contains(&role.name)).collect(), most))
}

/// Whether a rule is about the call and what it is on: the tables under "How it decides".
fn reaches(line: &Line, act: &Act, allows: bool) -> bool {
    let is_named = |word: &&str| match *word {
        "*" => !allows || act.call != CallName::ExportKeySpace || line.exports,
        "delete_keypair" if !allows && act.call == CallName::DeleteKeySpace => true,
        word => word == act.call.word(),
    };
    let (space, key) = match &act.target {
        _ if !line.calls.iter().any(is_named) => return false,
        Target::Nothing => return true,
        Target::Space(space) => (space, None),
        Target::Key(path) => (&path.space, Some(&path.key)),
    };
    let takes_all_keys = matches!(act.call, CallName::DeleteKeySpace | CallName::ExportKeySpace);
    let fits = |pattern: &String| {
        let (of_space, of_key) =
            pattern.split_once('/').map_or((&**pattern, None), |(space, key)| (space, Some(key)));
        glob(of_space, space.as_str())
            && match (key, of_key) {
                (Some(key), of_key) => of_key.is_some_and(|of_key| glob(of_key, key.as_str())),
                (None, None) => true,
                // An allow opens a space by one key, but not to calls that take all keys; a deny the reverse.
                (None, Some(of_key)) => {
                    allows != takes_all_keys || of_key.bytes().all(|byte| byte == b'*')
                }
            }
    };
    line.keys.as_ref().map_or(!allows, |keys| keys.iter().any(fits))
}

/// Whether each term that bears on the call holds; `None` where that cannot be seen.
fn terms(line: &Line, act: &Act, at: &Circumstance) -> impl Iterator<Item = Option<bool>> {
    let (terms, message) = (&line.terms, at.message);
    let mut all = vec![
        Some(terms.hours.is_none_or(|hours| HOURS[hours].1[at.now])),
        Some(terms.expires.is_none_or(|end| TIMES[at.now] < end * 1000)),
    ];
    if matches!(act.target, Target::Key(_)) {
        all.push(one_holds(&terms.algorithms, at.algorithm.as_ref(), |one, own| one == own));
    }
    if act.call.word() == "sign_in" {
        all.push(one_holds(&terms.namespaces, at.namespace.as_ref(), |one, own| glob(one, own)));
    }
    let with_message = [
        "sign",
        "sign_in",
        "sign_digest",
        "sign_schnorr",
        "personal_sign",
        "hmac",
        "verify",
        "verify_with",
        "hash",
    ];
    if with_message.contains(&act.call.word()) {
        let message = message.as_ref();
        all.push(one_holds(terms.max.as_slice(), message, |max, own| own.len() <= *max));
        all.push(one_holds(&terms.prefixes, message, |(_, prefix), own| own.starts_with(prefix)));
        all.push(one_holds(&terms.likes, message, |like, own| glob(like, own)));
        all.push(one_holds(&terms.digests, message, |one, own| one == own));
    }
    all.into_iter()
}

fn one_holds<T, F>(
    entries: &[T],
    fact: Option<&F>,
    holds: impl Fn(&T, &F) -> bool,
) -> Option<bool> {
    if entries.is_empty() {
        Some(true)
    } else {
        fact.map(|fact| entries.iter().any(|entry| holds(entry, fact)))
    }
}

fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_at_checked(1) {
        None => text.is_empty(),
        Some(("*", rest)) => {
            (0..=text.len()).filter_map(|at| text.get(at..)).any(|end| glob(rest, end))
        }
        Some((letter, rest)) => text.strip_prefix(letter).is_some_and(|text| glob(rest, text)),
    }
}
