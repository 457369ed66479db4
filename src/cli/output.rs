//! Files that are written: whole, or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat};

use crate::exit::{Exit, Fault};

/// Standard input or output, in the place of a file.
pub(crate) const STANDARD: &str = "-";

/// A file that is written whole and takes no other's place.
pub(crate) struct Output {
    path: PathBuf,
    file: File,
    place: Place,
}

/// Where it is until it is whole.
enum Place {
    /// Nowhere: it has no name yet, and is gone with the process however that ends.
    Nameless,
    /// Where files without a name cannot be.
    Beside(Draft),
    /// It is standard output, which is written as it comes.
    Standard,
}

impl Output {
    /// Refuses a place that is taken, before anybody is asked anything.
    pub(crate) fn check(path: &Path) -> Result<(), Fault> {
        if path == Path::new(STANDARD) {
            let is_terminal = io::stdout().is_terminal();
            let text = "what is written is not for a terminal: name a file";
            return if is_terminal { Err(Fault::usage(text)) } else { Ok(()) };
        }
        if fs::symlink_metadata(path).is_err() {
            return Ok(());
        }
        let shown = path.display();
        Err(Fault::usage(format!("`{shown}` is there already: it is left as it was")))
    }

    pub(crate) fn create(path: &Path) -> Result<Self, Fault> {
        Self::check(path)?;
        let path = path.to_owned();
        if path == Path::new(STANDARD) {
            let file = io::stdout().as_fd().try_clone_to_owned().map_err(cannot_write(&path))?;
            return Ok(Self { path, file: file.into(), place: Place::Standard });
        }
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        if let Ok(file) = rustix::fs::open(folder_of(&path), flags, Mode::RUSR | Mode::WUSR) {
            return Ok(Self { path, file: file.into(), place: Place::Nameless });
        }
        let (draft, file) = Draft::create(&path).map_err(cannot_write(&path))?;
        Ok(Self { path, file, place: Place::Beside(draft) })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let shown = self.path.display();
        self.file
            .write_all(bytes)
            .map_err(|error| io::Error::new(error.kind(), format!("`{shown}`: {error}")))
    }

    /// Puts it in its place, on disk.
    pub(crate) fn finish(self) -> Result<(), Fault> {
        if matches!(self.place, Place::Standard) {
            return Ok(());
        }
        let placed = self.file.sync_all().and_then(|()| self.place());
        let placed = placed.and_then(|()| File::open(folder_of(&self.path))?.sync_all());
        placed.map_err(|error| {
            Fault::new(
                Exit::Unavailable,
                format!("cannot write `{}`: {error}", self.path.display()),
            )
        })
    }

    /// A link, unlike a rename, does not take the place of a file that was made meanwhile.
    fn place(&self) -> io::Result<()> {
        match &self.place {
            Place::Standard => Ok(()),
            Place::Nameless => {
                let open = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                Ok(linkat(CWD, open, CWD, self.path.as_path(), AtFlags::SYMLINK_FOLLOW)?)
            }
            Place::Beside(Draft(draft)) => match fs::hard_link(draft, &self.path) {
                // Not every file system has links.
                Err(error)
                    if error.kind() != io::ErrorKind::AlreadyExists && !self.path.exists() =>
                {
                    fs::rename(draft, &self.path)
                }
                linked => linked,
            },
        }
    }
}

/// A bundle to read, or standard input for `-`, which is kept in a file without a name: it is read twice.
pub(crate) fn source(path: &Path) -> Result<File, Fault> {
    let shown = path.display().to_string();
    let cannot = |error: io::Error| Fault::usage(format!("cannot read `{shown}`: {error}"));
    if path == Path::new(STANDARD) {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let spool = rustix::fs::open(std::env::temp_dir(), flags, Mode::RUSR | Mode::WUSR);
        let mut spool = File::from(spool.map_err(|error| cannot(error.into()))?);
        io::copy(&mut io::stdin().lock(), &mut spool).map_err(cannot)?;
        return Ok(spool);
    }
    let file = File::open(path).map_err(cannot)?;
    if !file.metadata().map_err(cannot)?.is_file() {
        return Err(Fault::usage(format!("`{shown}` is not a regular file")));
    }
    Ok(file)
}

/// Puts a whole file in the place of another, which it has the owner and the rights of. A link stays one.
pub(crate) fn replace(path: &Path, contents: &[u8]) -> Result<(), Fault> {
    let written = fs::canonicalize(path).and_then(|path| {
        let old = fs::metadata(&path)?;
        let (draft, mut file) = Draft::create(&path)?;
        file.write_all(contents)?;
        let new = file.metadata()?;
        if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
            fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
        file.set_permissions(old.permissions())?;
        file.sync_all()?;
        fs::rename(&draft.0, &path)?;
        File::open(folder_of(&path))?.sync_all()
    });
    written.map_err(cannot_write(path))
}

/// A file beside the one that it is to be, which is removed again unless it was moved there.
struct Draft(PathBuf);

impl Draft {
    fn create(path: &Path) -> io::Result<(Self, File)> {
        let mut draft = path.as_os_str().to_owned();
        draft.push(format!(".{}.part", std::process::id()));
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&draft)?;
        Ok((Self(draft.into()), file))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // What is left over has no use, and is in nobody's way: its name is this process's.
        let _left = fs::remove_file(&self.0);
    }
}

fn folder_of(path: &Path) -> &Path {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

fn cannot_write(path: &Path) -> impl FnOnce(io::Error) -> Fault {
    let shown = path.display().to_string();
    move |error| Fault::usage(format!("cannot write `{shown}`: {error}"))
}
