//! `nettrace doctor`: what it says about healthy and broken servers, and how it exits.

use crate::{command, exits_with, parse, reason, run, tls, without_terminal};
use nettrace::{NetTrace, record::EndReason};
use std::{
    future::pending,
    net::{SocketAddr, TcpListener},
    process::{Command, Stdio},
    sync::mpsc,
};
use test_support::{
    background::Background,
    check,
    dns::{Action, DnsServer, ReceivedQuery},
    lab::Ns,
    pki::Authority,
    process::Output,
    raw::{Refused, Server},
    require::require_lab,
};
use tokio::sync::watch;

const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello\n";

/// Runs `doctor` and returns its output and its trace, which must be consistent.
#[track_caller]
fn doctor(args: &[&str]) -> (Output, NetTrace) {
    doctor_in(&Ns::here(), args)
}

#[track_caller]
fn doctor_in(ns: &Ns, args: &[&str]) -> (Output, NetTrace) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("trace.json");
    let mut doctor = without_terminal(ns.command(env!("CARGO_BIN_EXE_nettrace")));
    doctor.arg("doctor").args(args).arg("--json").arg(&file);
    let output = test_support::process::run(doctor, crate::PATIENCE);
    let trace = parse(&std::fs::read_to_string(&file).unwrap());
    check::finished(&trace);
    (output, trace)
}

#[track_caller]
fn says(output: &Output, text: &str) {
    assert!(
        unwrapped(&output.stdout).contains(text),
        "{text:?} is not in\n{}{}",
        output.stdout,
        output.stderr
    );
}

/// Returns the text with each space or line break as one space.
fn unwrapped(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A nameserver that runs until this is dropped.
struct Nameserver {
    addr: String,
    _background: Background,
}

impl Nameserver {
    fn start<T: Into<Action>>(
        ns: &Ns,
        behaviour: impl Fn(&ReceivedQuery) -> T + Send + Sync + 'static,
    ) -> Nameserver {
        let (send, addr) = mpsc::channel();
        let background = Background::start(ns, move || async move {
            let server = DnsServer::start(behaviour).await;
            send.send(server.addr().to_string()).unwrap();
            pending().await
        });
        Nameserver { addr: addr.recv().unwrap(), _background: background }
    }

    fn answering(addresses: &'static [&'static str]) -> Nameserver {
        Self::start(&Ns::here(), move |query| query.addresses(addresses))
    }
}

fn both_loopbacks() -> Nameserver {
    Nameserver::answering(&["127.0.0.1", "::1"])
}

/// Returns listeners on one port of both loopback addresses.
fn listeners() -> (TcpListener, TcpListener) {
    loop {
        let v4 = TcpListener::bind("127.0.0.1:0").unwrap();
        // Another process may use the port of the other address.
        if let Ok(v6) = TcpListener::bind(("::1", v4.local_addr().unwrap().port())) {
            return (v4, v6);
        }
    }
}

fn answering(listener: TcpListener, response: &'static [u8]) -> Server {
    Server::on(listener, async move |mut conn| {
        loop {
            conn.read_head().await?;
            conn.write(response).await?;
        }
    })
}

fn url(host: &str, server: SocketAddr) -> String {
    format!("http://{host}:{}/", server.port())
}

#[test]
fn a_healthy_server_is_asked_four_times() {
    let (v4, v6) = listeners();
    let (v4, v6) = (answering(v4, HELLO), answering(v6, HELLO));
    let nameserver = both_loopbacks();
    let (output, trace) = doctor(&[&url("web.test", v4.addr()), "--nameserver", &nameserver.addr]);
    exits_with(&output, 0);
    let port = v4.addr().port();
    assert!(output.stdout.starts_with(&format!("GET http://web.test:{port}/\n")), "{}", output.stdout);
    let names = output.stdout.lines().nth(1).unwrap();
    assert!(["dns", "connect", "tls", "wait", "total"].iter().all(|name| names.contains(name)), "{names}");
    says(&output, &format!("IPv4 127.0.0.1:{port} · HTTP/1.1 new 200 OK"));
    says(&output, &format!("IPv6 [::1]:{port} · HTTP/1.1 new 200 OK"));
    says(
        &output,
        &format!(
            "Healthy: web.test:{port} answers 200 OK over IPv6 and IPv4, on new and reused connections."
        ),
    );
    assert_eq!(output.stdout.matches("  reused  200 OK").count(), 2, "{}", output.stdout);
    assert!(output.stdout.lines().take(7).all(|line| line.chars().count() <= 80), "{}", output.stdout);
    assert_eq!(trace.http_requests.len(), 4);
    assert_eq!(trace.tcp_conns.iter().filter(|conn| conn.connected).count(), 2);
    assert_eq!((v4.ended_blocking(1).len(), v6.ended_blocking(1).len()), (1, 1));
    assert!(!trace.tcp_conns[0].tcp_info.is_empty() || cfg!(not(target_os = "linux")));
    assert_eq!(trace.description, format!("GET http://web.test:{port}/"));
}

