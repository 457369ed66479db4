//! Rates and totals: what is counted, what is kept of it, and across which changes.

use crate::Policy;
use crate::rate::*;

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
    let totals: Vec<_> = book.accounts().map(|(name, used)| (name, used.total())).collect();
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
}

#[test]
fn a_book_that_was_written_down_and_put_back_is_the_same() {
    let some = allowance(&["3/1m"], Some(4));
    let mut book = RateBook::default();
    for now in [1, 2, 3] {
        book.charge(&[("c", &some)], now).unwrap();
    }
    let mut again = RateBook::default();
    for (account, used) in book.accounts() {
        again.put_back(account, used.total(), used.times(), used.reach());
    }
    assert_eq!(again.charge(&[("c", &some)], 4), Err((0, Exhausted::Rate)));
    assert_eq!(again.charge(&[("c", &some)], 60_004), Ok(()));
    assert_eq!(again.charge(&[("c", &some)], 60_005), Err((0, Exhausted::Uses)));
}

fn times(book: &RateBook, account: &str) -> usize {
    book.accounts().find(|(name, _)| *name == account).map_or(0, |(_, used)| used.times().count())
}

#[test]
fn no_more_times_are_kept_than_a_window_can_ask_for_and_a_few() {
    let wide = allowance(&["500/1s", "300/1h"], None);
    let only_total = allowance(&[], Some(10_000));
    let mut book = RateBook::default();
    for now in 0..1_000 {
        let charges = [("wide", &wide), ("total", &only_total)];
        book.charge(&charges, now * 13_000).unwrap();
    }
    // An hour has 277 of them.
    assert_eq!((times(&book, "wide"), times(&book, "total")), (277, LEAST_KEPT));
    book.trim(1_000 * 13_000 + 3_600_000);
    assert_eq!(times(&book, "wide"), LEAST_KEPT, "an hour later");
    book.trim(1_000 * 13_000 + LONGEST);
    assert_eq!((times(&book, "wide"), times(&book, "total")), (0, 0), "a year later");
}

const ACCOUNT: &str = "rule r a anonymous";

/// What a policy says of an account that rates in these windows.
fn policy(rate: &str) -> Policy {
    let text = format!(
        "version = 1\nservice.name = \"s\"\nanonymous.roles = [\"r\"]\n[[role]]\nname = \"r\"\n\
         allow = [{{ name = \"a\", calls = [\"hash\"], rate = [\"{rate}\"] }}]\n"
    );
    Policy::parse("p", &text).unwrap()
}

#[test]
fn what_only_the_log_tells_of_is_cut_to_no_windows_and_ends_with_the_year() {
    for rate in ["300/1h", "1000/1d", "3/1s"] {
        let mut book = RateBook::default();
        (0..1_000).for_each(|at| book.recall(ACCOUNT, at * 1_000));
        (0..300).for_each(|_| book.recall("rule r gone anonymous", 9_000));
        book.learn(&policy(rate));
        book.trim(999_000);
        // It may have been used in windows that no note has yet.
        let kept = |book: &_| (times(book, ACCOUNT), times(book, "rule r gone anonymous"));
        assert_eq!(kept(&book), (1_000, 300), "{rate}");
        book.trim(999_000 + LONGEST);
        assert_eq!(kept(&book), (0, 0), "{rate}");
        assert!(book.accounts().all(|(_, used)| used.total() > 0), "totals are for ever");
    }
}

#[test]
fn what_is_recalled_is_bounded_as_what_windows_ask_for() {
    let mut book = RateBook::default();
    (0..100_100).for_each(|at| book.recall(ACCOUNT, at));
    let most = Reach { uses: 100_000, milliseconds: LONGEST };
    let used = book.accounts().next().unwrap().1;
    assert_eq!((used.total(), used.times().count(), used.reach()), (100_100, 100_000, Some(most)));
}

/// The note has no windows yet, or those that were before; the log has every use.
#[test]
fn a_crash_and_a_start_under_narrower_windows_or_without_the_rule_give_no_use_back() {
    let day = allowance(&["150/1d"], None);
    let (narrow, without) = (policy("1/1s"), nothing());
    for noted in [None, Some(Reach { uses: 1, milliseconds: 1_000 })] {
        for between in [&narrow, &without] {
            let mut book = RateBook::default();
            if noted.is_some() {
                book.put_back(ACCOUNT, 20, 0..20, noted);
            }
            let known = times(&book, ACCOUNT);
            (known..149).for_each(|_| book.recall(ACCOUNT, 60_000));
            book.learn(between);
            book.trim(3_600_000);
            let book = after_a_start(&book, between, 3_600_000);
            let mut book = after_a_start(&book, &policy("150/1d"), 3_600_000);
            assert_eq!(book.charge(&[(ACCOUNT, &day)], 3_600_000), Ok(()));
            let refused = Err((0, Exhausted::Rate));
            assert_eq!(book.charge(&[(ACCOUNT, &day)], 3_600_000), refused, "{noted:?}");
        }
    }
}

fn nothing() -> Policy {
    Policy::parse("p", "version = 1\nservice.name = \"s\"\n").unwrap()
}

/// The book of the next process, which has the note of the last.
fn after_a_start(book: &RateBook, under: &Policy, now: u64) -> RateBook {
    let mut next = RateBook::default();
    for (account, used) in book.accounts() {
        next.put_back(account, used.total(), used.times(), used.reach());
    }
    next.learn(under);
    next.trim(now);
    next
}

#[test]
fn a_start_under_a_policy_without_the_rule_or_with_narrower_windows_forgets_no_use() {
    let stranger = policy("1/1s");
    let without = nothing();
    for most in [2, 1_000] {
        let day = allowance(&[&format!("{most}/1d")], None);
        let mut book = RateBook::default();
        (0..most).for_each(|now| book.charge(&[(ACCOUNT, &day)], now).unwrap());
        for between in [&stranger, &without] {
            let book = after_a_start(&book, between, 3_600_000);
            let mut book = after_a_start(&book, &policy(&format!("{most}/1d")), 3_600_000);
            let refused = Err((0, Exhausted::Rate));
            assert_eq!(book.charge(&[(ACCOUNT, &day)], 3_600_000), refused, "{most}");
            assert_eq!(book.charge(&[(ACCOUNT, &day)], DAY), Ok(()));
        }
    }
}

#[test]
fn a_window_that_is_made_longer_counts_what_was_used_in_the_shorter() {
    let mut book = RateBook::default();
    let (short, long) = (allowance(&["2/1s"], None), allowance(&["2/1d"], None));
    for now in [0, 2_000] {
        book.charge(&[(ACCOUNT, &short)], now).unwrap();
    }
    assert_eq!(book.charge(&[(ACCOUNT, &long)], 4_000), Err((0, Exhausted::Rate)));
}

#[test]
fn windows_without_a_unit_or_with_absurd_numbers_are_refused() {
    for bad in ["100", "100/1", "x/1s", "0/1s", "1/0s", "1/x", "1/400d", "99999999/1s", "-1/1s"] {
        assert!(Window::parse(bad).is_err(), "{bad}");
    }
}
