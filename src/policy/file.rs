//! Text → [`Policy`]. Whatever is not understood is an error with its place; all of them are
//! reported, not the first.

use std::collections::BTreeMap;

use crate::diagnostic::{Diagnostics, Findings, Mistake, did_you_mean, without_secrets};
use crate::limits::{Bound, Limits, Unit, parse_measure};
use crate::rate::{Allowance, Window};
use crate::rules::{Names, hex, read_rules};
use crate::table::{Item, Table, read_document, read_each};
use crate::{AuditTerms, Client, Isolation, Policy, Role, RoleId, Rule};

/// Largest policy file, in bytes: some ten thousand rules, and still read in a blink.
pub const MAX_POLICY_BYTES: usize = 1024 * 1024;

const LEAST_ROTATE_BYTES: u64 = 64 * 1024;

impl Policy {
    /// Parses a whole policy file. `file` is its name in messages.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(file: &str, text: &str) -> Result<Self, Diagnostics> {
        let mut findings = Findings::new(file, text);
        let Some(document) = read_document("the policy has", text, &mut findings) else {
            return findings.finish(None);
        };
        let top = Table::new("the policy", 0..0, document.get_ref());
        let policy = read_policy(file, top, &mut findings);
        findings.finish(policy)
    }
}

fn read_policy(file: &str, mut top: Table<'_>, findings: &mut Findings<'_>) -> Option<Policy> {
    let version = top.required("version", "add `version = 1` at the top", findings);
    if let Some(version) = version
        && version.whole_number(findings).is_some_and(|number| number != 1)
    {
        findings.add(&version.span, Mistake::Value, "this program reads policies of version 1", "");
    }
    let service = top.required("service", "add `[service]` with a `name`", findings);
    let service = service.and_then(|item| read_service(&item, findings));
    let limits = top.optional("limits");
    let lowered = limits.map(|item| read_limits(&item, "[limits]", true, findings));
    let mut limits = Limits::documented();
    for (bound, value) in lowered.unwrap_or_default() {
        *limits.slot(bound) = value;
    }
    let sandbox = top.optional("sandbox");
    let isolation = sandbox.and_then(|item| read_isolation(&item, findings));
    let isolation = isolation.unwrap_or(Isolation::Script);
    let audit = top.optional("audit").and_then(|item| read_audit(&item, findings));
    let audit = audit.unwrap_or_default();
    let clients = top.optional("client");
    let anonymous = top.optional("anonymous");
    let roles = top.optional("role").map(|item| read_roles(&item, findings)).unwrap_or_default();
    let clients = clients.map(|item| read_clients(&item, &roles, findings)).unwrap_or_default();
    let anonymous = anonymous.and_then(|item| {
        let mut table = item.table("[anonymous]", findings)?;
        let rate = table.optional("rate").map(|item| read_rates(&item, findings));
        let ids = read_role_names(&mut table, &roles, findings);
        table.finish(findings);
        Some((ids, Allowance { rate: rate.unwrap_or_default(), uses: None }))
    });
    top.finish(findings);
    let file = file.to_owned();
    Some(Policy { file, service: service?, limits, isolation, audit, clients, anonymous, roles })
}

fn read_service(item: &Item<'_>, findings: &mut Findings<'_>) -> Option<String> {
    let mut table = item.table("[service]", findings)?;
    let help = "add `name = \"signer.example\"`: callers put it in `aud`";
    let name = table.required("name", help, findings);
    let name = name.and_then(|item| read_label(&item, "service name", findings));
    table.finish(findings);
    name
}

fn read_isolation(item: &Item<'_>, findings: &mut Findings<'_>) -> Option<Isolation> {
    let mut table = item.table("[sandbox]", findings)?;
    let isolation = table.optional("isolation");
    table.finish(findings);
    let isolation = isolation?;
    match isolation.text(findings)? {
        "script" => Some(Isolation::Script),
        "client" => Some(Isolation::Client),
        text => {
            let message = format!("unknown isolation `{}`", text.escape_debug());
            let help = "`script` is a fresh process for each script, `client` one for each client";
            findings.add(&isolation.span, Mistake::Value, message, help);
            None
        }
    }
}

