//! `parse_json` for scripts: a JSON parser, where the engine's own would evaluate the text.

use rhai::{Dynamic, EvalAltResult, Map};
use serde_json::Value;

/// Longest text, in bytes.
const MAX_BYTES: usize = 1024 * 1024;

/// Parses JSON. The parser refuses what nests deeper than 128 levels.
pub(crate) fn parse(text: &str) -> Result<Dynamic, Box<EvalAltResult>> {
    if text.len() > MAX_BYTES {
        return Err("the JSON text is longer than 1 MiB".into());
    }
    let value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    Ok(convert(value))
}

fn convert(value: Value) -> Dynamic {
    match value {
        Value::Null => Dynamic::UNIT,
        Value::Bool(value) => value.into(),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => whole.into(),
            None => number.as_f64().unwrap_or(f64::NAN).into(),
        },
        Value::String(text) => text.into(),
        Value::Array(items) => items.into_iter().map(convert).collect::<rhai::Array>().into(),
        Value::Object(members) => {
            let members = members.into_iter().map(|(key, value)| (key.into(), convert(value)));
            members.collect::<Map>().into()
        }
    }
}
