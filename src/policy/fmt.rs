//! One way to lay a policy out. Values and comments stay what they are.

use crate::diagnostic::{BYTE_ORDER_MARK, without_secrets};
use toml_edit::{Array, Decor, DocumentMut, InlineTable, Item, RawString, Table, Value};

/// Longest list on one line, in characters.
const MOST_CHARS: usize = 120;
const INDENT: &str = "  ";

/// A policy's text, or that of cases, laid out in the one way.
///
/// # Errors
/// Why it cannot be.
pub fn formatted(text: &str) -> Result<String, String> {
    if let Some(rest) = text.strip_prefix(BYTE_ORDER_MARK) {
        return Ok(format!("{BYTE_ORDER_MARK}{}", formatted(rest)?));
    }
    // A last line without its end is a line all the same.
    let text = format!("{text}\n");
    let mut document: DocumentMut =
        text.parse().map_err(|error: toml_edit::TomlError| without_secrets(&error.to_string()))?;
    let written = document.clone();
    let mut is_first = true;
    lay_out_table(document.as_table_mut(), &mut is_first);
    let trailing = tidy(raw(Some(document.trailing())), is_first, false);
    document.set_trailing(trailing.trim_end().to_owned());
    let mut laid_out = document.to_string();
    while laid_out.ends_with("\n\n") {
        laid_out.pop();
    }
    if !laid_out.is_empty() && !laid_out.ends_with('\n') {
        laid_out.push('\n');
    }
    // What this does not understand of a layout, it must not lose.
    let is_same = laid_out.parse::<DocumentMut>().is_ok_and(|again| {
        values(again.as_table()) == values(written.as_table())
            && comments(&again) == comments(&written)
    });
    if is_same {
        Ok(laid_out)
    } else {
        Err("its layout is not understood: nothing was changed".to_owned())
    }
}

fn lay_out_table(table: &mut Table, is_first: &mut bool) {
    for (mut key, item) in table.iter_mut() {
        key.dotted_decor_mut().clear();
        match item {
            Item::Value(value) => {
                let decor = key.leaf_decor_mut();
                let prefix = tidy(raw(decor.prefix()), *is_first, false);
                decor.set_prefix(prefix);
                decor.set_suffix(" ");
                *is_first = false;
                lay_out_value(value, 0);
                let suffix = raw(value.decor().suffix()).trim_end().to_owned();
                value.decor_mut().set_prefix(" ");
                value.decor_mut().set_suffix(suffix);
            }
            Item::Table(table) if table.is_dotted() => lay_out_table(table, is_first),
            Item::Table(table) => lay_out_headed(table, is_first),
            Item::ArrayOfTables(tables) => {
                tables.iter_mut().for_each(|table| lay_out_headed(table, is_first));
            }
            Item::None => {}
        }
    }
}

fn lay_out_headed(table: &mut Table, is_first: &mut bool) {
    // A table that is only there for the tables in it has no header.
    if !table.is_implicit() {
        let prefix = tidy(raw(table.decor().prefix()), *is_first, true);
        let suffix = raw(table.decor().suffix()).trim_end().to_owned();
        table.decor_mut().set_prefix(prefix);
        table.decor_mut().set_suffix(suffix);
        *is_first = false;
    }
    lay_out_table(table, is_first);
}

