//! Which connection a response came over, where its client tells no more of that than the two addresses.

use crate::sink::{ConnRef, Tick};
use http::Extensions;
use hyper_util::client::legacy::connect::HttpInfo;
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Ours and the peer's.
pub(super) type Addresses = (SocketAddr, SocketAddr);

/// Those of the connection that a response came over, or that was made.
pub(super) fn addresses(extensions: &Extensions) -> Option<Addresses> {
    let info = extensions.get::<HttpInfo>()?;
    Some((info.local_addr(), info.remote_addr()))
}

/// All connections of a client by their addresses, of which no two have the same at the same time.
///
/// At least the latest [`MOST`], and at most twice as many: those that were not asked for since as many others came go.
#[derive(Debug)]
pub(super) struct Known {
    most: usize,
    both: Mutex<[HashMap<Addresses, Entry>; 2]>,
}

/// More than a kernel has ports for one peer.
const MOST: usize = 1 << 16;

#[derive(Clone, Debug)]
struct Entry {
    conn: ConnRef,
    /// From then on the addresses were those of no other.
    since: Tick,
    /// Another had these addresses before.
    is_heir: bool,
}

impl Default for Known {
    fn default() -> Self {
        Known { most: MOST, both: Mutex::default() }
    }
}

impl Known {
    /// A connection has been made, and was recorded.
    pub(super) fn add(&self, addresses: Addresses, conn: ConnRef, since: Tick) {
        let mut both = self.lock();
        let is_heir = both.iter_mut().any(|some| some.remove(&addresses).is_some()); // it is in one at most
        self.put(&mut both, addresses, Entry { conn, since, is_heir });
    }

    /// A connection has been made, and was not recorded.
    pub(super) fn forget(&self, addresses: Addresses) {
        self.lock().iter_mut().for_each(|some| drop(some.remove(&addresses)));
    }

    /// The only one that can have carried a request which began then. `None` when there is none, or it might
    /// have been the one before.
    pub(super) fn find(&self, addresses: Addresses, begin: Tick) -> Option<ConnRef> {
        let mut both = self.lock();
        let entry = match both[0].get(&addresses) {
            Some(entry) => entry.clone(),
            None => {
                let entry = both[1].remove(&addresses)?;
                self.put(&mut both, addresses, entry.clone());
                entry
            }
        };
        (!entry.is_heir || entry.since <= begin).then_some(entry.conn)
    }

    fn put(&self, both: &mut [HashMap<Addresses, Entry>; 2], addresses: Addresses, entry: Entry) {
        if both[0].len() >= self.most {
            both[1] = std::mem::take(&mut both[0]);
        }
        both[0].insert(addresses, entry);
    }

    fn lock(&self) -> MutexGuard<'_, [HashMap<Addresses, Entry>; 2]> {
        self.both.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::TraceSink;

    fn addresses(port: u16) -> Addresses {
        (([127, 0, 0, 1], port).into(), ([127, 0, 0, 1], 80).into())
    }

    fn conn(sink: &TraceSink) -> ConnRef {
        sink.dial(|| "a.test:80".into()).out_of_sight(Default::default(), vec![]).unwrap()
    }

    fn id(conn: Option<ConnRef>) -> Option<String> {
        conn.map(|conn| conn.id().to_string())
    }

    #[test]
    fn where_addresses_are_used_again_nothing_is_guessed() {
        let (sink, known) = (TraceSink::new(), Known::default());
        let [first, second] = [conn(&sink), conn(&sink)];
        known.add(addresses(1), first.clone(), Tick(10));
        // It may have been dialled for the request, or long before.
        for begin in [5, 10, 15] {
            assert_eq!(id(known.find(addresses(1), Tick(begin))), id(Some(first.clone())));
        }
        known.add(addresses(1), second.clone(), Tick(20));
        assert_eq!(id(known.find(addresses(1), Tick(19))), None, "it may have been over either");
        assert_eq!(id(known.find(addresses(1), Tick(20))), id(Some(second)));
        assert_eq!(id(known.find(addresses(2), Tick(20))), None);
    }

    #[test]
    fn what_is_in_use_stays_and_the_rest_goes() {
        let (sink, known) = (TraceSink::new(), Known { most: 4, ..Known::default() });
        for port in 1..100 {
            known.add(addresses(port), conn(&sink), Tick(1));
            assert!(known.find(addresses(1), Tick(1)).is_some(), "{port}");
            let held: usize = known.lock().iter().map(HashMap::len).sum();
            assert!(held <= 8, "{held}");
        }
        assert!(known.find(addresses(50), Tick(1)).is_none());
        known.forget(addresses(1));
        assert!(known.find(addresses(1), Tick(1)).is_none());
    }
}
