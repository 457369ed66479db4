//! The value of a script as tokens: walked without recursion, bounded in bytes and depth.

use rhai::{Array, Dynamic, Map};
use wire::Malformed;
use wire::script::{Ending, Failure, Position};
use wire::tree::{MAX_DEPTH, MAX_TOKENS, Token, Tree};

// What a token takes on the wire, in bytes.
const NUMBER: usize = 9;
const TEXT_OVERHEAD: usize = 5;
const BRACKETS: usize = 2;

/// Flattens a value of at most this many bytes.
pub(crate) fn flatten(value: Dynamic, most: usize) -> Ending {
    match tokens(value, most).map(Tree::new) {
        Ok(Ok(tree)) => Ending::Value(tree),
        Ok(Err(Malformed)) => fail(Failure::Script, "the result is not one value".to_owned()),
        Err(Fault::TooLarge) => {
            fail(Failure::Result, format!("the result has more than {most} bytes"))
        }
        Err(Fault::TooDeep) => {
            fail(Failure::Depth, format!("the result nests deeper than {MAX_DEPTH} levels"))
        }
        Err(Fault::NoJson(what)) => {
            fail(Failure::Script, format!("the result holds {what}, which JSON cannot"))
        }
    }
}

fn fail(failure: Failure, message: String) -> Ending {
    Ending::Failed(failure, message, Position::default())
}

enum Fault {
    TooLarge,
    TooDeep,
    NoJson(String),
}

/// What is left of an open array or map.
enum Rest {
    List(<Array as IntoIterator>::IntoIter),
    Map(<Map as IntoIterator>::IntoIter),
}

fn tokens(value: Dynamic, most: usize) -> Result<Vec<Token>, Fault> {
    let mut tokens = Vec::new();
    let mut open: Vec<Rest> = Vec::new();
    // Bytes are counted as they travel; the tag and length of one text are not the script's.
    let mut left = most.saturating_add(TEXT_OVERHEAD);
    let mut next = Some(value);
    loop {
        if tokens.len() >= MAX_TOKENS {
            return Err(Fault::TooLarge);
        }
        if let Some(value) = next.take() {
            put(value, &mut tokens, &mut open, &mut left)?;
        }
        let Some(innermost) = open.last_mut() else {
            return Ok(tokens);
        };
        next = match innermost {
            Rest::List(items) => items.next(),
            Rest::Map(members) => members.next().map(|(key, value)| {
                left = left.saturating_sub(key.len() + TEXT_OVERHEAD);
                tokens.push(Token::Text(key.to_string()));
                value
            }),
        };
        if next.is_none() {
            tokens.push(Token::End);
            open.pop();
        }
    }
}

fn put(
    value: Dynamic,
    tokens: &mut Vec<Token>,
    open: &mut Vec<Rest>,
    left: &mut usize,
) -> Result<(), Fault> {
    let type_name = value.type_name().to_owned();
    let mut take = |bytes: usize| {
        *left = left.checked_sub(bytes).ok_or(Fault::TooLarge)?;
        Ok(())
    };
    if value.is_unit() {
        take(1)?;
        tokens.push(Token::Unit);
    } else if let Ok(value) = value.as_bool() {
        take(1)?;
        tokens.push(Token::Bool(value));
    } else if let Ok(value) = value.as_int() {
        take(NUMBER)?;
        tokens.push(Token::Int(value));
    } else if let Some(byte) = value.clone().try_cast::<u8>() {
        // What a blob is made of.
        take(NUMBER)?;
        tokens.push(Token::Int(byte.into()));
    } else if let Ok(value) = value.as_float() {
        take(NUMBER)?;
        if !value.is_finite() {
            return Err(Fault::NoJson(value.to_string()));
        }
        tokens.push(Token::Float(value));
    } else if let Ok(value) = value.as_char() {
        take(value.len_utf8() + TEXT_OVERHEAD)?;
        tokens.push(Token::Text(value.to_string()));
    } else if value.is_string() {
        let text = value.into_string().unwrap_or_default();
        take(text.len() + TEXT_OVERHEAD)?;
        tokens.push(Token::Text(text));
    } else if value.is_blob() {
        let bytes = value.into_blob().unwrap_or_default();
        take(bytes.len().saturating_mul(2) + TEXT_OVERHEAD)?;
        tokens.push(Token::Text(data_encoding::HEXLOWER.encode(&bytes)));
    } else if value.is_array() {
        take(BRACKETS)?;
        tokens.push(Token::List);
        open.push(Rest::List(value.into_array().unwrap_or_default().into_iter()));
    } else if let Some(members) = value.try_cast::<Map>() {
        take(BRACKETS)?;
        tokens.push(Token::Map);
        open.push(Rest::Map(members.into_iter()));
    } else {
        return Err(Fault::NoJson(format!("a value of type `{type_name}`")));
    }
    if open.len() > MAX_DEPTH { Err(Fault::TooDeep) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(script: &str) -> Dynamic {
        rhai::Engine::new().eval(script).unwrap()
    }

    fn failure(ending: &Ending) -> Option<Failure> {
        match ending {
            Ending::Failed(failure, ..) => Some(*failure),
            Ending::Value(_) => None,
        }
    }

    #[test]
    fn a_result_is_cut_off_at_its_bytes_and_its_depth() {
        assert_eq!(failure(&flatten(value("\"12345678\""), 8)), None);
        assert_eq!(failure(&flatten(value("\"123456789\""), 8)), Some(Failure::Result));
        assert_eq!(failure(&flatten(value("[1,2,3]"), 23)), Some(Failure::Result));
        let nested = "let a = []; for i in 0..200 { a = [a]; } a";
        assert_eq!(failure(&flatten(value(nested), 10_000)), Some(Failure::Depth));
        assert_eq!(failure(&flatten(value("|x| x"), 100)), Some(Failure::Script));
        assert_eq!(failure(&flatten(value("0.0 / 0.0"), 100)), Some(Failure::Script));
    }

    #[test]
    fn what_json_can_hold_arrives_as_it_was() {
        let Ending::Value(tree) = flatten(value("#{a: [1, 2.5, 'c', ()], b: blob(2, 171)}"), 100)
        else {
            panic!("failed")
        };
        let text = |text: &str| Token::Text(text.to_owned());
        let expected = vec![
            Token::Map,
            text("a"),
            Token::List,
            Token::Int(1),
            Token::Float(2.5),
            text("c"),
            Token::Unit,
            Token::End,
            text("b"),
            text("abab"),
            Token::End,
        ];
        assert_eq!(tree.tokens(), expected);
    }
}