#[test]
fn one_family_can_fail_alone() {
    let (v4, v6) = listeners();
    let (v4, port) = (answering(v4, HELLO), v6.local_addr().unwrap());
    drop(v6);
    let _refused = Refused::on(&port.to_string());
    let nameserver = both_loopbacks();
    let (output, trace) = doctor(&[&url("web.test", v4.addr()), "--nameserver", &nameserver.addr]);
    exits_with(&output, 1);
    let expected = format!("IPv4 works, IPv6 fails: {port} refused the connection: nothing listens there.");
    says(&output, &format!("✗ tcp_refused {expected}"));
    says(&output, "failure: connection_refused");
    assert!(output.stdout.contains("  none    ✗ connection_refused"), "{}", output.stdout);
    assert_eq!(reason(&output), "1 of 3 requests failed");
    assert_eq!(trace.http_requests.len(), 3);
}

#[test]
fn a_family_without_address_is_no_error() {
    let server = Server::answering(HELLO);
    let nameserver = Nameserver::answering(&["127.0.0.1"]);
    let (output, trace) = doctor(&[&url("web.test", server.addr()), "--nameserver", &nameserver.addr]);
    exits_with(&output, 0);
    says(&output, "IPv6: no address (AAAA is empty)");
    says(&output, "answers 200 OK over IPv4, on new and reused connections.");
    assert_eq!(trace.http_requests.len(), 2);

    let args =
        [&url("web.test", server.addr()), "--nameserver", &nameserver.addr, "--source-ip", "127.0.0.1"];
    says(&doctor(&args).0, "IPv6: not tried, because --source-ip is an IPv4 address");
    // An address has one family, and there is nothing to say about the other.
    let (output, _) = doctor(&[&server.addr().to_string()]);
    exits_with(&output, 0);
    assert!(!output.stdout.contains("IPv6"), "{}", output.stdout);
}

#[test]
fn a_family_without_route_is_no_error() {
    require_lab!();
    let ns = Ns::new();
    let server = answering(ns.listen("127.0.0.1:80"), HELLO);
    let nameserver = Nameserver::start(&ns, |query| query.addresses(&["127.0.0.1", "2001:db8::1"]));
    let (output, trace) = doctor_in(&ns, &["http://web.test/", "--nameserver", &nameserver.addr]);
    exits_with(&output, 0);
    says(&output, "IPv6: not tried, because this host has no route to 2001:db8::1 (Network is unreachable");
    says(&output, "Healthy: web.test answers 200 OK over IPv4");
    assert_eq!(trace.http_requests.len(), 2);
    drop(server);
}

#[test]
fn an_expired_certificate_is_the_root() {
    let leaf = Authority::new("Root");
    let leaf = leaf.issue_with(&["127.0.0.1"], |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    let site = tls::site_of(&leaf, &leaf.pem);
    let url = format!("https://{}/", site.server.addr());
    let (output, trace) = doctor(&[&url, "--cacert", site.authority.to_str().unwrap()]);
    exits_with(&output, 1);
    says(&output, "✗ tls_expired The certificate of 127.0.0.1 expired on 2021-01-01.");
    says(&output, "new ✗ ssl_invalid_certificate");
    assert_eq!(reason(&output), "the request failed");
    assert_eq!(trace.http_requests.len(), 1);
}

#[test]
fn it_says_why_a_connection_was_not_used_again() {
    let closing: [(&[u8], &str); 2] = [
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
            "because the server asks to close it (Connection: close).",
        ),
        // The end of the connection is that of the body.
        (b"HTTP/1.1 200 OK\r\n\r\nok", "because the server closed it after the response."),
    ];
    for (response, why) in closing {
        let server = Server::start(async move |mut conn| {
            conn.read_head().await?;
            conn.write(response).await?;
            conn.finish().await?;
            conn.read_to_end().await
        });
        let (output, trace) = doctor(&[&server.addr().to_string()]);
        exits_with(&output, 0);
        says(&output, &format!("IPv4: the connection was not used again, {why}"));
        assert_eq!(trace.http_requests.len(), 2);
        says(&output, "answers 200 OK over IPv4, on new connections.");
    }
}

