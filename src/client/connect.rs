//! Connecting, and what to do when it fails.

use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerAddr};
use proof::Identity;
use zeroize::Zeroizing;

use crate::address::ServerUrl;
use crate::trust;

/// Longest seed or creds file, in bytes.
const MAX_LOGIN_BYTES: u16 = u16::MAX;
/// How long one attempt may take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// Messages that may have come and wait to be looked at. The NATS library drops what comes beyond.
const MESSAGES_AT_ONCE: usize = 4096;
/// Attempts to reconnect, for each address.
const RECONNECTS: usize = 20;
/// Longest pause between two attempts to reconnect; each pause is drawn at random below it.
const LONGEST_PAUSE_MS: u64 = 10_000;

/// How to reach a NATS server.
#[derive(Debug, Clone)]
pub struct Connect {
    /// Where.
    pub server: ServerUrl,
    /// As whom.
    pub login: Login,
    /// A PEM file with the only authorities to trust; without it, the platform's.
    pub ca: Option<PathBuf>,
    /// How the connection is called in the server's list.
    pub name: String,
}

/// Who we are to the NATS server. Files, never values: arguments are seen by others.
#[derive(Debug, Clone)]
pub enum Login {
    /// Nobody.
    Anonymous,
    /// A file with the seed of a user nkey.
    NkeySeedFile(PathBuf),
    /// A file with a JWT and a seed.
    CredsFile(PathBuf),
}

/// What happens when the connection is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasting {
    /// It ends.
    Once,
    /// It is made again, to the addresses that the server's name had at the start, for a minute or
    /// two. Then it ends, for the name may have moved.
    ForAWhile,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectFault {
    /// A file cannot be read or is not what it should be.
    #[error("{0}")]
    File(String),
    /// The server does not let us in.
    #[error("{server} refused this identity: {hint}")]
    Refused {
        /// The URL.
        server: String,
        /// What to do.
        hint: &'static str,
    },
    /// TLS failed.
    #[error("no secure connection to {server}: {cause}: {hint}")]
    Tls {
        /// The URL.
        server: String,
        /// What the TLS library says.
        cause: String,
        /// What to do.
        hint: &'static str,
    },
    /// Nobody answers there.
    #[error("cannot reach {server}: {cause}: is a nats-server running there?")]
    Unreachable {
        /// The URL.
        server: String,
        /// Why.
        cause: String,
    },
}

/// Everything that is needed to connect, read and looked up: what follows opens no file.
pub struct Prepared {
    to: Connect,
    options: ConnectOptions,
    addresses: Vec<ServerAddr>,
}

/// Reads the files that `to` names and looks up its server.
///
/// # Errors
/// See [`ConnectFault`].
pub fn prepare(to: &Connect) -> Result<Prepared, ConnectFault> {
    let is_tls = to.server.tls || to.ca.is_some();
    let mut options = login(&to.login)?.name(&to.name).require_tls(is_tls);
    let host = host_of(to);
    if is_tls {
        let trusted = trust::in_server(host, to.ca.as_deref()).map_err(ConnectFault::File)?;
        options = options.tls_client_config(trusted);
    }
    let server = format!("`{}`", to.server.as_str());
    let unreachable = |cause: String| ConnectFault::Unreachable { server: server.clone(), cause };
    let found = (host, to.server.address.port()).to_socket_addrs();
    let found: Vec<_> = found.map_err(|error| unreachable(error.to_string()))?.collect();
    // `localhost` is this machine by RFC 6761 §6.3, but a resolver may not know that.
    if !is_tls && !found.iter().all(|address| address.ip().is_loopback()) {
        let cause = "this name leads to another machine here".to_owned();
        return Err(ConnectFault::Tls {
            server,
            cause,
            hint: "use tls://, or the address 127.0.0.1",
        });
    }
    let scheme = if is_tls { "tls" } else { "nats" };
    let parse = |address: &SocketAddr| format!("{scheme}://{address}").parse::<ServerAddr>();
    let addresses = found.iter().map(parse).collect::<Result<Vec<_>, _>>();
    let addresses = addresses.map_err(|error| unreachable(error.to_string()))?;
    Ok(Prepared { to: to.clone(), options, addresses })
}

fn host_of(to: &Connect) -> &str {
    to.server.address.host().trim_start_matches('[').trim_end_matches(']')
}

