use super::*;
use std::{
    sync::{
        Weak,
        atomic::{AtomicBool, AtomicU32},
    },
    thread,
};

#[derive(Default)]
struct Item {
    open: AtomicBool,
    needed_by: AtomicU32,
    needs: Mutex<Option<Rec<Item>>>,
    is_worthy: bool,
    evictions: AtomicU32,
    live: Arc<()>,
}

impl Item {
    fn open() -> Self {
        Item { open: true.into(), ..Item::default() }
    }

    fn after(before: &Rec<Item>) -> Self {
        before.needed_by.fetch_add(1, Relaxed);
        Item { needs: Mutex::new(Some(before.clone())), ..Item::default() }
    }

    fn end(&self) {
        self.open.store(false, Relaxed);
    }
}

impl Evictable for Item {
    type Common = ();
    type Block = [OnceLock<Self>; 1];

    fn is_evictable(&self) -> bool {
        !self.open.load(Relaxed) && self.needed_by.load(Relaxed) == 0
    }

    fn is_worth_keeping(record: &Rec<Self>) -> bool {
        record.is_worthy
    }

    fn on_evict(record: &Rec<Self>) {
        assert_eq!(record.evictions.fetch_add(1, Relaxed), 0, "evicted twice");
        if let Some(before) = record.needs.lock().unwrap().take() {
            before.needed_by.fetch_sub(1, Relaxed);
        }
    }
}

struct Test {
    registry: Registry<Item>,
    id_alloc: IdAllocator,
}

impl Test {
    fn new() -> Self {
        Test { registry: Registry::new(usize::MAX, ()), id_alloc: IdAllocator::new() }
    }

    fn add(&self, item: Item) -> Rec<Item> {
        self.registry.add(&self.id_alloc, || item).0
    }

    fn fill(&self, count: usize) {
        (0..count).for_each(|_| drop(self.add(Item::default())));
    }

    fn ids(&self) -> Vec<u64> {
        let mut numbers: Vec<u64> = self.registry.collect().iter().map(|rec| rec.id().get()).collect();
        numbers.sort_unstable();
        assert!(numbers.windows(2).all(|pair| pair[0] != pair[1]), "{numbers:?}");
        numbers
    }
}

#[test]
fn records_are_collected_with_their_ids() {
    let test = Test::new();
    let added: Vec<u64> = (0..100).map(|_| test.add(Item::default()).id().get()).collect();
    assert_eq!(test.ids(), added);
    assert_eq!(added, (1..=100).collect::<Vec<_>>());
    assert_eq!(test.registry.listed(), 4 * CHUNK);
}

#[test]
fn the_oldest_chunk_of_all_shards_is_evicted_first() {
    let test = Test::new();
    // Threads fill shards of their own, one after the other.
    for _ in 0..test.registry.shards.len() * 2 {
        thread::scope(|scope| scope.spawn(|| test.fill(CHUNK + 1)).join().unwrap());
    }
    let mut before = test.ids();
    while test.registry.evict_oldest_full() {
        let after = test.ids();
        assert_eq!(after[..], before[CHUNK..], "the oldest {CHUNK} records are evicted");
        before = after;
    }
    assert!(before.len() <= test.registry.shards.len() * CHUNK, "only chunks that are being filled are kept");
}

#[test]
fn a_chunk_that_is_being_filled_is_not_evicted() {
    let test = Test::new();
    assert!(!test.registry.evict_oldest_full());
    test.fill(CHUNK);
    assert!(!test.registry.evict_oldest_full());
    test.fill(1);
    assert!(test.registry.evict_oldest_full());
    assert_eq!((test.ids().len(), test.registry.dropped()), (1, CHUNK as u64));
}

#[test]
fn the_last_chunk_is_evicted_only_if_it_makes_room() {
    let test = Test::new();
    let open = test.add(Item::open());
    assert!(!test.registry.evict_oldest_chunk() && test.registry.peek_oldest(|_| ()).is_none());
    for _ in 0..CHUNK - 1 {
        drop(test.add(Item::open()));
        assert!(!test.registry.evict_oldest_chunk());
    }
    assert_eq!((test.registry.listed(), test.registry.survivor_count()), (CHUNK, 0), "they share one chunk");
    open.end();
    assert!(test.registry.peek_oldest(|_| ()).is_some() && test.registry.evict_oldest_chunk());
    assert_eq!((test.registry.listed(), test.registry.survivor_count()), (0, CHUNK - 1));
    assert_eq!(test.registry.dropped(), 1);
}

