//! A server may name others to connect to. Nobody has said that they may be trusted.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::support::*;

/// Waits until the server tells a client of this URL.
fn names(nats: &Nats, url: &str) {
    let mut client = TcpStream::connect(("127.0.0.1", nats.port)).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"CONNECT {\"protocol\":1,\"verbose\":false}\r\nPING\r\n").unwrap();
    let (mut heard, mut part) = (String::new(), [0; 4096]);
    loop {
        let urls =
            heard.split_once("\"connect_urls\":[").and_then(|(_, rest)| rest.split_once(']'));
        if let Some((urls, _)) = urls {
            assert!(urls.contains(url), "{urls}");
            return;
        }
        let read = client.read(&mut part).unwrap();
        assert!(read > 0, "{heard}");
        heard += &text(&part[..read]);
    }
}

#[test]
fn a_listener_does_not_connect_to_a_server_that_its_own_server_names() {
    // Two servers that know of each other tell their clients. What the first says of itself is the same port,
    // which is all that Landlock looks at, of another address.
    let cluster = |rest: &str| format!("cluster {{ name: c, listen: \"127.0.0.1:-1\"{rest} }}\n");
    let advertised = format!("client_advertise: \"127.0.0.2\"\n{}", cluster(""));
    let nats = Nats::start(Scratch::new(), &advertised);
    let route = wait_until("the server waits for others", || {
        let log = std::fs::read_to_string(nats.folder.path("nats.log")).unwrap();
        let (_, rest) = log.split_once("route connections on ")?;
        Some(rest.split_once('\n')?.0.trim().to_owned())
    });
    let other = cluster(&format!(", routes: [\"nats://{route}\"]"));
    let _other = Nats::start(Scratch::new(), &other);
    let elsewhere = TcpListener::bind(("127.0.0.2", nats.port)).unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    names(&nats, &format!("\"127.0.0.2:{}\"", nats.port));
    let service = Service::start(&nats, OPEN_TO_ANYBODY);
    let port = nats.port;
    drop(nats);
    // Its own server is gone: it looks for one again and again.
    let own = TcpListener::bind(("127.0.0.1", port)).unwrap();
    own.set_nonblocking(true).unwrap();
    let begun = Instant::now();
    let mut returned = 0;
    while returned < 4 {
        assert!(begun.elapsed() < PATIENCE, "it came back {returned} times");
        match own.accept() {
            // Nobody is there who speaks, so it tries again.
            Ok(hung_up_on) => {
                drop(hung_up_on);
                returned += 1;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        let went = elsewhere.accept().map(|(_, from)| from);
        assert_eq!(went.unwrap_err().kind(), ErrorKind::WouldBlock, "it went where nobody sent it");
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(service);
}
