//! Large allocations in huge pages.
//!
//! Matrix products visit rows that lie pages apart. With pages of 4 KB the processor spends a sixth of a training step
//! on looking up where pages lie (BENCHMARKS.md). Most Linux systems give pages of 2 MB only to those who ask
//! (`transparent_hugepage = madvise`): this allocator asks. A program opts in:
//!
//! ```
//! #[global_allocator]
//! static ALLOCATOR: msg_core::device::HugePages = msg_core::device::HugePages;
//! ```

#![allow(unsafe_code, reason = "an allocator")]

use std::alloc::{GlobalAlloc, Layout, System};

/// The system's allocator, which asks for huge pages for large allocations.
#[derive(Clone, Copy, Debug)]
pub struct HugePages;

// SAFETY: every call goes to the system's allocator as it is; advice on pages changes no value and no address.
unsafe impl GlobalAlloc for HugePages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: by the caller.
        advised(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: by the caller.
        advised(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: by the caller.
        advised(unsafe { System.realloc(at, layout, size) }, size)
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: by the caller.
        unsafe { System.dealloc(at, layout) }
    }
}

/// Bytes from which on an allocation counts as large: a weight matrix of 256 x 256.
#[cfg(target_os = "linux")]
const LARGE: usize = 256 << 10;

#[cfg(target_os = "linux")]
fn advised(at: *mut u8, bytes: usize) -> *mut u8 {
    const HUGE: usize = 2 << 20;
    if bytes < LARGE || at.is_null() {
        return at;
    }
    // The huge pages that hold any of it: the allocator lays large blocks side by side.
    let before = at.addr() % HUGE;
    let range = (before + bytes).next_multiple_of(HUGE);
    // SAFETY: the advice changes nothing that can be read, of this allocation or its neighbours. What is not mapped
    // is passed over, and a refusal is no harm.
    unsafe { libc::madvise(at.wrapping_sub(before).cast(), range, libc::MADV_HUGEPAGE) };
    at
}

#[cfg(not(target_os = "linux"))]
fn advised(at: *mut u8, _: usize) -> *mut u8 {
    at
}
