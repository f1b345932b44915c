//! `nettrace get`: requests, exit codes and the handling of secrets.

use crate::{exits_with, parse, reason, run, run_with_input};
use nettrace::record::EndReason;
use test_support::{
    background, check,
    dns::{DnsServer, ReceivedQuery},
    encrypted_dns::EncryptedDnsServer,
    pki::Authority,
    raw::{Refused, Server},
};

const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\ncontent-type: text/plain\r\n\r\nhello\n";

/// Runs `get` and returns its output and its trace, which must be consistent.
#[track_caller]
fn traced(url: &str, args: &[&str]) -> (crate::Output, nettrace::NetTrace) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("trace.json");
    let fixed = ["get", url, "--json", file.to_str().unwrap()];
    let output = run(fixed.iter().chain(args));
    let trace = parse(&std::fs::read_to_string(&file).unwrap());
    check::finished(&trace);
    (output, trace)
}

fn url(server: &Server, path: &str) -> String {
    format!("http://{}{path}", server.addr())
}

#[test]
fn a_response_is_a_success() {
    let server = Server::answering(HELLO);
    let (output, trace) = traced(&url(&server, "/a?b#c"), &[]);
    exits_with(&output, 0);
    assert_eq!(output.stdout, "hello\n");
    assert!(
        output.stderr.starts_with(&format!("GET {} · 200 OK", url(&server, "/a?b"))),
        "{}",
        output.stderr
    );
    assert!(!output.stderr.contains('\x1b'));
    assert_eq!(trace.description, format!("GET {}", url(&server, "/a?b")));
    assert_eq!(trace.http_requests[0].resp_content_len, 6);
    assert!(trace.http_requests[0].resp_header.is_empty(), "headers are not recorded by default");
    assert_eq!(server.ended_blocking(1)[0].peer.port(), trace.tcp_conns[0].addr_tuple.src_port);

    // The scheme may be left out.
    exits_with(&run(["get", &server.addr().to_string()]), 0);
}

/// The kernel's time stamps divide the time in which the command waited for the server.
#[cfg(target_os = "linux")]
#[test]
fn the_wait_for_a_response_is_divided() {
    let server = Server::answering(HELLO);
    let (output, trace) = traced(&url(&server, "/"), &["--precise"]);
    let times = trace.tcp_conns[0].kernel_times.as_deref().expect("all connections are sampled");
    assert_eq!(times.writes.last().map(|write| write.sent_bytes), Some(trace.tcp_conns[0].total_sent_bytes));
    // The kernel may begin to stamp what it receives a moment after the first socket has asked for that.
    assert_eq!(output.stderr.contains("own stack"), !times.reads.is_empty(), "{}", output.stderr);
}

#[test]
fn an_error_status_is_a_success() {
    let server = Server::answering(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 3\r\n\r\nno\n");
    let (output, _) = traced(&url(&server, "/"), &[]);
    exits_with(&output, 0);
    assert_eq!(output.stdout, "no\n");
    assert!(output.stderr.contains("· 503 Service Unavailable"));
}

#[test]
fn a_refused_connection_is_a_failure_and_has_a_trace() {
    let refused = Refused::on("127.0.0.1:0");
    let (output, trace) = traced(&format!("http://{}/", refused.addr), &[]);
    exits_with(&output, 1);
    assert_eq!(output.stdout, "");
    let expected =
        format!("connection_refused: cannot connect to {}: Connection refused (os error 111)", refused.addr);
    assert_eq!(reason(&output), expected);
    assert_eq!(trace.http_requests[0].end_reason, Some(EndReason::Failed));
    assert_eq!(trace.tcp_conns.len(), 1);
}

#[test]
fn a_body_that_is_cut_off_is_a_failure() {
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await?;
        conn.close().await
    });
    let (output, trace) = traced(&url(&server, "/"), &[]);
    exits_with(&output, 1);
    assert_eq!(output.stdout, "half");
    assert!(reason(&output).starts_with("eof_error: "), "{}", output.stderr);
    assert_eq!(trace.http_requests[0].resp_content_len, 4);
}

#[test]
fn an_exceeded_timeout_is_a_failure() {
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.hang().await
    });
    let (output, trace) = traced(&url(&server, "/"), &["--timeout", "300ms"]);
    exits_with(&output, 1);
    assert!(reason(&output).starts_with("generic_timeout_error: "), "{}", output.stderr);
    assert_eq!(trace.http_requests[0].end_reason, Some(EndReason::Timeout));
}

#[test]
fn redirects_are_followed() {
    let server = Server::start(async |mut conn| {
        while let Ok(head) = conn.read_head().await {
            let answer = if head.starts_with("GET /first") {
                b"HTTP/1.1 302 Found\r\nlocation: /second\r\ncontent-length: 0\r\n\r\n"
            } else {
                HELLO
            };
            conn.write(answer).await?;
        }
        Ok(())
    });
    let (output, trace) = traced(&url(&server, "/first"), &[]);
    exits_with(&output, 0);
    assert_eq!(output.stdout, "hello\n");
    assert!(output.stderr.contains("1 redirect followed"));
    assert_eq!(trace.http_requests[1].prev_hop, trace.http_requests[0].trace_id);
}

