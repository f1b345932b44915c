//! A dial and all that came of it, kept and forgotten as one.
//!
//! Links between records point one way only, from requests down to groups, and within a group everything is
//! owned by the group: nothing can keep itself alive.

use super::{
    clock::Tick, conn::ConnRecord, core::Core, dns::DnsRecord, end::EndCell, registry::Entry, tls::TlsRecord,
};
use crate::{error::Fault, record::EndReason};
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicU32,
            Ordering::{AcqRel, Acquire, Relaxed},
        },
    },
};

pub(crate) struct Group {
    pub(crate) core: Arc<Core>,
    /// The dial, unless the group is only a place for what began outside any.
    pub(crate) dial: Option<DialHead>,
    /// What in here has not ended yet.
    running: AtomicU32,
    state: Mutex<GroupState>,
}

/// What is known of a dial when it begins.
pub(crate) struct DialHead {
    pub(crate) number: u64,
    pub(crate) begin: Tick,
    /// `host:port`
    pub(crate) destination: Box<str>,
    /// The request that needed it; zero when there was none.
    pub(crate) trigger: u64,
    pub(crate) end: EndCell,
}

#[derive(Default)]
pub(crate) struct GroupState {
    pub(crate) let_go: Tick,
    pub(crate) resolve_begin: Tick,
    pub(crate) resolve_end: Tick,
    pub(crate) source_ip: Option<IpAddr>,
    pub(crate) established: u64,
    pub(crate) skipped: Vec<(SocketAddr, Box<str>)>,
    pub(crate) resolver_dials: Vec<ResolverDial>,
    pub(crate) conns: Vec<Arc<ConnRecord>>,
    pub(crate) dns: Vec<DnsRecord>,
    pub(crate) tls: Vec<TlsRecord>,
}

/// One attempt to reach a nameserver.
#[derive(Clone, Debug)]
pub(crate) struct ResolverDial {
    pub(crate) nameserver: SocketAddr,
    pub(crate) begin: Tick,
    pub(crate) end: Tick,
    pub(crate) fault: Option<Fault>,
    pub(crate) conn: u64,
}

impl Group {
    pub(crate) fn new(core: Arc<Core>, dial: Option<DialHead>) -> Arc<Self> {
        let running = AtomicU32::new(u32::from(dial.is_some()));
        Arc::new(Group { core, dial, running, state: Mutex::default() })
    }

    /// Held for moments only, and never while anything outside the sink is called.
    pub(crate) fn state(&self) -> MutexGuard<'_, GroupState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begun(&self) {
        self.running.fetch_add(1, Relaxed);
    }

    pub(crate) fn ended(&self) {
        self.running.fetch_sub(1, AcqRel);
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.load(Acquire) != 0
    }

    pub(crate) fn dial_number(&self) -> u64 {
        self.dial.as_ref().map_or(0, |dial| dial.number)
    }

    /// Ends all that is open.
    pub(crate) fn sink_closed(&self) {
        let now = self.core.now();
        let end = |cell: &EndCell, begin: Tick| {
            if cell.end(now.max(begin), EndReason::SinkClosed, None) {
                self.ended();
            }
        };
        if let Some(dial) = &self.dial {
            end(&dial.end, dial.begin);
        }
        let mut state = self.state();
        state.conns.iter().for_each(|conn| end(&conn.end, conn.begin));
        state.dns.iter().for_each(|record| end(&record.end, Tick::NONE));
        for record in &mut state.tls {
            if !record.handshake_end.is_some() {
                record.handshake_end = now.max(record.begin);
            }
            end(&record.end, record.begin);
        }
        for dial in state.resolver_dials.iter_mut().filter(|dial| !dial.end.is_some()) {
            dial.end = now.max(dial.begin);
        }
    }

    /// What went wrong with the dial, or with a tunnel over its connection.
    pub(crate) fn fault(&self) -> Option<Fault> {
        let dial = self.dial.as_ref().and_then(|dial| dial.end.fault().cloned());
        dial.or_else(|| self.tunnel_fault())
    }

    pub(crate) fn tunnel_fault(&self) -> Option<Fault> {
        self.state().tls.iter().find_map(|tls| tls.end.fault().or(tls.fault.as_ref()).cloned())
    }

    /// The request that caused this has ended or has no more use for it.
    pub(crate) fn let_go(&self, at: Tick) {
        let mut state = self.state();
        if !state.let_go.is_some() {
            state.let_go = at;
        }
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.dial {
            Some(dial) => write!(f, "Dial({} to {})", self.core.id(dial.number), dial.destination),
            None => f.write_str("Dial(none)"),
        }
    }
}

/// A group's place in the registry. It is emptied when the group is forgotten: a neighbour that stays keeps the
/// chunk, and must not keep the group.
pub(crate) struct GroupSlot(Mutex<Option<Arc<Group>>>);

impl GroupSlot {
    pub(crate) fn new(group: Arc<Group>) -> Self {
        GroupSlot(Mutex::new(Some(group)))
    }

    pub(crate) fn group(&self) -> Option<Arc<Group>> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Group>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry for GroupSlot {
    /// A request, a connection or a reader that holds the group counts as needing it.
    fn is_disposable(&self) -> bool {
        self.lock().as_ref().is_none_or(|group| Arc::strong_count(group) == 1 && !group.is_running())
    }

    fn forgotten(&self) {
        let Some(group) = self.lock().take() else { return };
        let (mut tcp, mut udp) = (0, 0);
        group.state().conns.iter().for_each(|conn| *if conn.is_udp() { &mut udp } else { &mut tcp } += 1);
        let core = &group.core;
        core.connections.fetch_sub((tcp + udp) as usize, Relaxed);
        core.lost.dials.fetch_add(u64::from(group.dial.is_some()), Relaxed);
        core.lost.tcp_conns.fetch_add(tcp, Relaxed);
        core.lost.udp_conns.fetch_add(udp, Relaxed);
    }
}
