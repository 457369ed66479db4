//! What `crypto-cli dev` writes: authority, certificates, nkeys, configuration, policy.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use keyspace::{Home, Locked, Opening, Passphrase, Unlocked};
use proof::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use wire::operator::KdfCost;

use crate::exit::Fault;
use crate::files;

/// The subject of the development service.
pub(crate) const SUBJECT: &str = "crypto.scripts";
/// Its name in a policy that is made here.
const SERVICE: &str = "dev.signer";

/// Where everything is.
pub(crate) struct DevFiles {
    pub(crate) home: Home,
    pub(crate) service: String,
    pub(crate) service_nkey: String,
}

impl DevFiles {
    /// Makes what is missing. Keys, policy and passphrase of an earlier start are kept; certificates
    /// and configuration are made anew.
    pub(crate) fn prepare(home: Home, port: u16) -> Result<Self, Fault> {
        let mut files = Self { home, service: SERVICE.to_owned(), service_nkey: String::new() };
        let (keyspace, passphrase) = (files.path("keyspace.redb"), files.path("passphrase"));
        if keyspace.exists() && !passphrase.exists() {
            let text =
                format!("`{}` was not made by `crypto-cli dev`", files.home.path().display());
            return Err(Fault::usage(format!("{text}: choose another folder")));
        }
        let policy_file = files.path("policy.toml");
        if policy_file.exists() {
            let policy = files::read_policy(&policy_file)?.policy;
            policy.service().clone_into(&mut files.service);
        }
        files.service_nkey = files.keyspace()?;
        let service = files.identity("service.nk")?;
        let client = files.identity("client.nk")?;
        files.certificates()?;
        files.write("nats.conf", &files.nats_configuration(port, &service, &client)?)?;
        if !policy_file.exists() {
            files.write("policy.toml", &policy(&client))?;
        }
        files.write("dev.env", &files.environment(port)?)?;
        Ok(files)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.file(name)
    }

    /// Makes the keyspace, or opens the one that is there; returns the service's nkey.
    fn keyspace(&self) -> Result<String, Fault> {
        let path = self.path("passphrase");
        if !path.exists() {
            let mut random = [0_u8; 24];
            getrandom::fill(&mut random)
                .map_err(|error| Fault::system("no random numbers", &error))?;
            self.write("passphrase", &data_encoding::BASE64URL_NOPAD.encode(&random))?;
        }
        let passphrase = Passphrase::new(files::read_bounded(&path, 4096)?)?;
        let keyspace = if self.path("keyspace.redb").exists() {
            Locked::open(&self.home)?.unlock(&passphrase, Opening::default())?
        } else {
            Unlocked::create(&self.home, &passphrase, KdfCost::Standard, files::now())?
        };
        Ok(keyspace.service_nkey().to_owned())
    }

    /// Makes a user nkey, or reads the one that is there; returns its public part.
    fn identity(&self, name: &str) -> Result<String, Fault> {
        let path = self.path(name);
        if path.exists() {
            return Ok(client::read_identity(&path)?.nkey());
        }
        let identity = Identity::generate();
        identity.with_seed(|seed| self.write(name, &format!("{seed}\n")))?;
        Ok(identity.nkey())
    }

    fn certificates(&self) -> Result<(), Fault> {
        let made = make_certificates();
        let (ca, certificate, key) =
            made.map_err(|error| Fault::system("cannot make a certificate", &error))?;
        self.write("ca.pem", &ca)?;
        self.write("server.pem", &certificate)?;
        self.write("server.key", &key)
    }

    fn nats_configuration(&self, port: u16, service: &str, client: &str) -> Result<String, Fault> {
        let (certificate, key) = (self.shown("server.pem")?, self.shown("server.key")?);
        Ok(format!(
            r#"# Made by `crypto-cli dev`. For development.
listen: "127.0.0.1:{port}"
server_name: "crypto-cli-dev"
tls {{
  cert_file: "{certificate}"
  key_file: "{key}"
}}
authorization {{
  users = [
    # The service: it takes requests and answers them.
    {{ nkey: {service}
      permissions: {{
        subscribe: ["{SUBJECT}", "$SRV.>"]
        publish: ["_INBOX.>"]
      }} }}
    # The client: it asks and hears its answers.
    {{ nkey: {client}
      permissions: {{
        publish: ["{SUBJECT}", "$SRV.>"]
        subscribe: ["_INBOX.>"]
      }} }}
  ]
}}
"#
        ))
    }

