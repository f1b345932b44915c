//! Drawings of stored traces: of the Go package, and of one in which everything happens.

use nettrace::view;

use crate::fixture::{EVERYTHING, PEER, block, line, read};

#[test]
fn a_trace_of_the_go_package() {
    let drawing = view::waterfall(&read(PEER[1])).to_string();
    let expected = "\
HTTPS h2 two requests on one connection · 2026-11-23T13:27:02.957886166Z · 2 requests · 1 connection

GET https://web.test/a · 200 OK                                                                 6 ms
  tid-12 · HTTP/2 · TLSv1.3 · new connection tid-18 10.77.1.2:60976 → 10.77.1.1:443
          0         2 ms      4 ms
  dns     ▏         ┊         ┊              <1 ms  web.test
    A     ▏         ┊         ┊              <1 ms  10.77.1.1:53 → 10.77.1.1
    AAAA  ▏         ┊         ┊              <1 ms  10.77.1.1:53 → none
  tcp     █████▏    ┊         ┊               1 ms  10.77.1.1:443
";
    assert_eq!(drawing.split("  tls").next().unwrap(), expected);
    let first = block(&drawing, "GET https://web.test/a");
    line(&first, &["  tls", "3 ms", "TLSv1.3 · TLS_AES_128_GCM_SHA256 · h2"]);
    line(&first, &["CN=web.test", "signed by"]);
    line(&first, &["  wait", "2 ms"]);
    line(&first, &["  receive", "626 B"]);
    let second = block(&drawing, "GET https://web.test/b");
    line(&second, &["HTTP/2 · TLSv1.3 · reused connection tid-18 (8 ms old) 10.77.1.2:60976 →"]);
    assert!(!second.iter().any(|line| line.starts_with("  dns") || line.starts_with("  tcp")));
}

#[test]
fn failed_requests_of_the_go_package_are_matched_with_their_dials() {
    let refused = view::waterfall(&read(PEER[5])).to_string();
    let refused = block(&refused, "GET http://web.test:81/ · ✗ failed");
    line(&refused, &["    A", "10.77.1.1:53 → 10.77.1.1"]);
    line(&refused, &["  tcp", "10.77.1.1:81 · ✗ failed"]);
    line(&refused, &["  ✗ failed: dial tcp 10.77.1.1:81: connect: connection refused"]);

    let unknown = view::waterfall(&read(PEER[7])).to_string();
    let unknown = block(&unknown, "GET http://nx.test/ · ✗ failed");
    line(&unknown, &["    A ", "✗ NXDOMAIN"]);
    line(&unknown, &["    AAAA", "✗ NXDOMAIN"]);
    line(&unknown, &["  dns", "nx.test · ✗ failed"]);
    line(&unknown, &["no connection"]);

    let untrusted = view::waterfall(&read(PEER[3])).width(140).to_string();
    let untrusted = block(&untrusted, "GET https://web.test:444/");
    line(&untrusted, &["  tls", "CN=gopeer untrusted CA,O=gopeer signed by itself"]);
    line(&untrusted, &["  ✗ failed: tls: failed to verify certificate"]);
}

#[test]
fn hops_of_a_redirect_follow_each_other() {
    let drawing = view::waterfall(&read(PEER[4])).to_string();
    let last = block(&drawing, "↳ GET http://other.test/final · 200 OK");
    assert_eq!(last.last(), Some(&"  1 redirect followed, 1 ms in all"));
    assert!(drawing.find("http://web.test/redir · 302 Found") < drawing.find("↳"));

    let drawing = view::waterfall(&read(EVERYTHING)).to_string();
    let titles: Vec<_> =
        drawing.lines().filter(|line| !line.is_empty() && !line.starts_with(' ')).skip(1).collect();
    let starts = [
        "POST https://shop.test:8443/old",
        "↳ GET https://shop.test:8443/new",
        "GET https://bad.test/",
        "GET https://shop.test:8443/cut",
        "dial db.internal:5432",
        "look up alone.test",
        "GET http://nx.test/",
        "GET http://slow.test/",
    ];
    assert_eq!(titles.len(), starts.len(), "{titles:#?}");
    for (title, start) in titles.iter().zip(starts) {
        assert!(title.starts_with(start), "{title} {start}");
    }
}

