//! What a new policy allows and refuses otherwise than an old one, per client.
//!
//! Policies are compared at the patterns of the rules that changed: at each, and at what each has in common
//! with every other. A rule is about a place if its pattern covers all of it. So what is said of a place
//! holds of the keys there that no narrower pattern names.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};
use wire::{CallName, Touches};

use crate::change::{Change, Changed, Kind, Where};
use crate::limits::{Bound, Unit};
use crate::pattern::{On, Pattern};
use crate::rate::Allowance;
use crate::recipient::Recipient;
use crate::{Caller, Policy, Role, Rule};

/// A place where rules are compared: a pattern of keys, of key spaces, or nothing.
type Place = Option<Pattern>;

/// A rule that may bear on a call.
struct Bearing<'p> {
    rule: &'p Rule,
    allows: bool,
    /// Whether it asks for nothing and counts nothing.
    is_free: bool,
    /// What it says, the same for what is the same.
    terms: String,
}

/// What a policy says of a call at a place.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Stance {
    allows: bool,
    /// The first rule that says so.
    rule: Option<(String, usize)>,
    /// Everything that bears on it, with the rule that says it.
    terms: BTreeMap<String, (String, usize)>,
    /// To whom it lets keys be exported.
    to: BTreeSet<Recipient>,
}

impl Policy {
    /// What `new` decides otherwise, at `now` in Unix seconds: first what concerns all, then by client in the
    /// order of their names.
    #[must_use]
    pub fn changes_to(&self, new: &Self, now: u64) -> Vec<Change> {
        let mut changes: Vec<Change> = self
            .service_changes(new)
            .into_iter()
            .map(|what| Change { client: None, what })
            .collect();
        let names = |policy: &Self| policy.callers(now).into_iter().map(|who| who.name);
        let clients: BTreeSet<String> = names(self).chain(names(new)).collect();
        for client in clients {
            let sides =
                Sides { old: Side::of(self, &client, now), new: Side::of(new, &client, now), now };
            let whats = sides.changes().into_iter();
            changes.extend(whats.map(|what| Change { client: Some(client.clone()), what }));
        }
        changes
    }

    fn service_changes(&self, new: &Self) -> Vec<Changed> {
        let mut changes = Vec::new();
        if self.service != new.service {
            let (old, new) = (self.service.clone(), new.service.clone());
            changes.push(Changed::Service { old, new });
        }
        if self.isolation != new.isolation {
            changes.push(Changed::Isolation { old: self.isolation, new: new.isolation });
        }
        if self.audit != new.audit {
            changes.push(Changed::Audit { old: self.audit, new: new.audit });
        }
        changes.extend(limit(
            Bound::Concurrent,
            None,
            self.limits.concurrent,
            new.limits.concurrent,
        ));
        changes
    }
}

fn limit(bound: Bound, script: Option<[u8; 32]>, old: u64, new: u64) -> Option<Changed> {
    let unit = match bound.unit() {
        Unit::Bytes => "bytes",
        Unit::Milliseconds => "ms",
        Unit::Count => "",
    };
    (old != new).then_some(Changed::Limit { bound: bound.key(), unit, script, old, new })
}

/// One client in the two policies.
struct Sides<'p> {
    old: Side<'p>,
    new: Side<'p>,
    now: u64,
}

/// A client in one policy.
struct Side<'p> {
    policy: &'p Policy,
    who: Option<Caller>,
    expires: Option<u64>,
}

impl<'p> Side<'p> {
    fn of(policy: &'p Policy, name: &str, now: u64) -> Self {
        let client = policy.clients.iter().find(|client| client.name == name);
        let anonymous = || policy.anonymous().filter(|who| who.name == name);
        let who = policy.client_by_name(name, now).or_else(anonymous);
        Self { policy, who, expires: client.and_then(|client| client.expires) }
    }

    /// Nobody has no roles: nothing is allowed to whom a policy does not know.
    fn roles(&self) -> Vec<&Role> {
        self.who.as_ref().map(|who| self.policy.roles_of(who).collect()).unwrap_or_default()
    }

