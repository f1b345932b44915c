//! A lock-free store of records: written in their final place, never moved, and read while others are written.
//!
//! A chunk holds 32 records; the chunks of one shard form a list. The lock of a shard covers taking an index and, once
//! in 32 times, a new chunk. A snapshot holds it while it clones two `Arc`s, and walks the list outside it.
//!
//! The records of a chunk are in one or more blocks of memory. A record that is still in use after its chunk was
//! evicted keeps its whole block: a request has a block of its own, so that it keeps no neighbours. The other blocks of
//! an evicted chunk are used again: a sink that has reached its bounds allocates none.
//!
//! A record that is worth keeping when it would be evicted moves to a list of its own, from which the oldest are evicted
//! separately. Records move, and are read, under the lock of that list, so that a reader finds each record in one place.
//!
//! This file has the parts of a registry, and how it is cleared. [`pinned`] reads, [`add`] and [`evict`] write.

use self::shard::CachePadded;
use crate::{
    sink::record_id::RecordId,
    sync::{AtomicU64, AtomicUsize, Mutex, MutexGuard, OnceLock},
};
use std::{
    collections::VecDeque,
    fmt,
    ops::Deref,
    sync::{Arc, PoisonError, atomic::Ordering::Relaxed},
};

#[cfg(any(loom, feature = "_record"))]
mod add;
pub(super) mod batch_alloc;
pub(super) mod end;
#[cfg(any(loom, feature = "_record"))]
mod evict;
#[cfg(any(loom, feature = "_record"))]
mod id_allocator;
mod pinned;
pub(super) mod shard;

#[cfg(any(loom, feature = "_record"))]
pub(crate) use id_allocator::IdAllocator;
pub(crate) use pinned::Pinned;

pub(crate) const CHUNK: usize = if cfg!(loom) { 2 } else { 32 };

/// A record that a registry can evict.
pub(crate) trait Evictable: Sized {
    /// Data that all records of a registry share.
    type Common: Clone;
    /// The records of one block: `[OnceLock<Self>; N]`, where `N` divides [`CHUNK`].
    type Block: AsRef<[OnceLock<Self>]> + AsMut<[OnceLock<Self>]> + Default;
    /// Returns `true` if the record has ended, and nothing that is kept refers to it.
    fn is_evictable(&self) -> bool;
    /// Returns `true` if the record is to be kept longer than others. Called once, when it would be evicted otherwise.
    fn is_worth_keeping(_record: &Rec<Self>) -> bool {
        false
    }
    /// Called once when the registry evicts the record. Must break links that could lead back to the record.
    fn on_evict(record: &Rec<Self>);
}

/// A number of consecutive records, evicted together.
struct Chunk<T: Evictable> {
    /// The number of the first record.
    base: u64,
    blocks: Box<[Arc<Block<T>>]>,
}

impl<T: Evictable> Chunk<T> {
    fn slots(&self) -> impl Iterator<Item = &OnceLock<T>> {
        self.blocks.iter().flat_map(|block| block.slots.as_ref())
    }

    /// Returns a reference to the record in that place, which must be written before it is used.
    #[inline]
    fn rec(&self, place: usize) -> Rec<T> {
        let block = self.blocks[place / Block::<T>::LEN].clone();
        Rec { block, index: (place % Block::<T>::LEN) as u32 }
    }
}

/// The memory of neighbouring records, kept or freed as a whole.
struct Block<T: Evictable> {
    /// The number of the first record.
    base: u64,
    common: T::Common,
    slots: T::Block,
}

impl<T: Evictable> Block<T> {
    /// The number of records in a block.
    const LEN: usize = size_of::<T::Block>() / size_of::<OnceLock<T>>();
}

/// Returns the memory that a record takes in a registry, without what it owns on the heap.
pub(in crate::sink) const fn record_bytes<T: Evictable>() -> usize {
    const COUNTERS_OF_ARC: usize = 2 * size_of::<usize>();
    (size_of::<Arc<Block<T>>>() + COUNTERS_OF_ARC + size_of::<Block<T>>()).div_ceil(Block::<T>::LEN)
}

/// A reference to a record. Keeps its block.
pub(crate) struct Rec<T: Evictable> {
    block: Arc<Block<T>>,
    index: u32,
}

impl<T: Evictable> Rec<T> {
    #[inline]
    pub(crate) fn common(&self) -> &T::Common {
        &self.block.common
    }

    pub(crate) fn id(&self) -> RecordId {
        RecordId::from_nonzero(self.block.base + u64::from(self.index))
    }

    #[inline]
    fn slot(&self) -> &OnceLock<T> {
        &self.block.slots.as_ref()[self.index as usize % Block::<T>::LEN]
    }
}

impl<T: Evictable> Clone for Rec<T> {
    #[inline]
    fn clone(&self) -> Self {
        Rec { block: self.block.clone(), index: self.index }
    }
}

impl<T: Evictable> Deref for Rec<T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        self.slot().get().expect("a Rec is only made of a written slot")
    }
}

impl<T: Evictable> fmt::Debug for Rec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rec({})", self.id().get())
    }
}

/// A node of a shard's list. Separate from its chunk, so that a snapshot which has collected the chunks can release the
/// nodes.
struct Node<T: Evictable> {
    chunk: Arc<Chunk<T>>,
    next: OnceLock<Arc<Node<T>>>,
}

impl<T: Evictable> Drop for Node<T> {
    /// Nodes that drop each other would overflow the stack if the list is long.
    fn drop(&mut self) {
        let mut next = self.next.take();
        while let Some(node) = next {
            next = Arc::try_unwrap(node).ok().and_then(|mut node| node.next.take());
        }
    }
}

