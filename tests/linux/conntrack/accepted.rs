//! Tests the entries of accepted connections.

use std::net::SocketAddr;

use nettrace::record::ConntrackStatus;
use nettrace::server::TraceListener;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::entries::{at_rest, family};
use super::listed::from_port;
use super::{entry, probed, track};
use test_support::check;
use test_support::lab::Pair;
use test_support::require::{require_lab, require_tool};

/// Compares the entry of a connection accepted on `port` with conntrack(8). The client always connects to port 80.
fn assert_entry_as_conntrack(port: u16) {
    let net = Pair::new();
    track(&net.server);
    if port != 80 {
        net.server.redirect(80, port);
    }
    for ip in Pair::SERVER.ips() {
        let listener = net.server.listen(&SocketAddr::new(ip, port).to_string());
        listener.set_nonblocking(true).unwrap();
        net.server.block_on(async {
            let (probe, sink) = probed();
            let listener = TraceListener::new(&sink, tokio::net::TcpListener::from_std(listener).unwrap());
            let client = net.client.run(|| std::net::TcpStream::connect((ip, 80))).unwrap();
            client.set_nonblocking(true).unwrap();
            let mut client = tokio::net::TcpStream::from_std(client).unwrap();
            let (mut stream, peer) = listener.accept().await.unwrap();
            client.write_all(b"hello").await.unwrap();
            stream.read_exact(&mut [0; 5]).await.unwrap();
            stream.write_all(b"hi").await.unwrap();
            client.read_exact(&mut [0; 2]).await.unwrap();

            let (trace, listed) = at_rest(&sink, &net.server, family(ip)).await;
            assert_eq!(probe.problems(), []);
            check::running(&trace);
            let [conn] = &trace.tcp_conns[..] else { panic!("one connection") };
            let entry = entry(conn);
            assert_eq!(entry.addr_reply, conn.addr_tuple, "the socket has the addresses of the replies");
            assert_eq!(entry.addr_orig.dst_port, 80);
            assert_eq!((entry.addr_orig == conn.addr_tuple.reversed()), port == 80);
            assert_eq!(entry.status.contains(ConntrackStatus::DST_NAT), port != 80);
            assert!(entry.bytes_recv > entry.bytes_sent, "`hello` is three bytes longer than `hi`");
            // conntrack(8) counts from the client's point of view.
            let mut theirs = entry.clone();
            std::mem::swap(&mut theirs.packets_sent, &mut theirs.packets_recv);
            std::mem::swap(&mut theirs.bytes_sent, &mut theirs.bytes_recv);
            from_port(&listed, peer.port()).assert_is(&theirs);

            drop((client, stream));
            sink.refresh().await;
            check::finished(&sink.snapshot("all"));
        });
    }
}

#[test]
fn an_accepted_connection_has_its_entry() {
    require_lab!();
    require_tool!("conntrack");
    assert_entry_as_conntrack(80);
}

#[test]
fn an_accepted_connection_behind_nat_has_its_entry() {
    require_lab!();
    require_tool!("conntrack");
    assert_entry_as_conntrack(8080);
}
