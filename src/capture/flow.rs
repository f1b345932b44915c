//! Which packets are whose: the addresses of traced connections, before and after NAT, over time.

use super::parse::{Endpoint, Protocol, Segment, TcpCloseFields, canonical};
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
/// How long after a close packets are reused_at for the connection's: the kernel keeps orphans and `TIME-WAIT` for a
/// minute, and data that was under way is sent again for longer than that.
const TCP_LINGER: Nanos = 120 * SECOND;
/// Nobody sends a datagram again.
const UDP_LINGER: Nanos = 10 * SECOND;
/// How long after a close the last packets of TCP are waited for.
pub(super) const SETTLE_TIMEOUT: Nanos = SECOND / 5;
/// Of so many closed connections. The oldest go first.
const MAX_CLOSED: usize = 16_384;

/// Whom a packet belongs to. The identifier may become known after the first packets.
pub(super) type Owner = Arc<OnceLock<TraceId>>;

/// A connection's addresses, the same for both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Flow {
    protocol: Protocol,
    low: Endpoint,
    high: Endpoint,
}

impl Flow {
    pub(super) fn new(protocol: Protocol, one: Endpoint, other: Endpoint) -> Self {
        Flow { protocol, low: one.min(other), high: one.max(other) }
    }

    pub(super) fn of(segment: &Segment) -> Self {
        Flow::new(segment.protocol, segment.source, segment.destination)
    }

    pub(super) fn ends(&self) -> [(Protocol, Endpoint); 2] {
        [(self.protocol, self.low), (self.protocol, self.high)]
    }
}

pub(super) fn endpoint(addr: SocketAddr) -> Endpoint {
    (canonical(addr.ip()), addr.port())
}

/// The flows of traced connections, those that were closed not long ago included.
#[derive(Debug, Default)]
pub(super) struct Flows {
    flows: HashMap<Flow, SmallVec<[FlowLifetime; 1]>>,
    /// Of each connection: its own flow and those that NAT made of it.
    of_conn: HashMap<TraceId, SmallVec<[Flow; 1]>>,
    /// In the order of their closes.
    closed: VecDeque<(Nanos, Flow, Owner)>,
}

/// One connection's time with a flow.
#[derive(Clone, Debug)]
struct FlowLifetime {
    owner: Owner,
    local: Endpoint,
    begin: Nanos,
    closed_at: Option<Nanos>,
    /// When somebody else took the addresses.
    reused_at: Option<Nanos>,
    close_progress: CloseProgress,
}

/// How far TCP has come in closing a connection (RFC 9293 section 3.6).
#[derive(Clone, Copy, Debug, Default)]
struct CloseProgress {
    /// Whether any packet was seen.
    has_begun: bool,
    is_reset: bool,
    from_local: ClosingDirection,
    from_remote: ClosingDirection,
}

/// One direction of a connection.
#[derive(Clone, Copy, Debug, Default)]
struct ClosingDirection {
    /// The sequence number that follows its FIN.
    after_fin: Option<u32>,
    is_acknowledged: bool,
}

impl CloseProgress {
    fn on_segment(&mut self, is_from_local: bool, fields: &TcpCloseFields) {
        let (own, other) = match is_from_local {
            true => (&mut self.from_local, &mut self.from_remote),
            false => (&mut self.from_remote, &mut self.from_local),
        };
        own.after_fin = fields.after_fin.or(own.after_fin);
        if let (Some(acknowledged), Some(after_fin)) = (fields.acknowledged, other.after_fin) {
            // Sequence numbers wrap around: those within half of the range come after.
            other.is_acknowledged |= acknowledged.wrapping_sub(after_fin) < 1 << 31;
        }
        self.has_begun = true;
        self.is_reset |= fields.is_reset;
    }

    /// Returns `true` if the last packets were not seen yet, of a connection whose packets can be seen at all.
    fn is_settling(&self) -> bool {
        let is_over = self.from_local.is_acknowledged && self.from_remote.is_acknowledged;
        self.has_begun && !self.is_reset && !is_over
    }
}

