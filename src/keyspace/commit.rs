//! One transaction for everything that a script changed.

use std::sync::atomic::Ordering;

use redb::{ReadableTable, WriteTransaction};

use crate::error::{CommitError, KeyspaceError};
use crate::header::Header;
use crate::record::{Kind, put_space};
use crate::staged::Changes;
use crate::store::{HEADER, KEYS, META, SPACES, Unlocked};

impl Unlocked {
    /// Writes all changes in one transaction that is on disk when this returns, or none.
    pub(crate) fn commit(&self, changes: &Changes, now: u64) -> Result<(), CommitError> {
        let transaction = self.database.begin_write().map_err(KeyspaceError::from)?;
        let header = self.write_changes(&transaction, changes, now)?;
        // Before the commit: a reader must never meet a record that is later than this number.
        self.generation.fetch_max(header.generation, Ordering::SeqCst);
        transaction.commit().map_err(KeyspaceError::from)?;
        Ok(())
    }

    fn write_changes(
        &self,
        transaction: &WriteTransaction,
        changes: &Changes,
        now: u64,
    ) -> Result<Header, CommitError> {
        let failed = |error: redb::TableError| KeyspaceError::from(error);
        let mut meta = transaction.open_table(META).map_err(failed)?;
        let mut spaces = transaction.open_table(SPACES).map_err(failed)?;
        let mut keys = transaction.open_table(KEYS).map_err(failed)?;
        let header = self.advance(&mut meta)?;
        for (name, change) in &changes.spaces {
            let id = self.space_id(name);
            if change.delete_stored {
                let gone = spaces.remove(id.as_slice()).map_err(KeyspaceError::from)?;
                expect(gone.is_some_and(|old| changes.saw(old.value())), name)?;
                // A key that was made since is one that the script did not mean.
                let mut all_seen = true;
                keys.retain_in(id.as_slice()..=last_of(&id).as_slice(), |_, old| {
                    all_seen &= changes.saw(old);
                    false
                })
                .map_err(KeyspaceError::from)?;
                expect(all_seen, name)?;
            }
            if change.create.is_some() {
                let place = self.place(Kind::Space, &id);
                let sealed = place.seal(&self.keys, header.generation, &put_space(name, now))?;
                let old = spaces.insert(id.as_slice(), sealed.as_slice());
                expect(old.map_err(KeyspaceError::from)?.is_none(), name)?;
            }
        }
        for (path, change) in &changes.keys {
            let id = self.key_id(path);
            if change.delete_stored {
                let gone = keys.remove(id.as_slice()).map_err(KeyspaceError::from)?;
                expect(gone.is_some_and(|old| changes.saw(old.value())), path)?;
            }
            if let Some(record) = &change.create {
                let space = self.space_id(&path.space);
                let here = spaces.get(space.as_slice()).map_err(KeyspaceError::from)?;
                let made_here = changes.makes_space(&path.space);
                let here = here.is_some_and(|found| made_here || changes.saw(found.value()));
                expect(here, &path.space)?;
                let place = self.place(Kind::Key, &id);
                let sealed = place.seal(&self.keys, header.generation, &record.put())?;
                let old = keys.insert(id.as_slice(), sealed.as_slice());
                expect(old.map_err(KeyspaceError::from)?.is_none(), path)?;
            }
        }
        Ok(header)
    }

    /// Counts the header's generation up, after checking that it is still ours.
    fn advance(&self, meta: &mut redb::Table<'_, &str, &[u8]>) -> Result<Header, KeyspaceError> {
        let damaged = || KeyspaceError::Damaged("the header changed under us".to_owned());
        let header = {
            let stored = meta.get(HEADER)?.ok_or_else(damaged)?;
            Header::parse(stored.value())?
        };
        if !header.is_of(&self.keys) {
            return Err(damaged());
        }
        let header = header.next_generation(&self.keys)?;
        meta.insert(HEADER, header.to_bytes().as_slice())?;
        Ok(header)
    }
}

/// The last id that a key of this key space could have.
fn last_of(space_id: &[u8; 16]) -> Vec<u8> {
    [space_id.as_slice(), &[0xff; 16]].concat()
}

fn expect(held: bool, what: &impl ToString) -> Result<(), CommitError> {
    if held { Ok(()) } else { Err(CommitError::Conflict(what.to_string())) }
}
