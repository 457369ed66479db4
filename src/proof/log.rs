//! The lines of the audit log: each is signed by the service and says which line came before it.
//! `AUDIT.md` beside this file has the format.

use data_encoding::BASE64URL_NOPAD as B64U;
use ed25519_dalek::{Signature, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::identity::{Signer, public_key};

/// Longest line, in bytes, its end included.
pub const MAX_LINE_BYTES: usize = 64 * 1024;
/// What a line's signature is over, before the line: no other text that the service signs begins so.
const CONTEXT: &[u8] = b"crypto-cli audit 1\n";
/// The same for texts that are kept beside the log.
const NOTE_CONTEXT: &[u8] = b"crypto-cli note 1\n";
const SIGNATURE_KEY: &str = ",\"sig\":\"";
/// `,"sig":"` and 64 bytes in base64url and `"}`.
const SIGNATURE_CHARS: usize = SIGNATURE_KEY.len() + 86 + 2;

/// A place in the log: the number of a line and the digest of its bytes, without the line's end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogPlace {
    /// The number of the line. The first line of all is 1.
    pub seq: u64,
    /// [`crate::digest`] of the line.
    pub line: String,
}

/// Why a line is not the one that the service wrote there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LineFault {
    /// It is not one JSON object with the members of every line, or too long.
    #[error("it is not a line of an audit log")]
    Malformed,
    /// The service's key did not sign it as it is.
    #[error("it is not as the service signed it")]
    BadSignature,
    /// It does not follow the line before: lines were removed, added or moved.
    #[error("it does not follow the line before it")]
    NotNext,
}

#[derive(Deserialize)]
struct Head {
    seq: u64,
    prev: String,
}

impl LogPlace {
    /// Where a log begins: no line, which a first line follows.
    #[must_use]
    pub fn start() -> Self {
        Self { seq: 0, line: String::new() }
    }

    /// The place that the mark of a log's end names: a note of [`LogPlace::mark`], as it is in its file.
    ///
    /// # Errors
    /// [`LineFault::Malformed`] or [`LineFault::BadSignature`].
    pub fn of_mark(note: &str, service_nkey: &str) -> Result<Self, LineFault> {
        let (seq, line) =
            read_note(note, service_nkey)?.split_once(' ').ok_or(LineFault::Malformed)?;
        let seq = seq.parse().map_err(|_| LineFault::Malformed)?;
        Ok(Self { seq, line: line.to_owned() })
    }

    /// The note that says of a log that it ends here, or later.
    #[must_use]
    pub fn mark(&self, sign: impl FnOnce(&[u8]) -> [u8; 64]) -> String {
        write_note(&format!("{} {}", self.seq, self.line), sign)
    }

    /// Whether a log that ends here has the line that its mark names.
    #[must_use]
    pub fn reaches(&self, mark: &Self) -> bool {
        mark.seq < self.seq || mark == self
    }

    /// Makes the line that follows: `entry` is one JSON object, to which number, digest of the line
    /// before and signature are added. The line, without its end, and its place.
    #[must_use]
    pub fn write_next(
        &self,
        entry: &impl Serialize,
        sign: impl FnOnce(&[u8]) -> [u8; 64],
    ) -> (String, Self) {
        // Structs of strings and numbers always serialise.
        let entry = serde_json::to_string(entry).unwrap_or_default();
        let entry = entry.strip_prefix('{').unwrap_or_default();
        let seq = self.seq.saturating_add(1);
        let body = format!("{{\"seq\":{seq},\"prev\":\"{}\",{entry}", self.line);
        let signature = sign(&[CONTEXT, body.as_bytes()].concat());
        let open = body.strip_suffix('}').unwrap_or(&body);
        let line = format!("{open}{SIGNATURE_KEY}{}\"}}", B64U.encode(&signature));
        let place = Self { seq, line: crate::digest(line.as_bytes()) };
        (line, place)
    }

