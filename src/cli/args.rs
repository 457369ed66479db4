//! The arguments. Nothing secret is ever one: others see them in the list of processes.

mod inspect;
mod operate;

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

pub(crate) use inspect::*;
pub(crate) use operate::*;

/// Remote signing that people can trust with their keys.
#[derive(Parser)]
#[command(name = "crypto-cli", version, about, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make a keyspace.
    Init(InitArgs),
    /// Start a development service: NATS with TLS and nkeys, and `listen` behind it.
    Dev(DevArgs),
    /// Serve scripts that come over NATS.
    Listen(ListenArgs),
    /// Bring the passphrase to a service that was started sealed.
    Unseal(UnsealArgs),
    /// The process of `listen` that talks to NATS. Started by `listen`.
    #[command(hide = true)]
    Listener(ListenerArgs),
    /// The process of `listen`, `run` and `check` that starts the others. Started by them.
    #[command(hide = true)]
    Launcher(LauncherArgs),
    /// Run a script here, as the service would.
    Run(RunArgs),
    /// Say what the policy would refuse in a script, without keys and without running it.
    Check(CheckArgs),
    /// Say what confinement this machine grants to scripts.
    Doctor(DoctorArgs),
    /// Send a script to a service and check its answer.
    Request(RequestArgs),
    /// Validate, explain and test policies.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Look at the audit log.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Check what a service signed of an answer.
    #[command(subcommand)]
    Receipt(ReceiptCommand),
    /// Make and use the nkey of a caller.
    #[command(subcommand)]
    Identity(IdentityCommand),
    /// Look after key spaces, and the keyspace as a whole.
    #[command(subcommand)]
    Keyspace(KeyspaceCommand),
    /// Look after keys.
    #[command(subcommand)]
    Key(KeyCommand),
}

/// How results are printed.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Where the passphrase comes from. Without either: the systemd credential
/// `crypto-cli-passphrase`, or a prompt.
#[derive(Clone, ClapArgs)]
pub(crate) struct PassphraseArgs {
    /// A file with the passphrase.
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_fd")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// An open descriptor to read the passphrase from.
    #[arg(long, value_name = "N")]
    pub(crate) passphrase_fd: Option<u32>,
}

impl PassphraseArgs {
    /// A passphrase from these places.
    pub(crate) fn of(passphrase_file: Option<PathBuf>, passphrase_fd: Option<u32>) -> Self {
        Self { passphrase_file, passphrase_fd }
    }
}

/// How a keyspace is opened.
#[derive(Clone, ClapArgs)]
pub(crate) struct OpenArgs {
    /// Whose passphrase it is [default: each is tried].
    #[arg(long, value_enum, value_name = "WHOSE")]
    pub(crate) slot: Option<Slot>,
    /// Open a keyspace that is older than the one that was here last, or another one.
    #[arg(long)]
    pub(crate) accept_older: bool,
}

/// Which keyspace, and how to unlock it.
#[derive(ClapArgs)]
pub(crate) struct Unlock {
    /// The folder of the keyspace [default: crypto-cli in the folder for a user's data].
    #[arg(long, value_name = "DIR", env = "CRYPTO_HOME")]
    pub(crate) home: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) passphrase: PassphraseArgs,
    #[command(flatten)]
    pub(crate) open: OpenArgs,
}

#[derive(ClapArgs)]
pub(crate) struct InitArgs {
    /// The folder of the keyspace [default: crypto-cli in the folder for a user's data].
    #[arg(long, value_name = "DIR", env = "CRYPTO_HOME")]
    pub(crate) home: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) passphrase: PassphraseArgs,
    /// What deriving a key from the passphrase costs.
    #[arg(long, value_enum, default_value_t = Kdf::Standard)]
    pub(crate) kdf: Kdf,
    /// Ask nothing.
    #[arg(long)]
    pub(crate) yes: bool,
    /// How to print the service's nkey.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

#[derive(ClapArgs)]
pub(crate) struct DevArgs {
    /// The folder for everything that is made.
    #[arg(long, value_name = "DIR")]
    pub(crate) home: PathBuf,
    /// The port of nats-server [default: 4222, or a free one when that is taken].
    #[arg(long, value_name = "N")]
    pub(crate) port: Option<u16>,
}

/// How to reach NATS.
#[derive(ClapArgs)]
pub(crate) struct NatsArgs {
    /// tls://HOST:PORT, or nats://HOST:PORT on this machine.
    #[arg(long, value_name = "URL", env = "NATS_URL")]
    pub(crate) server: String,
    /// A PEM file with the only authorities to trust [default: the platform's].
    #[arg(long, value_name = "FILE", env = "NATS_CA")]
    pub(crate) ca: Option<PathBuf>,
    /// A file with the seed of a user nkey.
    #[arg(long, value_name = "FILE", env = "NATS_NKEY_SEED_FILE")]
    pub(crate) nkey_seed_file: Option<PathBuf>,
    /// A NATS credentials file, for the connection instead of the seed.
    #[arg(long, value_name = "FILE", env = "NATS_CREDS")]
    pub(crate) creds: Option<PathBuf>,
}

