//! Which packets are kept. Pure: told what happens to connections and shown what passes the interfaces, in any order.

use super::{
    flow::{Flow, Flows, Nanos, Owner},
    packet::{CapturedPacket, Packet, Passing, Taken, wall},
    parse::{End, Fragment, Protocol, Seen},
    undecided::Undecided,
};
use crate::record::TraceId;
use std::collections::{HashMap, VecDeque};

/// Packets that may be those of a dial under way, and all others while one is (NAT may have changed every address).
const LIKELY_BYTES: usize = 512 << 10;
const UNLIKELY_BYTES: usize = 256 << 10;
/// The kernel gives up a handshake after little more than two minutes.
const DIAL_LIMIT: Nanos = 180_000_000_000;
const MAX_DIALS: usize = 4_096;
const MAX_FRAGMENTED: usize = 256;
/// What a packet takes in a file beside its bytes.
const PACKET_HEADER: usize = 16;

#[derive(Clone, Copy, Debug)]
pub(super) struct Choices {
    pub(super) icmp: bool,
    pub(super) arp: bool,
    pub(super) tcp_payload: bool,
    /// In bytes, of all interfaces.
    pub(super) size_limit: usize,
    /// How long after a connection began its packets are held whose addresses NAT may have changed.
    pub(super) hold: Nanos,
}

#[derive(Debug)]
pub(super) struct Filter {
    choices: Choices,
    flows: Flows,
    /// The remote ends of dials under way.
    dials: HashMap<(Protocol, End), Dials>,
    likely: Undecided,
    unlikely: Undecided,
    /// Undecided packets are held until then, or as long as a dial is under way.
    hold_until: Nanos,
    /// Packets whose later fragments are to be kept.
    fragmented: VecDeque<(Fragment, Owner)>,
    kept: Vec<Kept>,
    size: usize,
}

#[derive(Debug)]
struct Dials {
    count: usize,
    /// When the first of those that overlap began, and the last.
    first: Nanos,
    last: Nanos,
}

/// What is kept of an interface.
#[derive(Debug, Default)]
pub(super) struct Kept {
    packets: Vec<(Taken, Option<Owner>)>,
    over_limit: u64,
    undecided: u64,
}

impl Filter {
    pub(super) fn new(choices: Choices) -> Self {
        Filter {
            choices,
            flows: Flows::default(),
            dials: HashMap::new(),
            likely: Undecided::new(LIKELY_BYTES),
            unlikely: Undecided::new(UNLIKELY_BYTES),
            hold_until: 0,
            fragmented: VecDeque::new(),
            kept: Vec::new(),
            size: 0,
        }
    }

    /// Gives the number of one more interface.
    pub(super) fn add_interface(&mut self) -> usize {
        self.kept.push(Kept::default());
        self.kept.len() - 1
    }

    /// A connection is about to be made to that address.
    pub(super) fn dials(&mut self, protocol: Protocol, remote: End, now: Nanos) {
        if self.dials.len() >= MAX_DIALS {
            self.forget_dials(now);
        }
        if self.dials.len() < MAX_DIALS {
            let new = Dials { count: 0, first: now, last: now };
            let dials = self.dials.entry((protocol, remote)).or_insert(new);
            dials.count += 1;
            dials.last = now;
        }
        self.young(now);
    }

    /// The addresses of a connection under way are known, before anybody can say which it is.
    pub(super) fn dialling(&mut self, protocol: Protocol, ends: [End; 2], now: Nanos) {
        let dials = self.dials.get(&(protocol, ends[1]));
        let begin = dials.map_or(now, |dials| dials.first);
        self.opened(None, protocol, ends, begin, now);
    }

    /// Both addresses of a connection are known, perhaps not for the first time. It began at `begin`.
    pub(super) fn opened(
        &mut self,
        id: Option<&TraceId>,
        protocol: Protocol,
        ends: [End; 2],
        begin: Nanos,
        now: Nanos,
    ) {
        let [local, remote] = ends;
        if self.flows.open(id, protocol, ends, begin) {
            self.dialled(protocol, remote);
            self.young(now);
            self.decided(&Flow::new(protocol, local, remote));
        }
    }

    /// A dial ended before its addresses were known.
    pub(super) fn dialled(&mut self, protocol: Protocol, remote: End) {
        if let Some(dials) = self.dials.get_mut(&(protocol, remote)) {
            dials.count -= 1;
            if dials.count == 0 {
                self.dials.remove(&(protocol, remote));
            }
        }
    }

