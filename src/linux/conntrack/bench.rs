//! For the benches: what is asked and answered, without the kernel.

use super::{
    entry::{ParsedEntry, Tuple, cta},
    table::{attribute, nested, write_request},
};
use crate::bench_support::address;

/// A query, and the answer of a kernel that counts and keeps times.
#[derive(Debug)]
pub struct Conntrack {
    tuple: Tuple,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Default for Conntrack {
    fn default() -> Self {
        Conntrack::new()
    }
}

impl Conntrack {
    /// Of a connection that is translated to another address.
    pub fn new() -> Self {
        let tuple = Tuple { is_udp: false, local: address(2, 40_000), remote: address(1, 443) };
        let mut request = Vec::new();
        write_request(&mut request, &tuple, None, 0);
        // Behind the headers of netlink and of its part for connection tracking.
        let original = request.split_off(20);
        let mut answer = original.clone();
        let reply = answer.len();
        answer.extend(original);
        answer[reply + 2] = cta::TUPLE_REPLY as u8;
        attribute(&mut answer, cta::STATUS, &0x19e_u32.to_be_bytes());
        attribute(&mut answer, cta::MARK, &7_u32.to_be_bytes());
        for kind in [cta::COUNTERS_ORIG, cta::COUNTERS_REPLY] {
            nested(&mut answer, kind, |answer| {
                attribute(answer, 1, &4_u64.to_be_bytes());
                attribute(answer, 2, &308_u64.to_be_bytes());
            });
        }
        attribute(&mut answer, cta::ID, &1_u32.to_be_bytes());
        nested(&mut answer, cta::TIMESTAMP, |answer| {
            attribute(answer, 1, &1_700_000_000_000_000_001_u64.to_be_bytes());
        });
        Conntrack { tuple, request, answer }
    }

    /// Writes the one and reads the other.
    ///
    /// # Panics
    ///
    /// When the answer is not understood.
    pub fn ask(&mut self) {
        self.request.clear();
        write_request(&mut self.request, &self.tuple, None, 1);
        let found = ParsedEntry::parse(&self.answer, &self.tuple);
        assert!(found.has_counters && found.has_timestamps);
    }
}
