//! What rules and clients have used: rate windows and totals.

use std::collections::{BTreeMap, VecDeque};

use crate::Policy;
use crate::limits::whole;

/// Most uses one window may allow: each is remembered while the window lasts.
const MAX_USES: u64 = 100_000;
/// Most of its unit that one window may last.
const MAX_UNITS: u64 = 366;
pub(crate) const DAY: u64 = 86_400_000;
/// No window looks further back, in milliseconds.
pub(crate) const LONGEST: u64 = MAX_UNITS * DAY;
/// So many of the latest uses of every account are known, whatever its windows were: one of so many uses or fewer
/// counts right from the moment a policy has it.
pub(crate) const LEAST_KEPT: usize = 100;

/// `"100/1s"`: at most 100 uses in any one second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Window {
    uses: usize,
    milliseconds: u64,
}

impl Window {
    pub(crate) const HELP: &'static str =
        "write uses and a time, such as \"100/1s\" or \"5000/1h\": units are s, m, h, d";

    /// Parses `uses/time`. The error is [`Window::HELP`] or says which number is too large.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let (uses, time) = text.split_once('/').ok_or(Self::HELP)?;
        let units = [("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", DAY)];
        let split = units.iter().find_map(|(unit, ms)| Some((time.strip_suffix(unit)?, *ms)));
        let (count, unit) = split.ok_or(Self::HELP)?;
        let (uses, count) = (whole(uses).ok_or(Self::HELP)?, whole(count).ok_or(Self::HELP)?);
        if uses == 0 || uses > MAX_USES {
            return Err("a rate window allows 1 to 100000 uses");
        }
        if count == 0 || count > MAX_UNITS {
            return Err("a rate window lasts 1 to 366 of its unit");
        }
        let uses = usize::try_from(uses).map_err(|_| Self::HELP)?;
        Ok(Self { uses, milliseconds: count * unit })
    }
}

/// What may be used of one account.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Allowance {
    pub(crate) rate: Vec<Window>,
    /// Most uses in all.
    pub(crate) uses: Option<u64>,
}

impl Allowance {
    pub(crate) fn is_boundless(&self) -> bool {
        self.rate.is_empty() && self.uses.is_none()
    }

    fn reach(&self) -> Reach {
        let uses = self.rate.iter().map(|window| window.uses).max();
        let milliseconds = self.rate.iter().map(|window| window.milliseconds).max();
        Reach { uses: uses.unwrap_or(0), milliseconds: milliseconds.unwrap_or(0) }
    }
}

/// What windows look at: this many of the latest uses, as far back as this.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reach {
    /// Uses.
    pub uses: usize,
    /// How far back.
    pub milliseconds: u64,
}

impl Reach {
    fn or(self, other: Self) -> Self {
        Self {
            uses: self.uses.max(other.uses),
            milliseconds: self.milliseconds.max(other.milliseconds),
        }
    }
}

/// What is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exhausted {
    Rate,
    Uses,
}

/// What was used of every account. An account is a client, or a rule and a client: see
/// [`crate::Permit::accounts`].
#[derive(Debug, Default)]
pub struct RateBook {
    accounts: BTreeMap<String, Used>,
}

/// What was used of one account.
#[derive(Debug, Default)]
pub struct Used {
    total: u64,
    /// Milliseconds of the latest uses, oldest first: those that a window may still ask for.
    times: VecDeque<u64>,
    /// The widest windows that the account ever had. It grows only: under a policy that is read by mistake, and then
    /// the right one, nothing is forgotten. `None` until a policy names the account, or a record tells of it.
    reach: Option<Reach>,
}

impl RateBook {
    /// Counts one use of each of these accounts, or of none when one is exhausted: which, and how.
    pub(crate) fn charge(
        &mut self,
        charges: &[(&str, &Allowance)],
        now: u64,
    ) -> Result<(), (usize, Exhausted)> {
        for (at, (account, allowance)) in charges.iter().enumerate() {
            let used = self.accounts.get_mut(*account);
            if let Some(exhausted) = used.and_then(|used| used.exhausted(allowance, now)) {
                return Err((at, exhausted));
            }
        }
        for (account, allowance) in charges.iter().filter(|(_, all)| !all.is_boundless()) {
            let used = self.accounts.entry((*account).to_owned()).or_default();
            used.learn(allowance);
            used.add(now);
            used.trim(now);
        }
        Ok(())
    }

