//! Memory for secrets: pages that no other process can read, the kernel's own reading included where it has
//! `memfd_secret(2)`, and that never reach a disk.
#![expect(
    unsafe_code,
    reason = "memory that the kernel keeps to this process is asked of it by hand"
)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Bytes of a cell: the longest secret that is held for long has 32.
pub const CELL_BYTES: usize = 64;
/// Cells, where a process may lock that much: 1 MiB, more than the new keys that any policy grants one script.
const CELLS: u16 = 16 * 1024;
/// Cells where it may not: 32 KiB, half of the least that systems grant.
const FEW_CELLS: u16 = 512;
/// Cells that are kept back for what lives long, however many others hold at once.
const KEPT_BACK: usize = 128;

/// What the kernel grants to the memory for secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretKind {
    /// Pages that are taken out of the kernel's own view: `memfd_secret`.
    Secret,
    /// Pages that are kept out of swap and core files.
    Locked,
    /// Pages that are kept out of core files.
    Plain,
}

/// The cells.
pub struct SecretMemory {
    base: NonNull<u8>,
    kind: SecretKind,
    free: Mutex<Vec<u16>>,
}

/// One cell, in one hand. It is wiped when it is given back.
pub struct SecretCell {
    memory: &'static SecretMemory,
    number: u16,
}

static MEMORY: OnceLock<Option<SecretMemory>> = OnceLock::new();

/// The memory of this process, `None` where the kernel gives none at all. The first call makes it, and takes
/// system calls that a confined process has no more.
pub fn secret_memory() -> Option<&'static SecretMemory> {
    MEMORY.get_or_init(|| SecretMemory::map().ok()).as_ref()
}

// SAFETY: `base` points at pages that are mapped for as long as the process lives. Nobody reaches them but through
// cells, of which each has bytes of its own and is in one hand, as `free` sees to.
unsafe impl Send for SecretMemory {}
// SAFETY: as above; the list of free cells is behind a lock, and everything else is never changed.
unsafe impl Sync for SecretMemory {}

impl SecretKind {
    /// For people.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Secret => "memfd_secret",
            Self::Locked => "locked",
            Self::Plain => "plain",
        }
    }
}

impl SecretMemory {
    /// What the kernel granted.
    #[must_use]
    pub fn kind(&self) -> SecretKind {
        self.kind
    }

    /// A cell of zeros, unless all are taken.
    #[must_use]
    pub fn take(&'static self) -> Option<SecretCell> {
        self.take_above(0)
    }

    /// A cell of zeros for one of many secrets, which leaves some for others: `None` when no more are free than
    /// are kept back.
    #[must_use]
    pub fn take_one_of_many(&'static self) -> Option<SecretCell> {
        self.take_above(KEPT_BACK)
    }

    fn take_above(&'static self, left: usize) -> Option<SecretCell> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let number = if free.len() > left { free.pop() } else { None };
        number.map(|number| SecretCell { memory: self, number })
    }

    fn map() -> io::Result<Self> {
        let secret =
            |cells| map_secret(bytes_of(cells)).map(|base| (base, SecretKind::Secret, cells));
        let locked = |cells| map_locked(bytes_of(cells)).map(|(base, kind)| (base, kind, cells));
        let made = secret(CELLS).or_else(|_| secret(FEW_CELLS));
        let (base, kind, cells) = match made.or_else(|_| locked(CELLS))? {
            (_, SecretKind::Plain, _) => locked(FEW_CELLS)?,
            made => made,
        };
        Ok(Self { base, kind, free: Mutex::new((0..cells).rev().collect()) })
    }
}

impl SecretCell {
    /// Its first bytes.
    #[must_use]
    pub fn bytes<const N: usize>(&self) -> &[u8; N] {
        // SAFETY: the bytes lie within the mapping, which lasts as long as the process, and nobody writes to them
        // while they are borrowed from their only owner.
        unsafe { self.at().as_ref() }
    }

    /// Its first bytes, to be filled.
    pub fn bytes_mut<const N: usize>(&mut self) -> &mut [u8; N] {
        // SAFETY: as above, and the borrow is the only one.
        unsafe { self.at().as_mut() }
    }

    fn at<const N: usize>(&self) -> NonNull<[u8; N]> {
        const { assert!(N <= CELL_BYTES, "a cell is too small for it") };
        // SAFETY: `number` is one of the cells that were mapped, so that the whole cell lies within the mapping; bytes have no
        // alignment.
        unsafe { self.memory.base.add(usize::from(self.number) * CELL_BYTES).cast() }
    }
}

