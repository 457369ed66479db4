//! Where a passphrase comes from: a file, a descriptor, a systemd credential, or a person.

use std::fs;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use keyspace::{MAX_PASSPHRASE_BYTES, Passphrase};
use wire::Hidden;

use crate::args::PassphraseArgs;
use crate::exit::{Exit, Fault};
use crate::files;

/// The name of the systemd credential (systemd.exec(5), `LoadCredential=`).
const CREDENTIAL: &str = "crypto-cli-passphrase";

/// A passphrase that has options of its own.
pub(crate) struct Source {
    pub(crate) args: PassphraseArgs,
    /// What those options begin with, such as `bundle-`.
    pub(crate) prefix: &'static str,
    /// What it is called.
    pub(crate) name: String,
    /// Another option that makes it needless, if there is one.
    pub(crate) instead: &'static str,
    /// Whether it is chosen now, and has to be long enough.
    pub(crate) is_new: bool,
}

impl Source {
    /// That of the keyspace.
    fn keyspace(args: &PassphraseArgs, is_new: bool) -> Self {
        let (args, name) = (args.clone(), "passphrase".to_owned());
        Self { args, prefix: "", name, instead: "", is_new }
    }
}

/// The passphrase of the keyspace as it is.
pub(crate) fn current(args: &PassphraseArgs) -> Result<Hidden, Fault> {
    let source = Source::keyspace(args, false);
    match credential(&source)? {
        Some(passphrase) => Ok(passphrase),
        None => typed(&source, &format!("{}: ", source.name)),
    }
}

/// The same, ready to unlock it.
pub(crate) fn unlocking(args: &PassphraseArgs) -> Result<Passphrase, Fault> {
    Ok(Passphrase::of(&current(args)?)?)
}

/// The passphrase of a keyspace that is made: typed twice where it is typed.
pub(crate) fn of_new_keyspace(args: &PassphraseArgs) -> Result<Passphrase, Fault> {
    let source = Source::keyspace(args, true);
    let passphrase = credential(&source)?.map_or_else(|| typed_twice(&source), Ok)?;
    Ok(Passphrase::of(&passphrase)?)
}

/// A passphrase that is chosen now, which the machine does not give.
pub(crate) fn chosen(source: &Source) -> Result<Hidden, Fault> {
    given(source)?.map_or_else(|| typed_twice(source), Ok)
}

/// The passphrase of a bundle that others made.
pub(crate) fn of_bundle(source: &Source) -> Result<Hidden, Fault> {
    given(source)?.map_or_else(|| typed(source, &format!("{}: ", source.name)), Ok)
}

fn typed_twice(source: &Source) -> Result<Hidden, Fault> {
    let first = typed(source, &format!("new {}: ", source.name))?;
    if !first.is_same(&typed(source, "the same again: ")?) {
        return Err(Fault::new(Exit::Locked, "the two passphrases differ"));
    }
    Ok(first)
}

fn credential(source: &Source) -> Result<Option<Hidden>, Fault> {
    if let Some(given) = given(source)? {
        return Ok(Some(given));
    }
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let credential = credentials.map(|folder| folder.join(CREDENTIAL));
    credential.filter(|path| path.exists()).map(|path| read(&path, source.is_new)).transpose()
}

fn given(source: &Source) -> Result<Option<Hidden>, Fault> {
    let (args, is_new) = (&source.args, source.is_new);
    if let Some(path) = &args.passphrase_file {
        return read(path, is_new).map(Some);
    }
    if let Some(number) = args.passphrase_fd {
        return read(Path::new(&format!("/dev/fd/{number}")), is_new).map(Some);
    }
    Ok(None)
}

fn read(path: &Path, is_new: bool) -> Result<Hidden, Fault> {
    let name = path.display().to_string();
    let unreadable =
        |error| Fault::usage(format!("cannot read the passphrase from `{name}`: {error}"));
    let file = fs::File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    files::warn_if_shown(&name, &metadata);
    // Of its final size from the start: growing would leave copies behind.
    let mut bytes = Vec::with_capacity(MAX_PASSPHRASE_BYTES + 4);
    let limit = u64::try_from(MAX_PASSPHRASE_BYTES + 3).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
    let hidden = Hidden::new(bytes);
    // Where its place is known, for a wrong file is more likely than a wrong passphrase.
    let passphrase = Passphrase::of(&hidden);
    let checked =
        passphrase.and_then(|passphrase| if is_new { passphrase.check_strength() } else { Ok(()) });
    checked.map_err(|error| Fault::usage(format!("`{name}`: {error}")))?;
    Ok(hidden)
}

fn typed(source: &Source, question: &str) -> Result<Hidden, Fault> {
    if !std::io::stdin().is_terminal() {
        let Source { args: _, prefix, name, instead, is_new: _ } = source;
        return Err(Fault::usage(format!(
            "no {name}: use --{prefix}passphrase-file, --{prefix}passphrase-fd{instead} or a terminal"
        )));
    }
    rpassword::prompt_password(question)
        .map(|typed| Hidden::new(typed.into_bytes()))
        .map_err(|error| Fault::usage(format!("cannot read the {}: {error}", source.name)))
}
