//! Policies made at random: as data that the oracle reads, and as the text that is parsed.

use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use sha2::{Digest, Sha256};
use wire::{Algorithm, CallName, Touches};

use crate::Recipient;
use crate::tests::{OTHER, USER};

/// Moments in Unix milliseconds. The epoch is a Thursday: 00:00, 08:00, 13:00, 23:00, and Friday at 02:00.
pub(super) const TIMES: [u64; 5] = [0, 28_800_000, 46_800_000, 82_800_000, 93_600_000];
/// A part of the week, and at which of [`TIMES`] it is that time, worked out by hand.
pub(super) const HOURS: [(&str, [bool; 5]); 7] = [
    ("06:00-18:00", [false, true, true, false, false]),
    ("08:00-13:00", [false, true, false, false, false]),
    ("thu 22:00-03:00", [false, false, false, true, true]),
    ("fri-sun 00:00-24:00", [false, false, false, false, true]),
    ("mon,tue 00:00-24:00", [false, false, false, false, false]),
    ("09:00-10:00 Europe/Berlin", [false, true, false, false, false]),
    ("00:00-24:00", [true, true, true, true, true]),
];
const ENDS: [u64; 3] = [43_200, 93_600, 200_000];
pub(super) const MESSAGES: [&str; 6] = ["", "a", "b", "ab", "ba", "bab"];
/// As a policy writes it, and the bytes that it means.
const PREFIXES: [(&str, &str); 3] = [("a", "a"), ("hex:62", "b"), ("ba", "ba")];
const LIKES: [&str; 4] = ["*b", "a*", "b*b", "ab"];
const NAMESPACES: [&str; 4] = ["n", "n*", "*-x", "m"];
pub(super) const ALGORITHMS: [Algorithm; 3] =
    [Algorithm::Ed25519, Algorithm::Secp256k1, Algorithm::P256];
pub(super) const SCRIPTS: [&str; 3] = ["1", "2", "3"];
const CLIENTS: [(&str, &str); 2] = [("c0", USER), ("c1", OTHER)];

/// A policy.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) roles: Vec<Role>,
    pub(super) clients: Vec<Client>,
    /// Roles by name.
    pub(super) anonymous: Option<Vec<String>>,
}

#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) name: &'static str,
    pub(super) nkey: &'static str,
    pub(super) roles: Vec<String>,
    pub(super) expires: Option<u64>,
    pub(super) is_revoked: bool,
    /// Uses in an hour.
    pub(super) rate: Option<usize>,
}

#[derive(Debug, Clone)]
pub(super) struct Role {
    pub(super) name: String,
    pub(super) scripts: Vec<&'static str>,
    pub(super) allow: Vec<Line>,
    pub(super) deny: Vec<Line>,
}

/// A rule.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) label: Option<usize>,
    pub(super) calls: Vec<&'static str>,
    pub(super) keys: Option<Vec<String>>,
    pub(super) exports: bool,
    pub(super) terms: Terms,
}

/// What an empty list or `None` stands for is not written.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    pub(super) max: Option<usize>,
    pub(super) prefixes: Vec<(&'static str, &'static str)>,
    pub(super) likes: Vec<&'static str>,
    /// The messages, not their digests.
    pub(super) digests: Vec<&'static str>,
    pub(super) namespaces: Vec<&'static str>,
    pub(super) algorithms: Vec<Algorithm>,
    /// The place in [`HOURS`].
    pub(super) hours: Option<usize>,
    pub(super) expires: Option<u64>,
    /// Uses in a second.
    pub(super) rate: Option<usize>,
    pub(super) uses: Option<usize>,
}

/// Two or three roles, two clients who have some of them, and perhaps the anonymous caller.
pub(super) fn world() -> impl Strategy<Value = World> {
    let roles = vec((sometimes(&SCRIPTS[..2]), lines(true, MOST_LINES), lines(false, 2)), 2..4);
    let client =
        (weighted(0.2, select(&ENDS)), proptest::bool::weighted(0.1), weighted(0.2, 1..3_usize));
    let shares = vec(vec(any::<Index>(), 0..4), 3);
    (roles, vec(client, 2), shares, proptest::bool::weighted(0.9)).prop_map(
        |(roles, clients, shares, has_anonymous)| {
            let named = |(at, (scripts, allow, deny))| Role {
                name: format!("r{at}"),
                scripts,
                allow,
                deny,
            };
            let roles: Vec<Role> = roles.into_iter().enumerate().map(named).collect();
            let mut shares = shares.iter().map(|share| {
                let mut names: Vec<String> =
                    share.iter().map(|index| index.get(&roles).name.clone()).collect();
                names.dedup();
                names
            });
            let clients = CLIENTS.iter().zip(clients).zip(&mut shares);
            let clients = clients.map(|(((name, nkey), (expires, is_revoked, rate)), roles)| {
                Client { name, nkey, roles, expires, is_revoked, rate }
            });
            let clients = clients.collect();
            let anonymous = shares.next().filter(|_| has_anonymous);
            World { roles, clients, anonymous }
        },
    )
}

