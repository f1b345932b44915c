//! Packets of which it is not known yet whether they belong to a traced connection.
//!
//! A SYN passes before the program knows its own port, and before anybody knows which addresses NAT gave it.

use super::{flow::Flow, packet::OwnedPacket, parse::PacketKind};
use std::collections::{HashMap, VecDeque};

/// The memory that a packet takes in addition to its bytes.
const PACKET_OVERHEAD_BYTES: usize = 128;

/// A packet whose connection is not known yet.
#[derive(Debug)]
pub(super) struct PendingPacket {
    pub(super) interface: usize,
    pub(super) kind: PacketKind,
    pub(super) packet: OwnedPacket,
    /// The packet's place in the order in which packets came.
    number: u64,
}

/// A bounded set of packets. When it is full the oldest ones are dropped.
#[derive(Debug)]
pub(super) struct PendingPackets {
    /// The most bytes that packets may take.
    limit: usize,
    /// The bytes that they take.
    size: usize,
    flows: HashMap<Flow, VecDeque<PendingPacket>>,
    /// The numbers and flows of packets in the order in which they came. Some have been taken out since.
    order: VecDeque<(u64, Flow)>,
    next: u64,
    count: usize,
}

impl PendingPackets {
    pub(super) fn new(limit: usize) -> Self {
        PendingPackets { limit, size: 0, flows: HashMap::new(), order: VecDeque::new(), next: 0, count: 0 }
    }

    /// Adds a packet. Calls `lost` with the interface of each packet that is dropped to make room.
    pub(super) fn hold(
        &mut self,
        flow: Flow,
        interface: usize,
        kind: PacketKind,
        packet: OwnedPacket,
        mut lost: impl FnMut(usize),
    ) {
        let number = self.next;
        self.next += 1;
        self.size += size(&packet);
        self.count += 1;
        self.flows.entry(flow).or_default().push_back(PendingPacket { interface, kind, packet, number });
        self.order.push_back((number, flow));
        while self.size > self.limit
            && let Some((number, flow)) = self.order.pop_front()
        {
            if let Some(packet) = self.take_oldest(number, &flow) {
                lost(packet.interface);
            }
        }
        if self.order.len() > 2 * self.count + 64 {
            let flows = &self.flows;
            let is_there = |number: u64, flow: &Flow| {
                flows.get(flow).and_then(VecDeque::front).is_some_and(|first| first.number <= number)
            };
            self.order.retain(|(number, flow)| is_there(*number, flow));
        }
    }

    /// Removes and returns the packets of a flow, in the order in which they came.
    pub(super) fn take(&mut self, flow: &Flow) -> VecDeque<PendingPacket> {
        let taken = self.flows.remove(flow).unwrap_or_default();
        self.size -= taken.iter().map(|packet| size(&packet.packet)).sum::<usize>();
        self.count -= taken.len();
        taken
    }

    /// Drops all packets: nobody has claimed them.
    pub(super) fn clear(&mut self) {
        if self.next != 0 {
            *self = PendingPackets::new(self.limit);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Removes the oldest packet, unless it has been taken out.
    fn take_oldest(&mut self, number: u64, flow: &Flow) -> Option<PendingPacket> {
        let packets = self.flows.get_mut(flow)?;
        packets.front().filter(|first| first.number == number)?;
        let packet = packets.pop_front()?;
        if packets.is_empty() {
            self.flows.remove(flow);
        }
        self.size -= size(&packet.packet);
        self.count -= 1;
        Some(packet)
    }
}

fn size(packet: &OwnedPacket) -> usize {
    packet.data.len() + PACKET_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::{flow::Endpoints, parse::Protocol};
    use std::net::Ipv4Addr;

    fn flow(port: u16) -> Flow {
        let end = |port| (Ipv4Addr::LOCALHOST.into(), port);
        Flow::between(Protocol::Tcp, Endpoints { local: end(port), remote: end(443) })
    }

    fn packet(at: u64) -> OwnedPacket {
        OwnedPacket { at, length: 72, data: [0; 72].as_slice().into() }
    }

    #[test]
    fn packets_are_taken_out_by_their_flow() {
        let mut pending = PendingPackets::new(10_000);
        for (port, at) in [(1, 1), (2, 2), (1, 3)] {
            pending.hold(flow(port), 0, PacketKind::Other, packet(at), |_| panic!("there is room"));
        }
        let times = |packet: VecDeque<PendingPacket>| {
            packet.iter().map(|packet| packet.packet.at).collect::<Vec<_>>()
        };
        assert_eq!(times(pending.take(&flow(1))), [1, 3]);
        assert!(times(pending.take(&flow(1))).is_empty());
        assert_eq!(times(pending.take(&flow(2))), [2]);
        assert!(pending.is_empty());
        assert_eq!(pending.size, 0);
    }

    #[test]
    fn the_oldest_packets_are_dropped_and_counted() {
        let mut pending = PendingPackets::new(10 * 200);
        let mut lost = Vec::new();
        for n in 0..100 {
            pending.hold(flow(n % 7), usize::from(n), PacketKind::Other, packet(n.into()), |n| lost.push(n));
        }
        assert_eq!(lost, (0..90).collect::<Vec<_>>());
        assert_eq!((pending.count, pending.size), (10, 2_000));
        assert!(pending.flows.len() <= 10 && pending.order.len() <= 84);
    }

    #[test]
    fn taking_packets_leaves_no_memory_behind() {
        let mut pending = PendingPackets::new(10_000);
        for n in 0..10_000 {
            pending.hold(flow(n), 0, PacketKind::Other, packet(0), |_| panic!("there is room"));
            assert_eq!(pending.take(&flow(n)).len(), 1);
        }
        assert!(pending.order.len() <= 66 && pending.flows.is_empty());
    }
}
