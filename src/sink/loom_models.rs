//! Models of the lock-free code, which loom runs through all orders of events that the memory model allows.
//!
//! Each model has the smallest number of threads and records with which its guarantee could be broken. The lengths of
//! segments and chunks are reduced accordingly. `tests/loom_models` runs the models.

use super::{
    clock::Tick,
    config::Retention,
    conn::{op_log::OpLog, op_writer::OpWriter},
    record_id::RecordId,
    registry::{
        CHUNK, Evictable, IdAllocator, Rec, Registry,
        end::{End, EndCell},
        shard::MODEL_SHARD,
    },
    snapshot::timeline::Timeline,
};
use crate::{
    error::FailureDetail,
    record::{
        BoxedOrEmpty, DeltaCodec, EncodedOps, EndReason, Failure, OpKind, RawOp, Segment, SegmentChain,
        SocketOps, SocketTrace, WriteCursor,
    },
    sync::{self, AtomicU64},
};
use loom::thread;
use std::{
    collections::HashSet,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::Ordering::{AcqRel, Acquire, Relaxed, Release},
    },
};

static TIMES: LazyLock<Timeline> = LazyLock::new(Timeline::test);

/// A segment fills up and another one follows while another thread reads. A reader sees a prefix of the written
/// operations, each of them complete, and never fewer than before.
pub fn a_reader_sees_a_prefix_of_a_growing_chain() {
    loom::model(|| {
        let first = Segment::new::<2>(DeltaCodec::default());
        let writer = thread::spawn({
            let first = first.clone();
            move || write(&first)
        });
        let before = SegmentChain::capture(first.clone());
        let shown = assert_prefix_of_written(&before);
        let after = SegmentChain::capture(first.clone());
        assert!(assert_prefix_of_written(&after) >= shown);
        assert_eq!(assert_prefix_of_written(&before), shown, "a captured chain does not change");
        writer.join().unwrap();
        assert_eq!(assert_prefix_of_written(&SegmentChain::capture(first)), WRITTEN.len());
    });
}

/// The second operation takes three words, so it needs a segment of its own.
const WRITTEN: [RawOp; 3] = [
    RawOp { call: 10, ret: 20, len: 1, kind: OpKind::Read },
    RawOp { call: 30, ret: u64::MAX >> 8, len: u32::MAX, kind: OpKind::Write },
    RawOp { call: 40, ret: 50, len: 3, kind: OpKind::Read },
];

fn write(first: &Segment) {
    let mut cursor = WriteCursor::default();
    assert!(cursor.push(first, &WRITTEN[0]) && !cursor.push(first, &WRITTEN[1]));
    let second = Segment::new::<4>(cursor.delta());
    first.link(second.clone());
    let mut cursor = WriteCursor::new(cursor.delta());
    assert!(cursor.push(&second, &WRITTEN[1]) && cursor.push(&second, &WRITTEN[2]));
}

/// Asserts that the chain has the first of the [`WRITTEN`] operations, and returns their number.
fn assert_prefix_of_written(chain: &SegmentChain) -> usize {
    let clock = TIMES.clock.clone();
    let ops =
        EncodedOps { head: chain.clone(), tail: BoxedOrEmpty::new(), clock, texts: BoxedOrEmpty::new() };
    let shown: Vec<_> = SocketOps::encoded(ops).iter().collect();
    assert_eq!(shown.len() as u64, chain.len());
    for (shown, written) in shown.iter().zip(&WRITTEN) {
        assert_eq!(shown.data_len, written.len);
        assert_eq!(shown.call_at, TIMES.clock.timestamp(written.call));
        assert_eq!(shown.return_at, TIMES.clock.timestamp(written.ret));
    }
    shown.len()
}

