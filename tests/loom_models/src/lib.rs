//! Runs the loom models of the lock-free code in nettrace, which are defined in `src/sink/loom_models.rs`. A package of its own,
//! because the development dependencies of nettrace do not build under `cfg(loom)`.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=3 cargo test -p nettrace-loom-models --release --target-dir target/loom
//! ```
#![cfg(all(test, loom))]

use nettrace::loom_models;

#[test]
fn segments() {
    loom_models::segments();
}

#[test]
fn op_log() {
    loom_models::op_log();
}

#[test]
fn ended_connection() {
    loom_models::ended_connection();
}

#[test]
fn ends() {
    loom_models::ends();
}

#[test]
fn links_before_the_end() {
    loom_models::links_before_the_end();
}

#[test]
fn adding_to_one_shard() {
    loom_models::adding_to_one_shard();
}

#[test]
fn adding_to_two_shards() {
    loom_models::adding_to_two_shards();
}

#[test]
fn evicting() {
    loom_models::evicting();
}

#[test]
fn sweeping() {
    loom_models::sweeping();
}

#[test]
fn links() {
    loom_models::links();
}