/// Most rules of a list.
const MOST_LINES: usize = 4;

fn lines(allows: bool, most: usize) -> impl Strategy<Value = Vec<Line>> {
    vec(line(allows), 0..=most).prop_map(move |mut lines| {
        // Rules that count must not be the same: one is known by what it allows, the others by name. No two of a
        // role have one name.
        let first = if allows { 0 } else { MOST_LINES };
        let named = |(at, line): (usize, &mut Line)| line.label = (at > 0).then_some(first + at);
        lines.iter_mut().enumerate().for_each(named);
        lines
    })
}

/// A rule, with terms that fit its calls.
pub(super) fn line(allows: bool) -> impl Strategy<Value = Line> {
    let words = |fits: fn(&CallName) -> bool| -> Vec<&'static str> {
        CallName::ALL.iter().filter(|call| fits(call)).map(|call| call.word()).collect()
    };
    let calls = prop_oneof![
        3 => subsequence(words(|_| true), 1..4),
        3 => subsequence(words(|call| call.takes_message()), 1..4),
        2 => subsequence(words(|call| call.touches() == Touches::Key), 1..4),
        2 => Just(vec!["sign_in"]),
        (if allows { 3 } else { 1 }) => Just(vec!["*"]),
    ];
    let keys = weighted(0.9, vec("([ab*]{1,2}|[*])/([ab0*-]{1,3}|[*])", 1..3));
    (calls, keys, any::<bool>(), any::<bool>(), terms()).prop_map(
        move |(calls, keys, exports, on_spaces, terms)| {
            fitted(Line { label: None, calls, keys, exports, terms }, allows, on_spaces)
        },
    )
}

fn terms() -> impl Strategy<Value = Terms> {
    let on_messages =
        (weighted(0.15, 0..3_usize), sometimes(&PREFIXES), sometimes(&LIKES), sometimes(&MESSAGES));
    let others = (sometimes(&NAMESPACES), sometimes(&ALGORITHMS));
    let times = (weighted(0.2, 0..HOURS.len()), weighted(0.1, select(&ENDS)));
    let counts = (weighted(0.1, 1..3_usize), weighted(0.1, 1..3_usize));
    (on_messages, others, times, counts).prop_map(
        |(
            (max, prefixes, likes, digests),
            (namespaces, algorithms),
            (hours, expires),
            (rate, uses),
        )| {
            Terms {
                max,
                prefixes,
                likes,
                digests,
                namespaces,
                algorithms,
                hours,
                expires,
                rate,
                uses,
            }
        },
    )
}

/// Mostly nothing of a list, otherwise one or two of it.
fn sometimes<T: Clone + std::fmt::Debug + 'static>(of: &[T]) -> impl Strategy<Value = Vec<T>> {
    prop_oneof![5 => Just(Vec::new()), 1 => subsequence(of.to_vec(), 1..3)]
}

/// What the language calls a mistake is taken out.
fn fitted(mut line: Line, allows: bool, on_spaces: bool) -> Line {
    let calls: Vec<CallName> = match line.calls.as_slice() {
        ["*"] => CallName::ALL.to_vec(),
        words => words.iter().filter_map(|word| CallName::from_word(word)).collect(),
    };
    let bears = |takes: fn(&CallName) -> bool| {
        if allows { calls.iter().any(takes) } else { calls.iter().all(takes) }
    };
    let is_on_keys = |call: &CallName| call.touches() == Touches::Key;
    line.exports = allows
        && if line.calls == ["*"] {
            line.exports
        } else {
            line.calls.contains(&"export_key_space")
        };
    let terms = &mut line.terms;
    if !bears(|call| call.takes_message()) {
        (terms.max, terms.prefixes, terms.likes, terms.digests) = (None, vec![], vec![], vec![]);
    }
    let shortest =
        |texts: Vec<&str>| texts.into_iter().map(|text| text.replace('*', "").len()).min();
    let forms =
        [terms.prefixes.iter().map(|(_, text)| *text).collect(), terms.likes.clone()].map(shortest);
    // No message is shorter than each of its forms.
    terms.max = terms.max.map(|max| forms.into_iter().flatten().fold(max, usize::max));
    if line.calls != ["sign_in"] {
        terms.namespaces.clear();
    }
    if line.exports || !bears(|call| call.touches() == Touches::Key) {
        terms.algorithms.clear();
    }
    if !allows {
        (terms.rate, terms.uses) = (None, None);
    }
    let needs_keys =
        allows && line.calls != ["*"] && calls.iter().any(|call| !call.may_touch_nothing());
    if needs_keys && line.keys.is_none() {
        line.keys = Some(vec!["a*/*".to_owned()]);
    }
    if allows && line.keys.is_none() {
        line.terms.algorithms.clear();
    }
    // A deny of some keys is none of their key space.
    let is_on_a_space = |call: &CallName| call.touches() == Touches::Space;
    if !allows
        && line.calls != ["*"]
        && calls.iter().any(is_on_a_space)
        && let Some(first) = line.keys.as_mut().and_then(|keys| keys.first_mut())
    {
        first.truncate(first.find('/').unwrap_or(first.len()));
        first.push_str("/*");
    }
    // The pattern of a key space alone is no pattern of keys.
    let may_name_spaces =
        if allows { !calls.iter().all(is_on_keys) } else { !calls.iter().any(is_on_keys) };
    if let Some(first) = line.keys.as_mut().and_then(|keys| keys.first_mut())
        && on_spaces
        && may_name_spaces
    {
        first.truncate(first.find('/').unwrap_or(first.len()));
    }
    line
}

