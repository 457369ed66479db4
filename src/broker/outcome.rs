//! How a request ended, and how that is told.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use policy::Caller;
use proof::LogPlace;
use serde::Serialize;
use wire::Code;
use wire::script::Position;
use wire::tree::{Token, Tree};

use crate::audit::AuditError;

/// What one request came to.
#[derive(Debug)]
pub struct Outcome {
    /// The value, or why there is none.
    pub ending: Result<Tree, Failure>,
    /// What `print` wrote.
    pub output: String,
    /// What it took.
    pub usage: Usage,
}

/// Why there is no value: what the caller may know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// From the closed list.
    pub code: Code,
    /// One or a few lines for a person.
    pub message: String,
    /// Where in the script; 0 is unknown.
    pub at: Position,
}

/// A request that was answered, and what its answer is to prove.
pub(crate) struct Done {
    pub(crate) outcome: Outcome,
    /// The payload of the answer: what was measured, recorded, signed and is sent is the same.
    pub(crate) body: Vec<u8>,
    /// The nkey, `anonymous`, or empty.
    pub(crate) caller: String,
    /// The private keys that were used, by name.
    pub(crate) keys: BTreeSet<String>,
    pub(crate) audit: Option<LogPlace>,
}

impl Done {
    pub(crate) fn failed(failure: Failure, as_json: bool) -> Self {
        let outcome = Outcome::failed(failure);
        let body = outcome.body(as_json);
        Self::of(outcome, body)
    }

    pub(crate) fn of(outcome: Outcome, body: Vec<u8>) -> Self {
        Self { outcome, body, caller: String::new(), keys: BTreeSet::new(), audit: None }
    }

    /// The same, where it is known who asked.
    pub(crate) fn told_to(self, caller: &Caller) -> Self {
        Self { caller: caller.nkey().unwrap_or("anonymous").to_owned(), ..self }
    }
}

/// What a script took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Engine steps, by the worker's account.
    pub operations: u64,
    /// Most memory at once in bytes, by the worker's account.
    pub memory_bytes: u64,
    /// Microseconds from start to end.
    pub wall_us: u64,
    /// Calls of host functions.
    pub host_calls: u64,
}

impl Failure {
    /// A failure without a place.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), at: Position::default() }
    }

    pub(crate) fn at(self, at: Position) -> Self {
        Self { at, ..self }
    }
}

impl From<AuditError> for Failure {
    fn from(_: AuditError) -> Self {
        Self::new(Code::AuditUnavailable, "the audit log cannot be written")
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { code, message, at } = self;
        if at.line > 0 {
            write!(f, "{code}: {message} (line {}, column {})", at.line, at.column)
        } else {
            write!(f, "{code}: {message}")
        }
    }
}

impl Outcome {
    pub(crate) fn failed(failure: Failure) -> Self {
        Self { ending: Err(failure), output: String::new(), usage: Usage::default() }
    }

    /// The outcome, or one without value and output where its payload would be larger than this.
    pub(crate) fn fitted(self, most: usize, as_json: bool) -> Self {
        let size = self.body(as_json).len();
        if size <= most {
            return self;
        }
        let text = format!("the answer has {size} bytes, at most {most} can be sent");
        let too_large = Failure::new(Code::LimitResult, text);
        let failure = self.ending.err().unwrap_or(too_large);
        let shorter = Self { ending: Err(failure), output: String::new(), usage: self.usage };
        if shorter.body(as_json).len() <= most {
            return shorter;
        }
        // Not even its message can be sent: its code and place can.
        let wordless =
            shorter.ending.err().map(|failure| Failure { message: String::new(), ..failure });
        Self {
            ending: Err(wordless.unwrap_or_else(|| Failure::new(Code::LimitResult, ""))),
            ..shorter
        }
    }

    /// The reply's payload: a text value as it is, another as JSON, an error's message; or the
    /// whole outcome as JSON.
    #[must_use]
    pub fn body(&self, as_json: bool) -> Vec<u8> {
        match &self.ending {
            _ if as_json => self.json().into_bytes(),
            Ok(tree) => text(tree).into_bytes(),
            Err(failure) => failure.to_string().into_bytes(),
        }
    }

