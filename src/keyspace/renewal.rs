//! A new root key: everything is written anew under it, to a new file that takes the place of the old one. Until it
//! does, nothing has changed; and pages that redb has freed, which keep what stood in them, such as records that were
//! removed and slots that were replaced, are gone with the old file.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use redb::Database;
use redb::backends::InMemoryBackend;

use crate::database::{Draft, begin_write};
use crate::error::KeyspaceError;
use crate::header::Header;
use crate::record::Kind;
use crate::seal::RootKeys;
use crate::slot::Slot;
use crate::snapshot::OTHER_RECORDS;
use crate::stack::wiped;
use crate::store::{KEYS, SPACES, Unlocked, builder};
use crate::sum::Sum;
use crate::transaction::Writing;

impl Unlocked {
    /// Writes everything anew under these keys, whose root key only this slot wraps: how many keys. That no other
    /// passphrase was set or revoked meanwhile is for the caller to see to: operators are served one at a time.
    pub(crate) fn renew(
        &self,
        root: RootKeys,
        slot: Slot,
        progress: impl FnMut(u64, u64),
    ) -> Result<u64, KeyspaceError> {
        let turn = self.database.turn();
        self.database.check_is_kept(&turn)?;
        let (draft, database) = self.draft()?;
        let root = Arc::new(root);
        let (count, header) = wiped(|| self.write_anew(&database, &root, slot, progress))?;
        let old = {
            // Whoever reads meanwhile waits, so that nobody reads the new file with the old keys.
            let mut held = self.root.write().unwrap_or_else(PoisonError::into_inner);
            if let (Some(draft), Some(home)) = (&draft, &self.home) {
                draft.put_in_place(home)?;
            }
            *held = root;
            self.generation.fetch_max(header.generation, Ordering::SeqCst);
            self.sums_anew.store(false, Ordering::SeqCst);
            self.database.exchange(database)
        };
        drop(old);
        if let Some(home) = &self.home {
            // What is acknowledged from here on is in the new file, which must not lose its name to a power cut.
            self.database.is_named(home.sync())?;
        }
        self.note(&header);
        Ok(count)
    }

    /// Where the new file is written: in the home, if there is one.
    fn draft(&self) -> Result<(Option<Draft>, Database), KeyspaceError> {
        if let Some(home) = &self.home {
            return Draft::new(home).map(|(draft, database)| (Some(draft), database));
        }
        let database = builder().create_with_backend(InMemoryBackend::new());
        Ok((None, database.map_err(redb::Error::from)?))
    }

