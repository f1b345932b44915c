use super::*;
use crate::capture::parse::Segment;
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr};

const LOCAL: Endpoint = (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 40_000);
const REMOTE: Endpoint = (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)), 443);
const STRANGER: Endpoint = (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 50_000);
const OUTSIDE: Endpoint = (IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 60_000);
const ENDS: Endpoints = Endpoints { local: LOCAL, remote: REMOTE };
const HOLD: Nanos = 1_000;

fn filter(change: impl FnOnce(&mut FilterConfig)) -> Filter {
    let mut config = FilterConfig {
        icmp: false,
        arp: false,
        tcp_payload: true,
        size_limit: 100_000,
        pending_timeout: HOLD,
    };
    change(&mut config);
    let mut filter = Filter::new(config);
    filter.add_interface();
    filter
}

fn segment(source: Endpoint, destination: Endpoint) -> Segment {
    Segment { protocol: Protocol::Tcp, source, destination, is_syn: false, has_payload: false, tcp: None }
}

fn syn(source: Endpoint) -> PacketKind {
    PacketKind::Segment(Segment { is_syn: true, ..segment(source, REMOTE) }, None)
}

fn pass(filter: &mut Filter, kind: PacketKind, at: Nanos) {
    filter.on_packet(0, kind, PacketRef { at, length: 100, data: &[0; 84] });
}

fn open(filter: &mut Filter, at: Nanos) {
    filter.on_open(Some(&"1".into()), Protocol::Tcp, ENDS, 10, at);
}

fn times(filter: &mut Filter) -> Vec<Nanos> {
    filter.kept(0).packets.iter().map(CapturedPacket::nanos).collect()
}

#[test]
fn the_first_syn_is_held_until_its_connection_is_known() {
    let mut filter = filter(|_| {});
    filter.on_dial_begin(Protocol::Tcp, REMOTE, 10);
    pass(&mut filter, syn(LOCAL), 11);
    pass(&mut filter, syn(STRANGER), 12);
    pass(&mut filter, PacketKind::IcmpError(segment(LOCAL, REMOTE)), 13);
    assert!(times(&mut filter).is_empty());
    open(&mut filter, 14);
    pass(&mut filter, PacketKind::Segment(segment(REMOTE, LOCAL), None), 15);
    pass(&mut filter, PacketKind::Segment(segment(REMOTE, STRANGER), None), 16);
    assert_eq!(times(&mut filter), [11, 13, 15]);
    assert!(filter.kept(0).packets.iter().all(|packet| packet.connection == "1"));
}

#[test]
fn nothing_is_kept_of_what_passes_during_a_pause() {
    let mut filter = filter(|_| {});
    filter.on_dial_begin(Protocol::Tcp, REMOTE, 10);
    pass(&mut filter, syn(LOCAL), 11);
    filter.set_paused(true);
    pass(&mut filter, PacketKind::Segment(segment(LOCAL, REMOTE), None), 12);
    open(&mut filter, 13);
    pass(&mut filter, PacketKind::Segment(segment(REMOTE, LOCAL), None), 14);
    assert_eq!(times(&mut filter), [11], "it passed before");
    filter.set_paused(false);
    pass(&mut filter, PacketKind::Segment(segment(REMOTE, LOCAL), None), 15);
    assert_eq!(times(&mut filter), [11, 15]);
}

#[test]
fn packets_of_a_dial_are_kept_before_it_has_an_identifier() {
    let mut filter = filter(|_| {});
    filter.on_dial_begin(Protocol::Tcp, REMOTE, 10);
    pass(&mut filter, syn(LOCAL), 11);
    filter.on_dial_begin(Protocol::Tcp, REMOTE, 12);
    filter.on_dial_addrs(Protocol::Tcp, ENDS, 13);
    assert_eq!(times(&mut filter), [11]);
    assert!(filter.kept(0).packets[0].connection.is_undefined());
    open(&mut filter, 20);
    assert_eq!(filter.kept(0).packets[0].connection, "1");
    filter.on_close(&"1".into(), 30);
    pass(&mut filter, syn(LOCAL), 31);
    assert_eq!(times(&mut filter), [11], "the SYN may be of another connection");
    filter.on_dial_addrs(Protocol::Tcp, ENDS, 32);
    assert_eq!(times(&mut filter), [11, 31]);
}

