//! The command under strace: the operations in its trace are the system calls on its sockets, in number, order and
//! size. Neither contains `EAGAIN`, interrupted calls, peeks, or reads of the error queue.

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use nettrace::record::{AddrTuple, DnsReplyMsg, SocketOp, SocketOpType, SocketTrace};
use nettrace::{NetTrace, Timestamp};
use tempfile::TempDir;

use crate::site::{Site, http, https};
use test_support::check;
use test_support::nginx::Nginx;
use test_support::process::Output;
use test_support::raw;
use test_support::require::require_tool;
use test_support::strace::{self, Call, Direction, Socket, Strace};

#[test]
fn plain_http_and_dns_over_udp_match_strace() {
    require_tool!("strace", "nginx", "dnsmasq", "openssl");
    let site = Site::start();
    let run = run_get(&site, &[&http(site.nginx.http, "/hello")]);
    assert_eq!(run.sockets(), (1, 2));
    assert_eq!(run.ops(0), [(Direction::Write, ""), (Direction::Read, "")]);
    let write = Direction::Write;
    let writes =
        run.calls.sockets.iter().map(|socket| socket.ops().filter(|op| op.direction == write).count());
    assert_eq!(writes.sum::<usize>(), 3, "a request and two queries");
}

#[test]
fn dns_over_tcp_matches_strace() {
    require_tool!("strace", "nginx", "dnsmasq", "openssl");
    // More addresses than fit into a datagram. The server listens on all of them.
    let hosts = (1..=120).map(|n| IpAddr::from([127, 0, 0, n]));
    let site = Site::with_names(
        |nginx| nginx.ips(&[IpAddr::from([0, 0, 0, 0])]),
        |dns| hosts.fold(dns, |dns, ip| dns.host("many.test", &[ip])),
    );
    let url = format!("http://many.test:{}/hello", site.nginx.http.port());
    let run = run_get(&site, &[&url]);
    let truncated = |message: &DnsReplyMsg| message.truncated;
    assert!(run.trace.dns_queries.iter().any(|query| query.dns_reply_msgs.iter().any(truncated)));
    let over_tcp = run.trace.tcp_conns.iter().filter(|conn| conn.from_resolver);
    assert_eq!(over_tcp.count(), 1);
    assert_eq!(run.sockets(), (2, 2));
}

#[test]
fn tls_with_http1_and_http2_matches_strace() {
    require_tool!("strace", "nginx", "dnsmasq", "openssl");
    let text = vec![b'x'; 500_000];
    let site = Site::with(|nginx| nginx.file("text", &text));
    let Nginx { https: tls, tls12, .. } = site.nginx;
    for (version, minor, tls, url) in [
        ("--http1", 1, "TLSv1.3", https(tls, "/text")),
        ("--http2", 0, "TLSv1.3", https(tls, "/text")),
        ("--http1", 1, "TLSv1.2", https(tls12, "/text")),
        ("--http2", 0, "TLSv1.2", https(tls12, "/text")),
    ] {
        let run = run_get(&site, &[version, &url]);
        assert_eq!(run.trace.http_requests[0].proto_minor, minor);
        assert_eq!(run.trace.http_requests[0].resp_content_len, text.len() as u64);
        assert_eq!(run.trace.tls_tunnels[0].tls_version, tls);
        assert!(run.trace.tcp_conns[0].total_recv_bytes > text.len() as u64);
    }
}

#[test]
fn request_bodies_match_strace() {
    require_tool!("strace", "nginx", "dnsmasq", "openssl");
    let site = Site::start();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("body");
    fs::write(&file, vec![b'x'; 3 << 20]).expect("a temporary file");
    let data = format!("@{}", file.display());
    for (version, url) in [
        ("--http1", http(site.nginx.http, "/upload")),
        ("--http2", http(site.nginx.h2c, "/upload")),
        ("--http1", https(site.nginx.https, "/upload")),
        ("--http2", https(site.nginx.https, "/upload")),
    ] {
        let run = run_get(&site, &[version, "--data", &data, &url]);
        assert_eq!(run.trace.http_requests[0].req_content_len, 3 << 20);
        let conn = &run.trace.tcp_conns[0];
        assert!(conn.total_sent_bytes > 3 << 20);
        let writes = run.ops(0).iter().filter(|(direction, _)| *direction == Direction::Write).count();
        assert!(writes > 1 || run.trace.tls_tunnels.is_empty(), "in several writes");
    }
}

