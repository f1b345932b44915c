//! A sink that is off allocates nothing and reads no clock.
#![cfg(all(feature = "client", any(feature = "ring", feature = "aws-lc-rs")))]

mod allocations;
#[cfg(all(feature = "_bench", debug_assertions))]
mod clock;
#[cfg(all(feature = "_bench", debug_assertions))]
mod closed;
#[cfg(all(feature = "_bench", debug_assertions))]
mod fixture;

use nettrace::TraceSink;
use test_support::alloc;

#[global_allocator]
static COUNTING: alloc::Counting = alloc::Counting;

/// Returns a sink for every way to be off: disabled from the beginning, switched off, and closed.
fn sinks() -> [(&'static str, TraceSink); 3] {
    let [off, closed] = [TraceSink::new(), TraceSink::new()];
    off.set_enabled(false);
    closed.close();
    [("disabled", TraceSink::disabled()), ("switched off", off), ("closed", closed)]
}

/// Returns a reply with the address 192.0.2.1 to a DNS query for an IPv4 address.
fn address_reply(query: &[u8]) -> Vec<u8> {
    let end_of_name = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap();
    let question = &query[12..end_of_name + 5];
    // A response, recursion available; one question, one answer (RFC 1035 section 4.1.1).
    let head = [query[0], query[1], 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
    let answer = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1];
    [&head, question, &answer].concat()
}
