//! A query and the parsing of its reply without the kernel, for the benches.

use super::{entry::ParsedEntry, request::RequestTemplates, sample, tuple::Tuple};
use crate::bench_support::address;

/// A query, and the reply of a kernel that counts and keeps times.
#[derive(Debug)]
pub struct Conntrack {
    tuple: Tuple,
    templates: RequestTemplates,
    request: Vec<u8>,
    reply: Vec<u8>,
}

impl Default for Conntrack {
    fn default() -> Self {
        Conntrack::new()
    }
}

impl Conntrack {
    /// Creates a query for a connection without NAT.
    pub fn new() -> Self {
        let tuple = Tuple { is_udp: false, local: address(2, 40_000), remote: address(1, 443) };
        let reversed = Tuple { local: tuple.remote, remote: tuple.local, ..tuple };
        let reply = sample::bytes(&sample::entry(&tuple, &reversed));
        Conntrack { tuple, templates: RequestTemplates::new(None), request: Vec::new(), reply }
    }

    /// Writes the request and parses the reply.
    ///
    /// # Panics
    ///
    /// Panics if the reply is not understood.
    pub fn ask(&mut self) {
        self.request.clear();
        self.templates.append(&mut self.request, &self.tuple, 1);
        let parsed = ParsedEntry::parse(&self.reply, &self.tuple);
        assert!(parsed.has_counters && parsed.has_timestamps);
    }
}