impl Drop for SecretCell {
    fn drop(&mut self) {
        for byte in self.bytes_mut::<CELL_BYTES>() {
            // SAFETY: a byte of our own cell. The write is volatile so that it is not left out, although nobody
            // reads it.
            unsafe { std::ptr::from_mut(byte).write_volatile(0) };
        }
        let mut free = self.memory.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.push(self.number);
    }
}

fn bytes_of(cells: u16) -> usize {
    CELL_BYTES * usize::from(cells)
}

fn map_secret(bytes: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: the call takes flags alone, and gives a new descriptor or an error.
    let number = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
    let number = i32::try_from(number).ok().filter(|number| *number >= 0);
    let number = number.ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the descriptor is new and nobody else's.
    let file = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::fs::ftruncate(&file, bytes as u64)?;
    map(bytes, libc::MAP_SHARED, file.as_raw_fd())
}

fn map_locked(bytes: usize) -> io::Result<(NonNull<u8>, SecretKind)> {
    let base = map(bytes, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)?;
    let start = base.as_ptr().cast();
    // SAFETY: the whole of a mapping that is ours; both calls change how the kernel keeps it and not what is in it.
    let (dumps, locks) =
        unsafe { (libc::madvise(start, bytes, libc::MADV_DONTDUMP), libc::mlock(start, bytes)) };
    if dumps != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((base, if locks == 0 { SecretKind::Locked } else { SecretKind::Plain }))
}

fn map(bytes: usize, flags: i32, file: i32) -> io::Result<NonNull<u8>> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice touches no memory that is in use.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, file, 0) };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(base.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn a_cell_is_wiped_before_another_has_it() {
        let memory = secret_memory().unwrap();
        let mut cell = memory.take().unwrap();
        assert_eq!(cell.bytes(), &[0; CELL_BYTES]);
        cell.bytes_mut::<CELL_BYTES>().fill(7);
        let number = cell.number;
        let other = memory.take().unwrap();
        assert_ne!(other.number, number);
        assert_eq!(other.bytes(), &[0; CELL_BYTES]);
        drop(cell);
        let again = memory.take().unwrap();
        assert_eq!((again.number, again.bytes()), (number, &[0; CELL_BYTES]));
    }

    #[test]
    fn many_secrets_leave_room_for_those_that_live_long() {
        let memory: &SecretMemory = Box::leak(Box::new(SecretMemory::map().unwrap()));
        let many: Vec<_> = std::iter::from_fn(|| memory.take_one_of_many()).collect();
        assert!(many.len() >= usize::from(FEW_CELLS) - KEPT_BACK, "{}", many.len());
        let kept: Vec<_> = std::iter::from_fn(|| memory.take()).collect();
        assert_eq!(kept.len(), KEPT_BACK);
        drop(many);
        assert!(memory.take_one_of_many().is_some());
    }

    #[test]
    fn not_even_the_kernel_reads_it_for_a_debugger() {
        let memory = secret_memory().unwrap();
        let mut cell = memory.take().unwrap();
        cell.bytes_mut::<CELL_BYTES>().fill(0x5a);
        let own = std::fs::File::open("/proc/self/mem").unwrap();
        let mut seen = [0; CELL_BYTES];
        let read = own.read_exact_at(&mut seen, cell.at::<CELL_BYTES>().as_ptr() as u64);
        match memory.kind() {
            SecretKind::Secret => assert!(read.is_err(), "it was read"),
            SecretKind::Locked | SecretKind::Plain => assert_eq!(seen, [0x5a; CELL_BYTES]),
        }
    }

    #[test]
    fn pages_of_the_second_kind_are_in_no_core_file_and_locked_if_that_is_said() {
        let (base, kind) = map_locked(bytes_of(FEW_CELLS)).unwrap();
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mapping = maps.split_once(&format!("{:x}-", base.as_ptr().addr())).unwrap().1;
        let flags = mapping.lines().find_map(|line| line.strip_prefix("VmFlags:")).unwrap();
        // proc_pid_smaps(5): `dd` is not dumped, `lo` is locked.
        let has = |flag: &str| flags.split_whitespace().any(|one| one == flag);
        assert!(has("dd"), "{flags}");
        assert_eq!(has("lo"), kind == SecretKind::Locked, "{flags}");
    }
}
