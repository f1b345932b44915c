//! Decides which packets are kept.
//!
//! A state machine without I/O and without a clock: the probe tells it what happens to connections, the thread that
//! captures shows it every packet, in any order, and it keeps those of traced connections. Packets that come before it
//! is known whose they are wait in [`PendingPackets`]; [`Flows`] knows which addresses are whose.

use super::{
    flow::{Endpoints, Flow, Flows, Nanos, Owner},
    packet::{OwnedPacket, Packet, PacketRef, wall_time},
    packet_capture::CapturedPacket,
    parse::{Endpoint, Fragment, PacketKind, Protocol},
    pending_packets::PendingPackets,
};
use crate::record::TraceId;
use std::collections::{HashMap, VecDeque};

/// The most bytes of pending packets to or from the remote end of a dial under way.
const MAX_LIKELY_BYTES: usize = 512 << 10;
/// The most bytes of all other pending packets: NAT may have changed both addresses of a dial.
const MAX_UNLIKELY_BYTES: usize = 256 << 10;
/// How long a dial may take whose end nobody tells of. The kernel gives up a handshake after little more than two
/// minutes.
const DIAL_TIMEOUT: Nanos = 180_000_000_000;
const MAX_DIALS: usize = 4_096;
/// The most fragmented packets whose later fragments are recognised.
const MAX_FRAGMENTED: usize = 256;
/// The bytes that a packet takes in a file in addition to its own.
const PACKET_HEADER_BYTES: usize = 16;

/// The configuration of a [`Filter`].
#[derive(Clone, Copy, Debug)]
pub(super) struct FilterConfig {
    /// Whether to keep all ICMP packets.
    pub(super) icmp: bool,
    /// Whether to keep all ARP packets.
    pub(super) arp: bool,
    /// Whether to keep TCP segments with a payload.
    pub(super) tcp_payload: bool,
    /// The most bytes that are kept, of all interfaces together.
    pub(super) size_limit: usize,
    /// How long packets that nobody has claimed are held after a connection began.
    pub(super) pending_timeout: Nanos,
}

/// The packets kept so far, and what decides about the next one.
#[derive(Debug)]
pub(super) struct Filter {
    config: FilterConfig,
    flows: Flows,
    /// The remote ends of dials under way.
    dials: HashMap<(Protocol, Endpoint), PendingDials>,
    likely: PendingPackets,
    unlikely: PendingPackets,
    /// Until when packets that nobody claims are held; longer if a dial is under way.
    pending_until: Nanos,
    /// Packets whose later fragments are to be kept.
    fragmented: VecDeque<(Fragment, Owner)>,
    /// The packets of each interface, by its index.
    kept: Vec<InterfacePackets>,
    /// Bytes that are kept, with [`PACKET_HEADER_BYTES`] for each packet.
    size: usize,
    /// Whether packets that pass now are dropped.
    is_paused: bool,
}

/// Dials under way to the same address.
#[derive(Debug)]
struct PendingDials {
    count: usize,
    /// When the first of those that overlap began.
    first: Nanos,
    /// When the last of them began.
    last: Nanos,
}

/// The packets of an interface that were kept so far.
#[derive(Debug, Default)]
struct InterfacePackets {
    packets: Vec<(OwnedPacket, Option<Owner>)>,
    dropped_by_limit: u64,
    dropped_pending: u64,
}

