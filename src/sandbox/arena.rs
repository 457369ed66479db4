//! The heap of a process that runs scripts: two regions of memory that are there from the start, so
//! that no system call is ever needed, and a hard cap. What would pass it ends the process.
#![expect(unsafe_code, reason = "an allocator cannot be written without it")]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use talc::DefaultBinning;
use talc::base::Talc;
use talc::source::Manual;

use crate::sys::{self, exit_now};

/// Bytes for what the program itself holds before it knows a script: the engine takes most of it.
pub(crate) const START_BYTES: usize = 384 * 1024;

/// One part in so many of a cap is not given out: the process has pages of its own besides its heap,
/// and what the kernel counts must stay near the cap.
const OWN_SHARE: usize = 32;

/// Bytes above a block in which the allocator may keep notes of its own.
const NOTES: usize = 256;

/// The allocator of `crypto-cli-worker`. Exiting by itself tells an exhausted script from a crash:
/// the standard path prints and aborts, which the system call filter would take for an attack.
pub struct Arena {
    free: Mutex<Talc<Manual, DefaultBinning>>,
    start: UnsafeCell<[u8; START_BYTES]>,
    is_started: AtomicBool,
    /// Address and length of the second region, which scripts use. 0 before it is reserved.
    region: AtomicUsize,
    region_bytes: AtomicUsize,
    /// Where the part of the region ends that the allocator has. 0 before it has any.
    region_end: AtomicUsize,
    /// The highest address of the region that was ever given out.
    region_top: AtomicUsize,
    held: AtomicUsize,
    most: AtomicUsize,
    cap: AtomicUsize,
}

// SAFETY: everything but `start` is atomic or behind the mutex. `start` is only ever reached through
// the pointer that is given to the allocator once, under the mutex, which then owns those bytes.
unsafe impl Sync for Arena {}

impl Arena {
    /// A heap of the start region alone, without a cap.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it is a static, so `new` must be const")]
    pub const fn new() -> Self {
        Self {
            free: Mutex::new(Talc::new(Manual)),
            start: UnsafeCell::new([0; START_BYTES]),
            is_started: AtomicBool::new(false),
            region: AtomicUsize::new(0),
            region_bytes: AtomicUsize::new(0),
            region_end: AtomicUsize::new(0),
            region_top: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            cap: AtomicUsize::new(usize::MAX),
        }
    }