fn read_audit(item: &Item<'_>, findings: &mut Findings<'_>) -> Option<AuditTerms> {
    let mut table = item.table("[audit]", findings)?;
    let (sync, rotate) = (table.optional("sync"), table.optional("rotate"));
    table.finish(findings);
    let each_line = sync.is_some_and(|item| match item.text(findings) {
        Some("each") => true,
        Some("100 ms") | None => false,
        Some(text) => {
            let message = format!("unknown way to sync `{}`", text.escape_debug());
            let help = "write \"100 ms\", or \"each\" to have each line on disk before its effect";
            findings.add(&item.span, Mistake::Value, message, help);
            false
        }
    });
    let rotate_bytes = rotate.and_then(|item| {
        let bytes = read_measure(&item, Unit::Bytes, findings)?;
        if bytes < LEAST_ROTATE_BYTES {
            let message = format!("`rotate` is at least {LEAST_ROTATE_BYTES} bytes");
            findings.add(&item.span, Mistake::Bound, message, "raise it");
        }
        Some(bytes)
    });
    Some(AuditTerms {
        each_line,
        rotate_bytes: rotate_bytes.unwrap_or(AuditTerms::default().rotate_bytes),
    })
}

fn read_limits(
    item: &Item<'_>,
    name: &str,
    whole_service: bool,
    findings: &mut Findings<'_>,
) -> BTreeMap<Bound, u64> {
    let mut limits = BTreeMap::new();
    let Some(mut table) = item.table(name, findings) else {
        return limits;
    };
    for bound in Bound::ALL {
        if *bound == Bound::Concurrent && !whole_service {
            continue;
        }
        let Some(item) = table.optional(bound.key()) else {
            continue;
        };
        if let Some(value) = read_limit(&item, *bound, findings) {
            limits.insert(*bound, value);
        }
    }
    table.finish(findings);
    limits
}

fn read_limit(item: &Item<'_>, bound: Bound, findings: &mut Findings<'_>) -> Option<u64> {
    let value = if bound.unit() == Unit::Count {
        item.whole_number(findings)?
    } else {
        read_measure(item, bound.unit(), findings)?
    };
    if value == 0 {
        let message = format!("`{}` is 0, so no script could run", bound.key());
        findings.add(&item.span, Mistake::Bound, message, "raise it");
        return None;
    }
    if value > bound.ceiling() {
        let unit = match bound.unit() {
            Unit::Bytes => " bytes",
            Unit::Count => "",
            Unit::Milliseconds => " ms",
        };
        let message = format!("`{}` is at most {}{unit}", bound.key(), bound.ceiling());
        findings.add(&item.span, Mistake::Bound, message, "lower it");
        return None;
    }
    Some(value)
}

pub(crate) fn read_measure(
    item: &Item<'_>,
    unit: Unit,
    findings: &mut Findings<'_>,
) -> Option<u64> {
    match parse_measure(item.text(findings)?, unit) {
        Ok(value) => Some(value),
        Err(help) => {
            findings.add(&item.span, Mistake::Value, "not a size or a duration", help);
            None
        }
    }
}

/// A name that is shown in messages and logs: printable, at most 128 bytes.
pub(crate) fn read_label(
    item: &Item<'_>,
    what: &str,
    findings: &mut Findings<'_>,
) -> Option<String> {
    let text = item.text(findings)?;
    let is_label =
        !text.is_empty() && text.len() <= 128 && text.bytes().all(|b| b.is_ascii_graphic());
    let (message, help) = if !is_label {
        let message = format!("`{}` cannot be a {what}", text.escape_debug());
        (message, "use 1 to 128 printable ASCII characters, no spaces")
    } else if without_secrets(text) != text {
        (format!("this {what} looks like a secret"), "remove it, replace it, and write another")
    } else {
        return Some(text.to_owned());
    };
    findings.add(&item.span, Mistake::Value, message, help);
    None
}

