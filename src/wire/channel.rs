//! A socket that reads one type of frame and writes another, so that two ends cannot be mixed up.

use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use zeroize::Zeroizing;

use crate::codec::{Frame, Malformed, Writer};

/// One end of a socket pair between two of our processes.
pub struct Channel<Reads, Writes> {
    socket: UnixStream,
    frames: PhantomData<fn(Writes) -> Reads>,
}

/// Why no frame was received.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The peer closed the socket.
    #[error("the peer is gone")]
    Closed,
    /// The deadline passed.
    #[error("the deadline passed")]
    TimedOut,
    /// The peer sent something that is not a frame.
    #[error("the peer sent a malformed frame")]
    Malformed,
    /// The socket failed.
    #[error("socket: {0}")]
    Io(#[source] io::Error),
}

impl From<io::Error> for ReceiveError {
    fn from(error: io::Error) -> Self {
        let is = |kind| error.kind() == kind;
        if is(io::ErrorKind::WouldBlock) || is(io::ErrorKind::TimedOut) {
            Self::TimedOut
        } else if is(io::ErrorKind::ConnectionReset) {
            Self::Closed
        } else {
            Self::Io(error)
        }
    }
}

impl<Reads: Frame, Writes: Frame> Channel<Reads, Writes> {
    /// Wraps one end of a socket pair.
    #[must_use]
    pub fn new(socket: UnixStream) -> Self {
        Self { socket, frames: PhantomData }
    }

    /// A second handle on the same socket, so that one thread can read while another writes.
    ///
    /// # Errors
    /// When the descriptor cannot be duplicated.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self::new(self.socket.try_clone()?))
    }

    /// Whether the peer is there and has said nothing that was not read.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        let nonblocking = self.socket.set_nonblocking(true);
        let peeked = (&self.socket).read(&mut [0]);
        let blocking = self.socket.set_nonblocking(false);
        let would_wait = peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        nonblocking.is_ok() && blocking.is_ok() && would_wait
    }

    /// Closes both directions for every handle.
    pub fn close(&self) {
        // The socket may be gone already, which is what was wanted.
        let _gone = self.socket.shutdown(std::net::Shutdown::Both);
    }

    /// Sends one frame. Without a deadline it waits for the peer for ever.
    ///
    /// # Errors
    /// When the peer is gone, the deadline passed or the frame is larger than its type allows.
    pub fn send(&mut self, frame: &Writes, deadline: Option<Instant>) -> io::Result<()> {
        let bytes = Zeroizing::new(pack(frame)?);
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            self.socket.set_write_timeout(remaining(deadline)?)?;
            match self.socket.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Receives one frame. The length is checked before anything is allocated, and the deadline
    /// holds for the whole frame, so a peer that drips bytes gains nothing.
    ///
    /// # Errors
    /// See [`ReceiveError`].
    pub fn receive(&mut self, deadline: Option<Instant>) -> Result<Reads, ReceiveError> {
        let mut head = [0u8; 4];
        self.fill(&mut head, deadline)?;
        let length = body_length::<Reads>(head).map_err(|_| ReceiveError::Malformed)?;
        let mut body = Zeroizing::new(vec![0u8; length]);
        self.fill(&mut body, deadline)?;
        Reads::decode(&body).map_err(|_| ReceiveError::Malformed)
    }

    fn fill(&mut self, buffer: &mut [u8], deadline: Option<Instant>) -> Result<(), ReceiveError> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            self.socket.set_read_timeout(remaining(deadline)?)?;
            match self.socket.read(rest) {
                Ok(0) => return Err(ReceiveError::Closed),
                Ok(count) => filled += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }
}

/// A frame with its length before it.
///
/// # Errors
/// When it is larger than its type allows.
pub fn pack<F: Frame>(frame: &F) -> io::Result<Vec<u8>> {
    let mut w = Writer::default();
    w.u32(0);
    frame.put(&mut w);
    let mut bytes = w.into_bytes();
    let over = || io::Error::new(io::ErrorKind::InvalidInput, "frame over its bound");
    let (head, body) = bytes.split_first_chunk_mut().ok_or_else(over)?;
    if body.len() > F::MAX_BYTES {
        return Err(over());
    }
    *head = u32::try_from(body.len()).map_err(|_| over())?.to_be_bytes();
    Ok(bytes)
}

/// The length of the frame that follows this head, if its type allows so much.
///
/// # Errors
/// [`Malformed`] when it does not.
pub fn body_length<F: Frame>(head: [u8; 4]) -> Result<usize, Malformed> {
    let length = usize::try_from(u32::from_be_bytes(head)).map_err(|_| Malformed)?;
    if length > F::MAX_BYTES { Err(Malformed) } else { Ok(length) }
}

fn remaining(deadline: Option<Instant>) -> io::Result<Option<std::time::Duration>> {
    let Some(deadline) = deadline else {
        return Ok(None);
    };
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Reader;
    use std::time::Duration;

    struct Word(String);
    impl Frame for Word {
        const MAX_BYTES: usize = 64;
        fn put(&self, w: &mut Writer) {
            w.text(&self.0);
        }
        fn take(r: &mut Reader<'_>) -> Result<Self, Malformed> {
            Ok(Word(r.text()?.to_owned()))
        }
    }

    fn pair() -> (UnixStream, Channel<Word, Word>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (ours, Channel::new(theirs))
    }

    #[test]
    fn a_length_past_the_bound_is_refused_before_it_is_allocated() {
        let (mut peer, mut channel) = pair();
        peer.write_all(&u32::MAX.to_be_bytes()).unwrap();
        assert!(matches!(channel.receive(None), Err(ReceiveError::Malformed)));
    }

    #[test]
    fn a_peer_that_drips_bytes_does_not_hold_us_past_the_deadline() {
        let (mut peer, mut channel) = pair();
        let dripper = std::thread::spawn(move || {
            // A frame of sixty bytes, one at a time: each read succeeds long before the deadline.
            for byte in [0, 0, 0, 60].into_iter().chain([0; 60]) {
                if peer.write_all(&[byte]).is_err() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let start = Instant::now();
        let got = channel.receive(Some(start + Duration::from_millis(100)));
        assert!(matches!(got, Err(ReceiveError::TimedOut)));
        assert!(start.elapsed() < Duration::from_millis(600));
        drop(channel);
        dripper.join().unwrap();
    }

    #[test]
    fn a_peer_that_never_reads_does_not_hold_us_past_the_deadline() {
        let (_peer, mut channel) = pair();
        let deadline = Instant::now() + Duration::from_millis(200);
        let mut result = Ok(());
        while result.is_ok() && Instant::now() < deadline + Duration::from_secs(5) {
            result = channel.send(&Word("x".repeat(50)), Some(deadline));
        }
        assert!(result.is_err());
        assert!(Instant::now() < deadline + Duration::from_secs(2));
    }

    #[test]
    fn a_frame_arrives_whole_and_the_end_is_told_from_silence() {
        let (ours, mut far) = pair();
        let mut near: Channel<Word, Word> = Channel::new(ours);
        near.send(&Word("hello".into()), None).unwrap();
        assert_eq!(far.receive(None).unwrap().0, "hello");
        drop(near);
        assert!(matches!(far.receive(None), Err(ReceiveError::Closed)));
    }
}
