//! What the program prints: data on standard output, talk on standard error.

use std::io::{self, IsTerminal, Write};

use crate::exit::{Exit, Fault};

/// Writes data. A reader that has gone away has seen enough.
pub(crate) fn data(bytes: &[u8]) -> Result<(), Fault> {
    let mut out = io::stdout().lock();
    let written = out.write_all(bytes).and_then(|()| out.flush());
    let written = match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    };
    written.map_err(|error| Fault::new(Exit::Unavailable, format!("standard output: {error}")))
}

/// Writes a line of data.
pub(crate) fn line(text: &str) -> Result<(), Fault> {
    data(format!("{text}\n").as_bytes())
}

/// Writes a script's value and a line end: as it is to a program, and to a terminal without what would
/// steer it.
pub(crate) fn value(bytes: &[u8]) -> Result<(), Fault> {
    if io::stdout().is_terminal() {
        return line(&wire::shown(&String::from_utf8_lossy(bytes), usize::MAX, true));
    }
    data(&[bytes, b"\n"].concat())
}

/// Writes a line of talk. It may repeat what others sent, so characters that steer a terminal are
/// escaped; or what was given in the place of a file, which may be a seed.
pub(crate) fn talk(text: &str) {
    let text = policy::without_secrets(&wire::shown(text, usize::MAX, true));
    // If even this fails, there is nobody left to tell.
    let _unheard = writeln!(io::stderr().lock(), "{text}");
}
