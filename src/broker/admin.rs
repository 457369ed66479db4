//! What the operator's commands ask of a running service, over the socket in its home.

use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use policy::MAX_POLICY_BYTES;
use sandbox::{LocalPeer, LocalSocket};
use wire::Channel;
use wire::admin::{ADMIN_SOCKET, FromAdmin, ToAdmin};

use crate::Broker;
use crate::entry::Entry;
use crate::serve::log;

/// How long an operator's command may take to say what it wants: it has it ready. Others wait as long.
const ASK_PATIENCE: Duration = Duration::from_millis(200);
/// How long it may take to hear the answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// Pause after the socket failed.
const PAUSE: Duration = Duration::from_secs(1);

/// The socket in a home. It is there before the process is confined, and answers once it serves.
pub struct AdminSocket(LocalSocket);

impl AdminSocket {
    /// Opens it. The home is held by its keyspace's lock, so nobody else waits there.
    ///
    /// # Errors
    /// When the home takes no socket.
    pub fn open(home: &Path) -> io::Result<Self> {
        LocalSocket::bind(home, ADMIN_SOCKET).map(Self)
    }

    /// Answers operators, one after another, for as long as there is a broker.
    pub(crate) fn serve(self, broker: &Arc<Broker>) -> io::Result<()> {
        let broker = Arc::downgrade(broker);
        std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
            loop {
                let answered = self.0.accept().map(|(stream, peer)| {
                    hear(&broker, Channel::new(stream), peer);
                });
                if broker.strong_count() == 0 {
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

fn hear(broker: &Weak<Broker>, mut channel: Channel<ToAdmin, FromAdmin>, peer: LocalPeer) {
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
    let Some(broker) = broker.upgrade() else { return };
    let answer = match broker.administer(&asked, peer) {
        Ok(text) => FromAdmin::Done(text),
        Err(text) => FromAdmin::Refused(text),
    };
    if let Err(error) = channel.send(&answer, Some(Instant::now() + ANSWER_PATIENCE)) {
        log(&format!("process {} did not hear what was done: {error}", peer.pid));
    }
}

impl Broker {
    /// What is asked is recorded before it is done, like everything else.
    fn administer(&self, asked: &ToAdmin, peer: LocalPeer) -> Result<String, String> {
        let entry = Entry::administered(asked.word(), peer.uid);
        self.record(&entry).map_err(|error| error.to_string())?;
        match asked {
            ToAdmin::ReloadPolicy => self.reload_from_file(),
        }
    }

    /// Reads the policy file again; says what holds now, or why nothing has changed.
    pub(crate) fn reload_from_file(&self) -> Result<String, String> {
        // One after the other: what was read last holds in the end.
        let _turn = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let done = self.policy_text().and_then(|text| self.reload("the policy", &text));
        match done {
            Ok(()) => {
                let text = "the policy was read again and holds from now on";
                log(text);
                Ok(text.to_owned())
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
