//! The terms of a rule: what must hold of an act beside its call and its key.

use sha2::{Digest, Sha256};
use wire::{Algorithm, CallName, Touches};

use crate::decide::{Act, Facts};
use crate::foresight::Known;
use crate::glob::Glob;
use crate::grant::Target;
use crate::moment::Hours;

/// The terms of a rule. Of each kind that is there, one entry must hold.
#[derive(Debug, Default)]
pub(crate) struct Terms {
    pub(crate) between: Option<Hours>,
    /// Unix seconds at which the rule ends.
    pub(crate) expires: Option<u64>,
    pub(crate) message_max: Option<u64>,
    pub(crate) prefixes: Vec<Vec<u8>>,
    pub(crate) likes: Vec<Glob>,
    pub(crate) digests: Vec<[u8; 32]>,
    pub(crate) namespaces: Vec<Glob>,
    pub(crate) algorithms: Vec<Algorithm>,
}

/// Whether the terms of a rule hold when a call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Foreseen {
    /// Whatever happens until then.
    Always,
    /// That is seen then.
    Perhaps,
    /// Not for this call, for this term.
    Never(Unmet),
}

/// The term that does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unmet {
    /// The script is none of those that the role is for.
    #[error("is for other scripts")]
    Script,
    /// The rule has ended.
    #[error("has expired")]
    Expired,
    /// The rule does not hold now.
    #[error("does not hold at this time")]
    Hours,
    /// The message is longer than this.
    #[error("allows messages of at most {max} bytes")]
    MessageMax {
        /// In bytes.
        max: u64,
    },
    /// The message begins otherwise.
    #[error("is for messages that begin otherwise")]
    MessagePrefix,
    /// The message matches none of the patterns.
    #[error("is for messages of another form")]
    MessageLike,
    /// The message is none of those that are listed.
    #[error("is for other messages")]
    MessageDigest,
    /// The namespace is none of those that are listed.
    #[error("is for other namespaces")]
    Namespace,
    /// The key is of another algorithm.
    #[error("is for keys of another algorithm")]
    Algorithm,
}

impl Unmet {
    /// Whether it is known not to hold, rather than not known to hold.
    pub(crate) fn is_known(self, facts: &Facts<'_>) -> bool {
        match self {
            Self::Script | Self::Expired | Self::Hours => true,
            Self::MessageMax { .. }
            | Self::MessagePrefix
            | Self::MessageLike
            | Self::MessageDigest => facts.message.is_some(),
            Self::Namespace => facts.namespace.is_some(),
            Self::Algorithm => facts.algorithm.is_some(),
        }
    }
}

impl Terms {
    /// The first term that does not hold.
    pub(crate) fn unmet(&self, act: &Act, facts: &Facts<'_>) -> Option<Unmet> {
        self.all_unmet(act, facts).next()
    }

