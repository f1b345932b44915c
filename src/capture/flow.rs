//! Which packets are whose: the addresses of traced connections, before and after NAT, over time.

use super::parse::{End, Protocol, Segment, TcpMarks, canonical};
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
/// How long after a close packets are taken for the connection's: the kernel keeps orphans and `TIME-WAIT` for a
/// minute, and data that was under way is sent again for longer than that.
const LINGER_TCP: Nanos = 120 * SECOND;
/// Nobody sends a datagram again.
const LINGER_UDP: Nanos = 10 * SECOND;
/// How long after a close the last packets of TCP are waited for.
pub(super) const SETTLE: Nanos = SECOND / 5;
/// Of so many closed connections. The oldest go first.
const MAX_CLOSED: usize = 16_384;

/// Whom a packet belongs to. The identifier may become known after the first packets.
pub(super) type Owner = Arc<OnceLock<TraceId>>;

/// A connection's addresses, the same for both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Flow {
    protocol: Protocol,
    low: End,
    high: End,
}

impl Flow {
    pub(super) fn new(protocol: Protocol, one: End, other: End) -> Self {
        Flow { protocol, low: one.min(other), high: one.max(other) }
    }

    pub(super) fn of(segment: &Segment) -> Self {
        Flow::new(segment.protocol, segment.source, segment.destination)
    }

    pub(super) fn ends(&self) -> [(Protocol, End); 2] {
        [(self.protocol, self.low), (self.protocol, self.high)]
    }
}

pub(super) fn end(addr: SocketAddr) -> End {
    (canonical(addr.ip()), addr.port())
}

/// The flows of traced connections, those that were closed not long ago included.
#[derive(Debug, Default)]
pub(super) struct Flows {
    flows: HashMap<Flow, SmallVec<[Life; 1]>>,
    /// Of each connection: its own flow and those that NAT made of it.
    of_conn: HashMap<TraceId, SmallVec<[Flow; 1]>>,
    /// In the order of their closes.
    closed: VecDeque<(Nanos, Flow, Owner)>,
}

/// One connection's time with a flow.
#[derive(Clone, Debug)]
struct Life {
    owner: Owner,
    local: End,
    begin: Nanos,
    closed: Option<Nanos>,
    /// When somebody else took the addresses.
    taken: Option<Nanos>,
    goodbye: Goodbye,
}

/// How far TCP has come in closing a connection (RFC 9293 section 3.6).
#[derive(Clone, Copy, Debug, Default)]
struct Goodbye {
    /// Whether any packet was seen.
    has_begun: bool,
    is_reset: bool,
    from_local: Half,
    from_remote: Half,
}

/// One direction of a connection.
#[derive(Clone, Copy, Debug, Default)]
struct Half {
    /// The sequence number that follows its FIN.
    after_fin: Option<u32>,
    is_acknowledged: bool,
}

