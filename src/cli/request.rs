//! `crypto-cli request`: send a script, believe only the pinned service's answer.

use client::blocking::{Fault as AskFault, PATIENCE};
use client::{Caller, RequestFault, check_subject};

use crate::args::{Format, RequestArgs};
use crate::exit::{Exit, Fault, for_code};
use crate::{files, listen, say};

/// Clocks that are further apart than this are mentioned, in seconds: an answer may have been on its way
/// for some of them.
const MENTIONED_SKEW: i64 = 5;

pub(crate) fn request(args: &RequestArgs) -> Result<Exit, Fault> {
    let script = files::read_script(&args.script)?;
    let connect = listen::connection(&args.nats, "crypto-cli request")?;
    let subject = check_subject(&args.subject)?;
    let caller = if args.unsigned { None } else { Some(caller(args)?) };
    let as_json = args.format == Format::Json;
    let answer =
        client::blocking::request(&connect, subject, &script, caller.as_ref(), as_json, PATIENCE)?;
    if let (Some(path), Some(receipt)) = (&args.receipt, &answer.receipt) {
        let written = std::fs::write(path, format!("{receipt}\n"));
        written.map_err(|e| Fault::usage(format!("cannot write `{}`: {e}", path.display())))?;
    }
    if let Some(ahead) = answer.clock_ahead.filter(|ahead| ahead.abs() > MENTIONED_SKEW) {
        let side = if ahead > 0 { "ahead of" } else { "behind" };
        let seconds = ahead.abs();
        say::talk(&format!(
            "crypto-cli: the service's clock is {seconds} seconds {side} this one: at 30 it refuses requests"
        ));
    }
    match (answer.error, args.format) {
        (Some(code), Format::Text) => {
            say::talk(&String::from_utf8_lossy(&answer.payload));
            Ok(for_code(code))
        }
        (error, _) => {
            say::value(&answer.payload)?;
            Ok(error.map_or(Exit::Done, for_code))
        }
    }
}

fn caller(args: &RequestArgs) -> Result<Caller, Fault> {
    let seed = args.identity.as_ref().or(args.nats.nkey_seed_file.as_ref());
    let seed = seed.ok_or_else(|| {
        Fault::usage("nobody to sign as: use --nkey-seed-file or --identity, or --unsigned")
    })?;
    let (Some(service), Some(service_nkey)) = (&args.service, &args.service_nkey) else {
        return Err(Fault::usage("a signed request needs --service and --service-nkey"));
    };
    let identity = client::read_identity(seed)?;
    Ok(Caller { identity, service: service.clone(), service_nkey: service_nkey.clone() })
}

impl From<AskFault> for Fault {
    fn from(fault: AskFault) -> Self {
        let message = fault.to_string();
        let exit = match fault {
            AskFault::Connect(fault) => return fault.into(),
            AskFault::Runtime(_) => Exit::Internal,
            AskFault::Request(fault) => match fault {
                RequestFault::NoResponders(_) | RequestFault::Failed(_) => Exit::Unavailable,
                RequestFault::TimedOut { .. } | RequestFault::TooLarge { .. } => Exit::Limit,
                RequestFault::UnsignedError { code, .. } => for_code(code),
                RequestFault::Unbelieved(_) | RequestFault::Unsigned => Exit::Integrity,
            },
        };
        Self::new(exit, message)
    }
}