#[test]
fn method_header_and_data_are_sent() {
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.read(11).await?;
        conn.write(HELLO).await
    });
    let seen = |output: crate::Output| {
        exits_with(&output, 0);
        String::from_utf8(server.seen().last().unwrap().received.clone()).unwrap()
    };
    let address = url(&server, "/");
    let posted = seen(run(["get", &address, "-d", "a=1", "-d", "b=two&c", "-H", "X-Mine: -v"]));
    assert!(posted.starts_with("POST / HTTP/1.1\r\n"), "{posted}");
    assert!(posted.contains("content-type: application/x-www-form-urlencoded\r\n"), "{posted}");
    assert!(posted.contains("content-length: 11\r\n") && posted.contains("x-mine: -v\r\n"), "{posted}");
    assert!(posted.ends_with("\r\n\r\na=1&b=two&c"), "{posted}");

    let put = run_with_input(
        &["get", &address, "-X", "PUT", "-d", "@-", "-H", "content-type: text/plain", "--trace-only"],
        b"from \0stdin",
    );
    let put = seen(put);
    assert!(put.starts_with("PUT / HTTP/1.1\r\n") && put.ends_with("\r\n\r\nfrom \0stdin"), "{put}");
    assert!(put.contains("content-type: text/plain\r\n") && !put.contains("urlencoded"), "{put}");
}

#[test]
fn repeated_requests_share_a_connection_by_default() {
    let server = Server::answering(HELLO);
    let (output, trace) = traced(&url(&server, "/"), &["--repeat", "3"]);
    exits_with(&output, 0);
    assert_eq!(output.stdout, "hello\n".repeat(3));
    assert_eq!((trace.http_requests.len(), trace.tcp_conns.len()), (3, 1));
    assert!(
        output.stderr.contains("3 requests · 1 connection, reused by 66 % of the requests"),
        "{}",
        output.stderr
    );

    let (output, trace) = traced(&url(&server, "/"), &["--repeat", "3", "--no-keepalive"]);
    exits_with(&output, 0);
    assert_eq!((trace.http_requests.len(), trace.tcp_conns.len()), (3, 3));
}

#[test]
fn one_failure_among_repeated_requests_is_a_failure() {
    let server = Server::start(async |mut conn| {
        if conn.index == 1 {
            return conn.reset();
        }
        conn.read_head().await?;
        conn.write(HELLO).await?;
        conn.close().await
    });
    let (output, trace) = traced(&url(&server, "/"), &["--repeat", "3", "--no-keepalive"]);
    exits_with(&output, 1);
    assert_eq!(output.stdout, "hello\n".repeat(2));
    let failed = trace.http_requests.iter().map(|request| request.failure.is_some()).collect::<Vec<_>>();
    assert_eq!(failed, [false, true, false]);
    reason(&output);
}

#[test]
fn nameservers_may_be_asked_over_tls_and_https() {
    let runtime = background::runtime();
    let authority = Authority::new("nameservers");
    let leaf = authority.issue(&["127.0.0.1"]);
    let answer = |query: &ReceivedQuery| query.addresses(&["127.0.0.1"]);
    let (tls, https) = runtime.block_on(async {
        (EncryptedDnsServer::tls(&leaf, answer).await, EncryptedDnsServer::https(&leaf, answer).await)
    });
    let nameservers = [format!("tls://{}", tls.addr()), format!("https://{}/dns-query", https.addr())];
    // The nameservers run until the command has exited.
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = std::thread::spawn(move || {
        let _ = runtime.block_on(stopped);
        drop((tls, https));
    });
    let directory = tempfile::tempdir().unwrap();
    let roots = directory.path().join("roots.pem");
    std::fs::write(&roots, authority.pem()).unwrap();
    let server = Server::answering(HELLO);
    let address = format!("http://web.nettrace.test:{}/", server.addr().port());
    for nameserver in &nameservers {
        let cacert = roots.to_str().unwrap();
        let (output, trace) = traced(&address, &["--nameserver", nameserver, "--cacert", cacert, "--http1"]);
        exits_with(&output, 0);
        let (scheme, rest) = nameserver.split_once("://").unwrap();
        let asked = format!("{scheme} {} → 127.0.0.1", rest.trim_end_matches("/dns-query"));
        assert!(output.stderr.contains(&asked), "{}", output.stderr);
        assert_eq!(trace.tls_tunnels.len(), 1);
        // That any certificate is accepted of the server does not mean one of a nameserver.
        let output = run(["get", &address, "-k", "--nameserver", nameserver]);
        assert!(reason(&output).contains("TLS handshake with 127.0.0.1"), "{}", output.stderr);
    }
    drop(stop);
    running.join().unwrap();
}

