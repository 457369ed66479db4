//! `crypto-cli request`: send a script, believe only the pinned service's answer.

use client::blocking::{Fault as AskFault, PATIENCE};
use client::{Answer, Asking, Caller, RequestFault, check_subject};

use crate::args::{Format, RequestArgs};
use crate::exit::{Exit, Fault, for_code};
use crate::output::Output;
use crate::{files, listen, say};

/// Clocks that are further apart than this are mentioned, in seconds: an answer may have been on its way
/// for some of them.
const MENTIONED_SKEW: i64 = 5;

pub(crate) fn request(args: &RequestArgs) -> Result<Exit, Fault> {
    let script = files::read_script(&args.script)?;
    let connect = listen::connection(&args.nats, "crypto-cli request")?;
    let subject = check_subject(&args.subject)?;
    let caller = if args.unsigned { None } else { Some(caller(args)?) };
    // Before anything is run: an answer that came must not be lost for want of a place.
    let mut receipt = args.receipt.as_deref().map(Output::create).transpose()?;
    let json = args.format == Format::Json;
    let asking = Asking { json, again: args.retry, patience: PATIENCE };
    let answer = client::blocking::request(&connect, subject, &script, caller.as_ref(), asking)?;
    let exit = show(&answer, args.format);
    if let (Some(mut output), Some(proven)) = (receipt.take(), &answer.proven) {
        let written = output.write(format!("{}\n", proven.receipt).as_bytes());
        written.map_err(|error| Fault::system("cannot write the receipt", &error))?;
        output.finish()?;
    }
    exit
}

fn show(answer: &Answer, format: Format) -> Result<Exit, Fault> {
    let ahead = answer.proven.as_ref().and_then(|proven| proven.clock_ahead);
    if let Some(ahead) = ahead.filter(|ahead| ahead.abs() > MENTIONED_SKEW) {
        let side = if ahead > 0 { "ahead of" } else { "behind" };
        let seconds = ahead.abs();
        say::talk(&format!(
            "crypto-cli: the service's clock is {seconds} seconds {side} this one: requests are refused when \
             the difference exceeds 30"
        ));
    }
    match (answer.error, format) {
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
    files::client(seed, service, service_nkey)
}

impl From<AskFault> for Fault {
    fn from(fault: AskFault) -> Self {
        match fault {
            AskFault::Connect(fault) => fault.into(),
            AskFault::Request(fault) => fault.into(),
            AskFault::Runtime(_) => Self::new(Exit::Internal, fault.to_string()),
        }
    }
}

impl From<RequestFault> for Fault {
    fn from(fault: RequestFault) -> Self {
        let exit = match fault {
            RequestFault::NoResponders(_)
            | RequestFault::UnsignedError { .. }
            | RequestFault::Failed(_) => Exit::Unavailable,
            RequestFault::TimedOut { .. } | RequestFault::TooLarge { .. } => Exit::Limit,
            RequestFault::Unbelieved(_) | RequestFault::Unsigned => Exit::Integrity,
        };
        Self::new(exit, fault.to_string())
    }
}
