//! The payload of a bundle: 64 KiB chunks, each sealed, the last marked (STREAM, as age v1 has it).

use std::io::{self, Read, Write};

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Nonce, Tag};
use zeroize::Zeroizing;

use crate::error::KeyspaceError;
use crate::seal::TAG_BYTES;
use crate::secret::Secret;

/// Bytes of a chunk before it is sealed; only the last may have fewer.
pub(crate) const CHUNK_BYTES: usize = 64 * 1024;

/// Writes a payload.
pub(crate) struct Sealing<W> {
    to: W,
    cipher: ChaCha20Poly1305,
    counter: u64,
    chunk: Zeroizing<Vec<u8>>,
}

/// Reads a payload.
pub(crate) struct Unsealing<R> {
    from: R,
    cipher: ChaCha20Poly1305,
    counter: u64,
    /// What was opened and not read yet.
    chunk: Zeroizing<Vec<u8>>,
    at: usize,
    /// The first byte of the next chunk, once it is known that there is one.
    ahead: Option<u8>,
    is_last: bool,
}

impl<W: Write> Sealing<W> {
    pub(crate) fn new(to: W, key: &Secret<32>) -> Self {
        let cipher = key.expose(|key| ChaCha20Poly1305::new(key.into()));
        // Of its final size, so that growing leaves no copy behind.
        let chunk = Zeroizing::new(Vec::with_capacity(CHUNK_BYTES + TAG_BYTES));
        Self { to, cipher, counter: 0, chunk }
    }

    pub(crate) fn write(&mut self, mut bytes: &[u8]) -> Result<(), KeyspaceError> {
        while !bytes.is_empty() {
            // A full chunk waits until it is known that it is not the last.
            if self.chunk.len() == CHUNK_BYTES {
                self.seal(false)?;
            }
            let room = CHUNK_BYTES - self.chunk.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.chunk.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    /// Writes the last chunk.
    pub(crate) fn finish(mut self) -> Result<W, KeyspaceError> {
        self.seal(true)?;
        Ok(self.to)
    }

    fn seal(&mut self, is_last: bool) -> Result<(), KeyspaceError> {
        let nonce = nonce(self.counter, is_last);
        let tag = self.cipher.encrypt_inout_detached(&nonce, &[], self.chunk.as_mut_slice().into());
        let tag = tag.map_err(|_| KeyspaceError::Storage("a chunk is too large".to_owned()))?;
        self.chunk.extend_from_slice(&tag);
        self.to.write_all(&self.chunk).map_err(unwritten)?;
        self.chunk.clear();
        self.counter += 1;
        Ok(())
    }
}

impl<R: Read> Unsealing<R> {
    pub(crate) fn new(from: R, key: &Secret<32>) -> Self {
        let cipher = key.expose(|key| ChaCha20Poly1305::new(key.into()));
        let chunk = Zeroizing::new(Vec::with_capacity(CHUNK_BYTES + TAG_BYTES));
        Self { from, cipher, counter: 0, chunk, at: 0, ahead: None, is_last: false }
    }

    /// The next bytes, as many as `buffer` takes. An end before them is an error.
    pub(crate) fn read_exact(&mut self, mut buffer: &mut [u8]) -> Result<(), KeyspaceError> {
        while !buffer.is_empty() {
            let left = self.chunk.get(self.at..).unwrap_or_default();
            if left.is_empty() {
                if self.is_last {
                    return Err(KeyspaceError::bad_bundle("it ends too early"));
                }
                self.unseal()?;
                continue;
            }
            let count = left.len().min(buffer.len());
            let (now, later) = buffer.split_at_mut(count);
            now.copy_from_slice(left.get(..count).unwrap_or_default());
            self.at += count;
            buffer = later;
        }
        Ok(())
    }

    /// Refuses anything that is left over.
    pub(crate) fn end(mut self) -> Result<(), KeyspaceError> {
        while self.at == self.chunk.len() {
            if self.is_last {
                return Ok(());
            }
            self.unseal()?;
        }
        Err(KeyspaceError::bad_bundle("there is something after its end"))
    }

    /// Everything to the end, of at most so many bytes.
    pub(crate) fn read_all(mut self, most: usize) -> Result<Zeroizing<Vec<u8>>, KeyspaceError> {
        let mut all = Zeroizing::new(Vec::with_capacity(most));
        while !self.is_last {
            self.unseal()?;
            if all.len() + self.chunk.len() > most {
                return Err(KeyspaceError::bad_bundle("it is too large"));
            }
            all.extend_from_slice(&self.chunk);
        }
        Ok(all)
    }

    fn unseal(&mut self) -> Result<(), KeyspaceError> {
        self.chunk.clear();
        self.chunk.extend(self.ahead.take());
        let whole = CHUNK_BYTES + TAG_BYTES;
        let want = u64::try_from(whole - self.chunk.len()).unwrap_or(0);
        (&mut self.from).take(want).read_to_end(&mut self.chunk).map_err(unread)?;
        if self.chunk.len() == whole {
            let mut next = [0];
            self.ahead = (read_one(&mut self.from, &mut next).map_err(unread)?).then(|| next[0]);
        }
        self.is_last = self.ahead.is_none();
        let Some(length) = self.chunk.len().checked_sub(TAG_BYTES) else {
            return Err(KeyspaceError::bad_bundle("it is cut short"));
        };
        // An empty chunk would be a second way to end.
        if length == 0 && self.counter > 0 {
            return Err(KeyspaceError::bad_bundle("its last part is empty"));
        }
        let tag: [u8; TAG_BYTES] =
            std::array::from_fn(|at| self.chunk.get(length + at).copied().unwrap_or_default());
        self.chunk.truncate(length);
        let nonce = nonce(self.counter, self.is_last);
        let opened = self.cipher.decrypt_inout_detached(
            &nonce,
            &[],
            self.chunk.as_mut_slice().into(),
            &Tag::from(tag),
        );
        self.at = 0;
        self.counter += 1;
        opened.map_err(|_| KeyspaceError::bad_bundle("a part is damaged or cut off"))
    }
}

/// Whether there was one more byte.
fn read_one(from: &mut impl Read, byte: &mut [u8; 1]) -> io::Result<bool> {
    loop {
        match from.read(byte) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return Ok(read? == 1),
        }
    }
}

/// Eleven bytes that count, and one that says whether it is the last.
fn nonce(counter: u64, is_last: bool) -> Nonce {
    let mut nonce = [0; 12];
    if let Some(count) = nonce.get_mut(3..11) {
        count.copy_from_slice(&counter.to_be_bytes());
    }
    nonce[11] = u8::from(is_last);
    Nonce::from(nonce)
}

pub(crate) fn unread(error: io::Error) -> KeyspaceError {
    KeyspaceError::Bundle(format!("cannot read the bundle: {error}"))
}

pub(crate) fn unwritten(error: io::Error) -> KeyspaceError {
    KeyspaceError::Bundle(format!("cannot write the bundle: {error}"))
}
