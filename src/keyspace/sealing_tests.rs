//! Whatever is sealed opens to itself, and nothing else opens.

use std::io::Cursor;

use proptest::prelude::*;

use crate::record::{Kind, Place};
use crate::seal::{NONCE_BYTES, RootKeys, TAG_BYTES, open, seal};
use crate::secret::Secret;
use crate::stream::{CHUNK_BYTES, Sealing, Unsealing};

fn secret(bytes: [u8; 32]) -> Secret<32> {
    Secret::copied(&bytes).unwrap()
}

/// The bytes with one bit of one of them turned over.
fn flipped(bytes: &[u8], at: prop::sample::Index, bit: u8) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let at = at.index(bytes.len());
    bytes[at] ^= 1 << bit;
    bytes
}

fn stream(parts: &[Vec<u8>], key: &Secret<32>) -> Vec<u8> {
    let mut sealing = Sealing::new(Vec::new(), key);
    parts.iter().for_each(|part| sealing.write(part).unwrap());
    sealing.finish().unwrap()
}

fn read(sealed: &[u8], key: &Secret<32>) -> Option<Vec<u8>> {
    Unsealing::new(Cursor::new(sealed), key).read_all(1 << 20).ok().map(|all| all.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_sealed_opens_with_everything_as_it_was_and_not_otherwise(
        key: [u8; 32],
        nonce: [u8; NONCE_BYTES],
        plain in prop::collection::vec(any::<u8>(), 0..2000),
        aad in prop::collection::vec(any::<u8>(), 1..100),
        at: prop::sample::Index,
        bit in 0_u8..8,
    ) {
        let sealed = seal(&secret(key), nonce, &plain, &aad).unwrap();
        let opened = open(&secret(key), nonce, &sealed, &aad).unwrap();
        prop_assert_eq!(opened.as_slice(), &plain[..]);
        let other_key = flipped(&key, at, bit).try_into().unwrap();
        let other_nonce = flipped(&nonce, at, bit).try_into().unwrap();
        let cut = at.index(sealed.len());
        prop_assert!(open(&secret(other_key), nonce, &sealed, &aad).is_none());
        prop_assert!(open(&secret(key), other_nonce, &sealed, &aad).is_none());
        prop_assert!(open(&secret(key), nonce, &flipped(&sealed, at, bit), &aad).is_none());
        prop_assert!(open(&secret(key), nonce, &sealed, &flipped(&aad, at, bit)).is_none());
        prop_assert!(open(&secret(key), nonce, &sealed[..cut], &aad).is_none());
    }

    #[test]
    fn a_record_opens_in_its_place_and_in_no_other(
        root: [u8; 32],
        file_id: [u8; 16],
        id in prop::collection::vec(any::<u8>(), 1..64),
        plain in prop::collection::vec(any::<u8>(), 0..500),
        generation in 1..u64::MAX,
        at: prop::sample::Index,
        bit in 0_u8..8,
    ) {
        let keys = RootKeys::below(&secret(root)).unwrap();
        let place = |file_id, kind, id| Place { file_id, kind, id };
        let here = place(file_id, Kind::Key, &id);
        let sealed = here.seal(&keys, generation, &plain).unwrap();
        let opens = |place: &Place<'_>, keys, latest, sealed: &[u8]| {
            place.open(keys, latest, sealed).ok().map(|plain| plain.to_vec())
        };
        prop_assert_eq!(opens(&here, &keys, generation, &sealed), Some(plain));
        let other_file = flipped(&file_id, at, bit).try_into().unwrap();
        let other_id = flipped(&id, at, bit);
        let other_root = RootKeys::below(&secret(flipped(&root, at, bit).try_into().unwrap())).unwrap();
        for elsewhere in [
            place(other_file, Kind::Key, &id),
            place(file_id, Kind::Space, &id),
            place(file_id, Kind::Key, &other_id),
        ] {
            prop_assert!(opens(&elsewhere, &keys, generation, &sealed).is_none());
        }
        prop_assert!(opens(&here, &other_root, generation, &sealed).is_none());
        prop_assert!(opens(&here, &keys, generation - 1, &sealed).is_none(), "it is of a later file");
        prop_assert!(opens(&here, &keys, u64::MAX, &flipped(&sealed, at, bit)).is_none());
        prop_assert!(opens(&here, &keys, generation, &sealed[..at.index(sealed.len())]).is_none());
    }

    /// Of any length about the borders of chunks, however it is written.
    #[test]
    fn a_stream_reads_as_it_was_written_and_only_whole(
        key: [u8; 32],
        near in 0_usize..=4,
        chunks in 0_usize..=2,
        first: prop::sample::Index,
        at: prop::sample::Index,
        bit in 0_u8..8,
    ) {
        let length = CHUNK_BYTES * chunks + near;
        let length = length.saturating_sub(2);
        let plain: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let (one, two) = plain.split_at(first.index(length + 1));
        let sealed = stream(&[one.to_vec(), two.to_vec()], &secret(key));
        prop_assert_eq!(&sealed, &stream(std::slice::from_ref(&plain), &secret(key)));
        prop_assert_eq!(read(&sealed, &secret(key)), Some(plain));
        prop_assert_eq!(read(&sealed[..at.index(sealed.len())], &secret(key)), None);
        for whole in (CHUNK_BYTES + TAG_BYTES..sealed.len()).step_by(CHUNK_BYTES + TAG_BYTES) {
            prop_assert_eq!(read(&sealed[..whole], &secret(key)), None, "cut between two chunks");
        }
        prop_assert_eq!(read(&flipped(&sealed, at, bit), &secret(key)), None);
        prop_assert_eq!(read(&[sealed.as_slice(), &[0]].concat(), &secret(key)), None);
        prop_assert_eq!(read(&sealed, &secret(flipped(&key, at, bit).try_into().unwrap())), None);
    }
}

#[test]
fn no_nonce_of_a_million_records_comes_twice() {
    let root = RootKeys::below(&secret([7; 32])).unwrap();
    let place = Place { file_id: [1; 16], kind: Kind::Key, id: b"always the same" };
    let nonce = |_| place.seal(&root, 7, b"plain").unwrap()[8..32].to_vec();
    let mut nonces: Vec<Vec<u8>> = (0..1_000_000).map(nonce).collect();
    nonces.sort_unstable();
    nonces.dedup();
    assert_eq!(nonces.len(), 1_000_000);
}
