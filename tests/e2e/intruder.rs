//! Another user of the machine who has come as far as the operator's socket.

use std::fs::{self, File, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::process::Uid;
use wire::admin::{ADMIN_SOCKET, FromAdmin, ToAdmin};
use wire::operator::Act;
use wire::{Frame, Name};

use crate::support::*;

const NOBODY: u32 = 65_534;

/// What one user hears at the socket who asks for this; `None` where the service hangs up without a word.
fn asks(home: &Path, user: u32, what: &ToAdmin) -> Option<FromAdmin> {
    // By the folder's descriptor: what lies above the home is nobody's business.
    let folder = File::open(home).unwrap();
    let path = format!("/proc/self/fd/{}/{ADMIN_SOCKET}", folder.as_raw_fd());
    let frame = wire::channel::pack(what).unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // A user is a thread's own for the kernel, and this thread is nobody else's.
            let user = Uid::from_raw(user);
            rustix::thread::set_thread_res_uid(user, user, user).unwrap();
            let mut stream = UnixStream::connect(path).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            // It may be hung up on before it has said anything.
            let _unheard = stream.write_all(&frame);
            let mut head = [0; 4];
            match stream.read_exact(&mut head) {
                Ok(()) => {}
                Err(error) => {
                    let kinds = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset];
                    assert!(kinds.contains(&error.kind()), "{error}");
                    return None;
                }
            }
            let mut body = vec![0; u32::from_be_bytes(head).try_into().unwrap()];
            stream.read_exact(&mut body).unwrap();
            Some(FromAdmin::decode(&body).unwrap())
        });
        thread.join().unwrap()
    })
}

#[test]
fn another_user_who_reaches_the_operators_socket_is_hung_up_on_and_nothing_is_done() {
    if !is_root() {
        // Nobody else can become another user.
        return;
    }
    let nats = Nats::plain();
    let mut service = Service::start(&nats, OPEN_TO_ANYBODY);
    // As if an operator had opened both: what is left is whom the kernel names.
    fs::set_permissions(&service.home, Permissions::from_mode(0o755)).unwrap();
    let socket = service.home.join(ADMIN_SOCKET);
    fs::set_permissions(socket, Permissions::from_mode(0o666)).unwrap();
    let space = |name: &str| ToAdmin::Act(Act::NewSpace(Name::parse(name).unwrap()));
    let before = fs::read(service.home.join("audit.log")).unwrap();
    for asked in [
        space("theirs"),
        ToAdmin::Act(Act::ListSpaces),
        ToAdmin::ReloadPolicy,
        ToAdmin::Unseal(wire::Hidden::new(PASSPHRASE.as_bytes().to_vec())),
    ] {
        assert_eq!(asks(&service.home, NOBODY, &asked), None);
    }
    assert_eq!(fs::read(service.home.join("audit.log")).unwrap(), before, "nothing is recorded");
    assert!(!service.log().contains("the policy was read again"), "{}", service.log());
    // The owner's word, sent in the same way, is heard.
    let done = asks(&service.home, 0, &space("ours"));
    assert!(matches!(done, Some(FromAdmin::Done(_))), "{done:?}");
    fs::set_permissions(&service.home, Permissions::from_mode(0o700)).unwrap();
    service.stop();
    let list = cli()
        .args(["keyspace", "list", "--home"])
        .arg(&service.home)
        .arg("--passphrase-file")
        .arg(service.scratch.passphrase_file())
        .output()
        .unwrap();
    assert_eq!(outcome(&list), (0, "ours\n".to_owned(), String::new()));
}
