//! What is lock-free, run by loom through the orders of events that the memory model allows.
//!
//! Each model has the fewest threads and records in which its promise could be broken; the lengths of segments and
//! chunks are cut down to match. `tests/loom_models` runs them.

use super::{
    clock::Tick,
    config::Retention,
    conn::op_log::{OpLog, OpWriter},
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

/// A segment fills up and another follows while somebody reads: what is read is a begin of what is written, each
/// operation whole, and never less than before.
pub fn segments() {
    loom::model(|| {
        let first = Segment::new::<2>(DeltaCodec::default());
        let writer = thread::spawn({
            let first = first.clone();
            move || write(&first)
        });
        let before = SegmentChain::capture(first.clone());
        let shown = assert_begin_of_written(&before);
        let after = SegmentChain::capture(first.clone());
        assert!(assert_begin_of_written(&after) >= shown);
        assert_eq!(assert_begin_of_written(&before), shown, "what was captured stays as it is");
        writer.join().unwrap();
        assert_eq!(assert_begin_of_written(&SegmentChain::capture(first)), WRITTEN.len());
    });
}

/// The second takes three words, and so a segment of its own.
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

fn assert_begin_of_written(chain: &SegmentChain) -> usize {
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

/// A log is exported while it grows, first its head and then its ring: the first and the newest operations are
/// there, and those between are counted.
pub fn op_log() {
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
/// So many that a segment of the ring goes.
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

/// How many there were when it was taken.
fn assert_first_and_newest(trace: &SocketTrace) -> u64 {
    let shown: Vec<u64> = trace.socket_ops.iter().map(|op| u64::from(op.data_len)).collect();
    let all = shown.len() as u64 + trace.dropped_ops;
    let expected: Vec<u64> = (1..=all).filter(|at| *at <= FIRST || at + NEWEST > all).collect();
    assert_eq!(shown, expected, "{} dropped", trace.dropped_ops);
    all
}

/// A connection is written to and then ends while a snapshot looks: whoever sees its end sees all its operations.
pub fn ended_connection() {
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
                assert!(end.end(Tick::from_ticks(1), EndReason::Closed, None));
            }
        });
        let (log, end, sent) = &*conn;
        let ended = end.get().is_some();
        let shown = log.export(&limits, &TIMES).socket_ops.len();
        assert!(!ended || (shown == 3 && sent.load(Relaxed) == 3), "ended after {shown} operations");
        owner.join().unwrap();
    });
}

/// Two threads end a thing while a third looks: one of them does it, and all of its end is seen or nothing.
pub fn ends() {
    loom::model(|| {
        let cell = Arc::new(EndCell::default());
        let ending = [false, true].map(|timeout| {
            let cell = cell.clone();
            thread::spawn(move || {
                let End { at, reason, fault } = end(timeout);
                cell.end(at, reason, fault)
            })
        });
        let known = [end(false), end(true)];
        let seen = cell.get();
        assert!(seen.iter().all(|end| known.contains(end)), "{seen:?}");
        let fault = cell.fault();
        assert!(fault.is_none_or(|fault| known.iter().any(|end| end.fault.as_ref() == Some(fault))));
        let [failed, timeout] = ending.map(|ending| ending.join().unwrap());
        assert_ne!(failed, timeout, "one of them");
        assert_eq!(cell.get(), Some(end(timeout)));
        assert!(seen.is_none_or(|seen| seen == end(timeout)), "the end does not change");
    });
}

/// Something is written down for a thing while another thread ends it: whoever ends it sees what was written, or
/// nothing was.
pub fn links_before_the_end() {
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
        let ending = cell.begin_end().expect("nobody else ends it");
        let seen = if ending.has_links() { *written.lock().unwrap() } else { 0 };
        ending.finish(Tick::from_ticks(1), EndReason::Closed, None);
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

/// Two threads add records to one shard, which goes on to another chunk, while a snapshot collects.
pub fn adding_to_one_shard() {
    adding(1);
}

/// The same with a shard for each thread.
pub fn adding_to_two_shards() {
    adding(2);
}

/// What each thread adds.
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
            assert!(!missing, "{before} was there before: {seen:?}");
        }
        adding.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(kept.collect(), [1, 11, 12, 21, 22]);
        kept.assert_nothing_left(first);
    });
}

/// While one thread adds and another evicts, a snapshot sees all that has not ended, and each record once; what
/// went is counted.
pub fn evicting() {
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
        assert!(kept.collect().contains(&1), "it has not ended");
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

/// While one thread evicts, another lets those go that outlived their chunk: what has not ended is never lost.
pub fn sweeping() {
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

/// A record is added that needs one which ends at once, while another thread evicts: a snapshot never sees it
/// without the one that it needs.
pub fn links() {
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
            live: self.live.clone(),
        };
        item.name.store(name, Relaxed);
        self.registry.add(&self.id_alloc, || item).0
    }

    /// The names of all that is there.
    fn collect(&self) -> Vec<u64> {
        let records = self.registry.collect();
        let numbers: HashSet<RecordId> = records.iter().map(Rec::id).collect();
        assert_eq!(numbers.len(), records.len(), "each once");
        let mut names: Vec<u64> = records.iter().map(|record| record.name.load(Relaxed)).collect();
        assert!(!names.contains(&0), "a record is seen as it was written");
        names.sort_unstable();
        names
    }

    /// Everything goes with the registry, but what somebody holds.
    fn assert_nothing_left(self: Arc<Self>, held: Rec<Item>) {
        let live = self.live.clone();
        drop(self);
        assert!(Arc::strong_count(&live) > 1);
        drop(held);
        assert_eq!(Arc::strong_count(&live), 1);
    }
}

/// A record such as a request: its name is written before it is added, its end afterwards.
struct Item {
    name: AtomicU64,
    ended: AtomicU64,
    needed_by: AtomicU64,
    /// Nothing happens under this lock: it is not part of the model.
    needs: Mutex<Option<Rec<Item>>>,
    live: Arc<()>,
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

    fn on_evict(&self, (): &()) {
        let needed = self.needs.lock().unwrap().take();
        if let Some(needed) = needed {
            needed.needed_by.fetch_sub(1, AcqRel);
        }
    }
}
