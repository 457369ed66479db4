//! `crypto-cli policy diff`: who may do more, or less, by a new policy than by an old one.

use std::path::Path;

use policy::{AuditTerms, Change, Changed, Isolation, Kind, Where};
use serde_json::json;

use crate::args::{Format, PolicyDiffArgs};
use crate::exit::{Exit, Fault};
use crate::{files, say};

pub(crate) fn diff(args: &PolicyDiffArgs) -> Result<Exit, Fault> {
    let old = files::read_policy(&args.old)?.policy;
    let new = files::read_policy(&args.new)?.policy;
    let changes = old.changes_to(&new, files::now());
    match args.format {
        Format::Json => {
            let told: Vec<_> = changes.iter().map(as_json).collect();
            say::line(&json!({ "schema": 1, "changes": told }).to_string())?;
        }
        Format::Text => tell(&changes, args)?,
    }
    Ok(if changes.is_empty() { Exit::Done } else { Exit::Refused })
}

fn tell(changes: &[Change], args: &PolicyDiffArgs) -> Result<(), Fault> {
    let mut last = None;
    for Change { client, what } in changes {
        let whose = client.as_deref().unwrap_or("the service");
        if last.replace(whose) != Some(whose) {
            say::line(whose)?;
        }
        say::line(&format!("  {}", in_words(what, args)))?;
    }
    Ok(())
}

fn in_words(what: &Changed, args: &PolicyDiffArgs) -> String {
    match what {
        Changed::Service { old, new } => format!("~ is named {new:?}, was {old:?}"),
        Changed::Isolation { old, new } => {
            format!("~ isolation = {:?} becomes {:?}", isolation(*old), isolation(*new))
        }
        Changed::Audit { old, new } => format!("~ [audit] {} becomes {}", audit(*old), audit(*new)),
        Changed::Known => "+ is a client".to_owned(),
        Changed::Unknown => "- is no client, or has expired, or is revoked".to_owned(),
        Changed::Nkey { old, new } => format!("~ has the nkey {new}, had {old}"),
        Changed::Expires { old, new } => {
            format!("~ expires {}, was {}", instant(*new), instant(*old))
        }
        Changed::Allowance => "~ has another rate".to_owned(),
        Changed::Runs { script, new } => {
            let mark = if *new { "+ runs" } else { "- no longer runs" };
            match script {
                Some(script) => format!("{mark} the script sha256:{}", hex(script)),
                None => format!("{mark} scripts that none of its roles names"),
            }
        }
        Changed::Limit { bound, unit, script, old, new } => {
            let of = script.map_or(String::new(), |script| format!(" for sha256:{}", hex(&script)));
            let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
            format!("~ {bound} = {old}{unit} becomes {new}{unit}{of}")
        }
        Changed::Call { call, on, kind, old, new, to } => {
            let mark = match kind {
                Kind::Allowed => '+',
                Kind::Refused => '-',
                Kind::OtherTerms => '~',
            };
            let on = match on {
                Where::Nothing => String::new(),
                Where::OwnKey => " with a key of the script's own".to_owned(),
                Where::Pattern(on) => format!(" on {on}"),
            };
            let terms = if *kind == Kind::OtherTerms { " on other terms" } else { "" };
            let rules = [(&args.old, old), (&args.new, new)];
            let rules = rules.iter().filter_map(|(file, rule)| Some(place(file, rule.as_ref()?)));
            let rules: Vec<String> = rules.collect();
            let to = if to.is_empty() { String::new() } else { format!(" to {}", to.join(" ")) };
            format!("{mark} {call}{on}{terms}{to} ({})", rules.join(", "))
        }
    }
}

fn isolation(isolation: Isolation) -> &'static str {
    match isolation {
        Isolation::Script => "script",
        Isolation::Client => "client",
    }
}

fn audit(AuditTerms { each_line, rotate_bytes }: AuditTerms) -> String {
    let sync = if each_line { "each" } else { "100 ms" };
    format!("sync = {sync:?}, rotate = {rotate_bytes} bytes")
}

fn instant(seconds: Option<u64>) -> String {
    let seconds = seconds.map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX));
    let at = seconds.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    at.map_or("never".to_owned(), |at| at.to_string())
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

fn place(file: &Path, (rule, line): &(String, usize)) -> String {
    format!("{}:{line} {rule}", file.display())
}

fn as_json(change: &Change) -> serde_json::Value {
    let client = &change.client;
    match &change.what {
        Changed::Service { old, new } => {
            json!({ "client": client, "change": "service", "old": old, "new": new })
        }
        Changed::Isolation { old, new } => {
            let (old, new) = (isolation(*old), isolation(*new));
            json!({ "client": client, "change": "isolation", "old": old, "new": new })
        }
        Changed::Audit { old, new } => {
            json!({ "client": client, "change": "audit", "old": audit(*old), "new": audit(*new) })
        }
        Changed::Known => json!({ "client": client, "change": "known" }),
        Changed::Unknown => json!({ "client": client, "change": "unknown" }),
        Changed::Nkey { old, new } => {
            json!({ "client": client, "change": "nkey", "old": old, "new": new })
        }
        Changed::Expires { old, new } => {
            json!({ "client": client, "change": "expires", "old": old, "new": new })
        }
        Changed::Allowance => json!({ "client": client, "change": "rate" }),
        Changed::Runs { script, new } => {
            let script = script.map(|script| format!("sha256:{}", hex(&script)));
            json!({ "client": client, "change": "runs", "script": script, "new": new })
        }
        Changed::Limit { bound, unit, script, old, new } => {
            let script = script.map(|script| format!("sha256:{}", hex(&script)));
            json!({ "client": client, "change": "limit", "limit": bound, "unit": unit, "script": script, "old": old, "new": new })
        }
        Changed::Call { call, on, kind, old, new, to } => {
            let change = match kind {
                Kind::Allowed => "allowed",
                Kind::Refused => "refused",
                Kind::OtherTerms => "terms",
            };
            let rule = |rule: &Option<(String, usize)>| {
                let rule = rule.as_ref();
                rule.map(|(rule, line)| json!({ "rule": rule, "line": line }))
            };
            let (old, new) = (rule(old), rule(new));
            let (on, own_key) = match on {
                Where::Nothing => (None, false),
                Where::OwnKey => (None, true),
                Where::Pattern(on) => (Some(on), false),
            };
            json!({ "client": client, "change": change, "call": call.word(), "on": on, "own_key": own_key, "old": old, "new": new, "to": to })
        }
    }
}