fn read_clients(item: &Item<'_>, roles: &[Role], findings: &mut Findings<'_>) -> Vec<Client> {
    let mut clients: Vec<Client> = Vec::new();
    for item in item.list(findings) {
        let Some(mut table) = item.table("[[client]]", findings) else {
            continue;
        };
        let (line, _) = findings.place(table.span.start);
        let name = table.required("name", "", findings);
        let nkey = table.required("nkey", "the client's public user nkey, \"U...\"", findings);
        let expires = table.optional("expires").and_then(|item| item.instant(findings));
        let revoked = table.optional("revoked").and_then(|item| item.flag(findings));
        let rate = table.optional("rate").map(|item| read_rates(&item, findings));
        let ids = read_role_names(&mut table, roles, findings);
        table.finish(findings);
        let name = name.and_then(|item| Some((read_label(&item, "client name", findings)?, item)));
        let nkey = nkey.and_then(|item| Some((read_nkey(&item, findings)?, item)));
        let (Some((name, name_at)), Some((nkey, nkey_at))) = (name, nkey) else {
            continue;
        };
        if name == "anonymous" || clients.iter().any(|other| other.name == name) {
            let message = format!("the client name `{name}` is taken");
            findings.add(&name_at.span, Mistake::Taken, message, "");
        }
        if let Some(other) = clients.iter().find(|other| other.nkey == nkey) {
            let message = format!("this nkey is already the client `{}`", other.name);
            findings.add(&nkey_at.span, Mistake::Taken, message, "give one client all its roles");
        }
        let allowance = Allowance { rate: rate.unwrap_or_default(), uses: None };
        let revoked = revoked.unwrap_or(false);
        clients.push(Client { name, line, nkey, roles: ids, expires, revoked, allowance });
    }
    clients
}

fn read_nkey(item: &Item<'_>, findings: &mut Findings<'_>) -> Option<String> {
    let text = item.text(findings)?;
    let good = text.starts_with('U') && nkeys::from_public_key(text).is_ok();
    if !good {
        let help = if text.starts_with('S') {
            "this looks like a secret seed: remove it, replace it, and write the public key"
        } else {
            "a public user nkey is 56 characters and begins with `U`"
        };
        findings.add(&item.span, Mistake::Nkey, "not a public user nkey", help);
    }
    good.then(|| text.to_owned())
}

fn read_role_names(
    table: &mut Table<'_>,
    roles: &[Role],
    findings: &mut Findings<'_>,
) -> Vec<RoleId> {
    let Some(item) = table.required("roles", "add `roles = [\"...\"]`", findings) else {
        return Vec::new();
    };
    let mut ids = Vec::new();
    for (span, word) in item.texts(findings) {
        match roles.iter().position(|role| role.name == word) {
            // Who is given a role twice has it once.
            Some(index) if ids.contains(&RoleId(index)) => {}
            Some(index) => ids.push(RoleId(index)),
            None => {
                // A role whose own name is wrong has none.
                let names = roles.iter().map(|role| role.name.as_str());
                let help = did_you_mean(word, names.filter(|name| !name.is_empty()));
                let message = format!("no role is named `{}`", word.escape_debug());
                findings.add(&span, Mistake::UnknownRole, message, &help);
            }
        }
    }
    report_two_recipients(&ids, roles, &item.span, findings);
    ids
}

