//! Capture files, read by tshark.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nettrace::capture::{CaptureFile, CaptureProbe, PacketCapture};
use nettrace::client::HttpVersion;
use nettrace::record::NetTrace;
use nettrace::tls::{KeyLog, Roots};
use nettrace::{Client, TraceSink};
use tempfile::TempDir;

use super::{fetch, nameserver, server};
use test_support::lab::{Ns, Pair};
use test_support::nginx::Nginx;
use test_support::pki::Authority;
use test_support::require::{require_lab, require_tool};
use test_support::tshark::{field, tshark};

/// Captures a request to `http://web.test/` and its DNS queries on two interfaces.
fn capture_request() -> (NetTrace, Vec<PacketCapture>) {
    let net = Pair::new();
    let ip = Pair::SERVER.v4.into();
    let (web, names) = (server(&net.server, SocketAddr::new(ip, 80)), nameserver(&net.server, ip));
    let capture = net.client.run(|| CaptureProbe::builder(["lo", "c0"]).start());
    let sink = super::sink(&capture);
    net.client.block_on(async {
        let client = Client::builder(&sink).nameservers([names.addr]).build().unwrap();
        fetch(&client, "http://web.test/").await;
        client.close().await;
    });
    web.ended_blocking(1);
    (sink.snapshot("a request"), sink.captures())
}

/// Returns a path in a new temporary directory, which is removed when the [`TempDir`] is dropped.
fn temp_path(name: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    (directory, path)
}

/// Returns time, length and protocol of each packet in a file, as tshark prints them.
fn summary(file: &Path) -> Vec<String> {
    assert!(tshark(file, &["-Y", "_ws.malformed || _ws.unreassembled"]).is_empty());
    tshark(file, &["-T", "fields", "-e", "frame.time_epoch", "-e", "frame.len", "-e", "_ws.col.Protocol"])
}

/// Returns the time and the length of each packet, as tshark prints them.
fn expected(captures: &[PacketCapture]) -> Vec<(String, u32)> {
    let mut packets: Vec<_> = captures.iter().flat_map(|capture| &capture.packets).collect();
    packets.sort_by_key(|packet| packet.time);
    let time_and_length = |packet: &&nettrace::capture::CapturedPacket| {
        let since = packet.time.duration_since(std::time::UNIX_EPOCH).unwrap();
        (format!("{}.{:09}", since.as_secs(), since.subsec_nanos()), packet.length)
    };
    packets.iter().map(time_and_length).collect()
}

fn assert_summary(file: &Path, captures: &[PacketCapture]) {
    let lines = summary(file);
    let expected = expected(captures);
    assert_eq!(lines.len(), expected.len());
    for (line, (time, length)) in lines.iter().zip(expected) {
        assert!(line.starts_with(&format!("{time}\t{length}\t")), "{line}: {time} {length}");
    }
    assert!(
        lines.iter().any(|line| line.ends_with("\tDNS")) && lines.iter().any(|line| line.ends_with("\tHTTP"))
    );
}

#[test]
fn tshark_reads_pcap() {
    require_lab!();
    require_tool!("tshark", "dnsmasq");
    let (_, captures) = capture_request();
    let (_directory, file) = temp_path("requests.pcap");
    // An existing file is truncated and loses its permissions.
    fs::write(&file, b"something longer that only others read").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    CaptureFile::new(&captures).write_to_file(&file).unwrap();
    assert_summary(&file, &captures);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    // The capture of a single interface can be written to any writer.
    let mut bytes = Vec::new();
    captures[1].write_to(&mut bytes).unwrap();
    assert_eq!(bytes, fs::read(&file).unwrap(), "the other interface captured nothing");
    assert_eq!(bytes[..4], 0xa1b2_3c4d_u32.to_le_bytes());
}

#[test]
fn tshark_reads_pcapng() {
    require_lab!();
    require_tool!("tshark", "dnsmasq");
    let (trace, captures) = capture_request();
    let (_directory, file) = temp_path("requests.pcapng");
    CaptureFile::new(&captures).trace(&trace).write_to_file(&file).unwrap();
    assert_summary(&file, &captures);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    let mut interfaces = field(&file, "frame", "frame.interface_name");
    interfaces.dedup();
    assert_eq!(interfaces, ["c0"]);
    let comments = field(&file, "frame", "frame.comment");
    assert_eq!(comments.len(), 3, "{comments:?}");
    let (conn, dial) = (&trace.tcp_conns[0].trace_id, &trace.dials[0].trace_id);
    let request = &trace.http_requests[0].trace_id;
    let conn_comment = format!("tcpConn {conn}, dial {dial} to web.test:80, httpRequest {request}");
    assert!(comments.contains(&conn_comment), "{comments:?}");
    let query =
        trace.dns_queries.iter().find(|query| query.connection == trace.udp_conns[0].trace_id).unwrap();
    let query_comment = format!(
        "udpConn {} to a nameserver, dial {dial} to web.test:80, dnsQuery {}",
        trace.udp_conns[0].trace_id, query.trace_id
    );
    assert!(comments.contains(&query_comment), "{comments:?}");

    // Names come from the file: tshark sends no queries.
    let lines = tshark(&file, &["-Nn", "-Y", "tcp", "-T", "fields", "-e", "ip.dst_host"]);
    assert!(lines.contains(&"web.test".into()), "{lines:?}");
    let lines = tshark(&file, &["-Nn", "-Y", "tcp", "-T", "fields", "-e", "_ws.col.Destination"]);
    assert!(lines.contains(&"web.test".into()), "{lines:?}");
}

