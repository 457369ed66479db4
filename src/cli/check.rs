//! `crypto-cli check`: what the policy would refuse in a script, without keys and without running it.

use broker::{Failure, Lanes};
use policy::{Caller, Foresight, Known, Limits, Policy};
use sandbox::{Confined, Untraced};
use wire::script::{Position, Sighting, shadowed};
use wire::{Code, KeyRef};

use crate::args::{CheckArgs, ReportFormat};
use crate::exit::{Exit, Fault};
use crate::report::{Finding, Weight};
use crate::selections::Selections;
use crate::{files, report, say, scripts};

/// Most callers that one finding names.
const MOST_NAMED: usize = 8;

/// What the service would do with a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Allowed,
    Undecidable,
    Refused,
    /// Nothing was found out about it.
    Unchecked,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Undecidable => "undecidable",
            Self::Refused => "refused",
            Self::Unchecked => "unchecked",
        }
    }
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
    let sources = args.scripts.iter().map(|path| Ok((path, files::read_script(path)?)));
    let sources = sources.collect::<Result<Vec<_>, Fault>>()?;
    let lanes = scripts::lanes(launcher, &policy, &args.sandbox)?;
    scripts::mention(&Confined::broker(untraced, None)?);
    let (mut findings, mut verdicts) = (Vec::new(), Vec::new());
    let mut texts = Vec::new();
    for (path, script) in &sources {
        let file = path.display().to_string();
        let (found, verdict) = match check_one(&file, script, &lanes, &policy, &callers) {
            Ok(found) => {
                let weights = found.iter().map(|finding| match finding.weight {
                    Weight::Error => Verdict::Refused,
                    Weight::Warning => Verdict::Undecidable,
                    Weight::Note => Verdict::Allowed,
                });
                let worst = weights.max().unwrap_or(Verdict::Allowed);
                (found, worst)
            }
            // What is no fault of the script says nothing of it, and costs the others nothing that is said of them.
            Err(Failure { code, message, at }) => {
                let (verdict, message) = if code == Code::Internal {
                    (Verdict::Unchecked, format!("it was not checked: {message}"))
                } else {
                    (Verdict::Refused, message)
                };
                (vec![finding(&file, at, Weight::Error, code.word(), message)], verdict)
            }
        };
        verdicts.push((file.clone(), verdict));
        findings.extend(found);
        texts.push((file, String::from_utf8_lossy(script).into_owned()));
    }
    let verdict = verdicts.iter().map(|(_, verdict)| *verdict).max().unwrap_or(Verdict::Allowed);
    let told: Vec<_> =
        verdicts.iter().map(|(file, verdict)| (file.clone(), verdict.word())).collect();
    report::print_with(&findings, &texts, &told, args.format)?;
    if args.format == ReportFormat::Text {
        told.iter().for_each(|(file, word)| say::talk(&format!("{file}: {word}")));
    }
    Ok(match verdict {
        Verdict::Unchecked => Exit::Internal,
        Verdict::Refused => Exit::Refused,
        Verdict::Undecidable if args.strict => Exit::Refused,
        Verdict::Undecidable | Verdict::Allowed => Exit::Done,
    })
}

fn check_one(
    file: &str,
    script: &[u8],
    lanes: &Lanes,
    policy: &Policy,
    callers: &[Caller],
) -> Result<Vec<Finding>, Failure> {
    let callers = callers.iter().map(|caller| caller.clone().running(script));
    let (callers, strangers): (Vec<_>, Vec<_>) = callers.partition(|caller| policy.may_run(caller));
    if callers.is_empty() {
        return Ok(vec![not_run_at_all(file, &strangers)]);
    }
    let (sightings, beyond) = read(script, lanes, policy, &callers)?;
    let beyond = beyond.into_iter().map(|(name, Failure { code, message, at })| {
        finding(file, at, Weight::Warning, code.word(), format!("{message} (for `{name}`)"))
    });
    let mut findings: Vec<Finding> = not_run_for(file, &strangers).into_iter().collect();
    findings.extend(beyond);
    let selections = Selections::of(&sightings);
    let callers = kinds_of(callers);
    let judged = sightings
        .iter()
        .filter_map(|sighting| found_of(file, sighting, &selections, policy, &callers));
    findings.extend(judged);
    Ok(findings)
}

/// Of those of whom the policy says the same, the first: it stands for them.
fn kinds_of(callers: Vec<Caller>) -> Vec<Caller> {
    let mut kinds: Vec<Caller> = Vec::new();
    for caller in callers {
        if !kinds.iter().any(|other| caller.may_do_what_may(other)) {
            kinds.push(caller);
        }
    }
    kinds
}

fn finding(file: &str, at: Position, weight: Weight, code: &str, message: String) -> Finding {
    Finding {
        file: file.to_owned(),
        weight,
        code: code.to_owned(),
        message,
        help: None,
        line: usize::try_from(at.line).unwrap_or(0),
        column: usize::try_from(at.column).unwrap_or(0),
        span: None,
    }
}

