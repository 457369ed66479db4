//! Export and import: key spaces in one file, sealed. `FORMAT.md` §7.

use std::io::{self, BufReader, Read, Write};

use wire::Name;
use wire::codec::{Malformed, Reader, Writer};
use wire::operator::{KdfCost, MOST_RECIPIENTS, Protection};
use zeroize::Zeroizing;

use crate::age::{self, Container, Key, Protect, Recipient};
use crate::error::KeyspaceError;
use crate::key::KeyRecord;
use crate::operator::{Operator, key_taken};
use crate::record::{put_space, take_space};
use crate::seal::Cost;
use crate::secret::{Passphrase, Secret};
use crate::stream::{Sealing, Unsealing, unwritten};
use crate::transaction::{Writing, no_space};

/// What the payload begins with, and its version.
const MAGIC: &[u8; 6] = b"CCKB\0\x01";
/// Longest item, in bytes: a key with all its versions.
const MAX_ITEM_BYTES: usize = 16 * 1024;
const SPACE: u8 = 1;
const KEY: u8 = 2;
const END: u8 = 3;
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

/// One item of a payload.
enum Item {
    Space(Name, u64),
    Key(Box<KeyRecord>),
    End { spaces: u64, keys: u64 },
}

impl Operator<'_> {
    /// To whom bundles and private keys are encrypted that this keyspace is to open: `age1...`.
    ///
    /// # Errors
    /// None that can happen.
    pub fn recipient(&self) -> Result<String, KeyspaceError> {
        Recipient::of(&self.own_secret()?).to_text()
    }

    /// Writes a bundle of these key spaces, or of all: how many keys are in it.
    ///
    /// # Errors
    /// When there is no such key space, a recipient is none, a record is damaged, or it cannot be written.
    pub fn export(
        &self,
        spaces: &[Name],
        protection: &Protection,
        mut to: impl Write,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<u64, KeyspaceError> {
        let snapshot = self.0.snapshot()?;
        let mut all = spaces.to_vec();
        if spaces.is_empty() {
            snapshot.each_space(|space, _| {
                all.push(space);
                Ok(())
            })?;
        }
        let spaces = all;
        for (at, space) in spaces.iter().enumerate() {
            snapshot.space(space)?.ok_or_else(|| no_space(space))?;
            // Nobody could read such a bundle.
            if spaces.iter().skip(at + 1).any(|other| other == space) {
                return Err(KeyspaceError::Cannot(format!("`{space}` is named twice")));
            }
        }
        let (header, key) = protected(protection)?;
        to.write_all(&header).map_err(unwritten)?;
        let mut sealing = Sealing::new(to, &key);
        sealing.write(MAGIC)?;
        let (mut keys, mut total) = (0, 0);
        for space in &spaces {
            total += snapshot.key_count(space)?;
        }
        for space in &spaces {
            let created = snapshot.space(space)?.ok_or_else(|| no_space(space))?;
            write_item(&mut sealing, SPACE, &put_space(space, created))?;
            snapshot.each_key(space, |record| {
                keys += 1;
                progress(keys, total);
                write_item(&mut sealing, KEY, &record.put())
            })?;
        }
        let mut end = Writer::default();
        end.u64(u64::try_from(spaces.len()).unwrap_or(u64::MAX));
        end.u64(keys);
        write_item(&mut sealing, END, &end.into_bytes())?;
        sealing.finish()?.flush().map_err(unwritten)?;
        Ok(keys)
    }

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
        let own = self.own_secret()?;
        let key = passphrase.map_or(Key::Own(&own), Key::Passphrase);
        self.import_with(from, &key, importing, progress)
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
        each_item(reader, &file_key, importing, |item| match item {
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
        from.again().map_err(|error| KeyspaceError::Storage(format!("cannot read it: {error}")))?;
        let mut reader = BufReader::with_capacity(BUFFER_BYTES, from);
        if !Container::read(&mut reader)?.is_same(&header) {
            return Err(bad("it was changed while it was read"));
        }
        self.0.transact(|writing| {
            let mut done = Imported::default();
            each_item(reader, &file_key, importing, |item| {
                write_imported(writing, item, importing, &mut done)?;
                progress(done.keys + done.skipped);
                Ok(())
            })?;
            Ok(done)
        })
    }

    /// The secret that opens what is encrypted to this keyspace. It stays the same for as long as the
    /// service does.
    pub(crate) fn own_secret(&self) -> Result<Secret<32>, KeyspaceError> {
        let seed = &self.0.service.seed;
        let hkdf = seed.expose(|seed| hkdf::Hkdf::<sha2::Sha256>::new(None, seed));
        Secret::try_fill(|key| hkdf.expand(b"crypto-cli recipient 1", key))
            .map_err(|_| KeyspaceError::Storage("key expansion".to_owned()))
    }
}

/// A header for whom it is to be, and the key of the payload.
fn protected(protection: &Protection) -> Result<(Vec<u8>, Secret<32>), KeyspaceError> {
    match protection {
        Protection::Passphrase(passphrase) => {
            let passphrase = passphrase.expose(|bytes| Passphrase::new(bytes.to_vec()))?;
            age::write_header(&Protect::Passphrase(&passphrase), Cost::asked(KdfCost::Standard)?)
        }
        Protection::Recipients(texts) => {
            if texts.is_empty() || texts.len() > MOST_RECIPIENTS {
                let text = format!("a bundle has 1 to {MOST_RECIPIENTS} recipients");
                return Err(KeyspaceError::Cannot(text));
            }
            let recipients: Result<Vec<_>, _> =
                texts.iter().map(|text| Recipient::parse(text)).collect();
            age::write_header(&Protect::Recipients(&recipients?), Cost::WRITTEN)
        }
    }
}

fn write_imported(
    writing: &mut Writing<'_>,
    item: Item,
    importing: &Importing,
    done: &mut Imported,
) -> Result<(), KeyspaceError> {
    let root = writing.root.clone();
    match item {
        Item::Space(space, created) => match writing.space_written_at(&space)? {
            None => {
                writing.put_space(&root, &space, created)?;
                done.spaces += 1;
            }
            Some(at) if at == writing.header.generation => {
                return Err(bad("it has a key space twice"));
            }
            Some(_) if importing.skip_existing => {}
            Some(_) => return Err(here_already(&space)),
        },
        Item::Key(record) => match writing.key_written_at(&record.path)? {
            None => {
                writing.put_key(&root, &record)?;
                done.keys += 1;
            }
            Some(at) if at == writing.header.generation => {
                return Err(bad("it has a key twice"));
            }
            Some(_) if importing.skip_existing => done.skipped += 1,
            Some(_) => return Err(key_taken(&record.path)),
        },
        Item::End { .. } => {}
    }
    Ok(())
}

/// Reads a payload to its end: each item of it, as it is to be named here.
fn each_item(
    mut reader: impl Read,
    file_key: &Secret<16>,
    importing: &Importing,
    mut take: impl FnMut(Item) -> Result<(), KeyspaceError>,
) -> Result<(), KeyspaceError> {
    let key = age::payload_key_after(&mut reader, file_key)?;
    let mut payload = Unsealing::new(reader, &key);
    let mut magic = [0; MAGIC.len()];
    payload.read_exact(&mut magic)?;
    if magic != *MAGIC {
        return Err(bad("it is of another version, or holds something else"));
    }
    let (mut spaces, mut keys, mut current) = (0, 0, None);
    loop {
        match read_item(&mut payload)? {
            Item::Space(name, created) => {
                spaces += 1;
                let here = importing.rename.clone().unwrap_or_else(|| name.clone());
                current = Some((name, here.clone()));
                take(Item::Space(here, created))?;
            }
            Item::Key(mut record) => {
                keys += 1;
                let within = current.as_ref().filter(|(name, _)| *name == record.path.space);
                let (_, here) = within.ok_or_else(|| bad("a key stands outside its key space"))?;
                record.path.space = here.clone();
                take(Item::Key(record))?;
            }
            Item::End { spaces: said, keys: said_keys } => {
                if (said, said_keys) != (spaces, keys) {
                    return Err(bad("it does not hold as much as it says"));
                }
                take(Item::End { spaces, keys })?;
                return payload.end();
            }
        }
    }
}

fn write_item(
    sealing: &mut Sealing<impl Write>,
    kind: u8,
    body: &[u8],
) -> Result<(), KeyspaceError> {
    let length = u32::try_from(body.len() + 1).unwrap_or(u32::MAX);
    sealing.write(&length.to_be_bytes())?;
    sealing.write(&[kind])?;
    sealing.write(body)
}

fn read_item(payload: &mut Unsealing<impl Read>) -> Result<Item, KeyspaceError> {
    let mut length = [0; 4];
    payload.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > MAX_ITEM_BYTES {
        return Err(bad("an item of it is too long"));
    }
    let mut body = Zeroizing::new(vec![0; length]);
    payload.read_exact(&mut body)?;
    take_item(&body)
}

fn take_item(body: &[u8]) -> Result<Item, KeyspaceError> {
    let (kind, body) = body.split_first().ok_or_else(|| bad("an item of it is empty"))?;
    let foreign = |_| bad("an item of it is none");
    match *kind {
        SPACE => {
            take_space(body).map(|(name, created)| Item::Space(name, created)).map_err(foreign)
        }
        KEY => KeyRecord::take(body).map(|record| Item::Key(Box::new(record))).map_err(foreign),
        END => {
            let mut r = Reader::new(body);
            let read = r.u64().and_then(|spaces| Ok((spaces, r.u64()?)));
            let read = read.and_then(|read| r.end().map(|()| read));
            let (spaces, keys) = read.map_err(|Malformed| bad("its end is none"))?;
            Ok(Item::End { spaces, keys })
        }
        _ => Err(bad("an item of it is of a kind that is not known")),
    }
}

fn here_already(space: &Name) -> KeyspaceError {
    KeyspaceError::Cannot(format!(
        "there is a key space `{space}` already: give it another name with `--rename`, or take what is missing \
         with `--skip-existing`"
    ))
}

fn bad(text: &str) -> KeyspaceError {
    KeyspaceError::BadBundle(text.to_owned())
}

#[cfg(test)]
mod tests {
    use wire::Algorithm;

    use super::*;
    use crate::Unlocked;
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
    fn a_name_that_comes_twice_is_refused_even_where_what_is_here_is_passed_over() {
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
