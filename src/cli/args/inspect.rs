//! The arguments of the commands that look at policies, logs, receipts and identities.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};

use super::Format;

#[derive(Subcommand)]
pub(crate) enum PolicyCommand {
    /// Say everything that is wrong with a policy.
    Check(PolicyCheckArgs),
    /// Say what a policy decides, by which rule, and why not by the others.
    Explain(PolicyExplainArgs),
    /// Lay policies out in one way. What they say and their comments stay.
    Fmt(PolicyFmtArgs),
    /// Try a policy against its cases.
    Test(PolicyTestArgs),
    /// Say who may do more, or less, by a new policy than by an old one.
    Diff(PolicyDiffArgs),
    /// Have the running service read its policy file again.
    Reload(PolicyReloadArgs),
}

#[derive(Subcommand)]
pub(crate) enum AuditCommand {
    /// Say whether the log is as the service wrote it, and name the first line that is not.
    Verify(AuditVerifyArgs),
    /// Print what the log tells.
    Show(AuditShowArgs),
}

#[derive(Subcommand)]
pub(crate) enum ReceiptCommand {
    /// Check a receipt and say what it proves.
    Verify(ReceiptVerifyArgs),
}

#[derive(Subcommand)]
pub(crate) enum IdentityCommand {
    /// Make a seed, and print its public nkey.
    New(IdentityNewArgs),
    /// Print the public nkey of a seed.
    Show(IdentityShowArgs),
    /// Print the proof of one request.
    Proof(IdentityProofArgs),
}