/// An error for a script that none of these callers may run.
fn not_run_at_all(file: &str, strangers: &[Caller]) -> Finding {
    let (message, help) = if strangers.is_empty() {
        let message = "the policy knows nobody who could send this script";
        (message, "add a `[[client]]`, or `[anonymous]`")
    } else {
        let message = "the policy does not allow this script to its caller";
        (message, "give the caller a role for it: `sha256sum` prints its digest")
    };
    let code = Code::PolicyDenied.word();
    let found = finding(file, Position::default(), Weight::Error, code, message.to_owned());
    Finding { help: Some(help.to_owned()), ..found }
}

/// A note of the callers whose roles are all for other scripts, where others may run this one: which scripts a caller
/// is kept to is meant so, and no mistake.
fn not_run_for(file: &str, strangers: &[Caller]) -> Option<Finding> {
    let (named, rest) = strangers.split_at(strangers.len().min(MOST_NAMED));
    let named: Vec<String> = named.iter().map(|who| format!("`{}`", who.name())).collect();
    let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
    let message = format!("the policy does not allow this script to {}{more}", named.join(", "));
    let code = Code::PolicyDenied.word();
    let found = finding(file, Position::default(), Weight::Note, code, message);
    (!strangers.is_empty()).then_some(found)
}

/// What is to be said of a call, if anything is.
fn found_of(
    file: &str,
    sighting: &Sighting,
    selections: &Selections,
    policy: &Policy,
    callers: &[Caller],
) -> Option<Finding> {
    if let Some(name) = &sighting.shadows {
        let code = Code::ParseError.word();
        return Some(finding(file, sighting.at, Weight::Error, code, shadowed(name)));
    }
    let (weight, message) = judge(sighting, selections, policy, callers)?;
    let (code, help) = match weight {
        Weight::Error => (
            Code::PolicyDenied.word(),
            "`crypto-cli policy explain` shows what each rule says of the call",
        ),
        Weight::Warning | Weight::Note => {
            ("undecidable", "the service decides when the script runs")
        }
    };
    let found = finding(file, sighting.at, weight, code, message);
    Some(Finding { help: Some(help.to_owned()), ..found })
}

/// A caller's name, and how the script exceeds that caller's limits.
type Beyond = (String, Failure);

/// What the script names, and the callers whose limits it exceeds, with how. An error is one for every caller.
fn read(
    script: &[u8],
    lanes: &Lanes,
    policy: &Policy,
    callers: &[Caller],
) -> Result<(Vec<Sighting>, Vec<Beyond>), Failure> {
    let mut sightings = None;
    let mut beyond: Vec<Beyond> = Vec::new();
    let mut tried: Vec<(Limits, Option<Failure>)> = Vec::new();
    for caller in callers {
        let limits = policy.limits_for(caller);
        let failed = match tried.iter().find(|(same, _)| *same == limits) {
            Some((_, failed)) => failed.clone(),
            None => {
                let failed = match broker::check(lanes, script, &limits) {
                    Ok(seen) => {
                        sightings = Some(seen);
                        None
                    }
                    Err(failure @ Failure { code: Code::Internal, .. }) => return Err(failure),
                    Err(failure) => Some(failure),
                };
                tried.push((limits, failed.clone()));
                failed
            }
        };
        beyond.extend(failed.map(|failure| (caller.name().to_owned(), failure)));
    }
    match (sightings, beyond.pop()) {
        (Some(sightings), last) => {
            beyond.extend(last);
            Ok((sightings, beyond))
        }
        (None, Some((_, failure))) => Err(failure),
        (None, None) => Ok((Vec::new(), beyond)),
    }
}

/// Whether the call is refused to every one of these callers, or may be; `None` when it is allowed to
/// all of them.
fn judge(
    sighting: &Sighting,
    selections: &Selections,
    policy: &Policy,
    callers: &[Caller],
) -> Option<(Weight, String)> {
    let Some(call) = sighting.call else {
        let text = "a function is named while the script runs".to_owned();
        return Some((Weight::Warning, text));
    };
    let keys = selections.keys_of(sighting);
    let foresee = |caller: &Caller, key: Option<&KeyRef>| {
        let known = Known {
            key,
            message: sighting.message.as_deref(),
            namespace: sighting.namespace.as_deref(),
            algorithm: sighting.algorithm,
            own_key: (sighting.own_key || sighting.on_selected).then_some(sighting.own_key),
            now: Some(files::now()),
        };
        policy.foresee(caller, call, known)
    };
    let foresee_all = |caller| match keys.as_slice() {
        [] => vec![(caller, foresee(caller, None))],
        keys => keys.iter().map(|key| (caller, foresee(caller, Some(key)))).collect(),
    };
    let foreseen: Vec<(&Caller, Foresight)> = callers.iter().flat_map(foresee_all).collect();
    let is_refused = |(_, foresight): &(_, Foresight)| matches!(foresight, Foresight::Refused(_));
    // An object map may have a function of its own by this name.
    if !sighting.perhaps_own
        && foreseen.iter().all(is_refused)
        && let Some((caller, Foresight::Refused(why))) = foreseen.last()
    {
        return Some((Weight::Error, format!("{why} (for `{}`)", caller.name())));
    }
    let open = foreseen.iter().find(|(_, foresight)| *foresight != Foresight::Certain)?;
    let why = match &open.1 {
        Foresight::Possible(why) | Foresight::Refused(why) => why,
        Foresight::Certain => return None,
    };
    Some((Weight::Warning, format!("`{call}` may be refused: {why} (for `{}`)", open.0.name())))
}
