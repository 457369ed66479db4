//! Authority as a value that is spent: a decision allows with a [`Grant`], spending it gives a
//! [`Permit`], and using a key consumes the permit.

use wire::{CallName, KeyPath, Name};

use crate::decide::{Act, Refusal};
use crate::rate::{RateBook, Window};
use crate::{Caller, Rule};

/// What an act is done to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// No stored key.
    Nothing,
    /// A key space as a whole.
    Space(Name),
    /// One key.
    Key(KeyPath),
}

/// The terms on which a decision allowed one act.
#[derive(Debug)]
#[must_use]
pub struct Grant {
    client: String,
    rule: String,
    line: usize,
    act: Act,
    message_max: Option<u64>,
    rate: Vec<Window>,
    now: u64,
}

/// Leave to do one act, once. Only [`Grant::spend`] makes one, and doing the act consumes it.
#[derive(Debug)]
#[must_use]
pub struct Permit {
    act: Act,
    rule: String,
    line: usize,
}

impl Grant {
    pub(crate) fn new(caller: &Caller, rule: &Rule, act: Act, now: u64) -> Self {
        Self {
            client: caller.name.clone(),
            rule: rule.name.clone(),
            line: rule.line,
            act,
            message_max: rule.message_max,
            rate: rule.rate.clone(),
            now,
        }
    }

    /// Spends the grant on a message of this length.
    ///
    /// # Errors
    /// The [`Refusal`] when the message or the rate does not fit the rule's terms.
    pub fn spend(self, message_bytes: u64, book: &mut RateBook) -> Result<Permit, Refusal> {
        let Self { client, rule, line, act, message_max, rate, now } = self;
        if let Some(max) = message_max.filter(|max| message_bytes > *max) {
            return Err(Refusal::MessageTooLong { bytes: message_bytes, max, rule, line });
        }
        if !book.charge(&client, &rule, &rate, now) {
            return Err(Refusal::RateUsedUp { rule, line });
        }
        Ok(Permit { act, rule, line })
    }
}

impl Permit {
    /// The host function that may be done.
    #[must_use]
    pub fn call(&self) -> CallName {
        self.act.call
    }

    /// What it may be done to.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.act.target
    }

    /// The rule that allowed it, with its line.
    #[must_use]
    pub fn rule(&self) -> (&str, usize) {
        (&self.rule, self.line)
    }
}