#[derive(ClapArgs)]
pub(crate) struct AuditVerifyArgs {
    /// The files of the log in their order [default: those of the home].
    pub(crate) files: Vec<PathBuf>,
    /// The folder of the keyspace.
    #[arg(long, value_name = "DIR", env = "CRYPTO_HOME")]
    pub(crate) home: Option<PathBuf>,
    /// The public nkey of the service [default: the one that the log names].
    // Not from the environment: it is of one service, and `--home` may name the home of another.
    #[arg(long, value_name = "N...")]
    pub(crate) service_nkey: Option<String>,
    /// The log begins in files that are kept elsewhere.
    #[arg(long)]
    pub(crate) continued: bool,
    /// How to print the outcome.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

#[derive(ClapArgs)]
pub(crate) struct AuditShowArgs {
    /// The folder of the keyspace.
    #[arg(long, value_name = "DIR", env = "CRYPTO_HOME")]
    pub(crate) home: Option<PathBuf>,
    /// Only what this client of the policy did.
    #[arg(long, value_name = "NAME")]
    pub(crate) client: Option<String>,
    /// Only from this instant on, such as 2027-06-30T00:00:00Z.
    #[arg(long, value_name = "INSTANT")]
    pub(crate) since: Option<String>,
    /// How to print it.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

#[derive(ClapArgs)]
pub(crate) struct ReceiptVerifyArgs {
    /// The receipt: what `request --receipt` wrote, the Crypto-Proof header of a reply.
    pub(crate) receipt: PathBuf,
    /// The public nkey of the service.
    #[arg(long, value_name = "N...", env = "CRYPTO_SERVICE_NKEY")]
    pub(crate) service_nkey: String,
    /// The script that it must be for.
    #[arg(long, value_name = "FILE")]
    pub(crate) script: Option<PathBuf>,
    /// The payload that it must be for.
    #[arg(long, value_name = "FILE")]
    pub(crate) payload: Option<PathBuf>,
    /// The folder of a keyspace, whose audit log must have the line that the receipt names.
    #[arg(long, value_name = "DIR", conflicts_with = "log")]
    pub(crate) home: Option<PathBuf>,
    /// The same of files of a log that are kept elsewhere.
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Vec<PathBuf>,
    /// How to print it.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

#[derive(ClapArgs)]
pub(crate) struct IdentityNewArgs {
    /// Where the seed is written. Nothing is written over.
    #[arg(long, value_name = "FILE")]
    pub(crate) output: PathBuf,
}

#[derive(ClapArgs)]
pub(crate) struct IdentityShowArgs {
    /// A file with the seed.
    pub(crate) seed: PathBuf,
}

#[derive(ClapArgs)]
pub(crate) struct IdentityProofArgs {
    /// The script, or `-` for standard input.
    pub(crate) script: PathBuf,
    /// A file with the caller's seed.
    #[arg(long, value_name = "FILE")]
    pub(crate) seed: PathBuf,
    /// The name of the service in its policy.
    #[arg(long, env = "CRYPTO_SERVICE")]
    pub(crate) service: String,
    /// The public nkey of the service.
    #[arg(long, value_name = "N...", env = "CRYPTO_SERVICE_NKEY")]
    pub(crate) service_nkey: String,
    /// Let the service give the same answer again to the same proof.
    #[arg(long)]
    pub(crate) idem: bool,
}

/// How findings are printed.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    /// For people, with the lines that they are about.
    Text,
    /// For programs.
    Json,
    /// For code scanning (SARIF 2.1.0).
    Sarif,
    /// Annotations of GitHub Actions.
    Github,
}

/// How the outcome of tests is printed.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TestFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// For what collects the outcomes of tests.
    Junit,
}

#[derive(ClapArgs)]
pub(crate) struct PolicyCheckArgs {
    /// The policy files.
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// How to print the findings.
    #[arg(long, value_enum, default_value_t = ReportFormat::Text)]
    pub(crate) format: ReportFormat,
}

#[derive(ClapArgs)]
pub(crate) struct PolicyDiffArgs {
    /// The old policy.
    pub(crate) old: PathBuf,
    /// The new one.
    pub(crate) new: PathBuf,
    /// How to print it.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

#[derive(ClapArgs)]
pub(crate) struct PolicyReloadArgs {
    /// The folder of the service's keyspace.
    #[arg(long, value_name = "DIR", env = "CRYPTO_HOME")]
    pub(crate) home: Option<PathBuf>,
    /// How to print it.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

#[derive(ClapArgs)]
pub(crate) struct PolicyFmtArgs {
    /// The files: policies, or cases. `-` is standard input, and is written to standard output.
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Change nothing; print the files that are laid out otherwise.
    #[arg(long)]
    pub(crate) check: bool,
    /// How to print which files are laid out otherwise.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

#[derive(ClapArgs)]
pub(crate) struct PolicyExplainArgs {
    /// The policy file [default: policy.toml beside the keyspace].
    #[arg(long, value_name = "FILE", env = "CRYPTO_POLICY")]
    pub(crate) policy: Option<PathBuf>,
    /// Where the policy is, if it is not named.
    #[arg(long, value_name = "DIR", env = "CRYPTO_HOME", hide = true)]
    pub(crate) home: Option<PathBuf>,
    /// The client of the policy, or `anonymous`.
    #[arg(long = "as", value_name = "CLIENT", default_value = "anonymous")]
    pub(crate) caller: String,
    /// The host function.
    #[arg(long, value_name = "NAME")]
    pub(crate) call: String,
    /// What it is on: a key as `space/key`, or a key space.
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// A file with the message [default: an empty one].
    #[arg(long, value_name = "FILE")]
    pub(crate) message: Option<PathBuf>,
    /// The namespace of `sign_in`.
    #[arg(long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// The algorithm of the key [default: ed25519].
    #[arg(long, value_name = "NAME")]
    pub(crate) algorithm: Option<String>,
    /// The script that makes the call [default: none that a role is for].
    #[arg(long, value_name = "FILE")]
    pub(crate) script: Option<PathBuf>,
    /// When, such as 2027-06-30T00:00:00Z [default: now].
    #[arg(long, value_name = "INSTANT")]
    pub(crate) at: Option<String>,
    /// How to print it.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

#[derive(ClapArgs)]
pub(crate) struct PolicyTestArgs {
    /// The policy file.
    pub(crate) policy: PathBuf,
    /// The files of cases [default: POLICY with the ending `.cases.toml`].
    pub(crate) cases: Vec<PathBuf>,
    /// Fail if a rule takes effect in no case, and name it.
    #[arg(long)]
    pub(crate) coverage: bool,
    /// How to print the outcome.
    #[arg(long, value_enum, default_value_t = TestFormat::Text)]
    pub(crate) format: TestFormat,
}
