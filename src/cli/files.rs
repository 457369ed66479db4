//! Files that the arguments name: bounded, and errors that say which.

use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use broker::{Audit, ProofMark, Records};
use keyspace::{Home, KeyspaceError, Locked, Passphrase};
use policy::{Caller, MAX_POLICY_BYTES, Policy};
use proof::Identity;
use wire::Hidden;
use wire::script::MAX_SCRIPT_BYTES;

use crate::admin::Service;
use crate::args::Unlock;
use crate::exit::{Exit, Fault};
use crate::output::STANDARD;
use crate::{passphrase, say};

/// The place of the mark of used proofs.
const MARK_FILE: &str = "used-proofs";

/// Largest file with a private key, in bytes: that of OpenSSH for P-256 has 505.
const MAX_KEY_FILE_BYTES: usize = 8 * 1024;

/// How long a command that holds the keyspace is waited for.
const HELD: Duration = Duration::from_secs(3);
/// How often it is looked whether it has ended.
const PAUSE: Duration = Duration::from_millis(50);

/// A policy with the text it was read from.
pub(crate) struct PolicyFile {
    pub(crate) policy: Policy,
    pub(crate) text: String,
}

/// The home that was named, or the one of this user (XDG Base Directory Specification).
pub(crate) fn home_path(named: Option<&Path>) -> Result<PathBuf, Fault> {
    let from =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = || from("XDG_DATA_HOME").or_else(|| Some(from("HOME")?.join(".local/share")));
    let home = named.map(Path::to_owned).or_else(|| Some(data()?.join("crypto-cli")));
    home.ok_or_else(|| Fault::usage("no home: use --home"))
}

/// The policy file that was named, or the one in the home.
pub(crate) fn policy_path(named: Option<&Path>, home: Option<&Path>) -> Result<PathBuf, Fault> {
    match named {
        Some(path) => Ok(path.to_owned()),
        None => Ok(home_path(home)?.join("policy.toml")),
    }
}

pub(crate) fn read_policy(path: &Path) -> Result<PolicyFile, Fault> {
    if std::fs::metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        let path = path.display();
        return Err(Fault::usage(format!(
            "there is no policy `{path}`: write one there, or name another with `--policy`"
        )));
    }
    let bytes = read_bounded(path, MAX_POLICY_BYTES)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Fault::usage(format!("`{}` is not UTF-8", path.display())))?;
    let policy = Policy::parse(&path.display().to_string(), &text);
    let policy = policy.map_err(|found| {
        let see = format!("`crypto-cli policy check {}` shows each in its line", path.display());
        Fault::usage(format!("the policy is refused\n{found}\n{see}"))
    })?;
    Ok(PolicyFile { policy, text })
}

/// A script from a file, or from standard input for `-`. One byte over the largest of any policy
/// suffices to have it refused.
pub(crate) fn read_script(path: &Path) -> Result<Vec<u8>, Fault> {
    read_first(path, MAX_SCRIPT_BYTES + 1)
}

/// A file with a private key, or standard input for `-`; wiped when it is dropped.
pub(crate) fn read_private(path: &Path) -> Result<Hidden, Fault> {
    let name = path.display().to_string();
    let mut bytes = Vec::with_capacity(MAX_KEY_FILE_BYTES + 1);
    let limit = u64::try_from(MAX_KEY_FILE_BYTES + 1).unwrap_or(u64::MAX);
    let read = if path == Path::new(STANDARD) {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| {
            warn_if_shown(&name, &file.metadata()?);
            file.take(limit).read_to_end(&mut bytes)
        })
    };
    let hidden = Hidden::new(bytes);
    read.map_err(|error| Fault::usage(format!("cannot read `{name}`: {error}")))?;
    if hidden.expose(<[u8]>::len) > MAX_KEY_FILE_BYTES {
        return Err(Fault::usage(format!("`{name}` has more than {MAX_KEY_FILE_BYTES} bytes")));
    }
    Ok(hidden)
}

/// Who asks this service, with the seed of this file.
pub(crate) fn client(
    seed: &Path,
    service: &str,
    service_nkey: &str,
) -> Result<client::Caller, Fault> {
    if service.is_empty() {
        return Err(Fault::usage(
            "`--service`, or `CRYPTO_SERVICE`, is empty: it is the service's name in its policy",
        ));
    }
    let service_nkey = checked_nkey(service_nkey)?.to_owned();
    let identity = read_identity(seed)?;
    Ok(client::Caller { identity, service: service.to_owned(), service_nkey })
}

/// The public nkey of a service: with a slip in it, everything would be taken for forged. What it is instead may be
/// a seed, and is not shown.
pub(crate) fn checked_nkey(text: &str) -> Result<&str, Fault> {
    let named = proof::service_key(text).map(|_| text);
    named.ok_or_else(|| {
        let text = "`--service-nkey` is not the public nkey of a service: 56 characters that begin with `N` \
                    and end with a check sum, as `init` prints them";
        Fault::usage(text)
    })
}

