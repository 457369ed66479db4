//! `crypto-cli run`: the same broker and worker as the service, without a listener.

use broker::{Audit, Broker, ProofMark, Records};
use keyspace::Unlocked;
use sandbox::Confined;

use crate::args::{Format, RunArgs, Unlock};
use crate::exit::{Exit, Fault, for_code};
use crate::{files, say};

pub(crate) fn run(args: &RunArgs) -> Result<Exit, Fault> {
    let _confined = Confined::broker()?;
    let script = files::read_script(&args.script)?;
    let home = args.home.clone().or_else(named_home);
    let path = files::policy_path(args.policy.as_deref(), home.as_deref())?;
    let policy = files::read_policy(&path)?;
    let caller = files::caller(&policy.policy, args.caller.as_deref())?;
    let (keyspace, records) = if args.ephemeral {
        let records = Records { audit: Audit::ephemeral(), mark: ProofMark::ephemeral() };
        (Unlocked::ephemeral(files::now())?, records)
    } else {
        let passphrase = args.passphrase.clone();
        let (home, keyspace) = files::unlock(&Unlock { home, passphrase })?;
        (keyspace, files::open_records(&home)?)
    };
    let broker =
        Broker::new(policy.policy, &policy.text, keyspace, records, &files::worker_path()?);
    let broker = broker.map_err(|error| Fault::system("cannot open the worker", &error))?;
    let outcome = broker.run(&caller, &script);
    let exit = outcome.ending.as_ref().err().map_or(Exit::Done, |failure| for_code(failure.code));
    match (args.format, &outcome.ending) {
        (Format::Json, _) => say::line(&outcome.json())?,
        (Format::Text, ending) => {
            if !outcome.output.is_empty() {
                say::talk(outcome.output.trim_end_matches('\n'));
            }
            match ending {
                Ok(_) => say::data(&[outcome.body(false).as_slice(), b"\n"].concat())?,
                Err(failure) => say::talk(&failure.to_string()),
            }
        }
    }
    Ok(exit)
}

fn named_home() -> Option<std::path::PathBuf> {
    std::env::var_os("CRYPTO_HOME").filter(|path| !path.is_empty()).map(Into::into)
}
