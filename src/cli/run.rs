//! `crypto-cli run`: the same broker and worker as the service, without a listener.

use broker::{Audit, Broker, ProofMark, Records};
use keyspace::Unlocked;
use sandbox::{Confined, LocalPeer, Untraced};

use crate::args::{Format, RunArgs, Unlock};
use crate::exit::{Exit, Fault, for_code};
use crate::{files, say, scripts};

pub(crate) fn run(args: &RunArgs) -> Result<Exit, Fault> {
    let untraced = Untraced::begin()?;
    // A process that is confined cannot ask.
    let uid = LocalPeer::this().uid;
    let launcher = scripts::launcher(&[], None)?;
    let script = files::read_script(&args.script)?;
    let home = args.home.clone().or_else(named_home);
    if !args.ephemeral {
        files::home(home.as_deref())?;
    }
    let path = files::policy_path(args.policy.as_deref(), home.as_deref())?;
    let policy = files::read_policy(&path)?;
    let caller = files::caller(&policy.policy, args.caller.as_deref())?;
    let lanes = scripts::lanes(launcher, &policy.policy, &args.sandbox)?;
    let (keyspace, records) = if args.ephemeral {
        scripts::mention(&Confined::broker(untraced, None)?);
        let records = Records { audit: Audit::ephemeral(), mark: ProofMark::ephemeral() };
        (Unlocked::ephemeral(files::now())?, records)
    } else {
        let (passphrase, open) = (args.passphrase.clone(), args.open.clone());
        let (home, locked, passphrase) = files::open(&Unlock { home, passphrase, open })?;
        let records = files::open_records(&home, &policy.policy)?;
        scripts::mention(&Confined::broker(untraced, Some(home.path()))?);
        (locked.unlock(&passphrase, args.open.opening())?, records)
    };
    let broker = Broker::new(policy.policy, &policy.text, keyspace, records, lanes)?;
    let outcome = broker.run(&caller, uid, &script);
    let exit = outcome.ending.as_ref().err().map_or(Exit::Done, |failure| for_code(failure.code));
    match (args.format, &outcome.ending) {
        (Format::Json, _) => say::line(&outcome.json())?,
        (Format::Text, ending) => {
            if !outcome.output.is_empty() {
                say::talk(outcome.output.trim_end_matches('\n'));
            }
            match ending {
                Ok(_) => say::value(&outcome.body(false))?,
                Err(failure) => say::talk(&failure.to_string()),
            }
        }
    }
    // Last, so that what was done is told whatever becomes of this.
    broker.close()?;
    Ok(exit)
}

fn named_home() -> Option<std::path::PathBuf> {
    std::env::var_os("CRYPTO_HOME").filter(|path| !path.is_empty()).map(Into::into)
}
