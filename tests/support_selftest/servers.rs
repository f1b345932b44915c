//! nginx, dnsmasq and `openssl s_server`, as `test_support` starts them.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::panic::catch_unwind;
use std::time::Duration;

use crate::certificate;
use test_support::curl::{Curl, Report};
use test_support::dnsmasq::Dnsmasq;
use test_support::lab::{Ns, Routed};
use test_support::nginx::Nginx;
use test_support::openssl::SServer;
use test_support::process::{self, Output};
use test_support::raw::Server;
use test_support::require::{require_lab, require_tool};
use test_support::slow::{Phases, Slow};

#[test]
fn nginx_serves_each_version_of_http_and_tls() {
    require_tool!("nginx", "curl");
    let (cert, key) = certificate();
    let nginx = Nginx::builder().tls(&cert, &key).start();
    let cases = [
        ("http", nginx.http, "1.1", &[][..], ""),
        ("http", nginx.h2c, "2", &["--http2-prior-knowledge"][..], ""),
        ("https", nginx.https, "2", &[][..], "TLSv1.3"),
        ("https", nginx.https, "1.1", &["--http1.1"][..], "TLSv1.3"),
        ("https", nginx.https_h1, "1.1", &[][..], "TLSv1.3"),
        ("https", nginx.tls12, "2", &[][..], "TLSv1.2"),
        ("https", nginx.tls13, "2", &[][..], "TLSv1.3"),
    ];
    for (count, (scheme, addr, version, arguments, tls)) in cases.into_iter().enumerate() {
        let url = format!("{scheme}://localhost:{}/hello.txt", addr.port());
        let report = Curl::new(&url).args(arguments.iter().copied()).cacert(&cert).run();
        assert_eq!((report.http_code, report.http_version.as_str()), (200, version), "{url} {report:?}");
        assert_eq!(report.body, b"hello\n");

        let seen = &nginx.requests(count + 1)[count];
        assert_eq!((seen.remote().port(), seen.server_port), (report.local_port, addr.port()));
        assert_eq!((seen.ssl_protocol.as_str(), seen.body_bytes_sent), (tls, 6), "{seen:?}");
        assert_eq!(seen.completion, "OK");
    }
    assert_eq!(nginx.mtls.port(), 0, "no authority was given");
}

