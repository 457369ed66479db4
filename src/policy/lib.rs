//! Who may do what, within which bounds: pure decisions, the same input giving the same answer.
//! The language is described in `policy/README.md` at the top of the tree.
#![forbid(unsafe_code)]

mod cases;
mod change;
mod decide;
mod diagnostic;
mod difference;
#[cfg(test)]
mod difference_tests;
mod explain;
#[cfg(test)]
mod export_tests;
mod file;
mod fmt;
mod foresight;
#[cfg(test)]
mod foresight_tests;
mod glob;
mod grant;
mod identity;
#[cfg(test)]
mod idle_tests;
mod limits;
mod looks;
mod moment;
#[cfg(test)]
mod own_key_tests;
mod pattern;
#[cfg(test)]
mod properties;
mod rate;
#[cfg(test)]
mod rate_tests;
mod read_terms;
mod recipient;
mod rules;
mod table;
mod terms;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod text_tests;

pub use cases::{Case, Verdict, target};
pub use change::{Change, Changed, Kind, Where};
pub use decide::{Act, Decision, Facts, Refusal};
pub use diagnostic::{BYTE_ORDER_MARK, Diagnostic, Diagnostics, Mistake, without_secrets};
pub use explain::{Opinion, Remark, Says};
pub use file::MAX_POLICY_BYTES;
pub use fmt::formatted;
pub use foresight::{Foresight, Known};
pub use grant::{Grant, Permit, Target};
pub use limits::Limits;
pub use rate::{RateBook, Reach};
pub use recipient::{NoRecipient, Recipient};
pub use terms::Unmet;

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use wire::CallName;

use crate::pattern::Pattern;
use crate::rate::Allowance;
use crate::terms::Terms;

/// The name of whoever does not sign.
const ANONYMOUS: &str = "anonymous";

/// A policy: made only by parsing a whole file, so it is never half of one.
#[derive(Debug)]
pub struct Policy {
    file: String,
    service: String,
    limits: Limits,
    isolation: Isolation,
    audit: AuditTerms,
    clients: Vec<Client>,
    anonymous: Option<(Vec<RoleId>, Allowance)>,
    roles: Vec<Role>,
}

impl Policy {
    /// The name of its file in messages.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The name callers put in `aud`.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.service
    }

    /// The ceilings of every script.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What separates one script from the next.
    #[must_use]
    pub fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// How the audit log is kept.
    #[must_use]
    pub fn audit(&self) -> AuditTerms {
        self.audit
    }

    /// The client with this user nkey, if the policy knows it, and it has neither expired
    /// nor been revoked.
    #[must_use]
    pub fn client_by_nkey(&self, nkey: &str, now: u64) -> Option<Caller> {
        self.caller(now, |client| client.nkey == nkey)
    }

    /// The client of this name, if the policy knows it, and it has neither expired
    /// nor been revoked.
    #[must_use]
    pub fn client_by_name(&self, name: &str, now: u64) -> Option<Caller> {
        self.caller(now, |client| client.name == name)
    }

    /// The caller of unsigned requests, where the policy has an `[anonymous]` section.
    #[must_use]
    pub fn anonymous(&self) -> Option<Caller> {
        let (roles, allowance) = self.anonymous.clone()?;
        Some(Caller { name: ANONYMOUS.to_owned(), nkey: None, roles, allowance, script: None })
    }

    /// Everybody the policy knows now: its clients, and the anonymous caller if there is one.
    #[must_use]
    pub fn callers(&self, now: u64) -> Vec<Caller> {
        let clients = self.clients.iter();
        let known = clients.filter_map(|client| self.client_by_name(&client.name, now));
        known.chain(self.anonymous()).collect()
    }

    /// The ceilings of a script of this caller: of each bound the service's own, or the smallest
    /// that one of the caller's roles sets.
    #[must_use]
    pub fn limits_for(&self, caller: &Caller) -> Limits {
        let roles = self.roles_of(caller).filter(|role| role.is_for(caller));
        roles.fold(self.limits.clone(), |limits, role| limits.lowered_by(&role.limits))
    }

    /// Every account that it counts uses of, with what may be used of it.
    pub(crate) fn accounts(&self) -> impl Iterator<Item = (String, &Allowance)> {
        let clients =
            self.clients.iter().map(|client| (&*client.name, &client.roles, &client.allowance));
        let anonymous = self.anonymous.iter().map(|(roles, all)| (ANONYMOUS, roles, all));
        clients.chain(anonymous).flat_map(move |(name, roles, allowance)| {
            let roles = roles.iter().filter_map(move |id| self.roles.get(id.0));
            let rules = roles.flat_map(|role| &role.allow);
            let rules =
                rules.map(move |rule| (grant::account_of_rule(rule, name), &rule.allowance));
            rules.chain([(grant::account_of_client(name), allowance)])
        })
    }

    /// Whether it has a client of this name, be it expired or revoked.
    pub(crate) fn names(&self, client: &str) -> bool {
        self.clients.iter().any(|known| known.name == client)
    }

    /// What of it cannot hold from now on where the other held, because processes were started for that:
    /// to run scripts, for this many bytes of memory.
    #[must_use]
    pub fn restarts_for(&self, other: &Self, memory: u64) -> Vec<&'static str> {
        let differs = [
            ("[service]", self.service != other.service),
            ("[sandbox]", self.isolation != other.isolation),
            ("[audit]", self.audit != other.audit),
            ("[limits] concurrent", self.limits.concurrent != other.limits.concurrent),
            ("[limits] memory", self.limits.memory > memory),
        ];
        differs.into_iter().filter(|(_, differs)| *differs).map(|(what, _)| what).collect()
    }

    /// Whether the caller may run its script at all: roles that are for other scripts give it nothing.
    #[must_use]
    pub fn may_run(&self, caller: &Caller) -> bool {
        caller.roles.is_empty() || self.roles_of(caller).any(|role| role.is_for(caller))
    }

    /// Everything that it says but for the lines on which it says so. Policies that say the same in
    /// another layout are compared by it.
    #[cfg(any(test, fuzzing))]
    #[must_use]
    pub fn without_lines(mut self) -> String {
        self.clients.iter_mut().for_each(|client| client.line = 0);
        for role in &mut self.roles {
            role.line = 0;
            role.allow.iter_mut().chain(&mut role.deny).for_each(|rule| rule.line = 0);
        }
        format!("{self:#?}")
    }

    fn caller(&self, now: u64, wanted: impl Fn(&Client) -> bool) -> Option<Caller> {
        let client = self.clients.iter().find(|client| wanted(client))?;
        if client.revoked || client.expires.is_some_and(|at| now >= at) {
            return None;
        }
        Some(Caller {
            name: client.name.clone(),
            nkey: Some(client.nkey.clone()),
            roles: client.roles.clone(),
            allowance: client.allowance.clone(),
            script: None,
        })
    }

    fn roles_of<'a>(&'a self, caller: &'a Caller) -> impl Iterator<Item = &'a Role> {
        caller.roles.iter().filter_map(|id| self.roles.get(id.0))
    }
}

