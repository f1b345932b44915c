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

    fn on_evict(&self, (): &()) {
        assert_eq!(self.evictions.fetch_add(1, Relaxed), 0, "once");
        if let Some(before) = self.needs.lock().unwrap().take() {
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

    fn known(&self) -> Vec<u64> {
        let mut numbers: Vec<u64> = self.registry.collect().iter().map(|rec| rec.id().get()).collect();
        numbers.sort_unstable();
        assert!(numbers.windows(2).all(|pair| pair[0] != pair[1]), "{numbers:?}");
        numbers
    }
}

#[test]
fn records_are_found_as_they_were_added() {
    let test = Test::new();
    let added: Vec<u64> = (0..100).map(|_| test.add(Item::default()).id().get()).collect();
    assert_eq!(test.known(), added);
    assert_eq!(added, (1..=100).collect::<Vec<_>>());
    assert_eq!(test.registry.listed(), 4 * CHUNK);
}

#[test]
fn the_oldest_chunk_goes_first_whoever_filled_it() {
    let test = Test::new();
    // Threads fill shards of their own, one after the other.
    for _ in 0..test.registry.shards.len() * 2 {
        thread::scope(|scope| scope.spawn(|| test.fill(CHUNK + 1)).join().unwrap());
    }
    let mut before = test.known();
    while test.registry.evict_oldest_full() {
        let after = test.known();
        assert_eq!(after[..], before[CHUNK..], "the oldest {CHUNK}");
        before = after;
    }
    assert!(before.len() <= test.registry.shards.len() * CHUNK, "only chunks that are being filled stay");
}

#[test]
fn a_chunk_that_is_being_filled_does_not_go() {
    let test = Test::new();
    assert!(!test.registry.evict_oldest_full());
    test.fill(CHUNK);
    assert!(!test.registry.evict_oldest_full());
    test.fill(1);
    assert!(test.registry.evict_oldest_full());
    assert_eq!((test.known().len(), test.registry.dropped()), (1, CHUNK as u64));
}

#[test]
fn the_last_chunk_goes_only_if_it_makes_room() {
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
fn what_has_not_ended_outlives_its_chunk_and_goes_when_it_has() {
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
    assert_eq!(test.known()[..10], numbers);
    assert_eq!(test.registry.dropped(), 10 * (CHUNK as u64 * 3 - 1));

    // They are found to have ended before long, though none of them is in a list.
    open.iter().for_each(|open| open.end());
    test.fill(CHUNK);
    assert!(test.registry.evict_oldest_full());
    assert!(open.iter().all(|open| open.evictions.load(Relaxed) == 1));
    assert_eq!(test.known().len() as u64 + test.registry.dropped(), 10 * CHUNK as u64 * 3 + 1 + CHUNK as u64);
}

#[test]
fn what_is_needed_stays_as_long_as_what_needs_it() {
    let test = Test::new();
    let mut last = test.add(Item::default());
    for _ in 0..CHUNK * 4 {
        last = test.add(Item::after(&last));
    }
    last.open.store(true, Relaxed);
    test.fill(CHUNK);
    while test.registry.evict_oldest_full() {}
    let dropped = test.registry.dropped();
    assert!(test.known().len() > CHUNK * 4, "the chain hangs on its last");
    last.end();
    test.registry.sweep_survivors();
    assert_eq!(test.registry.dropped() - dropped, CHUNK as u64 * 4 + 1, "the whole of it, at once");
}

#[test]
fn clearing_leaves_what_has_not_ended() {
    let test = Test::new();
    test.fill(CHUNK * 2);
    let (first, open) = (test.add(Item::default()), test.add(Item::open()));
    let needs = test.add(Item::after(&first));
    needs.open.store(true, Relaxed);
    test.fill(CHUNK * 2 + 5);
    test.registry.evict_oldest_full();
    test.registry.clear();
    assert_eq!(test.known(), [first.id().get(), open.id().get(), needs.id().get()]);
    assert_eq!((test.registry.listed(), test.registry.dropped()), (0, 0));
    test.fill(1);
    assert_eq!(test.registry.listed(), CHUNK);
    open.end();
    needs.end();
    test.registry.clear();
    assert!(test.known().is_empty());
}

#[test]
fn many_threads_add_while_others_look_and_evict() {
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
                test.known();
            }
        });
        scope.spawn(|| {
            while done.load(Relaxed) < 4 {
                test.registry.evict_oldest_full();
            }
        });
    });
    assert_eq!(test.known().len() as u64 + test.registry.dropped(), 4 * EACH as u64);
    let open = test.registry.collect().iter().filter(|item| item.open.load(Relaxed)).count();
    assert_eq!(open, 4 * EACH.div_ceil(7), "none that was open went");
    let chunks = test.registry.chunks.load(Relaxed);
    while test.registry.evict_oldest_full() {}
    assert!(test.registry.chunks.load(Relaxed) <= test.registry.shards.len().min(chunks));
}

#[test]
fn nothing_is_left_after_it_is_dropped() {
    let test = Test::new();
    let mut live: Vec<Weak<()>> = Vec::new();
    let mut open = Vec::new();
    for i in 0..CHUNK * 50 {
        let record = test.add(if i % 10 == 0 { Item::open() } else { Item::default() });
        live.push(Arc::downgrade(&record.live));
        open.extend((i % 10 == 0).then_some(record));
    }
    while test.registry.evict_oldest_full() {}
    // A record that is held keeps no other.
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
fn what_outlives_its_chunk_keeps_none_of_its_neighbours() {
    let test = Test::new();
    let added: Vec<_> =
        (0..CHUNK * 2).map(|i| test.add(if i == 3 { Item::open() } else { Item::default() })).collect();
    let live: Vec<Weak<()>> = added.iter().map(|record| Arc::downgrade(&record.live)).collect();
    // One is open, and of another somebody holds a reference.
    let held = added[CHUNK / 2].clone();
    drop(added);
    test.fill(1);
    while test.registry.evict_oldest_full() {}
    let alive: Vec<_> = (0..live.len()).filter(|i| live[*i].upgrade().is_some()).collect();
    assert_eq!(alive, [3, CHUNK / 2]);
    assert_eq!((held.id().get(), held.evictions.load(Relaxed)), (1 + CHUNK as u64 / 2, 1));
    // The places of both are used again.
    test.fill(CHUNK * 2);
    assert_eq!((held.id().get(), test.known()[0]), (1 + CHUNK as u64 / 2, 4));
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