    /// Writes all that is here to a new database, in one transaction: how many keys, and its header.
    pub(crate) fn write_anew(
        &self,
        to: &Database,
        root: &Arc<RootKeys>,
        slot: Slot,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<(u64, Header), KeyspaceError> {
        let old = self.snapshot()?;
        let (total, old_header) = (old.all_keys()?, old.header()?);
        let header = old_header.clone().next_generation(&old.root)?.with_only(slot, root);
        let transaction = begin_write(to)?;
        let empty = header.with_sum(Sum::default(), root)?;
        let mut writing = Writing::begin(&transaction, Arc::clone(root), empty)?;
        writing.put_service(&self.service.seed)?;
        let (mac, mut sum, mut count) = (old.root.sum_mac(), Sum::default(), 0);
        old.each_sealed(SPACES, |id, sealed| {
            sum.add(Sum::of_record(&mac, Kind::Space, id, sealed)?);
            let (space, created) = old.open_space(id, sealed)?;
            writing.put_space(&space, created).map(drop)
        })?;
        old.each_sealed(KEYS, |id, sealed| {
            sum.add(Sum::of_record(&mac, Kind::Key, id, sealed)?);
            writing.put_key(&old.open_key(id, sealed)?)?;
            count += 1;
            progress(count, total);
            Ok(())
        })?;
        // As they were read, for what is sealed anew here nobody can find out about any more.
        let is_accepted = self.sums_anew.load(Ordering::SeqCst);
        if !is_accepted && old_header.sum(&old.root).is_some_and(|expected| expected != sum) {
            return Err(KeyspaceError::Damaged(OTHER_RECORDS.to_owned()));
        }
        let header = writing.finish(false)?;
        transaction.commit()?;
        Ok((count, header))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use redb::ReadableTable;
    use tempfile::TempDir;
    use wire::Algorithm;
    use wire::operator::{KdfCost, SlotKind};

    use super::*;
    use crate::Locked;
    use crate::home::Home;
    use crate::seal::Cost;
    use crate::secret::{Passphrase, Secret};
    use crate::snapshot::read_meta;
    use crate::store::{FILE, HEADER};
    use crate::tests::{name, new_keyspace, passphrase, path, reopen};

    fn in_file() -> (TempDir, Home, Unlocked) {
        let (folder, home, keyspace) = new_keyspace();
        keyspace.as_operator().new_space(&name("a"), 1).unwrap();
        (folder, home, keyspace)
    }

    fn new_key(keyspace: &Unlocked, key: &str) -> Result<(), KeyspaceError> {
        keyspace.as_operator().new_key(&path(key), Algorithm::Ed25519, 1)
    }

    /// As cheap as can be.
    fn renew(keyspace: &Unlocked) -> Result<u64, KeyspaceError> {
        let root = Secret::random().unwrap();
        let (kind, cost, file_id) = (SlotKind::Operator, Cost::LEAST, &keyspace.file_id);
        let slot = Slot::wrap(kind, &passphrase(), cost, &root, file_id).unwrap();
        keyspace.renew(RootKeys::below(&root).unwrap(), slot, |_, _| {})
    }

    #[test]
    fn a_new_root_key_leaves_no_destroyed_key_and_no_revoked_passphrase_in_the_file() {
        let (_folder, home, keyspace) = in_file();
        let operator = keyspace.as_operator();
        for number in 0..50 {
            new_key(&keyspace, &format!("a/{number}")).unwrap();
        }
        let backup = Passphrase::new(b"the backup's".to_vec()).unwrap();
        let slot = SlotKind::Backup;
        operator.set_passphrase(&passphrase(), slot, &backup, KdfCost::Standard).unwrap();
        let reading = keyspace.database.begin_read().unwrap();
        let header = read_meta(&reading, HEADER).unwrap().unwrap();
        // The wrapped root key of the second slot.
        let mut gone = vec![header[44 + 109 + 61..44 + 2 * 109].to_vec()];
        for entry in reading.open_table(KEYS).unwrap().iter().unwrap() {
            gone.push(entry.unwrap().1.value()[32..].to_vec());
        }
        drop(reading);
        operator.delete_space(&name("a"), u64::MAX).unwrap();
        operator.new_space(&name("b"), 2).unwrap();
        let count = || {
            let file = fs::read(home.file(FILE)).unwrap();
            let is_there = |bytes: &&Vec<u8>| file.windows(bytes.len()).any(|here| here == **bytes);
            gone.iter().filter(is_there).count()
        };
        assert!(count() > 0, "freed pages keep what stood in them");
        operator.rotate_root(&passphrase(), |_, _| {}).unwrap();
        assert_eq!(count(), 0);
        operator.new_space(&name("c"), 3).unwrap();
        drop(keyspace);
        let mode = fs::metadata(home.file(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let files = fs::read_dir(home.path()).unwrap().count();
        assert_eq!(files, 2, "no draft is left");
        let keyspace = reopen(&home).unwrap();
        assert_eq!(keyspace.spaces().unwrap(), [name("b"), name("c")]);
        keyspace.as_operator().verify(|_, _| {}).unwrap();
    }

    #[test]
    fn who_writes_or_reads_while_the_file_is_exchanged_loses_nothing() {
        let (_folder, home, keyspace) = in_file();
        // More than a page of them.
        keyspace.as_operator().new_space(&name("b"), 1).unwrap();
        for number in 0..100 {
            new_key(&keyspace, &format!("b/{number}")).unwrap();
        }
        let before = keyspace.snapshot().unwrap();
        let made = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut made = 0;
                while made < 200 {
                    new_key(&keyspace, &format!("a/{made}")).unwrap();
                    made += 1;
                }
                made
            });
            let reader = scope.spawn(|| {
                let mut read = 0;
                while read < 200 {
                    let now = keyspace.keys(&name("a")).unwrap().len();
                    assert!(now >= read, "{now} keys after {read}");
                    read = now;
                }
            });
            while !reader.is_finished() {
                renew(&keyspace).unwrap();
                assert!(Locked::open(&home).is_err(), "it stays locked");
            }
            writer.join().unwrap()
        });
        let (mut opened, b) = (0, name("b"));
        let read = before.each_key(&b, |_| {
            opened += 1;
            Ok(())
        });
        read.unwrap();
        assert_eq!((opened, before.key_count(&name("a")).unwrap()), (100, 0), "as it was then");
        drop(before);
        drop(keyspace);
        assert_eq!(reopen(&home).unwrap().keys(&name("a")).unwrap().len(), made);
    }