/// A caller's seed, from its file.
pub(crate) fn read_identity(path: &Path) -> Result<Identity, Fault> {
    if let Ok(metadata) = std::fs::metadata(path) {
        warn_if_shown(&path.display().to_string(), &metadata);
    }
    Ok(client::read_identity(path)?)
}

/// Says so where others may read a file that is secret.
pub(crate) fn warn_if_shown(name: &str, metadata: &Metadata) {
    if metadata.is_file() && metadata.mode() & 0o077 != 0 {
        say::talk(&format!("crypto-cli: warning: other users may read `{name}`: `chmod go=` it"));
    }
}

/// A whole file of at most so many bytes, or standard input for `-`.
pub(crate) fn read_bounded(path: &Path, most: usize) -> Result<Vec<u8>, Fault> {
    let bytes = read_first(path, most + 1)?;
    if bytes.len() > most {
        let text = format!("`{}` has more than {most} bytes", path.display());
        return Err(Fault::usage(text));
    }
    Ok(bytes)
}

/// The first bytes of a file.
fn read_first(path: &Path, most: usize) -> Result<Vec<u8>, Fault> {
    if path == Path::new(STANDARD) {
        return read_from(std::io::stdin().lock(), "standard input", most);
    }
    let name = path.display().to_string();
    let file = File::open(path).map_err(|e| Fault::usage(format!("cannot open `{name}`: {e}")))?;
    read_from(file, &name, most)
}

fn read_from(source: impl Read, name: &str, most: usize) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX);
    let read = source.take(limit).read_to_end(&mut bytes);
    read.map_err(|error| Fault::usage(format!("cannot read `{name}`: {error}")))?;
    Ok(bytes)
}

/// The home that the arguments name, with a keyspace in it.
pub(crate) fn home(named: Option<&Path>) -> Result<Home, Fault> {
    let home = Home::open(&home_path(named)?)?;
    home.check_keyspace()?;
    Ok(home)
}

/// Reads the passphrase of the keyspace that the arguments name, and then opens it: a prompt that nobody answers
/// must hold nobody up.
pub(crate) fn open(unlock: &Unlock) -> Result<(Home, Locked, Passphrase), Fault> {
    let home = home(unlock.home.as_deref())?;
    let passphrase = passphrase::unlocking(&unlock.passphrase)?;
    let locked = hold(&home)?;
    Ok((home, locked, passphrase))
}

/// Opens a keyspace, and leaves it locked. Another command may hold it for a moment; a service stays.
pub(crate) fn hold(home: &Home) -> Result<Locked, Fault> {
    let until = Instant::now() + HELD;
    loop {
        match Locked::open(home) {
            Err(KeyspaceError::InUse { .. })
                if Instant::now() < until && Service::reach(home.path())?.is_none() =>
            {
                std::thread::sleep(PAUSE);
            }
            opened => return Ok(opened?),
        }
    }
}

/// Opens what the broker writes besides the keyspace.
pub(crate) fn open_records(home: &Home, policy: &Policy) -> Result<Records, Fault> {
    let unusable = |path: &Path, error: &dyn std::fmt::Display| {
        Fault::new(Exit::Unavailable, format!("`{}`: {error}", path.display()))
    };
    let mark = home.file(MARK_FILE);
    let records = Records {
        audit: Audit::open(home.path(), policy.audit())?,
        mark: ProofMark::open(&mark, now()).map_err(|error| unusable(&mark, &error))?,
    };
    // A file whose name is not on disk is lost with the power.
    home.sync()?;
    Ok(records)
}

/// The worker's executable: beside our own.
pub(crate) fn worker_path() -> Result<PathBuf, Fault> {
    let own = std::env::current_exe();
    let own = own.map_err(|error| Fault::system("cannot find this program's own file", &error))?;
    let path = own.with_file_name("crypto-cli-worker");
    if path.is_file() {
        return Ok(path);
    }
    let text = format!("`{}` is missing: install it beside `crypto-cli`", path.display());
    Err(Fault::new(Exit::Unavailable, text))
}

/// The caller that `--as` names; without it the anonymous one.
pub(crate) fn caller(policy: &Policy, name: Option<&str>) -> Result<Caller, Fault> {
    match name {
        // As the audit log and `policy explain` call it; no client can have this name.
        None | Some("anonymous") => policy
            .anonymous()
            .ok_or_else(|| Fault::usage("the policy has no [anonymous]: name a client with --as")),
        Some(name) => policy.client_by_name(name, now()).ok_or_else(|| {
            Fault::usage(format!(
                "the policy has no client `{}`, or it has expired, or is revoked",
                name.escape_debug()
            ))
        }),
    }
}

/// An instant as people write it, with an offset (RFC 3339).
pub(crate) fn instant(text: &str) -> Result<jiff::Timestamp, Fault> {
    text.parse().map_err(|_| {
        Fault::usage(format!(
            "`{}` is not an instant: write one such as 2027-06-30T00:00:00Z",
            text.escape_debug()
        ))
    })
}

/// Unix seconds.
pub(crate) fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}
