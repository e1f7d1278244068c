//! A global allocator for tests: the system's, and it counts what the threads take that asked to be counted, so that the
//! clients of a test do not count as its server. A test binary makes it its allocator:
//!
//! ```
//! #[global_allocator]
//! static ALLOCATOR: counting::Counting = counting::Counting;
//!
//! counting::count_this_thread();
//! let before = counting::counted();
//! drop(std::hint::black_box(vec![0_u8; 100]));
//! assert_eq!(counting::counted().calls - before.calls, 1);
//! ```
#![allow(
    unsafe_code,
    reason = "the trait of allocators is an unsafe one; for tests only"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

static BYTES: AtomicI64 = AtomicI64::new(0);
static CALLS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static IS_COUNTED: Cell<bool> = const { Cell::new(false) };
}

/// See the module.
#[derive(Debug)]
pub struct Counting;

/// What the counted threads took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// Bytes taken and not given back, as asked for. Less than 0 when counted threads gave back what others took.
    pub bytes: i64,
    /// Calls that took memory, or other memory.
    pub calls: u64,
}

/// From now on what this thread takes and gives back is counted.
pub fn count_this_thread() {
    IS_COUNTED.set(true);
}

/// What was counted so far.
pub fn counted() -> Counted {
    Counted {
        bytes: BYTES.load(Relaxed),
        calls: CALLS.load(Relaxed),
    }
}

fn note(taken: usize, given_back: usize) {
    // A thread that ends has no such value any more.
    if !IS_COUNTED.try_with(Cell::get).unwrap_or(false) {
        return;
    }
    let signed = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
    BYTES.fetch_add(signed(taken) - signed(given_back), Relaxed);
    if taken > 0 {
        CALLS.fetch_add(1, Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator with the caller's own arguments; what is noted beside takes no memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size(), 0);
        // SAFETY: the caller's promise is the one that is asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size(), 0);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size, layout.size());
        // SAFETY: as above.
        unsafe { System.realloc(place, layout, size) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        note(0, layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }
}
