//! Authority as a value that is spent: a decision allows with a [`Grant`], spending it gives a
//! [`Permit`], and using a key consumes the permit.

use wire::{CallName, KeyPath, Name};

use crate::decide::{Act, Refusal};
use crate::rate::{Allowance, Exhausted, RateBook};
use crate::recipient::Recipient;
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
    act: Act,
    client: Account,
    /// The rules that allow it, in an order that does not come from the file; never empty.
    offers: Vec<Offer>,
    now: u64,
}

/// A rule that allows.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Offer {
    allowance: Allowance,
    account: String,
    rule: String,
    line: usize,
    recipients: Vec<Recipient>,
}

#[derive(Debug)]
struct Account {
    name: String,
    account: String,
    allowance: Allowance,
}

/// Leave to do one act, once. Only [`Grant::spend`] makes one, and doing the act consumes it.
#[derive(Debug)]
#[must_use]
pub struct Permit {
    act: Act,
    rule: String,
    line: usize,
    accounts: Vec<String>,
    recipients: Vec<Recipient>,
}

/// The account of what one client uses of one rule.
pub(crate) fn account_of_rule(rule: &Rule, client: &str) -> String {
    format!("{} {client}", rule.identity)
}

/// The account of everything that a client uses.
pub(crate) fn account_of_client(client: &str) -> String {
    format!("client {client}")
}

impl Offer {
    pub(crate) fn new(caller: &Caller, rule: &Rule, call: CallName) -> Self {
        Self {
            allowance: rule.allowance.clone(),
            account: account_of_rule(rule, &caller.name),
            rule: rule.name.clone(),
            line: rule.line,
            recipients: rule.recipients_of(call).to_vec(),
        }
    }
}

impl Grant {
    pub(crate) fn new(caller: &Caller, act: Act, mut offers: Vec<Offer>, now: u64) -> Self {
        // What costs nothing comes first.
        offers.sort();
        let name = caller.name.clone();
        let client = Account {
            account: account_of_client(&name),
            name,
            allowance: caller.allowance.clone(),
        };
        Self { act, client, offers, now }
    }

    /// The rule that allows it, with its line, before anything is counted.
    #[must_use]
    pub fn rule(&self) -> (&str, usize) {
        self.offers.first().map_or(("", 0), |offer| (&offer.rule, offer.line))
    }

    /// To whom it would let keys be exported: all rules that allow it say the same.
    #[must_use]
    pub fn recipients(&self) -> &[Recipient] {
        self.offers.first().map_or(&[], |offer| &offer.recipients)
    }

    /// The same grant, to be spent at this moment, in Unix milliseconds, instead of that of the decision.
    pub fn at(self, now: u64) -> Self {
        Self { now, ..self }
    }

    /// Spends the grant: counts a use of the client and of the first rule that has one left.
    ///
    /// # Errors
    /// The [`Refusal`] when there is none; then nothing was counted.
    pub fn spend(self, book: &mut RateBook) -> Result<Permit, Refusal> {
        let Self { act, client, offers, now } = self;
        let mut refusal = Refusal::NoRule { act: act.clone() };
        for (at, offer) in offers.into_iter().enumerate() {
            let charges =
                [(&*client.account, &client.allowance), (&*offer.account, &offer.allowance)];
            let (account, exhausted) = match book.charge(&charges, now) {
                Ok(()) => {
                    let charged = charges.iter().filter(|(_, all)| !all.is_boundless());
                    let accounts = charged.map(|(account, _)| (*account).to_owned()).collect();
                    let Offer { rule, line, recipients, .. } = offer;
                    return Ok(Permit { act, rule, line, accounts, recipients });
                }
                Err((0, exhausted)) => (format!("the client `{}`", client.name), exhausted),
                Err((_, exhausted)) => (format!("{} (line {})", offer.rule, offer.line), exhausted),
            };
            if at == 0 {
                refusal = match exhausted {
                    Exhausted::Rate => Refusal::RateUsedUp { account },
                    Exhausted::Uses => Refusal::UsesUsedUp { account },
                };
            }
        }
        Err(refusal)
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

    /// To whom keys may be exported: nobody, unless that is the act.
    #[must_use]
    pub fn recipients(&self) -> &[Recipient] {
        &self.recipients
    }

    /// The accounts of the [`RateBook`] that were charged for it.
    #[must_use]
    pub fn accounts(&self) -> &[String] {
        &self.accounts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Decision, Facts, Policy};

    #[test]
    fn a_use_counts_from_when_it_is_spent_however_long_ago_it_was_decided() {
        let text = "version = 1\nservice.name = \"s\"\nanonymous.roles = [\"r\"]\n[[role]]\nname = \"r\"\n\
                    allow = [{ calls = [\"hash\"], rate = [\"1/1s\"] }]";
        let policy = Policy::parse("p.toml", text).unwrap();
        let decided = |now| {
            let act = Act { call: CallName::Hash, target: Target::Nothing };
            let facts = Facts { now, ..Facts::default() };
            match policy.decide(&policy.anonymous().unwrap(), act, &facts) {
                Decision::Allow(grant) => grant,
                Decision::Refuse(refusal) => panic!("{refusal}"),
            }
        };
        let mut book = RateBook::default();
        let (early, late) = (decided(0), decided(0));
        assert!(early.at(5_000).spend(&mut book).is_ok());
        assert!(late.at(5_999).spend(&mut book).is_err());
        assert!(decided(5_999).spend(&mut book).is_err(), "it was used at 5000");
        assert!(decided(6_000).spend(&mut book).is_ok());
    }
}
