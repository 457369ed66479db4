//! Keys below the root key, sealing of records, wrapping of the root key.

use std::time::{Duration, Instant};

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use wire::operator::KdfCost;
use wire::{KeyPath, Name};
use zeroize::Zeroizing;

use crate::error::KeyspaceError;
use crate::secret::{Passphrase, Secret};

/// Bytes of a nonce of XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03 §2.3): long enough to be random.
pub(crate) const NONCE_BYTES: usize = 24;
/// Bytes that sealing adds.
pub(crate) const TAG_BYTES: usize = 16;

// Labels of the keys below the root key (RFC 5869 §2.3, `info`).
const HEADER_LABEL: &[u8] = b"ccks1 header";
const INDEX_LABEL: &[u8] = b"ccks1 index";
const RECORD_LABEL: &[u8] = b"ccks1 record";
const SUM_LABEL: &[u8] = b"ccks1 sum";

/// Cost of deriving a key from a passphrase (RFC 9106 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cost {
    /// In KiB.
    pub(crate) memory: u32,
    pub(crate) passes: u32,
    pub(crate) lanes: u32,
}

impl Cost {
    /// What new slots are written with: the second recommendation of RFC 9106 §4.
    pub(crate) const WRITTEN: Self = Self { memory: 64 * 1024, passes: 3, lanes: 4 };
    /// The least that a reader takes. Nothing is written with it but in tests.
    pub(crate) const LEAST: Self = Self { memory: 19 * 1024, passes: 2, lanes: 1 };

    /// Most that a reader pays in all, in KiB times passes: 3 GiB once.
    pub(crate) const MOST_WHOLE: u64 = 3 * 1024 * 1024;
    /// How long a measured derivation is to take.
    const CALIBRATED: Duration = Duration::from_secs(1);
    /// Most memory that a measured cost has, in KiB.
    const CALIBRATED_MEMORY: u64 = 256 * 1024;

    /// The cost that is asked for; a measured one is never below what is written otherwise.
    pub(crate) fn asked(cost: KdfCost) -> Result<Self, KeyspaceError> {
        match cost {
            KdfCost::Standard | KdfCost::Kept => Ok(Self::WRITTEN),
            KdfCost::Calibrated => {
                let started = Instant::now();
                derive(&Passphrase::new(b"measured".to_vec())?, &[0; 16], Self::WRITTEN)?;
                Ok(Self::taking(started.elapsed()))
            }
        }
    }

    /// The cost that takes about [`Cost::CALIBRATED`] where what is written otherwise takes so long.
    fn taking(written: Duration) -> Self {
        let times = Self::CALIBRATED.as_micros() / written.as_micros().max(1);
        let memory =
            u64::from(Self::WRITTEN.memory).saturating_mul(u64::try_from(times).unwrap_or(1));
        let memory = memory.clamp(u64::from(Self::WRITTEN.memory), Self::CALIBRATED_MEMORY);
        Self { memory: u32::try_from(memory).unwrap_or(Self::WRITTEN.memory), ..Self::WRITTEN }
    }

    /// KiB times passes: what it takes in all.
    pub(crate) fn whole(self) -> u64 {
        u64::from(self.memory) * u64::from(self.passes)
    }

    /// Whether it is neither so cheap that the slot protects nothing nor so dear that opening a
    /// hostile file would hurt. Checked before any memory is taken.
    pub(crate) fn within_bounds(self) -> bool {
        let Self { memory, passes, lanes } = self;
        (Self::LEAST.memory..=1024 * 1024).contains(&memory)
            && (Self::LEAST.passes..=10).contains(&passes)
            && (Self::LEAST.lanes..=8).contains(&lanes)
            && self.whole() <= Self::MOST_WHOLE
    }
}

/// Passphrase → the key that wraps the root key.
pub(crate) fn derive(
    passphrase: &Passphrase,
    salt: &[u8; 16],
    cost: Cost,
) -> Result<Secret<32>, KeyspaceError> {
    let params = Params::new(cost.memory, cost.passes, cost.lanes, Some(32));
    let params = params.map_err(|_| KeyspaceError::Foreign("unusable key derivation cost"))?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    Secret::try_fill(|key| {
        passphrase.expose(|passphrase| argon2.hash_password_into(passphrase, salt, key))
    })
    .map_err(|error| KeyspaceError::Storage(format!("key derivation: {error}")))
}

