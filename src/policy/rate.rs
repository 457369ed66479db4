//! What rules and clients have used: rate windows and totals.

use std::collections::{BTreeMap, VecDeque};

use crate::Policy;

/// Most uses one window may allow: each is remembered while the window lasts.
const MAX_USES: u64 = 100_000;

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
        let units = [("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
        let split = units.iter().find_map(|(unit, ms)| Some((time.strip_suffix(unit)?, *ms)));
        let (count, unit) = split.ok_or(Self::HELP)?;
        let uses = uses.trim().parse::<u64>().map_err(|_| Self::HELP)?;
        let count = count.trim().parse::<u64>().map_err(|_| Self::HELP)?;
        if uses == 0 || uses > MAX_USES {
            return Err("a rate window allows 1 to 100000 uses");
        }
        if count == 0 || count > 366 {
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
#[derive(Debug, Clone, Copy, Default)]
struct Reach {
    uses: usize,
    milliseconds: u64,
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

#[derive(Debug, Default)]
struct Used {
    total: u64,
    /// Milliseconds of the latest uses, oldest first: those that a window may still ask for.
    times: VecDeque<u64>,
    /// The widest windows since the book was opened. It grows only: a policy that is read again by mistake, and
    /// then the right one, forgets nothing.
    reach: Reach,
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
            if allowance.uses == Some(0) {
                return Err((at, Exhausted::Uses));
            }
        }
        for (account, allowance) in charges.iter().filter(|(_, all)| !all.is_boundless()) {
            let used = self.accounts.entry((*account).to_owned()).or_default();
            used.reach = used.reach.or(allowance.reach());
            used.add(now);
            used.trim(now);
        }
        Ok(())
    }

    /// Learns the windows of a policy: so much is remembered of each account from now on.
    pub fn learn(&mut self, policy: &Policy) {
        for (account, allowance) in policy.accounts() {
            if let Some(used) = self.accounts.get_mut(&account) {
                used.reach = used.reach.or(allowance.reach());
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

    /// Counts a use that a record tells of. Nothing is forgotten before all are recalled and the windows
    /// learnt.
    pub fn recall(&mut self, account: &str, at: u64) {
        self.accounts.entry(account.to_owned()).or_default().add(at);
    }

    /// Every account with its total and the times of its latest uses, in Unix milliseconds.
    pub fn accounts(&self) -> impl Iterator<Item = (&str, u64, impl Iterator<Item = u64>)> {
        let all = self.accounts.iter();
        all.map(|(account, used)| (account.as_str(), used.total, used.times.iter().copied()))
    }

    /// Puts back an account as [`RateBook::accounts`] told of it.
    pub fn put_back(&mut self, account: &str, total: u64, times: impl IntoIterator<Item = u64>) {
        let used = Used { total, times: times.into_iter().collect(), reach: Reach::default() };
        self.accounts.insert(account.to_owned(), used);
    }
}

impl Used {
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
        let surplus = self.times.len().saturating_sub(self.reach.uses);
        let past = |at: &u64| at.saturating_add(self.reach.milliseconds) <= now;
        let old = self.times.partition_point(past);
        self.times.drain(..surplus.max(old));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowance(windows: &[&str], uses: Option<u64>) -> Allowance {
        let rate = windows.iter().map(|text| Window::parse(text).unwrap()).collect();
        Allowance { rate, uses }
    }

    #[test]
    fn no_stretch_of_the_window_holds_more_than_its_uses() {
        let allowance = allowance(&["3/1s", "5/1m"], None);
        let mut book = RateBook::default();
        let mut used = Vec::new();
        for now in (0..120_000).step_by(100) {
            if book.charge(&[("c", &allowance)], now).is_ok() {
                used.push(now);
            }
        }
        for (length, most) in [(1_000, 3), (60_000, 5)] {
            for start in 0..120_000 {
                let inside = used.iter().filter(|at| (start..start + length).contains(*at)).count();
                assert!(inside <= most, "{inside} uses from {start}");
            }
        }
        assert_eq!(used.len(), 10, "the windows are used up, not held back");
    }

    #[test]
    fn accounts_are_charged_together_or_not_at_all() {
        let (one, many) = (allowance(&["1/1d"], None), allowance(&["9/1d"], None));
        let mut book = RateBook::default();
        assert_eq!(book.charge(&[("client", &many), ("rule", &one)], 0), Ok(()));
        let refused = Err((1, Exhausted::Rate));
        assert_eq!(book.charge(&[("client", &many), ("rule", &one)], 1), refused);
        let totals: Vec<_> = book.accounts().map(|(name, total, _)| (name, total)).collect();
        assert_eq!(totals, [("client", 1), ("rule", 1)]);
        assert_eq!(book.charge(&[("client", &many), ("other", &one)], 1), Ok(()));
    }

    #[test]
    fn a_total_is_for_ever_and_a_clock_set_back_gives_nothing_back() {
        let three = allowance(&["2/1s"], Some(3));
        let mut book = RateBook::default();
        for (now, expected) in [
            (10_000, Ok(())),
            (10_001, Ok(())),
            (10_002, Err((0, Exhausted::Rate))),
            (5_000, Err((0, Exhausted::Rate))),
            (12_000, Ok(())),
            (99_000_000, Err((0, Exhausted::Uses))),
        ] {
            assert_eq!(book.charge(&[("c", &three)], now), expected, "{now}");
        }
        assert_eq!(
            RateBook::default().charge(&[("c", &allowance(&[], Some(0)))], 1),
            Err((0, Exhausted::Uses))
        );
    }

    #[test]
    fn a_book_that_was_written_down_and_put_back_is_the_same() {
        let some = allowance(&["3/1m"], Some(4));
        let mut book = RateBook::default();
        for now in [1, 2, 3] {
            book.charge(&[("c", &some)], now).unwrap();
        }
        let mut again = RateBook::default();
        for (account, total, times) in book.accounts() {
            again.put_back(account, total, times);
        }
        assert_eq!(again.charge(&[("c", &some)], 4), Err((0, Exhausted::Rate)));
        assert_eq!(again.charge(&[("c", &some)], 60_004), Ok(()));
        assert_eq!(again.charge(&[("c", &some)], 60_005), Err((0, Exhausted::Uses)));
    }

    fn times(book: &RateBook, account: &str) -> usize {
        book.accounts().find(|(name, ..)| *name == account).unwrap().2.count()
    }

    #[test]
    fn no_more_times_are_kept_than_a_window_can_ask_for() {
        let (wide, only_total) = (allowance(&["5/1s", "3/1m"], None), allowance(&[], Some(10_000)));
        let mut book = RateBook::default();
        for now in 0..1_000 {
            let charges = [("wide", &wide), ("total", &only_total)];
            let _refused = book.charge(&charges, now * 10_000);
        }
        assert_eq!((times(&book, "wide"), times(&book, "total")), (3, 0));
        book.trim(1_000 * 10_000 + 60_000);
        assert_eq!(times(&book, "wide"), 0, "a minute later none is asked for");
    }

    /// What a policy says of an account that rates in these windows.
    fn policy(rate: &str) -> Policy {
        let text = format!(
            "version = 1\nservice.name = \"s\"\nanonymous.roles = [\"r\"]\n[[role]]\nname = \"r\"\n\
             allow = [{{ name = \"a\", calls = [\"hash\"], rate = [\"{rate}\"] }}]\n"
        );
        Policy::parse("p", &text).unwrap()
    }

    #[test]
    fn what_is_recalled_is_cut_to_the_windows_of_the_policy_and_to_no_others() {
        const ACCOUNT: &str = "rule r a anonymous";
        let recalled = || {
            let mut book = RateBook::default();
            (0..10).for_each(|at| book.recall(ACCOUNT, at * 1_000));
            book.recall("rule r gone anonymous", 9_000);
            book
        };
        for (rate, kept) in [("3/1h", 3), ("100/5s", 5), ("100/1h", 10)] {
            let mut book = recalled();
            book.learn(&policy(rate));
            book.trim(9_000);
            assert_eq!(times(&book, ACCOUNT), kept, "{rate}");
            assert_eq!(times(&book, "rule r gone anonymous"), 0);
            // A policy that asks for less takes nothing away from the one that asked for more.
            book.learn(&policy("1/1s"));
            book.trim(9_000);
            assert_eq!(times(&book, ACCOUNT), kept, "{rate}");
            assert!(book.accounts().all(|(_, total, _)| total > 0), "totals are for ever");
        }
    }

    #[test]
    fn windows_without_a_unit_or_with_absurd_numbers_are_refused() {
        for bad in ["100", "100/1", "x/1s", "0/1s", "1/0s", "1/x", "1/400d", "99999999/1s", "-1/1s"]
        {
            assert!(Window::parse(bad).is_err(), "{bad}");
        }
    }
}