#[test]
fn pcap_refuses_different_link_layers() {
    require_lab!();
    let ns = Ns::new();
    let capture = ns.run(|| CaptureProbe::builder(["lo", "any"]).start());
    let captures = super::sink(&capture).captures();
    let (_directory, file) = temp_path("requests.pcap");
    let error = CaptureFile::new(&captures).write_to_file(&file).unwrap_err();
    let text = error.to_string();
    assert_eq!(text, "lo and any have different link layers, which only pcapng can hold");
    assert!(!file.exists());
    CaptureFile::new(&captures).write_to_file(file.with_extension("pcapng")).unwrap();
    CaptureFile::new(&[]).write_to_file(&file).unwrap();
    assert!(tshark(&file, &[]).is_empty());
}

/// Makes requests over TLS 1.2 and 1.3, each with HTTP/1.1 and with HTTP/2.
#[test]
fn tls_is_decrypted_with_the_secrets_in_the_file() {
    require_lab!();
    require_tool!("tshark", "nginx");
    let net = Pair::new();
    let authority = Authority::new("lab");
    let leaf = authority.issue(&["10.9.0.2"]);
    let ip = Pair::SERVER.v4.into();
    let nginx = Nginx::builder().in_ns(&net.server, &[ip]).tls(&leaf.pem, &leaf.key_pem());
    let nginx = nginx.file("large", &[b'x'; 100_000]).start();
    for (addr, tls) in [(nginx.tls12, "0x0303"), (nginx.tls13, "0x0304")] {
        for (version, http) in [(HttpVersion::Http1Only, "http"), (HttpVersion::Auto, "http2")] {
            let capture = net.client.run(|| CaptureProbe::builder(["c0"]).snap_len(65_600).start());
            let sink = super::sink(&capture);
            let keys = KeyLog::new();
            net.client.block_on(async {
                let client = super::client(&sink).http_version(version).tls_key_log(&keys);
                let client = client.roots(Roots::from_pem(authority.pem()).unwrap()).build().unwrap();
                assert_eq!(fetch(&client, &format!("https://{addr}/hello")).await, b"hello\n");
                assert_eq!(fetch(&client, &format!("https://{addr}/large")).await.len(), 100_000);
                client.close().await;
            });
            let (trace, captures) = (sink.snapshot("secret"), sink.captures());
            let (_directory, file) = temp_path("secret.pcapng");
            let secrets = keys.to_nss();
            let capture_file = CaptureFile::new(&captures).trace(&trace);
            capture_file.tls_secrets(&secrets).write_to_file(&file).unwrap();

            assert_eq!(field(&file, "tls.handshake.type == 2", "frame.number").len(), 1);
            let context = format!("{tls} {http}");
            let (path, status) = match http {
                "http" => ("http.request.uri", "http.response.code"),
                _ => ("http2.headers.path", "http2.headers.status"),
            };
            assert_eq!(field(&file, http, path), ["/hello", "/large"], "{context}");
            assert_eq!(field(&file, http, status), ["200", "200"], "{context}");
            let text = tshark(&file, &["-q", "-z", "follow,tls,ascii,0"]).join("\n");
            assert!(text.contains("hello"), "{context}: {text}");
            let versions = field(&file, "tls.handshake.type == 2", "tls.handshake.version");
            let supported =
                field(&file, "tls.handshake.type == 2", "tls.handshake.extensions.supported_version");
            assert!(
                versions.iter().chain(&supported).any(|version| version == tls),
                "{versions:?} {supported:?}"
            );

            // Without the keys nothing is decrypted.
            capture_file.write_to_file(&file).unwrap();
            assert!(field(&file, http, path).is_empty());
            assert!(!fs::read(&file).unwrap().windows(12).any(|window| window == b"CLIENT_RANDO"));
        }
    }
}

/// The client writes its keys to a separate file, as with `SSLKEYLOGFILE`.
#[test]
fn tls_is_decrypted_with_a_key_log() {
    require_lab!();
    require_tool!("tshark", "nginx");
    let net = Pair::new();
    let authority = Authority::new("lab");
    let leaf = authority.issue(&["10.9.0.2"]);
    let nginx = Nginx::builder().in_ns(&net.server, &[Pair::SERVER.v4.into()]);
    let nginx = nginx.tls(&leaf.pem, &leaf.key_pem()).start();
    let capture = net.client.run(|| CaptureProbe::builder(["c0"]).snap_len(65_600).start());
    let sink = TraceSink::builder().probe(capture).build();
    let (directory, file) = temp_path("requests.pcap");
    let key_file = directory.path().join("keys");
    net.client.block_on(async {
        let keys = KeyLog::to_file(&key_file).unwrap();
        let client = super::client(&sink).tls_key_log(&keys);
        let client = client.roots(Roots::from_pem(authority.pem()).unwrap()).build().unwrap();
        fetch(&client, &format!("https://{}/hello", nginx.https)).await;
        assert_eq!(fs::read_to_string(&key_file).unwrap(), keys.to_nss());
    });
    CaptureFile::new(&sink.captures()).write_to_file(&file).unwrap();
    let keys = format!("tls.keylog_file:{}", key_file.display());
    let paths =
        tshark(&file, &["-o", &keys, "-Y", "http2.headers.path", "-T", "fields", "-e", "http2.headers.path"]);
    assert_eq!(paths, ["/hello"]);
}
