//! Reading the audit log and its notes: no bytes panic, and what is believed is what was signed.
#![no_main]

use std::sync::LazyLock;

use data_encoding::BASE64URL_NOPAD;
use libfuzzer_sys::fuzz_target;
use nkeys::KeyPair;
use proof::LogPlace;

static SERVICE: LazyLock<KeyPair> = LazyLock::new(KeyPair::new_server);
static NKEY: LazyLock<String> = LazyLock::new(|| SERVICE.public_key());

fuzz_target!(|data: &[u8]| {
    for line in data.split(|byte| *byte == b'\n') {
        // Nobody has signed these.
        assert!(LogPlace::read(line, &NKEY).is_err());
        let _place = LogPlace::start().follow(line);
    }
    let text = String::from_utf8_lossy(data);
    assert!(proof::read_note(&text, &NKEY).is_err());

    // The same bytes, signed as a line: the reader behind the signature.
    let Some(open) = data.strip_suffix(b"}") else { return };
    let signature = SERVICE.sign(&[b"crypto-cli audit 1\n", data].concat()).unwrap();
    let signature = BASE64URL_NOPAD.encode(&signature);
    let mut line = [open, b",\"sig\":\"", signature.as_bytes(), b"\"}"].concat();
    if let Ok(place) = LogPlace::read(&line, &NKEY) {
        assert_eq!(place.line, proof::digest(&line));
        // From the start, and from where it stands itself.
        for before in [LogPlace::start(), place] {
            assert_eq!(before.read_next(&line, &NKEY).is_ok(), before.follow(&line).is_ok());
        }
        let last = line.len() / 2;
        line[last] ^= 1;
        assert!(LogPlace::read(&line, &NKEY).is_err());
    }
});