    /// The whole outcome as one line of JSON.
    #[must_use]
    pub fn json(&self) -> String {
        #[derive(Serialize)]
        struct Shown<'a> {
            code: &'a str,
            message: &'a str,
            line: u32,
            column: u32,
        }
        let (status, detail) = match &self.ending {
            Ok(tree) => ("ok", format!("\"result\":{}", json(tree))),
            Err(Failure { code, message, at: Position { line, column } }) => {
                let shown = Shown { code: code.word(), message, line: *line, column: *column };
                ("error", format!("\"error\":{}", to_json(&shown)))
            }
        };
        let (output, usage) = (to_json(&self.output), to_json(&self.usage));
        format!(
            "{{\"schema\":1,\"status\":\"{status}\",{detail},\"output\":{output},\"usage\":{usage}}}"
        )
    }
}

/// A value as people read it: a text as it is, anything else as JSON.
fn text(tree: &Tree) -> String {
    tree.as_text().map_or_else(|| json(tree), str::to_owned)
}

/// A value as JSON. The tokens are well-formed, so their order is all that there is to do.
fn json(tree: &Tree) -> String {
    let mut out = String::new();
    // For each open array or map: its closing bracket, and how many tokens it has had.
    let mut open: Vec<(char, usize)> = Vec::new();
    for token in tree.tokens() {
        if *token == Token::End {
            out.extend(open.pop().map(|(bracket, _)| bracket));
            continue;
        }
        if let Some((bracket, count)) = open.last_mut() {
            let after_key = *bracket == '}' && *count % 2 == 1;
            if after_key {
                out.push(':');
            } else if *count > 0 {
                out.push(',');
            }
            *count += 1;
        }
        match token {
            Token::Unit => out.push_str("null"),
            Token::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Token::Int(value) => {
                let _infallible = write!(out, "{value}");
            }
            Token::Float(value) => out.push_str(&to_json(value)),
            Token::Text(value) => out.push_str(&to_json(value)),
            Token::List => {
                out.push('[');
                open.push((']', 0));
            }
            Token::Map => {
                out.push('{');
                open.push(('}', 0));
            }
            Token::End => {}
        }
    }
    out
}

fn to_json(value: &impl Serialize) -> String {
    // Texts, numbers and flat structs of them always serialise.
    let json = serde_json::to_string(value).unwrap_or_default();
    // JSON may hold such characters as they are, but people look at JSON on terminals.
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        if wire::steers(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            escaped.push(character);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(tokens: Vec<Token>) -> Tree {
        Tree::new(tokens).unwrap()
    }

    #[test]
    fn nested_values_and_hostile_texts_come_out_as_json() {
        let text = |text: &str| Token::Text(text.into());
        let value = tree(vec![
            Token::List,
            Token::Map,
            text("a\"b"),
            Token::List,
            Token::End,
            text("c"),
            Token::Map,
            text("d"),
            Token::Unit,
            Token::End,
            Token::End,
            text("line\nand \u{1b}[2J"),
            Token::Float(0.5),
            Token::Int(-3),
            Token::Bool(true),
            Token::End,
        ]);
        let expected = r#"[{"a\"b":[],"c":{"d":null}},"line\nand \u001b[2J",0.5,-3,true]"#;
        assert_eq!(json(&value), expected);
        let outcome = Outcome { ending: Ok(value), output: "p\n".into(), usage: Usage::default() };
        let whole: serde_json::Value = serde_json::from_str(&outcome.json()).unwrap();
        assert_eq!(whole["status"], "ok");
        assert_eq!(whole["result"][0]["c"]["d"], serde_json::Value::Null);
        assert_eq!(whole["output"], "p\n");
        assert_eq!(outcome.body(false), expected.as_bytes());
    }

    #[test]
    fn a_text_is_the_whole_payload_and_an_error_names_its_place() {
        let outcome = Outcome {
            ending: Ok(tree(vec![Token::Text("a\nb".into())])),
            output: String::new(),
            usage: Usage::default(),
        };
        assert_eq!(outcome.body(false), b"a\nb");
        let failure = Failure::new(Code::ScriptError, "no").at(Position { line: 3, column: 9 });
        let outcome = Outcome::failed(failure);
        assert_eq!(outcome.body(false), b"script-error: no (line 3, column 9)");
        let whole: serde_json::Value = serde_json::from_str(&outcome.json()).unwrap();
        assert_eq!(whole["error"]["code"], "script-error");
        assert_eq!(whole["error"]["line"], 3);
    }
}
