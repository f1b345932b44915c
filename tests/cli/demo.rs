//! `nettrace demo`.

use crate::{exits_with, parse, run};
use nettrace::{Failure, record::EndReason};
use test_support::check;

#[test]
fn the_demo_shows_every_announced_case() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("trace.json");
    let output = run(["demo".as_ref(), "--json".as_ref(), file.as_os_str()]);
    exits_with(&output, 0);
    assert_eq!(output.stderr, "");
    assert!(!output.stdout.contains('\x1b'));
    for text in [
        "301 Moved Permanently",
        "1 redirect followed",
        "connection_refused",
        "reused connection",
        "✗ ssl_unknown_authority",
        "✗ NXDOMAIN",
        "✗ generic_timeout_error",
    ] {
        assert!(output.stdout.contains(text), "no {text:?} in\n{}", output.stdout);
    }

    let trace = parse(&std::fs::read_to_string(file).unwrap());
    check::finished(&trace);
    assert_eq!(trace.description, "nettrace demo");
    let requests: Vec<_> = trace.http_requests.iter().collect();
    let failures: Vec<_> = requests.iter().map(|request| request.failure.clone()).collect();
    let expected = [
        None,
        None,
        None,
        None,
        Some(Failure::SslUnknownAuthority),
        Some(Failure::DnsNxdomainError),
        Some(Failure::GenericTimeoutError),
    ];
    assert_eq!(failures, expected);
    assert_eq!(requests[1].prev_hop, requests[0].trace_id, "a redirect");
    assert_eq!((requests[1].proto_major, requests[3].proto_major), (2, 1));
    assert_eq!(requests[2].tcp_conn, requests[1].tcp_conn, "a reused connection");
    let refused = trace.tcp_conns.iter().filter(|conn| conn.failure == Some(Failure::ConnectionRefused));
    assert!(
        refused.clone().count() >= 2 && refused.clone().all(|conn| conn.addr_tuple.dst_ip == "127.0.0.2")
    );
    assert_eq!(requests[6].end_reason, Some(EndReason::Timeout));
}

#[test]
fn the_demo_can_write_only_its_trace_to_standard_output() {
    let output = run(["demo", "--json", "-", "--ascii"]);
    exits_with(&output, 0);
    check::finished(&parse(&output.stdout));
    assert!(output.stderr.contains("A reused connection"));
    assert!(output.stderr.is_ascii());
}
