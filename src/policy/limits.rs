//! The numbers that bound a script.

use std::collections::BTreeMap;

macro_rules! bounds {
    ($($(#[doc = $doc:literal])+ $bound:ident $field:ident: $unit:ident = $default:expr, max $max:expr;)+) => {
        /// The bounds of one script.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Limits { $($(#[doc = $doc])+ pub $field: u64,)+ }

        /// One of the bounds.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Bound { $($bound,)+ }

        impl Bound {
            pub(crate) const ALL: &'static [Bound] = &[$(Bound::$bound,)+];

            /// Its name in a policy file.
            pub(crate) fn key(self) -> &'static str {
                match self { $(Bound::$bound => stringify!($field),)+ }
            }
            pub(crate) fn unit(self) -> Unit {
                match self { $(Bound::$bound => Unit::$unit,)+ }
            }
            /// The largest value a policy may set.
            pub(crate) fn ceiling(self) -> u64 {
                match self { $(Bound::$bound => $max,)+ }
            }
        }

        impl Limits {
            pub(crate) fn documented() -> Self { Self { $($field: $default,)+ } }

            pub(crate) fn slot(&mut self, bound: Bound) -> &mut u64 {
                match bound { $(Bound::$bound => &mut self.$field,)+ }
            }
        }
    };
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

bounds! {
    /// Length of the script, in bytes. At most what one NATS message holds by default.
    Script script: Bytes = 64 * KIB, max MIB;
    /// Steps of the engine.
    Operations operations: Count = 1_000_000, max 1_000_000_000_000;
    /// Memory that the script holds at once, in bytes.
    Memory memory: Bytes = 16 * MIB, max 1024 * MIB;
    /// Time from start to end, in milliseconds.
    WallClock wall_clock: Milliseconds = 1_000, max 60_000;
    /// Levels of function calls. The engine uses native stack for each.
    CallDepth call_depth: Count = 32, max 64;
    /// Calls of host functions.
    HostCalls host_calls: Count = 1_000, max 1_000_000;
    /// Keys and key spaces made.
    NewKeys new_keys: Count = 16, max 10_000;
    /// Bytes that `print` writes.
    Output output: Bytes = 64 * KIB, max MIB;
    /// Bytes of the script's value.
    Result result: Bytes = 64 * KIB, max MIB;
    /// Scripts that run at once. Each is a process.
    Concurrent concurrent: Count = 8, max 64;
}

/// In what a bound is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Bytes,
    Count,
    Milliseconds,
}

impl Limits {
    /// Of each bound the smaller.
    pub(crate) fn lowered_by(mut self, lower: &BTreeMap<Bound, u64>) -> Self {
        for (bound, value) in lower {
            let slot = self.slot(*bound);
            *slot = (*slot).min(*value);
        }
        self
    }
}

/// `"64 KiB"` as bytes, `"250 ms"` as milliseconds. The error says how to write it.
pub(crate) fn parse_measure(text: &str, unit: Unit) -> Result<u64, &'static str> {
    let (units, help): (&[(&str, u64)], _) = match unit {
        Unit::Bytes => (
            &[("KiB", KIB), ("MiB", MIB), ("GiB", 1024 * MIB), ("B", 1)],
            "write a size such as \"64 KiB\": units are B, KiB, MiB, GiB",
        ),
        Unit::Milliseconds => (
            &[("ms", 1), ("s", 1_000)],
            "write a duration such as \"250 ms\" or \"1 s\": units are ms and s",
        ),
        Unit::Count => (&[], "write a whole number without quotes"),
    };
    let text = text.trim();
    for (suffix, factor) in units {
        let Some(number) = text.strip_suffix(suffix) else {
            continue;
        };
        if let Some(number) = whole(number.trim_end()) {
            return number.checked_mul(*factor).ok_or(help);
        }
    }
    Err(help)
}

/// A number of digits alone, without a sign.
pub(crate) fn whole(digits: &str) -> Option<u64> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then_some(digits)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_are_read_with_their_unit_or_not_at_all() {
        assert_eq!(parse_measure("64 KiB", Unit::Bytes), Ok(65_536));
        assert_eq!(parse_measure("1B", Unit::Bytes), Ok(1));
        assert_eq!(parse_measure("250 ms", Unit::Milliseconds), Ok(250));
        assert_eq!(parse_measure("2 s", Unit::Milliseconds), Ok(2_000));
        for bad in ["64", "64 KB", "-1 B", "1.5 MiB", "", "99999999999999999999 B", "B"] {
            assert!(parse_measure(bad, Unit::Bytes).is_err(), "{bad}");
        }
        assert!(parse_measure("18446744073709551615 GiB", Unit::Bytes).is_err());
        assert!(parse_measure("1 m", Unit::Milliseconds).is_err());
    }
}
