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
use test_support::wait;

const SNAP: u32 = 1518;
/// A buffer size, in bytes, with which the kernel drops nothing even on a busy machine.
const BUFFER: u32 = 64 << 20;
/// A tcpdump filter for multicast listener reports, which follow a hop-by-hop options header.
const LISTENER_REPORTS: &str = "(ip6 and ip6[6] == 0 and ip6[40] == 58)";
/// An address without a listener, to which [`Tcpdump::packets`] sends its marker through the interfaces of a pair.
const MARKER_ADDR: &str = "10.9.0.2:9";

/// An untraced thread that continuously sends requests and datagrams to the servers of the traced client.
struct UntracedTraffic {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU32>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl UntracedTraffic {
    fn start(ns: &Ns, server: SocketAddr, nameserver: SocketAddr) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (stopped, rounds) = (stop.clone(), done.clone());
        let thread = ns.spawn(move || {
            // Below the ephemeral ports, from which the kernel chooses those of the traced client.
            for port in (10_000..30_000).cycle() {
                if stopped.load(Relaxed) {
                    break;
                }
                let mut stream = connect_from(port, server);
                stream.write_all(b"GET /stranger HTTP/1.1\r\nhost: x\r\n\r\n").expect("write");
                stream.read_exact(&mut [0; 20]).expect("read");
                let udp = UdpSocket::bind(unspecified(port, nameserver)).expect("bind");
                udp.send_to(b"stranger", nameserver).expect("send");
                rounds.fetch_add(1, Relaxed);
            }
        });
        let untraced = UntracedTraffic { stop, done, thread: Some(thread) };
        untraced.wait_for_rounds(2);
        untraced
    }

    /// Waits until the thread has completed `count` more rounds.
    fn wait_for_rounds(&self, count: u32) {
        let begin = self.done.load(Relaxed);
        wait::until_blocking(format!("{count} rounds"), || self.done.load(Relaxed) >= begin + count);
    }
}

fn unspecified(port: u16, peer: SocketAddr) -> SocketAddr {
    match peer {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, port).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, port).into(),
    }
}

fn connect_from(port: u16, server: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, None).expect("a socket");
    socket.bind(&unspecified(port, server).into()).expect("bind");
    socket.connect(&server.into()).expect("connect");
    socket.into()
}

impl Drop for UntracedTraffic {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the untraced thread failed");
        }
    }
}

/// Captures traced requests on `interface` amid untraced traffic. Asserts that the capture contains the packets that
/// tcpdump has of the traced connections, and no others.
fn assert_captures_as_tcpdump(interface: &'static str, link_type: u16) {
    require_lab!();
    require_tool!("tcpdump", "dnsmasq");
    let net = Pair::new();
    for ip in Pair::SERVER.ips() {
        let web = server(&net.server, SocketAddr::new(ip, 80));
        let names = nameserver(&net.server, ip);
        let tcpdump = Tcpdump::start(&net.client, interface, SNAP);
        let builder = CaptureProbe::builder([interface]).buffer_size(BUFFER);
        let capture = net.client.run(|| builder.start());
        let untraced = UntracedTraffic::start(&net.client, web.addr(), names.addr);
        let sink = sink(&capture);
        let trace = net.client.block_on(async {
            let client = client(&sink).nameservers([names.addr]).build().unwrap();
            for _ in 0..3 {
                assert_eq!(fetch(&client, "http://web.test/").await, b"hello");
            }
            let without_keep_alive =
                super::client(&sink).nameservers([names.addr]).keep_alive(false).build().unwrap();
            for _ in 0..3 {
                assert_eq!(fetch(&without_keep_alive, "http://web.test/").await, b"hello");
            }
            client.close().await;
            without_keep_alive.close().await;
            sink.snapshot("all")
        });
        web.ended_blocking(4);
        untraced.wait_for_rounds(3);
        drop(untraced);
        let expected = tcpdump.packets(MARKER_ADDR, &of_trace(&trace));
        let captured = only(sink.captures());
        assert_eq!((captured.interface_name.as_str(), captured.link_type), (interface, link_type));
        assert!(!captured.truncated && captured.with_tcp_payload);
        assert_same(&captured, expected);

        // Each packet has the ID of its connection.
        let ids: Vec<_> = captured.packets.iter().map(|packet| &packet.connection).collect();
        for conn in &trace.tcp_conns {
            let count = ids.iter().filter(|id| ***id == conn.trace_id).count();
            assert!(count >= 9, "handshake, request, response, close: {count} of {conn:#?}");
        }
        for conn in &trace.udp_conns {
            assert_eq!(ids.iter().filter(|id| ***id == conn.trace_id).count(), 2, "query and reply");
        }
    }
}

#[test]
fn one_interface_captures_the_packets_that_tcpdump_captures() {
    assert_captures_as_tcpdump("c0", 1);
}

