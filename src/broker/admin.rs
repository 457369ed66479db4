//! What the operator's commands ask of a running service, over the socket in its home.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use policy::MAX_POLICY_BYTES;
use sandbox::{LocalPeer, LocalSocket};
use wire::Channel;
use wire::admin::{ADMIN_SOCKET, FromAdmin, Reason, ToAdmin};
use wire::done::{Done, Outcome};
use wire::operator::Act;

use crate::audit::AuditError;
use crate::entry::{Entry, RELOAD};
use crate::gate::Gate;
use crate::operate::{Desk, perform, recorded};
use crate::remote::Remote;
use crate::serve::log;
use crate::{Broker, clock};

/// How long an operator's command may take to say what it wants: it has it ready. Others wait as long.
const ASK_PATIENCE: Duration = Duration::from_millis(200);
/// Pause after the socket failed.
const PAUSE: Duration = Duration::from_secs(1);

/// The socket in a home. It is there before the process is confined, and answers once it serves.
pub struct AdminSocket {
    socket: LocalSocket,
    home: PathBuf,
}

impl AdminSocket {
    /// Opens it. The home is held by its keyspace's lock, so nobody else waits there.
    ///
    /// # Errors
    /// When the home takes no socket.
    pub fn open(home: &Path) -> io::Result<Self> {
        let socket = LocalSocket::bind(home, ADMIN_SOCKET)?;
        Ok(Self { socket, home: home.to_owned() })
    }

    /// Answers operators, one after another, for as long as there is a broker.
    pub(crate) fn serve(self, gate: &Arc<Gate>) -> io::Result<()> {
        let gate = Arc::downgrade(gate);
        std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
            loop {
                let answered = self.socket.accept().map(|(stream, peer)| {
                    hear(&gate, Channel::new(stream), peer, &self.home);
                });
                if gate.strong_count() == 0 {
                    return;
                }
                if let Err(error) = answered {
                    log(&format!("the socket in the home: {error}"));
                    std::thread::sleep(PAUSE);
                }
            }
        })?;
        Ok(())
    }
}

fn hear(gate: &Weak<Gate>, mut channel: Channel<ToAdmin, FromAdmin>, peer: LocalPeer, home: &Path) {
    let asked = match channel.receive(Some(Instant::now() + ASK_PATIENCE)) {
        Ok(asked) => asked,
        Err(error) => {
            log(&format!("process {} at the socket in the home: {error}", peer.pid));
            return;
        }
    };
    // Whoever has gone has given up on it: nothing is done behind an operator's back.
    if !channel.is_silent() {
        return;
    }
    let Some(gate) = gate.upgrade() else { return };
    let mut desk = Remote::new(&mut channel, home.to_owned());
    let done = match (asked, gate.broker()) {
        (ToAdmin::Unseal(passphrase), _) => gate.unseal(&passphrase, peer),
        (ToAdmin::ReloadPolicy, Some(broker)) => broker.reload_for(peer),
        (ToAdmin::Act(act), Some(broker)) => broker.operate(act, peer, &mut desk),
        (ToAdmin::ReloadPolicy | ToAdmin::Act(_), None) => {
            Err((Reason::Locked, "the keyspace is sealed: use `crypto-cli unseal`".to_owned()))
        }
        (ToAdmin::Part(_), _) => {
            Err((Reason::Usage, "a part of a file that nobody asked for".to_owned()))
        }
    };
    let answer = match done {
        Ok(outcome) => FromAdmin::Done(outcome),
        Err((reason, text)) => FromAdmin::Refused(reason, text),
    };
    if let Err(error) = desk.say(&answer) {
        log(&format!("process {} did not hear what was done: {error}", peer.pid));
    }
}

impl Broker {
    /// What is asked is recorded before it is done, like everything else.
    fn reload_for(&self, peer: LocalPeer) -> Result<Outcome, (Reason, String)> {
        let unrecorded = |error: AuditError| (error.reason(), error.to_string());
        self.record(&Entry::administered(RELOAD, peer.uid)).map_err(unrecorded)?;
        let done = self.reload_from_file().map(|()| Done::Reloaded.into());
        done.map_err(|text| match self.record(&Entry::not_loaded(peer.uid)) {
            Ok(_) => (Reason::Usage, text),
            Err(error) => (error.reason(), format!("{text}; {error}")),
        })
    }

    /// The same, and then what came of it.
    fn operate(
        &self,
        act: Act,
        peer: LocalPeer,
        desk: &mut dyn Desk,
    ) -> Result<Outcome, (Reason, String)> {
        let record = |entry: &Entry<'_>| self.record(entry).map(drop);
        let done = recorded(act, peer.uid, &record, &|| Ok(()), |act| {
            perform(&self.keyspace, act, clock::seconds(), desk)
        });
        done.map_err(|error| (error.reason(), error.to_string()))
    }

    /// Reads the policy file again; says why nothing has changed, if so.
    pub(crate) fn reload_from_file(&self) -> Result<(), String> {
        // One after the other: what was read last holds in the end.
        let _turn = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let done = self.policy_text().and_then(|text| self.reload(&text));
        match done {
            Ok(()) => {
                log("the policy was read again and holds from now on");
                Ok(())
            }
            Err(why) => {
                let text = format!("the policy stays as it was: {why}");
                log(&text);
                Err(text)
            }
        }
    }

    /// The text of the policy file. The launcher opens it, for this process reaches its home alone.
    fn policy_text(&self) -> Result<String, String> {
        let file = self.lanes.launcher().policy().map_err(|error| error.to_string())?;
        let most = u64::try_from(MAX_POLICY_BYTES + 1).unwrap_or(u64::MAX);
        let mut text = String::new();
        file.take(most).read_to_string(&mut text).map_err(|error| error.to_string())?;
        Ok(text)
    }
}
