//! Files that want to cost much are refused before they do: within 100 ms and 32 MiB. A process of its own, whose
//! memory is measured.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops where something is wrong"
)]

use std::fs;
use std::io::{self, Read};
use std::time::{Duration, Instant};

use keyspace::{Importing, Passphrase, Source, Unlocked};

const LONGEST: Duration = Duration::from_millis(100);
/// KiB.
const MOST: u64 = 32 * 1024;

/// A head, and then this over and over.
struct Endless {
    head: Vec<u8>,
    then: Vec<u8>,
    at: usize,
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for byte in &mut *buffer {
            *byte = match self.head.get(self.at) {
                Some(head) => *head,
                None => self.then[(self.at - self.head.len()) % self.then.len()],
            };
            self.at += 1;
        }
        Ok(buffer.len())
    }
}

impl Source for Endless {
    fn again(&mut self) -> io::Result<()> {
        self.at = 0;
        Ok(())
    }
}

fn memory(what: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn passphrase_stanza(cost: &str) -> Vec<u8> {
    let zeros = data_encoding::BASE64_NOPAD.encode(&[0; 32]);
    format!(
        "age-encryption.org/v1\n-> crypto-cli/argon2id AAAAAAAAAAAAAAAAAAAAAA {cost}\n{zeros}\n--- {zeros}\n"
    )
    .into_bytes()
}

#[test]
fn hostile_files_are_refused_before_they_cost_anything() {
    let zeros = data_encoding::BASE64_NOPAD.encode(&[0; 32]);
    let share = data_encoding::BASE64_NOPAD.encode(&[9; 32]);
    let mut cases: Vec<(String, Vec<u8>, Vec<u8>)> = vec![
        ("zeros".into(), vec![], vec![0]),
        ("a line without end".into(), b"age-encryption.org/v1\n-> X25519 ".to_vec(), b"a".to_vec()),
        (
            "stanzas without end".into(),
            b"age-encryption.org/v1\n".to_vec(),
            format!("-> X25519 {share}\n{zeros}\n").into_bytes(),
        ),
        (
            "a body without end".into(),
            b"age-encryption.org/v1\n-> x\n".to_vec(),
            [b"A".repeat(64), b"\n".to_vec()].concat(),
        ),
    ];
    let mut full = b"age-encryption.org/v1\n".to_vec();
    while full.len() < 16 * 1024 - 200 {
        full.extend_from_slice(format!("-> X25519 {share}\n{zeros}\n").as_bytes());
    }
    full.extend_from_slice(format!("--- {zeros}\n").as_bytes());
    cases.push(("as many recipients as there is room for".into(), full, vec![0]));
    for cost in [
        "4294967295 1 1",
        "4294967295 10 8",
        "262145 2 1",
        "1048576 3 4",
        "65536 4294967295 4",
        "65536 3 4294967295",
        "99999999999999999999 3 4",
        "65536 11 4",
        "65536 3 9",
        "8 1 1",
    ] {
        cases.push((cost.to_owned(), passphrase_stanza(cost), vec![0]));
    }
    let keyspace = Unlocked::ephemeral(1).unwrap();
    let passphrase = Passphrase::new(b"a passphrase of ours".to_vec()).unwrap();
    for (what, head, then) in cases {
        for passphrase in [None, Some(&passphrase)] {
            // The peak is counted from here on (proc_pid_clear_refs(5)).
            fs::write("/proc/self/clear_refs", "5").unwrap();
            let before = memory("VmRSS:");
            let mut file = Endless { head: head.clone(), then: then.clone(), at: 0 };
            let started = Instant::now();
            let done =
                keyspace.as_operator().import(&mut file, passphrase, &Importing::default(), |_| {});
            let (took, peak) = (started.elapsed(), memory("VmHWM:").saturating_sub(before));
            assert!(done.is_err(), "{what}");
            assert!(took < LONGEST, "{what}: {took:?}");
            assert!(peak < MOST, "{what}: {peak} KiB");
        }
    }
}
