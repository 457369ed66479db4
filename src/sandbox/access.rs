//! Landlock: which files, ports and processes a role can reach from now on. It binds the calling
//! thread and those it starts, so it is called before there are others.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, NetPort, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use crate::report::State;

/// What this crate asks for: files, ports (Linux 6.7), signals and abstract sockets (Linux 6.12).
/// Older kernels give what they have.
const WANTED: ABI = ABI::V6;

/// No file, no port, no process outside.
pub(crate) fn to_nothing() -> State {
    state(restrict(None, None))
}

/// The files below one folder, and no port.
pub(crate) fn to_folder(folder: &Path) -> State {
    state(restrict(Some(folder), None))
}

/// Connections to one port, and no file.
pub(crate) fn to_port(port: u16) -> State {
    state(restrict(None, Some(port)))
}

fn restrict(folder: Option<&Path>, port: Option<u16>) -> Result<RulesetStatus, RulesetError> {
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(WANTED))?
        .handle_access(AccessNet::from_all(WANTED))?
        .scope(Scope::AbstractUnixSocket | Scope::Signal)?;
    let mut ruleset = ruleset.create()?;
    if let Some(folder) = folder {
        // A folder that cannot be opened is reachable by nobody, which the caller will find.
        if let Ok(opened) = PathFd::new(folder) {
            // Nothing in a home is a program or a device.
            let rights = AccessFs::ReadFile
                | AccessFs::ReadDir
                | AccessFs::WriteFile
                | AccessFs::Truncate
                | AccessFs::MakeReg
                | AccessFs::RemoveFile;
            ruleset = ruleset.add_rule(PathBeneath::new(opened, rights))?;
        }
    }
    if let Some(port) = port {
        ruleset = ruleset.add_rule(NetPort::new(port, AccessNet::ConnectTcp))?;
    }
    Ok(ruleset.restrict_self()?.ruleset)
}

fn state(restricted: Result<RulesetStatus, RulesetError>) -> State {
    match restricted {
        Ok(RulesetStatus::FullyEnforced) => State::On,
        Ok(RulesetStatus::PartiallyEnforced) => State::Partly,
        Ok(RulesetStatus::NotEnforced) => State::Off(libc::ENOSYS),
        Err(_) => State::Off(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};

    /// Landlock alone, without any filter: in a thread of its own, for it cannot be taken off.
    fn confined<T: Send>(by: impl FnOnce() -> State + Send, then: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                rustix::thread::set_no_new_privs(true).unwrap();
                assert_eq!(
                    by(),
                    State::On,
                    "this test needs a kernel with Landlock, 6.12 or later"
                );
                then()
            });
            thread.join().unwrap()
        })
    }

    #[test]
    fn landlock_alone_stops_files_and_connections() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(TcpStream::connect(address).is_ok() && std::fs::read("/proc/self/status").is_ok());
        let (file, made, connected, bound) = confined(to_nothing, || {
            let made = std::fs::write("/tmp/crypto-cli-landlock", b"x");
            (
                std::fs::read("/proc/self/status").map(|_| ()),
                made,
                TcpStream::connect(address).map(|_| ()),
                TcpListener::bind("127.0.0.1:0").map(|_| ()),
            )
        });
        for outcome in [file, made, connected, bound] {
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::PermissionDenied);
        }
    }

    #[test]
    fn a_role_with_a_folder_reaches_that_folder_only() {
        let home = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        let (inside, outside) = (home.path().join("a"), other.path().join("a"));
        std::fs::write(&outside, b"x").unwrap();
        let (made, read, run) = confined(
            || to_folder(home.path()),
            || {
                let made =
                    std::fs::write(&inside, b"x").and_then(|()| std::fs::remove_file(&inside));
                (made, std::fs::read(&outside), std::process::Command::new("/bin/true").spawn())
            },
        );
        made.unwrap();
        assert_eq!(read.unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert_eq!(run.map(|_| ()).unwrap_err().kind(), ErrorKind::PermissionDenied);
    }

    #[test]
    fn a_role_with_a_port_reaches_that_port_only() {
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [one, two] = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
        let (allowed, refused) = confined(
            || to_port(one.port()),
            || (TcpStream::connect(one).map(|_| ()), TcpStream::connect(two).map(|_| ())),
        );
        allowed.unwrap();
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::PermissionDenied);
    }
}
