//! Which connection a response came over, where its client tells no more of that than the two addresses.

use super::{ConnRef, TraceSink, clock::Tick};
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Ours and the peer's.
pub(crate) type Addresses = (SocketAddr, SocketAddr);

/// Connections by their addresses, of which no two have the same at the same time.
///
/// So many as a sink keeps, and at most twice as many: those that were not asked for since as many others came go.
#[derive(Debug)]
pub(super) struct Known {
    most: usize,
    both: Mutex<[HashMap<Addresses, Entry>; 2]>,
}

#[derive(Clone, Debug)]
struct Entry {
    conn: ConnRef,
    /// From then on the addresses were those of no other.
    since: Tick,
    /// Another had these addresses before.
    is_heir: bool,
}

impl Known {
    pub(super) fn new(most: usize) -> Self {
        Known { most: most.max(1), both: Mutex::default() }
    }

    fn add(&self, addresses: Addresses, conn: ConnRef, since: Tick) {
        let mut both = self.lock();
        let is_heir = both.iter_mut().any(|some| some.remove(&addresses).is_some()); // it is in one at most
        self.put(&mut both, addresses, Entry { conn, since, is_heir });
    }

    /// The only one that can have carried a request which began then. `None` when there is none, or it might
    /// have been the one before.
    fn find(&self, addresses: Addresses, begin: Tick) -> Option<ConnRef> {
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

    pub(super) fn clear(&self) {
        // What goes is dropped outside the lock.
        let both = std::mem::take(&mut *self.lock());
        drop(both);
    }

    fn lock(&self) -> MutexGuard<'_, [HashMap<Addresses, Entry>; 2]> {
        self.both.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TraceSink {
    /// A connection has just been made between these addresses.
    pub(crate) fn know(&self, addresses: Addresses, conn: &ConnRef) {
        if let Some(inner) = self.0.as_ref().filter(|inner| conn.is_of(&inner.core)) {
            inner.known.add(addresses, conn.clone(), inner.core.now());
        }
    }

    /// The connection between these addresses that carried a request which began at `begin`.
    pub(super) fn known(&self, addresses: Addresses, begin: Tick) -> Option<ConnRef> {
        self.0.as_ref()?.known.find(addresses, begin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let (sink, known) = (TraceSink::new(), Known::new(10));
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
        let (sink, known) = (TraceSink::new(), Known::new(4));
        for port in 1..100 {
            known.add(addresses(port), conn(&sink), Tick(1));
            assert!(known.find(addresses(1), Tick(1)).is_some(), "{port}");
            let held: usize = known.lock().iter().map(HashMap::len).sum();
            assert!(held <= 8, "{held}");
        }
        assert!(known.find(addresses(50), Tick(1)).is_none());
        known.clear();
        assert!(known.find(addresses(1), Tick(1)).is_none());
    }
}
