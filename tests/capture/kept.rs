//! A capture keeps the packets of traced connections and no others.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use nettrace::capture::CaptureProbe;
use nettrace::connect::{TcpConnector, TraceConnectLayer};
use nettrace::record::NetTrace;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tower::Layer as _;

use super::tcpdump::{Packet, Tcpdump, assert_same, packets};
use super::{client, fetch, nameserver, of_trace, only, server, sink};
use test_support::lab::{Delay, Hook, Ns, Pair, Routed};
use test_support::require::{require_lab, require_tool};

const SNAP: u32 = 1518;
/// A buffer that holds everything that passes, even on a busy machine.
const BUFFER: u32 = 64 << 20;
/// A filter for multicast listener reports, which have hop-by-hop options before them.
const LISTENERS: &str = "(ip6 and ip6[6] == 0 and ip6[40] == 58)";
/// An address without a listener, behind the interfaces of a pair.
const MARK: &str = "10.9.0.2:9";

/// An untraced program that sends requests and datagrams to the same addresses without pause.
struct Stranger {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU32>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Stranger {
    fn start(ns: &Ns, server: SocketAddr, nameserver: SocketAddr) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (stopped, rounds) = (stop.clone(), done.clone());
        let thread = ns.spawn(move || {
            // Below the ports that the kernel gives to the traced client.
            for port in (10_000..30_000).cycle() {
                if stopped.load(Relaxed) {
                    break;
                }
                let mut stream = connect_from(port, server);
                stream.write_all(b"GET /stranger HTTP/1.1\r\nhost: x\r\n\r\n").expect("write");
                stream.read_exact(&mut [0; 20]).expect("read");
                let udp = UdpSocket::bind(any(port, nameserver)).expect("bind");
                udp.send_to(b"stranger", nameserver).expect("send");
                rounds.fetch_add(1, Relaxed);
            }
        });
        let stranger = Stranger { stop, done, thread: Some(thread) };
        stranger.rounds(2);
        stranger
    }

    /// Waits until it has sent that many more.
    fn rounds(&self, count: u32) {
        let begin = self.done.load(Relaxed);
        while self.done.load(Relaxed) < begin + count {
            std::thread::yield_now();
        }
    }
}

fn any(port: u16, of_family: SocketAddr) -> SocketAddr {
    match of_family {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, port).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, port).into(),
    }
}

fn connect_from(port: u16, server: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, None).expect("a socket");
    socket.bind(&any(port, server).into()).expect("bind");
    socket.connect(&server.into()).expect("connect");
    socket.into()
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the stranger failed");
        }
    }
}

fn exactly_those(interface: &'static str, link_type: u16) {
    require_lab!();
    require_tool!("tcpdump", "dnsmasq");
    let net = Pair::new();
    for ip in Pair::SERVER.ips() {
        let web = server(&net.server, SocketAddr::new(ip, 80));
        let names = nameserver(&net.server, ip);
        let witness = Tcpdump::start(&net.client, interface, SNAP);
        let builder = CaptureProbe::builder([interface]).buffer_size(BUFFER);
        let capture = net.client.run(|| builder.start());
        let stranger = Stranger::start(&net.client, web.addr(), names.addr);
        let sink = sink(&capture);
        let trace = net.client.block_on(async {
            let client = client(&sink).nameservers([names.addr]).build().unwrap();
            for _ in 0..3 {
                assert_eq!(fetch(&client, "http://web.test/").await, b"hello");
            }
            let fresh = super::client(&sink).nameservers([names.addr]).keep_alive(false).build().unwrap();
            for _ in 0..3 {
                assert_eq!(fetch(&fresh, "http://web.test/").await, b"hello");
            }
            client.close().await;
            fresh.close().await;
            sink.snapshot("all")
        });
        web.ended_blocking(4);
        stranger.rounds(3);
        drop(stranger);
        let witnessed = witness.packets(MARK, &of_trace(&trace));
        let captured = only(sink.captures());
        assert_eq!((captured.interface_name.as_str(), captured.link_type), (interface, link_type));
        assert!(!captured.truncated && captured.with_tcp_payload);
        assert_same(&captured, witnessed);

        // Each packet names its connection.
        let ids: Vec<_> = captured.packets.iter().map(|packet| &packet.connection).collect();
        for conn in &trace.tcp_conns {
            let count = ids.iter().filter(|id| ***id == conn.trace_id).count();
            assert!(count >= 9, "handshake, request, response, close: {count} of {conn:#?}");
        }
        for conn in &trace.udp_conns {
            assert_eq!(ids.iter().filter(|id| ***id == conn.trace_id).count(), 2, "question and answer");
        }
    }
}

