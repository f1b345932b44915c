//! Captures packets of accepted connections.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nettrace::TraceSink;
use nettrace::capture::{CaptureProbe, CapturedPacket};
use nettrace::connect::TcpConnector;
use nettrace::linux::ConntrackProbe;
use nettrace::server::TraceListener;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::only;
use test_support::check;
use test_support::lab::{Hook, Ns, Pair};
use test_support::require::require_lab;

fn capture(ns: &Ns, interface: &'static str) -> CaptureProbe {
    let probe =
        ns.run(|| CaptureProbe::builder([interface]).pending_timeout(Duration::from_secs(60)).start());
    assert_eq!(probe.problems(), []);
    probe
}

fn into_tokio(listener: std::net::TcpListener) -> TcpListener {
    listener.set_nonblocking(true).unwrap();
    TcpListener::from_std(listener).unwrap()
}

async fn connect(ns: &Ns, to: SocketAddr) -> TcpStream {
    let stream = ns.run(|| std::net::TcpStream::connect(to)).unwrap();
    stream.set_nonblocking(true).unwrap();
    TcpStream::from_std(stream).unwrap()
}

/// Returns the only packet that ends with `word`.
fn packet_with<'a>(packets: &'a [CapturedPacket], word: &str) -> &'a CapturedPacket {
    let mut found = packets.iter().filter(|packet| packet.data.ends_with(word.as_bytes()));
    let packet = found.next().unwrap_or_else(|| panic!("{word} in {packets:#?}"));
    assert!(found.next().is_none(), "{word} once in {packets:#?}");
    packet
}

/// Returns the destination port of a TCP packet over Ethernet.
fn destination(packet: &CapturedPacket, ip: IpAddr) -> u16 {
    let offset = 14 + if ip.is_ipv4() { 20 } else { 40 } + 2;
    u16::from_be_bytes([packet.data[offset], packet.data[offset + 1]])
}

/// Captures a connection that is accepted on `port`, from `accept` to its close. The client always connects to port 80.
fn assert_captured(port: u16) {
    let net = Pair::new();
    net.server.nft(Hook::Input, "ct state new");
    if port != 80 {
        net.server.redirect(80, port);
    }
    for ip in Pair::SERVER.ips() {
        let listen = |port| net.server.listen(&SocketAddr::new(ip, port).to_string());
        let (listener, untraced_listener) = (listen(port), listen(81));
        let capture = capture(&net.server, "s0");
        net.server.block_on(async {
            let sink = TraceSink::builder().probe(ConntrackProbe::new()).probe(capture.clone()).build();
            let (listener, untraced_listener) =
                (TraceListener::new(&sink, into_tokio(listener)), into_tokio(untraced_listener));
            let mut client = connect(&net.client, SocketAddr::new(ip, 80)).await;
            let mut untraced_client = connect(&net.client, SocketAddr::new(ip, 81)).await;
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut untraced_stream, _) = untraced_listener.accept().await.unwrap();
            for (from, to, word) in [
                (&mut client, &mut *stream.get_mut(), "ping"),
                (&mut untraced_client, &mut untraced_stream, "strange"),
            ] {
                from.write_all(word.as_bytes()).await.unwrap();
                to.read_exact(&mut vec![0; word.len()]).await.unwrap();
            }
            stream.write_all(b"pong").await.unwrap();
            client.read_exact(&mut [0; 4]).await.unwrap();
            sink.refresh().await;
            let id = stream.conn_id();
            drop((stream, client));

            let captured = only(sink.captures());
            assert!(captured.packets.iter().all(|packet| packet.connection == id), "{captured:#?}");
            assert_eq!(
                destination(packet_with(&captured.packets, "ping"), ip),
                80,
                "the port before the redirect"
            );
            packet_with(&captured.packets, "pong");
            check::finished(&sink.snapshot("all"));
        });
    }
}

#[test]
fn packets_of_an_accepted_connection_are_captured() {
    require_lab!();
    assert_captured(80);
}

#[test]
fn packets_of_an_accepted_connection_behind_nat_are_captured() {
    require_lab!();
    assert_captured(8080);
}

/// Each packet matches two connections of the sink, the client's and the server's.
#[test]
fn packets_between_two_traced_ends_belong_to_the_client() {
    require_lab!();
    let ns = Ns::new();
    let listener = ns.listen("127.0.0.1:0");
    let capture = capture(&ns, "lo");
    ns.block_on(async {
        let sink = TraceSink::builder().probe(capture.clone()).build();
        let listener = TraceListener::new(&sink, into_tokio(listener));
        let connector = TcpConnector::new(&sink);
        let addr = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(connector.connect(addr), listener.accept());
        let (mut client, (mut stream, _)) = (client.unwrap(), accepted.unwrap());
        client.write_all(b"ping").await.unwrap();
        stream.read_exact(&mut [0; 4]).await.unwrap();
        stream.write_all(b"pong").await.unwrap();
        client.read_exact(&mut [0; 4]).await.unwrap();
        let connected = client.conn_id();
        drop((client, stream));
        let captured = only(sink.captures());
        assert!(captured.packets.iter().all(|packet| packet.connection == connected), "{captured:#?}");
        for word in ["ping", "pong"] {
            packet_with(&captured.packets, word);
        }
        check::finished(&sink.snapshot("all"));
    });
}