#[test]
fn several_requests_match_strace() {
    require_tool!("strace", "nginx", "dnsmasq", "openssl");
    let site = Site::start();
    for url in [http(site.nginx.http, "/hello"), https(site.nginx.https, "/hello")] {
        let run = run_get(&site, &["--repeat", "5", &url]);
        assert_eq!((run.trace.http_requests.len(), run.sockets().0), (5, 1));
        let run = run_get(&site, &["--repeat", "3", "--no-keepalive", &url]);
        assert_eq!((run.trace.http_requests.len(), run.sockets().0), (3, 3));
    }
    let run = run_get(&site, &[&https(site.nginx.https, "/redirect/302")]);
    assert_eq!((run.trace.http_requests.len(), run.sockets().0), (2, 1));
}

#[test]
fn failed_connections_match_strace() {
    require_tool!("strace");
    const HALF: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
    let get = ["get", "--precise", "--trace-only"];

    let cut = raw::Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.write(HALF).await?;
        conn.close().await
    });
    let run = run_under_strace(&[&get[..], &[&format!("http://{}/", cut.addr())]].concat());
    assert_eq!(run.ops(0), [(Direction::Write, ""), (Direction::Read, ""), (Direction::Read, "")]);
    assert!(!run.output.status.success());

    let reset = raw::Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.write(HALF).await?;
        conn.reset()
    });
    let run = run_under_strace(&[&get[..], &[&format!("http://{}/", reset.addr())]].concat());
    assert_eq!(run.ops(0), [(Direction::Write, ""), (Direction::Read, ""), (Direction::Read, "ECONNRESET")]);

    let refused = raw::Refused::on("127.0.0.1:0");
    let run = run_under_strace(&[&get[..], &[&format!("http://{}/", refused.addr)]].concat());
    assert!(run.trace.tcp_conns[0].socket_trace.is_none());
    assert_eq!(run.calls.connected_to(refused.addr)[0].ops().count(), 0);

    let unused = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port");
    let run =
        run_under_strace(&[&get[..], &["--nameserver", &unused.to_string(), "http://web.test/"]].concat());
    let sockets = run.calls.connected_to(unused);
    assert_eq!(
        (sockets.len(), run.trace.udp_conns.len()),
        (4, 4),
        "two attempts for each of two address types"
    );
    let refused = |socket: &&Socket| socket.ops().any(|op| op.result == Err("ECONNREFUSED".into()));
    assert!(sockets.iter().all(refused), "{sockets:#?}");
}

/// The demo's servers run in the same process, but only the sockets of its clients are in the trace.
#[test]
fn the_demo_matches_strace() {
    require_tool!("strace");
    let run = run_under_strace(&["demo"]);
    assert!(run.output.status.success(), "{:?}", run.output);
    assert!(run.sockets().0 > 2);
}

/// A finished run of the command: its output, its trace, and the system calls that strace saw.
struct Run {
    output: Output,
    trace: NetTrace,
    calls: strace::Trace,
}

#[track_caller]
fn run_get(site: &Site, arguments: &[&str]) -> Run {
    let (directory, nameserver) = (directory(), site.dns.addr.to_string());
    let roots = directory.path().join("ca.pem");
    fs::write(&roots, site.authority.pem()).expect("a temporary file");
    let roots = roots.to_str().expect("a UTF-8 path");
    let common = ["get", "--precise", "--trace-only", "--cacert", roots, "--nameserver", &nameserver];
    let run = run_under_strace(&[&common, arguments].concat());
    assert!(run.output.status.success(), "{:?}", run.output);
    site.agree(&run.trace);
    // Every socket that the command used is in the trace.
    let used = run.calls.sockets.iter().filter(|socket| socket.ops().next().is_some());
    let internet = used.filter(|socket| socket.peer.is_some()).count();
    assert_eq!(internet, run.trace.tcp_conns.len() + run.trace.udp_conns.len(), "{:#?}", run.calls);
    run
}

/// Runs the command under strace, and compares its trace with the system calls.
#[track_caller]
fn run_under_strace(arguments: &[&str]) -> Run {
    let directory = directory();
    let file = directory.path().join("trace.json");
    let strace = Strace::new(env!("CARGO_BIN_EXE_nettrace")).args(arguments.iter().copied());
    let (output, calls) = strace.args(["--json", file.to_str().expect("a UTF-8 path")]).run();
    let json = fs::read_to_string(file).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let trace = serde_json::from_str(&json).expect("a trace");
    check::finished(&trace);
    compare(&trace, &calls);
    Run { output, trace, calls }
}

