//! Adds records to a registry.

use super::{Block, CHUNK, Chunk, Evictable, List, Node, Rec, Registry, id_allocator::IdAllocator, shard};
use crate::sync::OnceLock;
use std::sync::{Arc, PoisonError, atomic::Ordering::Relaxed};

impl<T: Evictable> Registry<T> {
    /// Creates a record in its place. Also returns `true` if a chunk was begun, which is the moment to check the
    /// bounds.
    pub(crate) fn add(&self, id_alloc: &IdAllocator, record: impl FnOnce() -> T) -> (Rec<T>, bool) {
        let mine = shard::mine(self.shards.len());
        let mut shard = self.lock(mine);
        let rolled = shard.list.as_ref().is_none_or(|list| list.used == CHUNK);
        let list = shard.list.get_or_insert_with(|| {
            let node = Node::new(self.chunk(id_alloc));
            List { head: node.clone(), tail: node, used: 0 }
        });
        if list.used == CHUNK {
            let node = Node::new(self.chunk(id_alloc));
            let linked = list.tail.next.set(node.clone()).is_ok();
            debug_assert!(linked, "only the owner of the shard links on");
            (list.tail, list.used) = (node, 0);
        }
        let rec = list.tail.chunk.rec(list.used);
        let mut record = Some(record);
        rec.slot().get_or_init(|| record.take().expect("it is asked for once")());
        debug_assert!(record.is_none(), "an index is handed out once");
        list.used += 1;
        if rolled {
            self.chunks.fetch_add(1, Relaxed);
        }
        (rec, rolled)
    }

    /// Returns an empty chunk.
    fn chunk(&self, id_alloc: &IdAllocator) -> Arc<Chunk<T>> {
        let base = id_alloc.next_block();
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).take();
        let renumbered =
            spare.and_then(|mut chunk| Arc::get_mut(&mut chunk)?.renumber(base).then_some(chunk));
        renumbered.unwrap_or_else(|| Arc::new(Chunk::new(base, &self.common)))
    }
}

impl<T: Evictable> Chunk<T> {
    fn new(base: u64, common: &T::Common) -> Self {
        let bases = (0..CHUNK / Block::<T>::LEN).map(|i| base + (i * Block::<T>::LEN) as u64);
        Chunk { base, blocks: bases.map(|base| Block::new(base, common.clone())).collect() }
    }

    /// Sets the numbers of the records to come. Returns `false` if one of the blocks is in use.
    fn renumber(&mut self, base: u64) -> bool {
        self.base = base;
        let mut blocks = self.blocks.iter_mut().zip((base..).step_by(Block::<T>::LEN));
        blocks.all(|(block, base)| Arc::get_mut(block).map(|block| block.base = base).is_some())
    }
}

impl<T: Evictable> Block<T> {
    pub(super) fn new(base: u64, common: T::Common) -> Arc<Self> {
        Arc::new(Block { base, common, slots: T::Block::default() })
    }
}

impl<T: Evictable> Node<T> {
    fn new(chunk: Arc<Chunk<T>>) -> Arc<Self> {
        Arc::new(Node { chunk, next: OnceLock::new() })
    }
}
