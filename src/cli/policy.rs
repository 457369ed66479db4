//! `crypto-cli policy`: validate, explain and test a policy, without a service.

use std::path::{Path, PathBuf};

use policy::{Act, Caller, Case, Decision, Diagnostics, Facts, Policy, Says};
use serde_json::json;
use wire::admin::ToAdmin;
use wire::{Algorithm, CallName, Name};

use crate::args::{
    Format, PolicyCheckArgs, PolicyExplainArgs, PolicyFmtArgs, PolicyReloadArgs, PolicyTestArgs,
    TestFormat,
};
use crate::exit::{Exit, Fault};
use crate::output::STANDARD;
use crate::report::{Finding, Weight};
use crate::{admin, files, key, output, report, say};

pub(crate) fn check(args: &PolicyCheckArgs) -> Result<Exit, Fault> {
    let (mut findings, mut sources) = (Vec::new(), Vec::new());
    for path in &args.files {
        let (file, text) = read(path)?;
        match Policy::parse(&file, &text) {
            Err(found) => findings.extend(found_in(&file, &found)),
            Ok(policy) => {
                findings.extend(policy.remarks(files::now()).into_iter().map(|remark| Finding {
                    file: file.clone(),
                    weight: if remark.has_ended { Weight::Note } else { Weight::Warning },
                    code: remark.code.to_owned(),
                    message: remark.message,
                    help: Some(remark.help.to_owned()),
                    line: remark.line,
                    column: 1,
                    span: None,
                }))
            }
        }
        // The mark is no part of the first line.
        sources.push((file, text.trim_start_matches(policy::BYTE_ORDER_MARK).to_owned()));
    }
    report::print(&findings, &sources, args.format)?;
    let is_wrong = findings.iter().any(|finding| finding.weight == Weight::Error);
    Ok(if is_wrong { Exit::Usage } else { Exit::Done })
}

fn found_in(file: &str, found: &Diagnostics) -> Vec<Finding> {
    let one = |diagnostic: &policy::Diagnostic| Finding {
        file: file.to_owned(),
        weight: Weight::Error,
        code: diagnostic.mistake.code().to_owned(),
        message: diagnostic.message.clone(),
        help: diagnostic.help.clone(),
        line: diagnostic.line,
        column: diagnostic.column,
        span: Some(diagnostic.span.clone()),
    };
    found.found().iter().map(one).collect()
}

fn read(path: &Path) -> Result<(String, String), Fault> {
    let file = path.display().to_string();
    let bytes = files::read_bounded(path, policy::MAX_POLICY_BYTES)?;
    let text = String::from_utf8(bytes);
    let text = text.map_err(|_| Fault::usage(format!("`{file}` is not UTF-8")))?;
    Ok((file, text))
}

pub(crate) fn explain(args: &PolicyExplainArgs) -> Result<Exit, Fault> {
    let path = files::policy_path(args.policy.as_deref(), args.home.as_deref())?;
    let policy = files::read_policy(&path)?.policy;
    let now = moment(args.at.as_deref())?;
    let caller = match args.caller.as_str() {
        "anonymous" => policy.anonymous(),
        name => policy.client_by_name(name, now / 1000),
    };
    let unknown = || Fault::usage(format!("`{}` is no client then", args.caller.escape_debug()));
    // Without a script it is none of those that a role may be for.
    let script = args.script.as_deref().map(files::read_script).transpose()?.unwrap_or_default();
    let caller = caller.ok_or_else(unknown)?.running(&script);
    let call = CallName::from_word(&args.call).ok_or_else(|| {
        Fault::usage(format!("there is no host function `{}`", args.call.escape_debug()))
    })?;
    let target = policy::target(call, args.key.as_deref())
        .map_err(|help| Fault::usage(format!("`{call}` on what? {help}")))?;
    let asked = Asked::of(args, call)?;
    let facts = Facts {
        message: asked.message.as_deref(),
        namespace: asked.namespace.as_ref().map(Name::as_str),
        algorithm: Some(asked.algorithm.unwrap_or(ASSUMED)),
        now,
    };
    let act = Act { call, target };
    let opinions = policy.opinions(&caller, &act, &facts);
    // What a rule asks for and nobody said is not passed over in silence.
    let of_other_key = |other: &Algorithm| {
        let facts = Facts { algorithm: Some(*other), ..facts };
        policy.opinions(&caller, &act, &facts) != opinions
    };
    let assumes_algorithm = asked.algorithm.is_none() && Algorithm::ALL.iter().any(of_other_key);
    let assumes_message = args.message.is_none() && policy.looks_at_messages(&caller, &act);
    let has_own_key = act.has_own_key();
    let (allowed, why) = decided(&policy, &caller, act, &facts);
    let word = if allowed { "allowed" } else { "refused" };
    match args.format {
        Format::Json => {
            let rules = opinions.iter().map(|opinion| {
                json!({ "rule": opinion.rule, "line": opinion.line, "says": opinion.says.to_string() })
            });
            let rules: Vec<_> = rules.collect();
            let mut assumed = serde_json::Map::new();
            if assumes_algorithm {
                assumed.insert("algorithm".to_owned(), ASSUMED.word().into());
            }
            if assumes_message {
                assumed.insert("message".to_owned(), "".into());
            }
            let assumed = (!assumed.is_empty()).then_some(assumed);
            let told = json!({ "schema": 1, "decision": word, "why": why, "rules": rules, "assumed": assumed });
            say::line(&told.to_string())?;
        }
        Format::Text => {
            say::line(&format!("{word}: {why}"))?;
            if has_own_key {
                say::line("  for a key of the script's own: `--key` names a stored one")?;
            }
            if assumes_algorithm {
                say::line(&format!("  for a key of {ASSUMED}: `--algorithm` names another"))?;
            }
            if assumes_message {
                say::line("  for an empty message: `--message` names a file with another")?;
            }
            for opinion in &opinions {
                let mark = if matches!(opinion.says, Says::Allow | Says::Deny) { "*" } else { " " };
                let place = format!("{}:{}", path.display(), opinion.line);
                say::line(&format!("{mark} {place} {} {}", opinion.rule, opinion.says))?;
            }
        }
    }
    Ok(if allowed { Exit::Done } else { Exit::Refused })
}

