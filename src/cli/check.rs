//! `crypto-cli check`: what the policy would refuse in a script, without keys and without running it.

use std::path::Path;

use broker::Lanes;
use policy::{Caller, Foresight, Limits, Policy};
use sandbox::{Confined, Untraced};
use serde_json::json;
use wire::Code;
use wire::script::Sighting;

use crate::args::{CheckArgs, Format};
use crate::exit::{Exit, Fault};
use crate::{files, say, scripts};

/// Something that would not work.
struct Finding {
    file: String,
    line: u32,
    column: u32,
    code: Code,
    message: String,
}

pub(crate) fn check(args: &CheckArgs) -> Result<Exit, Fault> {
    let untraced = Untraced::begin()?;
    let launcher = scripts::launcher(&[], None)?;
    let policy =
        files::read_policy(&files::policy_path(args.policy.as_deref(), args.home.as_deref())?)?
            .policy;
    let callers = match &args.caller {
        Some(name) => vec![files::caller(&policy, Some(name))?],
        None => policy.callers(files::now()),
    };
    let limits = match callers.as_slice() {
        [one] => policy.limits_for(one),
        _ => policy.limits().clone(),
    };
    let sources = args.scripts.iter().map(|path| Ok((path, files::read_script(path)?)));
    let sources = sources.collect::<Result<Vec<_>, Fault>>()?;
    let lanes = scripts::lanes(launcher, &policy, &args.sandbox)?;
    scripts::mention(&Confined::broker(untraced, None)?);
    let mut findings = Vec::new();
    for (path, script) in &sources {
        findings.extend(check_one(path, script, &lanes, &limits, &policy, &callers));
    }
    print(&findings, args.format)?;
    Ok(if findings.is_empty() { Exit::Done } else { Exit::Refused })
}

fn check_one(
    path: &Path,
    script: &[u8],
    lanes: &Lanes,
    limits: &Limits,
    policy: &Policy,
    callers: &[Caller],
) -> Vec<Finding> {
    let file = path.display().to_string();
    match broker::check(lanes, script, limits) {
        Err(failure) => {
            let (line, column) = (failure.at.line, failure.at.column);
            vec![Finding { file, line, column, code: failure.code, message: failure.message }]
        }
        Ok(sightings) => sightings
            .iter()
            .filter_map(|sighting| {
                let message = refusal(sighting, policy, callers)?;
                let (line, column) = (sighting.at.line, sighting.at.column);
                Some(Finding {
                    file: file.clone(),
                    line,
                    column,
                    code: Code::PolicyDenied,
                    message,
                })
            })
            .collect(),
    }
}

/// Why every one of these callers would be refused; `None` when one might not be.
fn refusal(sighting: &Sighting, policy: &Policy, callers: &[Caller]) -> Option<String> {
    let mut why = format!("no rule allows `{}` to anybody", sighting.call);
    for caller in callers {
        match policy.foresee(caller, sighting.call, sighting.literal.as_ref()) {
            Foresight::Possible => return None,
            Foresight::Refused(reason) => why = format!("{reason} (for `{}`)", caller.name()),
        }
    }
    Some(why)
}

fn print(findings: &[Finding], format: Format) -> Result<(), Fault> {
    match format {
        Format::Json => {
            let findings = findings.iter().map(|finding| {
                let Finding { file, line, column, code, message } = finding;
                json!({ "file": file, "line": line, "column": column, "code": code.word(), "message": message })
            });
            let findings: Vec<_> = findings.collect();
            say::line(&json!({ "schema": 1, "findings": findings }).to_string())
        }
        Format::Text => {
            for Finding { file, line, column, code, message } in findings {
                // A file's name is its maker's choice.
                let file = wire::shown(file, usize::MAX, false);
                say::line(&format!("{file}:{line}:{column}: {code}: {message}"))?;
            }
            if findings.is_empty() {
                say::talk("nothing that the policy would refuse");
            }
            Ok(())
        }
    }
}
