//! Rate windows: at most so many uses in any stretch of so many seconds.

use std::collections::{BTreeMap, VecDeque};

/// Most uses one window may allow: each is remembered while the window lasts.
const MAX_USES: u64 = 1_000_000;

/// `"100/1s"`: at most 100 uses in any one second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
        if uses > MAX_USES {
            return Err("a rate window allows at most 1000000 uses");
        }
        if count == 0 || count > 366 {
            return Err("a rate window lasts 1 to 366 of its unit");
        }
        let uses = usize::try_from(uses).map_err(|_| Self::HELP)?;
        Ok(Self { uses, milliseconds: count * unit })
    }
}

/// The uses that rate windows remember, by client and rule.
#[derive(Debug, Default)]
pub struct RateBook {
    /// Milliseconds of each use, oldest first.
    uses: BTreeMap<(String, String), VecDeque<u64>>,
}

impl RateBook {
    /// Counts one use, or refuses it, in which case nothing is counted.
    pub(crate) fn charge(
        &mut self,
        client: &str,
        rule: &str,
        windows: &[Window],
        now: u64,
    ) -> bool {
        let Some(longest) = windows.iter().map(|window| window.milliseconds).max() else {
            return true;
        };
        let uses = self.uses.entry((client.to_owned(), rule.to_owned())).or_default();
        while uses.front().is_some_and(|at| at.saturating_add(longest) <= now) {
            uses.pop_front();
        }
        let fits = windows.iter().all(|window| {
            let start = uses.partition_point(|at| at.saturating_add(window.milliseconds) <= now);
            uses.len() - start < window.uses
        });
        if fits {
            uses.push_back(now);
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_stretch_of_the_window_holds_more_than_its_uses() {
        let windows = [Window::parse("3/1s").unwrap(), Window::parse("5/1m").unwrap()];
        let mut book = RateBook::default();
        let mut used = Vec::new();
        for now in (0..120_000).step_by(100) {
            if book.charge("c", "r", &windows, now) {
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
    fn one_client_does_not_spend_the_rate_of_another() {
        let windows = [Window::parse("1/1d").unwrap()];
        let mut book = RateBook::default();
        assert!(book.charge("a", "r", &windows, 0));
        assert!(!book.charge("a", "r", &windows, 1));
        assert!(book.charge("b", "r", &windows, 1));
    }

    #[test]
    fn windows_without_a_unit_or_with_absurd_numbers_are_refused() {
        for bad in ["100", "100/1", "x/1s", "1/0s", "1/x", "1/400d", "99999999/1s", "-1/1s"] {
            assert!(Window::parse(bad).is_err(), "{bad}");
        }
    }
}
