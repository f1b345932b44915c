//! [`Pinned`]: reads the records of a registry while others are written.

use super::{Chunk, Evictable, Rec, Registry};
use crate::sink::record_id::RecordId;
use std::{collections::VecDeque, sync::Arc};

/// The records of one moment, none of which is evicted as long as this is held. Those that are written meanwhile may be
/// among them.
pub(crate) struct Pinned<T: Evictable> {
    chunks: Vec<Arc<Chunk<T>>>,
    survivors: Vec<Arc<Vec<Rec<T>>>>,
    kept: Arc<VecDeque<Rec<T>>>,
}

impl<T: Evictable> Registry<T> {
    /// Pins the records that are there now.
    pub(crate) fn pin(&self) -> Pinned<T> {
        let kept = self.lock_kept();
        let shards = (0..self.shards.len()).map(|i| {
            let shard = self.lock(i);
            (shard.list.as_ref().map(|list| list.head.clone()), shard.survivors.clone())
        });
        let (heads, survivors): (Vec<_>, Vec<_>) = shards.unzip();
        let mut pinned = Pinned { chunks: Vec::new(), survivors, kept: kept.clone() };
        drop(kept);
        for mut node in heads {
            while let Some(here) = node {
                pinned.chunks.push(here.chunk.clone());
                node = here.next.get().cloned();
            }
        }
        pinned
    }

    /// Returns a reference to each record that is there now, in no particular order.
    pub(crate) fn collect(&self) -> Vec<Rec<T>> {
        let pinned = self.pin();
        let listed = pinned.chunks.iter().flat_map(|chunk| chunk.recs()).map(|(_, rec)| rec);
        pinned.unlisted().cloned().chain(listed).collect()
    }
}

impl<T: Evictable> Pinned<T> {
    /// Returns each record with its ID, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (RecordId, &T)> {
        let listed = self.chunks.iter().flat_map(|chunk| {
            chunk
                .written()
                .map(|(index, record)| (RecordId::from_nonzero(chunk.base + u64::from(index)), record))
        });
        self.unlisted().map(|rec| (rec.id(), &**rec)).chain(listed)
    }

    /// Returns the records that are in no chunk of the lists any more.
    fn unlisted(&self) -> impl Iterator<Item = &Rec<T>> {
        self.survivors.iter().flat_map(|shard| shard.iter()).chain(self.kept.iter())
    }

    /// Returns an upper bound of the number of records.
    pub(crate) fn max_len(&self) -> usize {
        self.chunks.len() * super::CHUNK + self.unlisted().count()
    }
}

impl<T: Evictable> Chunk<T> {
    /// Returns the records written so far, with their indices.
    pub(super) fn written(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(self.slots()).filter_map(|(index, slot)| Some((index, slot.get()?)))
    }

    /// Returns references to the records written so far, with their indices.
    pub(super) fn recs(&self) -> impl Iterator<Item = (u32, Rec<T>)> {
        self.written().map(|(index, _)| (index, self.rec(index as usize)))
    }
}
