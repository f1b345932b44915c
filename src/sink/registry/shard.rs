//! How threads keep out of each other's way.

use std::{num::NonZero, ops::Deref};

/// In cache lines of its own.
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

/// How many shards there are where so many records are kept, of which `together` lie in one block: about twice as many
/// as threads, but so few that each has several blocks; a power of two.
pub(in crate::sink) fn count(records: usize, together: usize) -> usize {
    let threads = std::thread::available_parallelism().map_or(4, NonZero::get);
    (threads * 2).min(records / (4 * together)).max(1).next_power_of_two()
}

/// Which of so many shards, a power of two, the current thread uses.
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