    /// Learns the windows of a policy: so much is remembered of each account from now on.
    pub fn learn(&mut self, policy: &Policy) {
        for (account, allowance) in policy.accounts() {
            if let Some(used) = self.accounts.get_mut(&account) {
                used.learn(allowance);
            }
        }
    }

    /// Forgets the times that no window looks at any more; totals are for ever, also those of rules and clients
    /// that the policy no longer has.
    pub fn trim(&mut self, now: u64) {
        for used in self.accounts.values_mut() {
            used.trim(now);
            used.times.shrink_to_fit();
        }
    }

    /// Counts a use that a record tells of, and no note. Of the windows in which it was used nothing is known:
    /// everything is remembered that any window could ask for.
    pub fn recall(&mut self, account: &str, at: u64) {
        let used = self.accounts.entry(account.to_owned()).or_default();
        used.add(at);
        let all = Reach { uses: used.times.len(), milliseconds: LONGEST };
        used.reach = Some(used.reach.unwrap_or_default().or(all));
    }

    /// Every account, with what was used of it.
    pub fn accounts(&self) -> impl Iterator<Item = (&str, &Used)> {
        self.accounts.iter().map(|(account, used)| (account.as_str(), used))
    }

    /// Puts back an account as [`RateBook::accounts`] told of it.
    pub fn put_back(
        &mut self,
        account: &str,
        total: u64,
        times: impl IntoIterator<Item = u64>,
        reach: Option<Reach>,
    ) {
        let used = Used { total, times: times.into_iter().collect(), reach };
        self.accounts.insert(account.to_owned(), used);
    }
}

impl Used {
    /// Uses in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The latest uses, in Unix milliseconds.
    pub fn times(&self) -> impl Iterator<Item = u64> {
        self.times.iter().copied()
    }

    /// The widest windows that the account ever had, or may have had.
    #[must_use]
    pub fn reach(&self) -> Option<Reach> {
        self.reach
    }

    fn learn(&mut self, allowance: &Allowance) {
        self.reach = Some(self.reach.unwrap_or_default().or(allowance.reach()));
    }

    fn exhausted(&mut self, allowance: &Allowance, now: u64) -> Option<Exhausted> {
        if allowance.uses.is_some_and(|most| self.total >= most) {
            return Some(Exhausted::Uses);
        }
        self.clamp(now);
        let has_room = |window: &Window| {
            let start =
                self.times.partition_point(|at| at.saturating_add(window.milliseconds) <= now);
            self.times.len() - start < window.uses
        };
        if allowance.rate.iter().all(has_room) { None } else { Some(Exhausted::Rate) }
    }

    /// Uses of a time that is yet to come, by a clock that was set back, are uses of this moment: so
    /// none is forgotten, and none counts for longer than it would.
    fn clamp(&mut self, now: u64) {
        self.times.iter_mut().rev().take_while(|at| **at > now).for_each(|at| *at = now);
    }

    fn add(&mut self, at: u64) {
        self.total = self.total.saturating_add(1);
        self.clamp(at);
        self.times.push_back(at);
        if self.times.len() > usize::try_from(MAX_USES).unwrap_or(usize::MAX) {
            self.times.pop_front();
        }
    }

    fn trim(&mut self, now: u64) {
        let older_than = |age: u64| self.times.partition_point(|at| at.saturating_add(age) <= now);
        let all = self.times.len();
        // What nobody has said the windows of may have had any.
        let unasked = self
            .reach
            .map_or(0, |reach| all.saturating_sub(reach.uses).max(older_than(reach.milliseconds)));
        let gone = unasked.min(all.saturating_sub(LEAST_KEPT)).max(older_than(LONGEST));
        self.times.drain(..gone);
    }
}
