//! What the documents say is so.

use std::fs;
use std::path::Path;

use policy::Policy;
use proof::Identity;
use wire::{CallName, Code};

use crate::support::*;

fn document(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

#[test]
fn the_policy_of_the_language_page_is_one_and_its_numbers_are_the_defaults() {
    let page = document("policy/README.md");
    let (_, rest) = page.split_once("```toml\n").unwrap();
    let (text, _) = rest.split_once("```").unwrap();
    let text = text.replace("\"U...\"", &format!("{:?}", Identity::generate().nkey()));
    let text = text.replace("sha256:...", &format!("sha256:{}", "0".repeat(64)));
    let demo = "[[role]]\nname = \"demo\"\n";
    let policy = Policy::parse("policy/README.md", &format!("{text}{demo}")).unwrap();
    let bare = Policy::parse("bare", "version = 1\nservice.name = \"s\"\n").unwrap();
    assert_eq!(policy.limits(), bare.limits());
    assert!(policy.anonymous().is_some());
}

#[test]
fn the_example_policy_says_what_its_comments_say() {
    let policy =
        Policy::parse("policy/examples/team.toml", &document("policy/examples/team.toml")).unwrap();
    let billing = policy.client_by_name("billing", 0).unwrap();
    let team = policy.client_by_name("key-team", 0).unwrap();
    assert!(policy.anonymous().is_none());
    assert!(!policy.calls_for(&team).contains(&CallName::Sign), "cannot sign with them");
    assert!(!policy.calls_for(&billing).contains(&CallName::CreateKeypair));
    assert!(policy.client_by_name("billing", 1_900_000_000).is_none(), "expires");
}

/// Each example has cases, they pass, and every rule takes effect in one.
#[test]
fn every_example_policy_decides_as_its_cases_say() {
    let mut tried = 0;
    for entry in fs::read_dir("policy/examples").unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name.ends_with(".cases.toml") {
            continue;
        }
        let output = cli().args(["policy", "test", "--coverage"]).arg(&path).output().unwrap();
        let (exit, out, err) = outcome(&output);
        assert_eq!(exit, 0, "{name}: {out}{err}");
        let checked = cli().args(["policy", "check"]).arg(&path).output().unwrap();
        assert_eq!(outcome(&checked), (0, String::new(), String::new()), "{name}");
        tried += 1;
    }
    assert_eq!(tried, 4);
}

#[test]
fn every_call_and_every_code_is_documented() {
    let (readme, protocol) = (document("README.md"), document("src/wire/PROTOCOL.md"));
    for call in CallName::ALL {
        assert!(readme.contains(&format!("`{}(", call.word())), "{call} is not in the README");
    }
    for code in Code::ALL {
        let entry = format!("{} {}", code.word(), code.number());
        assert!(protocol.contains(&entry), "{entry} is not in PROTOCOL.md");
    }
}

/// `crypto-cli` of the README's blocks, with arguments that it does not know, is an error of 2.
#[test]
fn the_commands_of_the_readme_exist() {
    let readme = document("README.md");
    let mut found = 0;
    for line in readme.lines().filter(|line| line.starts_with("| `crypto-cli ")) {
        for words in line.split('`').filter(|part| part.starts_with("crypto-cli ")) {
            let words: Vec<&str> =
                words.split(' ').skip(1).filter(|w| w.chars().all(char::is_lowercase)).collect();
            let output = cli().args(&words).arg("--help").output().unwrap();
            assert!(output.status.success(), "{words:?}");
            found += 1;
        }
    }
    assert_eq!(found, 43, "every command has its line");
}

#[test]
fn what_may_survive_a_mutation_names_code_that_is_there() {
    let mut code = String::new();
    for folder in ["src/policy", "src/proof", "src/broker"] {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "rs") {
                code += &fs::read_to_string(path).unwrap();
            }
        }
    }
    let list = document("tests/MUTANTS.md");
    let lines: Vec<&str> = list.lines().filter(|line| line.starts_with("| `")).collect();
    assert!(lines.len() > 10, "{list}");
    for line in lines {
        let place = line.split('`').nth(1).unwrap();
        let name = place.rsplit("::").next().unwrap();
        let is_there = ["fn {}(", "fn {}<", "const {}:"]
            .iter()
            .any(|form| code.contains(&form.replace("{}", name)));
        assert!(is_there, "`{place}` is gone");
    }
}