#[test]
fn everything_that_happened_is_drawn() {
    let drawing = view::waterfall(&read(EVERYTHING)).width(160).to_string();
    let first = block(&drawing, "POST https://shop.test:8443/old · 302 Found");
    assert!(first[0].ends_with("71.4 ms"));
    for parts in [
        &["  dns", "24.8 ms", "shop.test"][..],
        &["    A ", "9.10 ms", "127.0.0.9:53 · truncated"],
        &["127.0.0.9:53 · reply ignored: id mismatch"],
        &["    AAAA", "8.10 ms", "→ lb.shop.test → 2001:db8::17"],
        &["    ✗", "127.0.0.8:53 · ✗ connection_refused: Connection refused (os error 111)"],
        &["    A ", "14.2 ms", "tcp 127.0.0.9:53 → lb.shop.test → 127.0.0.2, 127.0.0.1"],
        &["8.8.8.8:53 skipped: loopback only"],
        &["  tcp", "300 µs", "127.0.0.2:8443 · ✗ connection_refused: Connection refused (os error 111)"],
        &["  tcp", "5.80 ms", "[2001:db8::17]:8443 · lost the race"],
        &["  tcp", "1.20 ms", "127.0.0.1:8443"],
        &["  tls", "8.60 ms", "TLSv1.3 · TLS_AES_128_GCM_SHA256 · X25519MLKEM768 · h2"],
        &["  send", "4.50 ms", "51.2 kB"],
        &["  wait", "25.5 ms", "100 Continue after 5.50 ms · first byte after 23.5 ms"],
        &["  receive", "1.30 ms", "46 B"],
    ] {
        line(&first, parts);
    }
    let again = block(&drawing, "↳ GET https://shop.test:8443/new");
    line(&again, &["  receive", "12.3 MB, decoded 51.2 MB · 1 trailer"]);
    line(&again, &["sent again: the kept connection c0 was closed by then · ✗ eof_error"]);
    let tls = block(&drawing, "GET https://bad.test/ · ✗ ssl_unknown_authority");
    line(&tls, &["  tls", "278 ms", "X25519 · CN=bad.test"]);
    line(&tls, &["CN=Somebody,O=Elsewhere · alert sent unknown ca · ✗ ssl_unknown_authority"]);
    line(&tls, &["  ✗ ssl_unknown_authority: connecting to bad.test:443 failed"]);
    let cut = block(&drawing, "GET https://shop.test:8443/cut · 200 OK · ✗ connection_reset");
    line(&cut, &["  blocked", "150 ms", "waiting for a connection"]);
    line(&cut, &["  receive", "34.5 kB · ✗ connection_reset"]);
    let dial = block(&drawing, "dial db.internal:5432 · connected");
    line(&dial, &["10.0.0.9:5432 · 1.23 kB sent, 4.56 MB received · open for 1.18 s"]);
    line(&dial, &["  ✗ connection_reset: Connection reset by peer (os error 104)"]);
    line(&block(&drawing, "look up alone.test"), &["    AAAA", "127.0.0.9:53 ✗ SERVFAIL"]);
    let unknown = block(&drawing, "GET http://nx.test/ · ✗ dns_nxdomain_error");
    line(&unknown, &["    A ", "nx.test.corp.example · no reply · ✗ generic_timeout_error"]);
    let running = block(&drawing, "GET http://slow.test/ · still running");
    line(&running, &["  tcp", "10.0.0.10:80 · still connecting"]);
    assert!(drawing.contains("keeps only so much: 12 requests, 1 socket operation."));
}
