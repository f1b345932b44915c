//! An allocator that counts the allocations of each thread, and those of the process.
//!
//! A test binary that uses it declares `#[global_allocator] static COUNTING: Counting = Counting;`.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::atomic::{AtomicI64, Ordering::Relaxed},
};

pub struct Counting;

static LIVE_IN_PROCESS: AtomicI64 = AtomicI64::new(0);

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
    static LIVE: Cell<i64> = const { Cell::new(0) };
}

/// Returns the number of allocations that this thread has made, reallocations included.
pub fn calls() -> u64 {
    CALLS.get()
}

/// Returns the number of bytes that this thread has allocated and not freed.
pub fn live() -> i64 {
    LIVE.get()
}

/// Returns the number of bytes that all threads have allocated and not freed.
pub fn live_in_process() -> i64 {
    LIVE_IN_PROCESS.load(Relaxed)
}

fn count(calls: u64, bytes: i64) {
    LIVE_IN_PROCESS.fetch_add(bytes, Relaxed);
    // While a thread ends, its counters may be gone already.
    let _ = CALLS.try_with(|counter| counter.set(counter.get() + calls));
    let _ = LIVE.try_with(|counter| counter.set(counter.get() + bytes));
}

// SAFETY: every call is passed to the system's allocator; counting neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        // SAFETY: the arguments are passed on unchanged.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(0, -(layout.size() as i64));
        // SAFETY: the arguments are passed on unchanged.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(1, new_size as i64 - layout.size() as i64);
        // SAFETY: the arguments are passed on unchanged.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}
