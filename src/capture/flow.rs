//! Knows whose a packet is by its addresses.
//!
//! Addresses are a connection's for a time only: its packets may carry others after NAT, the kernel still sends for it
//! after the program has closed it, and the next connection may have the same ones.

use super::{
    parse::{Endpoint, Protocol, Segment, canonical},
    tcp_close::CloseProgress,
};
use crate::record::TraceId;
use smallvec::SmallVec;
use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

/// Nanoseconds since the Unix epoch, the clock of captured packets.
pub(super) type Nanos = u64;

const SECOND: Nanos = 1_000_000_000;
/// How long after a close packets are taken to be the connection's: the kernel keeps orphans and `TIME-WAIT` for a
/// minute, and data that was under way is sent again for longer than that.
const TCP_LINGER: Nanos = 120 * SECOND;
/// The same for UDP, where nothing is sent again.
const UDP_LINGER: Nanos = 10 * SECOND;
/// How long after a close to wait for the last packets of TCP.
pub(super) const SETTLE_TIMEOUT: Nanos = SECOND / 5;
/// The most closed connections whose addresses are known. The oldest go first.
const MAX_CLOSED: usize = 16_384;

/// The connection that a packet belongs to. Its identifier may become known after the first packets.
pub(super) type Owner = Arc<OnceLock<TraceId>>;

/// The addresses of a connection as this program sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Endpoints {
    pub(super) local: Endpoint,
    pub(super) remote: Endpoint,
}

impl Endpoints {
    /// Returns the addresses that packets of such a socket carry.
    pub(super) fn of(local: SocketAddr, remote: SocketAddr) -> Self {
        Endpoints { local: endpoint(local), remote: endpoint(remote) }
    }
}

/// A protocol and two addresses, equal for both directions of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Flow {
    protocol: Protocol,
    low: Endpoint,
    high: Endpoint,
}

impl Flow {
    fn new(protocol: Protocol, one: Endpoint, other: Endpoint) -> Self {
        Flow { protocol, low: one.min(other), high: one.max(other) }
    }

    /// Returns the flow of a connection.
    pub(super) fn between(protocol: Protocol, ends: Endpoints) -> Self {
        Flow::new(protocol, ends.local, ends.remote)
    }

    /// Returns the flow of a segment.
    pub(super) fn of(segment: &Segment) -> Self {
        Flow::new(segment.protocol, segment.source, segment.destination)
    }

    /// Returns both endpoints.
    pub(super) fn ends(&self) -> [(Protocol, Endpoint); 2] {
        [(self.protocol, self.low), (self.protocol, self.high)]
    }
}

/// Returns the endpoint that packets of a socket with this address carry.
pub(super) fn endpoint(addr: SocketAddr) -> Endpoint {
    (canonical(addr.ip()), addr.port())
}

/// The flows of traced connections, including those that were closed not long ago.
#[derive(Debug, Default)]
pub(super) struct Flows {
    flows: HashMap<Flow, SmallVec<[FlowLifetime; 1]>>,
    /// The flows of each connection: first that of its socket, then those that NAT made of it.
    of_conn: HashMap<TraceId, SmallVec<[Flow; 1]>>,
    /// Flows with the times of their closes, in that order.
    closed: VecDeque<(Nanos, Flow, Owner)>,
}

/// The time during which a flow is one connection's.
#[derive(Clone, Debug)]
struct FlowLifetime {
    owner: Owner,
    /// The end that is this program's.
    local: Endpoint,
    begin: Nanos,
    closed_at: Option<Nanos>,
    /// When another connection was seen to use the addresses.
    reused_at: Option<Nanos>,
    close_progress: CloseProgress,
}

impl Flows {
    /// Adds a flow of a connection, or what is now known of it. Returns `true` if the flow was not its own before.
    pub(super) fn open(
        &mut self,
        id: Option<&TraceId>,
        protocol: Protocol,
        ends: Endpoints,
        begin: Nanos,
    ) -> bool {
        let flow = Flow::between(protocol, ends);
        let lifetimes = self.flows.entry(flow).or_default();
        let running = lifetimes.iter_mut().rev().find(|lifetime| lifetime.closed_at.is_none());
        let is_new = match running {
            Some(lifetime) if lifetime.owner.get() == id || lifetime.owner.get().is_none() => {
                if let Some(id) = id
                    && lifetime.owner.set(id.clone()).is_ok()
                {
                    lifetime.begin = lifetime.begin.max(begin);
                }
                false
            }
            _ => {
                // Two cannot be open at once, so the close of the earlier one was not seen.
                for lifetime in lifetimes.iter_mut().filter(|lifetime| lifetime.closed_at.is_none()) {
                    lifetime.closed_at = Some(begin);
                    self.closed.push_back((begin, flow, lifetime.owner.clone()));
                }
                let owner = id.map_or_else(Owner::default, |id| Arc::new(OnceLock::from(id.clone())));
                let close_progress = CloseProgress::default();
                lifetimes.push(FlowLifetime {
                    owner,
                    local: ends.local,
                    begin,
                    closed_at: None,
                    reused_at: None,
                    close_progress,
                });
                true
            }
        };
        if let Some(id) = id {
            let flows = self.of_conn.entry(id.clone()).or_default();
            if !flows.contains(&flow) {
                flows.push(flow);
            }
        }
        is_new
    }

