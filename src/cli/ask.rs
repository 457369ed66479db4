//! Questions to a person.

use std::io::IsTerminal;

use crate::exit::{Exit, Fault};
use crate::say;

/// Whether a person says yes.
pub(crate) fn is_confirmed(question: &str) -> Result<bool, Fault> {
    say::talk(&format!("{question} [y/N]"));
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    read.map_err(|error| Fault::usage(format!("cannot read the answer: {error}")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Refuses what needs a yes where nobody can be asked for it.
pub(crate) fn needs_person(what: &str) -> Result<(), Fault> {
    if std::io::stdin().is_terminal() {
        return Ok(());
    }
    Err(Fault::usage(format!("pass `--yes` to {what}")))
}

/// Goes on only when `--yes` was passed, or a person says yes.
pub(crate) fn before(what: &str, yes: bool) -> Result<(), Fault> {
    if yes {
        return Ok(());
    }
    needs_person(what)?;
    if is_confirmed(&format!("{what}?"))? {
        return Ok(());
    }
    Err(Fault::new(Exit::Refused, "nothing was done"))
}
