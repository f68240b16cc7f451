//! A bound on the memory that a reader takes. libFuzzer can bound allocations only with a sanitizer, which needs
//! a nightly compiler.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The largest number of bytes that one input may take in addition to what was held before it. The readers' own limits are at
/// most 64 MiB. The exception is an unpacked kernel image with 512 MiB, but an input has at most 4 KiB (`scripts/fuzz.sh`), and
/// none of this size unpacks to that much.
const MOST: usize = 256 << 20;

/// The number of bytes that are held now.
static HELD: AtomicUsize = AtomicUsize::new(0);
/// The number of held bytes above which the process ends.
static CEILING: AtomicUsize = AtomicUsize::new(usize::MAX);

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: every call is passed to the system's allocator unchanged; what is counted has no influence on what is returned.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract of this function, and `System`'s function has the same contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }
}

fn count(size: usize) {
    let held = HELD.fetch_add(size, Relaxed).saturating_add(size);
    if held > CEILING.load(Relaxed) {
        // Printing the message allocates memory, too, so the ceiling is removed first.
        CEILING.store(usize::MAX, Relaxed);
        let from = std::backtrace::Backtrace::force_capture();
        eprintln!(
            "one input takes more than {MOST} bytes of memory; this allocation of {size} bytes exceeded the bound:\n{from}"
        );
        std::process::abort();
    }
}

/// Calls `reader`, and ends the process if it holds more than 256 MiB at any time, in addition to what was held before.
pub fn bounded(reader: impl FnOnce()) {
    CEILING.store(HELD.load(Relaxed).saturating_add(MOST), Relaxed);
    reader();
    CEILING.store(usize::MAX, Relaxed);
}