/// The part of a registry that some of the threads add to.
struct Shard<T: Evictable> {
    list: Option<List<T>>,
    /// The records that outlived their chunk: when it was evicted they had not ended, or something still referred to
    /// them.
    survivors: Arc<Vec<Rec<T>>>,
}

/// The chunks of a shard, oldest first. `used` records of the last are written.
struct List<T: Evictable> {
    head: Arc<Node<T>>,
    #[cfg(any(loom, feature = "_record"))]
    tail: Arc<Node<T>>,
    #[cfg(any(loom, feature = "_record"))]
    used: usize,
}

/// All records of one kind.
pub(crate) struct Registry<T: Evictable> {
    #[cfg(any(loom, feature = "_record"))]
    common: T::Common,
    /// An evicted chunk, used for the next one that is needed.
    #[cfg(any(loom, feature = "_record"))]
    spare: Mutex<Option<Arc<Chunk<T>>>>,
    shards: Box<[CachePadded<Mutex<Shard<T>>>]>,
    /// The records that are worth keeping, in the order in which they left their chunks. Locked before a shard.
    kept: Mutex<Arc<VecDeque<Rec<T>>>>,
    chunks: AtomicUsize,
    /// The number of records that left the lists since the last sweep of `survivors`.
    aged: AtomicUsize,
    dropped: AtomicU64,
}

impl<T: Evictable> Registry<T> {
    /// Creates a registry for about `bound` records. Each shard has a chunk that is being filled and is not evicted.
    pub(crate) fn new(bound: usize, common: T::Common) -> Self {
        let shards = shard::count(bound, CHUNK);
        let empty = || Shard { list: None, survivors: Arc::default() };
        #[cfg(not(any(loom, feature = "_record")))]
        let _ = common;
        Registry {
            #[cfg(any(loom, feature = "_record"))]
            common,
            #[cfg(any(loom, feature = "_record"))]
            spare: Mutex::new(None),
            shards: (0..shards).map(|_| CachePadded(Mutex::new(empty()))).collect(),
            kept: Mutex::new(Arc::default()),
            chunks: AtomicUsize::new(0),
            aged: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    /// Evicts survivors that can go, and returns how many did. Repeats until none can: an evicted record may have been
    /// the last to need another.
    fn sweep(&self, kept: &mut Arc<VecDeque<Rec<T>>>) -> u64 {
        self.aged.store(0, Relaxed);
        let mut evicted = 0;
        loop {
            let mut evictable = Vec::new();
            for i in 0..self.shards.len() {
                let mut shard = self.lock(i);
                if shard.survivors.iter().any(|rec| rec.is_evictable()) {
                    let (of_shard, stay) = split(shard.survivors.iter().cloned());
                    shard.survivors = Arc::new(stay);
                    evictable.extend(of_shard);
                }
            }
            let before = evicted;
            evictable.into_iter().for_each(|rec| evicted += retire(rec, kept));
            if evicted == before {
                return evicted;
            }
        }
    }

    /// Evicts everything that can be evicted, and restarts the count of evicted records from zero.
    pub(crate) fn clear(&self) {
        let mut kept = self.lock_kept();
        for i in 0..self.shards.len() {
            let (list, gone) = {
                let mut shard = self.lock(i);
                let list = shard.list.take();
                let (mut gone, mut survivors) = (Vec::new(), Vec::new());
                let mut node = list.as_ref().map(|list| list.head.clone());
                while let Some(here) = node {
                    let (evictable, stay) = split(here.recs(ALL));
                    gone.extend(evictable);
                    survivors.extend(stay);
                    self.chunks.fetch_sub(1, Relaxed);
                    node = here.next.get().cloned();
                }
                if !survivors.is_empty() {
                    Arc::make_mut(&mut shard.survivors).extend(survivors);
                }
                (list, gone)
            };
            gone.iter().for_each(T::on_evict);
            drop(list);
        }
        // Twice, because records that are worth keeping may need others.
        for _ in 0..2 {
            self.sweep(&mut kept);
            let (gone, stay) = split(std::mem::take(&mut *kept).iter().cloned());
            *kept = Arc::new(stay.into());
            gone.iter().for_each(T::on_evict);
        }
        drop(kept);
        self.dropped.store(0, Relaxed);
    }

    /// Returns how many records were evicted to keep the bound.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    fn lock_kept(&self) -> MutexGuard<'_, Arc<VecDeque<Rec<T>>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self, shard: usize) -> MutexGuard<'_, Shard<T>> {
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Evictable> Node<T> {
    /// Returns the records at these indices, as far as they are written.
    fn recs(&self, places: u32) -> impl Iterator<Item = Rec<T>> {
        self.chunk.recs().filter(move |(index, _)| places & (1 << index) != 0).map(|(_, rec)| rec)
    }
}

const ALL: u32 = u32::MAX;

/// Separates records that can be evicted from those that stay.
fn split<T: Evictable>(recs: impl Iterator<Item = Rec<T>>) -> (Vec<Rec<T>>, Vec<Rec<T>>) {
    recs.partition(|rec| rec.is_evictable())
}

/// Evicts a record, or adds it to `kept` if it is worth keeping. Returns how many were evicted.
fn retire<T: Evictable>(rec: Rec<T>, kept: &mut Arc<VecDeque<Rec<T>>>) -> u64 {
    if T::is_worth_keeping(&rec) {
        Arc::make_mut(kept).push_back(rec);
        return 0;
    }
    T::on_evict(&rec);
    1
}

impl<T: Evictable> fmt::Debug for Registry<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("chunks", &self.chunks).field("dropped", &self.dropped).finish()
    }
}

#[cfg(all(test, feature = "_record"))]
mod tests;