#[test]
fn open_records_outlive_their_chunk_until_they_end() {
    let test = Test::new();
    let open: Vec<_> = (0..10)
        .map(|_| {
            let open = test.add(Item::open());
            test.fill(CHUNK * 3 - 1);
            open
        })
        .collect();
    test.fill(1);
    while test.registry.evict_oldest_full() {}
    let numbers: Vec<u64> = open.iter().map(|rec| rec.id().get()).collect();
    assert_eq!(test.ids()[..10], numbers);
    assert_eq!(test.registry.dropped(), 10 * (CHUNK as u64 * 3 - 1));

    // Their end is noticed soon, although none of them is in a list.
    open.iter().for_each(|open| open.end());
    test.fill(CHUNK);
    assert!(test.registry.evict_oldest_full());
    assert!(open.iter().all(|open| open.evictions.load(Relaxed) == 1));
    assert_eq!(test.ids().len() as u64 + test.registry.dropped(), 10 * CHUNK as u64 * 3 + 1 + CHUNK as u64);
}

#[test]
fn referenced_records_are_kept_with_the_records_that_refer_to_them() {
    let test = Test::new();
    let mut last = test.add(Item::default());
    for _ in 0..CHUNK * 4 {
        last = test.add(Item::after(&last));
    }
    last.open.store(true, Relaxed);
    test.fill(CHUNK);
    while test.registry.evict_oldest_full() {}
    let dropped = test.registry.dropped();
    assert!(test.ids().len() > CHUNK * 4, "the last record keeps the chain");
    last.end();
    test.registry.sweep_survivors();
    assert_eq!(test.registry.dropped() - dropped, CHUNK as u64 * 4 + 1, "the whole chain is evicted at once");
}

#[test]
fn clearing_keeps_open_records() {
    let test = Test::new();
    test.fill(CHUNK * 2);
    let (first, open) = (test.add(Item::default()), test.add(Item::open()));
    let needs = test.add(Item::after(&first));
    needs.open.store(true, Relaxed);
    test.fill(CHUNK * 2 + 5);
    test.registry.evict_oldest_full();
    test.registry.clear();
    assert_eq!(test.ids(), [first.id().get(), open.id().get(), needs.id().get()]);
    assert_eq!((test.registry.listed(), test.registry.dropped()), (0, 0));
    test.fill(1);
    assert_eq!(test.registry.listed(), CHUNK);
    open.end();
    needs.end();
    test.registry.clear();
    assert!(test.ids().is_empty());
}

#[test]
fn many_threads_add_while_others_collect_and_evict() {
    const EACH: usize = 3_000;
    let test = Test::new();
    let done = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for i in 0..EACH {
                    let record = test.add(Item::open());
                    if i % 7 != 0 {
                        record.end();
                    }
                }
                done.fetch_add(1, Relaxed);
            });
        }
        scope.spawn(|| {
            while done.load(Relaxed) < 4 {
                test.ids();
            }
        });
        scope.spawn(|| {
            while done.load(Relaxed) < 4 {
                test.registry.evict_oldest_full();
            }
        });
    });
    assert_eq!(test.ids().len() as u64 + test.registry.dropped(), 4 * EACH as u64);
    let open = test.registry.collect().iter().filter(|item| item.open.load(Relaxed)).count();
    assert_eq!(open, 4 * EACH.div_ceil(7), "no open record was evicted");
    let chunks = test.registry.chunks.load(Relaxed);
    while test.registry.evict_oldest_full() {}
    assert!(test.registry.chunks.load(Relaxed) <= test.registry.shards.len().min(chunks));
}

