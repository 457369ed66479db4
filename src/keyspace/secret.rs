//! Secrets without accidental exits: filled in place, read through a closure, wiped on drop.

use sandbox::{SecretCell, SecretMemory, secret_memory};
use wire::Hidden;
use zeroize::Zeroizing;

use crate::error::KeyspaceError;

/// Longest passphrase, in bytes: a paragraph, and no file that was meant to be something else.
pub const MAX_PASSPHRASE_BYTES: usize = 1024;
/// Shortest passphrase that a new keyspace takes, in bytes.
const MIN_PASSPHRASE_BYTES: usize = 8;

/// `N` secret bytes. It cannot be copied, printed, compared or serialised.
///
/// ```
/// fn named<T>() {}
/// named::<keyspace::Secret<32>>(); // so the failures below are not for want of the name
/// ```
/// ```compile_fail,E0277
/// fn printable<T: std::fmt::Debug>() {}
/// printable::<keyspace::Secret<32>>();
/// ```
/// ```compile_fail,E0277
/// fn shown<T: std::fmt::Display>() {}
/// shown::<keyspace::Secret<32>>();
/// ```
/// ```compile_fail,E0277
/// fn copied<T: Clone>() {}
/// copied::<keyspace::Secret<32>>();
/// ```
/// ```compile_fail,E0277
/// fn dereferenced<T: std::ops::Deref>() {}
/// dereferenced::<keyspace::Secret<32>>();
/// ```
/// ```compile_fail,E0277
/// fn compared<T: PartialEq>() {}
/// compared::<keyspace::Secret<32>>();
/// ```
pub struct Secret<const N: usize>(Held<N>);

/// Where the bytes are: in memory that the kernel keeps to this process, or on the heap where that is used up.
enum Held<const N: usize> {
    Cell(SecretCell),
    Heap(Box<Zeroizing<[u8; N]>>),
}

impl<const N: usize> Secret<N> {
    /// Fills a new secret where it stays, so that no copy is left on the stack.
    ///
    /// # Errors
    /// What `fill` returns.
    pub(crate) fn try_fill<E>(fill: impl FnOnce(&mut [u8; N]) -> Result<(), E>) -> Result<Self, E> {
        Self::try_fill_in(secret_memory().and_then(SecretMemory::take), fill)
    }

    /// The same of a key's secret, of which a script can hold very many: they leave room for the keys below the
    /// root key.
    ///
    /// # Errors
    /// What `fill` returns.
    pub(crate) fn try_fill_one_of_many<E>(
        fill: impl FnOnce(&mut [u8; N]) -> Result<(), E>,
    ) -> Result<Self, E> {
        Self::try_fill_in(secret_memory().and_then(SecretMemory::take_one_of_many), fill)
    }

    fn try_fill_in<E>(
        cell: Option<SecretCell>,
        fill: impl FnOnce(&mut [u8; N]) -> Result<(), E>,
    ) -> Result<Self, E> {
        if let Some(mut cell) = cell {
            fill(cell.bytes_mut())?;
            return Ok(Self(Held::Cell(cell)));
        }
        let mut secret = Box::new(Zeroizing::new([0_u8; N]));
        fill(&mut secret)?;
        Ok(Self(Held::Heap(secret)))
    }

    /// A copy of these bytes, of which there must be so many.
    ///
    /// # Errors
    /// When there are more or fewer.
    pub(crate) fn copied(bytes: &[u8]) -> Result<Self, KeyspaceError> {
        Self::try_fill(|secret| copy(bytes, secret))
    }

    /// The same of a key's secret.
    ///
    /// # Errors
    /// When there are more or fewer.
    pub(crate) fn copied_one_of_many(bytes: &[u8]) -> Result<Self, KeyspaceError> {
        Self::try_fill_one_of_many(|secret| copy(bytes, secret))
    }

    /// New random bytes from the kernel.
    ///
    /// # Errors
    /// When the kernel has none.
    pub(crate) fn random() -> Result<Self, KeyspaceError> {
        Self::try_fill(|bytes| getrandom::fill(bytes)).map_err(no_random)
    }

    /// Lends the bytes to a closure.
    pub(crate) fn expose<R>(&self, read: impl FnOnce(&[u8; N]) -> R) -> R {
        match &self.0 {
            Held::Cell(cell) => read(cell.bytes()),
            Held::Heap(secret) => read(secret),
        }
    }
}

fn copy(bytes: &[u8], secret: &mut [u8]) -> Result<(), KeyspaceError> {
    if bytes.len() != secret.len() {
        return Err(KeyspaceError::Damaged("a secret of another length".to_owned()));
    }
    secret.copy_from_slice(bytes);
    Ok(())
}

