//! The value of a script, flattened: a list of tokens instead of a tree, so that neither end
//! recurses and the broker needs no parser for what a worker returns.

use crate::codec::{Malformed, Reader, Writer};
use crate::script::MAX_VALUE_BYTES;

/// Deepest nesting of a result. Ordinary results nest two or three levels.
pub const MAX_DEPTH: usize = 32;
/// Most tokens of a value: as many as the JSON of the largest result can hold. Each takes far more room
/// in memory than on the wire.
pub const MAX_TOKENS: usize = MAX_VALUE_BYTES / 2;

/// One piece of a value, in writing order.
#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    /// Nothing: `null` in JSON.
    Unit,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A finite number.
    Float(f64),
    /// Text.
    Text(String),
    /// The start of an array.
    List,
    /// The start of a map; within it every value follows its [`Token::Text`] key.
    Map,
    /// The end of the innermost array or map.
    End,
}

/// A value: well-formed by construction.
#[derive(Debug, Clone, PartialEq)]
pub struct Tree(Vec<Token>);

impl Tree {
    /// Nothing.
    #[must_use]
    pub fn unit() -> Self {
        Self(vec![Token::Unit])
    }

    /// Accepts tokens that form exactly one value, at most [`MAX_DEPTH`] deep.
    ///
    /// # Errors
    /// [`Malformed`] when they do not.
    pub fn new(tokens: Vec<Token>) -> Result<Self, Malformed> {
        let mut open: Vec<Level> = Vec::new();
        let mut values_at_top = 0_u32;
        for token in &tokens {
            if *token == Token::End {
                match open.pop() {
                    Some(Level::List | Level::Key) => {}
                    Some(Level::Value) | None => return Err(Malformed),
                }
                continue;
            }
            match open.last_mut() {
                None => values_at_top += 1,
                Some(Level::List) => {}
                Some(level @ Level::Key) => {
                    if !matches!(token, Token::Text(_)) {
                        return Err(Malformed);
                    }
                    *level = Level::Value;
                    continue;
                }
                Some(level @ Level::Value) => *level = Level::Key,
            }
            match token {
                Token::List => open.push(Level::List),
                Token::Map => open.push(Level::Key),
                Token::Float(x) if !x.is_finite() => return Err(Malformed),
                Token::Unit
                | Token::Bool(_)
                | Token::Int(_)
                | Token::Float(_)
                | Token::Text(_)
                | Token::End => {}
            }
            if open.len() > MAX_DEPTH {
                return Err(Malformed);
            }
        }
        if values_at_top == 1 && open.is_empty() { Ok(Self(tokens)) } else { Err(Malformed) }
    }

    /// The tokens, in writing order.
    #[must_use]
    pub fn tokens(&self) -> &[Token] {
        &self.0
    }

    /// The text, if the value is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Token::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Bytes of all its texts, and one for each other token.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        let size = |token: &Token| match token {
            Token::Text(text) => text.len(),
            Token::Unit
            | Token::Bool(_)
            | Token::Int(_)
            | Token::Float(_)
            | Token::List
            | Token::Map
            | Token::End => 1,
        };
        self.0.iter().map(size).sum()
    }

    pub(crate) fn put(&self, w: &mut Writer) {
        w.list(&self.0, |w, token| match token {
            Token::Unit => w.u8(0),
            Token::Bool(value) => w.u8(1 + u8::from(*value)),
            Token::Int(value) => {
                w.u8(3);
                w.u64(value.cast_unsigned());
            }
            Token::Float(value) => {
                w.u8(4);
                w.u64(value.to_bits());
            }
            Token::Text(value) => {
                w.u8(5);
                w.text(value);
            }
            Token::List => w.u8(6),
            Token::Map => w.u8(7),
            Token::End => w.u8(8),
        });
    }

    pub(crate) fn take(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Self::new(r.list_of_at_most(MAX_TOKENS, |r| {
            Ok(match r.u8()? {
                0 => Token::Unit,
                1 => Token::Bool(false),
                2 => Token::Bool(true),
                3 => Token::Int(r.u64()?.cast_signed()),
                4 => Token::Float(f64::from_bits(r.u64()?)),
                5 => Token::Text(r.text()?.to_owned()),
                6 => Token::List,
                7 => Token::Map,
                8 => Token::End,
                _ => return Err(Malformed),
            })
        })?)
    }
}

/// What may come next inside an open array or map.
enum Level {
    List,
    Key,
    Value,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_that_are_not_one_value_are_refused() {
        let key = || Token::Text("k".into());
        let bad: Vec<Vec<Token>> = vec![
            vec![],
            vec![Token::Unit, Token::Unit],
            vec![Token::End],
            vec![Token::List],
            vec![Token::Map, Token::Int(1), Token::Int(2), Token::End],
            vec![Token::Map, key(), Token::End],
            vec![Token::Map, key(), Token::List, Token::End],
            vec![Token::Float(f64::NAN)],
            vec![Token::Float(f64::INFINITY)],
            [vec![Token::List; MAX_DEPTH + 1], vec![Token::End; MAX_DEPTH + 1]].concat(),
        ];
        for tokens in bad {
            assert_eq!(Tree::new(tokens.clone()), Err(Malformed), "{tokens:?}");
        }
        let good = vec![
            Token::Map,
            key(),
            Token::List,
            Token::Bool(true),
            Token::Map,
            Token::End,
            Token::End,
            key(),
            Token::Float(0.5),
            Token::End,
        ];
        assert!(Tree::new(good).is_ok());
        assert!(
            Tree::new([vec![Token::List; MAX_DEPTH], vec![Token::End; MAX_DEPTH]].concat()).is_ok()
        );
    }
}