    /// The rules that have not ended, denies first, each with the scripts that it is for.
    fn rules(&self, now: u64) -> Vec<(&Rule, Option<&Role>)> {
        let roles = self.roles();
        let denies = roles.iter().flat_map(|role| role.deny.iter().map(|rule| (rule, None)));
        let allows =
            roles.iter().flat_map(|role| role.allow.iter().map(move |rule| (rule, Some(*role))));
        denies.chain(allows).filter(|(rule, _)| !rule.terms.have_ended(now)).collect()
    }

    fn bearing_on(&self, call: CallName, is_stored: bool, now: u64) -> Vec<Bearing<'_>> {
        let rules = self.rules(now).into_iter();
        rules.filter_map(|(rule, role)| Bearing::of(rule, role, call, is_stored)).collect()
    }
}

impl<'p> Bearing<'p> {
    /// A rule, if it may bear on a call: an allow with its role.
    fn of(rule: &'p Rule, role: Option<&Role>, call: CallName, is_stored: bool) -> Option<Self> {
        let written = rule.terms.written_for(call, is_stored);
        let has_no_terms = rule.terms.are_none_for(call, is_stored);
        let Some(role) = role else {
            let (is_free, terms) = (has_no_terms, format!("deny {written}"));
            let bears = rule.lists_or_follows(call);
            return bears.then_some(Self { rule, allows: false, is_free, terms });
        };
        let to = rule.recipients_of(call);
        let asks_nothing = has_no_terms && role.scripts.is_empty() && to.is_empty();
        let is_free = asks_nothing && rule.allowance.is_boundless();
        let terms = format!("allow {:?} {written} {} {to:?}", role.sorted_scripts(), counted(rule));
        rule.lists(call).then_some(Self { rule, allows: true, is_free, terms })
    }
}