#[test]
fn unclaimed_packets_are_dropped() {
    let mut filter = filter(|_| {});
    pass(&mut filter, syn(STRANGER), 1);
    assert!(filter.unlikely.is_empty(), "no dial is running");
    filter.on_dial_begin(Protocol::Tcp, REMOTE, 10);
    pass(&mut filter, syn(STRANGER), 11);
    pass(&mut filter, PacketKind::Segment(segment(OUTSIDE, STRANGER), None), 12);
    assert!(filter.expire(10 + HOLD), "the dial is running");
    filter.on_dial_end(Protocol::Tcp, REMOTE);
    assert!(!filter.expire(10 + HOLD));
    assert!(filter.likely.is_empty() && filter.unlikely.is_empty() && filter.dials.is_empty());
}

#[test]
fn a_dial_without_an_end_expires() {
    let mut filter = filter(|_| {});
    filter.on_dial_begin(Protocol::Tcp, REMOTE, 10);
    pass(&mut filter, syn(STRANGER), 11);
    assert!(filter.expire(9 + DIAL_TIMEOUT));
    assert!(!filter.expire(10 + DIAL_TIMEOUT));
}

#[test]
fn translated_packets_are_kept_once_their_addresses_are_known() {
    let mut filter = filter(|_| {});
    filter.on_dial_begin(Protocol::Tcp, REMOTE, 10);
    let behind = PacketKind::Segment(Segment { is_syn: true, ..segment(OUTSIDE, (REMOTE.0, 8443)) }, None);
    pass(&mut filter, syn(LOCAL), 11);
    pass(&mut filter, behind, 12);
    open(&mut filter, 13);
    assert_eq!(times(&mut filter), [11]);
    filter.on_nat_addrs(&"1".into(), Protocol::Tcp, Endpoints { local: OUTSIDE, remote: (REMOTE.0, 8443) });
    assert_eq!(times(&mut filter), [11, 12]);
}

#[test]
fn a_flood_of_other_packets_is_bounded_and_evicts_no_likely_packets() {
    let mut filter = filter(|_| {});
    filter.on_dial_begin(Protocol::Tcp, REMOTE, 10);
    pass(&mut filter, syn(LOCAL), 11);
    for n in 0..100_000_u32 {
        let stranger = (Ipv4Addr::from(n).into(), 1);
        pass(&mut filter, PacketKind::Segment(segment(stranger, OUTSIDE), None), 12);
    }
    open(&mut filter, 13);
    let kept = filter.kept(0);
    assert_eq!(kept.packets.len(), 1);
    assert!(kept.dropped_pending > 98_000, "{}", kept.dropped_pending);
}

#[test]
fn the_size_limit_holds_and_missing_packets_are_counted() {
    let mut filter = filter(|config| config.size_limit = 1_000);
    filter.add_interface();
    open(&mut filter, 10);
    for at in 20..40 {
        let kind = PacketKind::Segment(segment(LOCAL, REMOTE), None);
        filter.on_packet((at % 2) as usize, kind, PacketRef { at, length: 100, data: &[0; 84] });
    }
    let (first, second) = (filter.kept(0), filter.kept(1));
    assert_eq!((first.packets.len(), second.packets.len()), (5, 5), "the interfaces share the limit");
    assert_eq!((first.dropped_by_limit, second.dropped_by_limit), (5, 5));
    filter.clear();
    assert_eq!(filter.kept(0).dropped_by_limit, 0);
    pass(&mut filter, PacketKind::Segment(segment(LOCAL, REMOTE), None), 50);
    assert_eq!(times(&mut filter), [50]);
}

