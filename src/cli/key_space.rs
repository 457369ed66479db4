//! `crypto-cli keyspace`: key spaces, and the keyspace as a whole.

use std::path::Path;

use policy::Recipient;
use sandbox::Untraced;
use wire::operator::{Act, KdfCost, MOST_RECIPIENTS, Protection};

use crate::args::{
    DestroySpaceArgs, ExportArgs, Format, ImportArgs, Kdf, KeyspaceCommand, PasswdArgs,
};
use crate::exit::{Exit, Fault};
use crate::operate::{Files, Session, name, operate};
use crate::output::{self, Output, STANDARD};
use crate::{ask, passphrase};

pub(crate) fn keyspace(command: &KeyspaceCommand) -> Result<Exit, Fault> {
    let _untraced = Untraced::begin()?;
    let none = Files::default();
    match command {
        KeyspaceCommand::New(args) => {
            operate(&args.operate, Act::NewSpace(name(&args.name)?), none)
        }
        KeyspaceCommand::List(args) => operate(args, Act::ListSpaces, none),
        KeyspaceCommand::Show(args) => {
            operate(&args.operate, Act::ShowSpace(name(&args.name)?), none)
        }
        KeyspaceCommand::Rename(args) => {
            operate(&args.operate, Act::RenameSpace(name(&args.name)?, name(&args.new)?), none)
        }
        KeyspaceCommand::Delete(args) => delete(args),
        KeyspaceCommand::Export(args) => export(args),
        KeyspaceCommand::Import(args) => import(args),
        KeyspaceCommand::Passwd(args) => passwd(args),
        KeyspaceCommand::Rotate(args) => {
            ask::before("encrypt everything anew and take all other passphrases away", args.yes)?;
            let current = passphrase::current(&args.operate.unlock.passphrase)?;
            operate(&args.operate, Act::Rotate(current), none)
        }
        KeyspaceCommand::Verify(args) => operate(args, Act::Verify, none),
    }
}

fn delete(args: &DestroySpaceArgs) -> Result<Exit, Fault> {
    let (space, operate) = (name(&args.space.name)?, &args.space.operate);
    let mut session = Session::new(&operate.unlock);
    let what = format!("destroy the key space `{space}`");
    if !args.yes {
        ask::needs_person(&what)?;
        let keys = session.key_count(&space)?;
        let keys = if keys == 1 { "its one key".to_owned() } else { format!("its {keys} keys") };
        ask::before(&format!("{what} with {keys}"), false)?;
    }
    session.operate(operate.format, Act::DeleteSpace(space), Files::default())
}

fn export(args: &ExportArgs) -> Result<Exit, Fault> {
    let names: Result<Vec<_>, Fault> = args.names.iter().map(|text| name(text)).collect();
    Output::check(&args.output)?;
    if args.operate.format == Format::Json && args.output == Path::new(STANDARD) {
        return Err(Fault::usage("standard output takes the bundle or the JSON: name a file"));
    }
    let protection = if args.to.is_empty() {
        Protection::Passphrase(passphrase::chosen(&args.bundle.source(", --to", true))?)
    } else if args.to.len() > MOST_RECIPIENTS {
        return Err(Fault::usage(format!("a bundle has at most {MOST_RECIPIENTS} recipients")));
    } else {
        args.to.iter().try_for_each(|text| {
            let cannot = |error| Fault::usage(format!("`{text}` is not a recipient: {error}"));
            Recipient::parse(text).map(drop).map_err(cannot)
        })?;
        Protection::Recipients(args.to.clone())
    };
    let files = Files { output: Some(Output::create(&args.output)?), source: None };
    operate(&args.operate, Act::Export(names?, protection), files)
}

fn import(args: &ImportArgs) -> Result<Exit, Fault> {
    let rename = args.rename.as_deref().map(name).transpose()?;
    let source = output::source(&args.file)?;
    let passphrase = if args.to_us {
        None
    } else {
        Some(passphrase::of_bundle(&args.bundle.source(", --to-us", false))?)
    };
    let files = Files { source: Some(source), output: None };
    let act = Act::Import { rename, skip_existing: args.skip_existing, passphrase };
    operate(&args.operate, act, files)
}

fn passwd(args: &PasswdArgs) -> Result<Exit, Fault> {
    let slot = args.set.kind();
    if args.remove {
        ask::before(&format!("take the {} passphrase away", slot.word()), args.yes)?;
    }
    let current = passphrase::current(&args.operate.unlock.passphrase)?;
    let new = if args.remove { None } else { Some(passphrase::chosen(&args.source())?) };
    let cost = args.kdf.map_or(KdfCost::Kept, Kdf::cost);
    let act = Act::Passwd { current, slot, new, cost };
    operate(&args.operate, act, Files::default())
}
