//! `crypto-cli keyspace list` and `crypto-cli key list`.

use keyspace::Unlocked;
use serde_json::json;
use wire::Name;

use crate::args::{Format, KeyListArgs, ListArgs};
use crate::exit::{Exit, Fault};
use crate::{files, say};

pub(crate) fn spaces(args: &ListArgs) -> Result<Exit, Fault> {
    let keyspace = files::unlock(&args.unlock)?;
    let names: Vec<String> = keyspace.spaces()?.iter().map(Name::to_string).collect();
    match args.format {
        Format::Json => say::line(&json!({ "schema": 1, "key_spaces": names }).to_string())?,
        Format::Text => names.iter().try_for_each(|name| say::line(name))?,
    }
    Ok(Exit::Done)
}

pub(crate) fn keys(args: &KeyListArgs) -> Result<Exit, Fault> {
    let wanted = args.space.as_deref().map(Name::parse).transpose();
    let wanted = wanted.map_err(|error| Fault::usage(error.to_string()))?;
    let keyspace = files::unlock(&args.list.unlock)?;
    let spaces = match wanted {
        Some(space) if keyspace.spaces()?.contains(&space) => vec![space],
        Some(space) => return Err(Fault::usage(format!("there is no key space `{space}`"))),
        None => keyspace.spaces()?,
    };
    match args.list.format {
        Format::Json => print_json(&keyspace, &spaces)?,
        Format::Text => print_text(&keyspace, &spaces)?,
    }
    Ok(Exit::Done)
}

fn print_text(keyspace: &Unlocked, spaces: &[Name]) -> Result<(), Fault> {
    for space in spaces {
        for (key, _) in keyspace.keys(space)? {
            say::line(&format!("{space}/{key} ed25519"))?;
        }
    }
    Ok(())
}

fn print_json(keyspace: &Unlocked, spaces: &[Name]) -> Result<(), Fault> {
    let mut keys = Vec::new();
    for space in spaces {
        for (key, created) in keyspace.keys(space)? {
            let (space, key) = (space.as_str(), key.as_str());
            let algorithm = "ed25519";
            keys.push(json!({ "key_space": space, "key": key, "algorithm": algorithm, "created": created }));
        }
    }
    say::line(&json!({ "schema": 1, "keys": keys }).to_string())
}
