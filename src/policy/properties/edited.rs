//! Worlds that are otherwise than before, and what is to be told of it.

use proptest::prelude::*;

use super::generated::{Line, Role, World, line};
use super::{CALLERS, Told};
use crate::pattern::{On, Pattern};
use crate::{Act, Changed, Kind, Where};

/// Something to be otherwise.
#[derive(Debug, Clone)]
pub(super) struct Edit {
    role: usize,
    client: usize,
    allow: Line,
    deny: Line,
    how: usize,
}

pub(super) fn edit() -> impl Strategy<Value = Edit> {
    let parts = (0..3_usize, 0..CALLERS, line(true), line(false), 0..11_usize);
    parts.prop_map(|(role, client, allow, deny, how)| Edit { role, client, allow, deny, how })
}

/// A world with one rule more, less or other than before, or one role of a caller, or one script of a role.
pub(super) fn changed(world: &World, edit: Edit) -> World {
    let mut world = world.clone();
    let Edit { role, client, allow, deny, how } = edit;
    let role = role % world.roles.len();
    let name = world.roles[role].name.clone();
    let held = match world.clients.get_mut(client) {
        Some(client) => Some(&mut client.roles),
        None => world.anonymous.as_mut(),
    };
    let role = &mut world.roles[role];
    let (list, line) =
        if how.is_multiple_of(2) { (&mut role.allow, allow) } else { (&mut role.deny, deny) };
    match how {
        0 | 1 => list.push(Line { label: Some(9), ..line }),
        2 | 3 => drop(list.pop()),
        4 | 5 => list.iter_mut().take(1).for_each(|first| *first = line.clone()),
        6 => role.scripts = vec!["1"],
        7 => role.scripts.clear(),
        8 => held.into_iter().for_each(|roles| roles.retain(|other| *other != name)),
        9 => held.into_iter().for_each(|roles| roles.push(name.clone())),
        // A role that says nothing.
        _ => {
            let (allow, deny) = (Vec::new(), Vec::new());
            world.roles.push(Role { name: "idle".to_owned(), scripts: vec![], allow, deny });
            held.into_iter().for_each(|roles| roles.push("idle".to_owned()));
        }
    }
    world
}

/// Whether a change is told of which this is a part: that an act is decided otherwise. `may` is whether it can be
/// allowed at all, before and after: otherwise it is not on other terms.
pub(super) fn is_about(
    change: &Changed,
    act: &Act,
    (was, is): (&Told, &Told),
    may: (bool, bool),
) -> bool {
    let Changed::Call { call, on, kind, .. } = change else { return false };
    let covers = match (on, On::from(&act.target)) {
        (Where::Nothing, On::Nothing) => !act.has_own_key(),
        (Where::OwnKey, On::Nothing) => act.has_own_key(),
        (Where::Pattern(on), On::Space(space)) => Pattern::parse(on).unwrap().matches_space(&space),
        (Where::Pattern(on), On::Key(space, key)) => {
            Pattern::parse(on).unwrap().matches_key(&space, &key)
        }
        (Where::Nothing | Where::OwnKey, On::Space(_) | On::Key(..))
        | (Where::Pattern(_), On::Nothing) => false,
    };
    let is_so = match kind {
        Kind::Allowed => was.is_none() && may.1,
        Kind::Refused => is.is_none() && may.0,
        Kind::OtherTerms => may.0 && may.1,
    };
    *call == act.call && covers && is_so
}
