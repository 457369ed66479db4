//! Findings in files: with their lines for people, and as data for programs.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde_json::json;
use wire::Code;

use crate::args::ReportFormat;
use crate::exit::Fault;
use crate::say;

/// How bad a finding is: the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Weight {
    /// It will be refused.
    Error,
    /// It may be.
    Warning,
    /// It is good to know.
    Note,
}

/// Something that was found in a file.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) file: String,
    pub(crate) weight: Weight,
    /// The same for findings of one kind.
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
    /// From 1; 0 is the file as a whole.
    pub(crate) line: usize,
    /// From 1, in characters.
    pub(crate) column: usize,
    /// Bytes of the source, where the end is known.
    pub(crate) span: Option<std::ops::Range<usize>>,
}

/// Most findings that are drawn for people, who read the first ones.
const MOST_DRAWN: usize = 100;
/// Longest line that is drawn, in bytes.
const MOST_LINE_BYTES: usize = 4096;

/// Prints findings; `sources` are the files they are in, with their text.
pub(crate) fn print(
    findings: &[Finding],
    sources: &[(String, String)],
    format: ReportFormat,
) -> Result<(), Fault> {
    print_with(findings, sources, &[], format)
}

/// The same, with a word for each file.
pub(crate) fn print_with(
    findings: &[Finding],
    sources: &[(String, String)],
    verdicts: &[(String, &str)],
    format: ReportFormat,
) -> Result<(), Fault> {
    match format {
        ReportFormat::Text => {
            // However many others there are, errors are seen.
            let mut worst_first: Vec<&Finding> = findings.iter().collect();
            worst_first.sort_by_key(|finding| finding.weight);
            for finding in worst_first.into_iter().take(MOST_DRAWN) {
                let source = sources.iter().find(|(file, _)| *file == finding.file);
                let text = drawn(finding, source.map_or("", |(_, text)| text));
                say::line(&wire::shown(&text, usize::MAX, true))?;
            }
            match findings.len().saturating_sub(MOST_DRAWN) {
                0 => Ok(()),
                more => say::line(&format!("and {more} more, which `--format json` lists")),
            }
        }
        ReportFormat::Json => {
            let findings: Vec<_> = findings.iter().map(as_json).collect();
            let verdict = |(file, word): &(String, &str)| json!({ "file": file, "verdict": word });
            let verdicts: Vec<_> = verdicts.iter().map(verdict).collect();
            let told = json!({ "schema": 1, "verdicts": verdicts, "findings": findings });
            say::line(&told.to_string())
        }
        ReportFormat::Github => findings.iter().try_for_each(|finding| say::line(&github(finding))),
        ReportFormat::Sarif => say::line(&sarif(findings)),
    }
}

/// The finding with the line that it is about, as compilers show theirs.
fn drawn(finding: &Finding, source: &str) -> String {
    let level = match finding.weight {
        Weight::Error => Level::ERROR,
        Weight::Warning => Level::WARNING,
        Weight::Note => Level::NOTE,
    };
    let title = level.primary_title(&*finding.message).id(&*finding.code);
    let excerpt = excerpt(finding, source);
    let mut group = match &excerpt {
        Some((line, span)) => {
            let mark = AnnotationKind::Primary.span(span.clone());
            let snippet = Snippet::source(&**line).line_start(finding.line).path(&*finding.file);
            title.element(snippet.annotation(mark))
        }
        None => {
            let Finding { file, line, column, .. } = finding;
            let place = if *line > 0 { format!("{file}:{line}:{column}") } else { file.clone() };
            title.element(Level::NOTE.message(place))
        }
    };
    if let Some(help) = &finding.help {
        group = group.element(Level::HELP.message(&**help));
    }
    Renderer::plain().render(&[group])
}

