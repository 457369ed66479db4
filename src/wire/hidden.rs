//! Bytes that pass between two of our processes and are for nobody's eyes.

use zeroize::Zeroizing;

/// A passphrase or a private key's file on its way to the process that uses it. It is wiped on drop, and cannot be
/// cloned or printed, nor can what it is a part of:
///
/// ```compile_fail
/// println!("{:?}", wire::Hidden::new(Vec::new()));
/// ```
/// ```compile_fail
/// println!("{:?}", wire::admin::ToAdmin::Unseal(wire::Hidden::new(Vec::new())));
/// ```
/// ```
/// assert_eq!(wire::Hidden::new(b"abc".to_vec()).expose(<[u8]>::len), 3);
/// ```
pub struct Hidden(Zeroizing<Vec<u8>>);

impl Hidden {
    /// Takes the bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Whether both are the same, as where one was typed twice.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        *self.0 == *other.0
    }

    /// Lends the bytes to a closure.
    pub fn expose<R>(&self, read: impl FnOnce(&[u8]) -> R) -> R {
        read(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_something_hidden_in_a_frame_does_not_move_it() {
        let mut w = crate::codec::Writer::default();
        w.text("before");
        w.hidden(&Hidden::new(vec![7; 1000]));
        let place = w.as_bytes().as_ptr();
        w.raw(&[0; 256 - 4]);
        assert_eq!(w.as_bytes().as_ptr(), place);
        let whole = [b"\0\0\0\x06before\0\0\x03\xe8".as_slice(), &[7; 1000], &[0; 252]].concat();
        assert_eq!(w.into_bytes(), whole);
    }
}
