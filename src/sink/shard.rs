//! How threads keep out of each other's way.

/// In cache lines of its own.
#[repr(align(128))]
pub(super) struct Padded<T>(pub(super) T);

/// Which of so many shards, a power of two, the current thread uses.
pub(super) fn mine(shards: usize) -> usize {
    thread_number() & (shards - 1)
}

#[cfg(loom)]
use super::models::thread_number;

/// Threads are numbered as they come, so that up to as many as there are shards never meet.
#[cfg(not(loom))]
fn thread_number() -> usize {
    use std::{
        cell::Cell,
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
    };

    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static MINE: Cell<Option<usize>> = const { Cell::new(None) });
    MINE.try_with(|mine| {
        mine.get().unwrap_or_else(|| {
            let number = THREADS.fetch_add(1, Relaxed);
            mine.set(Some(number));
            number
        })
    })
    .unwrap_or(0)
}