/// The line of a finding, fit to be drawn, and what to mark in it: what the finding says, as far as it is
/// on that line, or else the word there.
fn excerpt(finding: &Finding, source: &str) -> Option<(String, std::ops::Range<usize>)> {
    let line = source.split('\n').nth(finding.line.checked_sub(1)?)?;
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.len() > MOST_LINE_BYTES {
        return None;
    }
    let before = finding.column.checked_sub(1)?;
    let at = line.char_indices().nth(before).map_or(line.len(), |(at, _)| at);
    let (head, rest) = (line.get(..at)?, line.get(at..)?);
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let length = match &finding.span {
        Some(span) => rest.floor_char_boundary(span.len()),
        None => match rest.find(|c| !is_part(c)).unwrap_or(rest.len()) {
            0 => rest.chars().next().map_or(0, char::len_utf8),
            word => word,
        },
    };
    let begin = drawable(head).len();
    let end = begin + drawable(rest.get(..length)?).len();
    Some((drawable(&policy::without_secrets(line)), begin..end))
}

/// The text with one character for each of its own: the drawing counts them.
fn drawable(text: &str) -> String {
    let drawn = |c: char| match c {
        '\t' => ' ',
        c if wire::shown(c.encode_utf8(&mut [0; 4]), 1, false).starts_with(c) => c,
        _ => char::REPLACEMENT_CHARACTER,
    };
    text.chars().map(drawn).collect()
}

fn as_json(finding: &Finding) -> serde_json::Value {
    let Finding { file, weight, code, message, help, line, column, span: _ } = finding;
    json!({ "file": file, "level": word(*weight), "code": code, "message": message, "help": help,
        "line": line, "column": column })
}

fn word(weight: Weight) -> &'static str {
    match weight {
        Weight::Error => "error",
        Weight::Warning => "warning",
        Weight::Note => "note",
    }
}

/// A workflow command of GitHub Actions.
fn github(finding: &Finding) -> String {
    let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    let Finding { file, weight, code, message, help, line, column, span: _ } = finding;
    let help = help.as_ref().map(|help| format!("\nhelp: {help}")).unwrap_or_default();
    let place = if *line > 0 { format!(",line={line},col={column}") } else { String::new() };
    // What is a note elsewhere is a notice there.
    let command = if *weight == Weight::Note { "notice" } else { word(*weight) };
    format!(
        "::{command} file={}{place},title={}::{}",
        property(file),
        property(code),
        data(&format!("{message}{help}"))
    )
}

/// A path as a reference (RFC 3986). What follows two slashes at its beginning would be the name of a host.
fn uri(path: &str) -> String {
    let rest = path.trim_start_matches('/');
    let path = if path.starts_with("//") { &format!("/{rest}") } else { path };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let written = |byte: u8| {
        if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    path.bytes().map(written).collect()
}

/// Static Analysis Results Interchange Format, version 2.1.0 (OASIS).
fn sarif(findings: &[Finding]) -> String {
    let mut rules: Vec<&str> = findings.iter().map(|finding| finding.code.as_str()).collect();
    rules.sort_unstable();
    rules.dedup();
    let rules: Vec<_> = rules.iter().map(|code| json!({ "id": code })).collect();
    let results = findings.iter().map(|finding| {
        let help = finding.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
        let file = json!({ "uri": uri(&finding.file) });
        let region = json!({ "startLine": finding.line, "startColumn": finding.column });
        let place = if finding.line > 0 {
            json!({ "artifactLocation": file, "region": region })
        } else {
            json!({ "artifactLocation": file })
        };
        json!({ "ruleId": finding.code, "level": word(finding.weight),
            "message": { "text": format!("{}{help}", finding.message) },
            "locations": [{ "physicalLocation": place }] })
    });
    let results: Vec<_> = results.collect();
    // What could not be looked at is no result of having looked.
    let is_done = !findings.iter().any(|finding| finding.code == Code::Internal.word());
    json!({ "version": "2.1.0", "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "runs": [{ "tool": { "driver": { "name": "crypto-cli", "version": env!("CARGO_PKG_VERSION"),
            "rules": rules } }, "invocations": [{ "executionSuccessful": is_done }], "columnKind": "unicodeCodePoints", "results": results }] })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::uri;

    #[test]
    fn no_path_is_read_as_the_name_of_a_host_or_of_a_scheme() {
        for (path, reference) in [
            ("//x/y", "/x/y"),
            ("///x//y", "/x//y"),
            ("/x//y", "/x//y"),
            ("x//y", "x//y"),
            ("http:x y", "http%3Ax%20y"),
        ] {
            assert_eq!(uri(path), reference);
        }
    }
}