fn stance(bearing: &[Bearing<'_>], call: CallName, place: &Place) -> Stance {
    let named = |rule: &Rule| (rule.name.clone(), rule.line);
    let on = place.as_ref().map_or(On::Nothing, Pattern::whole);
    let (mut first, mut free, mut to) = (None, None, BTreeSet::new());
    let mut terms = BTreeMap::new();
    for Bearing { rule, allows, is_free, terms: text } in bearing {
        let bears = if *allows { rule.allows_on(call, &on) } else { rule.names_on(call, &on) };
        if !bears {
            continue;
        }
        if *allows {
            first.get_or_insert_with(|| named(rule));
            to.extend(rule.recipients_of(call).iter().cloned());
            if *is_free {
                free.get_or_insert_with(|| named(rule));
            }
        } else if *is_free {
            let (terms, to) = (BTreeMap::new(), BTreeSet::new());
            return Stance { allows: false, rule: Some(named(rule)), terms, to };
        }
        terms.entry(text.clone()).or_insert_with(|| named(rule));
    }
    // Where one allows without terms, the terms of the others are nothing.
    if let Some(free) = free {
        terms.retain(|key, _| key.starts_with("deny"));
        terms.insert("allow".to_owned(), free);
    }
    Stance { allows: first.is_some(), rule: first, terms, to }
}

/// What a rule counts, and under which name: to edit that begins a new count.
fn counted(rule: &Rule) -> String {
    if rule.allowance.is_boundless() {
        return String::new();
    }
    let Allowance { rate, uses } = &rule.allowance;
    let mut rate = rate.clone();
    rate.sort();
    format!("{rate:?} {uses:?} {}", rule.identity)
}

impl Sides<'_> {
    fn changes(&self) -> Vec<Changed> {
        let mut changes = Vec::new();
        match (&self.old.who, &self.new.who) {
            (None, Some(_)) => changes.push(Changed::Known),
            (Some(_), None) => changes.push(Changed::Unknown),
            (Some(old), Some(new)) => self.of_client(old, new, &mut changes),
            (None, None) => {}
        }
        let patterns = self.patterns();
        for call in CallName::ALL {
            changes.extend(self.of_call(*call, &patterns));
        }
        changes
    }

    fn of_client(&self, old: &Caller, new: &Caller, changes: &mut Vec<Changed>) {
        if let (Some(old), Some(new)) = (&old.nkey, &new.nkey)
            && old != new
        {
            changes.push(Changed::Nkey { old: old.clone(), new: new.clone() });
        }
        if self.old.expires != self.new.expires {
            changes.push(Changed::Expires { old: self.old.expires, new: self.new.expires });
        }
        if old.allowance != new.allowance {
            changes.push(Changed::Allowance);
        }
        let any_runs = self.runs(old, new, None);
        changes.extend(any_runs.map(|new| Changed::Runs { script: None, new }));
        let of_any = self.limits(old, new, None);
        changes.extend(of_any.iter().flatten().cloned());
        for script in self.scripts() {
            let script = Some(script);
            let one_runs = self.runs(old, new, script).filter(|runs| Some(*runs) != any_runs);
            changes.extend(one_runs.map(|new| Changed::Runs { script, new }));
            let of_one = self.limits(old, new, script);
            let said = |what: &Option<Changed>| match what {
                Some(Changed::Limit { bound, old, new, .. }) => Some((*bound, *old, *new)),
                Some(_) | None => None,
            };
            let other = of_one.iter().zip(&of_any).filter(|(one, any)| said(one) != said(any));
            changes.extend(other.filter_map(|(one, _)| one.clone()));
        }
    }

    /// The scripts that its roles name.
    fn scripts(&self) -> BTreeSet<[u8; 32]> {
        let roles = [self.old.roles(), self.new.roles()].concat();
        roles.iter().flat_map(|role| role.scripts.iter().copied()).collect()
    }

    /// The caller of a script, or of one that no role names.
    fn running(&self, who: &Caller, script: Option<[u8; 32]>) -> Caller {
        let script = script.or_else(|| {
            let named = self.scripts();
            let mut digests = (0_u64..).map(|number| Sha256::digest(number.to_le_bytes()).into());
            digests.find(|digest| !named.contains(digest))
        });
        Caller { script, ..who.clone() }
    }

    /// Whether a script, or any that no role names, runs at all now, where that has changed.
    fn runs(&self, old: &Caller, new: &Caller, script: Option<[u8; 32]>) -> Option<bool> {
        let was = self.old.policy.may_run(&self.running(old, script));
        let is = self.new.policy.may_run(&self.running(new, script));
        (was != is).then_some(is)
    }

    /// Of a script, or of any that no role names, each bound that changed.
    fn limits(&self, old: &Caller, new: &Caller, script: Option<[u8; 32]>) -> Vec<Option<Changed>> {
        let mut old = self.old.policy.limits_for(&self.running(old, script));
        let mut new = self.new.policy.limits_for(&self.running(new, script));
        let own = Bound::ALL.iter().filter(|bound| **bound != Bound::Concurrent);
        own.map(|bound| limit(*bound, script, *old.slot(*bound), *new.slot(*bound))).collect()
    }

    /// The patterns of the rules that differ, and all.
    fn patterns(&self) -> (BTreeSet<&Pattern>, BTreeSet<&Pattern>) {
        let (old, new) = (self.old.rules(self.now), self.new.rules(self.now));
        let whole = |rule: &Rule, role: Option<&Role>| {
            let terms = rule.terms.written_for(CallName::SignIn, true);
            let digests = role.map(Role::sorted_scripts);
            let (calls, keys, to) = (&rule.calls, &rule.keys, &rule.export_to);
            let counts = counted(rule);
            format!("{digests:?} {calls:?} {} {keys:?} {terms} {counts} {to:?}", rule.names_keys)
        };
        let written = |rules: &[(&Rule, Option<&Role>)]| -> BTreeSet<String> {
            rules.iter().map(|(rule, role)| whole(rule, *role)).collect()
        };
        let (in_old, in_new) = (written(&old), written(&new));
        let (mut changed, mut all) = (BTreeSet::new(), BTreeSet::new());
        let mut is_everywhere = false;
        for (rule, role) in old.iter().chain(&new) {
            all.extend(&rule.keys);
            let text = whole(rule, *role);
            if in_old.contains(&text) != in_new.contains(&text) {
                changed.extend(&rule.keys);
                is_everywhere |= !rule.names_keys;
            }
        }
        if is_everywhere { (all.clone(), all) } else { (changed, all) }
    }

    /// Where a call became otherwise. What is said of a wider place in the same words is not said again.
    fn of_call(
        &self,
        call: CallName,
        (changed, all): &(BTreeSet<&Pattern>, BTreeSet<&Pattern>),
    ) -> Vec<Changed> {
        let bearing = |is_stored| {
            [&self.old, &self.new].map(|side| side.bearing_on(call, is_stored, self.now))
        };
        let (on_nothing, on_stored) = (bearing(false), bearing(true));
        let mut found: BTreeMap<(Stance, Stance), Vec<Place>> = BTreeMap::new();
        for place in places(call, changed, all) {
            let bearing = if place.is_none() { &on_nothing } else { &on_stored };
            let [was, is] = bearing.each_ref().map(|side| stance(side, call, &place));
            // The same terms in another place of the file, or of a rule of another name, are the same.
            let other_terms = was.terms.keys().ne(is.terms.keys());
            if (was.allows || is.allows) && (was.allows != is.allows || other_terms) {
                found.entry((was, is)).or_default().push(place);
            }
        }
        let mut said = Vec::new();
        for ((was, is), places) in &found {
            let widest = widest(places).into_iter();
            said.extend(widest.map(|place| (place, change_of(call, place, was, is))));
        }
        said.sort_by_key(|(place, _)| *place);
        said.into_iter().map(|(_, change)| change).collect()
    }
}