/// Seals `plain` under `key`, bound to `aad`.
pub(crate) fn seal(
    key: &Secret<32>,
    nonce: [u8; NONCE_BYTES],
    plain: &[u8],
    aad: &[u8],
) -> Result<Vec<u8>, KeyspaceError> {
    let cipher = key.expose(|key| XChaCha20Poly1305::new(key.into()));
    let sealed = cipher.encrypt(&XNonce::from(nonce), Payload { msg: plain, aad });
    sealed.map_err(|_| KeyspaceError::Storage("a record is too large to seal".to_owned()))
}

/// Opens what [`seal`] sealed; `None` when the key, the nonce, the bytes or `aad` are others.
pub(crate) fn open(
    key: &Secret<32>,
    nonce: [u8; NONCE_BYTES],
    sealed: &[u8],
    aad: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let cipher = key.expose(|key| XChaCha20Poly1305::new(key.into()));
    cipher.decrypt(&XNonce::from(nonce), Payload { msg: sealed, aad }).ok().map(Zeroizing::new)
}

/// The keys below one root key.
pub(crate) struct RootKeys {
    /// What is extracted from the root key (RFC 5869 §2.2): the keys of records are expanded from it.
    extracted: Secret<32>,
    index: Secret<32>,
    header: Secret<32>,
    sum: Secret<32>,
}

impl RootKeys {
    pub(crate) fn below(root: &Secret<32>) -> Result<Self, KeyspaceError> {
        let (extracted, _) = root.expose(|root| Hkdf::<Sha256>::extract(None, root));
        let extracted = Secret::copied(&Zeroizing::new(<[u8; 32]>::from(extracted))[..])?;
        let index = below(&extracted, INDEX_LABEL)?;
        let header = below(&extracted, HEADER_LABEL)?;
        let sum = below(&extracted, SUM_LABEL)?;
        Ok(Self { extracted, index, header, sum })
    }

    #[cfg(test)]
    pub(crate) fn all(&self) -> [&Secret<32>; 4] {
        [&self.extracted, &self.index, &self.header, &self.sum]
    }

    /// The key that seals the record with this id.
    pub(crate) fn record(&self, id: &[u8]) -> Result<Secret<32>, KeyspaceError> {
        below(&self.extracted, &[RECORD_LABEL, id].concat())
    }

    /// The id of a key space.
    pub(crate) fn space_id(&self, space: &Name) -> [u8; 16] {
        self.id(&["space", space.as_str()])
    }

    /// The id of the space, then that of the key: the keys of one space stand together.
    pub(crate) fn key_id(&self, path: &KeyPath) -> Vec<u8> {
        let key = self.id(&["key", path.space.as_str(), path.key.as_str()]);
        [self.space_id(&path.space), key].concat()
    }

    /// Sixteen bytes that stand for a name: nobody without the keyspace can tell which.
    pub(crate) fn id(&self, parts: &[&str]) -> [u8; 16] {
        let mut mac = self.index.expose(keyed);
        for part in parts {
            mac.update(part.as_bytes());
            mac.update(&[0]);
        }
        let whole: [u8; 32] = mac.finalize().into_bytes().into();
        std::array::from_fn(|at| whole.get(at).copied().unwrap_or_default())
    }

    /// What hashes the parts of the sum over all records.
    pub(crate) fn sum_mac(&self) -> Hmac<Sha256> {
        self.sum.expose(keyed)
    }

    /// The tag over a header, which commits to the root key as well.
    pub(crate) fn header_tag(&self, header: &[u8]) -> [u8; 32] {
        let mut mac = self.header.expose(keyed);
        mac.update(header);
        mac.finalize().into_bytes().into()
    }

    /// Whether a header carries the right tag; takes the same time wherever they differ.
    pub(crate) fn header_is_ours(&self, header: &[u8], tag: &[u8; 32]) -> bool {
        let mut mac = self.header.expose(keyed);
        mac.update(header);
        mac.verify_slice(tag).is_ok()
    }
}

/// HMAC-SHA-256 (RFC 2104) under this key.
#[expect(clippy::expect_used, reason = "HMAC takes keys of every length (RFC 2104 §3)")]
pub(crate) fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("any length")
}

/// The key that HKDF-SHA-256 expands for this use (RFC 5869 §2.3).
pub(crate) fn expand(hkdf: &Hkdf<Sha256>, info: &[u8]) -> Result<Secret<32>, KeyspaceError> {
    Secret::try_fill(|key| hkdf.expand(info, key)).map_err(|_| not_expanded())
}

fn below(extracted: &Secret<32>, info: &[u8]) -> Result<Secret<32>, KeyspaceError> {
    let hkdf = extracted.expose(|prk| Hkdf::<Sha256>::from_prk(prk));
    expand(&hkdf.map_err(|_| not_expanded())?, info)
}

fn not_expanded() -> KeyspaceError {
    KeyspaceError::Storage("key expansion".to_owned())
}