    #[test]
    fn a_root_key_whose_file_cannot_be_put_in_place_changes_nothing() {
        let (_folder, home, keyspace) = in_file();
        let (file, aside) = (home.file(FILE), home.file("aside"));
        let before = keyspace.root().key_id(&path("a/k"));
        // A folder of that name is in the way.
        fs::rename(&file, &aside).unwrap();
        fs::create_dir(&file).unwrap();
        let refused = renew(&keyspace).unwrap_err();
        assert!(matches!(refused, KeyspaceError::Io { .. }), "{refused}");
        fs::remove_dir(&file).unwrap();
        fs::rename(&aside, &file).unwrap();
        assert_eq!(keyspace.root().key_id(&path("a/k")), before);
        new_key(&keyspace, "a/k").unwrap();
        drop(keyspace);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 2, "no draft is left");
        assert_eq!(reopen(&home).unwrap().keys(&name("a")).unwrap().len(), 1);
    }

    #[test]
    fn what_is_damaged_is_not_left_behind_without_a_word() {
        let (_folder, home, keyspace) = in_file();
        new_key(&keyspace, "a/k").unwrap();
        let id = keyspace.root().key_id(&path("a/k"));
        let writing = keyspace.database.begin_write(&keyspace.database.turn()).unwrap();
        {
            let mut table = writing.open_table(KEYS).unwrap();
            let mut sealed = table.remove(id.as_slice()).unwrap().unwrap().value().to_vec();
            *sealed.last_mut().unwrap() ^= 1;
            table.insert(id.as_slice(), sealed.as_slice()).unwrap();
        }
        writing.commit().unwrap();
        assert!(matches!(renew(&keyspace), Err(KeyspaceError::Damaged(_))));
        drop(keyspace);
        assert!(reopen(&home).unwrap().has_space(&name("a")).unwrap());
    }

    /// Put back under the open service: once it were sealed anew, nobody could tell.
    #[test]
    fn a_record_that_was_put_back_is_not_sealed_anew_under_a_right_sum() {
        let (_folder, home, keyspace) = in_file();
        new_key(&keyspace, "a/k").unwrap();
        let id = keyspace.root().key_id(&path("a/k"));
        let stored = || {
            let table = keyspace.database.begin_read().unwrap().open_table(KEYS).unwrap();
            table.get(id.as_slice()).unwrap().unwrap().value().to_vec()
        };
        let before = stored();
        keyspace.as_operator().enable_key(&path("a/k"), false).unwrap();
        let after = stored();
        let put = |sealed: &[u8]| {
            let writing = keyspace.database.begin_write(&keyspace.database.turn()).unwrap();
            writing.open_table(KEYS).unwrap().insert(id.as_slice(), sealed).unwrap();
            writing.commit().unwrap();
        };
        put(&before);
        let refused = renew(&keyspace).unwrap_err().to_string();
        assert!(refused.contains(OTHER_RECORDS), "{refused}");
        put(&after);
        assert_eq!(renew(&keyspace).unwrap(), 1);
        drop(keyspace);
        assert!(reopen(&home).is_ok());
    }

    #[test]
    fn what_a_killed_process_drafted_goes_when_the_keyspace_is_opened_and_nothing_else() {
        let (_folder, home, keyspace) = in_file();
        drop(keyspace);
        let write = |tag: &str| fs::write(home.file(&format!(".{FILE}.{tag}")), b"text").unwrap();
        let others = ["bak", "Xa1b2C", "0123456789abcdeF", "0123456789abcdef0", "012345678abcdefé"];
        others.into_iter().for_each(write);
        write("0123456789abcdef");
        drop(reopen(&home).unwrap());
        assert!(!home.file(&format!(".{FILE}.0123456789abcdef")).exists());
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 2 + others.len());
    }

    #[test]
    fn no_change_is_acknowledged_in_a_file_whose_name_may_be_lost() {
        let (_folder, _home, keyspace) = in_file();
        assert!(!keyspace.is_lost());
        let failed = keyspace.database.is_named(Err(KeyspaceError::WrongPermit));
        assert!(matches!(failed, Err(KeyspaceError::Unconfirmed(_))));
        assert!(keyspace.is_lost());
        assert!(matches!(new_key(&keyspace, "a/k"), Err(KeyspaceError::Storage(_))));
        assert!(matches!(renew(&keyspace), Err(KeyspaceError::Storage(_))));
    }
}
