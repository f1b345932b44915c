//! The facts about a request that are both in the trace and in nginx's log.

use std::collections::HashMap;
use std::process::Command;

use nettrace::record::{HttpReqTrace, TcpConnTrace};
use nettrace::{Failure, NetTrace};

use test_support::nginx::Request;
use test_support::process;

/// Both know the same requests, on the same connections, with the same facts. Each request has a target of
/// its own, or else comes as often here as there, in the same order on each connection.
#[track_caller]
pub fn agree(trace: &NetTrace, log: &[Request]) {
    assert_eq!(trace.http_requests.len(), log.len(), "{log:#?}\n{trace:#?}");
    let mut left: Vec<&HttpReqTrace> = trace.http_requests.iter().collect();
    for seen in log {
        let same = |request: &&HttpReqTrace| {
            let conn = connection(trace, request);
            request.req_url.ends_with(&seen.uri) && conn.addr_tuple.src_port == seen.remote_port
        };
        let at = left.iter().position(same).unwrap_or_else(|| panic!("not traced: {seen:#?}\n{left:#?}"));
        request(trace, left.remove(at), seen);
    }
    connections(trace, log);
}

/// The connection that carried the request.
#[track_caller]
pub fn connection<'a>(trace: &'a NetTrace, request: &HttpReqTrace) -> &'a TcpConnTrace {
    trace.tcp_conns.get(&request.tcp_conn).unwrap_or_else(|| panic!("no connection: {request:#?}"))
}

#[track_caller]
fn request(trace: &NetTrace, request: &HttpReqTrace, seen: &Request) {
    let conn = connection(trace, request);
    let context = format!("{request:#?}\n{seen:#?}");
    assert_eq!(
        (request.req_method.as_str(), request.resp_status_code),
        (&*seen.method, seen.status),
        "{context}"
    );
    assert_eq!(format!("HTTP/{}.{}", request.proto_major, request.proto_minor), seen.protocol, "{context}");
    // nginx does not know what the client decides after a complete response.
    let is_done = request.failure.as_ref().is_none_or(|failure| *failure == Failure::TooManyRedirects);
    assert_eq!(is_done, seen.completion == "OK", "{context}");
    assert_eq!(conn.addr_tuple.src_ip, seen.remote_addr.to_string(), "{context}");
    assert_eq!(conn.addr_tuple.dst_port, seen.server_port, "{context}");
    assert_eq!(request.req_content_len, seen.content_length.unwrap_or_default(), "{context}");
    if let Some(length) = seen.sent_content_length {
        let read = request.resp_encoded_len.unwrap_or(request.resp_content_len);
        let length = if request.req_method == "HEAD" { 0 } else { length };
        assert_eq!((read, seen.body_bytes_sent), (length, length), "{context}");
    }

    assert_eq!(request.tls_tunnel.is_undefined(), seen.ssl_protocol.is_empty(), "{context}");
    let Some(tunnel) = trace.tls_tunnels.get(&request.tls_tunnel) else { return };
    let context = format!("{tunnel:#?}\n{seen:#?}");
    assert_eq!(tunnel.tls_version, seen.ssl_protocol, "{context}");
    assert_eq!(tunnel.cipher_suite, suite_number(&seen.ssl_cipher), "{context}");
    // A session of TLS 1.2 is resumed without another key exchange; openssl remembers the first.
    let exchanged = !tunnel.did_resume || tunnel.tls_version != "TLSv1.2";
    let group = if exchanged { iana_group(&seen.ssl_curve) } else { "" };
    assert_eq!(tunnel.key_exchange_group, group, "{context}");
    assert_eq!(tunnel.negotiated_proto, seen.ssl_alpn_protocol, "{context}");
    assert_eq!(tunnel.did_resume, seen.ssl_session_reused == "r", "{context}");
    assert_eq!(tunnel.server_name, seen.ssl_server_name, "{context}");
}

/// Connections here and there are one to one; those without TLS and HTTP/2 moved what nginx says.
#[track_caller]
fn connections(trace: &NetTrace, log: &[Request]) {
    let mut by_number: HashMap<u64, Vec<&Request>> = HashMap::new();
    for seen in log {
        by_number.entry(seen.connection).or_default().push(seen);
    }
    let carried = |conn: &&TcpConnTrace| trace.http_requests.iter().any(|r| r.tcp_conn == conn.trace_id);
    let used: Vec<_> = trace.tcp_conns.iter().filter(carried).collect();
    assert_eq!(used.len(), by_number.len(), "{used:#?}\n{by_number:#?}");
    for conn in used {
        let requests: Vec<_> = trace.http_requests.iter().filter(|r| r.tcp_conn == conn.trace_id).collect();
        let mut same = by_number.values().filter(|seen| seen[0].remote_port == conn.addr_tuple.src_port);
        let (seen, None) = (same.next().expect("seen by nginx"), same.next()) else {
            panic!("{by_number:#?}")
        };
        assert_eq!(requests.len(), seen.len(), "{conn:#?}\n{seen:#?}");
        let last = seen.iter().map(|seen| seen.connection_requests).max();
        assert_eq!(last, Some(seen.len() as u64), "{conn:#?}\n{seen:#?}");

        let sent: u64 = seen.iter().map(|seen| seen.request_length).sum();
        let received: u64 = seen.iter().map(|seen| seen.bytes_sent).sum();
        let moved = (conn.total_sent_bytes, conn.total_recv_bytes);
        if seen[0].ssl_protocol.is_empty() && seen[0].protocol == "HTTP/1.1" {
            let bodies: u64 = seen.iter().filter_map(|seen| seen.content_length).sum();
            let unread = [sent, sent + bodies].contains(&moved.0); // an answer that does not wait for the body
            assert!(unread && moved.1 == received, "{conn:#?}\n{seen:#?}");
        } else {
            assert!(moved.1 > received, "framing and encryption add to it: {conn:#?}\n{seen:#?}");
        }
    }
}

/// The number of a suite, by openssl's or by IANA's name.
#[track_caller]
pub fn suite_number(name: &str) -> u16 {
    let list = openssl(&["ciphers", "-V", "-stdname", "ALL"]);
    let named = |line: &&str| line.split_whitespace().any(|word| word == name);
    let line = list.lines().find(named).unwrap_or_else(|| panic!("no suite {name:?} in {list}"));
    let (high, low) = line.split_whitespace().next().and_then(|code| code.split_once(',')).expect(line);
    let byte = |text: &str| u16::from_str_radix(text.trim_start_matches("0x"), 16).expect(line);
    byte(high) << 8 | byte(low)
}

/// IANA's name of a group, by openssl's.
pub fn iana_group(name: &str) -> &str {
    match name {
        "X25519" => "x25519",
        "prime256v1" => "secp256r1",
        other => other, // secp384r1 …
    }
}

#[track_caller]
fn openssl(arguments: &[&str]) -> String {
    let mut command = Command::new("openssl");
    command.args(arguments);
    process::run(command, process::READY).success()
}