    /// Reads the line that follows, without its end: where it stands, if it is the next and signed by
    /// the service.
    ///
    /// # Errors
    /// The first [`LineFault`].
    pub fn read_next(&self, line: &[u8], service_nkey: &str) -> Result<Self, LineFault> {
        let read = Self::read(line, service_nkey)?;
        let head: Head = serde_json::from_slice(line).map_err(|_| LineFault::Malformed)?;
        if !self.is_before(&head) {
            return Err(LineFault::NotNext);
        }
        Ok(read)
    }

    /// Reads the line that follows by its digests alone: it is genuine if a later line is that follows
    /// from it.
    ///
    /// # Errors
    /// [`LineFault::Malformed`] or [`LineFault::NotNext`].
    pub fn follow(&self, line: &[u8]) -> Result<Self, LineFault> {
        let head: Head = serde_json::from_slice(line).map_err(|_| LineFault::Malformed)?;
        if !self.is_before(&head) {
            return Err(LineFault::NotNext);
        }
        Ok(Self { seq: head.seq, line: crate::digest(line) })
    }

    /// Whether a line follows. A number that none can follow may have been read from a file.
    fn is_before(&self, head: &Head) -> bool {
        self.seq.checked_add(1) == Some(head.seq) && head.prev == self.line
    }

    /// Reads a line by itself: signed by the service, whatever came before.
    ///
    /// # Errors
    /// [`LineFault::Malformed`] or [`LineFault::BadSignature`].
    pub fn read(line: &[u8], service_nkey: &str) -> Result<Self, LineFault> {
        if line.len() >= MAX_LINE_BYTES {
            return Err(LineFault::Malformed);
        }
        let text = std::str::from_utf8(line).map_err(|_| LineFault::Malformed)?;
        let head: Head = serde_json::from_str(text).map_err(|_| LineFault::Malformed)?;
        let at = text.len().checked_sub(SIGNATURE_CHARS).ok_or(LineFault::Malformed)?;
        let (open, end) = text.split_at_checked(at).ok_or(LineFault::Malformed)?;
        let signature = end.strip_prefix(SIGNATURE_KEY).and_then(|end| end.strip_suffix("\"}"));
        let signature = signature.and_then(|text| B64U.decode(text.as_bytes()).ok());
        let signature = signature.and_then(|bytes| Signature::from_slice(&bytes).ok());
        let signature = signature.ok_or(LineFault::Malformed)?;
        let signed = [CONTEXT, open.as_bytes(), b"}"].concat();
        if !is_signed(&signed, &signature, service_nkey) {
            return Err(LineFault::BadSignature);
        }
        Ok(Self { seq: head.seq, line: crate::digest(line) })
    }
}

/// A text with the service's signature on a line after it, to be kept in a file.
#[must_use]
pub fn write_note(text: &str, sign: impl FnOnce(&[u8]) -> [u8; 64]) -> String {
    let signature = sign(&[NOTE_CONTEXT, text.as_bytes()].concat());
    format!("{text}\n{}\n", B64U.encode(&signature))
}

/// The text of [`write_note`], if the service signed it.
///
/// # Errors
/// [`LineFault::Malformed`] or [`LineFault::BadSignature`].
pub fn read_note<'n>(note: &'n str, service_nkey: &str) -> Result<&'n str, LineFault> {
    let (text, signature) = note
        .strip_suffix('\n')
        .and_then(|note| note.rsplit_once('\n'))
        .ok_or(LineFault::Malformed)?;
    let signature = B64U.decode(signature.as_bytes()).map_err(|_| LineFault::Malformed)?;
    let signature = Signature::from_slice(&signature).map_err(|_| LineFault::Malformed)?;
    let signed = [NOTE_CONTEXT, text.as_bytes()].concat();
    if is_signed(&signed, &signature, service_nkey) {
        Ok(text)
    } else {
        Err(LineFault::BadSignature)
    }
}

