//! Small files of the home.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Puts a whole file in the place of another: after a crash there is the old one or the new one, and the new one
/// once this has returned.
pub(crate) fn replace(folder: &Path, name: &str, contents: &[u8]) -> io::Result<()> {
    let beside = folder.join(format!("{name}.new"));
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(contents)?;
    file.sync_data()?;
    std::fs::rename(beside, folder.join(name))?;
    File::open(folder)?.sync_all()
}

/// Reads a file of the folder, if it is there, up to this many bytes.
pub(crate) fn read_small(folder: &Path, name: &str, most: u64) -> io::Result<Option<String>> {
    let file = match File::open(folder.join(name)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.take(most).read_to_string(&mut text)?;
    Ok(Some(text))
}
