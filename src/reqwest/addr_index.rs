//! Finds the connection of a response by its two addresses, which is all that reqwest reports.

use crate::{
    sink::{ConnRef, Tick},
    sync::IgnorePoison,
};
use ::reqwest::Url;
use http::{Extensions, Uri};
use hyper_util::client::legacy::connect::HttpInfo;
use std::{
    collections::HashMap,
    mem,
    net::SocketAddr,
    sync::{Mutex, MutexGuard},
};

/// The local address and the peer's.
pub(super) type AddrPair = (SocketAddr, SocketAddr);

/// Returns the addresses of a response's connection, or of a new connection.
pub(super) fn addr_pair(extensions: &Extensions) -> Option<AddrPair> {
    let info = extensions.get::<HttpInfo>()?;
    Some((info.local_addr(), info.remote_addr()))
}

/// The connections of a client, indexed by their addresses. No two have the same addresses at the same time.
///
/// A cache of two generations with between `capacity` and `2 * capacity` entries. When the young generation is full,
/// entries that were not looked up since the last rotation are dropped.
#[derive(Debug)]
pub(super) struct AddrIndex {
    capacity: usize,
    generations: Mutex<Generations>,
    unaddressed: Mutex<UnaddressedConns>,
}

/// The two generations of the cache. An entry is in at most one.
#[derive(Debug, Default)]
struct Generations {
    young: EntryMap,
    old: EntryMap,
}

type EntryMap = HashMap<AddrPair, Entry, foldhash::fast::RandomState>;

impl Generations {
    /// Inserts an entry. Returns the entries that were evicted, to be dropped after the lock is released.
    fn insert(&mut self, capacity: usize, addresses: AddrPair, entry: Entry) -> EntryMap {
        let mut evicted = EntryMap::default();
        if self.young.len() >= capacity {
            evicted = mem::replace(&mut self.old, mem::take(&mut self.young));
        }
        self.young.insert(addresses, entry);
        evicted
    }
}

/// The connections without addresses, such as those to a Unix socket. The origin is all that is known about them. A
/// client reuses a connection only for requests to the same origin.
#[derive(Debug, Default)]
struct UnaddressedConns {
    /// At most `AddrIndex::capacity` entries. `None` if there was more than one connection, or it was not recorded.
    by_origin: HashMap<Origin, Option<ConnRef>>,
    /// Whether there was a connection that was not recorded, to any origin.
    has_unrecorded: bool,
}

/// The origin of a URL: scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Origin(Box<str>);

impl Origin {
    pub(super) fn of_uri(uri: &Uri) -> Self {
        Origin::new(uri.scheme_str(), uri.host(), uri.port_u16())
    }

    pub(super) fn of_url(url: &Url) -> Self {
        Origin::new(Some(url.scheme()), url.host_str(), url.port())
    }

    fn new(scheme: Option<&str>, host: Option<&str>, port: Option<u16>) -> Self {
        let (scheme, host) = (scheme.unwrap_or_default(), host.unwrap_or_default());
        let port = port.unwrap_or(if scheme == "https" { 443 } else { 80 });
        Origin(format!("{scheme}://{host}:{port}").into())
    }
}

/// The default capacity. Each entry keeps the records of a connection and its dial in memory, with lookups and tunnels.
const MAX_ADDRS: usize = 1 << 12;

/// A connection of the index.
#[derive(Clone, Debug)]
struct Entry {
    /// `None` if the connection was not recorded.
    conn: Option<ConnRef>,
    /// When this connection got the addresses.
    since: Option<Tick>,
    /// Whether another connection had the same addresses before.
    addr_reused: bool,
}

impl Default for AddrIndex {
    fn default() -> Self {
        AddrIndex { capacity: MAX_ADDRS, generations: Mutex::default(), unaddressed: Mutex::default() }
    }
}

impl AddrIndex {
    /// Adds a new connection; `None` if it was not recorded.
    pub(super) fn add(&self, addresses: AddrPair, conn: Option<ConnRef>, since: Option<Tick>) {
        let evicted = {
            let mut generations = self.lock();
            let previous =
                generations.young.remove(&addresses).or_else(|| generations.old.remove(&addresses));
            let entry = Entry { conn, since, addr_reused: previous.is_some() };
            generations.insert(self.capacity, addresses, entry)
        };
        drop(evicted); // after the lock is released
    }