impl Goodbye {
    fn saw(&mut self, is_from_local: bool, marks: &TcpMarks) {
        let (own, other) = match is_from_local {
            true => (&mut self.from_local, &mut self.from_remote),
            false => (&mut self.from_remote, &mut self.from_local),
        };
        own.after_fin = marks.after_fin.or(own.after_fin);
        if let (Some(acknowledged), Some(after_fin)) = (marks.acknowledged, other.after_fin) {
            // Sequence numbers wrap around: those within half of the range come after.
            other.is_acknowledged |= acknowledged.wrapping_sub(after_fin) < 1 << 31;
        }
        self.has_begun = true;
        self.is_reset |= marks.is_reset;
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
        [local, remote]: [End; 2],
        begin: Nanos,
    ) -> bool {
        let flow = Flow::new(protocol, local, remote);
        let lives = self.flows.entry(flow).or_default();
        let running = lives.iter_mut().rev().find(|life| life.closed.is_none());
        let unknown = match running {
            Some(life) if life.owner.get() == id || life.owner.get().is_none() => {
                if let Some(id) = id
                    && life.owner.set(id.clone()).is_ok()
                {
                    life.begin = life.begin.max(begin);
                }
                false
            }
            _ => {
                // Two cannot be open at once: the close of the one before was not seen.
                for life in lives.iter_mut().filter(|life| life.closed.is_none()) {
                    life.closed = Some(begin);
                    self.closed.push_back((begin, flow, life.owner.clone()));
                }
                let owner = id.map_or_else(Owner::default, |id| Arc::new(OnceLock::from(id.clone())));
                let goodbye = Goodbye::default();
                lives.push(Life { owner, local, begin, closed: None, taken: None, goodbye });
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
    pub(super) fn is_open(&self, protocol: Protocol, [local, remote]: [End; 2]) -> bool {
        let lives = self.flows.get(&Flow::new(protocol, local, remote));
        lives.into_iter().flatten().any(|life| life.closed.is_none())
    }

    /// The packets of a connection carry these addresses too, elsewhere. The flow, if it is news.
    pub(super) fn translated(&mut self, id: &TraceId, protocol: Protocol, ends: [End; 2]) -> Option<Flow> {
        let [local, remote] = ends;
        let flow = Flow::new(protocol, local, remote);
        let flows = self.of_conn.get_mut(id).filter(|flows| !flows.contains(&flow))?;
        let own = self.flows.get(flows.first()?)?;
        let mut life = own.iter().rev().find(|life| life.owner.get() == Some(id))?.clone();
        life.local = local;
        life.goodbye = Goodbye::default();
        flows.push(flow);
        if let Some(at) = life.closed {
            self.closed.push_back((at, flow, life.owner.clone()));
        }
        self.flows.entry(flow).or_default().push(life);
        Some(flow)
    }

    /// The connection was closed from this side; what is still under way is its own.
    pub(super) fn close(&mut self, id: &TraceId, now: Nanos) {
        for flow in self.of_conn.get(id).into_iter().flatten() {
            let lives = self.flows.get_mut(flow).into_iter().flatten();
            for life in lives.filter(|life| life.closed.is_none() && life.owner.get() == Some(id)) {
                life.closed = Some(now);
                self.closed.push_back((now, *flow, life.owner.clone()));
            }
        }
        self.forget(now);
    }

    /// Whose packet this is, that was captured then. A closed connection's addresses may be another's by now.
    pub(super) fn owner(&mut self, segment: &Segment, at: Nanos) -> Option<Owner> {
        let lives = self.flows.get_mut(&Flow::of(segment))?;
        let life = lives.iter_mut().rev().find(|life| life.begin <= at)?;
        if life.taken.is_some_and(|taken| at >= taken) {
            return None;
        }
        if let Some(closed) = life.closed.filter(|closed| at >= *closed) {
            let (limit, new_owner) = match segment.protocol {
                Protocol::Tcp => (LINGER_TCP, segment.opens),
                // A socket that is closed sends nothing.
                Protocol::Udp => (LINGER_UDP, segment.source == life.local),
            };
            if new_owner {
                life.taken = Some(at);
            }
            if new_owner || at - closed > limit {
                return None;
            }
        }
        if let Some(marks) = &segment.tcp {
            life.goodbye.saw(segment.source == life.local, marks);
        }
        Some(life.owner.clone())
    }

    /// Returns when the first of those connections was closed whose last packets may still come: they were not seen yet,
    /// and the close is less than [`SETTLE`] ago.
    pub(super) fn settling(&self, now: Nanos) -> Option<Nanos> {
        let latest = self.closed.iter().rev().take_while(|(at, ..)| now.saturating_sub(*at) < SETTLE);
        let settling = latest.filter(|(_, flow, owner)| {
            let mut lives = self.flows.get(flow).into_iter().flatten();
            lives.any(|life| Arc::ptr_eq(&life.owner, owner) && life.goodbye.is_settling())
        });
        settling.map(|(at, ..)| *at).min()
    }

    /// Whose packet is quoted by an ICMP error that came then.
    pub(super) fn owner_of_quoted(&self, segment: &Segment, at: Nanos) -> Option<Owner> {
        let life = self.flows.get(&Flow::of(segment))?.iter().rev().find(|life| life.begin <= at)?;
        let is_over = life.closed.is_some_and(|closed| at.saturating_sub(closed) > LINGER_TCP)
            || life.taken.is_some_and(|taken| at >= taken);
        (!is_over).then(|| life.owner.clone())
    }

    /// Connections that were closed long ago, and the oldest when there are too many.
    pub(super) fn forget(&mut self, now: Nanos) {
        while let Some((at, ..)) = self.closed.front()
            && (self.closed.len() > MAX_CLOSED || now.saturating_sub(*at) > LINGER_TCP)
            && let Some((_, flow, owner)) = self.closed.pop_front()
        {
            if let Some(id) = owner.get() {
                self.of_conn.remove(id);
            }
            if let Some(lives) = self.flows.get_mut(&flow) {
                lives.retain(|life| !Arc::ptr_eq(&life.owner, &owner));
                if lives.is_empty() {
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

    const LOCAL: End = (std::net::IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 40_000);
    const REMOTE: End = (std::net::IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)), 443);
    const OUTSIDE: End = (std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 50_000);

    fn segment(protocol: Protocol, from_local: bool, opens: bool) -> Segment {
        let (source, destination) = if from_local { (LOCAL, REMOTE) } else { (REMOTE, LOCAL) };
        Segment { protocol, source, destination, opens, has_payload: false, tcp: None }
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
        assert_eq!(owner(&mut flows, &tcp(false), 200 + LINGER_TCP), Some(id("1")), "a late FIN");
        assert!(flows.owner_of_quoted(&tcp(true), 300).is_some(), "a late ICMP error");
        assert_eq!(owner(&mut flows, &tcp(false), 201 + LINGER_TCP), None);
        flows.forget(201 + LINGER_TCP);
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
        flows.forget(201 + LINGER_TCP);
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
        assert_eq!(flows.translated(&id("1"), Protocol::Tcp, [OUTSIDE, REMOTE]), None, "not known");
        flows.open(Some(&id("1")), Protocol::Tcp, [LOCAL, REMOTE], 100);
        assert_eq!(flows.translated(&id("1"), Protocol::Tcp, [LOCAL, REMOTE]), None, "no NAT");
        let flow = flows.translated(&id("1"), Protocol::Tcp, [OUTSIDE, REMOTE]);
        assert_eq!(flow, Some(Flow::of(&behind)));
        assert_eq!(flows.translated(&id("1"), Protocol::Tcp, [OUTSIDE, REMOTE]), None, "no news");
        assert_eq!(owner(&mut flows, &behind, 100), Some(id("1")));
        flows.close(&id("1"), 200);
        assert_eq!(owner(&mut flows, &Segment { opens: true, ..behind }, 300), None);
        flows.forget(201 + LINGER_TCP);
        assert!(flows.flows.is_empty());
    }

    #[test]
    fn a_connection_settles_with_its_last_acknowledgment() {
        let marks = |after_fin, acknowledged| TcpMarks { after_fin, acknowledged, is_reset: false };
        let mut flows = Flows::default();
        flows.open(Some(&id("1")), Protocol::Tcp, [LOCAL, REMOTE], 100);
        flows.close(&id("1"), 200);
        assert_eq!(flows.settling(200), None, "its packets pass elsewhere");
        // Both FINs cross; each is acknowledged for itself.
        for (from_local, marks) in [
            (true, marks(Some(5), Some(1))),
            (false, marks(Some(u32::MAX), Some(1))),
            (true, marks(None, Some(u32::MAX - 1))),
            (true, marks(None, Some(2))),
        ] {
            owner(&mut flows, &Segment { tcp: Some(marks), ..tcp(from_local) }, 210);
            assert_eq!(flows.settling(210), Some(200));
        }
        assert_eq!(flows.settling(200 + SETTLE), None, "long enough");
        owner(&mut flows, &Segment { tcp: Some(marks(None, Some(5))), ..tcp(false) }, 220);
        assert_eq!(flows.settling(220), None);
    }

    #[test]
    fn a_reset_ends_it() {
        let mut flows = Flows::default();
        flows.open(Some(&id("1")), Protocol::Tcp, [LOCAL, REMOTE], 100);
        flows.close(&id("1"), 200);
        for (is_reset, expected) in [(false, Some(200)), (true, None)] {
            let tcp_marks = TcpMarks { after_fin: None, acknowledged: None, is_reset };
            owner(&mut flows, &Segment { tcp: Some(tcp_marks), ..tcp(false) }, 210);
            assert_eq!(flows.settling(210), expected);
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
