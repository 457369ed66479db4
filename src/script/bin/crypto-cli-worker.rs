//! The worker: started by the broker with one socket, its memory bound in bytes as its argument.
#![forbid(unsafe_code)]

use sandbox::{CappedHeap, Confined};

#[global_allocator]
static HEAP: CappedHeap = CappedHeap::new();

fn main() {
    let memory = std::env::args().nth(1).and_then(|text| text.parse().ok());
    let (Some(memory), Some(socket)) = (memory, sandbox::inherited_socket()) else {
        return refuse("this program is started by `crypto-cli`, not by hand");
    };
    match Confined::worker(memory) {
        Ok(confined) => script::worker::serve(confined, socket, &HEAP),
        Err(error) => refuse(&error.to_string()),
    }
}

#[expect(clippy::print_stderr, reason = "there is nobody else to tell")]
fn refuse(reason: &str) {
    eprintln!("crypto-cli-worker: {reason}");
    std::process::exit(2);
}