    /// Adds a new connection without addresses; `None` if it was not recorded.
    pub(super) fn add_unaddressed(&self, origin: Origin, conn: Option<ConnRef>) {
        let mut unaddressed = self.lock_unaddressed();
        let has_room = unaddressed.by_origin.len() < self.capacity;
        let evicted = match unaddressed.by_origin.get_mut(&origin) {
            // Two connections to one origin cannot be distinguished.
            Some(only) => only.take(),
            None if has_room => {
                unaddressed.by_origin.insert(origin, conn);
                None
            }
            None => None,
        };
        drop(unaddressed);
        drop(evicted); // after the lock is released
    }

    /// Notes that a connection without addresses was made while nothing was recorded.
    pub(super) fn add_unrecorded_unaddressed(&self) {
        self.lock_unaddressed().has_unrecorded = true;
    }

    /// Returns the connection without addresses to the origin, if only one was ever made and it was recorded.
    pub(super) fn find_unaddressed(&self, origin: &Origin) -> Option<ConnRef> {
        let unaddressed = self.lock_unaddressed();
        unaddressed.by_origin.get(origin).filter(|_| !unaddressed.has_unrecorded)?.clone()
    }

    fn lock_unaddressed(&self) -> MutexGuard<'_, UnaddressedConns> {
        self.unaddressed.lock().ignore_poison()
    }

    /// Returns the connection that carried a request which began at `begin`. Returns `None` if it was not recorded, or
    /// if it could also be an earlier connection with the same addresses.
    pub(super) fn find(&self, addresses: AddrPair, begin: Option<Tick>) -> Option<ConnRef> {
        let (entry, evicted) = {
            let mut generations = self.lock();
            match generations.young.get(&addresses) {
                Some(entry) => (entry.clone(), EntryMap::default()),
                None => {
                    let entry = generations.old.remove(&addresses)?;
                    let evicted = generations.insert(self.capacity, addresses, entry.clone());
                    (entry, evicted)
                }
            }
        };
        drop(evicted);
        entry.conn.filter(|_| !entry.addr_reused || entry.since <= begin)
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        self.generations.lock().ignore_poison()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::TraceSink;

    fn addr_pair(port: u16) -> AddrPair {
        (([127, 0, 0, 1], port).into(), ([127, 0, 0, 1], 80).into())
    }

    fn conn(sink: &TraceSink) -> Option<ConnRef> {
        sink.dial(|| "a.test:80".into()).finish_unobserved(Default::default(), vec![])
    }

    fn id(conn: Option<ConnRef>) -> Option<String> {
        conn.map(|conn| conn.id().to_string())
    }

    fn tick(ticks: u64) -> Option<Tick> {
        Some(Tick::from_ticks(ticks))
    }

    #[test]
    fn ambiguous_reused_addresses_find_no_connection() {
        let (sink, addrs) = (TraceSink::new(), AddrIndex::default());
        let [first, second] = [conn(&sink), conn(&sink)];
        addrs.add(addr_pair(1), first.clone(), tick(10));
        // The connection may have been dialled for the request, or long before.
        for begin in [5, 10, 15] {
            assert_eq!(id(addrs.find(addr_pair(1), tick(begin))), id(first.clone()));
        }
        addrs.add(addr_pair(1), second.clone(), tick(20));
        assert_eq!(id(addrs.find(addr_pair(1), tick(19))), None, "either connection is possible");
        assert_eq!(id(addrs.find(addr_pair(1), tick(20))), id(second.clone()));
        assert_eq!(id(addrs.find(addr_pair(2), tick(20))), None);

        // An unrecorded connection is not mistaken for a later one.
        addrs.add(addr_pair(2), None, tick(30));
        assert_eq!(id(addrs.find(addr_pair(2), tick(30))), None);
        addrs.add(addr_pair(2), second.clone(), tick(40));
        assert_eq!(id(addrs.find(addr_pair(2), tick(35))), None);
        assert_eq!(id(addrs.find(addr_pair(2), tick(40))), id(second));
    }

    #[test]
    fn only_entries_in_use_survive_eviction() {
        let (sink, addrs) = (TraceSink::new(), AddrIndex { capacity: 4, ..AddrIndex::default() });
        for port in 1..100 {
            addrs.add(addr_pair(port), conn(&sink), tick(1));
            assert!(addrs.find(addr_pair(1), tick(1)).is_some(), "{port}");
            let generations = addrs.lock();
            let held = generations.young.len() + generations.old.len();
            assert!(held <= 8, "{held}");
        }
        assert!(addrs.find(addr_pair(50), tick(1)).is_none());
    }
}