    /// Sets aside the region for scripts, of the largest cap that will be asked for. Its pages cost
    /// nothing until they are used.
    ///
    /// # Errors
    /// When the kernel refuses so much address space.
    pub fn reserve(&self, bytes: usize) -> std::io::Result<()> {
        let region = sys::reserve_memory(bytes)?;
        self.region.store(region, Ordering::Relaxed);
        self.region_bytes.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Makes the first `bytes` of the region usable, for what comes before a cap is known.
    pub fn open(&self, bytes: usize) {
        let (start, length) = self.region();
        let base = std::ptr::with_exposed_provenance_mut::<u8>(start);
        if base.is_null() || self.region_end.load(Ordering::Relaxed) != 0 {
            return;
        }
        // SAFETY: the region was mapped for us, readable and writable, is at least as long and
        // belongs to nobody else; its end is not set, so the allocator does not have it yet.
        let end = unsafe { self.lock().claim(base, bytes.min(length)) };
        self.region_end.store(end.map_or(0, |end| end.addr().get()), Ordering::Relaxed);
    }

    /// From now on, at most `bytes` more than is held at this moment; the peak starts anew. The
    /// region is used up to as many bytes, so what the allocator itself needs counts as well.
    pub fn cap(&self, bytes: usize) {
        let held = self.held.load(Ordering::Relaxed);
        self.most.store(held, Ordering::Relaxed);
        self.cap.store(held.saturating_add(bytes), Ordering::Relaxed);
        // What is free in the start region is the script's as well, so it has less of the other.
        let free = START_BYTES.saturating_sub(held);
        let (start, length) = self.region();
        let usable = (bytes - bytes / OWN_SHARE).saturating_sub(free).min(length);
        self.open(usable);
        let end = std::ptr::with_exposed_provenance_mut(self.region_end.load(Ordering::Relaxed));
        let wanted = std::ptr::with_exposed_provenance_mut::<u8>(start + usable);
        if let Some(end) = NonNull::new(end).filter(|end| end.as_ptr() < wanted) {
            // SAFETY: `end` is what the allocator returned for its heap in the region, which reaches
            // at least to `wanted` and is nobody else's beyond `end`.
            let end = unsafe { self.lock().extend(end, wanted) };
            self.region_end.store(end.addr().get(), Ordering::Relaxed);
        }
    }

    /// Bytes held at once, at most, over what was held when the cap was set.
    #[must_use]
    pub fn peak(&self, cap_bytes: usize) -> usize {
        let base = self.cap.load(Ordering::Relaxed).saturating_sub(cap_bytes);
        self.most.load(Ordering::Relaxed).saturating_sub(base)
    }

    /// Where scripts' memory is: address and length of the second region.
    pub(crate) fn region(&self) -> (usize, usize) {
        (self.region.load(Ordering::Relaxed), self.region_bytes.load(Ordering::Relaxed))
    }

    /// Where scripts have written: the address of the region, and how many bytes of it.
    pub(crate) fn used_of_region(&self) -> (usize, usize) {
        let (start, bytes) = self.region();
        let top = self.region_top.load(Ordering::Relaxed);
        // The allocator's own notes may lie above the last block.
        let used = top.checked_sub(start).map_or(0, |used| (used + NOTES).min(bytes));
        (start, used)
    }

    fn lock(&self) -> MutexGuard<'_, Talc<Manual, DefaultBinning>> {
        // A panic ends the process, so nobody meets what it left behind.
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_started.swap(true, Ordering::Relaxed) {
            // SAFETY: `start` lies in a static for as long as the process lives, nobody else touches
            // it, and the flag makes this the only time that it is handed over.
            let _claimed = unsafe { free.claim(self.start.get().cast(), START_BYTES) };
        }
        free
    }

    /// Looks at where a block lies that is about to be given out.
    fn mark(&self, block: *mut u8, bytes: usize) -> *mut u8 {
        let (region, length) = self.region();
        let end = block.addr() + bytes;
        if (region..=region + length).contains(&end) {
            self.region_top.fetch_max(end, Ordering::Relaxed);
        }
        block
    }

    fn take(&self, bytes: usize) {
        let held = self.held.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if held > self.cap.load(Ordering::Relaxed) {
            exit_now(crate::EXIT_MEMORY);
        }
        self.most.fetch_max(held, Ordering::Relaxed);
    }

    fn give(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}

// SAFETY: memory comes from `Talc`, whose regions are ours alone and are never unmapped; it is asked
// with the caller's own layouts, so blocks are as large and as aligned as promised and do not overlap.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.take(layout.size());
        // SAFETY: the caller promises that the size is not zero.
        let block = had(unsafe { self.lock().allocate(layout) });
        self.mark(block, layout.size())
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller promises that `pointer` came from this heap with this layout.
        unsafe { self.lock().deallocate(pointer, layout) };
        self.give(layout.size());
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: as in `dealloc`; the caller promises that `new_size` is not zero.
        if unsafe { self.lock().try_realloc_in_place(pointer, layout, new_size) } {
            self.give(layout.size());
            self.take(new_size);
            return self.mark(pointer, new_size);
        }
        // SAFETY: the caller promises that `new_size`, rounded up to the alignment, does not
        // overflow. Both blocks are held at once, which is what a move takes; the old one is at
        // least as long as the part of it that is copied, and is given back once.
        unsafe {
            let wanted = Layout::from_size_align_unchecked(new_size, layout.align());
            let moved = self.alloc(wanted);
            moved.copy_from_nonoverlapping(pointer, layout.size().min(new_size));
            self.dealloc(pointer, layout);
            moved
        }
    }
}

