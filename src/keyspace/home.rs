//! The folder that holds a keyspace: private to its owner, or refused.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::error::KeyspaceError;
use crate::store::FILE;

/// Bits of a mode that let others read, write or enter.
const OTHERS: u32 = 0o077;

/// A folder that only its owner can enter.
#[derive(Debug, Clone)]
pub struct Home(PathBuf);

impl Home {
    /// Accepts an existing folder.
    ///
    /// # Errors
    /// When it is missing, no folder, another user's, or open to others.
    pub fn open(path: &Path) -> Result<Self, KeyspaceError> {
        let found = fs::metadata(path);
        if found.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return Err(KeyspaceError::Missing(path.to_owned()));
        }
        let metadata = found.map_err(io_at(path))?;
        if !metadata.is_dir() {
            return Err(exposed(path, "is not a folder"));
        }
        check_owner(path, &metadata)?;
        Ok(Self(path.to_owned()))
    }

    /// Sees whether there is a keyspace in it, before anybody is asked for a passphrase.
    ///
    /// # Errors
    /// When there is none.
    pub fn check_keyspace(&self) -> Result<(), KeyspaceError> {
        match fs::symlink_metadata(self.file(FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(KeyspaceError::Missing(self.0.clone()))
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Makes the folder, or accepts an existing one. An empty one is closed to others.
    ///
    /// # Errors
    /// As [`Home::open`], or when it cannot be made.
    pub fn create(path: &Path) -> Result<Self, KeyspaceError> {
        let ours = fs::metadata(path).is_ok_and(|found| found.uid() == own_uid());
        if ours && fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none()) {
            let private = fs::Permissions::from_mode(0o700);
            fs::set_permissions(path, private).map_err(io_at(path))?;
        }
        let changed = changed_by_creating(path);
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io_at(path))?;
        changed.into_iter().try_for_each(sync)?;
        Self::open(path)
    }

    /// A file in it.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes the folder's entries durable: a new file is lost without it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn sync(&self) -> Result<(), KeyspaceError> {
        sync(&self.0)
    }
}

/// Who holds the lock of a file, in words: the kernel lists locks by the numbers of files (proc_locks(5)).
pub(crate) fn holder(path: &Path) -> String {
    let unknown = || "another process".to_owned();
    let Ok(metadata) = fs::metadata(path) else { return unknown() };
    let suffix = format!(":{}", metadata.ino());
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let held = locks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let process = held.into_iter().find_map(|words| match words.as_slice() {
        [_, "FLOCK", _, _, process, file, ..] if file.ends_with(&suffix) => {
            process.parse::<u32>().ok()
        }
        _ => None,
    });
    let Some(process) = process.filter(|process| *process != 0) else { return unknown() };
    match fs::read_to_string(format!("/proc/{process}/comm")) {
        Ok(name) => format!("process {process} (`{}`)", name.trim_end().escape_debug()),
        Err(_) => format!("process {process}"),
    }
}

fn sync(folder: &Path) -> Result<(), KeyspaceError> {
    File::open(folder).and_then(|opened| opened.sync_all()).map_err(io_at(folder))
}

/// The folders that get a new entry when this one is made with all above it: each must be durable, or what is made in
/// them is lost with them.
fn changed_by_creating(path: &Path) -> Vec<&Path> {
    let missing = path.ancestors().take_while(|folder| !folder.exists());
    let parents = missing.filter_map(Path::parent);
    // The parent of a relative name without a folder is where the process stands.
    parents
        .map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
        .collect()
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Refuses a file or folder of another user, or that others can reach.
pub(crate) fn check_owner(path: &Path, metadata: &fs::Metadata) -> Result<(), KeyspaceError> {
    if metadata.uid() != own_uid() {
        return Err(exposed(path, "belongs to another user: run this as that user"));
    }
    if metadata.mode() & OTHERS != 0 {
        return Err(exposed(path, "is open to other users: take their rights with `chmod go=`"));
    }
    Ok(())
}

pub(crate) fn exposed(path: &Path, what: &'static str) -> KeyspaceError {
    KeyspaceError::Exposed { path: path.to_owned(), what }
}

pub(crate) fn io_at(path: &Path) -> impl FnOnce(io::Error) -> KeyspaceError {
    let path = path.to_owned();
    move |source| KeyspaceError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_folder_that_gets_a_new_entry_is_made_durable() {
        let folder = tempfile::TempDir::new().unwrap();
        let [a, b, c] = ["a", "a/b", "a/b/c"].map(|name| folder.path().join(name));
        assert_eq!(changed_by_creating(&c), [b.as_path(), a.as_path(), folder.path()]);
        Home::create(&c).unwrap();
        assert!(changed_by_creating(&c).is_empty(), "it is there");
        assert_eq!(changed_by_creating(&c.join("d")), [&c]);
        let relative = Path::new("none-of-that-name/below");
        assert_eq!(changed_by_creating(relative), [Path::new("none-of-that-name"), Path::new(".")]);
    }
}
