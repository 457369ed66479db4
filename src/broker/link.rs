//! The way back to the listener.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use wire::Channel;
use wire::request::{FromListener, ToListener};

use crate::serve::log;

/// How long the listener may take to read a reply.
pub(crate) const REPLY_PATIENCE: Duration = Duration::from_secs(10);

/// The way back to one listener process.
pub(crate) struct Link {
    channel: Mutex<Channel<FromListener, ToListener>>,
    /// Another handle on the socket, to close it while one is written to.
    closer: Channel<FromListener, ToListener>,
    gone: AtomicBool,
}

impl Link {
    /// The way back to the listener that is read from here.
    pub(crate) fn to(reader: &Channel<FromListener, ToListener>) -> io::Result<Self> {
        let (channel, closer) = (Mutex::new(reader.try_clone()?), reader.try_clone()?);
        Ok(Self { channel, closer, gone: AtomicBool::new(false) })
    }

    /// Ends the listener, even while something is written to it.
    pub(crate) fn cut_off(&self) {
        self.gone.store(true, Ordering::SeqCst);
        self.closer.close();
    }

    /// A listener that does not read is cut off, which ends it.
    pub(crate) fn send(&self, frame: &ToListener) {
        let mut channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        match channel.send(frame, Some(Instant::now() + REPLY_PATIENCE)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                log("a reply over its bound was dropped");
            }
            Err(_) => channel.close(),
        }
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use wire::request::{MAX_REPLY_BYTES, Reply};

    use super::*;

    fn link() -> (Link, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        (Link::to(&Channel::new(ours)).unwrap(), theirs)
    }

    #[test]
    fn a_listener_that_does_not_read_is_cut_off() {
        let (link, mut theirs) = link();
        theirs.shutdown(std::net::Shutdown::Read).unwrap();
        link.send(&ToListener::Drain);
        assert_eq!(
            link.closer.try_clone().unwrap().receive(None).err().unwrap().to_string(),
            "the peer is gone"
        );
        assert!(theirs.write_all(b"x").is_err(), "nobody hears it any more");
        drop(theirs);
    }

    #[test]
    fn a_reply_over_its_bound_costs_itself_alone() {
        let (link, mut theirs) = link();
        let body = vec![0; MAX_REPLY_BYTES + 64 * 1024];
        link.send(&ToListener::Reply(Reply { ticket: 1, proof: None, error: None, body }));
        assert!(theirs.read(&mut [0]).is_err(), "nothing was sent, and the socket is open");
        link.send(&ToListener::Drain);
        assert_eq!(theirs.read(&mut [0; 64]).unwrap(), 5);
    }
}
