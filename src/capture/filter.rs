//! Which packets are kept. Pure: told what happens to connections and shown what passes the interfaces, in any order.

use super::{
    flow::{Flow, Flows, Nanos, Owner},
    packet::{CapturedPacket, OwnedPacket, Packet, PacketRef, wall_time},
    parse::{Endpoint, Fragment, PacketKind, Protocol},
    pending_packets::PendingPackets,
};
use crate::record::TraceId;
use std::collections::{HashMap, VecDeque};

/// Packets that may be those of a dial under way, and all others while one is (NAT may have changed every address).
const MAX_LIKELY_BYTES: usize = 512 << 10;
const MAX_UNLIKELY_BYTES: usize = 256 << 10;
/// The kernel gives up a handshake after little more than two minutes.
const DIAL_TIMEOUT: Nanos = 180_000_000_000;
const MAX_DIALS: usize = 4_096;
const MAX_FRAGMENTED: usize = 256;
/// What a packet takes in a file beside its bytes.
const PACKET_HEADER_BYTES: usize = 16;

#[derive(Clone, Copy, Debug)]
pub(super) struct FilterConfig {
    pub(super) icmp: bool,
    pub(super) arp: bool,
    pub(super) tcp_payload: bool,
    /// In bytes, of all interfaces.
    pub(super) size_limit: usize,
    /// How long after a connection began its packets are pending whose addresses NAT may have changed.
    pub(super) pending_timeout: Nanos,
}

#[derive(Debug)]
pub(super) struct Filter {
    config: FilterConfig,
    flows: Flows,
    /// The remote ends of dials under way.
    dials: HashMap<(Protocol, Endpoint), PendingDials>,
    likely: PendingPackets,
    unlikely: PendingPackets,
    /// PendingPackets packets are pending until then, or as long as a dial is under way.
    pending_until: Nanos,
    /// Packets whose later fragments are to be kept.
    fragmented: VecDeque<(Fragment, Owner)>,
    kept: Vec<InterfacePackets>,
    size: usize,
}

#[derive(Debug)]
struct PendingDials {
    count: usize,
    /// When the first of those that overlap began, and the last.
    first: Nanos,
    last: Nanos,
}

/// What is kept of an interface.
#[derive(Debug, Default)]
pub(super) struct InterfacePackets {
    packets: Vec<(OwnedPacket, Option<Owner>)>,
    dropped_by_limit: u64,
    dropped_pending: u64,
}

impl Filter {
    pub(super) fn new(config: FilterConfig) -> Self {
        Filter {
            config,
            flows: Flows::default(),
            dials: HashMap::new(),
            likely: PendingPackets::new(MAX_LIKELY_BYTES),
            unlikely: PendingPackets::new(MAX_UNLIKELY_BYTES),
            pending_until: 0,
            fragmented: VecDeque::new(),
            kept: Vec::new(),
            size: 0,
        }
    }

    /// Gives the number of one more interface.
    pub(super) fn add_interface(&mut self) -> usize {
        self.kept.push(InterfacePackets::default());
        self.kept.len() - 1
    }

    /// A connection is about to be made to that address.
    pub(super) fn on_dial_begin(&mut self, protocol: Protocol, remote: Endpoint, now: Nanos) {
        if self.dials.len() >= MAX_DIALS {
            self.expire_dials(now);
        }
        if self.dials.len() < MAX_DIALS {
            let new = PendingDials { count: 0, first: now, last: now };
            let dials = self.dials.entry((protocol, remote)).or_insert(new);
            dials.count += 1;
            dials.last = now;
        }
        self.extend_pending(now);
    }

    /// The addresses of a connection under way are known, before anybody can say which it is.
    pub(super) fn on_dial_addrs(&mut self, protocol: Protocol, ends: [Endpoint; 2], now: Nanos) {
        let dials = self.dials.get(&(protocol, ends[1]));
        let begin = dials.map_or(now, |dials| dials.first);
        self.on_open(None, protocol, ends, begin, now);
    }

    /// Both addresses of a connection are known, perhaps not for the first time. It began at `begin`.
    pub(super) fn on_open(
        &mut self,
        id: Option<&TraceId>,
        protocol: Protocol,
        ends: [Endpoint; 2],
        begin: Nanos,
        now: Nanos,
    ) {
        let [local, remote] = ends;
        if self.flows.open(id, protocol, ends, begin) {
            self.on_dial_end(protocol, remote);
            self.extend_pending(now);
            self.claim_pending(&Flow::new(protocol, local, remote));
        }
    }

    /// Whether a connection is open, or under way, between these addresses.
    pub(super) fn is_open(&self, protocol: Protocol, ends: [Endpoint; 2]) -> bool {
        self.flows.is_open(protocol, ends)
    }

    /// A dial ended before its addresses were known.
    pub(super) fn on_dial_end(&mut self, protocol: Protocol, remote: Endpoint) {
        if let Some(dials) = self.dials.get_mut(&(protocol, remote)) {
            dials.count -= 1;
            if dials.count == 0 {
                self.dials.remove(&(protocol, remote));
            }
        }
    }

    /// The packets of a connection carry these addresses elsewhere.
    pub(super) fn on_nat_addrs(&mut self, id: &TraceId, protocol: Protocol, ends: [Endpoint; 2]) {
        if let Some(flow) = self.flows.add_translated(id, protocol, ends) {
            self.claim_pending(&flow);
        }
    }