#[test]
fn nginx_answers_each_documented_path() {
    require_tool!("nginx", "curl");
    let origin = Server::answering(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nback");
    let nginx = Nginx::builder().file("big", &vec![b'x'; 100_000]).backend(origin.addr()).start();
    let get = |path: &str, arguments: &[&str]| {
        Curl::new(&format!("http://{}{path}", nginx.http))
            .args(arguments.iter().copied())
            .args(["--include"])
            .run()
    };
    let text = |report: &Report| String::from_utf8_lossy(&report.body).to_lowercase();

    assert!(text(&get("/hello", &[])).contains("content-length: 6\r\n"));
    assert!(text(&get("/chunked/big", &[])).contains("transfer-encoding: chunked\r\n"));
    assert!(
        text(&get("/gzip/big", &["--header", "accept-encoding: gzip"]))
            .contains("content-encoding: gzip\r\n")
    );
    assert!(text(&get("/trailers/big", &["--raw"])).ends_with("\r\n0\r\nx-trailer: last\r\n\r\n"));
    assert!(text(&get("/close", &[])).contains("connection: close\r\n"));
    assert!(text(&get("/upload", &["--data-binary", "12345"])).ends_with("\r\n\r\nreceived 5\n"));
    assert!(text(&get("/backend/x", &[])).ends_with("\r\n\r\nback"));
    assert!(text(&get("/whoami", &[])).contains("\r\n\r\n127.0.0.1 "));
    for code in [301, 302, 303, 307, 308] {
        let report = get(&format!("/redirect/{code}"), &["--location"]);
        assert_eq!((report.num_redirects, report.http_code), (1, 200));
    }
    for code in [200, 204, 400, 401, 403, 404, 500, 502, 503] {
        assert_eq!(get(&format!("/status/{code}"), &[]).http_code, code);
    }
}

#[test]
fn nginx_closes_connections_after_keepalive_requests() {
    require_tool!("nginx", "curl");
    let nginx = Nginx::builder().keepalive_requests(2).start();
    let url = format!("http://{}/hello.txt", nginx.http);
    let reports = Curl::new(&url).then(&url).then(&url).run_all();
    assert_eq!(reports.iter().map(|report| report.num_connects).collect::<Vec<_>>(), [1, 0, 1]);
    let connections: Vec<u64> = nginx.requests(3).iter().map(|request| request.connection_requests).collect();
    assert_eq!(connections, [1, 2, 1]);
}

#[test]
fn nginx_requires_client_certificates() {
    require_tool!("nginx", "curl");
    let (cert, key) = certificate();
    let nginx = Nginx::builder().tls(&cert, &key).client_ca(&cert).start();
    let url = format!("https://localhost:{}/hello", nginx.mtls.port());
    assert_eq!(Curl::new(&url).cacert(&cert).run().http_code, 400);

    let files = tempfile::tempdir().expect("a directory");
    let pem = files.path().join("client.pem");
    std::fs::write(&pem, cert.clone() + &key).expect("a file");
    let report = Curl::new(&url).cacert(&cert).args(["--cert", pem.to_str().expect("a UTF-8 path")]).run();
    assert_eq!(report.http_code, 200, "{report:?}");
    assert_eq!(nginx.requests(2)[1].ssl_client_verify, "SUCCESS");
}

#[test]
fn nginx_listens_on_the_same_port_of_several_addresses() {
    require_tool!("nginx", "curl");
    let ips = [IpAddr::from([127, 0, 0, 1]), [127, 0, 0, 2].into(), Ipv6Addr::LOCALHOST.into()];
    let nginx = Nginx::builder().ips(&ips).start();
    for ip in ips {
        let url = format!("http://{}/hello", SocketAddr::new(ip, nginx.http.port()));
        let report = Curl::new(&url).run();
        assert_eq!((report.http_code, report.remote_ip), (200, ip.to_string()));
    }
}

#[test]
fn a_server_that_cannot_start_reports_why() {
    require_tool!("nginx", "dnsmasq");
    let started = catch_unwind(|| Nginx::builder().extra("nonsense on;").start());
    let message = *started.err().expect("a failure").downcast::<String>().expect("a text");
    assert!(message.contains("unknown directive \"nonsense\""), "{message}");
    let started = catch_unwind(|| Dnsmasq::builder().arg("--nonsense").start());
    let message = *started.err().expect("a failure").downcast::<String>().expect("a text");
    assert!(message.contains("bad command line options"), "{message}");
}

#[test]
fn dnsmasq_answers_as_configured() {
    require_tool!("dnsmasq");
    let server = Dnsmasq::builder()
        .host("www.test", &[IpAddr::from([192, 0, 2, 1]), "2001:db8::1".parse().unwrap()])
        .cname("alias.test", "www.test")
        .domain("test")
        .start();
    let (a, aaaa) = (1, 28);
    let ask = |name, kind| ask_udp(server.addr, &query(name, kind));
    let address = [&[0, 4][..], &[192, 0, 2, 1]].concat();
    assert_eq!(outcome(&ask("www.test", a)), (0, 1));
    assert!(ask("www.test", a).ends_with(&address));
    assert_eq!(outcome(&ask("www.test", aaaa)), (0, 1));
    assert_eq!(outcome(&ask("alias.test", a)), (0, 2), "the CNAME and the address");
    assert_eq!(outcome(&ask("none.test", a)), (3, 0), "NXDOMAIN");
    assert_eq!(outcome(&ask("elsewhere.example", a)), (5, 0), "REFUSED");
    assert!(ask_tcp(server.addr, &query("www.test", a)).ends_with(&address));
    let queries = server.queries(7);
    assert_eq!(queries[0], ("A".into(), "www.test".into()));
    assert_eq!(queries[6], ("A".into(), "www.test".into()));
}

#[test]
fn dnsmasq_serves_a_namespace() {
    require_lab!();
    require_tool!("dnsmasq", "curl");
    let net = Routed::new();
    let ip = IpAddr::from(Routed::SERVER.v4);
    let _dns = Dnsmasq::builder().in_ns(&net.server, (ip, 53)).host("www.test", &[ip]).start();
    let _http = Server::on(net.server.listen("10.9.2.2:80"), async |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await
    });
    let report = Curl::new("http://www.test/").nameserver(ip).in_ns(&net.client).run();
    assert_eq!((report.http_code, report.body.as_slice()), (200, &b"ok"[..]), "{report:?}");
    assert_eq!(report.local_ip, Routed::CLIENT.v4.to_string());
}

