//! When a rule holds: hours of some days of the week, in a time zone.

use jiff::civil::Weekday;
use jiff::tz::TimeZone;

const DAY_NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Hours of some days: `"mon-fri 06:00-20:00 Europe/Berlin"`.
#[derive(Debug, Clone)]
pub(crate) struct Hours {
    /// Minutes from midnight; the end is outside. Where it is before the start, it is of the day after.
    from: u16,
    to: u16,
    /// The days on which such hours begin, Monday first.
    days: [bool; 7],
    zone: TimeZone,
}

impl Hours {
    pub(crate) const HELP: &'static str = "write it as \"06:00-20:00\" or \"mon-fri 06:00-20:00 Europe/Berlin\"; without a zone it is UTC";

    /// Parses `[days] from-to [zone]`. The error says how to write it.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let words: Vec<&str> = text.split(' ').collect();
        let (days, hours, zone) = match words.as_slice() {
            [hours] => (None, hours, None),
            [first, second] if first.contains(':') => (None, first, Some(second)),
            [days, hours] => (Some(days), hours, None),
            [days, hours, zone] => (Some(days), hours, Some(zone)),
            _ => return Err(Self::HELP),
        };
        let (from, to) = hours.split_once('-').ok_or(Self::HELP)?;
        let (from, to) = (minute(from).ok_or(Self::HELP)?, minute(to).ok_or(Self::HELP)?);
        if from == 24 * 60 {
            return Err("no hours begin at 24:00: write `00:00`, and the days on which that is");
        }
        if from == to {
            return Err("these hours have no length: leave `between` out to mean the whole day");
        }
        let days = days.map_or(Some([true; 7]), |days| read_days(days)).ok_or(Self::HELP)?;
        let zone = match zone {
            None => TimeZone::UTC,
            // The one of that name stands for a zone that is not known.
            Some(name) => TimeZone::get(name)
                .ok()
                .filter(|zone| !zone.is_unknown())
                .ok_or("no time zone of that name: write one such as `Europe/Berlin`")?,
        };
        Ok(Self { from, to, days, zone })
    }

    /// Whether `now`, in Unix milliseconds, lies within.
    pub(crate) fn hold_at(&self, now: u64) -> bool {
        let now =
            i64::try_from(now).ok().and_then(|now| jiff::Timestamp::from_millisecond(now).ok());
        // A time that no calendar has is in nobody's hours.
        let Some(now) = now.map(|now| now.to_zoned(self.zone.clone())) else { return false };
        let minute = i32::from(now.hour()) * 60 + i32::from(now.minute());
        let (from, to) = (i32::from(self.from), i32::from(self.to));
        let begins = |weekday: Weekday| {
            let day = usize::try_from(weekday.to_monday_zero_offset()).unwrap_or_default();
            self.days.get(day) == Some(&true)
        };
        let today = now.weekday();
        if from < to {
            begins(today) && (from..to).contains(&minute)
        } else {
            (begins(today) && minute >= from) || (begins(today.previous()) && minute < to)
        }
    }
}

/// `mon`, `mon-fri` or `mon,wed,sat-sun`.
fn read_days(text: &str) -> Option<[bool; 7]> {
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let place = |name: &str| DAY_NAMES.iter().position(|day| *day == name);
        let (mut at, last) = (place(first)?, place(last)?);
        loop {
            *days.get_mut(at)? = true;
            if at == last {
                break;
            }
            at = (at + 1) % 7;
        }
    }
    Some(days)
}

/// `06:30` as minutes from midnight; `24:00` is the end of the day.
fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let two = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
    if !two(hours) || !two(minutes) {
        return None;
    }
    let (hours, minutes) = (hours.parse::<u16>().ok()?, minutes.parse::<u16>().ok()?);
    let is_end = hours == 24 && minutes == 0;
    (is_end || (hours < 24 && minutes < 60)).then_some(hours * 60 + minutes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(hours: &str, instant: &str) -> bool {
        let at: jiff::Timestamp = instant.parse().unwrap();
        Hours::parse(hours).unwrap().hold_at(at.as_millisecond().try_into().unwrap())
    }

    #[test]
    fn hours_hold_from_their_first_minute_to_before_their_last() {
        for (hours, instant, expected) in [
            ("06:00-20:00", "2026-11-23T05:59:59Z", false),
            ("06:00-20:00", "2026-11-23T06:00:00Z", true),
            ("06:00-20:00", "2026-11-23T19:59:59Z", true),
            ("06:00-20:00", "2026-11-23T20:00:00Z", false),
            ("00:00-24:00", "2026-11-23T23:59:59Z", true),
            ("22:00-04:00", "2026-11-23T21:59:00Z", false),
            ("22:00-04:00", "2026-11-23T22:00:00Z", true),
            ("22:00-04:00", "2026-11-24T03:59:00Z", true),
            ("22:00-04:00", "2026-11-24T04:00:00Z", false),
        ] {
            assert_eq!(hold(hours, instant), expected, "{hours} {instant}");
        }
    }

    #[test]
    fn a_night_belongs_to_the_day_on_which_it_begins() {
        // 2026-11-27 is a Friday.
        for (instant, expected) in [
            ("2026-11-27T21:00:00Z", false),
            ("2026-11-27T23:00:00Z", true),
            ("2026-11-28T03:00:00Z", true),
            ("2026-11-28T23:00:00Z", false),
            ("2026-11-27T03:00:00Z", false),
        ] {
            assert_eq!(hold("fri 22:00-04:00", instant), expected, "{instant}");
        }
        assert!(hold("sat-mon,wed 00:00-24:00", "2026-11-29T12:00:00Z"));
        assert!(!hold("sat-mon,wed 00:00-24:00", "2026-11-24T12:00:00Z"));
    }

    #[test]
    fn a_zone_has_its_own_noon_in_summer_and_in_winter() {
        let hours = "12:00-13:00 Europe/Berlin";
        assert!(hold(hours, "2026-07-01T10:30:00Z") && !hold(hours, "2026-07-01T11:30:00Z"));
        assert!(hold(hours, "2026-12-01T11:30:00Z") && !hold(hours, "2026-12-01T10:30:00Z"));
        assert!(hold("mon 00:00-01:00 Asia/Tokyo", "2026-11-22T15:30:00Z"));
    }

    #[test]
    fn what_is_not_hours_is_refused() {
        for bad in [
            "",
            "06:00",
            "6:00-20:00",
            "06:00-24:01",
            "06:00-06:00",
            "24:00-06:00",
            "06:60-07:00",
            "mo 06:00-07:00",
            "mon- 06:00-07:00",
            "06:00-07:00 Mars/Olympus",
            "06:00-07:00  UTC",
            "mon 06:00-07:00 UTC x",
            "06:00 - 07:00",
        ] {
            assert!(Hours::parse(bad).is_err(), "{bad}");
        }
    }
}