#[test]
fn names_are_resolved_by_the_given_nameserver() {
    let runtime = background::runtime();
    let dns = runtime.block_on(DnsServer::answering(&["127.0.0.1"]));
    // The nameserver runs until the command has exited.
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = Server::answering(HELLO);
    let address = format!("http://web.nettrace.test:{}/", server.addr().port());
    let nameserver = dns.addr().to_string();
    let running = std::thread::spawn(move || {
        let _ = runtime.block_on(stopped);
        drop(dns);
    });
    let (output, trace) =
        traced(&address, &["--nameserver", &nameserver, "--source-ip", "127.0.0.1", "--http1"]);
    drop(stop);
    running.join().unwrap();
    exits_with(&output, 0);
    assert!(trace.dns_queries.iter().any(|query| !query.dns_reply_msgs.is_empty()));
    assert!(output.stderr.contains(&format!("{nameserver} → 127.0.0.1")), "{}", output.stderr);
    assert_eq!(trace.dials[0].source_ip, "127.0.0.1");
}

#[test]
fn header_fields_are_recorded_as_configured() {
    let server = Server::answering(HELLO);
    let fields = ["-H", "authorization: Bearer hunter2", "-H", "x-a: b"];
    let with = |how| traced(&url(&server, "/"), &[&["--headers", how], &fields[..]].concat());

    let (output, trace) = with("values");
    exits_with(&output, 0);
    let request = &trace.http_requests[0];
    assert_eq!(request.req_header.get("x-a").unwrap().field_val, "b");
    assert_eq!(request.req_header.get("authorization").unwrap().field_val, "");
    assert_eq!(request.resp_header.get("content-type").unwrap().field_val, "text/plain");
    assert!(output.stderr.contains("> x-a: b") && output.stderr.contains("< content-type: text/plain"));
    assert!(!output.stderr.contains("hunter2"));

    let (output, trace) = with("lengths");
    let field = trace.http_requests[0].req_header.get("x-a").unwrap().clone();
    assert_eq!((field.field_val.as_str(), field.field_val_len), ("", 1));
    assert!(output.stderr.contains("> x-a: (1 B)"));

    let (_, trace) = with("names");
    assert_eq!(trace.http_requests[0].req_header.get("x-a").unwrap().field_val_len, 0);
    let (output, trace) = with("off");
    assert!(trace.http_requests[0].req_header.is_empty() && !output.stderr.contains("x-a"));
}

#[test]
fn passwords_are_not_recorded() {
    let server = Server::answering(HELLO);
    let (output, trace) = traced(&format!("http://me:hunter2@{}/", server.addr()), &[]);
    exits_with(&output, 0);
    let json = serde_json::to_string(&trace).unwrap();
    assert!(!json.contains("hunter2") && !output.stderr.contains("hunter2"), "{json}{}", output.stderr);
    let received = String::from_utf8(server.seen()[0].received.clone()).unwrap();
    assert!(received.contains("authorization: Basic bWU6aHVudGVyMg=="), "{received}");
}

/// The arguments cannot be parsed, but their text must not be printed.
#[test]
fn passwords_are_not_in_error_messages() {
    let wrong: [&[&str]; 12] = [
        &["get", "http://joe:hunter2@[/"],
        &["get", "ftp://joe:hunter2@a.test/"],
        &["get", "joe:hunter2@"],
        &["get", r"http:\\joe:hunter2@[/"],
        &["get", "http://joe:hun/ter2#hunter2@[/"],
        &["get", "http://joe:", "hunter2@a.test/"],
        &["http://joe:hunter2@a.test/"],
        &["get", "http://a.test/", "-H", "Authorization Bearer hunter2"],
        &["get", "http://a.test/", "-H", "Authorization Bearer: hunter2"],
        &["get", "http://a.test/", "-H", "Authorization: hun\nter2"],
        &["get", "http://a.test/", "--header=hunter2"],
        &["get", "http://a.test/", "-H", "Authorization:", "Bearer", "hunter2"],
    ];
    for args in wrong {
        let output = run(args);
        exits_with(&output, 2);
        assert!(!output.stderr.contains("hunter2") && !output.stderr.contains("ter2"), "{}", output.stderr);
        assert!(!output.stderr.is_empty());
    }
    let long = format!("http://joe:hunter2@a.test/{}", "x".repeat(70_000));
    let output = run(["get", &long]);
    exits_with(&output, 2);
    assert!(!output.stderr.contains("hunter2"), "{}", output.stderr);
}

/// The secrets in the argument are masked.
#[test]
fn error_messages_name_the_wrong_argument() {
    for (args, expected) in [
        (&["get", "http://joe:hunter2@[/"][..], "'http://***@[/' for '<URL>'"),
        (&["get", "http://a.test/", "-H", "X-Key: a\nb"][..], "'x-key: ***' for '--header <NAME: VALUE>'"),
    ] {
        let output = run(args);
        assert!(output.stderr.contains(expected), "{}", output.stderr);
    }
}
