//! What a script selects, as far as it is written out in it.

use wire::script::Sighting;
use wire::{CallName, KeyRef, Name, Touches};

/// Most key spaces, and most keys, that a script may select for them to be looked at one by one.
const MOST_SELECTIONS: usize = 64;

/// Everything that a script may have selected at any time, whichever way it takes, where all of that is
/// written out in it.
#[derive(Default)]
pub(crate) struct Selections {
    spaces: Vec<Name>,
    keys: Vec<KeyRef>,
}

impl Selections {
    /// Nothing is known where one selection is put together while the script runs.
    pub(crate) fn of(sightings: &[Sighting]) -> Self {
        let mut known = Self::default();
        let mut bare = Vec::new();
        for sighting in sightings.iter().filter(|sighting| sighting.shadows.is_none()) {
            match (sighting.call, sighting.literal.clone()) {
                (Some(CallName::CreateKeySpace | CallName::SelectKeySpace), Some(space)) => {
                    known.spaces.push(space.key);
                }
                (Some(CallName::CreateKeypair | CallName::SelectKeypair), Some(key)) => {
                    match &key.space {
                        Some(space) => {
                            known.spaces.push(space.clone());
                            known.keys.push(key);
                        }
                        None => bare.push(key.key),
                    }
                }
                (
                    None
                    | Some(
                        CallName::CreateKeySpace
                        | CallName::SelectKeySpace
                        | CallName::CreateKeypair
                        | CallName::SelectKeypair,
                    ),
                    None,
                ) => return Self::default(),
                (_, _) => {}
            }
        }
        known.spaces.sort();
        known.spaces.dedup();
        known.keys.sort();
        known.keys.dedup();
        bare.sort();
        bare.dedup();
        // All of them are looked at for each call: of many the time would be felt.
        let keys = known.keys.len() + bare.len() * known.spaces.len();
        if known.spaces.len().max(keys) > MOST_SELECTIONS {
            return Self::default();
        }
        let of_each: Vec<KeyRef> = bare.iter().flat_map(|key| known.in_each_space(key)).collect();
        known.keys.extend(of_each);
        known
    }

    fn in_each_space(&self, key: &Name) -> Vec<KeyRef> {
        let within = |space: &Name| KeyRef { space: Some(space.clone()), key: key.clone() };
        self.spaces.iter().map(within).collect()
    }

    /// The keys of which a call is on one; none if that is not known.
    pub(crate) fn keys_of(&self, sighting: &Sighting) -> Vec<KeyRef> {
        let on_a_key = sighting.call.is_some_and(|call| call.touches() == Touches::Key);
        match &sighting.literal {
            Some(key) if on_a_key && key.space.is_none() && !self.spaces.is_empty() => {
                self.in_each_space(&key.key)
            }
            Some(key) => vec![key.clone()],
            None if sighting.on_selected => self.keys.clone(),
            None => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each call of a hostile script would be looked at on each key space that it selects.
    #[test]
    fn of_more_selections_than_can_be_looked_at_none_is_known() {
        let named = |call, name: String| {
            let key = Name::parse(&name).ok().map(|key| KeyRef { space: None, key });
            Sighting { call: Some(call), literal: key, ..Sighting::default() }
        };
        let script = |spaces: usize, keys: usize| -> Vec<Sighting> {
            let spaces = (0..spaces).map(|n| named(CallName::SelectKeySpace, format!("s{n}")));
            let keys = (0..keys).map(|n| named(CallName::SelectKeypair, format!("k{n}")));
            spaces.chain(keys).collect()
        };
        for (spaces, keys, known) in [
            (64, 0, (64, 0)),
            (65, 0, (0, 0)),
            (64, 1, (64, 64)),
            (33, 2, (0, 0)),
            (1, 64, (1, 64)),
            (20_000, 20_000, (0, 0)),
        ] {
            let of = Selections::of(&script(spaces, keys));
            assert_eq!((of.spaces.len(), of.keys.len()), known, "{spaces} {keys}");
        }
        // The same again is no more.
        let often: Vec<Sighting> = (0..100).flat_map(|_| script(1, 1)).collect();
        assert_eq!(Selections::of(&often).keys.len(), 1);
        let literal = KeyRef::parse("a/k").ok();
        let one = Sighting { call: Some(CallName::SelectKeypair), literal, ..Sighting::default() };
        assert_eq!(Selections::of(&vec![one; 65]).keys.len(), 1);
    }
}
