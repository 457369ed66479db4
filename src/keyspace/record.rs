//! Sealed records: what stands in the database, and nothing of it can be read without the root key.

use data_encoding::HEXLOWER;
use wire::Name;
use wire::codec::{Malformed, Reader, Writer};
use zeroize::Zeroizing;

use crate::error::KeyspaceError;
use crate::key::KeyRecord;
use crate::seal::{NONCE_BYTES, RootKeys, open, seal};
use crate::secret::public_random;
use crate::store::SERVICE;

/// What a record begins with: its generation and its nonce.
pub(crate) const PREFIX_BYTES: usize = 8 + NONCE_BYTES;

/// What a record is. The number is part of what is sealed, so none can stand in for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Space = 1,
    Key = 2,
    Service = 3,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Space => "key space",
            Self::Key => "key",
            Self::Service => "service key",
        }
    }

    /// How long the ids are that such a record can have.
    pub(crate) fn id_bytes(self) -> usize {
        match self {
            Self::Space => 16,
            Self::Key => 32,
            Self::Service => SERVICE.len(),
        }
    }

    /// What is wrong with the record of this id. Its name is sealed; its id is not.
    pub(crate) fn damaged(self, what: &str, id: &[u8]) -> KeyspaceError {
        let (kind, id) = (self.word(), HEXLOWER.encode(id));
        KeyspaceError::Damaged(format!("{what}: the {kind} {id}"))
    }
}

/// Where a record stands.
pub(crate) struct Place<'a> {
    pub(crate) file_id: [u8; 16],
    pub(crate) kind: Kind,
    pub(crate) id: &'a [u8],
}

impl Place<'_> {
    fn aad(&self, generation: u64) -> Vec<u8> {
        let mut aad = self.file_id.to_vec();
        aad.push(self.kind as u8);
        aad.extend_from_slice(&generation.to_be_bytes());
        aad.extend_from_slice(self.id);
        aad
    }

    /// What is wrong with the record in this place.
    pub(crate) fn damaged(&self, what: &str) -> KeyspaceError {
        self.kind.damaged(what, self.id)
    }

    /// The same of what was found wrong when it was read.
    fn says(&self, error: KeyspaceError) -> KeyspaceError {
        if let KeyspaceError::Damaged(what) = error { self.damaged(&what) } else { error }
    }

    /// Seals a record written in this generation of the file.
    pub(crate) fn seal(
        &self,
        keys: &RootKeys,
        generation: u64,
        plain: &[u8],
    ) -> Result<Vec<u8>, KeyspaceError> {
        let nonce: [u8; NONCE_BYTES] = public_random()?;
        let sealed = seal(&keys.record(self.id)?, nonce, plain, &self.aad(generation))?;
        Ok([generation.to_be_bytes().as_slice(), &nonce, &sealed].concat())
    }

    /// Opens the record of a key space: its name, and when it was made in Unix seconds.
    pub(crate) fn open_space(
        &self,
        keys: &RootKeys,
        latest: u64,
        sealed: &[u8],
    ) -> Result<(Name, u64), KeyspaceError> {
        let opened = self.open(keys, latest, sealed)?;
        let (name, created) = take_space(&opened).map_err(|error| self.says(error))?;
        if keys.space_id(&name) != *self.id {
            return Err(self.damaged("a key space stands in another's place"));
        }
        Ok((name, created))
    }

    /// Opens the record of a key.
    pub(crate) fn open_key(
        &self,
        keys: &RootKeys,
        latest: u64,
        sealed: &[u8],
    ) -> Result<KeyRecord, KeyspaceError> {
        let opened = self.open(keys, latest, sealed)?;
        let record = KeyRecord::take(&opened).map_err(|error| self.says(error))?;
        if keys.key_id(&record.path) != *self.id {
            return Err(self.damaged("a key stands in another's place"));
        }
        Ok(record)
    }

    /// Opens a record. A record of a later generation than the header's is none of this file's.
    pub(crate) fn open(
        &self,
        keys: &RootKeys,
        latest: u64,
        bytes: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, KeyspaceError> {
        let damaged = || self.damaged("a record does not open");
        let mut r = Reader::new(bytes);
        let (generation, nonce) =
            r.u64().and_then(|g| Ok((g, r.array()?))).map_err(|Malformed| damaged())?;
        let sealed = bytes.get(PREFIX_BYTES..).ok_or_else(damaged)?;
        if generation > latest {
            return Err(damaged());
        }
        open(&keys.record(self.id)?, nonce, sealed, &self.aad(generation)).ok_or_else(damaged)
    }
}

/// The generation of the file in which a sealed record was written.
pub(crate) fn generation(sealed: &[u8]) -> Option<u64> {
    Reader::new(sealed).u64().ok()
}

/// The contents of a space record: its name and when it was made, in Unix seconds.
pub(crate) fn put_space(name: &Name, created: u64) -> Vec<u8> {
    let mut w = Writer::default();
    w.name(name);
    w.u64(created);
    w.into_bytes()
}

pub(crate) fn take_space(plain: &[u8]) -> Result<(Name, u64), KeyspaceError> {
    let mut r = Reader::new(plain);
    let read = r.name().and_then(|name| Ok((name, r.u64()?)));
    let read = read.and_then(|read| r.end().map(|()| read));
    read.map_err(|Malformed| KeyspaceError::Damaged("a key space record".to_owned()))
}
