//! Namespaces, links, routes and rules.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream as StdStream};
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::time::timeout;

use test_support::lab::{Delay, Hook, Ns, Pair, Routed};
use test_support::require::require_lab;

#[test]
fn two_hosts_talk_over_ipv4_and_ipv6() {
    require_lab!();
    let net = Pair::new();
    for (ip, from) in Pair::SERVER.ips().into_iter().zip(Pair::CLIENT.ips()) {
        let peer = talk(&net.client, &net.server, ip).expect("a connection");
        assert_eq!(peer, from);
    }
}

#[test]
fn a_router_forwards_and_masquerades() {
    require_lab!();
    let net = Routed::new();
    for (ip, from) in Routed::SERVER.ips().into_iter().zip(Routed::CLIENT.ips()) {
        assert_eq!(talk(&net.client, &net.server, ip).expect("a connection"), from);
    }
    net.router.masquerade("r1");
    for (ip, from) in Routed::SERVER.ips().into_iter().zip(Routed::ROUTER_TO_SERVER.ips()) {
        assert_eq!(talk(&net.client, &net.server, ip).expect("a connection"), from);
    }
}

#[test]
fn dropped_packets_are_not_answered() {
    require_lab!();
    let net = Pair::new();
    let open = net.server.listen("10.9.0.2:81");
    let _dropped = net.server.listen("10.9.0.2:80");
    net.server.nft(Hook::Input, "tcp dport 80 drop");

    let connect = |port| async move {
        timeout(Duration::from_millis(300), TcpStream::connect((Pair::SERVER.v4, port))).await
    };
    assert!(net.client.block_on(connect(80)).is_err(), "a dropped packet was answered");
    assert!(net.client.block_on(connect(open.local_addr().unwrap().port())).expect("in time").is_ok());
    net.server.nft_flush();
    assert!(net.client.block_on(connect(80)).expect("in time").is_ok());
}

#[test]
fn each_kind_of_rejection_has_its_own_error() {
    require_lab!();
    let net = Routed::with_delay(Delay::All(Duration::from_millis(1)));
    net.server.nft(Hook::Input, "tcp dport 1 reject with tcp reset");
    net.server.nft(Hook::Input, "tcp dport 2 reject with icmpx port-unreachable");
    net.router.nft(Hook::Forward, "tcp dport 3 reject with icmpx host-unreachable");
    net.router.nft(Hook::Forward, "tcp dport 4 reject with icmpx no-route");
    net.router.nft(Hook::Forward, "tcp dport 5 reject with icmpx admin-prohibited");
    for ip in Routed::SERVER.ips() {
        let error = |port| connect_error(&net.client, SocketAddr::new(ip, port));
        assert_eq!(error(1).kind(), ErrorKind::ConnectionRefused, "{ip}");
        assert_eq!(error(2).kind(), ErrorKind::ConnectionRefused, "{ip}");
        assert_eq!(error(3).kind(), ErrorKind::HostUnreachable, "{ip}");
        assert_eq!(error(4).kind(), ErrorKind::NetworkUnreachable, "{ip}");
        let prohibited = if ip.is_ipv4() { ErrorKind::HostUnreachable } else { ErrorKind::PermissionDenied };
        assert_eq!(error(5).kind(), prohibited, "{ip}");
        assert_eq!(error(6).kind(), ErrorKind::ConnectionRefused, "no server listens on {ip}");
    }
}

#[test]
fn each_kind_of_unusable_route_has_its_own_error() {
    require_lab!();
    let isolated = Ns::new();
    let far = |text: &str| SocketAddr::new(text.parse().expect("an address"), 80);
    assert_eq!(connect_error(&isolated, far("10.8.0.1")).kind(), ErrorKind::NetworkUnreachable);
    isolated.blackhole("10.8.1.0/24");
    assert_eq!(connect_error(&isolated, far("10.8.1.1")).raw_os_error(), Some(libc::EINVAL));
    isolated.unreachable("10.8.2.0/24");
    assert_eq!(connect_error(&isolated, far("10.8.2.1")).kind(), ErrorKind::HostUnreachable);
    isolated.prohibit("fd08::/64");
    assert_eq!(connect_error(&isolated, far("fd08::1")).kind(), ErrorKind::PermissionDenied);

    let net = Routed::new();
    let error = connect_error(&net.client, far("10.8.0.1"));
    assert_eq!(error.kind(), ErrorKind::NetworkUnreachable, "reported by the router");
    net.router.unreachable("10.8.0.0/24");
    assert_eq!(connect_error(&net.client, far("10.8.0.1")).kind(), ErrorKind::HostUnreachable);
}