#[derive(ClapArgs)]
pub(crate) struct ListenArgs {
    #[command(flatten)]
    pub(crate) nats: NatsArgs,
    /// The subject to serve.
    #[arg(long, env = "CRYPTO_SUBJECT", default_value = "crypto.scripts")]
    pub(crate) subject: String,
    /// Services of one group share the requests of the subject.
    #[arg(long, value_name = "NAME", default_value = "crypto-cli")]
    pub(crate) queue_group: String,
    /// The policy file [default: policy.toml beside the keyspace].
    #[arg(long, value_name = "FILE", env = "CRYPTO_POLICY")]
    pub(crate) policy: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) unlock: Unlock,
    /// Read no passphrase: answer `sealed` until `crypto-cli unseal` brings it.
    #[arg(long, conflicts_with_all = ["passphrase_file", "passphrase_fd"])]
    pub(crate) sealed: bool,
    #[command(flatten)]
    pub(crate) sandbox: SandboxArgs,
}

#[derive(ClapArgs)]
pub(crate) struct UnsealArgs {
    /// The folder of the service's keyspace.
    #[arg(long, value_name = "DIR", env = "CRYPTO_HOME")]
    pub(crate) home: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) passphrase: PassphraseArgs,
    /// How to print it.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

#[derive(ClapArgs)]
pub(crate) struct ListenerArgs {
    #[command(flatten)]
    pub(crate) nats: NatsArgs,
    #[arg(long)]
    pub(crate) subject: String,
    #[arg(long)]
    pub(crate) queue_group: String,
    #[arg(long)]
    pub(crate) capacity: usize,
}

#[derive(ClapArgs)]
pub(crate) struct LauncherArgs {
    #[arg(long)]
    pub(crate) worker: PathBuf,
    #[arg(long)]
    pub(crate) policy: Option<PathBuf>,
    #[arg(last = true)]
    pub(crate) own: Vec<String>,
}

/// How much of the sandbox may be missing.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sandbox {
    /// The system call filter, and Landlock or namespaces behind it.
    Strict,
    /// The system call filter.
    BestEffort,
}

#[derive(ClapArgs)]
pub(crate) struct SandboxArgs {
    /// How much of the sandbox may be missing on this machine.
    #[arg(long, value_enum, value_name = "HOW", default_value_t = Sandbox::Strict)]
    pub(crate) sandbox: Sandbox,
}

#[derive(ClapArgs)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) sandbox: SandboxArgs,
    /// How to print it.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

#[derive(ClapArgs)]
pub(crate) struct RunArgs {
    /// The script, or `-` for standard input.
    pub(crate) script: PathBuf,
    /// The policy file [default: policy.toml beside the keyspace].
    #[arg(long, value_name = "FILE", env = "CRYPTO_POLICY")]
    pub(crate) policy: Option<PathBuf>,
    /// The client of the policy to run it as [default: the anonymous one].
    #[arg(long = "as", value_name = "CLIENT")]
    pub(crate) caller: Option<String>,
    /// The folder of the keyspace [default: CRYPTO_HOME, or as for the other commands].
    #[arg(long, value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) passphrase: PassphraseArgs,
    #[command(flatten)]
    pub(crate) open: OpenArgs,
    /// Use an empty keyspace in memory, whatever CRYPTO_HOME says.
    #[arg(long, conflicts_with_all = ["home", "passphrase_file", "passphrase_fd"])]
    pub(crate) ephemeral: bool,
    #[command(flatten)]
    pub(crate) sandbox: SandboxArgs,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

#[derive(ClapArgs)]
pub(crate) struct CheckArgs {
    /// The scripts.
    #[arg(required = true)]
    pub(crate) scripts: Vec<PathBuf>,
    /// The policy file [default: policy.toml beside the keyspace].
    #[arg(long, value_name = "FILE", env = "CRYPTO_POLICY")]
    pub(crate) policy: Option<PathBuf>,
    /// Where the policy is, if it is not named.
    #[arg(long, value_name = "DIR", env = "CRYPTO_HOME", hide = true)]
    pub(crate) home: Option<PathBuf>,
    /// The client of the policy [default: report what everybody is refused].
    #[arg(long = "as", value_name = "CLIENT")]
    pub(crate) caller: Option<String>,
    #[command(flatten)]
    pub(crate) sandbox: SandboxArgs,
    /// Fail also where only the service can decide.
    #[arg(long)]
    pub(crate) strict: bool,
    /// How to print the findings.
    #[arg(long, value_enum, default_value_t = ReportFormat::Text)]
    pub(crate) format: ReportFormat,
}

#[derive(ClapArgs)]
pub(crate) struct RequestArgs {
    /// The script, or `-` for standard input.
    pub(crate) script: PathBuf,
    #[command(flatten)]
    pub(crate) nats: NatsArgs,
    /// The subject to ask.
    #[arg(long, env = "CRYPTO_SUBJECT", default_value = "crypto.scripts")]
    pub(crate) subject: String,
    /// The name of the service in its policy.
    #[arg(long, env = "CRYPTO_SERVICE", required_unless_present = "unsigned")]
    pub(crate) service: Option<String>,
    /// The public nkey of the service: only its answers are believed.
    #[arg(
        long,
        value_name = "N...",
        env = "CRYPTO_SERVICE_NKEY",
        required_unless_present = "unsigned"
    )]
    pub(crate) service_nkey: Option<String>,
    /// A file with the caller's seed, if it is another than that of the connection.
    #[arg(long, value_name = "FILE")]
    pub(crate) identity: Option<PathBuf>,
    /// Send the same request again while no answer comes. The service executes it once.
    #[arg(long, conflicts_with = "unsigned")]
    pub(crate) retry: bool,
    /// Where the receipt of the answer is written. Nothing is written over.
    #[arg(long, value_name = "FILE", conflicts_with = "unsigned")]
    pub(crate) receipt: Option<PathBuf>,
    /// Send no proof, and check none in the answer.
    #[arg(long)]
    pub(crate) unsigned: bool,
    /// How to print the answer.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}