fn lay_out_value(value: &mut Value, depth: usize) {
    match value {
        Value::Array(array) => lay_out_array(array, depth),
        Value::InlineTable(table) => lay_out_inline(table, depth),
        Value::String(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime(_) => {}
    }
}

fn lay_out_array(array: &mut Array, depth: usize) {
    let parts = |array: &Array| {
        let decors =
            array.iter().flat_map(|value| [value.decor().prefix(), value.decor().suffix()]);
        let texts: Vec<String> = decors.map(|text| raw(text).to_owned()).collect();
        texts.join("") + raw(Some(array.trailing()))
    };
    let around = parts(array);
    array.iter_mut().for_each(|value| lay_out_value(value, depth + 1));
    if !around.contains('\n') && !around.contains('#') {
        on_one_line(array);
        // Without what stands around it, which is laid out later.
        let mut alone = array.clone();
        alone.decor_mut().clear();
        if alone.to_string().chars().count() <= MOST_CHARS {
            return;
        }
    }
    let (inner, outer) = (INDENT.repeat(depth + 1), INDENT.repeat(depth));
    // A comment between an entry and its comma comes after the comma.
    let mut carried = String::new();
    for value in array.iter_mut() {
        let before = carried + raw(value.decor().prefix());
        carried = commented(raw(value.decor().suffix()));
        value.decor_mut().set_prefix(between(&before, &inner));
        value.decor_mut().set_suffix("");
    }
    if !array.is_empty() {
        array.set_trailing_comma(true);
        let trailing = carried + raw(Some(array.trailing()));
        array.set_trailing(between(&trailing, &outer));
    }
}

/// The comments that stand there, the last with the end of its line: what follows is not a part of it.
fn commented(text: &str) -> String {
    let text = text.trim_end();
    if text.is_empty() { String::new() } else { format!("{text}\n") }
}

fn on_one_line(array: &mut Array) {
    for (at, value) in array.iter_mut().enumerate() {
        value.decor_mut().set_prefix(if at == 0 { "" } else { " " });
        value.decor_mut().set_suffix("");
    }
    array.set_trailing_comma(false);
    array.set_trailing("");
}

fn lay_out_inline(table: &mut InlineTable, depth: usize) {
    // Comments in it have no place on one line.
    let mut around = String::new();
    note_inline(&mut table.clone(), &mut around);
    if around.contains('#') {
        return;
    }
    let last = table.len().saturating_sub(1);
    for (at, (mut key, value)) in table.iter_mut().enumerate() {
        key.leaf_decor_mut().set_prefix(" ");
        key.leaf_decor_mut().set_suffix(" ");
        lay_out_value(value, depth);
        value.decor_mut().set_prefix(" ");
        value.decor_mut().set_suffix(if at == last { " " } else { "" });
    }
}

/// What stands before a key or a header: comments on lines of their own, blank lines alone.
fn tidy(before: &str, is_first: bool, is_header: bool) -> String {
    let mut out = String::new();
    let mut is_blank = is_header;
    let mut lines: Vec<&str> = before.split('\n').map(str::trim).collect();
    // What follows the last line end is the indentation of the key.
    lines.pop();
    for line in lines {
        if line.is_empty() {
            is_blank = true;
            continue;
        }
        if is_blank && !(is_first && out.is_empty()) {
            out.push('\n');
        }
        is_blank = false;
        out.push_str(line);
        out.push('\n');
    }
    if is_blank && !(is_first && out.is_empty()) && !(is_header && out.contains('#')) {
        out.push('\n');
    }
    out
}

/// What stands before an entry of a list that has a line for each: comments, then the indentation.
fn between(before: &str, indent: &str) -> String {
    let mut lines = before.split('\n').map(str::trim);
    // A comment on the line of the entry before stays there.
    let same_line = lines.next().filter(|text| !text.is_empty());
    let mut out = same_line.map(|text| format!(" {text}")).unwrap_or_default();
    for comment in lines.filter(|line| !line.is_empty()) {
        out.push_str(&format!("\n{indent}{comment}"));
    }
    out + "\n" + indent
}

fn raw(text: Option<&RawString>) -> &str {
    text.and_then(RawString::as_str).unwrap_or_default()
}

/// Everything that the table says, without how it is written.
fn values(table: &Table) -> String {
    let mut table = table.clone();
    strip(&mut table);
    table.to_string()
}

fn strip(table: &mut Table) {
    *table.decor_mut() = Decor::default();
    for (mut key, item) in table.iter_mut() {
        key.fmt();
        match item {
            Item::Value(value) => strip_value(value),
            Item::Table(table) => strip(table),
            Item::ArrayOfTables(tables) => tables.iter_mut().for_each(strip),
            Item::None => {}
        }
    }
}

fn strip_value(value: &mut Value) {
    *value.decor_mut() = Decor::default();
    match value {
        Value::Array(array) => {
            array.iter_mut().for_each(strip_value);
            array.fmt();
        }
        Value::InlineTable(table) => {
            table.iter_mut().for_each(|(_, value)| strip_value(value));
            table.fmt();
        }
        Value::String(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime(_) => {}
    }
}

/// The comments, in an order that the layout does not change.
fn comments(document: &DocumentMut) -> Vec<String> {
    let mut around = String::new();
    note_table(&mut document.as_table().clone(), &mut around);
    around.push_str(raw(Some(document.trailing())));
    let comments = around.lines().filter_map(|line| line.split_once('#'));
    comments.map(|(_, comment)| comment.trim().to_owned()).collect()
}

/// Notes what stands around the keys and values of a table: blanks and comments, and nothing else.
fn note_table(table: &mut Table, around: &mut String) {
    note(table.decor(), around);
    for (key, item) in table.iter_mut() {
        note(key.leaf_decor(), around);
        note(key.dotted_decor(), around);
        match item {
            Item::Value(value) => note_value(value, around),
            Item::Table(table) => note_table(table, around),
            Item::ArrayOfTables(tables) => {
                tables.iter_mut().for_each(|table| note_table(table, around));
            }
            Item::None => {}
        }
    }
}

fn note_value(value: &mut Value, around: &mut String) {
    let suffix = raw(value.decor().suffix()).to_owned();
    around.push_str(raw(value.decor().prefix()));
    around.push('\n');
    match value {
        Value::Array(array) => {
            array.iter_mut().for_each(|value| note_value(value, around));
            around.push_str(raw(Some(array.trailing())));
            around.push('\n');
        }
        Value::InlineTable(table) => note_inline(table, around),
        Value::String(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime(_) => {}
    }
    around.push_str(&suffix);
    around.push('\n');
}

fn note_inline(table: &mut InlineTable, around: &mut String) {
    for (key, value) in table.iter_mut() {
        note(key.leaf_decor(), around);
        note(key.dotted_decor(), around);
        note_value(value, around);
    }
    around.push_str(raw(Some(table.trailing())));
    around.push('\n');
}

fn note(decor: &Decor, around: &mut String) {
    for text in [decor.prefix(), decor.suffix()] {
        around.push_str(raw(text));
        around.push('\n');
    }
}

#[cfg(test)]
#[path = "fmt_tests.rs"]
mod tests;
