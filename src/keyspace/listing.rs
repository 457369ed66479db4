//! What the vectors say is in a keyspace: a line for each key space and key, in the order of bytes.
//!
//!     space NAME: made TIME
//!     key SPACE/NAME: ALGORITHM STATE made TIME, NUMBER made TIME PUBLIC, ...
//!
//! What stands for the public key of a symmetric one is HMAC-SHA-256 of `vector` under it. Where that is more than
//! 4 KiB, its SHA-256 stands there as `listing`.

use std::collections::BTreeMap;
use std::fmt::Write;

use data_encoding::HEXLOWER;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use wire::{Algorithm, KeyState};

use crate::key::KeyRecord;
use crate::{Unlocked, sign};

const MOST_BYTES: usize = 4 * 1024;

/// The lines of the head that tell what is in the keyspace.
pub(crate) fn listing(keyspace: &Unlocked) -> Vec<String> {
    let snapshot = keyspace.snapshot().unwrap();
    let mut lines = Vec::new();
    let each = snapshot.each_space(|space, created| {
        lines.push(format!("space {space}: made {created}"));
        snapshot.each_key(&space, |record| {
            lines.push(line(&record));
            Ok(())
        })
    });
    each.unwrap();
    lines.sort();
    let whole: String = lines.iter().map(|line| format!("{line}\n")).collect();
    if whole.len() > MOST_BYTES {
        return vec![format!("listing: {}", HEXLOWER.encode(&Sha256::digest(&whole)))];
    }
    lines
}

/// The same lines as a head has them.
pub(crate) fn said(head: &BTreeMap<String, String>) -> Vec<String> {
    let is_listed =
        |word: &str| word == "listing" || word.starts_with("space ") || word.starts_with("key ");
    let listed = head.iter().filter(|(word, _)| is_listed(word));
    let mut lines: Vec<_> = listed.map(|(word, value)| format!("{word}: {value}")).collect();
    lines.sort();
    lines
}

fn line(record: &KeyRecord) -> String {
    let KeyRecord { path, algorithm, created, state, .. } = record;
    let until = match state {
        KeyState::Deleted { until } => format!(" until {until}"),
        KeyState::Enabled | KeyState::Disabled => String::new(),
    };
    let mut line = format!("key {path}: {algorithm} {}{until} made {created}", state.word());
    let mut versions: Vec<_> = record.versions().collect();
    versions.reverse();
    for version in versions {
        let public = if *algorithm == Algorithm::Symmetric {
            version.secret.expose(|secret| {
                let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(secret).unwrap();
                mac.update(b"vector");
                mac.finalize().into_bytes().to_vec()
            })
        } else {
            sign::public_key(*algorithm, &version.secret).unwrap()
        };
        let (number, made) = (version.number, version.created);
        write!(line, ", {number} made {made} {}", HEXLOWER.encode(&public)).unwrap();
    }
    line
}
