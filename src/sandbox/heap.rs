//! A heap with a hard cap: the allocation that would pass it ends the process.
#![expect(unsafe_code, reason = "an allocator cannot be written without it")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::sys::exit_now;

/// The system's allocator with a count and a cap. Exiting by itself tells an exhausted script from
/// a crash: the standard path prints and aborts.
pub struct CappedHeap {
    held: AtomicUsize,
    most: AtomicUsize,
    cap: AtomicUsize,
}

impl CappedHeap {
    /// A heap without a cap yet.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it is a static, so `new` must be const")]
    pub const fn new() -> Self {
        Self {
            held: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            cap: AtomicUsize::new(usize::MAX),
        }
    }

    /// From now on, at most `bytes` more than is held at this moment. The peak starts anew.
    pub fn cap(&self, bytes: usize) {
        let held = self.held.load(Ordering::Relaxed);
        self.most.store(held, Ordering::Relaxed);
        self.cap.store(held.saturating_add(bytes), Ordering::Relaxed);
    }

    /// Bytes held at once, at most, over what was held when the cap was set.
    #[must_use]
    pub fn peak(&self, cap_bytes: usize) -> usize {
        let base = self.cap.load(Ordering::Relaxed).saturating_sub(cap_bytes);
        self.most.load(Ordering::Relaxed).saturating_sub(base)
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

// SAFETY: every request is passed to `System` with the caller's own layout and pointer, so its
// promises are kept by `System`; the counting beside it touches no allocated memory.
unsafe impl GlobalAlloc for CappedHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.take(layout.size());
        // SAFETY: `layout` is the caller's, who promises that its size is not zero.
        had(unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.take(layout.size());
        // SAFETY: as in `alloc`.
        had(unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller promises that `pointer` came from this heap, which is `System`'s, with
        // this layout.
        unsafe { System.dealloc(pointer, layout) };
        self.give(layout.size());
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // Counted as both at once, which is what a move takes.
        self.take(new_size);
        // SAFETY: `pointer` and `layout` as in `dealloc`; the caller promises that `new_size` is not
        // zero and does not overflow.
        let moved = had(unsafe { System.realloc(pointer, layout, new_size) });
        self.give(layout.size());
        moved
    }
}

/// Memory that the system refuses is memory that the script may not have: the second wall.
fn had(pointer: *mut u8) -> *mut u8 {
    if pointer.is_null() {
        exit_now(crate::EXIT_MEMORY);
    }
    pointer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_counted_from_the_cap_and_falls_with_nothing() {
        let heap = CappedHeap::new();
        let layout = Layout::from_size_align(1000, 8).unwrap();
        // SAFETY: the layout is not empty, and each pointer is freed once with the layout it has.
        unsafe {
            let before = heap.alloc(layout);
            heap.cap(5000);
            let first = heap.alloc(layout);
            let grown = heap.realloc(first, layout, 2000);
            heap.dealloc(grown, Layout::from_size_align(2000, 8).unwrap());
            heap.dealloc(before, layout);
        }
        assert_eq!(heap.peak(5000), 3000);
        assert_eq!(heap.held.load(Ordering::Relaxed), 0);
    }
}