impl Prepared {
    /// The port that will be connected to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.to.server.address.port()
    }

    /// Connects. `on_event` hears of what happens to the connection later.
    ///
    /// # Errors
    /// See [`ConnectFault`]. The first attempt is never repeated.
    pub async fn connect(
        self,
        lasting: Lasting,
        on_event: impl Fn(Event) + Clone + Send + Sync + 'static,
    ) -> Result<Client, ConnectFault> {
        let each = match lasting {
            Lasting::Once => 1,
            Lasting::ForAWhile => RECONNECTS,
        };
        let options = self
            .options
            // A server may name others to reconnect to, whom nobody checked for loopback.
            .ignore_discovered_servers()
            .retain_servers_order()
            .max_reconnects(each * self.addresses.len())
            .connection_timeout(CONNECT_PATIENCE)
            .subscription_capacity(MESSAGES_AT_ONCE)
            .reconnect_delay_callback(pause)
            .event_callback(move |event| {
                on_event(event);
                std::future::ready(())
            });
        let connected = if lasting == Lasting::Once && self.to.server.tls {
            // Who is not confined can look the name up, and a server may want to hear it (SNI).
            options.connect(self.to.server.address.clone()).await
        } else {
            options.connect(self.addresses).await
        };
        connected.map_err(|error| explain(&self.to, &error))
    }
}

/// Connects: [`prepare`] and [`Prepared::connect`] in one.
///
/// # Errors
/// See [`ConnectFault`].
pub async fn connect(
    to: &Connect,
    lasting: Lasting,
    on_event: impl Fn(Event) + Clone + Send + Sync + 'static,
) -> Result<Client, ConnectFault> {
    prepare(to)?.connect(lasting, on_event).await
}

/// Reads an identity from its seed file.
///
/// # Errors
/// [`ConnectFault::File`] when it cannot be read or holds no seed.
pub fn read_identity(path: &Path) -> Result<Identity, ConnectFault> {
    let text = read_small(path)?;
    Identity::from_seed_text(&text)
        .map_err(|error| ConnectFault::File(format!("`{}`: {error}", path.display())))
}

fn login(login: &Login) -> Result<ConnectOptions, ConnectFault> {
    match login {
        Login::Anonymous => Ok(ConnectOptions::new()),
        Login::NkeySeedFile(path) => {
            let identity = read_identity(path)?;
            Ok(identity.with_seed(|seed| ConnectOptions::with_nkey(seed.to_owned())))
        }
        Login::CredsFile(path) => ConnectOptions::with_credentials(&read_small(path)?)
            .map_err(|error| ConnectFault::File(format!("`{}`: {error}", path.display()))),
    }
}

/// Of its final size from the start, so that growing leaves no copies, and wiped.
fn read_small(path: &Path) -> Result<Zeroizing<String>, ConnectFault> {
    let mut text = Zeroizing::new(String::with_capacity(MAX_LOGIN_BYTES.into()));
    let read = File::open(path)
        .and_then(|file| file.take(MAX_LOGIN_BYTES.into()).read_to_string(&mut text));
    match read {
        Ok(_) => Ok(text),
        Err(error) => Err(ConnectFault::File(format!("`{}`: {error}", path.display()))),
    }
}

/// Full jitter: a whole fleet that lost its server does not come back at one moment.
fn pause(attempt: usize) -> Duration {
    let exponent = u32::try_from(attempt).unwrap_or(u32::MAX).min(10);
    let ceiling = (50_u64 << exponent).min(LONGEST_PAUSE_MS);
    // Without random numbers, half the pause is as good.
    let share = getrandom::u64().map_or(ceiling / 2, |random| random % (ceiling + 1));
    Duration::from_millis(share)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "an enum of the NATS library that grows")]
fn explain(to: &Connect, error: &async_nats::ConnectError) -> ConnectFault {
    let server = format!("`{}`", to.server.as_str());
    let cause = causes(error);
    let refused = |hint| ConnectFault::Refused { server: server.clone(), hint };
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            refused(match to.login {
                Login::Anonymous => "it wants a login: use --nkey-seed-file or --creds",
                Login::NkeySeedFile(_) | Login::CredsFile(_) => {
                    "check that the server's configuration lists its public nkey"
                }
            })
        }
        _ => match tls_hint(&cause, to) {
            Some(hint) => ConnectFault::Tls { server, cause, hint },
            None => ConnectFault::Unreachable { server, cause },
        },
    }
}

fn tls_hint(cause: &str, to: &Connect) -> Option<&'static str> {
    let says = |word: &str| cause.contains(word);
    if says("UnknownIssuer") || says("BadSignature") {
        Some(if to.ca.is_some() {
            "the server's certificate is not from the authority of --ca: pass the right file"
        } else {
            "the server's certificate is from an authority that is not trusted: name it with --ca"
        })
    } else if says("Expired") || says("expired") {
        Some("the certificate has expired: renew it on the server")
    } else if says("NotValidYet") {
        Some("the certificate is not valid yet: compare the clocks")
    } else if says("NotValidForName") || says("not valid for name") {
        Some("the certificate is for another name: use the name it was made for in the URL")
    } else if says("CertificateRequired") || says("certificate required") {
        Some("the server wants a client certificate, which this program does not offer")
    } else if says("corrupt message") || says("tls") || says("TLS") || says("certificate") {
        Some("check that the server offers TLS on this port")
    } else {
        None
    }
}

/// The error with what it was caused by.
fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}
