//! [`Merger`]: puts slices, which come from any store, together into one trace.
//!
//! Slices with the same origin and the same begin form a part, in which each record occurs once. In the end the parts of
//! different origins are told apart by the identifiers of their records, and all times are made relative to the
//! earliest begin.

use super::stored_record::StoredRecord;
use crate::record::{
    DialTrace, DnsQueryTrace, HttpReqTrace, NetTrace, TcpConnTrace, Timestamp, TlsTunnelTrace, TraceId,
    TraceList, UdpConnTrace,
};
use std::collections::{HashMap, HashSet, hash_map::Entry};

/// The slices that were read so far.
#[derive(Default)]
pub(super) struct Merger {
    parts: Vec<Part>,
    /// The index of each part, by its origin and its begin in nanoseconds since 1970.
    index: HashMap<(String, Option<i128>), usize>,
}

/// The slices of one origin whose times have the same begin.
struct Part {
    origin: String,
    trace: MergedTrace,
}

impl Merger {
    /// Adds a slice. `origin` is the process that made it: an identifier stands for the same record in all its slices.
    pub(super) fn add(&mut self, origin: &str, slice: NetTrace) {
        let key = (origin.to_owned(), slice.trace_begin_at.unix_nanos());
        let at = *self.index.entry(key).or_insert(self.parts.len());
        if at == self.parts.len() {
            self.parts
                .push(Part { origin: origin.to_owned(), trace: MergedTrace::new(slice.trace_begin_at) });
        }
        self.parts[at].trace.add(slice);
    }

    /// Returns everything that was added as one trace.
    ///
    /// # Errors
    ///
    /// Fails only if a trace does not survive its own JSON.
    pub(super) fn finish(self) -> serde_json::Result<NetTrace> {
        let origins: HashSet<&str> = self.parts.iter().map(|part| part.origin.as_str()).collect();
        let is_prefixed = origins.len() > 1;
        let begins = self.parts.iter().map(|part| part.trace.begin);
        let begin = begins.filter(|begin| begin.is_absolute()).min_by_key(Timestamp::unix_nanos);
        let begin = begin.unwrap_or_default();
        let mut parts = self.parts;
        if parts.len() == 1 {
            return Ok(parts.remove(0).trace.finish());
        }
        let mut merged = MergedTrace::new(begin);
        for Part { origin, trace } in parts {
            let prefix = if is_prefixed { format!("{origin}.") } else { String::new() };
            merged.add(trace.finish().relocated(&prefix, begin)?);
        }
        Ok(merged.finish())
    }
}

/// A trace in which each record occurs once.
struct MergedTrace {
    begin: Timestamp,
    end: Timestamp,
    /// What all traces have, unless they differ.
    uuid: Common<Option<String>>,
    description: Common<String>,
    http_requests: MergedList<HttpReqTrace>,
    dials: MergedList<DialTrace>,
    tcp_conns: MergedList<TcpConnTrace>,
    udp_conns: MergedList<UdpConnTrace>,
    dns_queries: MergedList<DnsQueryTrace>,
    tls_tunnels: MergedList<TlsTunnelTrace>,
}

impl MergedTrace {
    fn new(begin: Timestamp) -> Self {
        MergedTrace {
            begin,
            end: Timestamp::UNDEFINED,
            uuid: Common::default(),
            description: Common::default(),
            http_requests: MergedList::default(),
            dials: MergedList::default(),
            tcp_conns: MergedList::default(),
            udp_conns: MergedList::default(),
            dns_queries: MergedList::default(),
            tls_tunnels: MergedList::default(),
        }
    }

    /// Adds a trace whose times have the same begin.
    fn add(&mut self, trace: NetTrace) {
        let order = Order::new(self.begin);
        let at = order.key(trace.trace_end_at);
        if self.end.is_undefined() || at > order.key(self.end) {
            self.end = trace.trace_end_at;
        }
        self.uuid.add(trace.uuid);
        self.description.add(trace.description);
        self.http_requests.add(trace.http_requests, at);
        self.dials.add(trace.dials, at);
        self.tcp_conns.add(trace.tcp_conns, at);
        self.udp_conns.add(trace.udp_conns, at);
        self.dns_queries.add(trace.dns_queries, at);
        self.tls_tunnels.add(trace.tls_tunnels, at);
    }

    fn finish(self) -> NetTrace {
        let order = Order::new(self.begin);
        NetTrace {
            description: self.description.take(),
            trace_begin_at: self.begin,
            trace_end_at: self.end,
            uuid: self.uuid.take(),
            dials: self.dials.finish(order),
            tcp_conns: self.tcp_conns.finish(order),
            udp_conns: self.udp_conns.finish(order),
            dns_queries: self.dns_queries.finish(order),
            tls_tunnels: self.tls_tunnels.finish(order),
            http_requests: self.http_requests.finish(order),
            dropped: None,
        }
    }
}

/// A value that all traces have; the default if they differ.
#[derive(Default)]
struct Common<T>(Option<T>);

impl<T: Default + PartialEq> Common<T> {
    fn add(&mut self, value: T) {
        match &self.0 {
            None => self.0 = Some(value),
            Some(known) if *known == value => {}
            Some(_) => self.0 = Some(T::default()),
        }
    }

    fn take(self) -> T {
        self.0.unwrap_or_default()
    }
}

/// Compares relative and absolute times.
#[derive(Clone, Copy)]
struct Order {
    begin_nanos: i128,
}

impl Order {
    fn new(begin: Timestamp) -> Self {
        Order { begin_nanos: begin.unix_nanos().unwrap_or(0) }
    }

    /// Returns the nanoseconds since 1970; the maximum for an undefined time.
    fn key(self, time: Timestamp) -> i128 {
        let relative = time.relative_nanos().map(|nanos| self.begin_nanos + i128::from(nanos));
        relative.or(time.unix_nanos()).unwrap_or(i128::MAX)
    }
}

/// Records, each of which occurs once.
struct MergedList<T> {
    records: Vec<Version<T>>,
    index: HashMap<TraceId, usize>,
}

/// A record as it was at some time.
struct Version<T> {
    record: T,
    /// When its slice was put together, by [`Order`].
    at: i128,
}

impl<T: StoredRecord> MergedList<T> {
    fn add(&mut self, records: TraceList<T>, at: i128) {
        for record in records {
            let version = Version { record, at };
            // Those without an identifier cannot be told apart.
            let id = version.record.trace_id().clone();
            match self.index.entry(id) {
                Entry::Occupied(known) if !known.key().is_undefined() => {
                    self.records[*known.get()].merge(version);
                }
                entry => {
                    entry.or_insert(self.records.len());
                    self.records.push(version);
                }
            }
        }
    }

    /// Returns the records in the order in which they began; those that began at the same time as they were added.
    fn finish(mut self, order: Order) -> TraceList<T> {
        self.records.sort_by_key(|version| order.key(version.record.begin()));
        self.records.into_iter().map(|version| version.record).collect()
    }
}

impl<T: StoredRecord> Version<T> {
    /// Keeps the more complete version: the one that has ended, or else the later one.
    fn merge(&mut self, mut other: Self) {
        if (other.record.has_ended(), other.at) >= (self.record.has_ended(), self.at) {
            std::mem::swap(self, &mut other);
        }
        self.record.take_links(&other.record);
    }
}

impl<T> Default for MergedList<T> {
    fn default() -> Self {
        MergedList { records: Vec::new(), index: HashMap::new() }
    }
}