#[test]
fn local_ports_are_reused() {
    require_lab!();
    let net = Pair::new();
    net.client.port_range(40000, 40000);
    let server = net.server.listen("10.9.0.2:80");
    let addr = server.local_addr().unwrap();
    let first = net.client.run(|| StdStream::connect(addr)).expect("the only port");
    assert_eq!(first.local_addr().unwrap().port(), 40000);
    assert_eq!(connect_error(&net.client, addr).kind(), ErrorKind::AddrNotAvailable);

    // The server closes first, so its socket is the one in TIME-WAIT, and the client's port is free at once.
    drop(server.accept().expect("the connection"));
    assert_eq!((&first).read(&mut [0]).expect("end of stream"), 0);
    drop(first);
    let again = net.client.run(|| StdStream::connect(addr)).expect("the same port");
    assert_eq!(again.local_addr().unwrap().port(), 40000);
}

#[test]
fn a_wire_delays_all_frames_or_only_the_syn() {
    require_lab!();
    const DELAY: Duration = Duration::from_millis(60);
    for (delay, exchange_at_least) in [(Delay::All(DELAY), 2 * DELAY), (Delay::Syn(DELAY), Duration::ZERO)] {
        let net = Routed::with_delay(delay);
        let echo = net.server.listen("10.9.2.2:7");
        let addr = echo.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = echo.accept().expect("a connection");
            let mut bytes = vec![0; BULK];
            stream.read_exact(&mut bytes).expect("the bytes");
            stream.write_all(&bytes).expect("the bytes back");
        });
        let (connect, exchange) = net.client.run(|| {
            let begin = Instant::now();
            let mut stream = StdStream::connect(addr).expect("a connection");
            let connect = begin.elapsed();
            let begin = Instant::now();
            stream.write_all(&vec![7; BULK]).expect("sent");
            let mut bytes = vec![0; BULK];
            stream.read_exact(&mut bytes).expect("received");
            assert!(bytes.iter().all(|byte| *byte == 7), "the bytes were changed on the way");
            (connect, begin.elapsed())
        });
        server.join().expect("the server");
        assert!(connect >= DELAY, "{delay:?}: connected after {connect:?}");
        assert!(exchange >= exchange_at_least, "{delay:?}: exchanged after {exchange:?}");
    }
    const BULK: usize = 100_000; // many segments, so that their order and offloads are tested, too
}

#[test]
fn all_threads_of_a_runtime_are_in_the_namespace() {
    require_lab!();
    let ns = Ns::new();
    let here = || std::fs::metadata("/proc/thread-self/ns/net").expect("/proc").ino();
    let (direct, blocking) =
        ns.block_on(async move { (here(), tokio::task::spawn_blocking(here).await.expect("no panic")) });
    assert_eq!((direct, blocking), (ns.inode(), ns.inode()));
    assert_eq!(here(), Ns::here().inode());
    assert_ne!(here(), ns.inode());
    let shown = ns.command("readlink").arg("/proc/self/ns/net").output().expect("readlink").stdout;
    assert_eq!(String::from_utf8_lossy(&shown).trim(), format!("{ns:?}"));
}

#[test]
fn a_failing_script_reports_its_stderr() {
    require_lab!();
    let error = Ns::new().try_sh("echo before; ip link set nothing up; echo after").expect_err("a failure");
    assert!(error.contains("Cannot find device"), "{error}");
}

/// Sends bytes from the client to the server. Returns the client's address as the server sees it.
fn talk(client: &Ns, server: &Ns, ip: IpAddr) -> io::Result<IpAddr> {
    let listener = server.listen(&SocketAddr::new(ip, 0).to_string());
    let addr = listener.local_addr()?;
    let mut stream = client.run(|| StdStream::connect(addr))?;
    stream.write_all(b"hello")?;
    let (mut accepted, peer) = listener.accept()?;
    let mut bytes = [0; 5];
    accepted.read_exact(&mut bytes)?;
    assert_eq!(&bytes, b"hello");
    Ok(peer.ip())
}

fn connect_error(client: &Ns, addr: SocketAddr) -> io::Error {
    let connect = async move { timeout(Duration::from_secs(10), TcpStream::connect(addr)).await };
    match client.block_on(connect) {
        Ok(result) => result.expect_err("a connection"),
        Err(_) => panic!("no answer from {addr}"),
    }
}
