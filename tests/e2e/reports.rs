//! Findings as other programs read them: SARIF, and the commands of GitHub's workflows.

use std::path::Path;

use serde_json::Value;

use crate::support::*;

/// Names of files and texts in them that would be something else, were they written as they are.
const NAME: &str = "a b,c:100%25\n::warning file=x::\u{e4}\"'";
const POLICY: &str = "version = 1\nservice.name = \"s\"\nanonymous.roles = [\"r\"]\n\
    \"50%,:\\n::error::\\\"\u{e4}\" = 1\n[[role]]\nname = \"r\"\nallow = [{ calls = [\"sgin%0A\"] }]\n";
const SCRIPT: &str =
    "\"\u{e4}\"; sign(\"m\", \"a/k\");\nlet f = Fn(\"hash\"); f.call(\"100%\", \"x\");";

fn policy_check(file: &Path, format: &str) -> (i32, String) {
    let output = cli().args(["policy", "check", "--format", format]).arg(file).output().unwrap();
    let (exit, out, err) = outcome(&output);
    assert_eq!(err, "", "{format}");
    (exit, out)
}

fn script_check(scratch: &Scratch, file: &Path, format: &str) -> (i32, String) {
    let policy = scratch.policy(
        "[anonymous]\nroles = [\"r\"]\n[[role]]\nname = \"r\"\nallow = [{ calls = [\"hash\"], uses = 1 }]\n",
    );
    let mut command = cli();
    command.args(["check", "--format", format, "--policy"]).arg(policy).arg(file);
    let (exit, out, err) = outcome(&command.output().unwrap());
    assert_eq!(err, "", "{format}");
    (exit, out)
}

/// The findings as the plainest format tells them.
fn findings(out: &str) -> Vec<Value> {
    let told: Value = serde_json::from_str(out).unwrap();
    told["findings"].as_array().unwrap().clone()
}

/// One line of the workflow's log as GitHub's runner reads it: the command, its properties and its text.
fn workflow_command(line: &str) -> (String, Vec<(String, String)>, String) {
    let unescaped = |text: &str, all: &[(&str, &str)]| {
        let text =
            all.iter().fold(text.to_owned(), |text, (code, plain)| text.replace(code, plain));
        text.replace("%25", "%")
    };
    let data = [("%0D", "\r"), ("%0A", "\n")];
    let property = [("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ",")];
    let (head, text) = line.strip_prefix("::").unwrap().split_once("::").unwrap();
    let (command, properties) = head.split_once(' ').unwrap();
    let properties = properties.split(',').map(|one| one.split_once('=').unwrap());
    let properties = properties.map(|(key, value)| (key.to_owned(), unescaped(value, &property)));
    (command.to_owned(), properties.collect(), unescaped(text, &data))
}

fn assert_is_told_to_github(out: &str, expected: &[Value]) {
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), expected.len(), "a line for each and no other: {out}");
    for (line, finding) in lines.iter().zip(expected) {
        let (command, properties, text) = workflow_command(line);
        let word = |key: &str| finding[key].as_str().unwrap().to_owned();
        let number = |key: &str| finding[key].as_u64().unwrap().to_string();
        let level = if command == "notice" { "note" } else { &command };
        assert_eq!(level, word("level"));
        let expected = [
            ("file", word("file")),
            ("line", number("line")),
            ("col", number("column")),
            ("title", word("code")),
        ];
        let expected: Vec<_> = expected.map(|(key, value)| (key.to_owned(), value)).into();
        assert_eq!(properties, expected);
        let help = finding["help"].as_str().map_or(String::new(), |help| format!("\nhelp: {help}"));
        assert_eq!(text, word("message") + &help);
    }
}

