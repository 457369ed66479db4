//! `crypto-cli policy diff`: who may do more, or less, by a new policy than by an old one.

use std::path::Path;

use policy::{Change, Changed, Kind};
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
        if last.replace(client) != Some(client) {
            say::line(client)?;
        }
        say::line(&format!("  {}", in_words(what, args)))?;
    }
    Ok(())
}

fn in_words(what: &Changed, args: &PolicyDiffArgs) -> String {
    match what {
        Changed::Known => "+ is a client".to_owned(),
        Changed::Unknown => "- is no client, or has expired, or is revoked".to_owned(),
        Changed::Nkey => "~ has another nkey".to_owned(),
        Changed::Allowance => "~ has another rate".to_owned(),
        Changed::Limit { bound, old, new } => format!("~ {bound} = {old} becomes {new}"),
        Changed::Call { call, on, kind, old, new } => {
            let mark = match kind {
                Kind::Allowed => '+',
                Kind::Refused => '-',
                Kind::OtherTerms => '~',
            };
            let on = if on.is_empty() { String::new() } else { format!(" on {on}") };
            let terms = if *kind == Kind::OtherTerms { " on other terms" } else { "" };
            let rules = [(&args.old, old), (&args.new, new)];
            let rules = rules.iter().filter_map(|(file, rule)| Some(place(file, rule.as_ref()?)));
            let rules: Vec<String> = rules.collect();
            format!("{mark} {call}{on}{terms} ({})", rules.join(", "))
        }
    }
}

fn place(file: &Path, (rule, line): &(String, usize)) -> String {
    format!("{}:{line} {rule}", file.display())
}

fn as_json(change: &Change) -> serde_json::Value {
    let client = &change.client;
    match &change.what {
        Changed::Known => json!({ "client": client, "change": "known" }),
        Changed::Unknown => json!({ "client": client, "change": "unknown" }),
        Changed::Nkey => json!({ "client": client, "change": "nkey" }),
        Changed::Allowance => json!({ "client": client, "change": "rate" }),
        Changed::Limit { bound, old, new } => {
            json!({ "client": client, "change": "limit", "limit": bound, "old": old, "new": new })
        }
        Changed::Call { call, on, kind, old, new } => {
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
            json!({ "client": client, "change": change, "call": call.word(), "on": on, "old": old, "new": new })
        }
    }
}