/// A log is exported while its head, and then its ring, grows. The export has the first and the newest operations, and
/// the number of operations between them.
pub fn an_exported_log_has_the_first_and_the_newest_operations() {
    loom::model(|| {
        let limits = Retention::bounded().socket_ops(FIRST, NEWEST);
        let log = Arc::new(OpLog::new());
        let writer = thread::spawn({
            let log = log.clone();
            move || {
                (1..=OPS).for_each({
                    let mut writer = OpWriter::new(&limits);
                    move |at| push(&log, &mut writer, at)
                })
            }
        });
        let before = assert_first_and_newest(&log.export(&limits, &TIMES));
        let after = assert_first_and_newest(&log.export(&limits, &TIMES));
        assert!(after >= before);
        writer.join().unwrap();
        assert_eq!(assert_first_and_newest(&log.export(&limits, &TIMES)), OPS);
    });
}

const FIRST: u64 = 2;
const NEWEST: u64 = 2;
/// Enough to drop a segment of the ring.
const OPS: u64 = 7;

fn push(log: &OpLog, writer: &mut OpWriter, at: u64) {
    writer.push(
        log,
        OpKind::Write,
        Tick::from_ticks(at * 10),
        Tick::from_ticks(at * 10 + 5),
        Ok(at as usize),
    );
}

/// Asserts that the trace has the first and the newest operations, and returns how many there were when it was
/// exported.
fn assert_first_and_newest(trace: &SocketTrace) -> u64 {
    let shown: Vec<u64> = trace.socket_ops.iter().map(|op| u64::from(op.data_len)).collect();
    let all = shown.len() as u64 + trace.dropped_ops;
    let expected: Vec<u64> = (1..=all).filter(|at| *at <= FIRST || at + NEWEST > all).collect();
    assert_eq!(shown, expected, "{} dropped", trace.dropped_ops);
    all
}

/// A connection is written to and then ends while another thread takes a snapshot. A snapshot with the end has all
/// operations.
pub fn an_ended_connection_shows_all_operations() {
    loom::model(|| {
        let limits = Retention::unbounded();
        let conn = Arc::new((OpLog::new(), EndCell::default(), AtomicU64::new(0)));
        let owner = thread::spawn({
            let conn = conn.clone();
            move || {
                let (log, end, sent) = &*conn;
                let mut writer = OpWriter::new(&limits);
                (1..=3).for_each(|at| push(log, &mut writer, at));
                sent.store(3, Relaxed);
                assert!(end.end(Tick::from_ticks(1), &EndReason::Closed, None));
            }
        });
        let (log, end, sent) = &*conn;
        let ended = end.get().is_some();
        let shown = log.export(&limits, &TIMES).socket_ops.len();
        assert!(!ended || (shown == 3 && sent.load(Relaxed) == 3), "ended after {shown} operations");
        owner.join().unwrap();
    });
}

/// Two threads end a record while a third one reads it. One of them succeeds, and a reader sees its whole end or none.
pub fn only_one_of_two_threads_ends_a_record() {
    loom::model(|| {
        let cell = Arc::new(EndCell::default());
        let ending = [false, true].map(|timeout| {
            let cell = cell.clone();
            thread::spawn(move || {
                let End { at, reason, fault } = end(timeout);
                cell.end(at, &reason, fault)
            })
        });
        let known = [end(false), end(true)];
        let seen = cell.get();
        assert!(seen.iter().all(|end| known.contains(end)), "{seen:?}");
        let fault = cell.fault();
        assert!(fault.is_none_or(|fault| known.iter().any(|end| end.fault.as_ref() == Some(fault))));
        let [failed, timeout] = ending.map(|ending| ending.join().unwrap());
        assert_ne!(failed, timeout, "one of them succeeds");
        assert_eq!(cell.get(), Some(end(timeout)));
        assert!(seen.is_none_or(|seen| seen == end(timeout)), "the end does not change");
    });
}

/// A thread adds links to a record while another one ends it. Either the thread that ends it sees the links, or they
/// were not added.
pub fn the_thread_that_ends_a_record_sees_its_links() {
    loom::model(|| {
        let shared = Arc::new((EndCell::default(), sync::Mutex::new(0)));
        let writing = thread::spawn({
            let shared = shared.clone();
            move || {
                let (cell, written) = &*shared;
                let mut written = written.lock().unwrap();
                *written += u8::from(cell.set_has_links());
            }
        });
        let (cell, written) = &*shared;
        let ending = cell.begin_end().expect("no other thread ends it");
        let seen = if ending.has_links() { *written.lock().unwrap() } else { 0 };
        ending.finish(Tick::from_ticks(1), &EndReason::Closed, None);
        writing.join().unwrap();
        assert_eq!(*written.lock().unwrap(), seen);
        assert_eq!(cell.has_links(), seen == 1);
    });
}