impl World {
    /// As a policy file.
    pub(super) fn text(&self) -> String {
        let mut text = "version = 1\nservice.name = \"s\"\n".to_owned();
        if let Some(roles) = &self.anonymous {
            text += &format!("anonymous.roles = {roles:?}\n");
        }
        for Client { name, nkey, roles, expires, is_revoked, rate } in &self.clients {
            text += &format!(
                "[[client]]\nname = \"{name}\"\nnkey = \"{nkey}\"\nroles = {roles:?}\nrevoked = {is_revoked}\n"
            );
            text += &expires.map_or(String::new(), |at| format!("expires = {}\n", instant(at)));
            text += &rate.map_or(String::new(), |rate| format!("rate = [\"{rate}/1h\"]\n"));
        }
        for Role { name, scripts, allow, deny } in &self.roles {
            let scripts: Vec<String> =
                scripts.iter().map(|script| format!("sha256:{}", digest(script))).collect();
            let list = |lines: &[Line]| lines.iter().map(Line::text).collect::<String>();
            text += &format!("[[role]]\nname = \"{name}\"\n");
            if !scripts.is_empty() {
                text += &format!("scripts = {scripts:?}\n");
            }
            text += &format!("allow = [\n{}]\ndeny = [\n{}]\n", list(allow), list(deny));
        }
        text
    }
}

impl Line {
    fn text(&self) -> String {
        let Terms {
            max,
            prefixes,
            likes,
            digests,
            namespaces,
            algorithms,
            hours,
            expires,
            rate,
            uses,
        } = &self.terms;
        let mut parts = vec![format!("calls = {:?}", self.calls)];
        parts.extend(self.label.map(|label| format!("name = \"n{label}\"")));
        parts.extend(self.keys.as_ref().map(|keys| format!("keys = {keys:?}")));
        parts.extend(max.map(|max| format!("message_max = \"{max} B\"")));
        let prefixes = prefixes.iter().map(|(written, _)| (*written).to_owned()).collect();
        let algorithms = algorithms.iter().map(|algorithm| algorithm.to_string()).collect();
        let owned = |list: &[&str]| list.iter().map(|entry| (*entry).to_owned()).collect();
        let lists: [(&str, Vec<String>); 5] = [
            ("message_prefix", prefixes),
            ("message_like", owned(likes)),
            ("message_sha256", digests.iter().map(|message| digest(message)).collect()),
            ("namespaces", owned(namespaces)),
            ("algorithms", algorithms),
        ];
        let lists = lists.iter().filter(|(_, list)| !list.is_empty());
        parts.extend(lists.map(|(key, list)| format!("{key} = {list:?}")));
        parts.extend(hours.map(|at| format!("between = \"{}\"", HOURS[at].0)));
        parts.extend(expires.map(|at| format!("expires = {}", instant(at))));
        parts.extend(rate.map(|rate| format!("rate = [\"{rate}/1s\", \"9/1h\"]")));
        parts.extend(uses.map(|uses| format!("uses = {uses}")));
        if self.exports {
            // All the same: a policy whose rules differ in it is none.
            parts.push(format!("export_to = ['{}']", Recipient::new([7; 32])));
        }
        format!("{{ {} }},\n", parts.join(", "))
    }
}

fn instant(seconds: u64) -> String {
    jiff::Timestamp::from_second(i64::try_from(seconds).unwrap()).unwrap().to_string()
}

fn digest(text: &str) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(text))
}