    /// The packets of a connection carry these addresses elsewhere.
    pub(super) fn translated(&mut self, id: &TraceId, protocol: Protocol, ends: [End; 2]) {
        if let Some(flow) = self.flows.translated(id, protocol, ends) {
            self.decided(&flow);
        }
    }

    pub(super) fn closed(&mut self, id: &TraceId, now: Nanos) {
        self.flows.close(id, now);
    }

    /// A packet passed an interface.
    pub(super) fn packet(&mut self, interface: usize, seen: Seen, packet: Passing<'_>) {
        let is_wanted = match seen {
            Seen::Segment(segment, _) => {
                segment.protocol == Protocol::Udp || self.choices.tcp_payload || !segment.has_payload
            }
            Seen::IcmpError(_) | Seen::Fragment(_) => true,
            Seen::Icmp => self.choices.icmp,
            Seen::Arp => self.choices.arp,
            Seen::Other => false,
        };
        if !is_wanted {
            return;
        }
        match (self.owner(&seen, packet.at), &seen) {
            (Some(owner), _) => self.keep(interface, packet, Some(owner)),
            (None, Seen::Icmp | Seen::Arp) => self.keep(interface, packet, None),
            (None, Seen::IcmpError(_)) if self.choices.icmp => self.keep(interface, packet, None),
            (None, Seen::Segment(segment, _) | Seen::IcmpError(segment)) => {
                self.hold(interface, Flow::of(segment), seen, packet);
            }
            (None, _) => {}
        }
    }

    /// What is kept of an interface, in the order of time: the packets, and how many are missing because of the
    /// limit and because they were undecided for too long.
    pub(super) fn kept(&mut self, interface: usize) -> (Vec<CapturedPacket>, u64, u64) {
        let Some(kept) = self.kept.get_mut(interface) else { return Default::default() };
        kept.packets.sort_by_key(|(packet, _)| packet.at);
        let packets = kept.packets.iter().map(|(packet, owner)| CapturedPacket {
            time: wall(packet.at),
            length: packet.length,
            data: packet.data.clone(),
            connection: owner.as_ref().and_then(|owner| owner.get()).cloned().unwrap_or_default(),
        });
        (packets.collect(), kept.over_limit, kept.undecided)
    }

    /// Forgets the packets; connections stay known.
    pub(super) fn clear(&mut self) {
        self.kept.iter_mut().for_each(|kept| *kept = Kept::default());
        self.size = 0;
        self.likely.clear();
        self.unlikely.clear();
    }

    /// Lets go of what is over. True when something is left that time will decide.
    pub(super) fn tidy(&mut self, now: Nanos) -> bool {
        if !self.likely.is_empty() || !self.unlikely.is_empty() {
            self.forget_dials(now);
            if !self.is_holding(now) {
                self.likely.clear();
                self.unlikely.clear();
            }
        }
        self.flows.forget(now);
        !self.likely.is_empty() || !self.unlikely.is_empty()
    }

    fn owner(&mut self, seen: &Seen, at: Nanos) -> Option<Owner> {
        match seen {
            Seen::Segment(segment, fragment) => {
                let owner = self.flows.owner(segment, at)?;
                if let Some(fragment) = fragment {
                    if self.fragmented.len() >= MAX_FRAGMENTED {
                        self.fragmented.pop_front();
                    }
                    self.fragmented.push_back((*fragment, owner.clone()));
                }
                Some(owner)
            }
            Seen::IcmpError(quoted) => self.flows.owner_of_quoted(quoted, at),
            Seen::Fragment(fragment) => {
                let found = self.fragmented.iter().rev().find(|(first, _)| first == fragment);
                found.map(|(_, owner)| owner.clone())
            }
            Seen::Icmp | Seen::Arp | Seen::Other => None,
        }
    }

    fn keep(&mut self, interface: usize, packet: impl Packet, owner: Option<Owner>) {
        let Some(kept) = self.kept.get_mut(interface) else { return };
        let size = packet.captured() + PACKET_HEADER;
        if self.size + size > self.choices.size_limit {
            kept.over_limit += 1;
        } else {
            self.size += size;
            kept.packets.push((packet.take(), owner));
        }
    }

    fn hold(&mut self, interface: usize, flow: Flow, seen: Seen, packet: Passing<'_>) {
        if !self.is_holding(packet.at) {
            return;
        }
        let is_likely = flow.ends().iter().any(|end| self.dials.contains_key(end));
        let place = if is_likely { &mut self.likely } else { &mut self.unlikely };
        let kept = &mut self.kept;
        place.hold(flow, interface, seen, packet.take(), |interface| {
            if let Some(kept) = kept.get_mut(interface) {
                kept.undecided += 1;
            }
        });
    }

