//! An operator at the other end of the socket.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use wire::Channel;
use wire::admin::{FromAdmin, MAX_PART_BYTES, Row, ToAdmin};

use crate::operate::Desk;

/// How long it may take to hear something, or to send the next part of a file.
pub(crate) const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// How long it may take to send a whole file: other operators wait meanwhile, and nobody else.
const FILE_PATIENCE: Duration = Duration::from_secs(300);
/// How often it hears how far something is.
const PROGRESS: Duration = Duration::from_millis(100);
/// The name under which a file is opened that has no name afterwards.
const SPOOL: &str = ".import";

pub(crate) struct Remote<'c> {
    channel: &'c mut Channel<ToAdmin, FromAdmin>,
    home: PathBuf,
    /// The file that it has sent, kept as it came: encrypted. Without it, a change of the keyspace would wait for
    /// whoever sends slowly.
    spool: Option<File>,
    at: u64,
    progressed: Option<Instant>,
    is_deaf: bool,
}

impl<'c> Remote<'c> {
    pub(crate) fn new(channel: &'c mut Channel<ToAdmin, FromAdmin>, home: PathBuf) -> Self {
        Self { channel, home, spool: None, at: 0, progressed: None, is_deaf: false }
    }

    /// Whoever did not hear one thing hears no other: half of it may be on its way.
    pub(crate) fn say(&mut self, frame: &FromAdmin) -> io::Result<()> {
        if self.is_deaf {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let said = self.channel.send(frame, Some(Instant::now() + ANSWER_PATIENCE));
        self.is_deaf = said.is_err();
        said
    }

    /// Takes the file whole, into one without a name.
    fn fetch(&mut self) -> io::Result<File> {
        let path = self.home.join(SPOOL);
        // One operator is heard at a time, so it is left over from a process that was killed.
        let _none = std::fs::remove_file(&path);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        std::fs::remove_file(&path)?;
        let until = Instant::now() + FILE_PATIENCE;
        self.say(&FromAdmin::Send)?;
        let mut at = 0;
        loop {
            self.say(&FromAdmin::More)?;
            let deadline = (Instant::now() + ANSWER_PATIENCE).min(until);
            match self.channel.receive(Some(deadline)).map_err(io::Error::other)? {
                ToAdmin::Part(part) if part.is_empty() => return Ok(file),
                ToAdmin::Part(part) => {
                    file.write_all_at(&part, at)?;
                    at += u64::try_from(part.len()).unwrap_or(u64::MAX);
                }
                ToAdmin::ReloadPolicy | ToAdmin::Unseal(_) | ToAdmin::Act(_) => {
                    return Err(io::ErrorKind::InvalidData.into());
                }
            }
        }
    }
}

impl Desk for Remote<'_> {
    fn tell(&mut self, row: Row) -> io::Result<()> {
        self.say(&FromAdmin::Row(row))
    }

    fn progress(&mut self, done: u64, total: u64) {
        if self.progressed.is_some_and(|last| last.elapsed() < PROGRESS) {
            return;
        }
        self.progressed = Some(Instant::now());
        // Who does not hear it will not hear the end either. An import notices when it reads on.
        let _unheard = self.say(&FromAdmin::Progress(done, total));
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        bytes.chunks(MAX_PART_BYTES).try_for_each(|part| self.say(&FromAdmin::Part(part.to_vec())))
    }

    fn again(&mut self) -> io::Result<()> {
        self.at = 0;
        if self.spool.is_none() {
            self.spool = Some(self.fetch()?);
        }
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Whoever has gone has given up on it: nothing is done behind an operator's back.
        if self.is_deaf || !self.channel.is_silent() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let file = self.spool.as_ref().ok_or(io::ErrorKind::InvalidInput)?;
        let count = file.read_at(buffer, self.at)?;
        self.at += u64::try_from(count).unwrap_or(u64::MAX);
        Ok(count)
    }
}
