//! A worker that was taken over: it speaks the protocol badly, in the way that the script names. It
//! behaves until then, as an attacker would, so the broker's own first script passes.
#![expect(
    clippy::indexing_slicing,
    clippy::too_many_lines,
    clippy::unwrap_used,
    reason = "a hostile program that panics has failed; its attacks are one list"
)]

use std::io::{Read, Write};

use sandbox::{Arena, ScriptSocket, Zygote, exit_now, inherited_socket};
use wire::script::{
    Call, Ending, Failure, FromWorker, Job, Position, Scheme, Sighting, ToWorker, Usage,
};
use wire::tree::{Token, Tree};
use wire::{Algorithm, CallName, Frame, KeyRef, Name};

/// The real worker's: in a script's process there is no other memory.
#[global_allocator]
static ARENA: Arena = Arena::new();

fn main() {
    let beside = std::env::current_exe().unwrap().with_file_name("control");
    let beside = std::fs::read_to_string(beside).ok();
    let control = inherited_socket().unwrap();
    if let Some(mode) = beside {
        bad_control(&control, &mode);
    }
    let memory = std::env::args().nth(1).unwrap().parse().unwrap();
    ARENA.reserve(16 * 1024 * 1024).unwrap();
    let process = Zygote::confine(control, memory).fork_for_each_script(wire::BUILD);
    ARENA.cap(16 * 1024 * 1024);
    let mut peer = Peer(process.socket);
    let Some(ToWorker::Job(job)) = peer.receive() else { exit_now(0) };
    if job.source.starts_with("let l = []") {
        peer.send(&done(Token::Int(142)));
    } else {
        attack(&mut peer, &job);
    }
    exit_now(0)
}

/// As a zygote that was taken over would.
fn bad_control(control: &std::os::fd::OwnedFd, mode: &str) {
    let hello = |layers: &[u8], build: &str| [b"H".as_slice(), layers, build.as_bytes()].concat();
    let layers = [0_u8; 30];
    let say = |message: &[u8]| {
        rustix::io::write(control, message).unwrap();
    };
    match mode {
        "other-build" => say(&hello(&layers, "crypto-cli/0.0.0")),
        "short" => say(b"H"),
        "garbage" => say(&[255; 4000]),
        "no-filter" => {
            // It says that the kernel refused the filter.
            let mut layers = layers;
            layers[0] = 2;
            say(&hello(&layers, wire::BUILD));
        }
        "gone" => exit_now(7),
        "ends-unasked" => {
            say(&hello(&layers, wire::BUILD));
            say(&[b'E', 0, 0, 0, 0, 0, 0, 0, 0]);
            say(&[b'E', 0, 0, 0, 0, 0, 0, 0, 0]);
        }
        "cannot-fork" => {
            say(&hello(&layers, wire::BUILD));
            say(&[b'X', 0, 0, 0, 11]);
        }
        "odd-end" => {
            say(&hello(&layers, wire::BUILD));
            say(b"Ezz");
        }
        other => unreachable!("{other}"),
    }
    // It stays, and says no more.
    loop {
        std::thread::park();
    }
}

struct Peer(ScriptSocket);

impl Peer {
    fn send(&mut self, frame: &FromWorker) {
        self.raw(&wire::channel::pack(frame).unwrap());
    }

    fn raw(&mut self, bytes: &[u8]) {
        if self.0.write_all(bytes).is_err() {
            exit_now(0);
        }
    }

    fn receive(&mut self) -> Option<ToWorker> {
        let mut head = [0; 4];
        self.0.read_exact(&mut head).ok()?;
        let mut body = vec![0; u32::from_be_bytes(head).try_into().ok()?];
        self.0.read_exact(&mut body).ok()?;
        ToWorker::decode(&body).ok()
    }
}

fn done(token: Token) -> FromWorker {
    let usage = Usage { operations: u64::MAX, memory_bytes: u64::MAX };
    FromWorker::Done(Ending::Value(Tree::new(vec![token]).unwrap()), usage)
}

fn call(call: Call) -> FromWorker {
    FromWorker::Call(call, Position { line: u32::MAX, column: u32::MAX })
}

fn sign(key: &str) -> FromWorker {
    call(Call::Sign(Scheme::Plain, b"forged".to_vec(), Some(KeyRef::parse(key).unwrap())))
}

fn spin() -> ! {
    loop {
        std::hint::spin_loop();
    }
}