/// What the standard (OASIS, version 2.1.0) asks of the parts that are used.
fn assert_is_told_as_sarif(out: &str, expected: &[Value]) {
    let log: Value = serde_json::from_str(out).unwrap();
    assert_eq!(log["version"], "2.1.0");
    assert!(log["$schema"].as_str().unwrap().ends_with("sarif-2.1.0.json"));
    let runs = log["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 1);
    // Columns are counted in characters, which is not what is taken for granted.
    assert_eq!(runs[0]["columnKind"], "unicodeCodePoints");
    let driver = &runs[0]["tool"]["driver"];
    assert_eq!(driver["name"], "crypto-cli");
    let rules = driver["rules"].as_array().unwrap();
    let rules: Vec<&str> = rules.iter().map(|rule| rule["id"].as_str().unwrap()).collect();
    let results = runs[0]["results"].as_array().unwrap();
    assert_eq!(results.len(), expected.len());
    for (result, finding) in results.iter().zip(expected) {
        assert_eq!(result["ruleId"], finding["code"]);
        assert_eq!(rules.iter().filter(|rule| result["ruleId"] == **rule).count(), 1);
        assert_eq!(result["level"], finding["level"]);
        let text = result["message"]["text"].as_str().unwrap();
        assert!(text.starts_with(finding["message"].as_str().unwrap()), "{text}");
        let locations = result["locations"].as_array().unwrap();
        assert_eq!(locations.len(), 1);
        let place = &locations[0]["physicalLocation"];
        let uri = place["artifactLocation"]["uri"].as_str().unwrap();
        assert_eq!(path_of(uri), finding["file"].as_str().unwrap());
        let region = &place["region"];
        assert_eq!(
            (&region["startLine"], &region["startColumn"]),
            (&finding["line"], &finding["column"])
        );
        assert!(region["startLine"].as_u64() > Some(0) && region["startColumn"].as_u64() > Some(0));
    }
}

/// The path that a URI reference (RFC 3986) without a scheme stands for.
fn path_of(uri: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = uri.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let (byte, after) = match first {
            b'%' => (data_encoding::HEXUPPER.decode(&after[..2]).unwrap()[0], &after[2..]),
            byte => {
                let plain = byte.is_ascii_alphanumeric() || b"-._~/".contains(byte);
                assert!(plain, "{:?} in {uri}", char::from(*byte));
                (*byte, after)
            }
        };
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn nothing_that_a_policy_or_its_name_says_becomes_a_part_of_the_report() {
    let scratch = Scratch::new();
    let file = scratch.write(NAME, POLICY);
    let (exit, out) = policy_check(&file, "json");
    let expected = findings(&out);
    assert_eq!((exit, expected.len()), (2, 2), "{out}");
    assert!(expected.iter().all(|finding| finding["file"].as_str() == file.to_str()));
    assert!(out.contains("50%") && out.contains("sgin%0A"), "{out}");
    let (exit, out) = policy_check(&file, "github");
    assert_eq!(exit, 2);
    assert_is_told_to_github(&out, &expected);
    let (exit, out) = policy_check(&file, "sarif");
    assert_eq!(exit, 2);
    assert_is_told_as_sarif(&out, &expected);
}

#[test]
fn what_has_expired_is_told_as_a_note_and_is_no_mistake() {
    let scratch = Scratch::new();
    let file = scratch.policy(
        "[anonymous]\nroles = [\"r\"]\n[[role]]\nname = \"r\"\n\
         allow = [{ calls = [\"hash\"], expires = 2020-01-01T00:00:00Z }]\n",
    );
    let (exit, out) = policy_check(&file, "text");
    assert!(
        exit == 0 && out.contains("note[policy-expired-rule]: r.allow[0] has expired"),
        "{out}"
    );
    let (exit, out) = policy_check(&file, "json");
    let expected = findings(&out);
    assert_eq!((exit, expected.len(), &expected[0]["level"]), (0, 1, &"note".into()));
    assert_is_told_to_github(&policy_check(&file, "github").1, &expected);
    assert_is_told_as_sarif(&policy_check(&file, "sarif").1, &expected);
}

#[test]
fn what_check_finds_in_a_script_is_told_to_github_and_as_sarif() {
    let scratch = Scratch::new();
    let file = scratch.write(NAME, SCRIPT);
    let (exit, out) = script_check(&scratch, &file, "json");
    let expected = findings(&out);
    let places: Vec<_> = expected
        .iter()
        .map(|finding| {
            (finding["level"].as_str(), finding["line"].as_u64(), finding["column"].as_u64())
        })
        .collect();
    let all = [(Some("error"), Some(1), Some(6)), (Some("warning"), Some(2), Some(9))];
    assert_eq!((exit, places.as_slice()), (1, all.as_slice()), "{out}");
    let (exit, out) = script_check(&scratch, &file, "github");
    assert_eq!(exit, 1);
    assert_is_told_to_github(&out, &expected);
    let (exit, out) = script_check(&scratch, &file, "sarif");
    assert_eq!(exit, 1);
    assert_is_told_as_sarif(&out, &expected);
}

#[test]
fn a_file_without_findings_is_a_report_without_results() {
    let scratch = Scratch::new();
    let file = scratch.write("good.rhai", "1");
    assert_eq!(script_check(&scratch, &file, "github"), (0, String::new()));
    let (exit, out) = script_check(&scratch, &file, "sarif");
    assert_eq!(exit, 0);
    assert_is_told_as_sarif(&out, &[]);
    let file = scratch.policy("");
    assert_eq!(policy_check(&file, "github"), (0, String::new()));
    let (exit, out) = policy_check(&file, "sarif");
    assert_eq!(exit, 0);
    assert_is_told_as_sarif(&out, &[]);
}