#[track_caller]
fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

impl Run {
    /// Returns the number of connected TCP sockets and of UDP sockets in the trace.
    fn sockets(&self) -> (usize, usize) {
        (self.trace.tcp_conns.iter().filter(|conn| conn.connected).count(), self.trace.udp_conns.len())
    }

    /// Returns the operations of a TCP connection and their errors, as strace saw them.
    fn ops(&self, index: usize) -> Vec<(Direction, &str)> {
        let (local, peer) = endpoints(&self.trace.tcp_conns[index].addr_tuple);
        let socket = self.calls.connection(local, peer).expect("a connection that strace saw");
        socket.ops().map(|op| (op.direction, op.result.as_ref().err().map_or("", String::as_str))).collect()
    }
}

#[track_caller]
fn compare(trace: &NetTrace, calls: &strace::Trace) {
    let tcp = trace.tcp_conns.iter().map(|conn| (&conn.addr_tuple, conn.socket_trace.as_ref()));
    let udp = trace.udp_conns.iter().map(|conn| (&conn.addr_tuple, conn.socket_trace.as_ref()));
    let mut uses = HashMap::new();
    for (tuple, ops) in tcp.chain(udp) {
        let Some(ops) = ops else { continue }; // never connected
        let (local, peer) = endpoints(tuple);
        // The port of a closed connection may be used again.
        let earlier = uses.entry((local, peer)).and_modify(|earlier| *earlier += 1).or_insert(0);
        let socket = calls.connections(local, peer).nth(*earlier);
        assert_same_ops(
            trace,
            ops,
            socket.unwrap_or_else(|| panic!("{local} to {peer} is not in {calls:#?}")),
        );
    }
}

/// Asserts that both have the same operations in the same order, with the same sizes and errors, and that the times of
/// each operation enclose that of its system call.
#[track_caller]
fn assert_same_ops(trace: &NetTrace, ops: &SocketTrace, socket: &Socket) {
    assert_eq!(ops.dropped_ops, 0);
    let ours: Vec<SocketOp> = ops.socket_ops.iter().collect();
    let theirs: Vec<&Call> = socket.ops().collect();
    let plain = |op: &SocketOp| (direction(op), result(op));
    assert_eq!(
        ours.iter().map(plain).collect::<Vec<_>>(),
        theirs.iter().map(|call| (call.direction, call.result.clone())).collect::<Vec<_>>(),
        "{ours:#?}\n{socket:#?}"
    );
    for (op, call) in ours.iter().zip(theirs) {
        // The JSON may omit fractions of a millisecond, and the system clock may be adjusted during the run.
        const SLACK: f64 = 0.01;
        let (begin, end) = (seconds(trace, op.call_at), seconds(trace, op.return_at));
        let is_enclosed = (begin - SLACK..=end + SLACK).contains(&call.at);
        assert!(is_enclosed, "{op:#?} from {begin} to {end}, {call:#?}");
    }
}

fn direction(op: &SocketOp) -> Direction {
    match op.r#type {
        SocketOpType::Read => Direction::Read,
        SocketOpType::Write => Direction::Write,
        ref other => panic!("{other}"),
    }
}

fn result(op: &SocketOp) -> Result<usize, String> {
    const NAMES: [(&str, &str); 3] =
        [("(os error 32)", "EPIPE"), ("(os error 104)", "ECONNRESET"), ("(os error 111)", "ECONNREFUSED")];
    match NAMES.iter().find(|(number, _)| op.return_err.ends_with(number)) {
        Some((_, name)) => Err((*name).to_owned()),
        None if op.return_err.is_empty() => Ok(op.data_len as usize),
        None => Err(op.return_err.clone()),
    }
}

/// Returns the seconds from 1970 to `time`.
fn seconds(trace: &NetTrace, time: Timestamp) -> f64 {
    let absolute = trace.trace_begin_at.add(time);
    absolute.unix_nanos().expect("a time of the trace") as f64 / 1e9
}

fn endpoints(tuple: &AddrTuple) -> (SocketAddr, SocketAddr) {
    let address = |ip: &str, port| SocketAddr::new(ip.parse().expect("an address"), port);
    (address(&tuple.src_ip, tuple.src_port), address(&tuple.dst_ip, tuple.dst_port))
}
