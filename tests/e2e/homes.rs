//! Homes of others, and homes that do not take what is to be written.

use std::fs;
use std::path::Path;

use sandbox::LocalSocket;
use wire::Channel;
use wire::admin::{ADMIN_SOCKET, FromAdmin, ToAdmin};

use crate::operator::Place;
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
        let told = FromAdmin::Refused(wire::admin::Reason::Integrity, format!("{asked:?}"));
        channel.send(&told, None).unwrap();
    });
    place.refuses("keyspace list", 4, "ListSpaces");
    service.join().unwrap();
}