    /// The packets of that flow need not wait any more.
    fn decided(&mut self, flow: &Flow) {
        let mut held = Vec::from(self.likely.take(flow));
        held.extend(self.unlikely.take(flow));
        held.sort_by_key(|held| held.packet.at);
        for held in held {
            if let Some(owner) = self.owner(&held.seen, held.packet.at) {
                self.keep(held.interface, held.packet, Some(owner));
            }
        }
    }

    fn forget_dials(&mut self, now: Nanos) {
        self.dials.retain(|_, dials| now.saturating_sub(dials.last) < DIAL_LIMIT);
    }

    /// A connection began just now, or may: what nobody claims yet is held.
    pub(super) fn young(&mut self, now: Nanos) {
        self.hold_until = self.hold_until.max(now.saturating_add(self.choices.hold));
    }

    fn is_holding(&self, at: Nanos) -> bool {
        at < self.hold_until || !self.dials.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::parse::Segment;
    use std::net::{IpAddr, Ipv4Addr};

    const LOCAL: End = (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 40_000);
    const REMOTE: End = (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)), 443);
    const STRANGER: End = (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 50_000);
    const OUTSIDE: End = (IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 60_000);
    const HOLD: Nanos = 1_000;

    fn filter(change: impl FnOnce(&mut Choices)) -> Filter {
        let mut choices =
            Choices { icmp: false, arp: false, tcp_payload: true, size_limit: 100_000, hold: HOLD };
        change(&mut choices);
        let mut filter = Filter::new(choices);
        filter.add_interface();
        filter
    }

    fn segment(source: End, destination: End) -> Segment {
        Segment { protocol: Protocol::Tcp, source, destination, opens: false, has_payload: false }
    }

    fn syn(source: End) -> Seen {
        Seen::Segment(Segment { opens: true, ..segment(source, REMOTE) }, None)
    }

    fn pass(filter: &mut Filter, seen: Seen, at: Nanos) {
        filter.packet(0, seen, Passing { at, length: 100, data: &[0; 84] });
    }

    fn open(filter: &mut Filter, at: Nanos) {
        filter.opened(Some(&"1".into()), Protocol::Tcp, [LOCAL, REMOTE], 10, at);
    }

    fn times(filter: &mut Filter) -> Vec<Nanos> {
        filter.kept(0).0.iter().map(CapturedPacket::nanos).collect()
    }

    #[test]
    fn the_first_syn_waits_for_its_connection() {
        let mut filter = filter(|_| {});
        filter.dials(Protocol::Tcp, REMOTE, 10);
        pass(&mut filter, syn(LOCAL), 11);
        pass(&mut filter, syn(STRANGER), 12);
        pass(&mut filter, Seen::IcmpError(segment(LOCAL, REMOTE)), 13);
        assert!(times(&mut filter).is_empty());
        open(&mut filter, 14);
        pass(&mut filter, Seen::Segment(segment(REMOTE, LOCAL), None), 15);
        pass(&mut filter, Seen::Segment(segment(REMOTE, STRANGER), None), 16);
        assert_eq!(times(&mut filter), [11, 13, 15]);
        assert!(filter.kept(0).0.iter().all(|packet| packet.connection == "1"));
    }

    #[test]
    fn a_dial_that_goes_on_is_there_to_be_read() {
        let mut filter = filter(|_| {});
        filter.dials(Protocol::Tcp, REMOTE, 10);
        pass(&mut filter, syn(LOCAL), 11);
        filter.dials(Protocol::Tcp, REMOTE, 12);
        filter.dialling(Protocol::Tcp, [LOCAL, REMOTE], 13);
        assert_eq!(times(&mut filter), [11]);
        assert!(filter.kept(0).0[0].connection.is_undefined());
        open(&mut filter, 20);
        assert_eq!(filter.kept(0).0[0].connection, "1");
        filter.closed(&"1".into(), 30);
        pass(&mut filter, syn(LOCAL), 31);
        assert_eq!(times(&mut filter), [11], "it may be the other's");
        filter.dialling(Protocol::Tcp, [LOCAL, REMOTE], 32);
        assert_eq!(times(&mut filter), [11, 31]);
    }

    #[test]
    fn what_nobody_claims_is_let_go_of() {
        let mut filter = filter(|_| {});
        pass(&mut filter, syn(STRANGER), 1);
        assert!(filter.unlikely.is_empty(), "nobody dials");
        filter.dials(Protocol::Tcp, REMOTE, 10);
        pass(&mut filter, syn(STRANGER), 11);
        pass(&mut filter, Seen::Segment(segment(OUTSIDE, STRANGER), None), 12);
        assert!(filter.tidy(10 + HOLD), "the dial goes on");
        filter.dialled(Protocol::Tcp, REMOTE);
        assert!(!filter.tidy(10 + HOLD));
        assert!(filter.likely.is_empty() && filter.unlikely.is_empty() && filter.dials.is_empty());
    }

    #[test]
    fn a_dial_whose_end_nobody_told_of_is_forgotten() {
        let mut filter = filter(|_| {});
        filter.dials(Protocol::Tcp, REMOTE, 10);
        pass(&mut filter, syn(STRANGER), 11);
        assert!(filter.tidy(9 + DIAL_LIMIT));
        assert!(!filter.tidy(10 + DIAL_LIMIT));
    }

    #[test]
    fn what_nat_made_of_it_is_kept_once_it_is_known() {
        let mut filter = filter(|_| {});
        filter.dials(Protocol::Tcp, REMOTE, 10);
        let behind = Seen::Segment(Segment { opens: true, ..segment(OUTSIDE, (REMOTE.0, 8443)) }, None);
        pass(&mut filter, syn(LOCAL), 11);
        pass(&mut filter, behind, 12);
        open(&mut filter, 13);
        assert_eq!(times(&mut filter), [11]);
        filter.translated(&"1".into(), Protocol::Tcp, [OUTSIDE, (REMOTE.0, 8443)]);
        assert_eq!(times(&mut filter), [11, 12]);
    }

    #[test]
    fn a_flood_beside_it_neither_grows_nor_drives_out_what_is_likely() {
        let mut filter = filter(|_| {});
        filter.dials(Protocol::Tcp, REMOTE, 10);
        pass(&mut filter, syn(LOCAL), 11);
        for n in 0..100_000_u32 {
            let stranger = (Ipv4Addr::from(n).into(), 1);
            pass(&mut filter, Seen::Segment(segment(stranger, OUTSIDE), None), 12);
        }
        open(&mut filter, 13);
        let (packets, _, lost) = filter.kept(0);
        assert_eq!(packets.len(), 1);
        assert!(lost > 98_000, "{lost}");
    }

    #[test]
    fn the_limit_is_kept_and_what_is_missing_counted() {
        let mut filter = filter(|choices| choices.size_limit = 1_000);
        filter.add_interface();
        open(&mut filter, 10);
        for at in 20..40 {
            let seen = Seen::Segment(segment(LOCAL, REMOTE), None);
            filter.packet((at % 2) as usize, seen, Passing { at, length: 100, data: &[0; 84] });
        }
        let (first, second) = (filter.kept(0), filter.kept(1));
        assert_eq!((first.0.len(), second.0.len()), (5, 5), "together");
        assert_eq!((first.1, second.1), (5, 5));
        filter.clear();
        assert_eq!(filter.kept(0).1, 0);
        pass(&mut filter, Seen::Segment(segment(LOCAL, REMOTE), None), 50);
        assert_eq!(times(&mut filter), [50]);
    }

    #[test]
    fn only_what_was_asked_for() {
        let of_udp = Segment { protocol: Protocol::Udp, has_payload: true, ..segment(LOCAL, REMOTE) };
        let data = Segment { has_payload: true, ..segment(LOCAL, REMOTE) };
        let all = [
            Seen::Icmp,
            Seen::Arp,
            Seen::Other,
            Seen::IcmpError(segment(STRANGER, OUTSIDE)),
            Seen::Segment(data, None),
            Seen::Segment(of_udp, None),
        ];
        let kept = |change: &dyn Fn(&mut Choices)| {
            let mut filter = filter(change);
            open(&mut filter, 10);
            filter.opened(Some(&"2".into()), Protocol::Udp, [LOCAL, REMOTE], 10, 10);
            (20..).zip(all).for_each(|(at, seen)| pass(&mut filter, seen, at));
            times(&mut filter)
        };
        assert_eq!(kept(&|_| {}), [24, 25]);
        assert_eq!(kept(&|choices| choices.icmp = true), [20, 23, 24, 25]);
        assert_eq!(kept(&|choices| choices.arp = true), [21, 24, 25]);
        assert_eq!(kept(&|choices| choices.tcp_payload = false), [25]);
    }
}