    /// The terms that do not hold, of each kind one. A fact that a term needs and nobody told does not.
    pub(crate) fn all_unmet<'a>(
        &'a self,
        act: &Act,
        facts: &Facts<'a>,
    ) -> impl Iterator<Item = Unmet> + use<'a> {
        let has_ended = self.have_ended(facts.now / 1000);
        let is_out_of_hours = self.between.as_ref().is_some_and(|hours| !hours.hold_at(facts.now));
        let is_among = |algorithm| self.algorithms.contains(&algorithm);
        let is_other_algorithm = matches!(act.target, Target::Key(_))
            && !self.algorithms.is_empty()
            && !facts.algorithm.is_some_and(is_among);
        let is_other_namespace =
            !self.namespaces.is_empty() && !facts.namespace.is_some_and(|name| self.name(name));
        let (takes_message, message) = (act.call.takes_message(), facts.message);
        // A message may be long: it is looked at last, and only if that is asked for.
        let by_message = std::iter::once_with(move || match message {
            _ if !takes_message => None,
            Some(message) => self.unmet_by_message(message),
            None => self.look_at_messages().then_some(Unmet::MessageLike),
        });
        let others = [
            has_ended.then_some(Unmet::Expired),
            is_out_of_hours.then_some(Unmet::Hours),
            is_other_algorithm.then_some(Unmet::Algorithm),
            is_other_namespace.then_some(Unmet::Namespace),
        ];
        others.into_iter().chain(by_message).flatten()
    }

    /// What can be said of the terms before a call, by what is known of it then.
    pub(crate) fn foreseen(&self, act: &Act, known: Known<'_>) -> Foreseen {
        if known.now.is_some_and(|now| self.have_ended(now)) {
            return Foreseen::Never(Unmet::Expired);
        }
        if !self.namespaces.is_empty() && known.namespace.is_some_and(|name| !self.name(name)) {
            return Foreseen::Never(Unmet::Namespace);
        }
        let is_other = |algorithm| !self.algorithms.contains(&algorithm);
        if !self.algorithms.is_empty() && known.algorithm.is_some_and(is_other) {
            return Foreseen::Never(Unmet::Algorithm);
        }
        let message = known.message.filter(|_| act.call.takes_message());
        if let Some(unmet) = message.and_then(|message| self.unmet_by_message(message)) {
            return Foreseen::Never(unmet);
        }
        let is_open = self.between.is_some()
            || self.expires.is_some()
            || (!self.namespaces.is_empty() && known.namespace.is_none())
            || (!self.algorithms.is_empty()
                && act.call.touches() == Touches::Key
                && known.own_key != Some(true)
                && known.algorithm.is_none())
            || (self.look_at_messages() && act.call.takes_message() && message.is_none());
        if is_open { Foreseen::Perhaps } else { Foreseen::Always }
    }

    fn name(&self, namespace: &str) -> bool {
        self.namespaces.iter().any(|glob| glob.matches(namespace.as_bytes()))
    }

    fn unmet_by_message(&self, message: &[u8]) -> Option<Unmet> {
        let bytes = u64::try_from(message.len()).unwrap_or(u64::MAX);
        if let Some(max) = self.message_max.filter(|max| bytes > *max) {
            return Some(Unmet::MessageMax { max });
        }
        let begins = |prefix: &Vec<u8>| message.starts_with(prefix);
        if !self.prefixes.is_empty() && !self.prefixes.iter().any(begins) {
            return Some(Unmet::MessagePrefix);
        }
        if !self.likes.is_empty() && !self.likes.iter().any(|glob| glob.matches(message)) {
            return Some(Unmet::MessageLike);
        }
        let is_listed = || self.digests.contains(&Sha256::digest(message).into());
        if !self.digests.is_empty() && !is_listed() {
            return Some(Unmet::MessageDigest);
        }
        None
    }

    /// Whether the rule has ended at `now`, in Unix seconds.
    pub(crate) fn have_ended(&self, now: u64) -> bool {
        self.expires.is_some_and(|at| now >= at)
    }

    /// The terms that bear on a call, be it on a stored key or not, in one order whatever order they stand in.
    pub(crate) fn written_for(&self, call: CallName, is_stored: bool) -> String {
        let mut written = String::new();
        let mut add = |what: &dyn std::fmt::Debug| written.push_str(&format!("{what:?};"));
        add(&self.between);
        add(&self.expires);
        let sorted = |list: &[Glob]| {
            let mut list = list.to_vec();
            list.sort();
            list
        };
        if call.takes_message() {
            let (mut prefixes, mut digests) = (self.prefixes.clone(), self.digests.clone());
            prefixes.sort();
            digests.sort_unstable();
            add(&(self.message_max, prefixes, sorted(&self.likes), digests));
        }
        // Only a rule of `sign_in` alone may have these.
        add(&sorted(&self.namespaces));
        if is_stored && call.touches() == Touches::Key {
            let mut algorithms = self.algorithms.clone();
            algorithms.sort_unstable();
            add(&algorithms);
        }
        written
    }

    /// Whether no term bears on a call, be it on a stored key or not.
    pub(crate) fn are_none_for(&self, call: CallName, is_stored: bool) -> bool {
        let has_times = self.between.is_some() || self.expires.is_some();
        let on_messages = call.takes_message() && self.look_at_messages();
        let on_keys = is_stored && call.touches() == Touches::Key && !self.algorithms.is_empty();
        !has_times && !on_messages && !on_keys && self.namespaces.is_empty()
    }

    /// Whether the longest message that they allow is shorter than each form that they ask for.
    pub(crate) fn take_no_message(&self) -> bool {
        let is_too_long = |bytes: usize| {
            self.message_max.is_some_and(|max| u64::try_from(bytes).is_ok_and(|bytes| bytes > max))
        };
        let prefix = self.prefixes.iter().map(Vec::len).min();
        let like = self.likes.iter().map(Glob::literal_bytes).min();
        prefix.is_some_and(is_too_long) || like.is_some_and(is_too_long)
    }

    /// Whether some term looks at the message.
    pub(crate) fn look_at_messages(&self) -> bool {
        let lists = [self.prefixes.len(), self.likes.len(), self.digests.len()];
        self.message_max.is_some() || lists.iter().any(|entries| *entries > 0)
    }
}
