//! The memory of a process as it was before it met a script, and the way back to it. For a process
//! that is kept for one client, between two of its scripts: nothing of the first is left where the
//! second could find it. What stays are registers and the frame that does this, which no script can
//! read, and sizes that the allocator noted.
#![expect(unsafe_code, reason = "memory is put back under the feet of the program")]

use std::io;
use std::ptr::{with_exposed_provenance, with_exposed_provenance_mut};

use crate::arena::Arena;
use crate::confine::STACK_BYTES;
use crate::sys;

const PAGE: usize = 4096;
static ZEROS: [u8; PAGE] = [0; PAGE];
/// Stack below the frame that puts memory back which it and what it calls may use, in bytes.
const OWN_STACK: usize = 16 * 1024;

/// The image of a process: all memory it can write, but its stack and the region for scripts, which
/// are empty.
pub struct Image {
    regions: Vec<Region>,
    copy: usize,
    stack_end: usize,
    arena: &'static Arena,
}

#[derive(Clone, Copy)]
struct Region {
    start: usize,
    bytes: usize,
}

impl Image {
    /// Takes the image of this process, which has one thread. Once, before it is confined: it reads
    /// the list of its own memory. Children that are forked later share it.
    ///
    /// # Errors
    /// When the list cannot be read or there is no memory for the copy.
    pub fn take(arena: &'static Arena) -> io::Result<Self> {
        let maps = std::fs::read_to_string("/proc/self/maps")?;
        let (script_region, script_bytes) = arena.region();
        let mut regions = Vec::with_capacity(64);
        let mut stack_end = 0;
        for line in maps.lines() {
            let (start, end) = range(line).ok_or(io::ErrorKind::InvalidData)?;
            if line.ends_with("[stack]") {
                stack_end = end;
            } else if line.split(' ').nth(1) == Some("rw-p") {
                // The kernel may show the region for scripts as one with its neighbours.
                let script_end = script_region + script_bytes;
                for (start, end) in [(start, end.min(script_region)), (start.max(script_end), end)]
                {
                    if start < end {
                        regions.push(Region { start, bytes: end - start });
                    }
                }
            }
        }
        drop(maps);
        if stack_end == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let total = regions.iter().map(|region| region.bytes).sum();
        let copy = sys::reserve_memory(total)?;
        let image = Self { regions, copy, stack_end, arena };
        image.each_page(|live, kept| {
            // SAFETY: `live` is a page of a writable mapping of this process, `kept` one of the copy
            // that was just made for it; they cannot overlap, and no other thread writes.
            unsafe {
                libc::memcpy(
                    with_exposed_provenance_mut(kept),
                    with_exposed_provenance(live),
                    PAGE,
                );
            }
        });
        Ok(image)
    }

    /// Puts all memory back to the image and wipes what scripts have used. Whatever was allocated
    /// since is gone: no value that holds such memory may be used after this, and none is, for the
    /// caller begins anew with what the image holds.
    pub fn put_back(&self) {
        let (start, used) = self.arena.used_of_region();
        // SAFETY: those bytes are of the region for scripts, which is mapped and writable, and by
        // the contract above nobody holds any of it.
        unsafe { libc::memset(with_exposed_provenance_mut(start), 0, used) };
        self.each_page(|live, kept| {
            // SAFETY: both pages are mapped for as long as the process lives. What is written over
            // `live` is what the program itself had left there, at a moment when it had one thread
            // and held no lock, so every static, thread local and heap block is again as it was.
            unsafe {
                let (live, kept) =
                    (with_exposed_provenance_mut(live), with_exposed_provenance(kept));
                if libc::memcmp(live, kept, PAGE) != 0 {
                    libc::memcpy(live, kept, PAGE);
                }
            }
        });
        self.wipe_stack();
    }

    /// Wipes the stack below this frame, down to its end.
    #[inline(never)]
    fn wipe_stack(&self) {
        let marker = 0_u8;
        let here = std::ptr::from_ref(std::hint::black_box(&marker)).addr();
        let top = (here - OWN_STACK) & !(PAGE - 1);
        let bottom = self.stack_end - usize::try_from(STACK_BYTES).unwrap_or(0);
        // From above: the kernel lets a stack grow a page at a time everywhere.
        for page in (bottom..top).step_by(PAGE).rev() {
            // SAFETY: the page lies within the bound of the stack and below every frame that is in
            // use, so it holds nothing but what calls that have returned left there.
            unsafe {
                let page = with_exposed_provenance_mut(page);
                if libc::memcmp(page, ZEROS.as_ptr().cast(), PAGE) != 0 {
                    libc::memset(page, 0, PAGE);
                }
            }
        }
        wipe_own_stack();
    }

    fn each_page(&self, mut visit: impl FnMut(usize, usize)) {
        let mut kept = self.copy;
        for Region { start, bytes } in &self.regions {
            for live in (*start..start + bytes).step_by(PAGE) {
                visit(live, kept);
                kept += PAGE;
            }
        }
    }
}

/// The part of the stack that the frame above could not wipe for it lay under its feet.
#[inline(never)]
fn wipe_own_stack() {
    let mut room = [0_u8; OWN_STACK + PAGE];
    std::hint::black_box(&mut room);
}

/// `7f00-8f00 rw-p ...`
fn range(line: &str) -> Option<(usize, usize)> {
    let (start, end) = line.split(' ').next()?.split_once('-')?;
    Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
}