#[test]
fn any_interface_captures_the_packets_that_tcpdump_captures() {
    assert_captures_as_tcpdump("any", 276);
}

/// The addresses of a foreign connector's connection are known only after it has connected.
#[test]
fn packets_of_a_foreign_connector_are_kept() {
    require_lab!();
    require_tool!("tcpdump");
    let net = Pair::new();
    let web = server(&net.server, "10.9.0.2:80".parse().unwrap());
    let tcpdump = Tcpdump::start(&net.client, "c0", SNAP);
    let builder = CaptureProbe::builder(["c0"]).buffer_size(BUFFER).pending_timeout(Duration::from_secs(60));
    let capture = net.client.run(|| builder.start());
    let untraced = UntracedTraffic::start(&net.client, web.addr(), "10.9.0.2:53".parse().unwrap());
    let sink = sink(&capture);
    let trace = net.client.block_on(async {
        let connector = TraceConnectLayer::new(&sink).layer(HttpConnector::new());
        let client = legacy::Client::builder(TokioExecutor::new()).build::<_, Empty<Bytes>>(connector);
        let response = client.get("http://10.9.0.2/".parse().unwrap()).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
        drop(client);
        wait::until("the end of the connection", || sink.snapshot("").tcp_conns[0].end_reason.is_some())
            .await;
        sink.snapshot("all")
    });
    untraced.wait_for_rounds(3);
    drop(untraced);
    web.ended_blocking(1);
    let deadline = wait::Deadline::new("two FINs");
    let expected = loop {
        deadline.check();
        let expected = tcpdump.packets(MARKER_ADDR, &of_trace(&trace));
        // The connection is complete once both ends have sent a FIN.
        if expected.iter().filter(|packet| tcp_flags(&packet.data) & 1 == 1).count() == 2 {
            break expected;
        }
    };
    let captured = only(sink.captures());
    assert_eq!(tcp_flags(&captured.packets[0].data), 0x02, "SYN");
    assert_same(&captured, expected);
    assert!(captured.packets.iter().all(|packet| packet.connection == trace.tcp_conns[0].trace_id));
}

/// On loopback, both ends of the connection use the same interface.
#[test]
fn packets_over_loopback_are_kept_once() {
    require_lab!();
    require_tool!("tcpdump");
    let ns = Ns::new();
    let web = server(&ns, "127.0.0.1:80".parse().unwrap());
    let tcpdump = Tcpdump::start(&ns, "lo", SNAP);
    let capture = ns.run(|| CaptureProbe::builder(["lo"]).start());
    let sink = sink(&capture);
    let trace = ns.block_on(async {
        let client = client(&sink).build().unwrap();
        fetch(&client, "http://127.0.0.1/").await;
        client.close().await;
        sink.snapshot("all")
    });
    web.ended_blocking(1);
    let expected = tcpdump.packets("127.0.0.1:9", &of_trace(&trace));
    assert_same(&only(sink.captures()), expected);
}

fn tcp_flags(data: &[u8]) -> u8 {
    data[14 + 20 + 13]
}

#[test]
fn the_first_syn_of_a_failed_attempt_is_kept() {
    require_lab!();
    require_tool!("tcpdump");
    let net = Pair::new();
    net.server.nft(Hook::Input, "tcp dport 81 drop");
    let tcpdump = Tcpdump::start(&net.client, "c0", SNAP);
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
    assert_same(&captured, tcpdump.packets(MARKER_ADDR, &of_trace(&trace)));
    let flags: Vec<_> = captured.packets.iter().map(|packet| tcp_flags(&packet.data)).collect();
    assert_eq!(flags, [0x02, 0x14, 0x02], "SYN, RST and SYN");
}

