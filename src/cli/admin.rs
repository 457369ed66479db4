//! What commands ask of the service that holds a home.

use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

use sandbox::LocalSocket;
use wire::Channel;
use wire::admin::{ADMIN_SOCKET, FromAdmin, ToAdmin};

use crate::exit::{Exit, Fault};

/// How long the service may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks, and gives back what the service says it did.
pub(crate) fn ask(home: &Path, what: &ToAdmin) -> Result<String, Fault> {
    let place = home.display();
    let socket = LocalSocket::connect(home, ADMIN_SOCKET).map_err(|error| {
        let is = |kind| error.kind() == kind;
        let text = if is(ErrorKind::NotFound) || is(ErrorKind::ConnectionRefused) {
            format!("no service runs in `{place}`: start it with `crypto-cli listen`")
        } else {
            format!("cannot reach the service in `{place}`: {error}")
        };
        Fault::new(Exit::Unavailable, text)
    })?;
    let mut channel: Channel<FromAdmin, ToAdmin> = Channel::new(socket);
    let deadline = Some(Instant::now() + PATIENCE);
    let told = match channel.send(what, deadline) {
        Ok(()) => channel.receive(deadline).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match told {
        Ok(FromAdmin::Done(text)) => Ok(text),
        Ok(FromAdmin::Refused(text)) => Err(Fault::usage(text)),
        Err(error) => {
            let text = format!(
                "the service in `{place}` did not answer: {error}: is it of another version?"
            );
            Err(Fault::new(Exit::Unavailable, text))
        }
    }
}