/// The packets of an interface that were kept, to be read by others.
#[derive(Debug, Default)]
pub(super) struct KeptPackets {
    /// In the order of time.
    pub(super) packets: Vec<CapturedPacket>,
    /// How many packets are missing because of the limit of the total size.
    pub(super) dropped_by_limit: u64,
    /// How many packets are missing because there was no room for more pending ones.
    pub(super) dropped_pending: u64,
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
            is_paused: false,
        }
    }

    /// Adds an interface. Returns its index.
    pub(super) fn add_interface(&mut self) -> usize {
        self.kept.push(InterfacePackets::default());
        self.kept.len() - 1
    }

    /// Notes that a connection is about to be made to `remote`.
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

    /// Notes both addresses of a dial whose connection has no identifier yet.
    pub(super) fn on_dial_addrs(&mut self, protocol: Protocol, ends: Endpoints, now: Nanos) {
        let dials = self.dials.get(&(protocol, ends.remote));
        let begin = dials.map_or(now, |dials| dials.first);
        self.on_open(None, protocol, ends, begin, now);
    }

    /// Notes both addresses of a connection that began at `begin`. They may have been known before.
    pub(super) fn on_open(
        &mut self,
        id: Option<&TraceId>,
        protocol: Protocol,
        ends: Endpoints,
        begin: Nanos,
        now: Nanos,
    ) {
        if self.flows.open(id, protocol, ends, begin) {
            self.on_dial_end(protocol, ends.remote);
            self.extend_pending(now);
            self.claim_pending(&Flow::between(protocol, ends));
        }
    }

    /// Returns `true` if a connection between these addresses is open or being made.
    pub(super) fn is_open(&self, protocol: Protocol, ends: Endpoints) -> bool {
        self.flows.is_open(protocol, ends)
    }

    /// Notes that a dial to `remote` has ended, or that its addresses are known now.
    pub(super) fn on_dial_end(&mut self, protocol: Protocol, remote: Endpoint) {
        if let Some(dials) = self.dials.get_mut(&(protocol, remote)) {
            dials.count -= 1;
            if dials.count == 0 {
                self.dials.remove(&(protocol, remote));
            }
        }
    }

    /// Notes the addresses that NAT gives to the packets of a connection.
    pub(super) fn on_nat_addrs(&mut self, id: &TraceId, protocol: Protocol, ends: Endpoints) {
        if let Some(flow) = self.flows.add_translated(id, protocol, ends) {
            self.claim_pending(&flow);
        }
    }

    /// Notes that a connection was closed from this side.
    pub(super) fn on_close(&mut self, id: &TraceId, now: Nanos) {
        self.flows.close(id, now);
    }

    /// Returns when the first connection was closed whose last packets may still come.
    pub(super) fn first_settling_close(&self, now: Nanos) -> Option<Nanos> {
        self.flows.first_settling_close(now)
    }

    /// Keeps a packet that passed an interface, holds it until it is known whose it is, or drops it.
    pub(super) fn on_packet(&mut self, interface: usize, kind: PacketKind, packet: PacketRef<'_>) {
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
        // Also while nothing is kept, since this notes that a connection ends.
        let owner = self.owner(&kind, packet.at);
        if self.is_paused {
            return;
        }
        match (owner, &kind) {
            (Some(owner), _) => self.keep(interface, packet, Some(owner)),
            (None, PacketKind::Icmp | PacketKind::Arp) => self.keep(interface, packet, None),
            (None, PacketKind::IcmpError(_)) if self.config.icmp => self.keep(interface, packet, None),
            (None, PacketKind::Segment(segment, _) | PacketKind::IcmpError(segment)) => {
                self.hold_pending(interface, Flow::of(segment), kind, packet);
            }
            (None, _) => {}
        }
    }

    /// Sets whether packets that pass from now on are dropped. Connections stay known.
    pub(super) fn set_paused(&mut self, paused: bool) {
        self.is_paused = paused;
    }

    /// Returns `true` if packets that pass now are dropped.
    pub(super) fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Returns what was kept of an interface.
    pub(super) fn kept(&mut self, interface: usize) -> KeptPackets {
        let Some(kept) = self.kept.get_mut(interface) else { return KeptPackets::default() };
        kept.packets.sort_by_key(|(packet, _)| packet.at);
        let packets = kept.packets.iter().map(|(packet, owner)| CapturedPacket {
            time: wall_time(packet.at),
            length: packet.length,
            data: packet.data.clone(),
            connection: owner.as_ref().and_then(|owner| owner.get()).cloned().unwrap_or_default(),
        });
        KeptPackets {
            packets: packets.collect(),
            dropped_by_limit: kept.dropped_by_limit,
            dropped_pending: kept.dropped_pending,
        }
    }

    /// Drops the packets. Connections stay known.
    pub(super) fn clear(&mut self) {
        self.kept.iter_mut().for_each(|kept| *kept = InterfacePackets::default());
        self.size = 0;
        self.likely.clear();
        self.unlikely.clear();
    }

    /// Drops pending packets that nobody can claim any more, and connections that were closed long ago. Returns `true`
    /// if packets are still pending.
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

    /// Returns whose packet this is, and remembers it for later fragments.
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
        let pending = if is_likely { &mut self.likely } else { &mut self.unlikely };
        let kept = &mut self.kept;
        pending.hold(flow, interface, kind, packet.into_owned(), |interface| {
            if let Some(kept) = kept.get_mut(interface) {
                kept.dropped_pending += 1;
            }
        });
    }

    /// Keeps the pending packets of a flow whose owner is known now.
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

    /// Holds packets that nobody claims for another [`FilterConfig::pending_timeout`]: a connection begins, or may.
    pub(super) fn extend_pending(&mut self, now: Nanos) {
        self.pending_until = self.pending_until.max(now.saturating_add(self.config.pending_timeout));
    }

    fn holds_pending(&self, at: Nanos) -> bool {
        at < self.pending_until || !self.dials.is_empty()
    }
}

#[cfg(test)]
mod tests;
