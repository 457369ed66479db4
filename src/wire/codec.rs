//! The encoding of frames: big-endian integers, length-prefixed bytes, one tag byte per variant.
//!
//! Decoding is strict: a length past the end, an unknown tag, text that is not UTF-8 or bytes left
//! over make the whole frame [`Malformed`].

use zeroize::Zeroizing;

use crate::hidden::Hidden;
use crate::id::{KeyPath, KeyRef, Name};

/// Bytes that may follow something hidden in a frame: its own length, a name, a few numbers.
const ROOM_AFTER_HIDDEN: usize = 256;

/// A value that travels as one frame.
pub trait Frame: Sized {
    /// Largest encoded frame of this type, in bytes.
    const MAX_BYTES: usize;
    /// Appends the value.
    fn put(&self, w: &mut Writer);
    /// Reads the value back.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes are not such a value.
    fn take(r: &mut Reader<'_>) -> Result<Self, Malformed>;

    /// The value as one frame body.
    fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        self.put(&mut w);
        w.0
    }

    /// Reads one whole frame body.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes are not exactly one such value.
    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader(bytes);
        let value = Self::take(&mut r)?;
        r.end()?;
        Ok(value)
    }
}

/// Bytes that are not the frame that was expected. Between our own processes this is never an
/// accident: the peer is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed frame")]
pub struct Malformed;

/// Collects the bytes of a frame.
#[derive(Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }
    /// Four bytes.
    pub fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }
    /// Eight bytes.
    pub fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }
    /// These bytes as they are.
    pub fn raw(&mut self, value: &[u8]) {
        self.0.extend_from_slice(value);
    }
    #[cfg(test)]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
    /// Everything written so far.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
    /// A length and that many bytes. Longer than 4 GiB cannot be written by any [`Frame`]: every
    /// frame type has a far smaller bound.
    pub fn bytes(&mut self, value: &[u8]) {
        self.u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(value);
    }
    /// Text, as bytes.
    pub fn text(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }
    /// A count and that many items.
    pub fn list<T>(&mut self, items: &[T], mut put: impl FnMut(&mut Self, &T)) {
        self.u32(u32::try_from(items.len()).unwrap_or(u32::MAX));
        for item in items {
            put(self, item);
        }
    }
    /// A flag byte and, if there is one, the value.
    pub fn option<T>(&mut self, value: Option<&T>, put: impl FnOnce(&mut Self, &T)) {
        self.u8(u8::from(value.is_some()));
        if let Some(value) = value {
            put(self, value);
        }
    }
    /// A name.
    pub fn name(&mut self, name: &Name) {
        self.text(name.as_str());
    }
    /// A key in its key space.
    pub fn key_path(&mut self, key: &KeyPath) {
        self.name(&key.space);
        self.name(&key.key);
    }
    /// Bytes for nobody's eyes. Room is made for them and for what follows, and what the room was made from is
    /// wiped: growing leaves no copy behind.
    pub fn hidden(&mut self, value: &Hidden) {
        value.expose(|bytes| {
            let mut roomy = Vec::with_capacity(self.0.len() + bytes.len() + ROOM_AFTER_HIDDEN);
            roomy.extend_from_slice(&self.0);
            drop(Zeroizing::new(std::mem::replace(&mut self.0, roomy)));
            self.bytes(bytes);
        });
    }
    /// A key, with its key space where that is written out.
    pub fn key_ref(&mut self, key: &KeyRef) {
        self.option(key.space.as_ref(), Self::name);
        self.name(&key.key);
    }
}

/// Takes a frame apart.
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads from `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
    /// Exactly `count` bytes.
    ///
    /// # Errors
    /// [`Malformed`] when there are fewer.
    pub fn raw(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = tail;
        Ok(head)
    }
    /// Exactly `N` bytes as an array.
    ///
    /// # Errors
    /// [`Malformed`] when there are fewer.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.raw(N)?.try_into().map_err(|_| Malformed)
    }
    /// One byte.
    ///
    /// # Errors
    /// [`Malformed`] at the end.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_be_bytes(self.array()?))
    }
    /// Four bytes.
    ///
    /// # Errors
    /// [`Malformed`] at the end.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array()?))
    }
    /// Eight bytes.
    ///
    /// # Errors
    /// [`Malformed`] at the end.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.array()?))
    }
    /// A flag: 0 or 1.
    ///
    /// # Errors
    /// [`Malformed`] for any other byte.
    pub fn flag(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }
    /// Length-prefixed bytes.
    ///
    /// # Errors
    /// [`Malformed`] when the length passes the end.
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.length()?;
        self.raw(length)
    }
    /// Length-prefixed UTF-8.
    ///
    /// # Errors
    /// [`Malformed`] when it is not.
    pub fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed)
    }
    /// A counted list. Each item takes at least one byte, so a count past the bytes that are left
    /// is refused before anything is allocated.
    ///
    /// # Errors
    /// [`Malformed`] when the count or an item is.
    pub fn list<T>(
        &mut self,
        take: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        self.list_of_at_most(usize::MAX, take)
    }
    /// The same, of at most so many items.
    ///
    /// # Errors
    /// [`Malformed`] when the count or an item is.
    pub fn list_of_at_most<T>(
        &mut self,
        most: usize,
        mut take: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let count = self.length()?;
        if count > self.0.len().min(most) {
            return Err(Malformed);
        }
        (0..count).map(|_| take(self)).collect()
    }
    /// A flag and perhaps a value.
    ///
    /// # Errors
    /// [`Malformed`] when the flag or the value is.
    pub fn option<T>(
        &mut self,
        take: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        if self.flag()? { take(self).map(Some) } else { Ok(None) }
    }
    /// A name.
    ///
    /// # Errors
    /// [`Malformed`] when the text is not a name.
    pub fn name(&mut self) -> Result<Name, Malformed> {
        Name::parse(self.text()?).map_err(|_| Malformed)
    }
    /// A key in its key space.
    ///
    /// # Errors
    /// [`Malformed`] when either is not a name.
    pub fn key_path(&mut self) -> Result<KeyPath, Malformed> {
        Ok(KeyPath { space: self.name()?, key: self.name()? })
    }
    /// Bytes for nobody's eyes.
    ///
    /// # Errors
    /// [`Malformed`] when the length passes the end.
    pub fn hidden(&mut self) -> Result<Hidden, Malformed> {
        Ok(Hidden::new(self.bytes()?.to_vec()))
    }
    /// A key, with its key space where that is written out.
    ///
    /// # Errors
    /// [`Malformed`] when either is not a name.
    pub fn key_ref(&mut self) -> Result<KeyRef, Malformed> {
        Ok(KeyRef { space: self.option(Self::name)?, key: self.name()? })
    }
    /// Refuses bytes that are left over.
    ///
    /// # Errors
    /// [`Malformed`] when there are any.
    pub fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }

    fn length(&mut self) -> Result<usize, Malformed> {
        usize::try_from(self.u32()?).map_err(|_| Malformed)
    }
}