/// What separates one script from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// A fresh process for each script.
    Script,
    /// A process is kept for one client; its memory is put back between scripts.
    Client,
}

/// How the audit log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditTerms {
    /// Whether each line is on disk before what it tells of happens, rather than 100 ms later at most.
    pub each_line: bool,
    /// Bytes after which a new file is begun.
    pub rotate_bytes: u64,
}

/// Where the policy says nothing.
impl Default for AuditTerms {
    fn default() -> Self {
        Self { each_line: false, rotate_bytes: 64 * 1024 * 1024 }
    }
}

/// Somebody the policy knows. Only a [`Policy`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    name: String,
    nkey: Option<String>,
    roles: Vec<RoleId>,
    allowance: Allowance,
    /// SHA-256 of the script that it runs, once that is known.
    script: Option<[u8; 32]>,
}

impl Caller {
    /// The name in the policy, or `anonymous`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether every decision on the one is the same on the other, but for what each has used.
    #[must_use]
    pub fn may_do_what_may(&self, other: &Self) -> bool {
        (&self.roles, &self.allowance, self.script)
            == (&other.roles, &other.allowance, other.script)
    }

    /// The caller as it runs this script.
    #[must_use]
    pub fn running(self, script: &[u8]) -> Self {
        Self { script: Some(Sha256::digest(script).into()), ..self }
    }

    /// The user nkey, unless the caller is anonymous.
    #[must_use]
    pub fn nkey(&self) -> Option<&str> {
        self.nkey.as_deref()
    }
}

#[derive(Debug)]
struct Client {
    name: String,
    /// Line of the file.
    line: usize,
    nkey: String,
    roles: Vec<RoleId>,
    /// Unix seconds.
    expires: Option<u64>,
    revoked: bool,
    allowance: Allowance,
}

/// The place of a role in [`Policy::roles`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RoleId(usize);

#[derive(Debug)]
struct Role {
    name: String,
    /// Line of the file.
    line: usize,
    limits: BTreeMap<limits::Bound, u64>,
    /// SHA-256 of the scripts that the role is for; none is any.
    scripts: Vec<[u8; 32]>,
    allow: Vec<Rule>,
    deny: Vec<Rule>,
}

/// One entry of `allow` or `deny`.
#[derive(Debug)]
struct Rule {
    /// Role and place, such as `billing-signer.allow[1]`.
    name: String,
    /// Line of the file.
    line: usize,
    calls: Vec<CallName>,
    /// Whether `keys` stands in the rule at all.
    names_keys: bool,
    keys: Vec<Pattern>,
    terms: Terms,
    /// To whom it lets keys be exported: somebody, if it allows that.
    export_to: Vec<Recipient>,
    allowance: Allowance,
    /// What it is, wherever it stands in the file: see [`identity`].
    identity: String,
}
