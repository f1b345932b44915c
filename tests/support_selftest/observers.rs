//! The reports of strace and curl, as far as other tests rely on them.

use std::net::SocketAddr;

use test_support::curl::Curl;
use test_support::raw::{Refused, Server};
use test_support::require::require_tool;
use test_support::strace::{Direction, Strace, Trace};

#[test]
fn strace_output_is_parsed() {
    let trace = Trace::parse(
        r#"
4711 1700000000.000001 openat(AT_FDCWD, "/etc/ld.so.cache", O_RDONLY|O_CLOEXEC) = 3</etc/ld.so.cache> <0.000011>
4711 1700000000.000002 read(3</etc/ld.so.cache>, ""..., 832) = 832 <0.000010>
4711 1700000000.000003 close(3</etc/ld.so.cache>) = 0 <0.000010>
4711 1700000001.000000 socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC, IPPROTO_TCP) = 5<TCP:[4242]> <0.000020>
4711 1700000001.100000 fcntl(5<TCP:[4242]>, F_SETFL, O_RDWR|O_NONBLOCK) = 0 <0.000005>
4711 1700000001.200000 connect(5<TCP:[4242]>, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("10.9.2.2")}, 16) = -1 EINPROGRESS (Operation now in progress) <0.000050>
4711 1700000001.300000 getsockname(5<TCP:[10.9.1.2:40000->10.9.2.2:80]>, {sa_family=AF_INET, sin_port=htons(40000), sin_addr=inet_addr("10.9.1.2")}, [128 => 16]) = 0 <0.000010>
4711 1700000001.400000 sendto(5<TCP:[10.9.1.2:40000->10.9.2.2:80]>, ""..., 78, MSG_NOSIGNAL, NULL, 0) = 78 <0.000030>
4711 1700000001.500000 recvfrom(5<TCP:[10.9.1.2:40000->10.9.2.2:80]>, 0x55, 102400, 0, NULL, NULL) = -1 EAGAIN (Resource temporarily unavailable) <0.000010>
4711 1700000001.600000 recvmsg(5<TCP:[10.9.1.2:40000->10.9.2.2:80]>, {msg_namelen=0}, MSG_ERRQUEUE) = -1 EAGAIN (Resource temporarily unavailable) <0.000010>
4711 1700000001.700000 readv(5<TCP:[10.9.1.2:40000->10.9.2.2:80]>, [{iov_base=""..., iov_len=10}, {iov_base=""..., iov_len=10}], 2 <unfinished ...>
4712 1700000001.800000 writev(5<TCP:[10.9.1.2:40000->10.9.2.2:80]>, [{iov_base=""..., iov_len=3}, {iov_base=""..., iov_len=4}], 2) = 7 <0.000020>
4711 1700000001.900000 <... readv resumed>) = 15 <0.200000>
4711 1700000002.000000 fcntl(5<TCP:[10.9.1.2:40000->10.9.2.2:80]>, F_DUPFD_CLOEXEC, 0) = 6<TCP:[10.9.1.2:40000->10.9.2.2:80]> <0.000010>
4711 1700000002.100000 close(5<TCP:[10.9.1.2:40000->10.9.2.2:80]>) = 0 <0.000010>
4711 1700000002.200000 recvfrom(6<TCP:[10.9.1.2:40000->10.9.2.2:80]>, "", 100, 0, NULL, NULL) = 0 <0.000010>
4711 1700000002.300000 close(6<TCP:[4242]>) = 0 <0.000010>
4711 1700000003.000000 socket(AF_INET6, SOCK_DGRAM|SOCK_CLOEXEC, IPPROTO_IP) = 5<UDPv6:[4243]> <0.000020>
4711 1700000003.100000 connect(5<UDPv6:[4243]>, {sa_family=AF_INET6, sin6_port=htons(53), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "fd09:2::2", &sin6_addr), sin6_scope_id=0}, 28) = 0 <0.000010>
4711 1700000003.200000 sendmmsg(5<UDPv6:[[fd09:1::2]:40001->[fd09:2::2]:53]>, [{msg_hdr={msg_iovlen=1}, msg_len=27}, {msg_hdr={msg_iovlen=1}, msg_len=28}], 2, MSG_NOSIGNAL) = 2 <0.000040>
4711 1700000003.300000 recvfrom(5<UDPv6:[[fd09:1::2]:40001->[fd09:2::2]:53]>, 0x7f, 2048, 0, 0x7f, [28]) = -1 ECONNREFUSED (Connection refused) <0.000010>
4711 1700000003.400000 --- SIGTERM {si_signo=SIGTERM, si_code=SI_USER, si_pid=1, si_uid=0} ---
4711 1700000003.500000 +++ killed by SIGTERM +++
"#,
    );
    let [tcp, udp] = &trace.sockets[..] else { panic!("not two sockets: {trace:#?}") };
    let address = |text: &str| text.parse::<SocketAddr>().expect("an address");

    assert_eq!((tcp.local, tcp.peer), (Some(address("10.9.1.2:40000")), Some(address("10.9.2.2:80"))));
    let names: Vec<_> = tcp.calls.iter().map(|call| (call.name.as_str(), call.is_control)).collect();
    let expected =
        [("sendto", false), ("recvfrom", false), ("recvmsg", true), ("writev", false), ("readv", false)];
    assert_eq!(names[..5], expected);
    let ops: Vec<_> = tcp.ops().map(|call| (call.direction, call.result.clone().expect("success"))).collect();
    assert_eq!(
        ops,
        [(Direction::Write, 78), (Direction::Write, 7), (Direction::Read, 15), (Direction::Read, 0)]
    );
    assert_eq!((tcp.calls[4].at, tcp.calls[4].duration), (1_700_000_001.7, 0.2));
    assert_eq!(
        (tcp.moved(Direction::Read).sum::<usize>(), tcp.moved(Direction::Write).sum::<usize>()),
        (15, 85)
    );
    assert_eq!(tcp.closed, Some(1_700_000_002.3));

    assert_eq!((udp.protocol.as_str(), udp.peer), ("UDPv6", Some(address("[fd09:2::2]:53"))));
    let results: Vec<_> = udp.ops().map(|call| call.result.clone()).collect();
    assert_eq!(results, [Ok(27), Ok(28), Err("ECONNREFUSED".into())]);
    assert_eq!(udp.closed, None);

    assert_eq!(trace.connected_to(address("10.9.2.2:80")), [tcp]);
    assert_eq!(trace.connection(address("[fd09:1::2]:40001"), address("[fd09:2::2]:53")), Some(udp));
}

