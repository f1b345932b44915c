//! Packets of which it is not known yet whether they belong to a traced connection: a SYN is there before the program
//! knows its own port, and before anybody knows what NAT made of it.

use super::{flow::Flow, packet::Taken, parse::Seen};
use std::collections::{HashMap, VecDeque};

/// What a packet takes beside its bytes.
const OVERHEAD: usize = 128;

/// A packet that waits.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) interface: usize,
    pub(super) seen: Seen,
    pub(super) packet: Taken,
    number: u64,
}

/// Bounded. The oldest packets give way.
#[derive(Debug)]
pub(super) struct Undecided {
    limit: usize,
    size: usize,
    flows: HashMap<Flow, VecDeque<Held>>,
    /// Which flow the packets are of, in the order in which they came; some were taken out since.
    order: VecDeque<(u64, Flow)>,
    next: u64,
    waiting: usize,
}

impl Undecided {
    pub(super) fn new(limit: usize) -> Self {
        Undecided { limit, size: 0, flows: HashMap::new(), order: VecDeque::new(), next: 0, waiting: 0 }
    }

    /// The interfaces of the packets that gave way are told to `lost`.
    pub(super) fn hold(
        &mut self,
        flow: Flow,
        interface: usize,
        seen: Seen,
        packet: Taken,
        mut lost: impl FnMut(usize),
    ) {
        let number = self.next;
        self.next += 1;
        self.size += size(&packet);
        self.waiting += 1;
        self.flows.entry(flow).or_default().push_back(Held { interface, seen, packet, number });
        self.order.push_back((number, flow));
        while self.size > self.limit
            && let Some((number, flow)) = self.order.pop_front()
        {
            if let Some(held) = self.oldest(number, &flow) {
                lost(held.interface);
            }
        }
        if self.order.len() > 2 * self.waiting + 64 {
            let flows = &self.flows;
            let is_there = |number: u64, flow: &Flow| {
                flows.get(flow).and_then(VecDeque::front).is_some_and(|first| first.number <= number)
            };
            self.order.retain(|(number, flow)| is_there(*number, flow));
        }
    }

    /// Takes out the packets of a flow, in the order in which they came.
    pub(super) fn take(&mut self, flow: &Flow) -> VecDeque<Held> {
        let taken = self.flows.remove(flow).unwrap_or_default();
        self.size -= taken.iter().map(|held| size(&held.packet)).sum::<usize>();
        self.waiting -= taken.len();
        taken
    }

    /// Nobody claimed them.
    pub(super) fn clear(&mut self) {
        if self.next != 0 {
            *self = Undecided::new(self.limit);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    fn oldest(&mut self, number: u64, flow: &Flow) -> Option<Held> {
        let packets = self.flows.get_mut(flow)?;
        packets.front().filter(|first| first.number == number)?;
        let held = packets.pop_front()?;
        if packets.is_empty() {
            self.flows.remove(flow);
        }
        self.size -= size(&held.packet);
        self.waiting -= 1;
        Some(held)
    }
}

fn size(packet: &Taken) -> usize {
    packet.data.len() + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::parse::Protocol;
    use std::net::Ipv4Addr;

    fn flow(port: u16) -> Flow {
        let end = |port| (Ipv4Addr::LOCALHOST.into(), port);
        Flow::new(Protocol::Tcp, end(port), end(443))
    }

    fn packet(at: u64) -> Taken {
        Taken { at, length: 72, data: [0; 72].as_slice().into() }
    }

    #[test]
    fn packets_wait_for_their_flow() {
        let mut undecided = Undecided::new(10_000);
        for (port, at) in [(1, 1), (2, 2), (1, 3)] {
            undecided.hold(flow(port), 0, Seen::Other, packet(at), |_| panic!("there is room"));
        }
        let times = |held: VecDeque<Held>| held.iter().map(|held| held.packet.at).collect::<Vec<_>>();
        assert_eq!(times(undecided.take(&flow(1))), [1, 3]);
        assert!(times(undecided.take(&flow(1))).is_empty());
        assert_eq!(times(undecided.take(&flow(2))), [2]);
        assert!(undecided.is_empty());
        assert_eq!(undecided.size, 0);
    }

    #[test]
    fn the_oldest_give_way_and_are_counted() {
        let mut undecided = Undecided::new(10 * 200);
        let mut lost = Vec::new();
        for n in 0..100 {
            undecided.hold(flow(n % 7), usize::from(n), Seen::Other, packet(n.into()), |n| lost.push(n));
        }
        assert_eq!(lost, (0..90).collect::<Vec<_>>());
        assert_eq!((undecided.waiting, undecided.size), (10, 2_000));
        assert!(undecided.flows.len() <= 10 && undecided.order.len() <= 84);
    }

    #[test]
    fn taking_out_leaves_nothing_behind() {
        let mut undecided = Undecided::new(10_000);
        for n in 0..10_000 {
            undecided.hold(flow(n), 0, Seen::Other, packet(0), |_| panic!("there is room"));
            assert_eq!(undecided.take(&flow(n)).len(), 1);
        }
        assert!(undecided.order.len() <= 66 && undecided.flows.is_empty());
    }
}