    /// Returns `true` if an open connection has these addresses.
    pub(super) fn is_open(&self, protocol: Protocol, ends: Endpoints) -> bool {
        let lifetimes = self.flows.get(&Flow::between(protocol, ends));
        lifetimes.into_iter().flatten().any(|lifetime| lifetime.closed_at.is_none())
    }

    /// Adds addresses that NAT gives to the packets of a connection. Returns their flow unless it was known.
    pub(super) fn add_translated(
        &mut self,
        id: &TraceId,
        protocol: Protocol,
        ends: Endpoints,
    ) -> Option<Flow> {
        let flow = Flow::between(protocol, ends);
        let flows = self.of_conn.get_mut(id).filter(|flows| !flows.contains(&flow))?;
        let own = self.flows.get(flows.first()?)?;
        let mut lifetime = own.iter().rev().find(|lifetime| lifetime.owner.get() == Some(id))?.clone();
        lifetime.local = ends.local;
        lifetime.close_progress = CloseProgress::default();
        flows.push(flow);
        if let Some(at) = lifetime.closed_at {
            self.closed.push_back((at, flow, lifetime.owner.clone()));
        }
        self.flows.entry(flow).or_default().push(lifetime);
        Some(flow)
    }

    /// Notes that a connection was closed from this side. Packets that are still under way remain its own.
    pub(super) fn close(&mut self, id: &TraceId, now: Nanos) {
        for flow in self.of_conn.get(id).into_iter().flatten() {
            let lifetimes = self.flows.get_mut(flow).into_iter().flatten();
            for lifetime in
                lifetimes.filter(|lifetime| lifetime.closed_at.is_none() && lifetime.owner.get() == Some(id))
            {
                lifetime.closed_at = Some(now);
                self.closed.push_back((now, *flow, lifetime.owner.clone()));
            }
        }
        self.expire(now);
    }

    /// Returns the connection that a segment captured at `at` belongs to.
    ///
    /// Packets are looked at later than they were captured, so the addresses may be another connection's by now.
    pub(super) fn owner(&mut self, segment: &Segment, at: Nanos) -> Option<Owner> {
        let lifetimes = self.flows.get_mut(&Flow::of(segment))?;
        let lifetime = lifetimes.iter_mut().rev().find(|lifetime| lifetime.begin <= at)?;
        if lifetime.reused_at.is_some_and(|reused_at| at >= reused_at) {
            return None;
        }
        if let Some(closed) = lifetime.closed_at.filter(|closed| at >= *closed) {
            let (limit, new_owner) = match segment.protocol {
                Protocol::Tcp => (TCP_LINGER, segment.is_syn),
                // A socket that is closed sends nothing.
                Protocol::Udp => (UDP_LINGER, segment.source == lifetime.local),
            };
            if new_owner {
                lifetime.reused_at = Some(at);
            }
            if new_owner || at - closed > limit {
                return None;
            }
        }
        if let Some(fields) = &segment.tcp {
            lifetime.close_progress.on_segment(segment.source == lifetime.local, fields);
        }
        Some(lifetime.owner.clone())
    }

    /// Returns when the first connection was closed whose last packets may still come: they have not passed yet, and
    /// the close is less than [`SETTLE_TIMEOUT`] ago.
    pub(super) fn first_settling_close(&self, now: Nanos) -> Option<Nanos> {
        let latest = self.closed.iter().rev().take_while(|(at, ..)| now.saturating_sub(*at) < SETTLE_TIMEOUT);
        let settling = latest.filter(|(_, flow, owner)| {
            let mut lifetimes = self.flows.get(flow).into_iter().flatten();
            lifetimes
                .any(|lifetime| Arc::ptr_eq(&lifetime.owner, owner) && lifetime.close_progress.is_settling())
        });
        settling.map(|(at, ..)| *at).min()
    }

    /// Returns the connection whose packet is quoted by an ICMP error captured at `at`.
    pub(super) fn owner_of_quoted(&self, segment: &Segment, at: Nanos) -> Option<Owner> {
        let lifetime =
            self.flows.get(&Flow::of(segment))?.iter().rev().find(|lifetime| lifetime.begin <= at)?;
        let is_over = lifetime.closed_at.is_some_and(|closed| at.saturating_sub(closed) > TCP_LINGER)
            || lifetime.reused_at.is_some_and(|reused_at| at >= reused_at);
        (!is_over).then(|| lifetime.owner.clone())
    }

