//! What a caller links: connect to NATS without a way to lose TLS, ask a service to run a script,
//! and believe only the service's own answer.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use client::{Asking, Caller, Connect, Login, ServerUrl, blocking};
//!
//! let connect = Connect {
//!     server: ServerUrl::parse("tls://nats.example:4222")?,
//!     login: Login::NkeySeedFile("nats.nk".into()),
//!     ca: Some("ca.pem".into()),
//!     name: "billing".into(),
//! };
//! let caller = Caller {
//!     // Not the seed of the login: who may ask and who may connect are two things.
//!     identity: client::read_identity("caller.nk".as_ref())?,
//!     service: "signer.example".into(),
//!     service_nkey: "N...".into(),
//! };
//! let script = b"select_keypair(\"billing/k1\"); sign(\"message\")";
//! let asking = Asking { json: false, again: true, patience: blocking::PATIENCE };
//! let answer = blocking::request(&connect, "crypto.scripts", script, Some(&caller), asking)?;
//! println!("{}", String::from_utf8_lossy(&answer.payload));
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod address;
mod again;
mod connect;
mod request;
mod trust;

pub mod blocking;

pub use address::{BadAddress, ServerUrl, check_subject};
pub use connect::{
    Connect, ConnectFault, Lasting, Login, Prepared, connect, prepare, read_identity,
};
pub use request::{Answer, Asking, Caller, Proven, RequestFault, prove, request};