#[test]
fn exactly_those_that_tcpdump_saw() {
    exactly_those("c0", 1);
}

#[test]
fn exactly_those_of_all_interfaces() {
    exactly_those("any", 276);
}

/// A foreign connector tells only the addresses, once it has connected.
#[test]
fn packets_of_a_foreign_connector_are_kept() {
    require_lab!();
    require_tool!("tcpdump");
    let net = Pair::new();
    let web = server(&net.server, "10.9.0.2:80".parse().unwrap());
    let witness = Tcpdump::start(&net.client, "c0", SNAP);
    let builder = CaptureProbe::builder(["c0"]).buffer_size(BUFFER).pending_timeout(Duration::from_secs(60));
    let capture = net.client.run(|| builder.start());
    let stranger = Stranger::start(&net.client, web.addr(), "10.9.0.2:53".parse().unwrap());
    let sink = sink(&capture);
    let trace = net.client.block_on(async {
        let connector = TraceConnectLayer::new(&sink).layer(HttpConnector::new());
        let client = legacy::Client::builder(TokioExecutor::new()).build::<_, Empty<Bytes>>(connector);
        let response = client.get("http://10.9.0.2/".parse().unwrap()).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
        drop(client);
        while sink.snapshot("").tcp_conns[0].end_reason.is_none() {
            tokio::task::yield_now().await;
        }
        sink.snapshot("all")
    });
    stranger.rounds(3);
    drop(stranger);
    web.ended_blocking(1);
    let witnessed = loop {
        let witnessed = witness.packets(MARK, &of_trace(&trace));
        // SYN, SYN and ACK, …, FIN of both and the last ACK.
        if witnessed.iter().filter(|packet| tcp_flags(&packet.data) & 1 == 1).count() == 2 {
            break witnessed;
        }
    };
    let captured = only(sink.captures());
    assert_eq!(tcp_flags(&captured.packets[0].data), 0x02, "SYN");
    assert_same(&captured, witnessed);
    assert!(captured.packets.iter().all(|packet| packet.connection == trace.tcp_conns[0].trace_id));
}

/// Both ends pass the same interface.
#[test]
fn packets_over_loopback_are_kept_once() {
    require_lab!();
    require_tool!("tcpdump");
    let ns = Ns::new();
    let web = server(&ns, "127.0.0.1:80".parse().unwrap());
    let witness = Tcpdump::start(&ns, "lo", SNAP);
    let capture = ns.run(|| CaptureProbe::builder(["lo"]).start());
    let sink = sink(&capture);
    let trace = ns.block_on(async {
        let client = client(&sink).build().unwrap();
        fetch(&client, "http://127.0.0.1/").await;
        client.close().await;
        sink.snapshot("all")
    });
    web.ended_blocking(1);
    let witnessed = witness.packets("127.0.0.1:9", &of_trace(&trace));
    assert_same(&only(sink.captures()), witnessed);
}

fn tcp_flags(data: &[u8]) -> u8 {
    data[14 + 20 + 13]
}

#[test]
fn the_first_syn_is_kept_even_of_failed_attempts() {
    require_lab!();
    require_tool!("tcpdump");
    let net = Pair::new();
    net.server.nft(Hook::Input, "tcp dport 81 drop");
    let witness = Tcpdump::start(&net.client, "c0", SNAP);
    let capture = net.client.run(|| CaptureProbe::builder(["c0"]).start());
    let sink = sink(&capture);
    let trace = net.client.block_on(async {
        let connector = TcpConnector::new(&sink).handshake_timeout(Duration::from_millis(50));
        connector.connect("10.9.0.2:80").await.unwrap_err(); // refused
        connector.connect("10.9.0.2:81").await.unwrap_err(); // no answer
        sink.snapshot("all")
    });
    assert_eq!(trace.tcp_conns.len(), 2);
    let captured = only(sink.captures());
    assert_same(&captured, witness.packets(MARK, &of_trace(&trace)));
    let flags: Vec<_> = captured.packets.iter().map(|packet| tcp_flags(&packet.data)).collect();
    assert_eq!(flags, [0x02, 0x14, 0x02], "SYN, RST and SYN");
}

