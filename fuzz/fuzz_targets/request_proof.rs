//! Reading a request's proof: nothing that the fuzzer can make is believed, for it has no key.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proof::{Addressee, Expected, Form, Signed};

fuzz_target!(|text: &str| {
    if let Ok(signed) = Signed::parse(text) {
        let to = Addressee { aud: "signer", nkey: "N" };
        let expected = Expected { to, payload: b"", now: 1_800_000_000, window: 30 };
        assert!(signed.verify(&expected).is_err());
    }
    let _refused = proof::read_reply(text, "N", None, b"", b"", Form::Value).unwrap_err();
});
