//! Where to connect: a URL that says whether the way is encrypted.

use std::net::IpAddr;

use async_nats::ServerAddr;

/// The address of a NATS server. Plain `nats://` exists only towards this machine.
#[derive(Debug, Clone)]
pub struct ServerUrl {
    pub(crate) address: ServerAddr,
    pub(crate) tls: bool,
    text: String,
}

/// A URL or a subject that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// It is no URL.
    #[error("`{0}` is not a server URL: write it as tls://HOST:PORT")]
    NotAUrl(String),
    /// It would go over a network unencrypted.
    #[error(
        "`{url}` would not be encrypted: plain nats:// is accepted to this machine only, \
         so write tls://{host}:{port}"
    )]
    Plaintext {
        /// As given.
        url: String,
        /// Of the server.
        host: String,
        /// Of the server.
        port: u16,
    },
    /// It holds a password, which others see in the list of processes.
    #[error("the server URL holds a user or password: use --nkey-seed-file or --creds")]
    Password,
    /// It cannot be a subject.
    #[error("`{0}` is not a subject: use words of printable characters with `.` between them")]
    Subject(String),
}

impl ServerUrl {
    /// Parses `tls://HOST:PORT`, or `nats://HOST:PORT` for a loopback host.
    ///
    /// # Errors
    /// See [`BadAddress`].
    pub fn parse(text: &str) -> Result<Self, BadAddress> {
        let scheme = text.split_once("://").map(|(scheme, _)| scheme);
        let tls = match scheme {
            Some("tls") => true,
            Some("nats") => false,
            Some(_) | None => return Err(BadAddress::NotAUrl(shown(text))),
        };
        let address: ServerAddr = text.parse().map_err(|_| BadAddress::NotAUrl(shown(text)))?;
        if address.has_user_pass() || text.contains('@') {
            return Err(BadAddress::Password);
        }
        let host = address.host().to_owned();
        if host.is_empty() {
            return Err(BadAddress::NotAUrl(shown(text)));
        }
        if !tls && !is_loopback(&host) {
            return Err(BadAddress::Plaintext { url: shown(text), host, port: address.port() });
        }
        Ok(Self { address, tls, text: text.to_owned() })
    }

    /// As it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Accepts a subject to serve or to ask: no wildcards, no spaces, no empty words.
///
/// # Errors
/// [`BadAddress::Subject`].
pub fn check_subject(text: &str) -> Result<&str, BadAddress> {
    let good = |word: &str| {
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_graphic() && b != b'*' && b != b'>')
    };
    let whole = text.len() <= 256 && text.split('.').all(good) && !text.starts_with('$');
    if whole { Ok(text) } else { Err(BadAddress::Subject(shown(text))) }
}

/// `localhost` is this machine by RFC 6761 §6.3; other names could be anything.
fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn shown(text: &str) -> String {
    text.chars().take(200).collect::<String>().escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_reaches_no_other_machine() {
        for good in [
            "nats://localhost:4222",
            "nats://127.0.0.1:4222",
            "nats://127.9.9.9",
            "nats://[::1]:4222",
            "tls://signer.example:4222",
            "tls://192.0.2.1",
        ] {
            assert!(ServerUrl::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "nats://signer.example:4222",
            "nats://192.0.2.1:4222",
            "nats://0.0.0.0:4222",
            "nats://[::]:4222",
            "nats://[::ffff:192.0.2.1]:4222",
            "nats://127.0.0.1.example:4222",
            "nats://localhost.example:4222",
        ] {
            let refused = ServerUrl::parse(bad);
            assert!(matches!(refused, Err(BadAddress::Plaintext { .. })), "{bad}: {refused:?}");
        }
    }

    #[test]
    fn urls_without_a_scheme_or_with_a_password_are_refused() {
        for bad in
            ["localhost:4222", "http://localhost", "ws://localhost", "", "tls://", "nats:///x"]
        {
            assert!(matches!(ServerUrl::parse(bad), Err(BadAddress::NotAUrl(_))), "{bad}");
        }
        for bad in ["nats://u:p@localhost:4222", "tls://token@signer.example"] {
            assert!(matches!(ServerUrl::parse(bad), Err(BadAddress::Password)), "{bad}");
        }
    }

    #[test]
    fn subjects_with_wildcards_or_spaces_are_refused() {
        assert!(check_subject("crypto.scripts").is_ok());
        for bad in ["", ".", "a..b", "a.*", "a.>", "a b", "a\r\nPUB x", "$SRV.PING", "a."] {
            assert!(check_subject(bad).is_err(), "{bad:?}");
        }
    }
}