/// To whom a key space goes must not hang on which of a caller's rules is taken.
fn report_two_recipients(
    ids: &[RoleId],
    roles: &[Role],
    span: &std::ops::Range<usize>,
    findings: &mut Findings<'_>,
) {
    let roles = ids.iter().filter_map(|RoleId(index)| roles.get(*index));
    let rules = roles.flat_map(|role| &role.allow).filter(|rule| !rule.export_to.is_empty());
    let rules: Vec<&Rule> = rules.collect();
    for (at, rule) in rules.iter().enumerate() {
        let others = rules.get(..at).unwrap_or_default();
        let differs = |other: &&&Rule| {
            other.export_to != rule.export_to && rule.shares_a_whole_space_with(other)
        };
        if let Some(other) = others.iter().find(differs) {
            let message = format!(
                "{} (line {}) and {} (line {}) let the same key space be exported, to others each",
                other.name, other.line, rule.name, rule.line
            );
            findings.add(span, Mistake::Recipients, message, "name all of them in both");
        }
    }
}

fn read_roles(item: &Item<'_>, findings: &mut Findings<'_>) -> Vec<Role> {
    let mut roles: Vec<Role> = Vec::new();
    let mut names = Names::new();
    for item in item.list(findings) {
        let Some(mut table) = item.table("[[role]]", findings) else {
            continue;
        };
        let (line, _) = findings.place(table.span.start);
        let name_at = table.required("name", "", findings);
        let name = name_at.as_ref().and_then(|item| read_label(item, "role name", findings));
        let name = name.unwrap_or_default();
        let limits = table.optional("limits");
        let limits = limits.map(|item| read_limits(&item, "a role's limits", false, findings));
        let scripts = table
            .optional("scripts")
            .map(|item| read_each(&item, findings, "the digest of a script", read_script_digest));
        // Of a role whose own name is wrong there are no names of rules to be held against each other.
        let mut nowhere = Names::new();
        let is_taken = name.is_empty() || roles.iter().any(|other| other.name == name);
        let names = if is_taken { &mut nowhere } else { &mut names };
        let mut rules = |key, allows, findings: &mut Findings<'_>| {
            let item = table.optional(key)?;
            Some(read_rules(&item, &name, allows, names, findings))
        };
        let allow = rules("allow", true, findings);
        let deny = rules("deny", false, findings);
        table.finish(findings);
        if let Some(at) = name_at.as_ref().filter(|_| roles.iter().any(|other| other.name == name))
        {
            let message = format!("the role name `{name}` is taken");
            findings.add(&at.span, Mistake::Taken, message, "");
        }
        let (limits, allow) = (limits.unwrap_or_default(), allow.unwrap_or_default());
        if let Some(at) = name_at {
            report_shared_counts(&allow, &at.span, findings);
        }
        let (scripts, deny) = (scripts.unwrap_or_default(), deny.unwrap_or_default());
        roles.push(Role { name, line, limits, scripts, allow, deny });
    }
    roles
}

/// What one rule has used must not be what another has.
fn report_shared_counts(
    allow: &[Rule],
    span: &std::ops::Range<usize>,
    findings: &mut Findings<'_>,
) {
    for (at, rule) in allow.iter().enumerate() {
        let others = allow.get(..at).unwrap_or_default();
        let twin = others.iter().find(|other| other.identity == rule.identity);
        let counts = |rule: &Rule| !rule.allowance.is_boundless();
        if let Some(twin) = twin.filter(|twin| counts(twin) || counts(rule)) {
            let message =
                format!("{} and {} would count their uses together", twin.name, rule.name);
            findings.add(span, Mistake::Taken, message, "give each a `name` of its own");
        }
    }
}

fn read_script_digest(text: &str) -> Result<[u8; 32], &'static str> {
    let help = "write `sha256:` and the 64 hexadecimal digits that `sha256sum` prints";
    let digits = text.strip_prefix("sha256:").ok_or(help)?;
    hex(digits).and_then(|bytes| bytes.try_into().ok()).ok_or(help)
}

pub(crate) fn read_rates(item: &Item<'_>, findings: &mut Findings<'_>) -> Vec<Window> {
    let mut windows = read_each(item, findings, "a rate", Window::parse);
    windows.sort_unstable();
    windows
}
