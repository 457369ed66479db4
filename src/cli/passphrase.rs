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

/// The passphrase of an existing keyspace.
pub(crate) fn existing(args: &PassphraseArgs) -> Result<Passphrase, Fault> {
    Ok(Passphrase::of(&hidden(args)?)?)
}

/// The same, for whoever is to use it.
pub(crate) fn hidden(args: &PassphraseArgs) -> Result<Hidden, Fault> {
    match credential(args)? {
        Some(passphrase) => Ok(passphrase),
        None => typed("passphrase: "),
    }
}

/// The passphrase of a new keyspace: typed twice where it is typed.
pub(crate) fn new(args: &PassphraseArgs, name: &str) -> Result<Passphrase, Fault> {
    let passphrase = credential(args)?.map_or_else(|| typed_twice(name), Ok)?;
    Ok(Passphrase::of(&passphrase)?)
}

/// A new passphrase of another kind, which the machine does not give.
pub(crate) fn another(args: &PassphraseArgs, name: &str) -> Result<Hidden, Fault> {
    match given(args)? {
        Some(passphrase) => Ok(passphrase),
        None => typed_twice(name),
    }
}

/// A passphrase of another kind that there is already.
pub(crate) fn other(args: &PassphraseArgs, name: &str) -> Result<Hidden, Fault> {
    match given(args)? {
        Some(passphrase) => Ok(passphrase),
        None => typed(&format!("{name}: ")),
    }
}

fn typed_twice(name: &str) -> Result<Hidden, Fault> {
    let first = typed(&format!("new {name}: "))?;
    if !first.is_same(&typed("the same again: ")?) {
        return Err(Fault::new(Exit::Locked, "the two passphrases differ"));
    }
    Ok(first)
}

fn credential(args: &PassphraseArgs) -> Result<Option<Hidden>, Fault> {
    if let Some(given) = given(args)? {
        return Ok(Some(given));
    }
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let credential = credentials.map(|folder| folder.join(CREDENTIAL));
    credential.filter(|path| path.exists()).map(|path| read(&path)).transpose()
}

fn given(args: &PassphraseArgs) -> Result<Option<Hidden>, Fault> {
    if let Some(path) = &args.passphrase_file {
        return read(path).map(Some);
    }
    if let Some(number) = args.passphrase_fd {
        return read(Path::new(&format!("/dev/fd/{number}"))).map(Some);
    }
    Ok(None)
}

fn read(path: &Path) -> Result<Hidden, Fault> {
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
    Ok(Hidden::new(bytes))
}

fn typed(question: &str) -> Result<Hidden, Fault> {
    Ok(Hidden::new(prompt(question)?.into_bytes()))
}

fn prompt(question: &str) -> Result<String, Fault> {
    if !std::io::stdin().is_terminal() {
        let text = "no passphrase: use --passphrase-file, --passphrase-fd or a terminal";
        return Err(Fault::usage(text));
    }
    rpassword::prompt_password(question)
        .map_err(|error| Fault::usage(format!("cannot read the passphrase: {error}")))
}