#[test]
fn a_second_request_can_fail_alone() {
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.write(HELLO).await?;
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await?;
        conn.close().await
    });
    let (output, _) = doctor(&[&server.addr().to_string()]);
    exits_with(&output, 1);
    says(&output, "✗ http_truncated A new connection works, and a second request fails: ");
    assert_eq!(reason(&output), "1 of 2 requests failed");
}

#[test]
fn a_silent_nameserver_is_the_root() {
    let nameserver = Nameserver::start(&Ns::here(), |_| Action::Silence);
    let (output, trace) =
        doctor(&["http://web.test/", "--nameserver", &nameserver.addr, "--timeout", "500ms"]);
    exits_with(&output, 1);
    says(&output, &format!("✗ dns_server_silent The nameserver {} did not answer", nameserver.addr));
    says(&output, "no connection none ✗ generic_timeout_error");
    assert_eq!(trace.http_requests[0].end_reason, Some(EndReason::Timeout));
}

#[test]
fn a_refused_port_is_the_root() {
    let refused = Refused::on("127.0.0.1:0");
    let (output, trace) = doctor(&[&refused.addr.to_string()]);
    exits_with(&output, 1);
    let expected = format!("✗ tcp_refused {} refused the connection: nothing listens there.", refused.addr);
    says(&output, &expected);
    assert_eq!(trace.http_requests.len(), 1);
}

#[test]
fn an_error_status_is_an_answer() {
    let answers: [(&[u8], &str); 3] = [
        (
            b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
            "Healthy: 127.0.0.1:PORT answers 404 Not Found over IPv4, on new and reused connections.",
        ),
        (
            b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n",
            "The connection works, but the server reports an error: 127.0.0.1:PORT answers 500 Internal Server Error over",
        ),
        (
            b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n",
            "! http_throttled The connection works, but the server answers with an error: 127.0.0.1 answered that it is overloaded",
        ),
    ];
    for (response, expected) in answers {
        let server = Server::answering(response);
        let (output, _) = doctor(&[&server.addr().to_string()]);
        exits_with(&output, 0);
        says(&output, &expected.replace("PORT", &server.addr().port().to_string()));
    }
}

#[test]
fn redirects_are_followed_and_counted() {
    let server = Server::start(async |mut conn| {
        while let Ok(head) = conn.read_head().await {
            let is_first = head.starts_with("GET / ");
            let redirect = b"HTTP/1.1 302 Found\r\nlocation: /second\r\ncontent-length: 0\r\n\r\n";
            conn.write(if is_first { redirect } else { HELLO }).await?;
        }
        Ok(())
    });
    let (output, trace) = doctor(&[&server.addr().to_string()]);
    exits_with(&output, 0);
    let remark = format!("1 redirect, the last one to http://{}/second", server.addr());
    assert_eq!(output.stdout.matches(&remark).count(), 2, "{}", output.stdout);
    says(&output, "on new and reused connections");
    assert_eq!((trace.http_requests.len(), trace.tcp_conns.len()), (4, 1));
}