/// A handshake without an answer is in the capture while it is still going on.
#[test]
fn packets_of_a_dial_can_be_read_while_it_goes_on() {
    require_lab!();
    let net = Pair::new();
    net.server.nft(Hook::Input, "tcp dport 81 drop");
    let capture = net.client.run(|| CaptureProbe::builder(["c0"]).start());
    let sink = sink(&capture);
    net.client.block_on(async {
        let connector = TcpConnector::new(&sink);
        let mut dial = std::pin::pin!(connector.connect("10.9.0.2:81"));
        assert!(futures_util::poll!(&mut dial).is_pending());
        let captured = only(sink.captures());
        assert_eq!(captured.packets.len(), 1);
        assert_eq!(tcp_flags(&captured.packets[0].data), 0x02, "SYN");
    });
    let trace = sink.snapshot("given up");
    assert_eq!(only(sink.captures()).packets[0].connection, trace.tcp_conns[0].trace_id);
}

#[test]
fn only_icmp_errors_that_quote_a_traced_packet_are_kept() {
    require_lab!();
    require_tool!("tcpdump");
    let net = Routed::with_delay(Delay::All(Duration::from_millis(1)));
    net.router.nft(Hook::Forward, "tcp dport 82 reject with icmpx host-unreachable");
    net.router.nft(Hook::Forward, "tcp dport 83 reject with icmpx host-unreachable");
    for ip in Routed::SERVER.ips() {
        let witness = Tcpdump::start(&net.client, "c0", SNAP);
        let [quoted, all] =
            [false, true].map(|icmp| net.client.run(|| CaptureProbe::builder(["c0"]).icmp(icmp).start()));
        let sink = nettrace::TraceSink::builder().probe(quoted.clone()).probe(all.clone()).build();
        let trace = net.client.block_on(async {
            let stranger = tokio::net::TcpStream::connect(SocketAddr::new(ip, 83));
            stranger.await.unwrap_err();
            TcpConnector::new(&sink).connect(SocketAddr::new(ip, 82)).await.unwrap_err();
            sink.snapshot("all")
        });
        let mark = if ip.is_ipv4() { "10.9.2.2:9" } else { "[fd09:2::2]:9" };
        // The port in the packet that the error quotes.
        let port = trace.tcp_conns[0].addr_tuple.src_port;
        let quotes = if ip.is_ipv4() {
            format!("icmp[28:2] = {port}")
        } else {
            format!("icmp6 and ip6[88:2] = {port}")
        };
        let witnessed = witness.packets(mark, &format!("{} or ({quotes})", of_trace(&trace)));
        let quotes = if ip.is_ipv4() { "icmp[30:2] = 83" } else { "icmp6 and ip6[90:2] = 83" };
        let witness_of_stranger = witness.packets(mark, quotes);
        let captured = only(quoted.captures());
        assert_same(&captured, witnessed);
        assert_eq!(captured.packets.len(), 2, "SYN and the error");
        assert!(captured.packets.iter().all(|packet| packet.connection == trace.tcp_conns[0].trace_id));

        // Other packets pass here, such as neighbour discovery, perhaps before the captures begin or after they end.
        let captured = only(all.captures());
        let ours = packets(&captured);
        let witnessed =
            witness.packets(mark, &format!("{} or icmp or icmp6 or {LISTENERS}", of_trace(&trace)));
        assert!(ours.iter().all(|packet| witnessed.iter().any(|other| other.data == packet.data)));
        let of_stranger =
            |packet: &&Packet| witness_of_stranger.iter().any(|other| other.data == packet.data);
        assert_eq!(ours.iter().filter(of_stranger).count(), 1);
    }
}

