//! Arguments of the operator's commands.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};

use super::{Format, PassphraseArgs, Unlock};
use crate::passphrase::Source;

#[derive(Subcommand)]
pub(crate) enum KeyspaceCommand {
    /// Make a key space.
    New(SpaceArgs),
    /// List the key spaces.
    List(OperateArgs),
    /// Tell a key space with the number of its keys.
    Show(SpaceArgs),
    /// Give a key space another name.
    Rename(RenameArgs),
    /// Destroy a key space with all its keys.
    Delete(DestroySpaceArgs),
    /// Write key spaces to an encrypted bundle.
    Export(ExportArgs),
    /// Read a bundle.
    Import(ImportArgs),
    /// Change, add or remove a passphrase.
    Passwd(PasswdArgs),
    /// Give the keyspace a new root key and encrypt everything anew.
    Rotate(RotateArgs),
    /// Open every record.
    Verify(OperateArgs),
}

#[derive(Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key.
    New(NewKeyArgs),
    /// List the keys of all key spaces, or of one.
    List(KeyListArgs),
    /// Tell a key with its versions.
    Show(KeyArgs),
    /// Give a key a new version.
    Rotate(KeyArgs),
    /// Let a key not be used until it is enabled.
    Disable(KeyArgs),
    /// Let a disabled key be used.
    Enable(KeyArgs),
    /// Let a key not be used, and be destroyed after a time.
    Delete(DeleteKeyArgs),
    /// Take a deleted key back; it is disabled then.
    Restore(KeyArgs),
    /// Destroy a deleted key whose time has come.
    Destroy(DestroyKeyArgs),
    /// Make a key of a private key that others made and wrapped.
    Import(ImportKeyArgs),
    /// Wrap a private key for a keyspace.
    Wrap(WrapArgs),
    /// Print to whom private keys and bundles are encrypted that this keyspace is to open.
    Recipient(OperateArgs),
    /// Print a public key.
    Public(PublicArgs),
}

/// Which keyspace, and how to print what is done to it.
#[derive(ClapArgs)]
pub(crate) struct OperateArgs {
    #[command(flatten)]
    pub(crate) unlock: Unlock,
    /// How to print it.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

#[derive(ClapArgs)]
pub(crate) struct SpaceArgs {
    /// The key space.
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) operate: OperateArgs,
}

#[derive(ClapArgs)]
pub(crate) struct RenameArgs {
    /// The key space.
    pub(crate) name: String,
    /// Its new name.
    pub(crate) new: String,
    #[command(flatten)]
    pub(crate) operate: OperateArgs,
}

#[derive(ClapArgs)]
pub(crate) struct DestroySpaceArgs {
    #[command(flatten)]
    pub(crate) space: SpaceArgs,
    /// Ask nothing.
    #[arg(long)]
    pub(crate) yes: bool,
}

/// The passphrase of a bundle.
#[derive(ClapArgs)]
pub(crate) struct BundlePassphraseArgs {
    /// A file with the bundle's passphrase.
    #[arg(long, value_name = "FILE", conflicts_with = "bundle_passphrase_fd")]
    pub(crate) bundle_passphrase_file: Option<PathBuf>,
    /// An open descriptor to read the bundle's passphrase from.
    #[arg(long, value_name = "N")]
    pub(crate) bundle_passphrase_fd: Option<u32>,
}

#[derive(ClapArgs)]
pub(crate) struct ExportArgs {
    /// The key spaces.
    #[arg(required_unless_present = "all")]
    pub(crate) names: Vec<String>,
    /// All key spaces.
    #[arg(long, conflicts_with = "names")]
    pub(crate) all: bool,
    /// The file to write, which must not be there; `-` for standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Encrypt to this `age1...` instead of a passphrase; several can open it.
    #[arg(long, value_name = "RECIPIENT", conflicts_with_all = ["bundle_passphrase_file", "bundle_passphrase_fd"])]
    pub(crate) to: Vec<String>,
    #[command(flatten)]
    pub(crate) bundle: BundlePassphraseArgs,
    #[command(flatten)]
    pub(crate) operate: OperateArgs,
}

#[derive(ClapArgs)]
pub(crate) struct ImportArgs {
    /// The bundle, or `-` for standard input.
    pub(crate) file: PathBuf,
    /// The name to give its one key space here.
    #[arg(long, value_name = "NEW")]
    pub(crate) rename: Option<String>,
    /// Leave what is here already as it is, and take the rest.
    #[arg(long)]
    pub(crate) skip_existing: bool,
    /// The bundle was encrypted to the recipient of this keyspace, and not to a passphrase.
    #[arg(long, conflicts_with_all = ["bundle_passphrase_file", "bundle_passphrase_fd"])]
    pub(crate) to_us: bool,
    #[command(flatten)]
    pub(crate) bundle: BundlePassphraseArgs,
    #[command(flatten)]
    pub(crate) operate: OperateArgs,
}

