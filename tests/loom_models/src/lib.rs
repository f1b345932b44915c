//! Runs the loom models of the lock-free code in nettrace, which are defined in `src/sink/loom_models.rs`.
//!
//! This is a package of its own, because the development dependencies of nettrace do not build under `cfg(loom)`.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=3 cargo test -p nettrace-loom-models --release --target-dir target/loom
//! ```
#![cfg(all(test, loom))]

use nettrace::loom_models;

#[test]
fn a_reader_sees_a_prefix_of_a_growing_chain() {
    loom_models::a_reader_sees_a_prefix_of_a_growing_chain();
}

#[test]
fn an_exported_log_has_the_first_and_the_newest_operations() {
    loom_models::an_exported_log_has_the_first_and_the_newest_operations();
}

#[test]
fn an_ended_connection_shows_all_operations() {
    loom_models::an_ended_connection_shows_all_operations();
}

#[test]
fn only_one_of_two_threads_ends_a_record() {
    loom_models::only_one_of_two_threads_ends_a_record();
}

#[test]
fn the_thread_that_ends_a_record_sees_its_links() {
    loom_models::the_thread_that_ends_a_record_sees_its_links();
}

#[test]
fn a_snapshot_sees_records_that_are_added_to_one_shard() {
    loom_models::a_snapshot_sees_records_that_are_added_to_one_shard();
}

#[test]
fn a_snapshot_sees_records_that_are_added_to_two_shards() {
    loom_models::a_snapshot_sees_records_that_are_added_to_two_shards();
}

#[test]
fn eviction_keeps_open_records() {
    loom_models::eviction_keeps_open_records();
}

#[test]
fn sweeping_keeps_open_records() {
    loom_models::sweeping_keeps_open_records();
}

#[test]
fn a_snapshot_has_the_records_that_its_records_refer_to() {
    loom_models::a_snapshot_has_the_records_that_its_records_refer_to();
}