#[test]
fn arp_is_captured_if_configured() {
    require_lab!();
    require_tool!("tcpdump");
    let net = Pair::new();
    let web = server(&net.server, "10.9.0.2:80".parse().unwrap());
    let witness = Tcpdump::start(&net.client, "c0", SNAP);
    let capture = net.client.run(|| CaptureProbe::builder(["c0"]).arp(true).start());
    let sink = sink(&capture);
    let trace = net.client.block_on(async {
        let client = client(&sink).build().unwrap();
        fetch(&client, "http://10.9.0.2/").await;
        client.close().await;
        sink.snapshot("all")
    });
    web.ended_blocking(1);
    let captured = only(sink.captures());
    let witnessed = witness.packets(MARK, &format!("arp or {}", of_trace(&trace)));
    assert_same(&captured, witnessed);
    assert!(captured.packets.iter().filter(|packet| packet.connection.is_undefined()).count() >= 2);
}

#[test]
fn packets_are_cut_and_payload_left_out_as_configured() {
    require_lab!();
    require_tool!("tcpdump");
    let net = Pair::new();
    for ip in Pair::SERVER.ips() {
        let listener = net.server.listen(&SocketAddr::new(ip, 80).to_string());
        let [short, whole] = [100, 65_535].map(|snap| Tcpdump::start(&net.client, "c0", snap));
        let capture = |change: fn(nettrace::capture::CaptureBuilder) -> nettrace::capture::CaptureBuilder| {
            net.client.run(|| change(CaptureProbe::builder(["c0"])).start())
        };
        let cut = capture(|builder| builder.snap_len(100));
        let full = capture(|builder| builder.snap_len(65_535));
        let bare = capture(|builder| builder.snap_len(65_535).tcp_without_payload(true));
        let sink = nettrace::TraceSink::builder();
        let sink = sink.probe(cut.clone()).probe(full.clone()).probe(bare.clone()).build();
        let trace: NetTrace = net.client.block_on(async {
            let mut stream = TcpConnector::new(&sink).connect(SocketAddr::new(ip, 80)).await.unwrap();
            let (mut peer, _) = listener.accept().unwrap();
            stream.write_all(&[7; 50_000]).await.unwrap();
            let echo = std::thread::spawn(move || {
                peer.read_exact(&mut [0; 50_000]).unwrap();
                peer.write_all(&[8; 5_000]).unwrap();
                peer.read(&mut [0]).unwrap()
            });
            stream.read_exact(&mut [0; 5_000]).await.unwrap();
            drop(stream);
            assert_eq!(echo.join().unwrap(), 0, "closed");
            sink.snapshot("all")
        });
        let mark = if ip.is_ipv4() { MARK } else { "[fd09::2]:9" };
        let of_trace = of_trace(&trace);
        assert_same(&only(full.captures()), whole.packets(mark, &of_trace));
        assert_same(&only(cut.captures()), short.packets(mark, &of_trace));
        let no_payload = if ip.is_ipv4() {
            "ip[2:2] - ((ip[0] & 0xf) << 2) - ((tcp[12] & 0xf0) >> 2) == 0"
        } else {
            "ip6[4:2] - ((ip6[52] & 0xf0) >> 2) == 0"
        };
        let bare = only(bare.captures());
        assert!(!bare.with_tcp_payload);
        assert_same(&bare, whole.packets(mark, &format!("({of_trace}) and {no_payload}")));
    }
}

