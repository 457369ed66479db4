//! `crypto-cli identity`: a caller's user nkey, and proofs made with it.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use proof::{Addressee, Identity};

use crate::args::{IdentityNewArgs, IdentityProofArgs, IdentityShowArgs};
use crate::exit::{Exit, Fault};
use crate::{files, say};

pub(crate) fn new(args: &IdentityNewArgs) -> Result<Exit, Fault> {
    let identity = Identity::generate();
    let path = &args.output;
    let mut options = std::fs::OpenOptions::new();
    // Never over a seed that is there: what it gives access to would be lost.
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    let cannot = |error| Fault::usage(format!("cannot make `{}`: {error}", path.display()));
    let mut file = file.map_err(cannot)?;
    let written = identity.with_seed(|seed| {
        file.write_all(seed.as_bytes()).and_then(|()| file.write_all(b"\n"))?;
        file.sync_all()
    });
    written.map_err(cannot)?;
    say::talk(&format!("wrote the seed to `{}`; its public nkey, for the policy:", path.display()));
    say::line(&identity.nkey())?;
    Ok(Exit::Done)
}

pub(crate) fn show(args: &IdentityShowArgs) -> Result<Exit, Fault> {
    say::line(&client::read_identity(&args.seed)?.nkey())?;
    Ok(Exit::Done)
}

/// Prints the header by which a client of another kind can send this very script, within half a
/// minute and once.
pub(crate) fn proof(args: &IdentityProofArgs) -> Result<Exit, Fault> {
    let identity = client::read_identity(&args.seed)?;
    let script = files::read_script(&args.script)?;
    let mut jti = [0; 16];
    getrandom::fill(&mut jti).map_err(|error| Fault::system("no random numbers", &error))?;
    let jti = data_encoding::HEXLOWER.encode(&jti);
    let terms = proof::Terms { idem: args.idem };
    let to = Addressee { aud: &args.service, nkey: &args.service_nkey };
    let header = proof::write_request(&identity, to, files::now(), &jti, &script, terms);
    say::line(&header)?;
    Ok(Exit::Done)
}