/// Of places, those that no other covers. Each is held against those that were kept, and the wide come first.
fn widest(places: &[Place]) -> Vec<&Place> {
    let mut kept: Vec<&Place> = Vec::new();
    let mut order: Vec<&Place> = places.iter().collect();
    order.sort_by_key(|place| place.as_ref().map(Pattern::literal_bytes));
    for place in order {
        let covers =
            |wider: &&Place| wider.as_ref().zip(place.as_ref()).is_some_and(|(w, p)| w.covers(p));
        if !kept.iter().any(covers) {
            kept.push(place);
        }
    }
    kept
}

fn change_of(call: CallName, place: &Place, was: &Stance, is: &Stance) -> Changed {
    let kind = match (was.allows, is.allows) {
        (true, true) => Kind::OtherTerms,
        (true, false) => Kind::Refused,
        (false, _) => Kind::Allowed,
    };
    // Of other terms, the rules that have them.
    let own = |one: &Stance, other: &Stance| {
        let mut terms = one.terms.iter().filter(|(term, _)| !other.terms.contains_key(*term));
        let own = terms.next().map(|(_, rule)| rule.clone());
        if kind == Kind::OtherTerms { own } else { one.rule.clone() }
    };
    let on = match place {
        Some(pattern) => Where::Pattern(pattern.text()),
        None if call.touches() == Touches::Key => Where::OwnKey,
        None => Where::Nothing,
    };
    let to = is.to.iter().map(ToString::to_string).collect();
    Changed::Call { call, on, kind, old: own(was, is), new: own(is, was), to }
}

/// Where to look: each pattern that changed, and what it has in common with each other one.
fn places(
    call: CallName,
    changed: &BTreeSet<&Pattern>,
    all: &BTreeSet<&Pattern>,
) -> BTreeSet<Place> {
    let fitting = |patterns: &BTreeSet<&Pattern>| -> BTreeSet<Pattern> {
        patterns.iter().filter_map(|pattern| pattern.fitting(call)).collect()
    };
    let (changed, all) = (fitting(changed), fitting(all));
    let pairs = changed.iter().flat_map(|one| all.iter().map(move |other| (one, other)));
    let stored = pairs.flat_map(|(one, other)| one.in_common_with(other)).map(Some);
    stored.chain(call.may_touch_nothing().then_some(None)).collect()
}

impl Role {
    /// The scripts that it is for, in an order that does not come from the file.
    fn sorted_scripts(&self) -> Vec<[u8; 32]> {
        let mut scripts = self.scripts.clone();
        scripts.sort_unstable();
        scripts.dedup();
        scripts
    }
}
