//! `crypto-cli init`: make a keyspace.

use std::fs::Metadata;
use std::io::IsTerminal;
use std::path::Path;

use keyspace::{Home, KeyspaceError, Unlocked};
use serde_json::json;

use crate::args::{Format, InitArgs};
use crate::exit::{Exit, Fault};
use crate::{ask, files, passphrase, say};

pub(crate) fn init(args: &InitArgs) -> Result<Exit, Fault> {
    let folder = files::home_path(args.home.as_deref())?;
    let path = folder.display();
    let question = format!("make a keyspace in `{path}`?");
    if !args.yes && std::io::stdin().is_terminal() && !ask::is_confirmed(&question)? {
        say::talk("nothing was made");
        return Ok(Exit::Refused);
    }
    let passphrase = passphrase::of_new_keyspace(&args.passphrase)?;
    let before = std::fs::metadata(&folder).ok();
    let home = Home::create(&folder)?;
    let keyspace = Unlocked::create(&home, &passphrase, args.kdf.cost(), files::now());
    let keyspace = keyspace.inspect_err(|error| put_back(&folder, before.as_ref(), error))?;
    let nkey = keyspace.service_nkey();
    if args.format == Format::Json {
        let home = path.to_string();
        say::line(&json!({ "schema": 1, "home": home, "service_nkey": nkey }).to_string())?;
    } else {
        say::talk(&format!("made a keyspace in `{path}`; callers pin this service nkey:"));
        say::line(nkey)?;
    }
    Ok(Exit::Done)
}

/// Leaves the folder as it was, as far as the system lets it be, unless a keyspace may have been made in it: one is
/// closed to others.
fn put_back(folder: &Path, before: Option<&Metadata>, error: &KeyspaceError) {
    if matches!(error, KeyspaceError::Unconfirmed(_)) {
        return;
    }
    let _left = match before {
        None => std::fs::remove_dir(folder),
        Some(before) => std::fs::set_permissions(folder, before.permissions()),
    };
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_folder_with_a_keyspace_is_not_opened_to_others_again() {
        let folder = tempfile::tempdir().unwrap();
        let set = |mode| {
            std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        };
        set(0o755);
        let before = std::fs::metadata(folder.path()).unwrap();
        let unconfirmed = KeyspaceError::Unconfirmed(Box::new(KeyspaceError::WrongPermit));
        for (error, mode) in [(unconfirmed, 0o700), (KeyspaceError::WrongPermit, 0o755)] {
            set(0o700);
            put_back(folder.path(), Some(&before), &error);
            let now = std::fs::metadata(folder.path()).unwrap().permissions().mode();
            assert_eq!(now & 0o777, mode, "{error}");
        }
    }
}