/// What a key is taken to be for where nobody says it.
const ASSUMED: Algorithm = Algorithm::Ed25519;

/// What is told of a call beside what it is on.
struct Asked {
    /// An empty one, if a call takes one and none is named.
    message: Option<Vec<u8>>,
    namespace: Option<Name>,
    algorithm: Option<Algorithm>,
}

impl Asked {
    /// What no script could call is not asked about.
    fn of(args: &PolicyExplainArgs, call: CallName) -> Result<Self, Fault> {
        let message = match &args.message {
            Some(_) if !call.takes_message() => {
                return Err(Fault::usage(format!(
                    "`{call}` takes no message: leave `--message` out"
                )));
            }
            Some(path) => Some(files::read_bounded(path, wire::script::MAX_SCRIPT_BYTES)?),
            None => call.takes_message().then(Vec::new),
        };
        let namespace = match (&args.namespace, call == CallName::SignIn) {
            (Some(text), true) => {
                let name = Name::parse(text);
                Some(name.map_err(|error| Fault::usage(format!("`--namespace`: {error}")))?)
            }
            (Some(_), false) => {
                let text = format!("`{call}` takes no namespace: leave `--namespace` out");
                return Err(Fault::usage(text));
            }
            (None, true) => {
                return Err(Fault::usage(format!(
                    "`{call}` takes a namespace: name it with `--namespace`"
                )));
            }
            (None, false) => None,
        };
        let algorithm = args.algorithm.as_deref().map(key::algorithm).transpose()?;
        Ok(Self { message, namespace, algorithm })
    }
}

/// Unix milliseconds of the moment that is asked about: now, if none is named.
fn moment(named: Option<&str>) -> Result<u64, Fault> {
    let Some(text) = named else { return Ok(files::now() * 1000) };
    let at = files::instant(text)?.as_millisecond();
    u64::try_from(at).map_err(|_| Fault::usage("`--at` lies before 1970"))
}

/// Whether it is allowed, and why.
fn decided(policy: &Policy, caller: &Caller, act: Act, facts: &Facts<'_>) -> (bool, String) {
    let with = if act.has_own_key() { " with a key of the script's own" } else { "" };
    match policy.decide(caller, act, facts) {
        Decision::Allow(grant) => {
            let (rule, line) = grant.rule();
            let to: Vec<String> = grant.recipients().iter().map(ToString::to_string).collect();
            let to = if to.is_empty() { String::new() } else { format!(", to {}", to.join(" ")) };
            let why = format!(
                "{rule} (line {line}) allows it{with}, as long as its rate and uses last{to}"
            );
            (true, why)
        }
        Decision::Refuse(refusal) => (false, refusal.to_string()),
    }
}

/// What comes from standard input goes, laid out, to standard output.
pub(crate) fn fmt(args: &PolicyFmtArgs) -> Result<Exit, Fault> {
    let mut changed = Vec::new();
    let is_standard = |path: &PathBuf| path.as_path() == Path::new(STANDARD);
    if !args.check && args.format == Format::Json && args.files.iter().any(is_standard) {
        let text = "`-` is written to standard output: leave `--format json` out, or add `--check`";
        return Err(Fault::usage(text));
    }
    for path in &args.files {
        let (file, text) = read(path)?;
        let laid_out = policy::formatted(&text);
        let laid_out = laid_out.map_err(|why| Fault::usage(format!("`{file}`: {why}")))?;
        if is_standard(path) && !args.check {
            say::data(laid_out.as_bytes())?;
            continue;
        }
        if laid_out == text {
            continue;
        }
        if !args.check {
            output::replace(path, laid_out.as_bytes())?;
        } else if args.format == Format::Text {
            say::line(&file)?;
        }
        changed.push(file);
    }
    if args.format == Format::Json {
        say::line(&json!({ "schema": 1, "changed": changed }).to_string())?;
    }
    Ok(if args.check && !changed.is_empty() { Exit::Refused } else { Exit::Done })
}