#[test]
fn strace_and_the_server_agree_on_curl() {
    require_tool!("strace", "curl");
    const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
    for v6 in [false, true] {
        let address = if v6 { "[::1]:0" } else { "127.0.0.1:0" };
        let server = Server::on(std::net::TcpListener::bind(address).expect("a port"), async |mut conn| {
            conn.read_head().await?;
            conn.write(RESPONSE).await?;
            conn.read_to_end().await
        });
        let url = format!("http://{}/", server.addr());
        let (output, trace) =
            Strace::new("curl").args(["--disable", "--silent", "--noproxy", "*", "-g", &url]).run();
        assert_eq!(output.success(), "hello");

        let seen = &server.ended_blocking(1)[0];
        let socket =
            trace.connection(seen.peer, seen.local).unwrap_or_else(|| panic!("{seen:?} in {trace:#?}"));
        assert_eq!(socket.moved(Direction::Write).collect::<Vec<_>>(), [seen.received.len()]);
        assert_eq!(socket.moved(Direction::Read).sum::<usize>(), RESPONSE.len());
        assert!(socket.closed.is_some());
    }
}

#[test]
fn curl_reports_failures() {
    require_tool!("curl");
    let refused = Refused::on("127.0.0.1:0");
    let report = Curl::new(&format!("http://{}/", refused.addr)).run();
    assert_eq!((report.exitcode, report.http_code), (7, 0), "{report:?}");

    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await
    });
    let report = Curl::new(&format!("http://{}/", server.addr())).run();
    assert_eq!((report.exitcode, report.size_download), (18, 4), "{report:?}");
    assert!(report.errormsg.as_ref().is_some_and(|text| text.contains("6 bytes remaining")), "{report:?}");
}
