//! Import: a bundle is read twice, once to see that all of it is good, and then in one transaction.

use std::io::{self, BufReader, Read};

use wire::Name;

use crate::age::{Container, Key};
use crate::bundle::{Item, each_item};
use crate::error::KeyspaceError;
use crate::operator::{Operator, key_taken};
use crate::secret::Passphrase;
use crate::stack::wiped;
use crate::stream::unread;
use crate::transaction::Writing;

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 64 * 1024;

/// A file that can be read more than once.
pub trait Source: Read {
    /// Goes back to its start.
    ///
    /// # Errors
    /// When that cannot be.
    fn again(&mut self) -> io::Result<()>;
}

impl Source for std::fs::File {
    fn again(&mut self) -> io::Result<()> {
        io::Seek::rewind(self)
    }
}

impl<B: AsRef<[u8]>> Source for io::Cursor<B> {
    fn again(&mut self) -> io::Result<()> {
        self.set_position(0);
        Ok(())
    }
}

/// How a bundle is read.
#[derive(Debug, Clone, Default)]
pub struct Importing {
    /// The name that its one key space is given here.
    pub rename: Option<Name>,
    /// Whether what is here already stays as it is, and the rest is taken.
    pub skip_existing: bool,
}

/// What was in a bundle that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Imported {
    /// Key spaces that are new here.
    pub spaces: u64,
    /// Keys that are new here.
    pub keys: u64,
    /// Keys that were here already.
    pub skipped: u64,
}

impl Operator<'_> {
    /// Reads a bundle: once through, changing nothing, then again in one transaction. `passphrase` is the
    /// bundle's; without one it is encrypted to this keyspace.
    ///
    /// # Errors
    /// When it cannot be opened, is damaged, or names what is here already. Then nothing was changed.
    pub fn import(
        &self,
        from: &mut impl Source,
        passphrase: Option<&Passphrase>,
        importing: &Importing,
        progress: impl FnMut(u64),
    ) -> Result<Imported, KeyspaceError> {
        wiped(|| {
            let own = self.own_secret()?;
            let key = passphrase.map_or(Key::Own(&own), Key::Passphrase);
            self.import_with(from, &key, importing, progress)
        })
    }

    pub(crate) fn import_with(
        &self,
        from: &mut impl Source,
        key: &Key<'_>,
        importing: &Importing,
        mut progress: impl FnMut(u64),
    ) -> Result<Imported, KeyspaceError> {
        let mut reader = BufReader::with_capacity(BUFFER_BYTES, &mut *from);
        let header = Container::read(&mut reader)?;
        let file_key = header.open(key)?;
        let snapshot = self.0.snapshot()?;
        let mut spaces = 0;
        each_item(reader, &file_key, importing.rename.as_ref(), |item| match item {
            Item::Space(space, _) => {
                spaces += 1;
                if importing.rename.is_some() && spaces > 1 {
                    let text = "the bundle has more than one key space: it cannot be renamed";
                    return Err(KeyspaceError::Cannot(text.to_owned()));
                }
                let is_here = snapshot.space(&space)?.is_some();
                if is_here && !importing.skip_existing { Err(here_already(&space)) } else { Ok(()) }
            }
            Item::End { spaces: 0, .. } if importing.rename.is_some() => {
                Err(KeyspaceError::Cannot("the bundle has no key space to rename".to_owned()))
            }
            Item::Key(_) | Item::End { .. } => Ok(()),
        })?;
        drop(snapshot);
        from.again().map_err(unread)?;
        let mut reader = BufReader::with_capacity(BUFFER_BYTES, from);
        if !Container::read(&mut reader)?.is_same(&header) {
            return Err(KeyspaceError::bad_bundle("it was changed while it was read"));
        }
        self.0.transact(|writing| {
            let mut done = Imported::default();
            each_item(reader, &file_key, importing.rename.as_ref(), |item| {
                write_imported(writing, item, importing, &mut done)?;
                progress(done.keys + done.skipped);
                Ok(())
            })?;
            Ok(done)
        })
    }
}

fn write_imported(
    writing: &mut Writing<'_>,
    item: Item,
    importing: &Importing,
    done: &mut Imported,
) -> Result<(), KeyspaceError> {
    match item {
        Item::Space(space, created) => match writing.space_written_at(&space)? {
            None => {
                writing.put_space(&space, created)?;
                done.spaces += 1;
            }
            Some(at) if at == writing.header.generation => {
                return Err(KeyspaceError::bad_bundle("it has a key space twice"));
            }
            Some(_) if importing.skip_existing => {}
            Some(_) => return Err(here_already(&space)),
        },
        Item::Key(record) => match writing.key_written_at(&record.path)? {
            None => {
                writing.put_key(&record)?;
                done.keys += 1;
            }
            Some(at) if at == writing.header.generation => {
                return Err(KeyspaceError::bad_bundle("it has a key twice"));
            }
            Some(_) if importing.skip_existing => done.skipped += 1,
            Some(_) => return Err(key_taken(&record.path)),
        },
        Item::End { .. } => {}
    }
    Ok(())
}

fn here_already(space: &Name) -> KeyspaceError {
    KeyspaceError::Cannot(format!(
        "there is a key space `{space}` already: give it another name with `--rename`, or take what is missing \
         with `--skip-existing`"
    ))
}

#[cfg(test)]
mod tests {
    use wire::Algorithm;
    use wire::operator::Protection;

    use super::*;
    use crate::Unlocked;
    use crate::bundle::{END, KEY, MAGIC, SPACE, write_item};
    use crate::export::protected;
    use crate::key::KeyRecord;
    use crate::record::put_space;
    use crate::stream::Sealing;
    use crate::tests::{name, path};

    fn refused(write: impl FnOnce(&mut Sealing<Vec<u8>>)) -> String {
        let keyspace = Unlocked::ephemeral(1).unwrap();
        let operator = keyspace.as_operator();
        let to = Protection::Recipients(vec![operator.recipient().unwrap()]);
        let (header, key) = protected(&to).unwrap();
        let mut sealing = Sealing::new(header, &key);
        sealing.write(MAGIC).unwrap();
        write(&mut sealing);
        let bundle = sealing.finish().unwrap();
        let importing = Importing { rename: None, skip_existing: true };
        let done = operator.import(&mut io::Cursor::new(&bundle), None, &importing, |_| {});
        assert!(keyspace.spaces().unwrap().is_empty());
        done.unwrap_err().to_string()
    }

    fn end(sealing: &mut Sealing<Vec<u8>>, spaces: u64, keys: u64) {
        let end = [spaces.to_be_bytes(), keys.to_be_bytes()].concat();
        write_item(sealing, END, &end).unwrap();
    }

    #[test]
    fn a_name_that_comes_twice_and_is_new_here_is_refused_whatever_is_passed_over() {
        let space = put_space(&name("a"), 1);
        let told = refused(|sealing| {
            write_item(sealing, SPACE, &space).unwrap();
            write_item(sealing, SPACE, &space).unwrap();
            end(sealing, 2, 0);
        });
        assert!(told.contains("a key space twice"), "{told}");
        let path = path("a/k");
        let told = refused(|sealing| {
            write_item(sealing, SPACE, &space).unwrap();
            for _ in 0..2 {
                let key = KeyRecord::generate(path.clone(), Algorithm::Ed25519, 1).unwrap();
                write_item(sealing, KEY, &key.put()).unwrap();
            }
            end(sealing, 1, 2);
        });
        assert!(told.contains("a key twice"), "{told}");
    }
}
