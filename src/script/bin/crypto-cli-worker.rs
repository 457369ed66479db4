//! The worker: started by the launcher with a control socket. Its arguments are the most bytes that a
//! script may hold, and `keep` where processes may be kept for a client.
#![forbid(unsafe_code)]

use sandbox::Arena;

#[global_allocator]
static ARENA: Arena = Arena::new();

fn main() {
    let mut arguments = std::env::args().skip(1);
    let memory = arguments.next().and_then(|text| text.parse().ok());
    let (Some(memory), Some(control)) = (memory, sandbox::inherited_socket()) else {
        return refuse("this program is started by `crypto-cli`, not by hand");
    };
    let keeps = arguments.next().as_deref() == Some("keep");
    script::worker::serve(control, memory, keeps, &ARENA)
}

#[expect(clippy::print_stderr, reason = "there is nobody else to tell")]
fn refuse(reason: &str) {
    eprintln!("crypto-cli-worker: {reason}");
    std::process::exit(2);
}