#[test]
fn s_server_completes_handshakes() {
    require_tool!("openssl");
    let (cert, key) = certificate();
    for (option, version) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let server = SServer::builder(&cert, &key).arg(option).rev().start();
        let output = s_client(&server, &["-brief"]);
        assert!(output.status.success(), "{output:?}");
        assert!(output.stderr.contains(&format!("Protocol version: {version}")), "{output:?}");
    }
}

#[test]
fn s_server_requires_client_certificates() {
    require_tool!("openssl");
    let (cert, key) = certificate();
    let server = SServer::builder(&cert, &key).arg("-tls1_2").verify_client(&cert).www().start();
    let output = s_client(&server, &["-brief"]);
    assert!(!output.status.success() && output.stderr.contains("alert handshake failure"), "{output:?}");
    server.line("peer did not return a certificate");
}

#[test]
fn s_server_serves_a_namespace() {
    require_lab!();
    require_tool!("openssl", "curl");
    let (cert, key) = certificate();
    let net = Routed::new();
    let server = SServer::builder(&cert, &key).in_ns(&net.server, "[fd09:2::2]:443").www().start();
    let curl = Curl::new("https://localhost/").resolve("localhost", 443, Routed::SERVER.v6.into());
    let report = curl.cacert(&cert).in_ns(&net.client).run();
    assert_eq!((report.http_code, server.addr.port()), (200, 443), "{report:?}");
}

/// Runs alone, because it measures time.
#[test]
fn alone_curl_measures_each_delayed_phase() {
    require_lab!();
    require_tool!("nginx", "dnsmasq", "curl");
    let (cert, key) = certificate();
    let site = Slow::start(Phases::each(Duration::from_millis(100)), &cert, &key);
    for version in ["--http1.1", "--http2"] {
        let curl = Curl::new(Slow::URL).args([version]).cacert(&cert);
        let report = curl.nameserver(site.nameserver.ip()).in_ns(&site.net.client).run();
        assert_eq!((report.http_code, report.body.as_slice()), (200, Slow::BODY), "{report:?}");
        let phases = [
            ("dns", report.time_namelookup),
            ("accept", report.time_connect - report.time_namelookup),
            ("tls", report.time_appconnect - report.time_connect),
            ("header", report.time_starttransfer - report.time_pretransfer),
            ("body", report.time_total - report.time_starttransfer),
        ];
        for (name, time) in phases {
            assert!((0.06..0.25).contains(&time), "{name} took {time} s: {report:?}");
        }
    }
}

fn s_client(server: &SServer, arguments: &[&str]) -> Output {
    let mut command = Ns::here().command("openssl");
    command.args(["s_client", "-connect", &server.addr.to_string()]).args(arguments);
    process::run(command, Duration::from_secs(30))
}

fn query(name: &str, kind: u16) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]; // recursion desired, one question
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).expect("a short label"));
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    message
}

/// Returns the response code and the number of answers.
fn outcome(reply: &[u8]) -> (u8, u16) {
    assert_eq!(reply[..2], [0x12, 0x34]);
    (reply[3] & 0x0f, u16::from_be_bytes([reply[6], reply[7]]))
}

fn ask_udp(server: SocketAddr, query: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("an option");
    socket.send_to(query, server).expect("sent");
    let mut reply = vec![0; 512];
    let length = socket.recv(&mut reply).expect("a reply");
    reply.truncate(length);
    reply
}

fn ask_tcp(server: SocketAddr, query: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server).expect("a connection");
    let length = u16::try_from(query.len()).expect("a short message");
    stream.write_all(&[&length.to_be_bytes()[..], query].concat()).expect("sent");
    let mut length = [0; 2];
    stream.read_exact(&mut length).expect("a length");
    let mut reply = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut reply).expect("a reply");
    reply
}
