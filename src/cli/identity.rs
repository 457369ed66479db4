//! `crypto-cli identity`: a caller's user nkey, and proofs made with it.

use std::path::Path;

use proof::Identity;
use wire::script::MAX_SCRIPT_BYTES;

use crate::args::{IdentityNewArgs, IdentityProofArgs, IdentityShowArgs};
use crate::exit::{Exit, Fault};
use crate::output::{Output, STANDARD};
use crate::{files, say};

pub(crate) fn new(args: &IdentityNewArgs) -> Result<Exit, Fault> {
    let identity = Identity::generate();
    let path = &args.output;
    if path == Path::new(STANDARD) {
        return Err(Fault::usage("a seed is kept in a file: name one"));
    }
    // Never over a seed that is there: what it gives access to would be lost.
    let mut output = Output::create(path)?;
    let written =
        identity.with_seed(|seed| output.write(seed.as_bytes()).and_then(|()| output.write(b"\n")));
    written.map_err(|error| Fault::system("cannot write", &error))?;
    output.finish()?;
    say::talk(&format!("wrote the seed to `{}`; its public nkey, for the policy:", path.display()));
    say::line(&identity.nkey())?;
    Ok(Exit::Done)
}

pub(crate) fn show(args: &IdentityShowArgs) -> Result<Exit, Fault> {
    say::line(&files::read_identity(&args.seed)?.nkey())?;
    Ok(Exit::Done)
}

/// Prints the header by which a client of another kind can send this very script, within half a
/// minute and once.
pub(crate) fn proof(args: &IdentityProofArgs) -> Result<Exit, Fault> {
    let caller = files::client(&args.seed, &args.service, &args.service_nkey)?;
    let script = files::read_bounded(&args.script, MAX_SCRIPT_BYTES)?;
    say::line(&client::prove(&caller, &script, args.idem)?)?;
    Ok(Exit::Done)
}