/// What an operator types to unlock a keyspace. As closed as [`Secret`].
///
/// ```compile_fail,E0277
/// fn printable<T: std::fmt::Debug>() {}
/// printable::<keyspace::Passphrase>();
/// ```
/// ```compile_fail,E0277
/// fn copied<T: Clone>() {}
/// copied::<keyspace::Passphrase>();
/// ```
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    /// Takes the bytes of a passphrase, of which one line end at the end is not a part.
    ///
    /// # Errors
    /// When they are empty, too long or hold a zero byte, as a binary file does.
    pub fn new(bytes: Vec<u8>) -> Result<Self, KeyspaceError> {
        let mut bytes = Zeroizing::new(bytes);
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        let fault = if bytes.is_empty() {
            Some("the passphrase is empty")
        } else if bytes.len() > MAX_PASSPHRASE_BYTES {
            Some("the passphrase is longer than 1024 bytes")
        } else if bytes.contains(&0) || bytes.contains(&b'\n') {
            Some("the passphrase holds a zero byte or a line break: is it the right file?")
        } else {
            None
        };
        fault.map_or(Ok(Self(bytes)), |fault| Err(KeyspaceError::BadPassphrase(fault)))
    }

    /// Takes one that came from another process.
    ///
    /// # Errors
    /// As [`Passphrase::new`].
    pub fn of(hidden: &Hidden) -> Result<Self, KeyspaceError> {
        hidden.expose(|bytes| Self::new(bytes.to_vec()))
    }

    /// Whether it is long enough for a new keyspace.
    ///
    /// # Errors
    /// When it is not.
    pub fn check_strength(&self) -> Result<(), KeyspaceError> {
        if self.0.len() < MIN_PASSPHRASE_BYTES {
            return Err(KeyspaceError::BadPassphrase(
                "the passphrase has fewer than 8 bytes: use a longer one",
            ));
        }
        Ok(())
    }

    pub(crate) fn expose<R>(&self, read: impl FnOnce(&[u8]) -> R) -> R {
        read(&self.0)
    }
}

pub(crate) fn no_random(error: getrandom::Error) -> KeyspaceError {
    KeyspaceError::Storage(format!("the kernel gives no random numbers: {error}"))
}

/// `N` random bytes that are not secret: salts, nonces, ids.
pub(crate) fn public_random<const N: usize>() -> Result<[u8; N], KeyspaceError> {
    let mut bytes = [0_u8; N];
    getrandom::fill(&mut bytes).map_err(no_random)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_many_keys_are_held_the_root_key_and_those_below_it_are_in_memory_of_their_own() {
        let is_apart = |secret: &Secret<32>| matches!(secret.0, Held::Cell(_));
        let many = || Secret::<32>::try_fill_one_of_many(|_| Ok::<(), ()>(())).unwrap();
        let mut held = vec![many()];
        assert!(is_apart(&held[0]));
        while is_apart(held.last().unwrap()) {
            held.push(many());
        }
        let root = Secret::random().unwrap();
        let keys = crate::seal::RootKeys::below(&root).unwrap();
        assert!(is_apart(&root) && keys.all().into_iter().all(is_apart));
    }

    #[test]
    fn one_line_end_is_not_part_of_a_passphrase() {
        let text =
            |bytes: &[u8]| Passphrase::new(bytes.to_vec()).map(|p| p.expose(<[u8]>::to_vec)).ok();
        assert_eq!(text(b"correct horse\n"), Some(b"correct horse".to_vec()));
        assert_eq!(text(b"correct horse\r\n"), Some(b"correct horse".to_vec()));
        assert_eq!(text(b" spaced "), Some(b" spaced ".to_vec()));
        for bad in [&b""[..], b"\n", b"two\nlines", b"\x7fELF\0", &[b'x'; 1025]] {
            assert_eq!(text(bad), None, "{bad:?}");
        }
    }

    /// What of this crate prints itself, and how: nothing that holds a secret does.
    #[test]
    fn what_prints_itself_is_known_by_name() {
        const PRINTED: [&str; 14] = [
            "Container",
            "Stanza",
            "Importing",
            "Imported",
            "KeyspaceError",
            "CommitError",
            "Header",
            "HiddenSum",
            "Home",
            "Verified",
            "Kind",
            "Cost",
            "Slot",
            "Opening",
        ];
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut printed = std::collections::BTreeSet::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let is_source = path.extension().is_some_and(|ending| ending == "rs");
            let tests = [
                "tests",
                "operator_tests",
                "failing_disk",
                "faults",
                "model",
                "golden",
                "vectors",
                "sealing_tests",
                "damage_tests",
            ];
            let stem = path.file_stem().unwrap().to_str().unwrap();
            if !is_source || tests.contains(&stem) {
                continue;
            }
            let source = std::fs::read_to_string(&path).unwrap();
            let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned();
            assert!(!source.contains("Debug for "), "{stem}: an own way to print");
            assert!(!source.contains("Display for "), "{stem}: an own way to print");
            for part in source.split("derive(").skip(1).filter(|part| {
                part.split(')').next().unwrap().split(", ").any(|word| word == "Debug")
            }) {
                let mut words = part.split_whitespace();
                words.find(|word| ["struct", "enum"].contains(word)).unwrap();
                let name = words.next().unwrap();
                printed.insert(
                    name.trim_end_matches(['{', ';', '(']).split('(').next().unwrap().to_owned(),
                );
            }
        }
        assert_eq!(printed, PRINTED.map(str::to_owned).into());
    }

    #[test]
    fn a_header_prints_what_anybody_may_read_in_its_file() {
        let root = Secret::random().unwrap();
        let keys = crate::seal::RootKeys::below(&root).unwrap();
        let header = crate::header::Header::unshared(&keys, 7).unwrap();
        let printed = format!("{header:?}");
        let members = [
            "file_id",
            "generation",
            "created",
            "slots",
            "kind",
            "id",
            "cost",
            "memory",
            "passes",
            "lanes",
            "salt",
            "nonce",
            "wrapped",
            "sum",
            "nonce",
            "hidden",
            "tag",
        ];
        let found: Vec<&str> =
            printed.split([' ', '{']).filter_map(|word| word.strip_suffix(':')).collect();
        assert_eq!(found, members, "{printed}");
    }
}