/// Whose a passphrase is.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Slot {
    /// The operator's.
    Operator,
    /// One that is kept away for the day that the others are lost.
    Backup,
    /// One that the machine gives to the service at its start.
    Credential,
}

/// What deriving a key from a passphrase costs.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kdf {
    /// Argon2id of 64 MiB, 3 passes, 4 lanes.
    Standard,
    /// Of up to 256 MiB, so that it takes about a second on this machine.
    Calibrate,
}

#[derive(ClapArgs)]
pub(crate) struct PasswdArgs {
    /// Whose passphrase is changed or added.
    #[arg(long, value_enum, default_value_t = Slot::Operator)]
    pub(crate) set: Slot,
    /// Take it away instead.
    #[arg(long, conflicts_with_all = ["new_passphrase_file", "new_passphrase_fd", "kdf"])]
    pub(crate) remove: bool,
    /// A file with the new passphrase.
    #[arg(long, value_name = "FILE", conflicts_with = "new_passphrase_fd")]
    pub(crate) new_passphrase_file: Option<PathBuf>,
    /// An open descriptor to read the new passphrase from.
    #[arg(long, value_name = "N")]
    pub(crate) new_passphrase_fd: Option<u32>,
    /// What deriving a key from it costs [default: what it costs now, and `standard` at least].
    #[arg(long, value_enum)]
    pub(crate) kdf: Option<Kdf>,
    /// Ask nothing.
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) operate: OperateArgs,
}

#[derive(ClapArgs)]
pub(crate) struct RotateArgs {
    /// Ask nothing.
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) operate: OperateArgs,
}

#[derive(ClapArgs)]
pub(crate) struct KeyListArgs {
    /// Only the keys of this key space.
    pub(crate) space: Option<String>,
    #[command(flatten)]
    pub(crate) operate: OperateArgs,
}

#[derive(ClapArgs)]
pub(crate) struct KeyArgs {
    /// The key, as `space/key`.
    pub(crate) key: String,
    #[command(flatten)]
    pub(crate) operate: OperateArgs,
}

#[derive(ClapArgs)]
pub(crate) struct NewKeyArgs {
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    /// What it is for: ed25519, secp256k1, p256, x25519 or symmetric.
    #[arg(long, value_name = "NAME", default_value = "ed25519")]
    pub(crate) algorithm: String,
}

#[derive(ClapArgs)]
pub(crate) struct DeleteKeyArgs {
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    /// Days after which it can be destroyed.
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub(crate) wait_days: u32,
    /// Ask nothing.
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(ClapArgs)]
pub(crate) struct DestroyKeyArgs {
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    /// Ask nothing.
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(ClapArgs)]
pub(crate) struct ImportKeyArgs {
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    /// The wrapped private key, as `crypto-cli key wrap` or `age` writes it, or `-` for standard input.
    pub(crate) file: PathBuf,
    /// What it is for, where the file does not say.
    #[arg(long, value_name = "NAME")]
    pub(crate) algorithm: Option<String>,
}

#[derive(ClapArgs)]
pub(crate) struct WrapArgs {
    /// The private key: PKCS#8 or SEC 1 in PEM, OpenSSH, the seed of an nkey, or 32 bytes; `-` for standard
    /// input.
    pub(crate) file: PathBuf,
    /// The recipient that `crypto-cli key recipient` prints.
    #[arg(long, value_name = "RECIPIENT", required = true)]
    pub(crate) to: String,
    /// How to print where it is.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
    /// The file to write, which must not be there; `-` for standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) output: PathBuf,
}

#[derive(ClapArgs)]
pub(crate) struct PublicArgs {
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    /// How: hex, base64, pem, jwk, ssh, nkey or ethereum.
    #[arg(long = "as", value_name = "FORM", default_value = "hex")]
    pub(crate) form: String,
}

impl BundlePassphraseArgs {
    /// The same, as any passphrase. What makes it needless is `instead`.
    pub(crate) fn source(&self, instead: &'static str, is_new: bool) -> Source {
        let args =
            PassphraseArgs::of(self.bundle_passphrase_file.clone(), self.bundle_passphrase_fd);
        Source { args, prefix: "bundle-", name: "bundle passphrase".to_owned(), instead, is_new }
    }
}

impl PasswdArgs {
    /// The new passphrase, as any passphrase.
    pub(crate) fn source(&self) -> Source {
        let args = PassphraseArgs::of(self.new_passphrase_file.clone(), self.new_passphrase_fd);
        let name = format!("{} passphrase", self.set.kind().word());
        Source { args, prefix: "new-", name, instead: "", is_new: true }
    }
}