    pub(super) fn on_close(&mut self, id: &TraceId, now: Nanos) {
        self.flows.close(id, now);
    }

    /// Returns when the first of those connections was closed whose last packets may still come.
    pub(super) fn first_settling_close(&self, now: Nanos) -> Option<Nanos> {
        self.flows.first_settling_close(now)
    }

    /// A packet passed an interface.
    pub(super) fn packet(&mut self, interface: usize, kind: PacketKind, packet: PacketRef<'_>) {
        let is_wanted = match kind {
            PacketKind::Segment(segment, _) => {
                segment.protocol == Protocol::Udp || self.config.tcp_payload || !segment.has_payload
            }
            PacketKind::IcmpError(_) | PacketKind::Fragment(_) => true,
            PacketKind::Icmp => self.config.icmp,
            PacketKind::Arp => self.config.arp,
            PacketKind::Other => false,
        };
        if !is_wanted {
            return;
        }
        match (self.owner(&kind, packet.at), &kind) {
            (Some(owner), _) => self.keep(interface, packet, Some(owner)),
            (None, PacketKind::Icmp | PacketKind::Arp) => self.keep(interface, packet, None),
            (None, PacketKind::IcmpError(_)) if self.config.icmp => self.keep(interface, packet, None),
            (None, PacketKind::Segment(segment, _) | PacketKind::IcmpError(segment)) => {
                self.hold_pending(interface, Flow::of(segment), kind, packet);
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
            time: wall_time(packet.at),
            length: packet.length,
            data: packet.data.clone(),
            connection: owner.as_ref().and_then(|owner| owner.get()).cloned().unwrap_or_default(),
        });
        (packets.collect(), kept.dropped_by_limit, kept.dropped_pending)
    }

    /// Forgets the packets; connections stay known.
    pub(super) fn clear(&mut self) {
        self.kept.iter_mut().for_each(|kept| *kept = InterfacePackets::default());
        self.size = 0;
        self.likely.clear();
        self.unlikely.clear();
    }

    /// Lets go of what is over. True when something is left that time will decide.
    pub(super) fn expire(&mut self, now: Nanos) -> bool {
        if !self.likely.is_empty() || !self.unlikely.is_empty() {
            self.expire_dials(now);
            if !self.holds_pending(now) {
                self.likely.clear();
                self.unlikely.clear();
            }
        }
        self.flows.expire(now);
        !self.likely.is_empty() || !self.unlikely.is_empty()
    }

    fn owner(&mut self, kind: &PacketKind, at: Nanos) -> Option<Owner> {
        match kind {
            PacketKind::Segment(segment, fragment) => {
                let owner = self.flows.owner(segment, at)?;
                if let Some(fragment) = fragment {
                    if self.fragmented.len() >= MAX_FRAGMENTED {
                        self.fragmented.pop_front();
                    }
                    self.fragmented.push_back((*fragment, owner.clone()));
                }
                Some(owner)
            }
            PacketKind::IcmpError(quoted) => self.flows.owner_of_quoted(quoted, at),
            PacketKind::Fragment(fragment) => {
                let found = self.fragmented.iter().rev().find(|(first, _)| first == fragment);
                found.map(|(_, owner)| owner.clone())
            }
            PacketKind::Icmp | PacketKind::Arp | PacketKind::Other => None,
        }
    }

    fn keep(&mut self, interface: usize, packet: impl Packet, owner: Option<Owner>) {
        let Some(kept) = self.kept.get_mut(interface) else { return };
        let size = packet.captured_bytes() + PACKET_HEADER_BYTES;
        if self.size + size > self.config.size_limit {
            kept.dropped_by_limit += 1;
        } else {
            self.size += size;
            kept.packets.push((packet.into_owned(), owner));
        }
    }

    fn hold_pending(&mut self, interface: usize, flow: Flow, kind: PacketKind, packet: PacketRef<'_>) {
        if !self.holds_pending(packet.at) {
            return;
        }
        let is_likely = flow.ends().iter().any(|end| self.dials.contains_key(end));
        let place = if is_likely { &mut self.likely } else { &mut self.unlikely };
        let kept = &mut self.kept;
        place.hold(flow, interface, kind, packet.into_owned(), |interface| {
            if let Some(kept) = kept.get_mut(interface) {
                kept.dropped_pending += 1;
            }
        });
    }

    /// The packets of that flow need not wait any more.
    fn claim_pending(&mut self, flow: &Flow) {
        let mut pending = Vec::from(self.likely.take(flow));
        pending.extend(self.unlikely.take(flow));
        pending.sort_by_key(|pending| pending.packet.at);
        for pending in pending {
            if let Some(owner) = self.owner(&pending.kind, pending.packet.at) {
                self.keep(pending.interface, pending.packet, Some(owner));
            }
        }
    }

    fn expire_dials(&mut self, now: Nanos) {
        self.dials.retain(|_, dials| now.saturating_sub(dials.last) < DIAL_TIMEOUT);
    }

    /// A connection began just now, or may: what nobody claims yet is pending.
    pub(super) fn extend_pending(&mut self, now: Nanos) {
        self.pending_until = self.pending_until.max(now.saturating_add(self.config.pending_timeout));
    }

    fn holds_pending(&self, at: Nanos) -> bool {
        at < self.pending_until || !self.dials.is_empty()
    }
}

#[cfg(test)]
mod tests;