fn end(timeout: bool) -> End {
    if timeout {
        let fault = FailureDetail::new(Failure::GenericTimeoutError, "slow");
        End { at: Tick::from_ticks(7), reason: EndReason::Timeout, fault: Some(fault) }
    } else {
        let fault = FailureDetail::new(Failure::ConnectionReset, "reset");
        End { at: Tick::from_ticks(3), reason: EndReason::Failed, fault: Some(fault) }
    }
}

/// Two threads add records to one shard, which begins another chunk, while a third one takes a snapshot.
pub fn a_snapshot_sees_records_that_are_added_to_one_shard() {
    adding(1);
}

/// Two threads add records to a shard each, while a third one takes a snapshot.
pub fn a_snapshot_sees_records_that_are_added_to_two_shards() {
    adding(2);
}

/// The names of the records that each thread adds.
const NAMES: [[u64; 2]; 2] = [[11, 12], [21, 22]];

fn adding(shards: usize) {
    loom::model(move || {
        let kept = Kept::new(shards);
        let first = kept.add(1, None);
        let added = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let adding = [0, 1].map(|thread| {
            let (kept, added) = (kept.clone(), added.clone());
            thread::spawn(move || {
                MODEL_SHARD.with(|mine| mine.set(thread));
                for name in NAMES[thread] {
                    kept.add(name, None);
                    added[thread].store(name, Release);
                }
            })
        });
        let before = [0, 1].map(|thread| added[thread].load(Acquire));
        let seen = kept.collect();
        assert!(seen.contains(&1));
        for (names, before) in NAMES.iter().zip(before) {
            let missing = names.iter().any(|name| *name <= before && !seen.contains(name));
            assert!(!missing, "{before} was added before: {seen:?}");
        }
        adding.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(kept.collect(), [1, 11, 12, 21, 22]);
        kept.assert_nothing_left(first);
    });
}

/// While one thread adds and another one evicts, a snapshot sees all open records, and each record once. Evicted
/// records are counted.
pub fn eviction_keeps_open_records() {
    loom::model(|| {
        let kept = Kept::new(1);
        let open = kept.add(1, None);
        (2..=3).for_each(|name| kept.add(name, None).end());
        let adding = thread::spawn({
            let kept = kept.clone();
            move || (4..=5).for_each(|name| kept.add(name, None).end())
        });
        let evicting = thread::spawn({
            let kept = kept.clone();
            move || while kept.registry.evict_oldest_full() {}
        });
        assert!(kept.collect().contains(&1), "the record is open");
        adding.join().unwrap();
        evicting.join().unwrap();
        let seen = kept.collect();
        assert!(seen.contains(&1) && seen.contains(&5));
        assert_eq!(seen.len() as u64 + kept.registry.dropped(), 5, "{seen:?}");
        open.end();
        kept.registry.sweep_survivors();
        kept.assert_nothing_left(open);
    });
}

/// While one thread evicts, another one sweeps records that outlived their chunk. Open records are never lost.
pub fn sweeping_keeps_open_records() {
    loom::model(|| {
        let kept = Kept::new(1);
        let open = [1, 2, 3, 4, 5].map(|name| kept.add(name, None));
        kept.registry.evict_oldest_full();
        open[0].end();
        let [evicting, sweeping] = [Registry::evict_oldest_full, sweep].map(|what| {
            let kept = kept.clone();
            thread::spawn(move || what(&kept.registry))
        });
        assert!(kept.collect().ends_with(&[2, 3, 4, 5]));
        evicting.join().unwrap();
        sweeping.join().unwrap();
        kept.registry.sweep_survivors();
        assert_eq!((kept.collect(), kept.registry.dropped()), (vec![2, 3, 4, 5], 1));
    });
}

