//! Evicts records from a registry, to keep its bound.

use super::{Block, CHUNK, Chunk, Evictable, Node, Registry, retire};
use std::sync::{Arc, PoisonError, atomic::Ordering::Relaxed};

impl<T: Evictable> Registry<T> {
    /// Returns an upper bound of the records in the lists, without those that outlived their chunk.
    #[cfg(feature = "_record")]
    pub(crate) fn listed(&self) -> usize {
        self.chunks.load(Relaxed) * CHUNK
    }

    /// Evicts the oldest full chunk. Its records that are still needed become survivors. Returns `false` if there is no
    /// full chunk.
    #[cold]
    pub(crate) fn evict_oldest_full(&self) -> bool {
        self.oldest_shard(false).is_some_and(|index| self.evict(index, false))
    }

    /// Evicts the oldest chunk, full or not.
    ///
    /// Evicts the last chunk of a shard only if one of its records can be evicted: otherwise the next record would
    /// begin another chunk for nothing. Returns `false` if there is no chunk to evict.
    #[cfg(feature = "_record")]
    #[cold]
    pub(crate) fn evict_oldest_chunk(&self) -> bool {
        self.oldest_shard(true).is_some_and(|index| self.evict(index, true))
    }

    /// Passes the first record of the oldest chunk to `look`: of the chunk that
    /// [`evict_oldest_chunk`](Self::evict_oldest_chunk) would evict.
    #[cfg(feature = "_record")]
    pub(crate) fn peek_oldest<R>(&self, look: impl FnOnce(&T) -> R) -> Option<R> {
        let index = self.oldest_shard(true)?;
        let chunk = self.lock(index).list.as_ref()?.head.chunk.clone();
        chunk.slots().next()?.get().map(look)
    }

    /// Passes the last record of that chunk to `look`.
    #[cfg(feature = "_record")]
    pub(crate) fn peek_newest_of_oldest<R>(&self, look: impl FnOnce(&T) -> R) -> Option<R> {
        let index = self.oldest_shard(true)?;
        let chunk = self.lock(index).list.as_ref()?.head.chunk.clone();
        chunk.written().last().map(|(_, record)| look(record))
    }

    fn oldest_shard(&self, with_last: bool) -> Option<usize> {
        let oldest = (0..self.shards.len()).filter_map(|i| {
            let shard = self.lock(i);
            let list = shard.list.as_ref()?;
            let is_evictable = list.head.next.get().is_some() || with_last && list.head.has_evictable();
            is_evictable.then_some((list.head.chunk.base, i))
        });
        oldest.min().map(|(_, index)| index)
    }

    /// Evicts the first chunk of a shard, even if it is the last.
    fn evict(&self, index: usize, with_last: bool) -> bool {
        let mut kept = self.lock_kept();
        let (node, survivors) = {
            let mut shard = self.lock(index);
            let Some(list) = &mut shard.list else { return false };
            let node = match list.head.next.get().cloned() {
                Some(next) => std::mem::replace(&mut list.head, next),
                None if with_last && list.head.has_evictable() => {
                    let node = list.head.clone();
                    shard.list = None;
                    node
                }
                None => return false,
            };
            self.chunks.fetch_sub(1, Relaxed);
            let survivors = node.survivors();
            if survivors != 0 {
                Arc::make_mut(&mut shard.survivors).extend(node.recs(survivors));
            }
            (node, survivors)
        };
        let evicted = node.recs(!survivors).map(|rec| retire(rec, &mut kept)).sum();
        drop(kept);
        self.dropped.fetch_add(evicted, Relaxed);
        let chunk = node.chunk.clone();
        drop(node);
        self.recycle(chunk);
        let aged = self.aged.fetch_add(CHUNK, Relaxed) + CHUNK;
        // Sweeps rarely enough that the cost per record does not depend on the number of survivors.
        if aged * 4 >= self.survivor_count() {
            self.sweep_survivors();
        }
        true
    }

    /// Keeps an evicted chunk for reuse, unless a snapshot is reading it. Blocks that are still in use are left to
    /// their users, and replaced by new ones.
    fn recycle(&self, mut chunk: Arc<Chunk<T>>) {
        if let Some(unused) = Arc::get_mut(&mut chunk) {
            for block in &mut unused.blocks {
                match Arc::get_mut(block) {
                    Some(block) => block.slots.as_mut().iter_mut().for_each(|slot| drop(slot.take())),
                    None => *block = Block::new(0, self.common.clone()),
                }
            }
            *self.spare.lock().unwrap_or_else(PoisonError::into_inner) = Some(chunk);
        }
    }

    /// Evicts the survivors that are not needed any more.
    pub(crate) fn sweep_survivors(&self) {
        let evicted = self.sweep(&mut self.lock_kept());
        self.dropped.fetch_add(evicted, Relaxed);
    }

    /// Evicts a record of those that were worth keeping: the oldest that is `expendable`, or else the oldest. Returns
    /// `false` if all of them are needed by others.
    #[cfg(feature = "_record")]
    #[cold]
    pub(crate) fn evict_kept(&self, expendable: impl Fn(&T) -> bool) -> bool {
        let mut kept = self.lock_kept();
        let place = kept.iter().position(|rec| rec.is_evictable() && expendable(rec));
        let Some(place) = place.or_else(|| kept.iter().position(|rec| rec.is_evictable())) else {
            return false;
        };
        if let Some(rec) = Arc::make_mut(&mut kept).remove(place) {
            T::on_evict(&rec);
            self.dropped.fetch_add(1, Relaxed);
        }
        true
    }

    /// Passes the oldest record of those that were worth keeping to `look`.
    #[cfg(feature = "_record")]
    pub(crate) fn peek_kept<R>(&self, look: impl FnOnce(&T) -> R) -> Option<R> {
        self.lock_kept().front().map(|rec| look(rec))
    }

    /// Returns how many records were worth keeping.
    #[cfg(feature = "_record")]
    pub(crate) fn kept_count(&self) -> usize {
        self.lock_kept().len()
    }

    /// Returns how many records have outlived their chunk.
    pub(crate) fn survivor_count(&self) -> usize {
        (0..self.shards.len()).map(|i| self.lock(i).survivors.len()).sum()
    }
}

impl<T: Evictable> Node<T> {
    /// Returns the records written so far, with their indices.
    fn written(&self) -> impl Iterator<Item = (u32, &T)> {
        self.chunk.written()
    }

    fn has_evictable(&self) -> bool {
        self.written().any(|(_, record)| record.is_evictable())
    }

    /// Returns a bit for each record that must stay.
    fn survivors(&self) -> u32 {
        let survivors = self.written().filter(|(_, record)| !record.is_evictable());
        survivors.fold(0, |bits, (index, _)| bits | 1 << index)
    }
}