#[test]
fn a_dropped_registry_frees_all_records() {
    let test = Test::new();
    let mut live: Vec<Weak<()>> = Vec::new();
    let mut open = Vec::new();
    for i in 0..CHUNK * 50 {
        let record = test.add(if i % 10 == 0 { Item::open() } else { Item::default() });
        live.push(Arc::downgrade(&record.live));
        open.extend((i % 10 == 0).then_some(record));
    }
    while test.registry.evict_oldest_full() {}
    // A held record does not keep other records.
    open.drain(1..);
    open[0].end();
    test.registry.sweep_survivors();
    open.iter().for_each(|open| open.end());
    test.registry.clear();
    drop(test);
    assert_eq!(live.iter().filter(|weak| weak.upgrade().is_some()).count(), 1);
    drop(open);
    assert!(live.iter().all(|weak| weak.upgrade().is_none()));
}

#[test]
fn a_record_that_outlives_its_chunk_does_not_keep_its_neighbours() {
    let test = Test::new();
    let added: Vec<_> =
        (0..CHUNK * 2).map(|i| test.add(if i == 3 { Item::open() } else { Item::default() })).collect();
    let live: Vec<Weak<()>> = added.iter().map(|record| Arc::downgrade(&record.live)).collect();
    // One record is open, and a reference to another one is held.
    let held = added[CHUNK / 2].clone();
    drop(added);
    test.fill(1);
    while test.registry.evict_oldest_full() {}
    let alive: Vec<_> = (0..live.len()).filter(|i| live[*i].upgrade().is_some()).collect();
    assert_eq!(alive, [3, CHUNK / 2]);
    assert_eq!((held.id().get(), held.evictions.load(Relaxed)), (1 + CHUNK as u64 / 2, 1));
    // The memory of their chunks is reused.
    test.fill(CHUNK * 2);
    assert_eq!((held.id().get(), test.ids()[0]), (1 + CHUNK as u64 / 2, 4));
}

#[test]
fn a_long_list_is_dropped_without_recursion() {
    let test = Test::new();
    let small = thread::Builder::new().stack_size(256 << 10);
    let dropped = small.spawn(move || {
        test.fill(CHUNK * 20_000);
        drop(test);
    });
    dropped.unwrap().join().unwrap();
}

#[test]
fn a_small_bound_has_few_shards() {
    for (bound, most) in [(0, 1), (100, 1), (CHUNK * 8, 2), (usize::MAX, usize::MAX)] {
        let registry = Registry::<Item>::new(bound, ());
        assert!(registry.shards.len() <= most && registry.shards.len().is_power_of_two(), "{bound}");
    }
}

#[test]
fn records_worth_keeping_outlive_their_chunk_and_are_evicted_separately() {
    let test = Test::new();
    let worthy = || Item { is_worthy: true, ..Item::default() };
    let kept: Vec<_> =
        (0..2 * CHUNK).map(|at| test.add(if at % 2 == 0 { worthy() } else { Item::default() })).collect();
    let open = test.add(Item { open: true.into(), ..worthy() });
    test.add(Item::default());
    while test.registry.evict_oldest_chunk() {}
    assert_eq!((test.registry.kept_count(), test.registry.dropped()), (CHUNK, CHUNK as u64 + 1));
    let pinned = test.registry.pin();
    assert_eq!(pinned.iter().count(), CHUNK + 1);
    open.end();
    test.registry.sweep_survivors();
    assert_eq!(test.registry.kept_count(), CHUNK + 1, "a survivor is kept, too");

    let follower = test.add(Item::after(&kept[0]));
    assert!(test.registry.evict_kept(|_| false));
    let evictions = |rec: &Rec<Item>| rec.evictions.load(Relaxed);
    assert_eq!([&kept[0], &kept[2], &kept[4]].map(evictions), [0, 1, 0], "the oldest that nothing needs");
    assert!(test.registry.evict_kept(|item| std::ptr::eq(item, &*kept[6])));
    assert_eq!([&kept[4], &kept[6]].map(evictions), [0, 1], "an expendable one before it");
    assert_eq!(pinned.iter().count(), CHUNK + 1, "what is pinned stays");
    drop((follower, open));
    test.registry.clear();
    assert_eq!((test.registry.pin().iter().count(), test.registry.kept_count()), (0, 0));
}
