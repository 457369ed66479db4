//! Where a passphrase comes from: a file, a descriptor, a systemd credential, or a person.

use std::fs;
use std::io::{IsTerminal, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use keyspace::{MAX_PASSPHRASE_BYTES, Passphrase};

use crate::args::PassphraseArgs;
use crate::exit::{Exit, Fault};
use crate::say;

/// The name of the systemd credential (systemd.exec(5), `LoadCredential=`).
const CREDENTIAL: &str = "crypto-cli-passphrase";

/// The passphrase of an existing keyspace.
pub(crate) fn existing(args: &PassphraseArgs) -> Result<Passphrase, Fault> {
    match given(args)? {
        Some(passphrase) => Ok(passphrase),
        None => typed("passphrase: "),
    }
}

/// The passphrase of a new keyspace: typed twice where it is typed.
pub(crate) fn new(args: &PassphraseArgs) -> Result<Passphrase, Fault> {
    if let Some(passphrase) = given(args)? {
        return Ok(passphrase);
    }
    let first = typed("new passphrase: ")?;
    if !first.is_same(&typed("the same again: ")?) {
        return Err(Fault::new(Exit::Locked, "the two passphrases differ"));
    }
    Ok(first)
}

fn given(args: &PassphraseArgs) -> Result<Option<Passphrase>, Fault> {
    if let Some(path) = &args.passphrase_file {
        return read(path).map(Some);
    }
    if let Some(number) = args.passphrase_fd {
        return read(Path::new(&format!("/dev/fd/{number}"))).map(Some);
    }
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let credential = credentials.map(|folder| folder.join(CREDENTIAL));
    credential.filter(|path| path.exists()).map(|path| read(&path)).transpose()
}

fn read(path: &Path) -> Result<Passphrase, Fault> {
    let name = path.display();
    let unreadable =
        |error| Fault::usage(format!("cannot read the passphrase from `{name}`: {error}"));
    let file = fs::File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.is_file() && metadata.mode() & 0o077 != 0 {
        say::talk(&format!("crypto-cli: warning: other users may read `{name}`: `chmod go=` it"));
    }
    // Of its final size from the start: growing would leave copies behind.
    let mut bytes = Vec::with_capacity(MAX_PASSPHRASE_BYTES + 4);
    let limit = u64::try_from(MAX_PASSPHRASE_BYTES + 3).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(Passphrase::new(bytes)?)
}

fn typed(question: &str) -> Result<Passphrase, Fault> {
    Ok(Passphrase::new(prompt(question)?.into_bytes())?)
}

fn prompt(question: &str) -> Result<String, Fault> {
    if !std::io::stdin().is_terminal() {
        let text = "no passphrase: use --passphrase-file, --passphrase-fd or a terminal";
        return Err(Fault::usage(text));
    }
    rpassword::prompt_password(question)
        .map_err(|error| Fault::usage(format!("cannot read the passphrase: {error}")))
}
