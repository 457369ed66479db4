//! A remote system that has something signed: an ordinary async-nats program over TLS with an nkey.
//! It needs nothing of this project; the addresses come from `dev.env`.
//!
//! The request is unsigned, so the service's policy must have an `[anonymous]` section. For signed
//! requests, which every other service should insist on, see `crypto-cli request` and `src/client`.
#![expect(clippy::print_stdout, reason = "it is a program for the terminal")]

use std::env::var;
use std::error::Error;

use async_nats::{Client, ConnectOptions};
use ed25519_dalek::{Signature, VerifyingKey};

const MESSAGE: &str = "Hello from remote system";
const SCRIPT: &str = r#"
    if create_key_space("remote_space") {
        if create_keypair("remote_keypair") {
            if select_keypair("remote_keypair") {
                let message = "Hello from remote system";
                let signature = sign(message);
                print("Signature: " + signature);
                signature
            } else { "Failed to select keypair" }
        } else { "Failed to create keypair" }
    } else { "Failed to create key space" }
"#;
const PUBLIC_KEY_SCRIPT: &str = r#"public_key("remote_space/remote_keypair")"#;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let seed = std::fs::read_to_string(var("NATS_NKEY_SEED_FILE")?)?.trim().to_owned();
    let client = ConnectOptions::with_nkey(seed)
        .require_tls(true)
        .add_root_certificates(var("NATS_CA")?.into())
        .connect(var("NATS_URL")?)
        .await?;
    let signature = ask(&client, SCRIPT).await?;
    let public_key = ask(&client, PUBLIC_KEY_SCRIPT).await?;
    let valid = verify(&public_key, MESSAGE, &signature)?;
    println!("signature: {signature}");
    println!("public key: {public_key}");
    println!("signature valid: {valid}");
    if valid { Ok(()) } else { Err("the signature is not valid".into()) }
}

async fn ask(client: &Client, script: &'static str) -> Result<String, Box<dyn Error>> {
    let subject = var("CRYPTO_SUBJECT")?;
    let reply = client.request(subject, script.into()).await?;
    let text = String::from_utf8(reply.payload.to_vec())?;
    let error = reply.headers.as_ref().and_then(|headers| headers.get("Nats-Service-Error"));
    if error.is_some() { Err(text.into()) } else { Ok(text) }
}

/// Needs the public key alone: any Ed25519 library can do this anywhere.
fn verify(public_key: &str, message: &str, signature: &str) -> Result<bool, Box<dyn Error>> {
    let hex = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes());
    let key: [u8; 32] = hex(public_key)?.try_into().map_err(|_| "not a public key")?;
    let signature = Signature::from_slice(&hex(signature)?)?;
    Ok(VerifyingKey::from_bytes(&key)?.verify_strict(message.as_bytes(), &signature).is_ok())
}
