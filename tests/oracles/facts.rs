//! The facts about a request that are both in the trace and in nginx's log.

use std::collections::HashMap;

use nettrace::record::{HttpReqTrace, TcpConnTrace};
use nettrace::{Failure, NetTrace};

use test_support::nginx::Request;
use test_support::openssl::suite_number;

/// Asserts that trace and log contain the same requests, on the same connections, with the same facts. Requests are
/// matched by target and client port; those with the same target on one connection are matched in order.
#[track_caller]
pub fn agree(trace: &NetTrace, log: &[Request]) {
    assert_eq!(trace.http_requests.len(), log.len(), "{log:#?}\n{trace:#?}");
    let mut unmatched: Vec<&HttpReqTrace> = trace.http_requests.iter().collect();
    for logged in log {
        let same = |request: &&HttpReqTrace| {
            let conn = connection(trace, request);
            request.req_url.ends_with(&logged.uri) && conn.addr_tuple.src_port == logged.remote_port
        };
        let index = unmatched
            .iter()
            .position(same)
            .unwrap_or_else(|| panic!("not traced: {logged:#?}\n{unmatched:#?}"));
        assert_request_agrees(trace, unmatched.remove(index), logged);
    }
    assert_connections_agree(trace, log);
}

/// Returns the connection that carried the request.
#[track_caller]
pub fn connection<'a>(trace: &'a NetTrace, request: &HttpReqTrace) -> &'a TcpConnTrace {
    trace.tcp_conns.get(&request.tcp_conn).unwrap_or_else(|| panic!("no connection: {request:#?}"))
}

#[track_caller]
fn assert_request_agrees(trace: &NetTrace, request: &HttpReqTrace, logged: &Request) {
    let conn = connection(trace, request);
    let context = format!("{request:#?}\n{logged:#?}");
    assert_eq!(
        (request.req_method.as_str(), request.resp_status_code),
        (&*logged.method, logged.status),
        "{context}"
    );
    assert_eq!(format!("HTTP/{}.{}", request.proto_major, request.proto_minor), logged.protocol, "{context}");
    // nginx sends a complete response even if the client then fails the request for too many redirects.
    let is_done = request.failure.as_ref().is_none_or(|failure| *failure == Failure::TooManyRedirects);
    assert_eq!(is_done, logged.completion == "OK", "{context}");
    assert_eq!(conn.addr_tuple.src_ip, logged.remote_addr.to_string(), "{context}");
    assert_eq!(conn.addr_tuple.dst_port, logged.server_port, "{context}");
    assert_eq!(request.req_content_len, logged.content_length.unwrap_or_default(), "{context}");
    if let Some(length) = logged.sent_content_length {
        let read = request.resp_encoded_len.unwrap_or(request.resp_content_len);
        let length = if request.req_method == "HEAD" { 0 } else { length };
        assert_eq!((read, logged.body_bytes_sent), (length, length), "{context}");
    }

    assert_eq!(request.tls_tunnel.is_undefined(), logged.ssl_protocol.is_empty(), "{context}");
    let Some(tunnel) = trace.tls_tunnels.get(&request.tls_tunnel) else { return };
    let context = format!("{tunnel:#?}\n{logged:#?}");
    assert_eq!(tunnel.tls_version, logged.ssl_protocol, "{context}");
    assert_eq!(tunnel.cipher_suite, suite_number(&logged.ssl_cipher), "{context}");
    // A resumed session of TLS 1.2 has no key exchange, but OpenSSL reports the group of the first one.
    let exchanged = !tunnel.did_resume || tunnel.tls_version != "TLSv1.2";
    let group = if exchanged { iana_group(&logged.ssl_curve) } else { "" };
    assert_eq!(tunnel.key_exchange_group, group, "{context}");
    assert_eq!(tunnel.negotiated_proto, logged.ssl_alpn_protocol, "{context}");
    assert_eq!(tunnel.did_resume, logged.ssl_session_reused == "r", "{context}");
    assert_eq!(tunnel.server_name, logged.ssl_server_name, "{context}");
}

/// Asserts that each connection of the trace is one in the log, and that those with plain HTTP/1.1 transferred as many
/// bytes as nginx reports.
#[track_caller]
fn assert_connections_agree(trace: &NetTrace, log: &[Request]) {
    let mut by_number: HashMap<u64, Vec<&Request>> = HashMap::new();
    for logged in log {
        by_number.entry(logged.connection).or_default().push(logged);
    }
    let carried = |conn: &&TcpConnTrace| trace.http_requests.iter().any(|r| r.tcp_conn == conn.trace_id);
    let used: Vec<_> = trace.tcp_conns.iter().filter(carried).collect();
    assert_eq!(used.len(), by_number.len(), "{used:#?}\n{by_number:#?}");
    for conn in used {
        let requests: Vec<_> = trace.http_requests.iter().filter(|r| r.tcp_conn == conn.trace_id).collect();
        let mut same = by_number.values().filter(|logged| logged[0].remote_port == conn.addr_tuple.src_port);
        let (logged, None) = (same.next().expect("a connection in the log"), same.next()) else {
            panic!("{by_number:#?}")
        };
        assert_eq!(requests.len(), logged.len(), "{conn:#?}\n{logged:#?}");
        let last = logged.iter().map(|logged| logged.connection_requests).max();
        assert_eq!(last, Some(logged.len() as u64), "{conn:#?}\n{logged:#?}");

        let sent: u64 = logged.iter().map(|logged| logged.request_length).sum();
        let received: u64 = logged.iter().map(|logged| logged.bytes_sent).sum();
        let transferred = (conn.total_sent_bytes, conn.total_recv_bytes);
        if logged[0].ssl_protocol.is_empty() && logged[0].protocol == "HTTP/1.1" {
            let bodies: u64 = logged.iter().filter_map(|logged| logged.content_length).sum();
            // nginx may answer without reading the body.
            let sent_agrees = [sent, sent + bodies].contains(&transferred.0);
            assert!(sent_agrees && transferred.1 == received, "{conn:#?}\n{logged:#?}");
        } else {
            assert!(transferred.1 > received, "framing and encryption add to it: {conn:#?}\n{logged:#?}");
        }
    }
}

/// Returns the IANA name of a group by its OpenSSL name.
pub fn iana_group(name: &str) -> &str {
    match name {
        "X25519" => "x25519",
        "prime256v1" => "secp256r1",
        other => other, // such as secp384r1
    }
}
