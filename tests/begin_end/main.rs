//! Property test: every record that begins ends exactly once, in whatever order work completes, fails or is dropped.
#![cfg(all(feature = "client", any(feature = "ring", feature = "aws-lc-rs")))]

mod driver;
mod fixture;
mod mock;
mod plan;

use std::{cell::RefCell, collections::BTreeSet};

use proptest::test_runner::{Config, TestRunner};

#[test]
fn every_record_ends_exactly_once() {
    let ends = RefCell::new(BTreeSet::new());
    let config = Config { failure_persistence: None, max_shrink_iters: 4_000, ..Config::default() };
    let result = TestRunner::new(config).run(&plan::plan(), |plan| {
        ends.borrow_mut().extend(driver::run(plan));
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    // The test proves little unless the plans reach all of these ends.
    assert!(ends.borrow().contains("plan drained"), "no plan was polled to its end");
    for kind in ["dial", "connection", "look-up", "tunnel", "request"] {
        for reason in ["closed", "failed", "cancelled"] {
            let end = format!("{kind} {reason}");
            assert!(ends.borrow().contains(&end), "no {end} among {:?}", ends.borrow());
        }
    }
}