fn attack(peer: &mut Peer, job: &Job) {
    match job.source.as_str() {
        "longest length" => peer.raw(&[255; 4]),
        "length one over" => {
            let over = u32::try_from(FromWorker::MAX_BYTES + 1).unwrap();
            peer.raw(&over.to_be_bytes());
            spin()
        }
        "empty frame" => peer.raw(&[0; 4]),
        "unknown operation" => peer.raw(&[0, 0, 0, 1, 99]),
        "unknown call" => peer.raw(&[0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 200]),
        "bytes left over" => {
            let mut bytes = wire::channel::pack(&done(Token::Int(1))).unwrap();
            bytes[3] += 1;
            bytes.push(0);
            peer.raw(&bytes);
        }
        "unbalanced value" => {
            // A list that never ends: tag 2, usage, value, one token.
            let mut body = vec![2; 1];
            body.extend([0; 17]);
            body.extend([0, 0, 0, 1, 7]);
            let mut frame = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
            frame.extend(body);
            peer.raw(&frame);
        }
        "too large a value" => peer.send(&done(Token::Text("x".repeat(1024 * 1024)))),
        "forged done" => peer.send(&done(Token::Text("forged".to_owned()))),
        "forged failure" => {
            let text = "\u{1b}[2J\u{202e}".repeat(100_000);
            let at = Position { line: 1, column: 1 };
            let ending = Ending::Failed(Failure::Script, text, at);
            peer.send(&FromWorker::Done(ending, Usage::default()));
        }
        "sightings" => {
            let sighting = Sighting { call: Some(CallName::Sign), ..Sighting::default() };
            peer.send(&FromWorker::Sightings(vec![sighting; 1000]));
        }
        "a deletion" => {
            let call = Some(CallName::DeleteKeypair);
            peer.send(&FromWorker::Sightings(vec![Sighting { call, ..Sighting::default() }]));
            peer.send(&done(Token::Unit));
        }
        "sightings without end" => {
            for line in 0.. {
                let call = Some(CallName::Sign);
                let at = |column| Position { line, column };
                let sighting = |column| Sighting { call, at: at(column), ..Sighting::default() };
                peer.send(&FromWorker::Sightings((0..1000).map(sighting).collect()));
            }
        }
        "one sighting without end" => loop {
            peer.send(&FromWorker::Sightings(vec![Sighting::default(); 1000]));
        },
        "half a frame" => peer.raw(&[0, 0, 1, 0, 1, 2, 3]),
        "half a frame and waits" => {
            peer.raw(&[0, 0, 1, 0, 1, 2, 3]);
            spin()
        }
        "drips" => loop {
            peer.raw(&[0]);
            for _ in 0..1_000_000 {
                std::hint::spin_loop();
            }
        },
        "silence" => spin(),
        "waits" => {
            peer.receive();
        }
        "two calls in flight" => {
            peer.send(&sign("lab/a"));
            peer.send(&sign("lab/a"));
            peer.send(&done(Token::Int(2)));
            spin()
        }
        "never reads" => loop {
            peer.send(&call(Call::ListKeySpaces));
        },
        "floods prints" => loop {
            peer.send(&FromWorker::Print("x".repeat(10_000)));
        },
        "writes after its result" => {
            peer.send(&done(Token::Int(1)));
            peer.send(&sign("lab/a"));
            peer.send(&call(Call::CreateKeypair(
                KeyRef::parse("lab/late").unwrap(),
                Algorithm::Ed25519,
            )));
            spin()
        }
        "works after its deadline" => {
            // Some ten seconds of a processor; nobody lets it have them.
            for _ in 0..10_000_000_000_u64 {
                std::hint::spin_loop();
            }
            peer.send(&call(Call::CreateKeypair(
                KeyRef::parse("lab/late").unwrap(),
                Algorithm::Ed25519,
            )));
        }
        "key of another" => peer.send(&sign("vault/b")),
        "operation not granted" => {
            peer.send(&call(Call::DeleteKeySpace(Name::parse("lab").unwrap())));
            peer.receive();
        }
        "listing not granted" => {
            peer.send(&call(Call::ListKeypairs));
            peer.receive();
        }
        "selection of an earlier script" => {
            peer.send(&call(Call::Sign(Scheme::Plain, b"m".to_vec(), None)));
            match peer.receive() {
                Some(ToWorker::Answer(_)) => peer.send(&done(Token::Text("no key".to_owned()))),
                Some(ToWorker::Job(_)) | None => exit_now(0),
            }
        }
        "goes on after a refusal" => {
            peer.send(&sign("vault/b"));
            peer.send(&sign("lab/a"));
            peer.send(&done(Token::Int(1)));
            spin()
        }
        "too many keys" => {
            for number in 0..100 {
                let name = KeyRef::parse(&format!("lab/k{number}")).unwrap();
                peer.send(&call(Call::CreateKeypair(name, Algorithm::Ed25519)));
                peer.receive();
            }
        }
        "abort" => std::process::abort(),
        "forbidden" => {
            let _id = rustix::process::getpid();
        }
        "well" => peer.send(&done(Token::Text("well".to_owned()))),
        other => unreachable!("{other}"),
    }
}