#[test]
fn a_long_body_is_not_read_to_its_end() {
    let length = 64 << 20;
    let server = Server::start(async move |mut conn| {
        conn.read_head().await?;
        conn.write(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n").as_bytes()).await?;
        conn.write(&vec![0; length]).await
    });
    let (output, trace) = doctor(&[&server.addr().to_string()]);
    exits_with(&output, 0);
    says(&output, "Only the first 1 MiB of each body was read.");
    says(&output, "was not used again, because the rest of a long body was still to come.");
    says(&output, "answers 200 OK");
    let read = trace.http_requests[0].resp_content_len;
    assert!((1 << 20..2 << 20).contains(&read), "{read}");
}

#[test]
fn there_is_one_series_through_a_proxy() {
    let proxy = Server::answering(HELLO);
    let address = format!("http://joe:secret@{}", proxy.addr());
    let (output, trace) = doctor(&["http://web.test/", "--proxy", &address]);
    exits_with(&output, 0);
    says(&output, "The proxy chooses the address family: there is one series of requests.");
    says(&output, "Healthy: web.test answers 200 OK through the proxy http://***@127.0.0.1:");
    assert!(!output.stdout.contains("secret"), "{}", output.stdout);
    assert_eq!(trace.http_requests.len(), 2);
}

#[test]
fn header_fields_that_may_be_secret_are_not_recorded() {
    let server =
        Server::answering(b"HTTP/1.1 200 OK\r\nvia: 1.1 cache\r\nx-a: hunter2\r\ncontent-length: 0\r\n\r\n");
    let (output, trace) = doctor(&[&server.addr().to_string(), "-H", "x-b: hunter2", "-X", "HEAD"]);
    exits_with(&output, 0);
    let received = String::from_utf8(server.seen()[0].received.clone()).unwrap();
    assert!(received.starts_with("HEAD / ") && received.contains("x-b: hunter2\r\n"), "{received}");
    assert_eq!(trace.http_requests[0].resp_header.get("via").unwrap().field_val, "1.1 cache");
    assert!(!serde_json::to_string(&trace).unwrap().contains("hunter2"));
}

#[test]
fn ascii_output_goes_to_standard_error_if_json_goes_to_standard_output() {
    let refused = Refused::on("127.0.0.1:0");
    let output = run(["doctor", &refused.addr.to_string(), "--ascii", "--json", "-", "--precise"]);
    exits_with(&output, 1);
    assert_eq!(parse(&output.stdout).http_requests.len(), 1);
    assert!(
        output.stderr.is_ascii() && output.stderr.contains("\nx tcp_refused  127.0.0.1:"),
        "{}",
        output.stderr
    );
    assert!(output.stderr.ends_with("nettrace: the request failed\n"), "{}", output.stderr);
}

#[test]
fn unusable_arguments_exit_with_2() {
    let wrong: [&[&str]; 7] = [
        &[],
        &["ftp://example.com/"],
        &["http://"],
        &["http://h/", "--timeout", "soon"],
        &["http://h/", "--cacert", "/does/not/exist"],
        &["http://h/", "--json", "/does/not/exist"],
        &["http://h/", "--proxy", "ftp://p"],
    ];
    for args in wrong {
        let output = run(["doctor"].iter().chain(args));
        exits_with(&output, 2);
        assert_eq!(output.stdout, "", "{args:?}");
        assert!(!output.stderr.is_empty(), "{args:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn what_needs_a_privilege_is_said_to_be_unseen() {
    test_support::require::require_tool!("setpriv");
    let server = Server::answering(HELLO);
    let output = crate::probes::run_without("-net_admin,-net_raw", &["doctor", &server.addr().to_string()]);
    exits_with(&output, 0);
    says(&output, "not seen: NAT: reading its entries needs the capability CAP_NET_ADMIN");
    assert_eq!(output.stderr, "");
}

#[test]
fn an_interrupted_examination_says_what_it_has() {
    let (reached, mut is_reached) = watch::channel(false);
    let server = Server::start(async move |mut conn| {
        conn.read_head().await?;
        conn.write(HELLO).await?;
        conn.read_head().await?;
        reached.send_replace(true);
        conn.hang().await
    });
    let child = command(["doctor", &server.addr().to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    test_support::background::runtime().block_on(is_reached.wait_for(|reached| *reached)).unwrap();
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let (stdout, stderr) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!((output.status.code(), &*stderr), (Some(130), "nettrace: interrupted\n"), "{stdout}");
    assert!(stdout.contains("  reused  cancelled"), "{stdout}");
    let text = unwrapped(&stdout);
    // It is slow if it took far longer than the first request until the signal came.
    let is_healthy = text.contains("Interrupted. So far: Healthy: 127.0.0.1:");
    let is_slow = text.contains("✗ http_server_slow Interrupted. So far: 127.0.0.1:");
    assert!((is_healthy || is_slow) && !text.contains("caller_gave_up"), "{stdout}");
}
