//! Bytes that pass between two of our processes and are for nobody's eyes.

use zeroize::Zeroizing;

/// A passphrase on its way to the process that uses it. It cannot be printed or cloned, and is wiped on drop.
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

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hidden(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_does_not_print() {
        assert_eq!(format!("{:?}", Hidden::new(b"secret".to_vec())), "Hidden(..)");
    }

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
