//! Reused local ports: links refer to connections by ID, not by address.

use nettrace::{Client, TraceSink};

use crate::clients::{assert_linked, link, traced};
use test_support::lab::Ns;
use test_support::raw::{Conn, Server};
use test_support::require::require_lab;

const COUNT: usize = 24;

/// Returns the size of the body that the path requests. Each connection transfers a different one.
fn body_size(path: &str) -> usize {
    path.trim_start_matches('/').parse().expect("a number")
}

/// Answers with as many bytes as the path says. The client closes first, which would keep its port in TIME_WAIT: the
/// reset frees it.
async fn answer(mut conn: Conn) -> std::io::Result<()> {
    let head = conn.read_head().await?;
    let size = body_size(head.split(' ').nth(1).unwrap_or_default());
    let response = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {size}\r\n\r\n");
    conn.write(&[response.as_bytes(), &vec![b'x'; size]].concat()).await?;
    conn.read_to_end().await?;
    conn.reset()
}

#[test]
fn successive_connections_with_the_same_port_are_told_apart() {
    require_lab!();
    let ns = Ns::new();
    ns.port_range(40_000, 40_001);
    let server = Server::on(ns.listen("127.0.0.1:80"), answer);
    ns.block_on(async {
        let sink = TraceSink::new();
        let client = traced("preset", &sink, Client::builder(&sink).build().unwrap());
        let mut asked = Vec::new();
        for i in 0..COUNT {
            asked.push(client.fetch(&format!("http://127.0.0.1/{i}")).await.0);
            server.ended(i + 1).await;
        }
        let (trace, seen) = (sink.snapshot(""), server.seen());
        assert_eq!((trace.tcp_conns.len(), seen.len()), (COUNT, COUNT));
        for (i, request) in asked.iter().enumerate() {
            let port = seen[i].peer.port();
            assert!((40_000..=40_001).contains(&port));
            let conn = assert_linked(&trace, request, port);
            assert_eq!(conn.total_recv_bytes as usize, seen[i].sent, "the connection of request {i}");
            let dial = trace.dials.get(&conn.from_dial).unwrap();
            assert_eq!(dial.triggered_by, request.id());
            assert_eq!(link(&trace, request).0.resp_content_len as usize, i);
            assert_eq!(request.trace().tcp_conns.len(), 1);
        }
    });
}

/// All connections have the same local port at the same time.
#[test]
fn connections_from_one_port_to_many_servers_are_told_apart() {
    require_lab!();
    let ns = Ns::new();
    ns.port_range(40_000, 40_000);
    let servers: Vec<Server> =
        (1..=6).map(|i| Server::on(ns.listen(&format!("127.0.0.{i}:80")), answer)).collect();
    ns.block_on(async {
        let sink = TraceSink::new();
        let client = traced("preset", &sink, Client::builder(&sink).build().unwrap());
        let urls: Vec<_> = (1..=6).map(|i| format!("http://127.0.0.{i}/{}", i * 100)).collect();
        let asked = futures_util::future::join_all(urls.iter().map(|url| client.fetch(url))).await;
        let trace = sink.snapshot("");
        for (i, (request, _)) in asked.iter().enumerate() {
            let conn = assert_linked(&trace, request, 40_000);
            assert_eq!(conn.addr_tuple.dst_ip, format!("127.0.0.{}", i + 1));
            assert_eq!(conn.total_recv_bytes as usize, servers[i].seen()[0].sent);
        }
    });
}