fn is_signed(bytes: &[u8], signature: &Signature, service_nkey: &str) -> bool {
    let key = public_key(service_nkey, Signer::Service);
    let key = key.and_then(|key| VerifyingKey::from_bytes(&key).ok());
    key.is_some_and(|key| key.verify_strict(bytes, signature).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nkeys::KeyPair;
    use proptest::prelude::*;

    #[derive(Serialize)]
    struct Entry {
        kind: &'static str,
        what: String,
    }

    fn lines(service: &KeyPair, count: usize) -> Vec<String> {
        let mut place = LogPlace::start();
        let mut lines = Vec::new();
        for number in 0..count {
            let entry = Entry { kind: "request", what: format!("\"{number}\"\n") };
            let sign = |bytes: &[u8]| service.sign(bytes).unwrap().try_into().unwrap();
            let (line, next) = place.write_next(&entry, sign);
            (place, _) = (next, lines.push(line));
        }
        lines
    }

    /// The first line that is not the next, from 0.
    fn first_bad(lines: &[Vec<u8>], nkey: &str) -> Option<(usize, LineFault)> {
        let mut place = LogPlace::start();
        for (at, line) in lines.iter().enumerate() {
            match place.read_next(line, nkey) {
                Ok(next) => place = next,
                Err(fault) => return Some((at, fault)),
            }
        }
        None
    }

    #[test]
    fn lines_that_were_removed_moved_or_written_twice_are_found_out() {
        let service = KeyPair::new_server();
        let nkey = service.public_key();
        let lines: Vec<Vec<u8>> = lines(&service, 6).into_iter().map(String::into_bytes).collect();
        assert_eq!(first_bad(&lines, &nkey), None);
        for at in 0..5 {
            let mut without = lines.clone();
            without.remove(at);
            assert_eq!(first_bad(&without, &nkey), Some((at, LineFault::NotNext)));
            let mut swapped = lines.clone();
            swapped.swap(at, at + 1);
            assert_eq!(first_bad(&swapped, &nkey), Some((at, LineFault::NotNext)));
            let mut twice = lines.clone();
            twice.insert(at, lines[at].clone());
            assert_eq!(first_bad(&twice, &nkey), Some((at + 1, LineFault::NotNext)));
        }
        let other = KeyPair::new_server().public_key();
        assert_eq!(first_bad(&lines, &other), Some((0, LineFault::BadSignature)));
    }

    #[test]
    fn a_line_follows_by_its_number_and_by_the_line_before_both() {
        let service = KeyPair::new_server();
        let nkey = service.public_key();
        let sign = |bytes: &[u8]| service.sign(bytes).unwrap().try_into().unwrap();
        let after = |place: &LogPlace, what: &str| {
            place.write_next(&Entry { kind: "request", what: what.to_owned() }, sign)
        };
        let (_, one) = after(&LogPlace::start(), "one");
        let (_, other) = after(&LogPlace::start(), "other");
        let elsewhere = LogPlace { seq: 7, line: one.line.clone() };
        for (place, follows) in [(&one, true), (&other, false), (&elsewhere, false)] {
            let (line, next) = after(place, "next");
            let expected = if follows { Ok(next) } else { Err(LineFault::NotNext) };
            assert_eq!(one.read_next(line.as_bytes(), &nkey), expected);
            assert_eq!(one.follow(line.as_bytes()), expected);
        }
    }

    #[test]
    fn no_line_follows_the_last_number_there_is() {
        let service = KeyPair::new_server();
        let nkey = service.public_key();
        let sign = |bytes: &[u8]| service.sign(bytes).unwrap().try_into().unwrap();
        let entry = Entry { kind: "request", what: String::new() };
        let before = LogPlace { seq: u64::MAX - 1, line: String::new() };
        let (line, last) = before.write_next(&entry, sign);
        assert_eq!(before.read_next(line.as_bytes(), &nkey), Ok(last.clone()));
        let (line, _) = last.write_next(&entry, sign);
        assert_eq!(last.read_next(line.as_bytes(), &nkey), Err(LineFault::NotNext));
        assert_eq!(last.follow(line.as_bytes()), Err(LineFault::NotNext));
    }

    #[test]
    fn a_line_has_at_most_65_536_bytes_with_its_end() {
        let service = KeyPair::new_server();
        let sign = |bytes: &[u8]| service.sign(bytes).unwrap().try_into().unwrap();
        let line = |length: usize| {
            let entry = Entry { kind: "request", what: "x".repeat(length) };
            LogPlace::start().write_next(&entry, sign).0
        };
        let room = 65_535 - line(0).len();
        let read = |line: String| LogPlace::read(line.as_bytes(), &service.public_key());
        assert!(read(line(room)).is_ok());
        assert_eq!(read(line(room + 1)), Err(LineFault::Malformed));
    }

    #[test]
    fn a_note_is_read_back_and_no_other() {
        let service = KeyPair::new_server();
        let nkey = service.public_key();
        let sign = |bytes: &[u8]| service.sign(bytes).unwrap().try_into().unwrap();
        let note = write_note("two\nlines", sign);
        assert_eq!(read_note(&note, &nkey), Ok("two\nlines"));
        for bad in [
            note.replace("two", "six"),
            note.trim_end().to_owned(),
            format!("{note}\n"),
            String::new(),
        ] {
            assert!(read_note(&bad, &nkey).is_err(), "{bad:?}");
        }
        assert!(read_note(&note, &KeyPair::new_server().public_key()).is_err());
        // What a line of the log is signed for is no note.
        let (line, _) =
            LogPlace::start().write_next(&Entry { kind: "a", what: String::new() }, sign);
        assert!(read_note(&format!("{line}\n"), &nkey).is_err());
    }

    #[test]
    fn a_log_reaches_its_mark_or_was_cut() {
        let service = KeyPair::new_server();
        let nkey = service.public_key();
        let sign = |bytes: &[u8]| service.sign(bytes).unwrap().try_into().unwrap();
        let at = |seq, line: &str| LogPlace { seq, line: line.to_owned() };
        let mark = LogPlace::of_mark(&at(7, "seven").mark(sign), &nkey).unwrap();
        assert_eq!(mark, at(7, "seven"));
        for (end, reaches) in [
            (at(7, "seven"), true),
            (at(7, "other"), false),
            (at(6, "seven"), false),
            (at(8, ""), true),
        ] {
            assert_eq!(end.reaches(&mark), reaches, "{end:?}");
        }
        let start = LogPlace::start();
        assert_eq!(LogPlace::of_mark(&start.mark(sign), &nkey), Ok(start));
        for bad in ["7", "seven 7", "-1 x", "18446744073709551616 x", ""] {
            assert!(LogPlace::of_mark(&write_note(bad, sign), &nkey).is_err(), "{bad:?}");
        }
        let other = KeyPair::new_server().public_key();
        let mark = at(7, "seven").mark(sign);
        assert_eq!(LogPlace::of_mark(&mark, &other), Err(LineFault::BadSignature));
    }

    proptest! {
        #[test]
        fn no_bit_of_a_line_can_be_another(at in 0_usize..6, place: prop::sample::Index, bit in 0_u8..8) {
            let service = KeyPair::new_server();
            let mut lines: Vec<Vec<u8>> =
                lines(&service, 6).into_iter().map(String::into_bytes).collect();
            let place = place.index(lines[at].len());
            lines[at][place] ^= 1 << bit;
            let bad = first_bad(&lines, &service.public_key());
            prop_assert!(bad.is_some_and(|(line, _)| line == at), "{bad:?}");
            let cut = lines[at][..place].to_vec();
            prop_assert!(LogPlace::read(&cut, &service.public_key()).is_err());
        }
    }
}
