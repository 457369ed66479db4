//! What a rule is, apart from where it stands: what was used of it survives edits of the file.

use sha2::{Digest, Sha256};
use wire::CallName;

use crate::table::Table;

/// The terms that change how often or when, not what: to edit them does not begin a new count.
const NOT_PART: [&str; 7] = ["name", "calls", "keys", "rate", "uses", "between", "expires"];

/// The role and name of a rule, or for one without a name a digest of what it allows.
pub(crate) fn identity(
    role: &str,
    label: Option<&str>,
    calls: &[CallName],
    keys: &[String],
    table: &Table<'_>,
) -> String {
    if let Some(label) = label {
        return format!("rule {role} {label}");
    }
    let mut parts: Vec<String> = calls.iter().map(|call| format!("call {call}")).collect();
    parts.extend(keys.iter().map(|keys| format!("keys {keys}")));
    parts.extend(table.words_of_all_but(&NOT_PART));
    parts.sort_unstable();
    parts.dedup();
    let digest = Sha256::digest(parts.join("\n").as_bytes());
    let short = digest.get(..8).unwrap_or_default();
    format!("rule {role} #{}", data_encoding::HEXLOWER.encode(short))
}
