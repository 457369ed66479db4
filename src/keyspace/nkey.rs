//! Nkeys, the text form of NATS: a prefix, 32 bytes and a CRC-16 in base32. The `nkeys` crate leaves copies of seeds in
//! memory that it does not wipe, so that what it does with them is done here.

use data_encoding::BASE32_NOPAD;
use zeroize::Zeroizing;

use crate::secret::Secret;

/// The prefixes of those that are used here, as their first letter in base32 says.
pub(crate) const SERVER: u8 = 13 << 3;
pub(crate) const USER: u8 = 20 << 3;
pub(crate) const CURVE: u8 = 23 << 3;
const SEED: u8 = 18 << 3;
/// Characters of a seed.
pub(crate) const SEED_CHARACTERS: usize = 58;

/// The nkey of a public key.
pub(crate) fn public(prefix: u8, key: &[u8]) -> String {
    let body = [[prefix].as_slice(), key].concat();
    BASE32_NOPAD.encode(&[body.as_slice(), &crc(&body).to_le_bytes()].concat())
}

/// The seed of an nkey: the prefix of what it is for, and its bytes.
pub(crate) fn seed(text: &str) -> Option<(u8, Secret<32>)> {
    let mut bytes = Zeroizing::new([0; 36]);
    if BASE32_NOPAD.decode_len(text.len()).ok()? != bytes.len() {
        return None;
    }
    BASE32_NOPAD.decode_mut(text.as_bytes(), bytes.as_mut_slice()).ok()?;
    let (body, check) = bytes.split_last_chunk()?;
    let (prefixes, seed) = body.split_first_chunk::<2>()?;
    if u16::from_le_bytes(*check) != crc(body) || prefixes[0] & 0xf8 != SEED {
        return None;
    }
    // Five bits say that it is a seed, and the next five what it is for.
    let prefix = ((prefixes[0] & 7) << 5) | ((prefixes[1] & 0xf8) >> 3);
    Some((prefix, Secret::copied(seed).ok()?))
}

/// CRC-16/XMODEM.
fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            let shifted = crc << 1;
            if crc & 0x8000 == 0 { shifted } else { shifted ^ 0x1021 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_key_is_written_as_the_library_writes_it() {
        for _ in 0..100 {
            for (kind, prefix) in
                [(nkeys::KeyPairType::User, USER), (nkeys::KeyPairType::Server, SERVER)]
            {
                let text = nkeys::KeyPair::new(kind).public_key();
                let (found, key) = nkeys::from_public_key(&text).unwrap();
                assert_eq!((found, public(prefix, &key)), (prefix, text));
            }
        }
    }

    #[test]
    fn a_seed_is_read_as_the_library_reads_it_and_not_with_another_letter() {
        for (kind, prefix) in [
            (nkeys::KeyPairType::User, USER),
            (nkeys::KeyPairType::Server, SERVER),
            (nkeys::KeyPairType::Account, 0),
        ] {
            let pair = nkeys::KeyPair::new(kind);
            let text = pair.seed().unwrap();
            let (_, expected) = nkeys::decode_seed(&text).unwrap();
            let (found, read) = seed(&text).unwrap();
            assert_eq!((found, read.expose(|read| *read)), (prefix, expected));
            for at in 0..text.len() {
                let mut other = text.clone().into_bytes();
                other[at] = if other[at] == b'A' { b'B' } else { b'A' };
                assert!(seed(&String::from_utf8(other).unwrap()).is_none(), "letter {at}");
            }
            assert!(seed(&pair.public_key()).is_none() && seed("").is_none());
        }
    }
}
