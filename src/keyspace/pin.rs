//! The generation that the keyspace has reached, noted outside its file: an older file put in its place
//! is found out. The note is as safe as its folder and no safer: who can replace both is not.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use crate::error::KeyspaceError;
use crate::header::Header;
use crate::home::{Home, io_at};

/// Its name in the home.
const FILE: &str = "keyspace.pin";
/// File id and generation.
const BYTES: usize = 24;

/// The note. Where there is none, as for a keyspace in memory, nothing is noted.
pub(crate) struct Pin(Option<File>);

impl Pin {
    /// For a keyspace that has no file.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// Opens it, or makes an empty one.
    pub(crate) fn open(home: &Home) -> Result<Self, KeyspaceError> {
        let path = home.file(FILE);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        Ok(Self(Some(options.open(&path).map_err(io_at(&path))?)))
    }

    /// Refuses a header that is older than what was noted, or another file's. Nothing noted is as
    /// suspicious as a later note.
    pub(crate) fn check(&self, header: &Header) -> Result<(), KeyspaceError> {
        let Some(file) = &self.0 else { return Ok(()) };
        let older = |text: String| Err(KeyspaceError::Older(text));
        let mut noted = [0; BYTES];
        match file.read_exact_at(&mut noted, 0) {
            // Made, and killed before it was noted; there is no key in it yet.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof && header.generation == 1 => {
                return Ok(());
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                return older(format!("there is no note in `{FILE}` of how far it was"));
            }
            Err(error) => return Err(KeyspaceError::Storage(format!("`{FILE}`: {error}"))),
            Ok(()) => {}
        }
        let (id, generation) = noted.split_at(16);
        let generation = u64::from_be_bytes(generation.try_into().unwrap_or([0xff; 8]));
        if id != header.file_id {
            return older(format!("`{FILE}` notes another one"));
        }
        if generation > header.generation {
            let here = header.generation;
            return older(format!("it is of generation {here}, and was at {generation}"));
        }
        Ok(())
    }

    /// Notes a keyspace for the first time, on disk: from now on the note is overwritten in its place and never cut.
    ///
    /// # Errors
    /// When it is not on disk: what it refuses then may be good.
    pub(crate) fn begin(&self, header: &Header) -> Result<(), KeyspaceError> {
        let noted = self.note(&header.file_id, header.generation);
        let synced = noted.and_then(|()| self.0.as_ref().map_or(Ok(()), File::sync_all));
        synced.map_err(|error| KeyspaceError::Storage(format!("`{FILE}`: {error}")))
    }

    /// Notes how far it is. Of a keyspace that was noted before, a note that cannot be written stays behind, which
    /// refuses nothing that is good.
    pub(crate) fn note(&self, file_id: &[u8; 16], generation: u64) -> io::Result<()> {
        let Some(file) = &self.0 else { return Ok(()) };
        file.write_all_at(&[file_id.as_slice(), &generation.to_be_bytes()].concat(), 0)
    }
}