impl Flows {
    /// A connection began; or more is known of one that did. True when the flow was not its own before.
    pub(super) fn open(
        &mut self,
        id: Option<&TraceId>,
        protocol: Protocol,
        [local, remote]: [Endpoint; 2],
        begin: Nanos,
    ) -> bool {
        let flow = Flow::new(protocol, local, remote);
        let lifetimes = self.flows.entry(flow).or_default();
        let running = lifetimes.iter_mut().rev().find(|lifetime| lifetime.closed_at.is_none());
        let unknown = match running {
            Some(lifetime) if lifetime.owner.get() == id || lifetime.owner.get().is_none() => {
                if let Some(id) = id
                    && lifetime.owner.set(id.clone()).is_ok()
                {
                    lifetime.begin = lifetime.begin.max(begin);
                }
                false
            }
            _ => {
                // Two cannot be open at once: the close of the one before was not seen.
                for lifetime in lifetimes.iter_mut().filter(|lifetime| lifetime.closed_at.is_none()) {
                    lifetime.closed_at = Some(begin);
                    self.closed.push_back((begin, flow, lifetime.owner.clone()));
                }
                let owner = id.map_or_else(Owner::default, |id| Arc::new(OnceLock::from(id.clone())));
                let close_progress = CloseProgress::default();
                lifetimes.push(FlowLifetime {
                    owner,
                    local,
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
        unknown
    }

    /// Whether the flow is somebody's now.
    pub(super) fn is_open(&self, protocol: Protocol, [local, remote]: [Endpoint; 2]) -> bool {
        let lifetimes = self.flows.get(&Flow::new(protocol, local, remote));
        lifetimes.into_iter().flatten().any(|lifetime| lifetime.closed_at.is_none())
    }

    /// The packets of a connection carry these addresses too, elsewhere. The flow, if it is news.
    pub(super) fn add_translated(
        &mut self,
        id: &TraceId,
        protocol: Protocol,
        ends: [Endpoint; 2],
    ) -> Option<Flow> {
        let [local, remote] = ends;
        let flow = Flow::new(protocol, local, remote);
        let flows = self.of_conn.get_mut(id).filter(|flows| !flows.contains(&flow))?;
        let own = self.flows.get(flows.first()?)?;
        let mut lifetime = own.iter().rev().find(|lifetime| lifetime.owner.get() == Some(id))?.clone();
        lifetime.local = local;
        lifetime.close_progress = CloseProgress::default();
        flows.push(flow);
        if let Some(at) = lifetime.closed_at {
            self.closed.push_back((at, flow, lifetime.owner.clone()));
        }
        self.flows.entry(flow).or_default().push(lifetime);
        Some(flow)
    }

    /// The connection was closed from this side; what is still under way is its own.
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

    /// Whose packet this is, that was captured then. A closed connection's addresses may be another's by now.
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

    /// Returns when the first of those connections was closed whose last packets may still come: they were not seen yet,
    /// and the close is less than [`SETTLE_TIMEOUT`] ago.
    pub(super) fn first_settling_close(&self, now: Nanos) -> Option<Nanos> {
        let latest = self.closed.iter().rev().take_while(|(at, ..)| now.saturating_sub(*at) < SETTLE_TIMEOUT);
        let settling = latest.filter(|(_, flow, owner)| {
            let mut lifetimes = self.flows.get(flow).into_iter().flatten();
            lifetimes
                .any(|lifetime| Arc::ptr_eq(&lifetime.owner, owner) && lifetime.close_progress.is_settling())
        });
        settling.map(|(at, ..)| *at).min()
    }

    /// Whose packet is quoted by an ICMP error that came then.
    pub(super) fn owner_of_quoted(&self, segment: &Segment, at: Nanos) -> Option<Owner> {
        let lifetime =
            self.flows.get(&Flow::of(segment))?.iter().rev().find(|lifetime| lifetime.begin <= at)?;
        let is_over = lifetime.closed_at.is_some_and(|closed| at.saturating_sub(closed) > TCP_LINGER)
            || lifetime.reused_at.is_some_and(|reused_at| at >= reused_at);
        (!is_over).then(|| lifetime.owner.clone())
    }

    /// Connections that were closed long ago, and the oldest when there are too many.
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
    use std::net::Ipv4Addr;

    const LOCAL: Endpoint = (std::net::IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 40_000);
    const REMOTE: Endpoint = (std::net::IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)), 443);
    const OUTSIDE: Endpoint = (std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 50_000);

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
    fn both_directions_from_the_begin_on() {
        let mut flows = Flows::default();
        assert!(flows.open(Some(&id("1")), Protocol::Tcp, [LOCAL, REMOTE], 100));
        assert!(!flows.open(Some(&id("1")), Protocol::Tcp, [LOCAL, REMOTE], 100), "no news");
        assert_eq!(owner(&mut flows, &tcp(true), 99), None, "somebody else's before");
        for from_local in [true, false] {
            assert_eq!(owner(&mut flows, &tcp(from_local), 100), Some(id("1")));
        }
        assert_eq!(owner(&mut flows, &segment(Protocol::Udp, true, false), 100), None);
    }

    #[test]
    fn the_name_may_come_later() {
        let mut flows = Flows::default();
        assert!(flows.open(None, Protocol::Tcp, [LOCAL, REMOTE], 100));
        let kept = flows.owner(&syn(), 101).unwrap();
        assert!(!flows.open(Some(&id("1")), Protocol::Tcp, [LOCAL, REMOTE], 110));
        assert_eq!(kept.get(), Some(&id("1")));
        assert_eq!(owner(&mut flows, &tcp(true), 109), None, "the begin is known better now");
    }

    #[test]
    fn what_was_under_way_at_the_close_is_its_own() {
        let mut flows = Flows::default();
        flows.open(Some(&id("1")), Protocol::Tcp, [LOCAL, REMOTE], 100);
        flows.close(&id("1"), 200);
        assert_eq!(owner(&mut flows, &tcp(false), 200 + TCP_LINGER), Some(id("1")), "a late FIN");
        assert!(flows.owner_of_quoted(&tcp(true), 300).is_some(), "a late ICMP error");
        assert_eq!(owner(&mut flows, &tcp(false), 201 + TCP_LINGER), None);
        flows.expire(201 + TCP_LINGER);
        assert!(flows.flows.is_empty() && flows.of_conn.is_empty() && flows.closed.is_empty());
    }

    #[test]
    fn the_addresses_pass_to_a_stranger() {
        let mut flows = Flows::default();
        flows.open(Some(&id("1")), Protocol::Tcp, [LOCAL, REMOTE], 100);
        assert_eq!(owner(&mut flows, &syn(), 150), Some(id("1")));
        flows.close(&id("1"), 200);
        assert_eq!(owner(&mut flows, &syn(), 199), Some(id("1")), "captured before, looked at now");
        assert_eq!(owner(&mut flows, &syn(), 300), None, "a new connection");
        assert_eq!(owner(&mut flows, &tcp(false), 301), None);
        assert!(flows.owner_of_quoted(&tcp(true), 301).is_none());
        assert_eq!(owner(&mut flows, &tcp(false), 299), Some(id("1")));
    }

    #[test]
    fn the_addresses_pass_to_the_next_traced_connection() {
        let mut flows = Flows::default();
        flows.open(Some(&id("1")), Protocol::Tcp, [LOCAL, REMOTE], 100);
        flows.close(&id("1"), 200);
        assert_eq!(owner(&mut flows, &syn(), 310), None);
        assert!(flows.open(Some(&id("2")), Protocol::Tcp, [LOCAL, REMOTE], 300));
        assert_eq!(owner(&mut flows, &syn(), 310), Some(id("2")));
        assert_eq!(owner(&mut flows, &tcp(false), 250), Some(id("1")));
        flows.expire(201 + TCP_LINGER);
        assert_eq!(owner(&mut flows, &tcp(false), 400), Some(id("2")), "the first is forgotten");
    }

    #[test]
    fn a_udp_socket_that_is_closed_sends_nothing() {
        let mut flows = Flows::default();
        flows.open(Some(&id("1")), Protocol::Udp, [LOCAL, REMOTE], 100);
        flows.close(&id("1"), 200);
        let from = |from_local| segment(Protocol::Udp, from_local, false);
        assert_eq!(owner(&mut flows, &from(false), 300), Some(id("1")), "a late reply");
        assert_eq!(owner(&mut flows, &from(true), 400), None);
        assert_eq!(owner(&mut flows, &from(false), 500), None, "the reply to somebody else");
    }

    #[test]
    fn addresses_behind_nat_share_the_connections_fate() {
        let mut flows = Flows::default();
        let behind = Segment { source: OUTSIDE, ..tcp(true) };
        assert_eq!(flows.add_translated(&id("1"), Protocol::Tcp, [OUTSIDE, REMOTE]), None, "not known");
        flows.open(Some(&id("1")), Protocol::Tcp, [LOCAL, REMOTE], 100);
        assert_eq!(flows.add_translated(&id("1"), Protocol::Tcp, [LOCAL, REMOTE]), None, "no NAT");
        let flow = flows.add_translated(&id("1"), Protocol::Tcp, [OUTSIDE, REMOTE]);
        assert_eq!(flow, Some(Flow::of(&behind)));
        assert_eq!(flows.add_translated(&id("1"), Protocol::Tcp, [OUTSIDE, REMOTE]), None, "no news");
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
        flows.open(Some(&id("1")), Protocol::Tcp, [LOCAL, REMOTE], 100);
        flows.close(&id("1"), 200);
        assert_eq!(flows.first_settling_close(200), None, "its packets pass elsewhere");
        // Both FINs cross; each is acknowledged for itself.
        for (from_local, fields) in [
            (true, fields(Some(5), Some(1))),
            (false, fields(Some(u32::MAX), Some(1))),
            (true, fields(None, Some(u32::MAX - 1))),
            (true, fields(None, Some(2))),
        ] {
            owner(&mut flows, &Segment { tcp: Some(fields), ..tcp(from_local) }, 210);
            assert_eq!(flows.first_settling_close(210), Some(200));
        }
        assert_eq!(flows.first_settling_close(200 + SETTLE_TIMEOUT), None, "long enough");
        owner(&mut flows, &Segment { tcp: Some(fields(None, Some(5))), ..tcp(false) }, 220);
        assert_eq!(flows.first_settling_close(220), None);
    }

    #[test]
    fn a_reset_ends_it() {
        let mut flows = Flows::default();
        flows.open(Some(&id("1")), Protocol::Tcp, [LOCAL, REMOTE], 100);
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
            flows.open(Some(&n.to_string().into()), Protocol::Tcp, [local, REMOTE], n);
            flows.close(&n.to_string().into(), n);
        }
        assert_eq!(flows.flows.len(), MAX_CLOSED);
        assert_eq!(flows.of_conn.len(), MAX_CLOSED);
    }
}