#[test]
fn only_configured_kinds_are_kept() {
    let datagram = Segment { protocol: Protocol::Udp, has_payload: true, ..segment(LOCAL, REMOTE) };
    let data = Segment { has_payload: true, ..segment(LOCAL, REMOTE) };
    let all = [
        PacketKind::Icmp,
        PacketKind::Arp,
        PacketKind::Other,
        PacketKind::IcmpError(segment(STRANGER, OUTSIDE)),
        PacketKind::Segment(data, None),
        PacketKind::Segment(datagram, None),
    ];
    let kept = |change: &dyn Fn(&mut FilterConfig)| {
        let mut filter = filter(change);
        open(&mut filter, 10);
        filter.on_open(Some(&"2".into()), Protocol::Udp, ENDS, 10, 10);
        (20..).zip(all).for_each(|(at, kind)| pass(&mut filter, kind, at));
        times(&mut filter)
    };
    assert_eq!(kept(&|_| {}), [24, 25]);
    assert_eq!(kept(&|config| config.icmp = true), [20, 23, 24, 25]);
    assert_eq!(kept(&|config| config.arp = true), [21, 24, 25]);
    assert_eq!(kept(&|config| config.tcp_payload = false), [25]);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A dial begins from this port, and its SYN passes.
    Dial(u16),
    /// The connection from this port is established.
    Connected(u16),
    /// A packet of the connection passes, if there is one.
    Packet(u16),
    Close(u16),
    /// An untraced SYN passes from a port of its own.
    Stranger(u16),
    /// An untraced SYN passes from a port that was closed.
    Reuse(u16),
    Expire,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let port = 0..4_u16;
    let step = prop_oneof![
        3 => port.clone().prop_map(Step::Dial),
        3 => port.clone().prop_map(Step::Connected),
        6 => port.clone().prop_map(Step::Packet),
        2 => port.clone().prop_map(Step::Close),
        3 => port.clone().prop_map(Step::Stranger),
        1 => port.prop_map(Step::Reuse),
        1 => Just(Step::Expire),
    ];
    proptest::collection::vec(step, 0..120)
}

#[derive(Clone, Copy, PartialEq)]
enum Model {
    Free,
    Dialled(Nanos),
    Open,
    Closed,
    OwnedPacket,
}

proptest! {
    #[test]
    fn exactly_the_packets_of_traced_connections_are_kept(steps in steps()) {
        let mut filter = filter(|_| {});
        let mut model = [Model::Free; 4];
        let (mut expected, mut waiting) = (Vec::new(), vec![Vec::new(); 4]);
        let end = |port: u16| (LOCAL.0, 40_000 + port);
        let id = |port: u16, begin: Nanos| TraceId::from(format!("{port}-{begin}"));
        let mut begins = [0; 4];
        for (now, step) in (1_000..).step_by(10).zip(steps) {
            match step {
                Step::Dial(port) if !matches!(model[usize::from(port)], Model::Dialled(_) | Model::Open) => {
                    filter.on_dial_begin(Protocol::Tcp, REMOTE, now);
                    pass(&mut filter, syn(end(port)), now + 1);
                    waiting[usize::from(port)] = vec![now + 1];
                    model[usize::from(port)] = Model::Dialled(now);
                }
                Step::Connected(port) => if let Model::Dialled(begin) = model[usize::from(port)] {
                    let ends = Endpoints { local: end(port), remote: REMOTE };
                    filter.on_open(Some(&id(port, begin)), Protocol::Tcp, ends, begin, now);
                    begins[usize::from(port)] = begin;
                    expected.append(&mut waiting[usize::from(port)]);
                    model[usize::from(port)] = Model::Open;
                },
                Step::Packet(port) => {
                    let segment = PacketKind::Segment(segment(REMOTE, end(port)), None);
                    match model[usize::from(port)] {
                        Model::Free => continue,
                        Model::Dialled(_) => waiting[usize::from(port)].push(now),
                        Model::Open | Model::Closed => expected.push(now),
                        Model::OwnedPacket => {}
                    }
                    pass(&mut filter, segment, now);
                }
                Step::Close(port) if model[usize::from(port)] == Model::Open => {
                    filter.on_close(&id(port, begins[usize::from(port)]), now);
                    model[usize::from(port)] = Model::Closed;
                }
                Step::Stranger(port) => pass(&mut filter, syn(end(100 + port)), now),
                Step::Reuse(port) if model[usize::from(port)] == Model::Closed => {
                    pass(&mut filter, syn(end(port)), now);
                    model[usize::from(port)] = Model::OwnedPacket;
                }
                Step::Expire => {
                    filter.expire(now);
                }
                _ => {}
            }
        }
        expected.sort_unstable();
        prop_assert_eq!(times(&mut filter), expected);
    }
}
