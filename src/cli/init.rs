//! `crypto-cli init`: make a keyspace.

use std::io::IsTerminal;

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
    let keyspace = keyspace.inspect_err(|error| {
        if matches!(error, KeyspaceError::Unconfirmed(_)) {
            return;
        }
        // Nothing was made in it, so that it is as it was, as far as the system lets it be.
        let _left = match &before {
            None => std::fs::remove_dir(&folder),
            Some(before) => std::fs::set_permissions(&folder, before.permissions()),
        };
    })?;
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
