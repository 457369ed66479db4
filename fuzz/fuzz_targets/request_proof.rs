//! Reading a request's proof and a reply's: nothing that the fuzzer can make is believed, for it has no key.
//! Among the seeds are one of each that are well signed: the request for another service, the reply to
//! another request.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use nkeys::{KeyPair, KeyPairType};
use proof::{Addressee, Expected, Form, Signed};

/// The service's nkey: by a text that is none, no signature would be looked at.
static NKEY: LazyLock<String> = LazyLock::new(|| {
    KeyPair::new_from_raw(KeyPairType::Server, [7; 32]).expect("a key of 32 bytes").public_key()
});

fuzz_target!(|text: &str| {
    if let Ok(signed) = Signed::parse(text) {
        let to = Addressee { aud: "signer", nkey: &NKEY };
        let expected = Expected { to, payload: b"", now: 1_800_000_000, window: 30 };
        assert!(signed.verify(&expected).is_err());
    }
    let _refused = proof::read_reply(text, &NKEY, None, b"", b"", Form::Value).unwrap_err();
});
