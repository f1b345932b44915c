//! Begins groups, and records in them.

#[cfg(feature = "connect")]
use super::{ConnSlot, DialState};
use super::{DialGroup, DialHead, GroupSlot, GroupState};
#[cfg(feature = "encrypted-dns")]
use crate::sink::dns::carrier::DnsCarrier;
#[cfg(feature = "connect")]
use crate::sink::{clock::Tick, conn::record::ConnRecord};
use crate::sink::{core::Core, registry::batch_alloc::BatchAlloc};
use std::sync::{Arc, Mutex, OnceLock, atomic::Ordering::Relaxed};

impl DialGroup {
    /// Takes a group from `alloc` for a dial, or for records outside any.
    pub(in crate::sink) fn allocate(
        alloc: &BatchAlloc<Arc<DialGroup>>,
        core: &Arc<Core>,
        dial: Option<DialHead>,
    ) -> Arc<DialGroup> {
        let mut group = alloc.take(|| Arc::new(DialGroup::unused(core.clone())));
        if let Some(unused) = Arc::get_mut(&mut group) {
            unused.init(dial); // there is no other reference yet
        }
        group
    }

    /// Creates a group in which nothing has begun.
    fn unused(core: Arc<Core>) -> Self {
        let (running, retained) = Default::default();
        DialGroup { core, dial: None, running, retained, state: Mutex::default(), first: OnceLock::new() }
    }

    fn init(&mut self, dial: Option<DialHead>) {
        *self.running.get_mut() = u32::from(dial.is_some());
        self.dial = dial;
    }

    /// Begins a record, which `begin` writes; [`record_ended`](Self::record_ended) must be called once for it. Returns
    /// `None` if nothing more may begin.
    pub(crate) fn begin_record<R>(&self, begin: impl FnOnce(&mut GroupState) -> R) -> Option<R> {
        let mut state = self.state();
        if state.sealed {
            return None;
        }
        self.running.fetch_add(1, Relaxed);
        Some(begin(&mut state))
    }
}

#[cfg(feature = "connect")]
impl DialGroup {
    /// Begins the connection, or the attempt at one, that `make` returns. Returns `None` if nothing more may begin.
    ///
    /// The first is built in its place: it is large, and every move would copy it.
    pub(in crate::sink) fn add_conn(&self, make: impl FnOnce(&Core) -> ConnRecord) -> Option<ConnSlot> {
        self.begin_record(|state| {
            if self.first.get().is_none() {
                self.first.get_or_init(|| make(&self.core));
                return ConnSlot::First;
            }
            let other = Arc::new(make(&self.core));
            state.others.push(other.clone());
            ConnSlot::Other(other)
        })
    }

    /// Returns when another crate's connector began to connect, as far as is known: it looks the name up first. `None`
    /// without a dial.
    pub(in crate::sink) fn connect_begin(&self) -> Option<Tick> {
        let dial = self.dial.as_ref()?;
        Some(dial.begin.max_some(self.state().dial.resolve_end))
    }

    /// Updates what is known of the dial, unless there is none or it has ended.
    pub(crate) fn update_dial(&self, write: impl FnOnce(&mut DialState)) {
        let mut state = self.state();
        if self.dial.as_ref().is_some_and(|dial| dial.end.is_open()) {
            write(&mut state.dial);
        }
    }
}

#[cfg(feature = "encrypted-dns")]
impl DialGroup {
    /// Links the resolver's dial at `index` to the dial of a shared connection, which is kept as long as this group.
    pub(in crate::sink) fn set_shared_dial(&self, index: usize, shared: &Arc<DialGroup>) {
        let mut state = self.state();
        if state.sealed {
            return;
        }
        if let Some(dial) = state.dial.resolver_dials.get_mut(index).filter(|dial| dial.shared.is_none()) {
            shared.retain();
            dial.shared = Some(shared.clone());
        }
    }

    /// Sets what carries the messages of the DNS record at `index`. Returns `false` if it cannot be linked any more.
    pub(in crate::sink) fn set_carrier(&self, index: usize, carrier: &Arc<dyn DnsCarrier>) -> bool {
        let mut state = self.state();
        let is_sealed = state.sealed;
        let record = state.dns.get_mut(index).filter(|record| !is_sealed && record.carrier.is_none());
        record.map(|record| record.carrier = Some(carrier.clone())).is_some()
    }

    /// Passes what carries the messages of the DNS record at `index` to `f`, unless it was released. Returns `false` if
    /// `f` does, or is not called.
    pub(in crate::sink) fn with_carrier(
        &self,
        index: usize,
        f: impl FnOnce(&dyn DnsCarrier) -> bool,
    ) -> bool {
        let state = self.state();
        let record = state.dns.get(index).filter(|_| !state.sealed);
        record.and_then(|record| record.carrier.as_deref()).is_some_and(f)
    }
}

impl GroupSlot {
    pub(crate) fn new(group: Arc<DialGroup>) -> Self {
        GroupSlot(Mutex::new(Some(group)))
    }
}

/// Adds to a list and returns the index. Makes room for `usual` elements at first, where `Vec` would make room for
/// four.
#[cfg(feature = "resolve")]
pub(in crate::sink) fn push_reserving<T>(list: &mut Vec<T>, usual: usize, item: T) -> usize {
    if list.is_empty() {
        list.reserve_exact(usual);
    }
    list.push(item);
    list.len() - 1
}
