//! One way to lay a policy out. Values and comments stay what they are.

use crate::diagnostic::BYTE_ORDER_MARK;
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
    let text = &if text.is_empty() || text.ends_with('\n') {
        text.to_owned()
    } else {
        format!("{text}\n")
    };
    let mut document: DocumentMut =
        text.parse().map_err(|error: toml_edit::TomlError| error.to_string())?;
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
        if array.to_string().chars().count() <= MOST_CHARS {
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
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_laid_out_in_one_way() {
        let text = "# top\n\n\n\nversion=1   # the first\n[service]\n  name   =   \"s\"\n\n\n# a client\n[[client]]\nname=\"a\"\n\
            roles=[ \"r\" ,\"q\",]\nlimits.wall_clock=\"1 s\"\n[[role]]\nname = \"r\"\nallow=[{calls=[\"sign\"],keys=[\"a/*\"]},\n # why\n\
            {calls=[\"hash\"]} # and this\n]\n# end\n\n";
        let expected = "# top\n\nversion = 1   # the first\n\n[service]\nname = \"s\"\n\n# a client\n[[client]]\nname = \"a\"\n\
            roles = [\"r\", \"q\"]\nlimits.wall_clock = \"1 s\"\n\n[[role]]\nname = \"r\"\nallow = [\n  { calls = [\"sign\"], keys = [\"a/*\"] },\n  # why\n  \
            { calls = [\"hash\"] }, # and this\n]\n# end\n";
        let laid_out = formatted(text).unwrap();
        assert_eq!(laid_out, expected);
        assert_eq!(formatted(&laid_out).unwrap(), laid_out);
    }

    #[test]
    fn a_hash_in_a_text_is_no_comment_and_blanks_around_a_dot_go() {
        for (text, expected) in [
            (
                "allow=[{calls=[\"sign\"],message_prefix=[\"#1\"]},   {calls=[\"hash\"]}]\n",
                "allow = [{ calls = [\"sign\"], message_prefix = [\"#1\"] }, { calls = [\"hash\"] }]\n",
            ),
            ("x = [\"#1\",\n\"#2\"] # one\n", "x = [\n  \"#1\",\n  \"#2\",\n] # one\n"),
            (
                "limits . memory = 1\nlimits\t.\tscript=2\n",
                "limits.memory = 1\nlimits.script = 2\n",
            ),
            ("'#a' = '#b'#c\n", "'#a' = '#b'#c\n"),
            ("\u{feff}a=1", "\u{feff}a = 1\n"),
        ] {
            let laid_out = formatted(text).unwrap();
            assert_eq!(laid_out, expected);
            assert_eq!(formatted(&laid_out).unwrap(), laid_out);
        }
    }

    #[test]
    fn what_ships_is_laid_out_so() {
        for entry in std::fs::read_dir("../../policy/examples").unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            assert_eq!(formatted(&text).unwrap(), text, "{}", path.display());
        }
    }

    #[test]
    fn a_long_list_has_a_line_for_each_entry() {
        let names: Vec<String> = (0..30).map(|n| format!("\"role-{n}\"")).collect();
        let text = format!("roles = [{}]\n", names.join(", "));
        let laid_out = formatted(&text).unwrap();
        assert_eq!(laid_out.lines().count(), 32);
        assert_eq!(formatted(&laid_out).unwrap(), laid_out);
        assert!(formatted("roles = [").is_err());
    }

    /// The lines without blank ones and without what stands before and behind.
    fn trimmed(text: &str) -> Vec<&str> {
        text.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
    }

    #[test]
    fn a_comment_before_and_behind_every_line_stays_there() {
        for entry in std::fs::read_dir("../../policy/examples").unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let comment = |(at, line)| format!("# before {at}: [x]\n{line} # behind {at}: \"{{\n");
            let commented: String = text.lines().enumerate().map(comment).collect();
            let laid_out = formatted(&commented).unwrap();
            assert_eq!(trimmed(&laid_out), trimmed(&commented), "{}", path.display());
            assert_eq!(formatted(&laid_out).unwrap(), laid_out);
        }
    }

    #[test]
    fn comments_in_odd_places_are_kept_in_their_order() {
        let text = "#0#\n  #1#\n\nversion=1#2#\n[service]#3#\n#4#\nname='#5#'#6#\n\n#7#\n\n[ limits ] #8#\n\
            #9#\n[[role]]#10#\nname=\"r\"#11#\nlimits.operations=5#12#\n#13#\nallow=[#14#\n#15#\n\
            {calls=[#16#\n\"hash\"#17#\n,#18#\n\"sign\",#19#\n],keys=[\"a/*\"]}#20#\n#21#\n,#22#\n#23#\n\
            {calls=[\"random_bytes\"]}#24#\n#25#\n]#26#\n#27#\ndeny=[#28#\n#29#\n]#30#\n\n\n#31#\n#32#";
        let marks = |text: &str| {
            let numbers = text.split('#').filter_map(|part| part.parse::<usize>().ok());
            numbers.collect::<Vec<usize>>()
        };
        let laid_out = formatted(text).unwrap();
        assert_eq!(marks(&laid_out), (0..=32).collect::<Vec<_>>(), "{laid_out}");
        assert_eq!(formatted(&laid_out).unwrap(), laid_out);
        let parsed = |text| crate::Policy::parse("p.toml", text).unwrap().without_lines();
        assert_eq!(parsed(&laid_out), parsed(text));
    }
}
