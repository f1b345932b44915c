//! The time of recording and of snapshots: `cargo bench -p nettrace-benches --bench recording [-- FILTER]`.

mod scenes;

use criterion::{Criterion, criterion_group, criterion_main};
use scenes::{Scene, run_in_batches};
use std::time::{Duration, Instant};

criterion_group! {
    name = all;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    targets = scenes
}
criterion_main!(all);

fn scenes(criterion: &mut Criterion) {
    for Scene { name, prepare, .. } in scenes::all() {
        let (group, scene) = name.split_once('/').unwrap_or(("", &name));
        let mut group = criterion.benchmark_group(group);
        let mut work = None;
        group.bench_function(scene, |bencher| {
            let work = work.get_or_insert_with(&prepare);
            bencher.iter_custom(|times| {
                let mut taken = Duration::ZERO;
                run_in_batches(&mut **work, times, |run| {
                    let begin = Instant::now();
                    run();
                    taken += begin.elapsed();
                });
                taken
            });
        });
    }
}
