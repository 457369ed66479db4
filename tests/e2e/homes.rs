//! Homes of others, and homes that do not take what is to be written.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use sandbox::LocalSocket;
use wire::Channel;
use wire::admin::{ADMIN_SOCKET, FromAdmin, ToAdmin};

use crate::operator::{Place, arg};
use crate::support::*;

/// A user that is not root: `nobody`.
const OTHER: u32 = 65534;

fn give_away(home: &Path) {
    let entries = fs::read_dir(home).unwrap().map(|entry| entry.unwrap().path());
    for path in entries.chain([home.to_owned()]) {
        std::os::unix::fs::chown(path, Some(OTHER), Some(OTHER)).unwrap();
    }
}

/// Only root has homes of others to reach.
#[test]
fn root_reaches_the_service_in_the_home_of_another_user() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    give_away(&place.home);
    place.refuses("keyspace list", 2, "belongs to another user: run this as that user");
    let socket = LocalSocket::bind(&place.home, ADMIN_SOCKET).unwrap();
    let service = std::thread::spawn(move || {
        let (stream, _) = socket.accept().unwrap();
        let mut channel = Channel::<ToAdmin, FromAdmin>::new(stream);
        let asked = channel.receive(None).unwrap();
        let ToAdmin::Act(act) = asked else { panic!("something else was asked") };
        let told = FromAdmin::Refused(wire::admin::Reason::Integrity, act.word().to_owned());
        channel.send(&told, None).unwrap();
    });
    place.refuses("keyspace list", 4, "keyspace list");
    service.join().unwrap();
}

/// Folders are in the place of files, for root is kept from no file.
#[test]
fn a_home_that_cannot_be_written_to_is_no_fault_of_the_program() {
    let place = Place::new();
    let (log, socket) = (place.home.join("audit.log"), place.home.join(ADMIN_SOCKET));
    fs::create_dir_all(&log).unwrap();
    place.refuses("keyspace new team", 5, "audit.log`: Is a directory");
    assert_eq!(place.does("keyspace list"), "", "what only looks is not recorded");
    fs::remove_dir(&log).unwrap();
    fs::create_dir_all(&socket).unwrap();
    place.scratch.policy(OPEN_TO_ANYBODY);
    let listen = format!(
        "listen --server nats://localhost:1 --policy {}",
        arg(&place.scratch.path("policy.toml"))
    );
    place.refuses(&listen, 5, &format!("cannot open the socket in `{}`: ", arg(&place.home)));
}

/// A full disk, when the keyspace is there and the note of how far it is cannot be written any more.
#[test]
fn a_keyspace_that_was_made_in_part_is_not_said_to_be_made() {
    let scratch = Scratch::new();
    let home = scratch.path("home");
    fs::create_dir(&home).unwrap();
    fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::symlink("/dev/full", home.join("keyspace.pin")).unwrap();
    let mut init = cli();
    init.args(["init", "--yes", "--home"]).arg(&home).arg("--passphrase-file");
    let (exit, out, err) = outcome(&init.arg(scratch.passphrase_file()).output().unwrap());
    assert!(exit != 0 && out.is_empty() && err.contains("No space left"), "{exit} {out} {err}");
    assert!(err.contains("may or may not have been made"), "{err}");
    assert!(home.join("keyspace.redb").exists());
}

#[test]
fn a_worker_that_is_not_installed_is_no_fault_of_the_program() {
    let scratch = Scratch::new();
    let alone = scratch.path("crypto-cli");
    fs::copy(own(), &alone).unwrap();
    let output = std::process::Command::new(&alone).arg("doctor").env_clear().output().unwrap();
    let (exit, _, err) = outcome(&output);
    assert!(exit == 5 && err.contains("install it beside `crypto-cli`"), "{exit} {err}");
}

#[test]
fn an_audit_log_that_was_moved_away_can_be_put_back() {
    let place = Place::new();
    place.does("keyspace new team");
    let (log, away) = (place.home.join("audit.log"), place.home.join("audit.log.1"));
    let verify =
        || outcome(&cli().args(["audit", "verify", "--home"]).arg(&place.home).output().unwrap());
    fs::rename(&log, &away).unwrap();
    place.refuses("keyspace new group", 4, "put back the file that was moved, or restore");
    assert!(!log.exists(), "an empty log would hide what has happened");
    let (exit, _, err) = verify();
    assert!(exit == 4 && err.contains("put back the file that was moved, or restore"), "{err}");
    fs::rename(&away, &log).unwrap();
    place.does("keyspace new group");
    assert_eq!(verify().0, 0);
    // What the README says of one that is lost for good.
    fs::remove_file(&log).unwrap();
    for note in ["audit.mark", "audit.uses"] {
        let _none = fs::remove_file(place.home.join(note));
    }
    place.does("keyspace new late");
    assert_eq!(verify().0, 0);
}

#[test]
fn a_log_is_not_judged_by_the_service_of_another_home() {
    let place = Place::new();
    place.does("keyspace new team");
    let other = &*nkeys::KeyPair::new_server().public_key();
    let mut verify = cli();
    verify.env("CRYPTO_SERVICE_NKEY", other).args(["audit", "verify", "--home"]).arg(&place.home);
    let (exit, _, err) = outcome(&verify.output().unwrap());
    assert_eq!(exit, 0, "{err}");
    let (exit, _, err) = outcome(&verify.args(["--service-nkey", other]).output().unwrap());
    let why = format!("audit.log:1: the log of the service `{}`, and not of `{other}`", place.nkey);
    assert!(exit == 4 && err.contains(&why), "{err}");
}

#[test]
fn the_audit_log_shows_which_user_did_it() {
    let place = Place::new();
    place.does("keyspace new team");
    let mut show = cli();
    let (exit, out, err) =
        outcome(&show.args(["audit", "show", "--home"]).arg(&place.home).output().unwrap());
    let uid = fs::metadata(&place.home).unwrap().uid();
    assert!(
        exit == 0 && out.contains(&format!(" admin uid {uid} keyspace new team ok\n")),
        "{out}{err}"
    );
}
