//! Runs the models of what is lock-free in nettrace: see `src/sink/models.rs` there.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=3 cargo test -p nettrace-models --release --target-dir target/loom
//! ```
#![cfg(all(test, loom))]

use nettrace::models;

#[test]
fn segments() {
    models::segments();
}

#[test]
fn op_log() {
    models::op_log();
}

#[test]
fn ended_connection() {
    models::ended_connection();
}

#[test]
fn ends() {
    models::ends();
}

#[test]
fn marks() {
    models::marks();
}

#[test]
fn adding_to_one_shard() {
    models::adding_to_one_shard();
}

#[test]
fn adding_to_two_shards() {
    models::adding_to_two_shards();
}

#[test]
fn evicting() {
    models::evicting();
}

#[test]
fn sweeping() {
    models::sweeping();
}

#[test]
fn links() {
    models::links();
}
