//! Which connection a response came over, where its client tells no more of that than the two addresses.

use crate::{
    sink::{ConnRef, Tick},
    sync::IgnorePoison,
};
use ::reqwest::Url;
use http::{Extensions, Uri};
use hyper_util::client::legacy::connect::HttpInfo;
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Mutex, MutexGuard},
};

/// Ours and the peer's.
pub(super) type AddrPair = (SocketAddr, SocketAddr);

/// Those of the connection that a response came over, or that was made.
pub(super) fn addr_pair(extensions: &Extensions) -> Option<AddrPair> {
    let info = extensions.get::<HttpInfo>()?;
    Some((info.local_addr(), info.remote_addr()))
}

/// All connections of a client by their addresses, of which no two have the same at the same time.
///
/// At least the latest [`MAX_ADDRS`], and at most twice as many: those that were not asked for since as many others came go.
#[derive(Debug)]
pub(super) struct AddrIndex {
    most: usize,
    generations: Mutex<[HashMap<AddrPair, Entry>; 2]>,
    unaddressed: Mutex<Unaddressed>,
}

/// The connections that have no addresses, such as those to a Unix socket. Clients share them only between requests to
/// the same origin, which is all that is known of them.
#[derive(Debug, Default)]
struct Unaddressed {
    /// At most `AddrIndex::most`. `None` where there was more than one connection, or it was not recorded.
    by_origin: HashMap<Origin, Option<ConnRef>>,
    /// There was one that was not recorded, to whatever origin.
    has_missed: bool,
}

/// Scheme, host and port.
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

/// Each keeps its records, and those of its dial: the names that were looked up, the tunnels.
const MAX_ADDRS: usize = 1 << 12;

#[derive(Clone, Debug)]
struct Entry {
    /// `None` of a connection that was not recorded.
    conn: Option<ConnRef>,
    /// From then on the addresses were those of no other.
    since: Tick,
    /// Another had these addresses before.
    addr_reused: bool,
}

impl Default for AddrIndex {
    fn default() -> Self {
        AddrIndex { most: MAX_ADDRS, generations: Mutex::default(), unaddressed: Mutex::default() }
    }
}

impl AddrIndex {
    /// A connection has been made; `None` where it was not recorded.
    pub(super) fn add(&self, addresses: AddrPair, conn: Option<ConnRef>, since: Tick) {
        let gone = {
            let mut generations = self.lock();
            let addr_reused = generations.iter_mut().any(|some| some.remove(&addresses).is_some()); // it is in one at most
            self.put(&mut generations, addresses, Entry { conn, since, addr_reused })
        };
        drop(gone); // not while others wait
    }

    /// A connection without addresses has been made; `None` where it was not recorded.
    pub(super) fn add_unaddressed(&self, origin: Origin, conn: Option<ConnRef>) {
        let mut unaddressed = self.lock_unaddressed();
        let has_room = unaddressed.by_origin.len() < self.most;
        let gone = match unaddressed.by_origin.get_mut(&origin) {
            Some(addrs) => addrs.take(),
            None if has_room => {
                unaddressed.by_origin.insert(origin, conn);
                None
            }
            None => None,
        };
        drop(unaddressed);
        drop(gone); // not while others wait
    }

    /// A connection without addresses has been made while nothing was recorded.
    pub(super) fn add_unrecorded_unaddressed(&self) {
        self.lock_unaddressed().has_missed = true;
    }

    /// Returns the only connection without addresses that was ever made to the origin. `None` when there is none, it
    /// was not recorded, or there were more.
    pub(super) fn find_unaddressed(&self, origin: &Origin) -> Option<ConnRef> {
        let unaddressed = self.lock_unaddressed();
        unaddressed.by_origin.get(origin).filter(|_| !unaddressed.has_missed)?.clone()
    }

    fn lock_unaddressed(&self) -> MutexGuard<'_, Unaddressed> {
        self.unaddressed.lock().ignore_poison()
    }

    /// The only one that can have carried a request which began then. `None` when there is none, it was not
    /// recorded, or it might have been the one before.
    pub(super) fn find(&self, addresses: AddrPair, begin: Tick) -> Option<ConnRef> {
        let (entry, gone) = {
            let mut generations = self.lock();
            match generations[0].get(&addresses) {
                Some(entry) => (entry.clone(), HashMap::new()),
                None => {
                    let entry = generations[1].remove(&addresses)?;
                    let gone = self.put(&mut generations, addresses, entry.clone());
                    (entry, gone)
                }
            }
        };
        drop(gone);
        entry.conn.filter(|_| !entry.addr_reused || entry.since <= begin)
    }

    /// What goes for it is given back: it takes time to let go of.
    fn put(
        &self,
        [young, old]: &mut [HashMap<AddrPair, Entry>; 2],
        addresses: AddrPair,
        entry: Entry,
    ) -> HashMap<AddrPair, Entry> {
        let mut gone = HashMap::new();
        if young.len() >= self.most {
            gone = std::mem::replace(old, std::mem::take(young));
        }
        young.insert(addresses, entry);
        gone
    }

    fn lock(&self) -> MutexGuard<'_, [HashMap<AddrPair, Entry>; 2]> {
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

    #[test]
    fn where_addresses_are_used_again_nothing_is_guessed() {
        let (sink, addrs) = (TraceSink::new(), AddrIndex::default());
        let [first, second] = [conn(&sink), conn(&sink)];
        addrs.add(addr_pair(1), first.clone(), Tick(10));
        // It may have been dialled for the request, or long before.
        for begin in [5, 10, 15] {
            assert_eq!(id(addrs.find(addr_pair(1), Tick(begin))), id(first.clone()));
        }
        addrs.add(addr_pair(1), second.clone(), Tick(20));
        assert_eq!(id(addrs.find(addr_pair(1), Tick(19))), None, "it may have been over either");
        assert_eq!(id(addrs.find(addr_pair(1), Tick(20))), id(second.clone()));
        assert_eq!(id(addrs.find(addr_pair(2), Tick(20))), None);

        // Nor is what was not recorded taken for what came after it.
        addrs.add(addr_pair(2), None, Tick(30));
        assert_eq!(id(addrs.find(addr_pair(2), Tick(30))), None);
        addrs.add(addr_pair(2), second.clone(), Tick(40));
        assert_eq!(id(addrs.find(addr_pair(2), Tick(35))), None);
        assert_eq!(id(addrs.find(addr_pair(2), Tick(40))), id(second));
    }

    #[test]
    fn what_is_in_use_stays_and_the_rest_goes() {
        let (sink, addrs) = (TraceSink::new(), AddrIndex { most: 4, ..AddrIndex::default() });
        for port in 1..100 {
            addrs.add(addr_pair(port), conn(&sink), Tick(1));
            assert!(addrs.find(addr_pair(1), Tick(1)).is_some(), "{port}");
            let held: usize = addrs.lock().iter().map(HashMap::len).sum();
            assert!(held <= 8, "{held}");
        }
        assert!(addrs.find(addr_pair(50), Tick(1)).is_none());
    }
}
