//! `crypto-cli receipt verify`: what a service signed of an answer, checked without it.

use proof::{Answered, Form};
use serde_json::json;

use crate::args::{Format, ReceiptVerifyArgs};
use crate::exit::{Exit, Fault};
use crate::{audit, files, say};

/// Longest receipt, in bytes: it was a header of a message.
const MOST_BYTES: usize = 8 * 1024;

pub(crate) fn verify(args: &ReceiptVerifyArgs) -> Result<Exit, Fault> {
    let text = files::read_bounded(&args.receipt, MOST_BYTES)?;
    let text = String::from_utf8_lossy(&text);
    let bad =
        |why: &str| Fault::new(Exit::Integrity, format!("the receipt is not believed: {why}"));
    let receipt = proof::read_receipt(text.trim(), files::checked_nkey(&args.service_nkey)?);
    let receipt = receipt.map_err(|fault| bad(&fault.to_string()))?;
    if let Some(path) = &args.script {
        let script = files::read_bounded(path, wire::script::MAX_SCRIPT_BYTES)?;
        if proof::digest(&script) != receipt.script {
            return Err(bad("it is for another script"));
        }
    }
    if let Some(path) = &args.payload {
        let payload = files::read_bounded(path, wire::request::MAX_REPLY_BYTES)?;
        // A file often ends its text with a line end that the payload had not.
        let is_it = |payload: &[u8]| proof::digest(payload) == receipt.bh;
        if !is_it(&payload) && !payload.strip_suffix(b"\n").is_some_and(is_it) {
            return Err(bad("it is for another payload"));
        }
    }
    let logs = match &args.home {
        Some(home) => audit::logs_of(home)?,
        None => args.log.clone(),
    };
    if !logs.is_empty() {
        let place = receipt.audit.as_ref().ok_or_else(|| bad("it names no line of a log"))?;
        if audit::digest_of(&logs, place.seq)?.as_ref() != Some(&place.line) {
            let why = format!("line {} of the audit log is missing, or is another", place.seq);
            return Err(Fault::new(Exit::Integrity, why));
        }
    }
    if args.format == Format::Json {
        say::line(&json!({ "schema": 1, "good": true, "receipt": receipt }).to_string())?;
        return Ok(Exit::Done);
    }
    show(&receipt)?;
    Ok(Exit::Done)
}

fn show(receipt: &Answered) -> Result<(), Fault> {
    let made = i64::try_from(receipt.iat).ok().and_then(|at| jiff::Timestamp::from_second(at).ok());
    say::line(&format!("status   {}", receipt.st))?;
    say::line(&format!("made     {}", made.map(|at| at.to_string()).unwrap_or_default()))?;
    say::line(&format!("caller   {}", receipt.caller))?;
    say::line(&format!("script   {}", receipt.script))?;
    say::line(&format!("policy   {}", receipt.policy))?;
    let form = if receipt.form == Form::Json { "json" } else { "value" };
    say::line(&format!("result   {} {form}", receipt.bh))?;
    let request = if receipt.req.is_empty() { "unsigned" } else { &receipt.req };
    say::line(&format!("request  {request}"))?;
    say::line(&format!("keys     {} {}", receipt.key_count, receipt.keys.join(" ")))?;
    if let Some(place) = &receipt.audit {
        say::line(&format!("audit    line {} {}", place.seq, place.line))?;
    }
    Ok(())
}
