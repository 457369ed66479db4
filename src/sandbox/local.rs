//! A socket in a folder, for the folder's owner and root alone.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// A socket that waits for peers.
pub struct LocalSocket {
    socket: UnixListener,
    /// The user who may speak to it beside root. A process that is confined cannot ask who it is.
    owner: u32,
}

/// Who is at the other end, as the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalPeer {
    /// The user.
    pub uid: u32,
    /// The process.
    pub pid: i32,
}

impl LocalPeer {
    /// This process.
    #[must_use]
    pub fn this() -> Self {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        Self { uid: rustix::process::geteuid().as_raw(), pid }
    }
}

impl LocalSocket {
    /// Waits at `name` in the folder, in the place of a socket that another process left. Who calls has
    /// made sure that there is no other process that waits.
    ///
    /// # Errors
    /// When the folder takes no socket.
    pub fn bind(folder: &Path, name: &str) -> io::Result<Self> {
        let path = folder.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let opened = File::open(folder)?;
        let socket = UnixListener::bind(short(&opened, name))?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        Ok(Self { socket, owner: rustix::process::geteuid().as_raw() })
    }

    /// Waits for the next peer that is the owner or root. Others are hung up on.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn accept(&self) -> io::Result<(UnixStream, LocalPeer)> {
        loop {
            let (stream, _unnamed) = self.socket.accept()?;
            let who = rustix::net::sockopt::socket_peercred(&stream)?;
            let peer = LocalPeer { uid: who.uid.as_raw(), pid: who.pid.as_raw_nonzero().get() };
            if peer.uid == self.owner || peer.uid == 0 {
                return Ok((stream, peer));
            }
        }
    }

    /// Reaches the process that waits at `name` in the folder.
    ///
    /// # Errors
    /// `NotFound` or `ConnectionRefused` when there is none; `PermissionDenied` when it is not the folder owner's, or
    /// others can enter the folder and may have put it there.
    pub fn connect(folder: &Path, name: &str) -> io::Result<UnixStream> {
        let opened = File::open(folder)?;
        let metadata = opened.metadata()?;
        let stream = UnixStream::connect(short(&opened, name))?;
        let who = rustix::net::sockopt::socket_peercred(&stream)?.uid.as_raw();
        if metadata.mode() & 0o077 != 0 || (who != metadata.uid() && who != 0) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(stream)
    }
}

/// The address of a socket has room for 107 bytes, which a path may be longer than.
fn short(folder: &File, name: &str) -> PathBuf {
    Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn the_owner_is_heard_below_a_path_of_any_length() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("a".repeat(200));
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
        fs::write(folder.join("socket"), b"left over").unwrap();
        let socket = LocalSocket::bind(&folder, "socket").unwrap();
        let mode = fs::metadata(folder.join("socket")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut here = LocalSocket::connect(&folder, "socket").unwrap();
        let (mut there, peer) = socket.accept().unwrap();
        assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
        assert_eq!(peer.pid, rustix::process::getpid().as_raw_nonzero().get());
        here.write_all(b"x").unwrap();
        there.read_exact(&mut [0]).unwrap();
        fs::set_permissions(&folder, Permissions::from_mode(0o701)).unwrap();
        let error = LocalSocket::connect(&folder, "socket").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "others may have put it there");
        fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
        drop(socket);
        let error = LocalSocket::connect(&folder, "socket").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
