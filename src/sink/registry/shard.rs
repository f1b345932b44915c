//! Sharding: which part of a shared structure a thread uses, so that threads do not contend.

use std::{num::NonZero, ops::Deref};

/// A value in cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct CachePadded<T>(pub(in crate::sink) T);

impl<T> Deref for CachePadded<T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

/// Returns the number of shards of a structure that keeps `records` records, `together` of them in one block.
///
/// A power of two: about twice the number of threads, but so few that each shard has several blocks.
pub(in crate::sink) fn count(records: usize, together: usize) -> usize {
    let threads = std::thread::available_parallelism().map_or(4, NonZero::get);
    (threads * 2).min(records / (4 * together)).max(1).next_power_of_two()
}

/// Returns the index of the current thread's shard. `shards` is a power of two.
pub(in crate::sink) fn mine(shards: usize) -> usize {
    thread_number() & (shards - 1)
}

#[cfg(loom)]
loom::thread_local! {
    /// The shard that the thread of a model uses.
    pub(in crate::sink) static MODEL_SHARD: std::cell::Cell<usize> = std::cell::Cell::new(0);
}

#[cfg(loom)]
fn thread_number() -> usize {
    MODEL_SHARD.with(std::cell::Cell::get)
}

/// Threads are numbered as they come: up to as many threads as there are shards never share one.
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