pub(crate) fn reload(args: &PolicyReloadArgs) -> Result<Exit, Fault> {
    let home = files::home_path(args.home.as_deref())?;
    admin::ask(&home, &ToAdmin::ReloadPolicy, args.format)?;
    Ok(Exit::Done)
}

/// A case and what became of it.
struct Tried {
    file: String,
    case: Case,
    verdict: policy::Verdict,
}

pub(crate) fn test(args: &PolicyTestArgs) -> Result<Exit, Fault> {
    let path = &args.policy;
    let policy = files::read_policy(path)?.policy;
    let beside = path.with_extension("cases.toml");
    let files = if args.cases.is_empty() { vec![beside] } else { args.cases.clone() };
    let mut tried = Vec::new();
    for path in &files {
        let (file, text) = read(path)?;
        let cases = Case::parse_all(&file, &text);
        let cases =
            cases.map_err(|found| Fault::usage(format!("the cases are refused\n{found}")))?;
        for case in cases {
            let verdict = case.try_on(&policy);
            tried.push(Tried { file: file.clone(), case, verdict });
        }
    }
    let uncovered: Vec<_> = policy
        .rules()
        .into_iter()
        .filter(|(rule, _)| !tried.iter().any(|one| one.verdict.has_effect_of(rule)))
        .collect();
    let failed = tried.iter().filter(|one| one.verdict.wrong.is_some()).count();
    let is_short = args.coverage && !uncovered.is_empty();
    match args.format {
        TestFormat::Text => {
            tell(&tried, failed)?;
            if args.coverage {
                let all = policy.rules().len();
                say::line(&format!(
                    "{} of {all} rules take effect in a case",
                    all - uncovered.len()
                ))?;
                for (rule, line) in &uncovered {
                    say::line(&format!(
                        "{}:{line}: {rule} takes effect in no case",
                        path.display()
                    ))?;
                }
            }
        }
        TestFormat::Json => {
            let cases = tried.iter().map(|Tried { file, case, verdict }| {
                json!({ "name": case.name, "file": file, "line": case.line, "rule": verdict.rule, "wrong": verdict.wrong })
            });
            let cases: Vec<_> = cases.collect();
            let uncovered: Vec<_> = uncovered
                .iter()
                .map(|(rule, line)| json!({ "rule": rule, "line": line }))
                .collect();
            say::line(
                &json!({ "schema": 1, "cases": cases, "failed": failed, "uncovered": uncovered })
                    .to_string(),
            )?;
        }
        TestFormat::Junit => {
            let untried: &[(&str, usize)] = if args.coverage { &uncovered } else { &[] };
            say::line(&junit(&tried, failed, &path.display().to_string(), untried))?;
        }
    }
    Ok(if failed > 0 || is_short { Exit::Refused } else { Exit::Done })
}

fn tell(tried: &[Tried], failed: usize) -> Result<(), Fault> {
    for Tried { file, case, verdict } in tried {
        if let Some(wrong) = &verdict.wrong {
            let text = format!("{file}:{}: {}: {wrong}", case.line, case.name);
            say::line(&wire::shown(&text, usize::MAX, false))?;
        }
    }
    say::line(&format!("{} cases, {failed} failed", tried.len()))
}

fn junit(tried: &[Tried], failed: usize, policy: &str, untried: &[(&str, usize)]) -> String {
    let escaped = |text: &str| {
        let text = wire::shown(text, usize::MAX, false);
        // No XML has these, however they are written (XML 1.0, production 2).
        let text = text.replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}");
        text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
    };
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"policy\" tests=\"{}\" failures=\"{}\">\n",
        tried.len() + untried.len(),
        failed + untried.len()
    );
    for Tried { file, case, verdict } in tried {
        let (name, file) = (escaped(&case.name), escaped(file));
        out.push_str(&format!(
            "  <testcase name=\"{name}\" file=\"{file}\" line=\"{}\"",
            case.line
        ));
        out.push_str(&match &verdict.wrong {
            Some(wrong) => format!("><failure message=\"{}\"/></testcase>\n", escaped(wrong)),
            None => "/>\n".to_owned(),
        });
    }
    for (rule, line) in untried {
        let (name, file) = (escaped(&format!("{rule} takes effect in a case")), escaped(policy));
        out.push_str(&format!(
            "  <testcase name=\"{name}\" file=\"{file}\" line=\"{line}\"><failure message=\"it takes effect in no case\"/></testcase>\n"
        ));
    }
    out + "</testsuite>"
}
