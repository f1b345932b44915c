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

    /// Whether a connection is open, or under way, between these addresses.
    pub(super) fn is_open(&self, protocol: Protocol, ends: [End; 2]) -> bool {
        self.flows.is_open(protocol, ends)
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

    /// Returns when the first of those connections was closed whose last packets may still come.
    pub(super) fn settling(&self, now: Nanos) -> Option<Nanos> {
        self.flows.settling(now)
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
mod tests;