/// The SYN of an unanswered handshake is in the capture before the handshake ends.
#[test]
fn packets_of_a_dial_can_be_read_before_it_ends() {
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
        let tcpdump = Tcpdump::start(&net.client, "c0", SNAP);
        let [quoted, all] =
            [false, true].map(|icmp| net.client.run(|| CaptureProbe::builder(["c0"]).icmp(icmp).start()));
        let sink = nettrace::TraceSink::builder().probe(quoted.clone()).probe(all.clone()).build();
        let trace = net.client.block_on(async {
            let untraced = tokio::net::TcpStream::connect(SocketAddr::new(ip, 83));
            untraced.await.unwrap_err();
            TcpConnector::new(&sink).connect(SocketAddr::new(ip, 82)).await.unwrap_err();
            sink.snapshot("all")
        });
        let mark = if ip.is_ipv4() { "10.9.2.2:9" } else { "[fd09:2::2]:9" };
        // The source port in the packet that the ICMP error quotes.
        let port = trace.tcp_conns[0].addr_tuple.src_port;
        let quotes = if ip.is_ipv4() {
            format!("icmp[28:2] = {port}")
        } else {
            format!("icmp6 and ip6[88:2] = {port}")
        };
        let expected = tcpdump.packets(mark, &format!("{} or ({quotes})", of_trace(&trace)));
        let quotes = if ip.is_ipv4() { "icmp[30:2] = 83" } else { "icmp6 and ip6[90:2] = 83" };
        let untraced_errors = tcpdump.packets(mark, quotes);
        let captured = only(quoted.captures());
        assert_same(&captured, expected);
        assert_eq!(captured.packets.len(), 2, "SYN and the error");
        assert!(captured.packets.iter().all(|packet| packet.connection == trace.tcp_conns[0].trace_id));

        // tcpdump may also have other packets, such as neighbour discovery, from before or after the captures.
        let captured = only(all.captures());
        let ours = packets(&captured);
        let expected =
            tcpdump.packets(mark, &format!("{} or icmp or icmp6 or {LISTENER_REPORTS}", of_trace(&trace)));
        assert!(ours.iter().all(|packet| expected.iter().any(|other| other.data == packet.data)));
        let is_untraced_error =
            |packet: &&Packet| untraced_errors.iter().any(|other| other.data == packet.data);
        assert_eq!(ours.iter().filter(is_untraced_error).count(), 1);
    }
}

#[test]
fn arp_is_captured_if_configured() {
    require_lab!();
    require_tool!("tcpdump");
    let net = Pair::new();
    let web = server(&net.server, "10.9.0.2:80".parse().unwrap());
    let tcpdump = Tcpdump::start(&net.client, "c0", SNAP);
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
    let expected = tcpdump.packets(MARKER_ADDR, &format!("arp or {}", of_trace(&trace)));
    assert_same(&captured, expected);
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
            assert_eq!(echo.join().unwrap(), 0, "the client closes");
            sink.snapshot("all")
        });
        let mark = if ip.is_ipv4() { MARKER_ADDR } else { "[fd09::2]:9" };
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

/// Traced and untraced connections with the same addresses alternate.
#[test]
fn packets_of_a_later_connection_with_the_same_port_are_not_kept() {
    require_lab!();
    require_tool!("tcpdump");
    let net = Pair::new();
    net.client.port_range(40_000, 40_000);
    let web = server(&net.server, "10.9.0.2:80".parse().unwrap());
    let tcpdump = Tcpdump::start(&net.client, "c0", SNAP);
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
    let all = tcpdump.packets(MARKER_ADDR, "tcp");
    // For each connection: SYN, SYN-ACK, ACK, RST.
    assert_eq!(all.len(), 6 * 4, "{all:#?}");
    let of_traced = all.chunks(4).skip(1).step_by(2).flatten().cloned().collect();
    let captured = only(sink.captures());
    assert_same(&captured, of_traced);
    let ids: Vec<_> = captured.packets.iter().map(|packet| packet.connection.clone()).collect();
    assert_eq!(ids, traced.iter().flat_map(|id| vec![id.clone(); 4]).collect::<Vec<_>>());
}

/// The peer still sends after the client has closed the connection.
#[test]
fn packets_after_the_close_are_kept() {
    require_lab!();
    require_tool!("tcpdump");
    let net = Pair::new();
    let listener = net.server.listen("10.9.0.2:80");
    let tcpdump = Tcpdump::start(&net.client, "c0", SNAP);
    let capture = net.client.run(|| CaptureProbe::builder(["c0"]).start());
    let sink = sink(&capture);
    net.client.block_on(async {
        let stream = TcpConnector::new(&sink).connect("10.9.0.2:80").await.unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        drop(stream);
        assert_eq!(peer.read(&mut [0]).unwrap(), 0, "the client's FIN");
        let before = only(sink.captures()).packets.len();
        peer.write_all(b"late").unwrap();
        // The client's kernel answers with a reset.
        while peer.write_all(b"later").is_ok() {}
        let trace = sink.snapshot("all");
        let captured = only(sink.captures());
        assert!(captured.packets.len() >= before + 2);
        assert_same(&captured, tcpdump.packets(MARKER_ADDR, &of_trace(&trace)));
    });
}

/// A round trip takes 30 ms, so the peer's FIN arrives after the close.
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
        // The TCP flags, behind the headers of Ethernet and IP.
        let flags = captured.packets.iter().map(|packet| packet.data[14 + ip_header + 13]);
        let flags: Vec<u8> = flags.collect();
        let [fin, ack] = [0x01, 0x10];
        assert_eq!(flags.iter().filter(|flags| *flags & fin != 0).count(), 2, "{flags:x?}");
        assert_eq!(flags.last(), Some(&ack), "the last acknowledgement: {flags:x?}");
    }
}

/// Neither a peer that never closes nor a connection on another interface blocks the refresh.
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