    fn environment(&self, port: u16) -> Result<String, Fault> {
        let paths = [
            ("NATS_CA", "ca.pem"),
            ("NATS_NKEY_SEED_FILE", "client.nk"),
            ("CRYPTO_POLICY", "policy.toml"),
        ];
        let mut text =
            "# Made by `crypto-cli dev`: `. dev.env` before using its service.\n".to_owned();
        let mut export = |name: &str, value: &str| {
            let quoted = value.replace('\'', r"'\''");
            text.push_str(&format!("export {name}='{quoted}'\n"));
        };
        export("NATS_URL", &format!("tls://localhost:{port}"));
        for (name, file) in paths {
            export(name, &self.shown(file)?);
        }
        export("CRYPTO_SUBJECT", SUBJECT);
        export("CRYPTO_SERVICE", &self.service);
        export("CRYPTO_SERVICE_NKEY", &self.service_nkey);
        export("CRYPTO_HOME", &self.shown("")?);
        Ok(text)
    }

    /// The whole path of a file, as text that a configuration can hold.
    pub(crate) fn shown(&self, name: &str) -> Result<String, Fault> {
        let path = if name.is_empty() { self.home.path().to_owned() } else { self.path(name) };
        let whole = std::path::absolute(&path).ok();
        let text = whole.as_ref().and_then(|path| path.to_str());
        let plain = |text: &&str| !text.contains(['"', '\\', '\n']);
        text.filter(plain).map(|text| text.trim_end_matches('/').to_owned()).ok_or_else(|| {
            Fault::usage(format!("cannot use the path `{}`: choose a plainer one", path.display()))
        })
    }

    /// Replaces a file that only its owner can read.
    fn write(&self, name: &str, text: &str) -> Result<(), Fault> {
        let path = self.path(name);
        let failed = |error| Fault::usage(format!("cannot write `{}`: {error}", path.display()));
        let draft = self.path(&format!(".{name}.new"));
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft);
        let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
        written.and_then(|()| fs::rename(&draft, &path)).map_err(failed)
    }
}

/// An authority, and a server certificate for this machine's own names with its key; all in PEM.
fn make_certificates() -> Result<(String, String, String), rcgen::Error> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.distinguished_name.push(DnType::CommonName, "crypto-cli development authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority_key = KeyPair::generate()?;
    let authority_certificate = authority.self_signed(&authority_key)?;
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    let mut server = CertificateParams::new(names)?;
    server.distinguished_name.push(DnType::CommonName, "localhost");
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let server_key = KeyPair::generate()?;
    let issuer = Issuer::new(authority, authority_key);
    let certificate = server.signed_by(&server_key, &issuer)?;
    Ok((authority_certificate.pem(), certificate.pem(), server_key.serialize_pem()))
}

/// One client that may do everything, and a demonstration that unsigned requests may try.
fn policy(client: &str) -> String {
    format!(
        r#"# Made by `crypto-cli dev`. For development: it allows far more than a service should.
version = 1

[service]
name = "{SERVICE}"

# The client whose seed is in client.nk.
[[client]]
name = "developer"
nkey = "{client}"
roles = ["developer"]

# Whoever the NATS server lets in may try the script of the README, unsigned.
[anonymous]
roles = ["demo"]

[[role]]
name = "developer"
allow = [{{ calls = ["*"], keys = ["*/*"] }}]

[[role]]
name = "demo"
allow = [
  {{ calls = ["create_key_space", "select_key_space"], keys = ["remote_space"] }},
  {{ calls = ["create_keypair", "select_keypair", "list_keypairs", "public_key", "sign", "verify"], keys = ["remote_space/*"] }},
]
"#
    )
}
