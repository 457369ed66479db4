//! What commands ask of the service that holds a home.

use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

use broker::Desk;
use keyspace::Home;
use sandbox::{LocalSocket, Untraced};
use wire::Channel;
use wire::admin::{ADMIN_SOCKET, FromAdmin, MAX_PART_BYTES, ToAdmin};
use wire::done::Outcome;

use crate::args::{Format, UnsealArgs};
use crate::exit::{Exit, Fault};
use crate::operate::Terminal;
use crate::{files, operate, passphrase};

/// What is found where no service runs.
const NOBODY: [ErrorKind; 3] =
    [ErrorKind::NotFound, ErrorKind::ConnectionRefused, ErrorKind::NotADirectory];

/// How long the service may take between two things that it says: a key space of a million keys is
/// renamed in less.
const PATIENCE: Duration = Duration::from_secs(300);

/// Asks, and prints what the service did.
pub(crate) fn ask(home: &Path, what: &ToAdmin, format: Format) -> Result<(), Fault> {
    let Some(mut service) = Service::reach(home)? else {
        let text =
            format!("no service runs in `{}`: start it with `crypto-cli listen`", home.display());
        return Err(Fault::new(Exit::Unavailable, text));
    };
    operate::print(format, &[], None, &service.ask(what, &mut Terminal::default())?)
}

/// `crypto-cli unseal`.
pub(crate) fn unseal(args: &UnsealArgs) -> Result<Exit, Fault> {
    let _untraced = Untraced::begin()?;
    let home = files::home_path(args.home.as_deref())?;
    let passphrase = passphrase::current(&args.passphrase)?;
    ask(&home, &ToAdmin::Unseal(passphrase), args.format)?;
    Ok(Exit::Done)
}

/// The service that holds a home.
pub(crate) struct Service {
    channel: Channel<FromAdmin, ToAdmin>,
    place: String,
}

impl Service {
    /// `None` when there is none.
    pub(crate) fn reach(home: &Path) -> Result<Option<Self>, Fault> {
        let place = home.display().to_string();
        match LocalSocket::connect(home, ADMIN_SOCKET) {
            Ok(socket) => Ok(Some(Self { channel: Channel::new(socket), place })),
            Err(error) if NOBODY.contains(&error.kind()) => Ok(None),
            Err(error) => {
                // It can say more of a home that is not ours.
                Home::open(home)?;
                let text = format!("cannot reach the service in `{place}`: {error}");
                Err(Fault::new(Exit::Unavailable, text))
            }
        }
    }

    /// Asks, gives it the file that it wants to read, and takes what it tells and writes.
    pub(crate) fn ask(&mut self, what: &ToAdmin, desk: &mut dyn Desk) -> Result<Outcome, Fault> {
        self.say(what)?;
        loop {
            let told = self.channel.receive(Some(Instant::now() + PATIENCE));
            let done = match told.map_err(|error| self.unanswered(&error))? {
                FromAdmin::Done(outcome) => return Ok(outcome),
                FromAdmin::Refused(reason, text) => return Err(Fault::new(reason.into(), text)),
                FromAdmin::Row(row) => desk.tell(row),
                FromAdmin::Part(bytes) => desk.write(&bytes),
                FromAdmin::Send => desk.again(),
                FromAdmin::Progress(done, total) => {
                    desk.progress(done, total);
                    Ok(())
                }
                FromAdmin::More => {
                    let mut part = vec![0; MAX_PART_BYTES];
                    let read = desk.read(&mut part);
                    match read {
                        Ok(count) => {
                            part.truncate(count);
                            self.say(&ToAdmin::Part(part))?;
                            Ok(())
                        }
                        Err(error) => Err(error),
                    }
                }
            };
            done.map_err(|error| Fault::new(Exit::Unavailable, error.to_string()))?;
        }
    }

    fn say(&mut self, what: &ToAdmin) -> Result<(), Fault> {
        let said = self.channel.send(what, Some(Instant::now() + PATIENCE));
        said.map_err(|error| self.unanswered(&error))
    }

    fn unanswered(&self, error: &dyn std::fmt::Display) -> Fault {
        let place = &self.place;
        let text = format!(
            "the service in `{place}` did not answer: {error}: it may be of another version, or have done what was \
             asked all the same: check with `crypto-cli keyspace list`"
        );
        Fault::new(Exit::Unavailable, text)
    }
}