/// Memory that is not there is memory that the script may not have.
fn had(pointer: Option<NonNull<u8>>) -> *mut u8 {
    pointer.map_or_else(|| exit_now(crate::EXIT_MEMORY), NonNull::as_ptr)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A heap on the heap. It is made on a stack, so of a thread with a large one.
    fn arena() -> Box<Arena> {
        let thread = std::thread::Builder::new().stack_size(16 * START_BYTES);
        thread.spawn(|| Box::new(Arena::new())).unwrap().join().unwrap()
    }

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    #[test]
    fn the_peak_is_counted_from_the_cap() {
        let heap = arena();
        // SAFETY: the layouts are not empty, and each block is freed once with the layout it has.
        unsafe {
            let before = heap.alloc(layout(1000, 8));
            heap.cap(5000);
            let first = heap.alloc(layout(1000, 8));
            let grown = heap.realloc(first, layout(1000, 8), 2000);
            heap.dealloc(grown, layout(2000, 8));
            heap.dealloc(before, layout(1000, 8));
        }
        let peak = heap.peak(5000);
        assert!(peak == 2000 || peak == 3000, "in place or moved: {peak}");
        assert_eq!(heap.held.load(Ordering::Relaxed), 0);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Take { size: usize, align: usize },
        Give(usize),
        Resize { which: usize, size: usize },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let size = || prop_oneof![1..64_usize, 1..5000_usize, 1..70_000_usize];
        let step = prop_oneof![
            (size(), 0..8_u32).prop_map(|(size, bits)| Step::Take { size, align: 1 << bits }),
            any::<usize>().prop_map(Step::Give),
            (any::<usize>(), size()).prop_map(|(which, size)| Step::Resize { which, size }),
        ];
        proptest::collection::vec(step, 1..120)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }))]
        /// Against a model: blocks keep their contents, are aligned, and never overlap, and the
        /// count is what is held.
        #[test]
        fn blocks_keep_what_is_written_to_them(steps in steps()) {
            let heap = arena();
            heap.reserve(16 * 1024 * 1024).unwrap();
            heap.cap(16 * 1024 * 1024);
            let mut held: Vec<(*mut u8, Layout, u8)> = Vec::new();
            for (stamp, step) in (1..=u8::MAX).cycle().zip(steps) {
                match step {
                    Step::Take { size, align } => {
                        let layout = layout(size, align);
                        // SAFETY: not empty; the block is written within its size.
                        let block = unsafe {
                            let block = heap.alloc(layout);
                            block.write_bytes(stamp, size);
                            block
                        };
                        prop_assert_eq!(block.addr() % align, 0);
                        held.push((block, layout, stamp));
                    }
                    Step::Give(which) if !held.is_empty() => {
                        let (block, layout, _) = held.swap_remove(which % held.len());
                        // SAFETY: taken above with this layout, and forgotten here.
                        unsafe { heap.dealloc(block, layout) };
                    }
                    Step::Resize { which, size } if !held.is_empty() => {
                        let which = which % held.len();
                        let (block, old, stamp) = held[which];
                        // SAFETY: taken above with this layout; the new size is not zero.
                        let moved = unsafe {
                            let moved = heap.realloc(block, old, size);
                            moved.write_bytes(stamp, size);
                            moved
                        };
                        held[which] = (moved, layout(size, old.align()), stamp);
                    }
                    Step::Give(_) | Step::Resize { .. } => {}
                }
                for (block, layout, stamp) in &held {
                    // SAFETY: held, and written in full when it was taken or resized.
                    let bytes = unsafe { std::slice::from_raw_parts(*block, layout.size()) };
                    prop_assert!(bytes.iter().all(|byte| byte == stamp));
                }
            }
            let sizes: usize = held.iter().map(|(_, layout, _)| layout.size()).sum();
            prop_assert_eq!(heap.held.load(Ordering::Relaxed), sizes);
            for (block, layout, _) in held {
                // SAFETY: still held.
                unsafe { heap.dealloc(block, layout) };
            }
        }
    }
}