fn sweep(registry: &Registry<Item>) -> bool {
    registry.sweep_survivors();
    true
}

/// A thread adds a record that refers to another one, which ends at once, while another thread evicts. A snapshot never
/// contains the first without the second.
pub fn a_snapshot_has_the_records_that_its_records_refer_to() {
    loom::model(|| {
        let kept = Kept::new(1);
        let first = kept.add(1, None);
        kept.add(2, None).end();
        let adding = thread::spawn({
            let (kept, first) = (kept.clone(), first.clone());
            move || {
                let second = kept.add(3, Some(&first));
                first.end();
                kept.add(4, None).end();
                second.end();
                kept.add(5, None).end();
            }
        });
        let evicting = thread::spawn({
            let kept = kept.clone();
            move || while kept.registry.evict_oldest_full() {}
        });
        let seen = kept.collect();
        assert!(seen.contains(&1) || !seen.contains(&3), "{seen:?}");
        adding.join().unwrap();
        evicting.join().unwrap();
        let seen = kept.collect();
        assert!(seen.contains(&1) || !seen.contains(&3), "{seen:?}");
        assert_eq!(seen.len() as u64 + kept.registry.dropped(), 5, "{seen:?}");
        kept.assert_nothing_left(first);
    });
}

struct Kept {
    registry: Registry<Item>,
    id_alloc: IdAllocator,
    live: Arc<()>,
}

impl Kept {
    fn new(shards: usize) -> Arc<Self> {
        let bound = if shards == 1 { 0 } else { shards * 4 * CHUNK };
        Arc::new(Kept {
            registry: Registry::new(bound, ()),
            id_alloc: IdAllocator::new(),
            live: Arc::new(()),
        })
    }

    fn add(&self, name: u64, needs: Option<&Rec<Item>>) -> Rec<Item> {
        if let Some(needed) = needs {
            needed.needed_by.fetch_add(1, Relaxed);
        }
        let item = Item {
            name: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            needed_by: AtomicU64::new(0),
            needs: Mutex::new(needs.cloned()),
            _live: self.live.clone(),
        };
        item.name.store(name, Relaxed);
        self.registry.add(&self.id_alloc, || item).0
    }

    /// Returns the names of all records.
    fn collect(&self) -> Vec<u64> {
        let records = self.registry.collect();
        let numbers: HashSet<RecordId> = records.iter().map(Rec::id).collect();
        assert_eq!(numbers.len(), records.len(), "a record was collected twice");
        let mut names: Vec<u64> = records.iter().map(|record| record.name.load(Relaxed)).collect();
        assert!(!names.contains(&0), "a record was seen before its name was written");
        names.sort_unstable();
        names
    }

    /// Drops the registry, and asserts that all records are freed except `held`.
    fn assert_nothing_left(self: Arc<Self>, held: Rec<Item>) {
        let live = self.live.clone();
        drop(self);
        assert!(Arc::strong_count(&live) > 1);
        drop(held);
        assert_eq!(Arc::strong_count(&live), 1);
    }
}

/// A record such as a request. Its name is written before it is added, and its end afterwards.
struct Item {
    name: AtomicU64,
    ended: AtomicU64,
    needed_by: AtomicU64,
    /// No other operation happens under this lock, so it is not part of the model.
    needs: Mutex<Option<Rec<Item>>>,
    /// Counts the items that are left.
    _live: Arc<()>,
}

impl Item {
    fn end(&self) {
        self.ended.store(1, Release);
    }
}

impl Evictable for Item {
    type Common = ();
    type Block = [sync::OnceLock<Self>; 1];

    fn is_evictable(&self) -> bool {
        self.ended.load(Acquire) == 1 && self.needed_by.load(Acquire) == 0
    }

    fn on_evict(record: &Rec<Self>) {
        let needed = record.needs.lock().unwrap().take();
        if let Some(needed) = needed {
            needed.needed_by.fetch_sub(1, AcqRel);
        }
    }
}
