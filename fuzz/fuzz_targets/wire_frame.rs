//! Reading a frame of each kind: what decodes encodes back to the very same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::Frame;
use wire::admin::{FromAdmin, ToAdmin};
use wire::request::{FromListener, ToListener};
use wire::script::{FromWorker, ToWorker};

fn round_trip<F: Frame>(bytes: &[u8]) {
    if let Ok(frame) = F::decode(bytes) {
        assert_eq!(frame.encode(), bytes);
    }
}

fuzz_target!(|bytes: &[u8]| {
    round_trip::<FromListener>(bytes);
    round_trip::<ToListener>(bytes);
    round_trip::<FromWorker>(bytes);
    round_trip::<ToWorker>(bytes);
    round_trip::<ToAdmin>(bytes);
    round_trip::<FromAdmin>(bytes);
});