/// After a close an untraced connection has the same addresses.
#[test]
fn packets_of_a_later_connection_with_the_same_port_are_not_kept() {
    require_lab!();
    require_tool!("tcpdump");
    let net = Pair::new();
    net.client.port_range(40_000, 40_000);
    let web = server(&net.server, "10.9.0.2:80".parse().unwrap());
    let witness = Tcpdump::start(&net.client, "c0", SNAP);
    let capture = net.client.run(|| CaptureProbe::builder(["c0"]).start());
    let sink = sink(&capture);
    let reset = |stream: TcpStream| {
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    };
    let mut traced = Vec::new();
    for n in 0..6 {
        if n % 2 == 0 {
            net.client.run(|| reset(TcpStream::connect("10.9.0.2:80").unwrap()));
        } else {
            let id = net.client.block_on(async {
                let stream = TcpConnector::new(&sink).connect("10.9.0.2:80").await.unwrap();
                let id = stream.conn_id();
                socket2::SockRef::from(stream.get_ref()).set_linger(Some(Duration::ZERO)).unwrap();
                id
            });
            traced.push(id);
        }
    }
    web.ended_blocking(6);
    let all = witness.packets(MARK, "tcp");
    // For each connection: SYN, SYN and ACK, ACK, RST.
    assert_eq!(all.len(), 6 * 4, "{all:#?}");
    let of_traced = all.chunks(4).skip(1).step_by(2).flatten().cloned().collect();
    let captured = only(sink.captures());
    assert_same(&captured, of_traced);
    let ids: Vec<_> = captured.packets.iter().map(|packet| packet.connection.clone()).collect();
    assert_eq!(ids, traced.iter().flat_map(|id| vec![id.clone(); 4]).collect::<Vec<_>>());
}

/// The peer's FIN comes long after ours.
#[test]
fn packets_after_the_close_are_kept() {
    require_lab!();
    require_tool!("tcpdump");
    let net = Pair::new();
    let listener = net.server.listen("10.9.0.2:80");
    let witness = Tcpdump::start(&net.client, "c0", SNAP);
    let capture = net.client.run(|| CaptureProbe::builder(["c0"]).start());
    let sink = sink(&capture);
    net.client.block_on(async {
        let stream = TcpConnector::new(&sink).connect("10.9.0.2:80").await.unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        drop(stream);
        assert_eq!(peer.read(&mut [0]).unwrap(), 0, "our FIN");
        let before = only(sink.captures()).packets.len();
        peer.write_all(b"late").unwrap();
        // The kernel answers it with a reset.
        while peer.write_all(b"later").is_ok() {}
        let trace = sink.snapshot("all");
        let captured = only(sink.captures());
        assert!(captured.packets.len() >= before + 2);
        assert_same(&captured, witness.packets(MARK, &of_trace(&trace)));
    });
}

/// The peer is far away.
#[test]
fn a_refresh_after_the_close_waits_for_the_last_packets() {
    require_lab!();
    let net = Routed::with_delay(Delay::All(Duration::from_millis(15)));
    for (ip, ip_header) in Routed::SERVER.ips().into_iter().zip([20, 40]) {
        let _web = server(&net.server, SocketAddr::new(ip, 80));
        let capture = net.client.run(|| CaptureProbe::builder(["c0"]).start());
        let sink = sink(&capture);
        let captured = net.client.block_on(async {
            let client = client(&sink).build().unwrap();
            fetch(&client, &format!("http://{}/", SocketAddr::new(ip, 80))).await;
            client.close().await;
            sink.refresh().await;
            only(sink.captures())
        });
        // Behind the headers of Ethernet and IP.
        let flags = captured.packets.iter().map(|packet| packet.data[14 + ip_header + 13]);
        let flags: Vec<u8> = flags.collect();
        let [fin, ack] = [0x01, 0x10];
        assert_eq!(flags.iter().filter(|flags| *flags & fin != 0).count(), 2, "{flags:x?}");
        assert_eq!(flags.last(), Some(&ack), "the last acknowledgement: {flags:x?}");
    }
}

/// Neither a peer that never closes nor a connection on another interface delays a capture.
#[test]
fn a_refresh_gives_up_on_a_peer_that_does_not_close() {
    require_lab!();
    let net = Pair::new();
    let listener = net.server.listen("10.9.0.2:80");
    for interface in ["c0", "lo"] {
        let capture = net.client.run(|| CaptureProbe::builder([interface]).start());
        let sink = sink(&capture);
        net.client.block_on(async {
            let stream = TcpConnector::new(&sink).connect("10.9.0.2:80").await.unwrap();
            let _peer = listener.accept().unwrap();
            drop(stream);
            sink.refresh().await;
            assert_eq!(only(sink.captures()).packets.is_empty(), interface == "lo");
        });
    }
}
