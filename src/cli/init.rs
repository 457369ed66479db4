//! `crypto-cli init`: make a keyspace.

use std::io::IsTerminal;

use keyspace::{Home, Unlocked};

use crate::args::InitArgs;
use crate::exit::{Exit, Fault};
use crate::{files, passphrase, say};

pub(crate) fn init(args: &InitArgs) -> Result<Exit, Fault> {
    let folder = files::home_path(args.unlock.home.as_deref())?;
    let path = folder.display();
    if !args.yes
        && std::io::stdin().is_terminal()
        && !confirmed(&format!("make a keyspace in `{path}`?"))?
    {
        say::talk("nothing was made");
        return Ok(Exit::Refused);
    }
    let passphrase = passphrase::new(&args.unlock.passphrase)?;
    let home = Home::create(&folder)?;
    let keyspace = Unlocked::create(&home, &passphrase, files::now())?;
    say::talk(&format!("made a keyspace in `{path}`; callers pin this service nkey:"));
    say::line(keyspace.service_nkey())?;
    Ok(Exit::Done)
}

fn confirmed(question: &str) -> Result<bool, Fault> {
    say::talk(&format!("{question} [y/N]"));
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    read.map_err(|error| Fault::usage(format!("cannot read the answer: {error}")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