    /// Removes connections that were closed long ago, and the oldest if there are too many.
    pub(super) fn expire(&mut self, now: Nanos) {
        while let Some((at, ..)) = self.closed.front()
            && (self.closed.len() > MAX_CLOSED || now.saturating_sub(*at) > TCP_LINGER)
            && let Some((_, flow, owner)) = self.closed.pop_front()
        {
            if let Some(id) = owner.get() {
                self.of_conn.remove(id);
            }
            if let Some(lifetimes) = self.flows.get_mut(&flow) {
                lifetimes.retain(|lifetime| !Arc::ptr_eq(&lifetime.owner, &owner));
                if lifetimes.is_empty() {
                    self.flows.remove(&flow);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::tcp_close::TcpCloseFields;
    use std::net::Ipv4Addr;

    const LOCAL: Endpoint = (std::net::IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 40_000);
    const REMOTE: Endpoint = (std::net::IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)), 443);
    const OUTSIDE: Endpoint = (std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 50_000);

    const ENDS: Endpoints = Endpoints { local: LOCAL, remote: REMOTE };
    const TRANSLATED: Endpoints = Endpoints { local: OUTSIDE, remote: REMOTE };

    fn segment(protocol: Protocol, from_local: bool, is_syn: bool) -> Segment {
        let (source, destination) = if from_local { (LOCAL, REMOTE) } else { (REMOTE, LOCAL) };
        Segment { protocol, source, destination, is_syn, has_payload: false, tcp: None }
    }

    fn id(text: &str) -> TraceId {
        text.into()
    }

    fn tcp(from_local: bool) -> Segment {
        segment(Protocol::Tcp, from_local, false)
    }

    fn syn() -> Segment {
        segment(Protocol::Tcp, true, true)
    }

    fn owner(flows: &mut Flows, segment: &Segment, at: Nanos) -> Option<TraceId> {
        flows.owner(segment, at).map(|owner| owner.get().cloned().unwrap_or_default())
    }

    #[test]
    fn packets_in_both_directions_belong_to_a_connection_from_its_begin() {
        let mut flows = Flows::default();
        assert!(flows.open(Some(&id("1")), Protocol::Tcp, ENDS, 100));
        assert!(!flows.open(Some(&id("1")), Protocol::Tcp, ENDS, 100), "known already");
        assert_eq!(owner(&mut flows, &tcp(true), 99), None, "an earlier packet is of another connection");
        for from_local in [true, false] {
            assert_eq!(owner(&mut flows, &tcp(from_local), 100), Some(id("1")));
        }
        assert_eq!(owner(&mut flows, &segment(Protocol::Udp, true, false), 100), None);
    }

    #[test]
    fn the_identifier_may_become_known_later() {
        let mut flows = Flows::default();
        assert!(flows.open(None, Protocol::Tcp, ENDS, 100));
        let kept = flows.owner(&syn(), 101).unwrap();
        assert!(!flows.open(Some(&id("1")), Protocol::Tcp, ENDS, 110));
        assert_eq!(kept.get(), Some(&id("1")));
        assert_eq!(owner(&mut flows, &tcp(true), 109), None, "the exact begin is known now");
    }

    #[test]
    fn packets_in_flight_at_the_close_belong_to_the_connection() {
        let mut flows = Flows::default();
        flows.open(Some(&id("1")), Protocol::Tcp, ENDS, 100);
        flows.close(&id("1"), 200);
        assert_eq!(owner(&mut flows, &tcp(false), 200 + TCP_LINGER), Some(id("1")), "a late FIN");
        assert!(flows.owner_of_quoted(&tcp(true), 300).is_some(), "a late ICMP error");
        assert_eq!(owner(&mut flows, &tcp(false), 201 + TCP_LINGER), None);
        flows.expire(201 + TCP_LINGER);
        assert!(flows.flows.is_empty() && flows.of_conn.is_empty() && flows.closed.is_empty());
    }

    #[test]
    fn an_untraced_connection_takes_over_the_addresses() {
        let mut flows = Flows::default();
        flows.open(Some(&id("1")), Protocol::Tcp, ENDS, 100);
        assert_eq!(owner(&mut flows, &syn(), 150), Some(id("1")));
        flows.close(&id("1"), 200);
        assert_eq!(owner(&mut flows, &syn(), 199), Some(id("1")), "captured before the close");
        assert_eq!(owner(&mut flows, &syn(), 300), None, "a new connection");
        assert_eq!(owner(&mut flows, &tcp(false), 301), None);
        assert!(flows.owner_of_quoted(&tcp(true), 301).is_none());
        assert_eq!(owner(&mut flows, &tcp(false), 299), Some(id("1")));
    }

    #[test]
    fn the_next_traced_connection_takes_over_the_addresses() {
        let mut flows = Flows::default();
        flows.open(Some(&id("1")), Protocol::Tcp, ENDS, 100);
        flows.close(&id("1"), 200);
        assert_eq!(owner(&mut flows, &syn(), 310), None);
        assert!(flows.open(Some(&id("2")), Protocol::Tcp, ENDS, 300));
        assert_eq!(owner(&mut flows, &syn(), 310), Some(id("2")));
        assert_eq!(owner(&mut flows, &tcp(false), 250), Some(id("1")));
        flows.expire(201 + TCP_LINGER);
        assert_eq!(owner(&mut flows, &tcp(false), 400), Some(id("2")), "the first has expired");
    }

    #[test]
    fn a_closed_udp_socket_receives_but_does_not_send() {
        let mut flows = Flows::default();
        flows.open(Some(&id("1")), Protocol::Udp, ENDS, 100);
        flows.close(&id("1"), 200);
        let from = |from_local| segment(Protocol::Udp, from_local, false);
        assert_eq!(owner(&mut flows, &from(false), 300), Some(id("1")), "a late reply");
        assert_eq!(owner(&mut flows, &from(true), 400), None);
        assert_eq!(owner(&mut flows, &from(false), 500), None, "the reply to another socket");
    }

    #[test]
    fn translated_addresses_expire_with_the_connection() {
        let mut flows = Flows::default();
        let behind = Segment { source: OUTSIDE, ..tcp(true) };
        assert_eq!(
            flows.add_translated(&id("1"), Protocol::Tcp, TRANSLATED),
            None,
            "the connection is not known"
        );
        flows.open(Some(&id("1")), Protocol::Tcp, ENDS, 100);
        assert_eq!(flows.add_translated(&id("1"), Protocol::Tcp, ENDS), None, "no NAT");
        let flow = flows.add_translated(&id("1"), Protocol::Tcp, TRANSLATED);
        assert_eq!(flow, Some(Flow::of(&behind)));
        assert_eq!(flows.add_translated(&id("1"), Protocol::Tcp, TRANSLATED), None, "known already");
        assert_eq!(owner(&mut flows, &behind, 100), Some(id("1")));
        flows.close(&id("1"), 200);
        assert_eq!(owner(&mut flows, &Segment { is_syn: true, ..behind }, 300), None);
        flows.expire(201 + TCP_LINGER);
        assert!(flows.flows.is_empty());
    }

    #[test]
    fn a_connection_settles_with_its_last_acknowledgment() {
        let fields = |after_fin, acknowledged| TcpCloseFields { after_fin, acknowledged, is_reset: false };
        let mut flows = Flows::default();
        flows.open(Some(&id("1")), Protocol::Tcp, ENDS, 100);
        flows.close(&id("1"), 200);
        assert_eq!(flows.first_settling_close(200), None, "no packet was captured on this interface");
        // The FINs cross, and each is acknowledged separately.
        for (from_local, fields) in [
            (true, fields(Some(5), Some(1))),
            (false, fields(Some(u32::MAX), Some(1))),
            (true, fields(None, Some(u32::MAX - 1))),
            (true, fields(None, Some(2))),
        ] {
            owner(&mut flows, &Segment { tcp: Some(fields), ..tcp(from_local) }, 210);
            assert_eq!(flows.first_settling_close(210), Some(200));
        }
        assert_eq!(flows.first_settling_close(200 + SETTLE_TIMEOUT), None, "the timeout has passed");
        owner(&mut flows, &Segment { tcp: Some(fields(None, Some(5))), ..tcp(false) }, 220);
        assert_eq!(flows.first_settling_close(220), None);
    }

    #[test]
    fn a_connection_settles_with_a_reset() {
        let mut flows = Flows::default();
        flows.open(Some(&id("1")), Protocol::Tcp, ENDS, 100);
        flows.close(&id("1"), 200);
        for (is_reset, expected) in [(false, Some(200)), (true, None)] {
            let close_fields = TcpCloseFields { after_fin: None, acknowledged: None, is_reset };
            owner(&mut flows, &Segment { tcp: Some(close_fields), ..tcp(false) }, 210);
            assert_eq!(flows.first_settling_close(210), expected);
        }
    }

    #[test]
    fn closed_connections_are_bounded() {
        let mut flows = Flows::default();
        for n in 0..2 * MAX_CLOSED as u64 {
            let local = (Ipv4Addr::from(n as u32).into(), 1);
            flows.open(Some(&n.to_string().into()), Protocol::Tcp, Endpoints { local, remote: REMOTE }, n);
            flows.close(&n.to_string().into(), n);
        }
        assert_eq!(flows.flows.len(), MAX_CLOSED);
        assert_eq!(flows.of_conn.len(), MAX_CLOSED);
    }
}
