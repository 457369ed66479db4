//! The container of bundles and of private keys on their way here: a file of age, version 1
//! (C2SP age-encryption.org/v1), with a stanza of our own for passphrases. `FORMAT.md` §7.

use std::io::Read;

use chacha20poly1305::aead::{Aead, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use data_encoding::BASE64_NOPAD;
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use policy::Recipient;
use sha2::Sha256;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::error::KeyspaceError;
use crate::seal::{Cost, derive, expand, keyed};
use crate::secret::{Passphrase, Secret, public_random};

const INTRO: &str = "age-encryption.org/v1";
/// The end of a header, before its MAC.
const FOOTER: &str = "---";
const X25519: &str = "X25519";
/// Our stanza for passphrases: salt, memory in KiB, passes, lanes.
const ARGON2ID: &str = "crypto-cli/argon2id";
/// The stanza for passphrases of other programs, which is not opened here.
const SCRYPT: &str = "scrypt";
const WRAP_LABEL: &[u8] = b"age-encryption.org/v1/X25519";
/// Largest header, in bytes: 16 recipients take 2 KiB, and other programs add stanzas of their own.
pub(crate) const MAX_HEADER_BYTES: usize = 16 * 1024;
/// Most memory that deriving the key of a bundle may take, in KiB, and most memory times passes: more than is ever
/// written, and under a second for whoever is given a hostile bundle.
const MOST_MEMORY: u32 = 128 * 1024;
const MOST_WHOLE: u64 = 512 * 1024;
/// A wrapped file key: 16 bytes and a tag.
const WRAPPED_BYTES: usize = 32;

/// Who can open a bundle that others wrote.
pub(crate) enum Key<'a> {
    Passphrase(&'a Passphrase),
    Own(&'a Secret<32>),
    /// A passphrase whose derivations are remembered.
    #[cfg(test)]
    Remembered(&'a Derive<'a>),
}

/// What makes the key of a salt.
type Derive<'a> = dyn Fn(&[u8; 16], Cost) -> Result<Secret<32>, KeyspaceError> + 'a;

/// For whom one is written.
pub(crate) enum Protect<'a> {
    Passphrase(&'a Passphrase),
    Recipients(&'a [Recipient]),
}

/// A header that was read.
#[derive(Debug)]
pub(crate) struct Container {
    stanzas: Vec<Stanza>,
    mac: [u8; 32],
    /// What the MAC is over.
    signed: Vec<u8>,
}

#[derive(Debug)]
struct Stanza {
    arguments: Vec<String>,
    body: Vec<u8>,
}

/// Reads `age1...`.
pub(crate) fn recipient(text: &str) -> Result<Recipient, KeyspaceError> {
    let shown = text.chars().take(80).collect::<String>();
    let named = |error| {
        KeyspaceError::Cannot(format!("`{}` is not a recipient: {error}", shown.escape_debug()))
    };
    Recipient::parse(text).map_err(named)
}

/// The recipient that this secret opens for.
pub(crate) fn recipient_of(secret: &Secret<32>) -> Recipient {
    Recipient::new(PublicKey::from(&secret.expose(|secret| StaticSecret::from(*secret))).to_bytes())
}

/// A header for a new file, and the key of its payload.
pub(crate) fn write_header(
    protect: &Protect<'_>,
    cost: Cost,
) -> Result<(Vec<u8>, Secret<32>), KeyspaceError> {
    let file_key = file_key()?;
    let mut text = format!("{INTRO}\n");
    match protect {
        Protect::Passphrase(passphrase) => {
            passphrase.check_strength()?;
            let salt = public_random()?;
            let kek = derive(passphrase, &salt, cost)?;
            let Cost { memory, passes, lanes } = cost;
            let salt = BASE64_NOPAD.encode(&salt);
            text += &format!("-> {ARGON2ID} {salt} {memory} {passes} {lanes}\n");
            text += &format!("{}\n", BASE64_NOPAD.encode(&wrap(&kek, &file_key)?));
        }
        Protect::Recipients(recipients) => {
            for recipient in recipients.iter().map(Recipient::public_key) {
                let ephemeral = Secret::random()?;
                let share = *recipient_of(&ephemeral).public_key();
                let kek = agreed(&ephemeral, recipient, &share, recipient).map_err(|_| {
                    let text = Recipient::new(*recipient);
                    KeyspaceError::Cannot(format!("`{text}` is not a recipient: nobody can be"))
                })?;
                text += &format!("-> {X25519} {}\n", BASE64_NOPAD.encode(&share));
                text += &format!("{}\n", BASE64_NOPAD.encode(&wrap(&kek, &file_key)?));
            }
        }
    }
    text += FOOTER;
    let tag = mac(&file_key, text.as_bytes())?.finalize().into_bytes();
    text += &format!(" {}\n", BASE64_NOPAD.encode(&tag));
    let nonce: [u8; 16] = public_random()?;
    let key = payload_key(&file_key, &nonce)?;
    Ok(([text.as_bytes(), &nonce].concat(), key))
}

impl Container {
    /// Reads a header, and the bytes of no payload.
    pub(crate) fn read(from: &mut impl Read) -> Result<Self, KeyspaceError> {
        let text = read_text(from)?;
        Self::parse(&text).ok_or_else(|| KeyspaceError::bad_bundle("its header is none"))
    }

    fn parse(text: &str) -> Option<Self> {
        let (head, mac) = text.strip_suffix('\n')?.rsplit_once(&format!("\n{FOOTER} "))?;
        let mac = decode(mac)?.try_into().ok()?;
        let mut lines = head.split('\n');
        if lines.next()? != INTRO {
            return None;
        }
        let mut stanzas = Vec::new();
        let mut lines = lines.peekable();
        while let Some(line) = lines.next() {
            let words = line.strip_prefix("-> ")?.split(' ');
            let arguments: Vec<String> = words.map(str::to_owned).collect();
            let is_word = |word: &String| {
                !word.is_empty() && word.bytes().all(|byte| (33..=126).contains(&byte))
            };
            if !arguments.iter().all(is_word) {
                return None;
            }
            let mut body = Vec::new();
            loop {
                let line = lines.next()?;
                body.extend(decode(line)?);
                // A short line, perhaps an empty one, ends a body.
                if line.len() < 64 {
                    break;
                }
                if line.len() > 64 {
                    return None;
                }
            }
            stanzas.push(Stanza { arguments, body });
        }
        // Those for others as well: a file is good or it is not, whoever reads it.
        if stanzas.iter().any(|stanza: &Stanza| !stanza.is_whole()) {
            return None;
        }
        // Whoever wrote a passphrase to it wrote nothing else: a second would be paid for again, and a recipient
        // would be one that the passphrase's owner does not know of.
        let is_passphrase = |stanza: &Stanza| {
            stanza.arguments.first().is_some_and(|word| [ARGON2ID, SCRYPT].contains(&word.as_str()))
        };
        if stanzas.len() > 1 && stanzas.iter().any(is_passphrase) {
            return None;
        }
        let signed = format!("{head}\n{FOOTER}").into_bytes();
        (!stanzas.is_empty()).then_some(Self { stanzas, mac, signed })
    }

    /// Whether both are the header of the same file.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.signed == other.signed && self.mac == other.mac
    }

    /// Opens it: the key of the file. What a passphrase costs is bounded before it is paid.
    pub(crate) fn open(&self, key: &Key<'_>) -> Result<Secret<16>, KeyspaceError> {
        for stanza in &self.stanzas {
            let kek = match (key, stanza.arguments.as_slice()) {
                (Key::Own(secret), [kind, share]) if kind == X25519 => {
                    stanza.agreed(secret, share)?
                }
                (Key::Passphrase(passphrase), [kind, rest @ ..]) if kind == ARGON2ID => {
                    derived(rest, &|salt, cost| derive(passphrase, salt, cost))?
                }
                #[cfg(test)]
                (Key::Remembered(derive), [kind, rest @ ..]) if kind == ARGON2ID => {
                    derived(rest, *derive)?
                }
                (Key::Own(_) | Key::Passphrase(_), _) => continue,
                #[cfg(test)]
                (Key::Remembered(_), _) => continue,
            };
            let Some(file_key) = stanza.unwrap(&kek)? else { continue };
            if mac(&file_key, &self.signed)?.verify_slice(&self.mac).is_ok() {
                return Ok(file_key);
            }
        }
        Err(KeyspaceError::NotForUs)
    }
}

impl Stanza {
    /// Whether it is as those of its kind are. Those of kinds that are not known are left to others.
    fn is_whole(&self) -> bool {
        match self.arguments.as_slice() {
            [kind, share] if kind == X25519 => {
                decode(share).is_some_and(|share| share.len() == 32)
                    && self.body.len() == WRAPPED_BYTES
            }
            [kind, ..] if kind == X25519 => false,
            [kind, ..] if kind == ARGON2ID => self.body.len() == WRAPPED_BYTES,
            _ => true,
        }
    }

    fn agreed(&self, secret: &Secret<32>, share: &str) -> Result<Secret<32>, KeyspaceError> {
        let share: Option<[u8; 32]> = decode(share).and_then(|share| share.try_into().ok());
        let share = share.ok_or_else(|| KeyspaceError::bad_bundle("a recipient in it is none"))?;
        agreed(secret, &share, &share, recipient_of(secret).public_key())
    }

    fn unwrap(&self, kek: &Secret<32>) -> Result<Option<Secret<16>>, KeyspaceError> {
        let cipher = kek.expose(|kek| ChaCha20Poly1305::new(kek.into()));
        let opened = cipher.decrypt(&Nonce::default(), self.body.as_slice());
        let Ok(opened) = opened.map(Zeroizing::new) else { return Ok(None) };
        Secret::copied(&opened).map(Some)
    }
}

/// The key of the payload that follows a header: of the file's key and the nonce after the header.
pub(crate) fn payload_key_after(
    from: &mut impl Read,
    file_key: &Secret<16>,
) -> Result<Secret<32>, KeyspaceError> {
    let mut nonce = [0; 16];
    from.read_exact(&mut nonce).map_err(|_| KeyspaceError::bad_bundle("it is cut short"))?;
    payload_key(file_key, &nonce)
}

fn payload_key(file_key: &Secret<16>, nonce: &[u8; 16]) -> Result<Secret<32>, KeyspaceError> {
    expanded(file_key, Some(nonce), b"payload")
}

fn file_key() -> Result<Secret<16>, KeyspaceError> {
    Secret::random()
}

fn mac(file_key: &Secret<16>, header: &[u8]) -> Result<Hmac<Sha256>, KeyspaceError> {
    Ok(expanded(file_key, None, b"header")?.expose(keyed).chain_update(header))
}

fn expanded(
    file_key: &Secret<16>,
    salt: Option<&[u8]>,
    info: &[u8],
) -> Result<Secret<32>, KeyspaceError> {
    expand(&file_key.expose(|key| Hkdf::new(salt, key)), info)
}

/// The key that wraps a file's key between two.
fn agreed(
    secret: &Secret<32>,
    other: &[u8; 32],
    share: &[u8; 32],
    recipient: &[u8; 32],
) -> Result<Secret<32>, KeyspaceError> {
    let shared = secret
        .expose(|secret| StaticSecret::from(*secret))
        .diffie_hellman(&PublicKey::from(*other));
    // A share of low order would make the key one that everybody knows.
    if !shared.was_contributory() {
        return Err(KeyspaceError::bad_bundle("a recipient is none"));
    }
    let salt = [share.as_slice(), recipient].concat();
    expand(&Hkdf::new(Some(&salt), shared.as_bytes()), WRAP_LABEL)
}

fn wrap(kek: &Secret<32>, file_key: &Secret<16>) -> Result<Vec<u8>, KeyspaceError> {
    let cipher = kek.expose(|kek| ChaCha20Poly1305::new(kek.into()));
    // Each key wraps once, so its nonce may be all zeros.
    file_key
        .expose(|key| cipher.encrypt(&Nonce::default(), key.as_slice()))
        .map_err(|_| KeyspaceError::Storage("wrapping".to_owned()))
}

fn derived(arguments: &[String], derive: &Derive<'_>) -> Result<Secret<32>, KeyspaceError> {
    let [salt, memory, passes, lanes] = arguments else {
        return Err(KeyspaceError::bad_bundle("its passphrase stanza is none"));
    };
    let number = |text: &str| {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
        text.parse::<u32>().ok().filter(|_| is_plain)
    };
    let cost = (number(memory), number(passes), number(lanes));
    let (Some(memory), Some(passes), Some(lanes)) = cost else {
        return Err(KeyspaceError::bad_bundle("its passphrase stanza is none"));
    };
    let cost = Cost { memory, passes, lanes };
    if !cost.within_bounds() || cost.memory > MOST_MEMORY || cost.whole() > MOST_WHOLE {
        return Err(KeyspaceError::bad_bundle("its key derivation cost is out of bounds"));
    }
    let salt: Option<[u8; 16]> = decode(salt).and_then(|salt| salt.try_into().ok());
    derive(&salt.ok_or_else(|| KeyspaceError::bad_bundle("its passphrase stanza is none"))?, cost)
}

/// Canonical base64 alone: the crate refuses bits that are left over.
fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64_NOPAD.decode(text.as_bytes()).ok()
}

/// The text of a header with its last line.
fn read_text(from: &mut impl Read) -> Result<String, KeyspaceError> {
    let mut text = Vec::new();
    let mut line_at = 0;
    loop {
        let mut byte = [0];
        from.read_exact(&mut byte)
            .map_err(|_| KeyspaceError::bad_bundle("it is no bundle, or cut short"))?;
        text.push(byte[0]);
        if text.len() > MAX_HEADER_BYTES
            || !format!("{INTRO}\n")
                .as_bytes()
                .starts_with(text.get(..INTRO.len() + 1).unwrap_or(&text))
        {
            return Err(KeyspaceError::bad_bundle("it is no bundle"));
        }
        if byte[0] == b'\n' {
            if text.get(line_at..).unwrap_or_default().starts_with(FOOTER.as_bytes()) {
                return String::from_utf8(text)
                    .map_err(|_| KeyspaceError::bad_bundle("its header is none"));
            }
            line_at = text.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_bundle_that_costs_much_more_than_any_that_is_written_is_refused_before_it_is_paid() {
        let is_paid = |memory: u32, passes: u32, lanes: u32| {
            let paid = Cell::new(None);
            let derive = |_: &[u8; 16], cost: Cost| {
                paid.set(Some(cost));
                Secret::random()
            };
            let salt = BASE64_NOPAD.encode(&[7; 16]);
            let numbers = [memory, passes, lanes].map(|number| number.to_string());
            let arguments = [std::slice::from_ref(&salt), &numbers].concat();
            let done = derived(&arguments, &derive);
            assert_eq!(done.is_ok(), paid.get().is_some());
            done.is_ok()
        };
        let Cost { memory, passes, lanes } = Cost::WRITTEN;
        assert!(is_paid(memory, passes, lanes) && is_paid(19 * 1024, 10, 8));
        assert!(is_paid(128 * 1024, 4, 8) && is_paid(64 * 1024, 8, 1));
        assert!(!is_paid(128 * 1024 + 1, 2, 1) && !is_paid(256 * 1024, 2, 8));
        assert!(!is_paid(128 * 1024, 5, 1) && !is_paid(64 * 1024, 9, 1));
    }
}
