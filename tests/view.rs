//! The waterfall, drawn from stored and generated traces.

use nettrace::{NetTrace, view};
use proptest::prelude::*;
use serde_json::{Value, json};

const PEER: &[&str] = &[
    include_str!("data/peer-json/i-plain-http.json"),
    include_str!("data/peer-json/ii-https-h2.json"),
    include_str!("data/peer-json/iii-nat-conntrack.json"),
    include_str!("data/peer-json/iv-tls-untrusted.json"),
    include_str!("data/peer-json/ix-redirect.json"),
    include_str!("data/peer-json/v-refused.json"),
    include_str!("data/peer-json/vi-cname.json"),
    include_str!("data/peer-json/vi-nxdomain.json"),
    include_str!("data/peer-json/viii-connect-proxy.json"),
    include_str!("data/peer-json/x-post.json"),
];
const EVERYTHING: &str = include_str!("data/everything.json");
const FULL: &str = include_str!("data/full.json");

fn read(json: &str) -> NetTrace {
    serde_json::from_str(json).unwrap()
}

fn all() -> impl Iterator<Item = NetTrace> {
    PEER.iter().copied().chain([EVERYTHING, FULL]).map(read)
}

fn of(value: Value) -> NetTrace {
    serde_json::from_value(value).unwrap()
}

/// The lines from the one that begins so to the next empty one.
fn block<'a>(drawing: &'a str, begin: &str) -> Vec<&'a str> {
    let from = drawing.lines().skip_while(|line| !line.starts_with(begin));
    let block: Vec<_> = from.take_while(|line| !line.is_empty()).collect();
    assert!(!block.is_empty(), "{begin:?} is not in\n{drawing}");
    block
}

/// The only line that has all of these in it.
#[track_caller]
fn line<'a>(lines: &[&'a str], parts: &[&str]) -> &'a str {
    let found: Vec<_> = lines.iter().filter(|line| parts.iter().all(|part| line.contains(part))).collect();
    assert_eq!(found.len(), 1, "{parts:?} in\n{}", lines.join("\n"));
    found[0]
}

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

/// A request through an HTTPS proxy: its connection, and what was made of that, in the order in which it happened.
fn proxied() -> Value {
    json!({
        "traceBeginAt": "2026-01-01T00:00:00Z", "traceEndAt": "+50ms",
        "dials": [{"traceID": "d", "triggeredBy": "r", "dstAddress": "10.0.0.1:3129", "dialBeginAt": "+0ms",
                   "dialEndAt": "+1ms", "establishedConn": "c", "endReason": "closed"}],
        "tcpConns": [{"traceID": "c", "fromDial": "d", "connected": true, "handshakeBeginAt": "+0ms",
                      "handshakeEndAt": "+1ms", "addrTuple": {"dstIP": "10.0.0.1", "dstPort": 3129}}],
        "tlsTunnels": [
            {"traceID": "s", "tcpConn": "c", "handshakeBeginAt": "+20ms", "handshakeEndAt": "+30ms",
             "tlsVersion": "TLSv1.2", "serverName": "web.test"},
            {"traceID": "p", "tcpConn": "c", "handshakeBeginAt": "+1ms", "handshakeEndAt": "+5ms",
             "tlsVersion": "TLSv1.3", "serverName": "proxy.test"},
        ],
        "httpRequests": [
            {"traceID": "r", "tcpConn": "c", "tlsTunnel": "s", "proxyTLSTunnel": "p", "reqMethod": "GET",
             "reqURL": "https://web.test/", "networkProxy": "https://***@proxy.test:3129", "reqSentAt": "+0ms",
             "connAcquiredAt": "+30ms", "respRecvAt": "+40ms", "endAt": "+45ms", "respStatusCode": 200,
             "endReason": "closed", "protoMajor": 1, "protoMinor": 1},
            {"traceID": "k", "tcpConn": "c", "proxyTLSTunnel": "p", "triggeredBy": "r", "reqMethod": "CONNECT",
             "reqURL": "web.test:443", "networkProxy": "https://***@proxy.test:3129", "reqSentAt": "+5ms",
             "connAcquiredAt": "+5ms", "respRecvAt": "+20ms", "endAt": "+20ms", "respStatusCode": 200,
             "endReason": "closed", "protoMajor": 1, "protoMinor": 1, "respHeader": [{"fieldName": "via"}]},
        ],
    })
}

#[test]
fn the_way_through_a_proxy() {
    let trace = of(proxied());
    let drawing = view::waterfall(&trace).headers(true).to_string();
    assert!(drawing.lines().next().unwrap().ends_with("· 1 request · 1 connection"), "{drawing}");
    let block = block(&drawing, "GET https://web.test/ · 200 OK");
    line(&block, &["through", "https://***@proxy.test:3129"]);
    let steps = ["  tcp ", "  tls ", "  proxy ", "  tls ", "  wait "];
    let rows = block.iter().filter(|line| steps.iter().any(|step| line.starts_with(step)));
    assert!(rows.map(|line| &line[..6]).eq(steps.map(|step| &step[..6])), "{drawing}");
    line(&block, &["  tls", "4 ms", "with the proxy · TLSv1.3"]);
    line(&block, &["  proxy", "15 ms", "CONNECT web.test:443 · 200 OK"]);
    line(&block, &["< via"]);
    assert_eq!(drawing.matches("CONNECT").count(), 1);
    assert!(trace.http_requests[0].timings(&trace).to_string().contains(" · proxy 15.0 ms · tls 14.0 ms · "));

    // A CONNECT that is under way, that failed, and one whose request is not there.
    let mut trace = proxied();
    for field in ["respStatusCode", "respRecvAt", "endAt", "endReason"] {
        trace["httpRequests"][1].as_object_mut().unwrap().remove(field);
    }
    let drawing = view::waterfall(&of(trace.clone())).to_string();
    assert!(drawing.contains("CONNECT web.test:443 · no answer yet"), "{drawing}");
    trace["httpRequests"][1]["failure"] = json!("eof_error");
    trace["httpRequests"][1]["reqError"] = json!("it hung up");
    let drawing = view::waterfall(&of(trace)).width(140).to_string();
    assert!(drawing.contains("CONNECT web.test:443 · ✗ eof_error: it hung up"), "{drawing}");
    let mut trace = proxied();
    trace["httpRequests"].as_array_mut().unwrap().remove(0);
    assert!(view::waterfall(&of(trace)).to_string().contains("\nCONNECT web.test:443 · 200 OK"));
}

#[test]
fn the_way_through_a_socks_proxy() {
    let mut trace = proxied();
    trace["httpRequests"].as_array_mut().unwrap().pop();
    trace["tcpConns"][0]["socks"] = json!({"target": "web.test:443", "handshakeBeginAt": "+5ms", "handshakeEndAt": "+9ms", "endReason": "closed"});
    let drawing = view::waterfall(&of(trace.clone())).to_string();
    line(&block(&drawing, "GET"), &["  proxy", "4 ms", "SOCKS5 to web.test:443"]);
    let timings = of(trace.clone());
    assert!(timings.http_requests[0].timings(&timings).to_string().contains(" · proxy 4.0 ms · "));
    trace["tcpConns"][0]["socks"]["failure"] = json!("x_proxy_refused");
    trace["tcpConns"][0]["socks"]["handshakeErr"] = json!("host unreachable");
    let drawing = view::waterfall(&of(trace)).width(140).to_string();
    assert!(drawing.contains("SOCKS5 to web.test:443 · ✗ x_proxy_refused: host unreachable"), "{drawing}");
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

#[test]
fn columns_are_aligned_and_lines_no_longer_than_asked_for() {
    for trace in all() {
        for width in [60, 80, 100, 133, 200] {
            let bar = ((width - 21) * 2 / 5usize).clamp(12, 72);
            let drawing = view::waterfall(&trace).width(width).to_string();
            for line in drawing.lines() {
                let chars: Vec<char> = line.chars().collect();
                let is_title = !line.starts_with(' ');
                assert!(is_title || chars.len() <= width, "{width}: {line}");
                let is_row = line.starts_with("  ")
                    && ["dns", "tcp", "tls", "wait"].contains(&line[2..].split(' ').next().unwrap());
                if is_row {
                    assert_eq!(chars[9], ' ', "{line}");
                    let after_bar: String = chars[10 + bar..].iter().take(9).collect();
                    assert!(after_bar.ends_with('s') && after_bar.starts_with(' '), "{width}: {line}");
                    assert!(chars[19 + bar..].iter().take(2).all(|c| *c == ' '), "{width}: {line}");
                }
            }
        }
    }
}

#[test]
fn bars_are_to_scale() {
    let ms = |at: u64| format!("+{at}ms");
    let trace = of(json!({
        "traceBeginAt": "2026-01-01T00:00:00Z", "traceEndAt": ms(400),
        "httpRequests": [{
            "traceID": "r", "reqMethod": "PUT", "reqURL": "http://h/", "reqContentLen": 1, "respStatusCode": 200,
            "reqSentAt": ms(100), "connAcquiredAt": ms(180), "reqBodyEndAt": ms(220), "respRecvAt": ms(300),
            "respBodyEndAt": ms(420), "endAt": ms(420), "endReason": "closed",
        }],
    }));
    // 320 ms on 64 columns.
    let drawing = view::waterfall(&trace).width(181).to_string();
    let block = block(&drawing, "PUT http://h/");
    for (label, begin, length) in [("blocked", 0, 16), ("send", 16, 8), ("wait", 24, 16), ("receive", 40, 24)]
    {
        let row: Vec<char> = line(&block, &[&format!("  {label} ")]).chars().skip(10).take(64).collect();
        let drawn: String = row.iter().map(|c| if *c == '█' { '█' } else { ' ' }).collect();
        assert_eq!(
            drawn,
            format!("{:begin$}{}{:rest$}", "", "█".repeat(length), "", rest = 64 - begin - length)
        );
    }
}

#[test]
fn colours_and_ascii_when_asked_for() {
    for trace in all() {
        let lines = view::waterfall(&trace).to_string().lines().count();
        for (color, ascii) in [(false, false), (true, false), (false, true), (true, true)] {
            let drawing = view::waterfall(&trace).color(color).ascii(ascii).to_string();
            assert_eq!(drawing.contains("\x1b["), color);
            assert_eq!(drawing.is_ascii(), ascii);
            assert_eq!(drawing.lines().count(), lines);
            assert!(drawing.ends_with('\n'));
        }
    }
    let red = view::waterfall(&read(PEER[5])).color(true).to_string();
    assert!(red.contains("\x1b[1;31m✗ failed\x1b[0m\x1b[31m: dial tcp"), "{red}");
}

#[test]
fn headings_and_header_fields() {
    let trace = read(PEER[9]);
    assert!(
        view::waterfall(&trace).to_string().starts_with("POST with a body · 2026-11-23T13:27:09.879696733Z")
    );
    assert!(view::waterfall(&trace).heading(false).to_string().starts_with("POST http://web.test/post"));
    assert!(!view::waterfall(&trace).to_string().contains("Content-Type"));
    let drawing = view::waterfall(&trace).headers(true).to_string();
    let block = block(&drawing, "POST http://web.test/post");
    line(&block, &["  > Content-Type: text/plain"]);
    line(&block, &["  < Content-Length: 626"]);
}

#[test]
fn nothing_is_something_to_say_too() {
    assert_eq!(view::waterfall(&NetTrace::default()).heading(false).to_string(), "Nothing was traced.\n");
    assert_eq!(
        view::waterfall(&NetTrace::default()).to_string(),
        "0 requests · 0 connections\n\nNothing was traced.\n"
    );
}

#[test]
fn a_long_trace_is_drawn_in_no_time() {
    let request = |at: usize| {
        json!({"traceID": format!("r{at}"), "tcpConn": "c", "reqURL": "http://h/", "reqSentAt": format!("+{at}ms"),
               "respRecvAt": format!("+{at}ms"), "respStatusCode": 302,
               "respHeader": [{"fieldName": "location", "fieldVal": "http://h/"}]})
    };
    let dial = |at: usize| json!({"traceID": format!("d{at}"), "dstAddress": "h:80", "dialBeginAt": format!("+{at}ms")});
    let tunnel = |at: usize| json!({"traceID": format!("t{at}"), "tcpConn": "none"});
    let query =
        |at: usize| json!({"traceID": format!("q{at}"), "dnsQueryMsgs": [{"sentAt": format!("+{at}ms")}]});
    let many = |make: &dyn Fn(usize) -> Value| (0..5000).map(make).collect::<Vec<_>>();
    let trace = of(json!({
        "httpRequests": many(&request), "dials": many(&dial), "tlsTunnels": many(&tunnel), "dnsQueries": many(&query),
        "tcpConns": [{"traceID": "c"}],
    }));
    let begin = std::time::Instant::now();
    assert!(view::waterfall(&trace).to_string().lines().count() > 20_000);
    // What takes a time that grows with the square would take minutes.
    assert!(begin.elapsed().as_secs() < 20, "{:?}", begin.elapsed());
}

/// Returns the control characters of a drawing, without the colour codes that the drawing itself uses.
fn harmful(drawing: &str) -> String {
    let mut rest = drawing.to_owned();
    for code in ["0", "1", "1;31", "31", "32", "33", "34", "35", "36", "90", "94"] {
        rest = rest.replace(&format!("\x1b[{code}m"), "");
    }
    rest.chars().filter(|c| (c.is_control() && *c != '\n') || ('\u{202a}'..='\u{202e}').contains(c)).collect()
}

#[test]
fn what_comes_from_the_network_cannot_control_the_terminal() {
    fn poison(value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(poison),
            Value::Object(fields) => fields.values_mut().for_each(poison),
            Value::String(text) if text.parse::<nettrace::Timestamp>().is_err() => {
                text.push_str("\x1b]0;owned\x07\u{9b}31m\r\n\u{202e}");
            }
            _ => {}
        }
    }
    for json in PEER.iter().copied().chain([EVERYTHING, FULL]) {
        let mut value: Value = serde_json::from_str(json).unwrap();
        poison(&mut value);
        let trace = of(value);
        for color in [false, true] {
            let drawing = view::waterfall(&trace).color(color).headers(true).to_string();
            assert_eq!(harmful(&drawing), "", "{drawing:?}");
        }
    }
}

/// Replaces every time by one of `times`, and forgets every fourth text that is none.
fn distort(value: &mut Value, times: &mut impl Iterator<Item = usize>) {
    const ODD: &[&str] = &[
        "undefined",
        "+0ms",
        "+1ms",
        "+3.000001ms",
        "+18446744073709ms",
        "+999999999999999999ms",
        "0001-01-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "1969-12-31T23:59:59.999999999Z",
        "2026-11-23T13:27:07.268Z",
        "9999-12-31T23:59:59.999999999Z",
    ];
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| distort(item, times)),
        Value::Object(fields) => fields.values_mut().for_each(|field| distort(field, times)),
        Value::String(text) => {
            let pick = times.next().unwrap();
            if text.parse::<nettrace::Timestamp>().is_ok() {
                *text = ODD[pick % ODD.len()].into();
            } else if pick.is_multiple_of(4) {
                text.clear();
            }
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn odd_traces_are_drawn_as_well_as_can_be(
        which in 0..PEER.len() + 2,
        picks in prop::collection::vec(0usize..1000, 64),
        width in 0usize..300,
    ) {
        let json = PEER.iter().copied().chain([EVERYTHING, FULL]).nth(which).unwrap();
        let mut value: Value = serde_json::from_str(json).unwrap();
        distort(&mut value, &mut picks.into_iter().cycle());
        let trace = of(value);
        let drawing = view::waterfall(&trace).width(width).headers(true).to_string();
        prop_assert_eq!(harmful(&drawing), "");
        for url in trace.http_requests.iter().map(|request| &request.req_url) {
            prop_assert!(drawing.contains(url.as_str()));
        }
    }
}

#[test]
fn what_the_kernel_says_of_a_connection() {
    let trace = read(
        r#"{"traceBeginAt": "2026-11-23T13:27:01Z", "traceEndAt": "+900ms", "dials": [
          {"traceID": "d", "dialBeginAt": "+0ms", "dialEndAt": "+90ms", "dstAddress": "h:80", "establishedConn": "good"}
        ], "tcpConns": [
          {"traceID": "bad", "fromDial": "d", "handshakeBeginAt": "+0ms", "handshakeEndAt": "+50ms",
           "handshakeErr": "host unreachable (ICMP type 3 code 1) said by 10.0.0.1: No route to host (os error 113)",
           "failure": "host_unreachable", "endReason": "failed", "addrTuple": {"dstIP": "10.0.0.2", "dstPort": 80},
           "tcpInfo": [{"at": "+50ms", "event": "connect-failed", "totalRetrans": 2}],
           "icmpError": {"origin": "10.0.0.1", "type": 3, "code": 1}},
          {"traceID": "good", "fromDial": "d", "handshakeBeginAt": "+50ms", "handshakeEndAt": "+90ms",
           "connected": true, "connCloseAt": "+800ms", "endReason": "closed",
           "addrTuple": {"srcIP": "10.0.0.9", "srcPort": 4, "dstIP": "10.0.0.3", "dstPort": 80},
           "conntrack": {"addrOrig": {"srcIP": "10.0.0.9", "srcPort": 4, "dstIP": "10.0.0.3", "dstPort": 80},
                         "addrReply": {"srcIP": "10.0.0.3", "srcPort": 80, "dstIP": "192.0.2.7", "dstPort": 5}},
           "tcpInfo": [{"at": "+90ms", "event": "connected", "rttUs": 39000, "totalRetrans": 0},
                       {"at": "+800ms", "event": "closing", "rttUs": 41234, "totalRetrans": 7}]}
        ]}"#,
    );
    let drawing = view::waterfall(&trace).width(160).to_string();
    let dial = block(&drawing, "dial h:80 · connected");
    line(&dial, &["good 10.0.0.9:4 → 10.0.0.3:80", "· NAT 192.0.2.7:5 → 10.0.0.3:80 · rtt 41.2 ms"]);
    line(&dial, &["· rtt 41.2 ms · 7 segments sent again · open for"]);
    line(&dial, &["10.0.0.2:80 · 2 SYNs sent again · ✗ host_unreachable: host unreachable (ICMP type 3"]);
    line(&dial, &["code 1) said by 10.0.0.1: No route to host (os error 113)"]);
    line(&dial, &["  tcp", "40 ms  10.0.0.3:80"]);
}

/// Times in milliseconds, the names of dials and connections being those of their addresses.
fn dial(name: &str, cause: &str, at: u64) -> [Value; 2] {
    let (begin, end) = (format!("+{at}.5ms"), format!("+{}ms", at + 2));
    [
        json!({"traceID": format!("dial-{name}"), "triggeredBy": cause, "dstAddress": format!("{name}.test:80"),
               "dialBeginAt": begin, "resolveBeginAt": begin, "resolveEndAt": format!("+{}ms", at + 1),
               "dialEndAt": end, "endReason": "closed", "establishedConn": name}),
        json!({"traceID": name, "fromDial": format!("dial-{name}"), "connected": true, "handshakeBeginAt":
               format!("+{}ms", at + 1), "handshakeEndAt": end, "totalSentBytes": 5,
               "addrTuple": {"srcIP": "10.0.0.9", "srcPort": 4, "dstIP": name, "dstPort": 80}}),
    ]
}

fn get(id: &str, conn: &str, sent: u64) -> Value {
    json!({"traceID": id, "tcpConn": conn, "reqMethod": "GET", "reqURL": format!("http://h/{id}"), "reqSentAt":
           format!("+{sent}ms"), "connAcquiredAt": format!("+{}ms", sent + 4), "respRecvAt": format!("+{}ms", sent + 5),
           "respBodyEndAt": format!("+{}ms", sent + 6), "endAt": format!("+{}ms", sent + 6), "endReason": "closed",
           "respStatusCode": 200})
}

fn drawn(dials: impl IntoIterator<Item = [Value; 2]>, requests: impl IntoIterator<Item = Value>) -> String {
    let (dials, conns): (Vec<_>, Vec<_>) = dials.into_iter().map(|[dial, conn]| (dial, conn)).unzip();
    let requests: Vec<_> = requests.into_iter().collect();
    let trace = json!({"traceBeginAt": "2026-01-01T00:00:00Z", "traceEndAt": "+900ms", "dials": dials,
                       "tcpConns": conns, "httpRequests": requests});
    view::waterfall(&of(trace)).width(140).to_string()
}

#[test]
fn a_dial_that_no_request_caused_is_drawn_with_the_first_that_used_it() {
    let drawing = drawn([dial("10.0.0.1", "", 1)], [get("r2", "10.0.0.1", 80), get("r1", "10.0.0.1", 30)]);
    let first = block(&drawing, "GET http://h/r1");
    line(&first, &["  dialled 28.5 ms before this request to 10.0.0.1.test:80 · dial-10.0.0.1 · 1.50 ms"]);
    line(&first, &["  dns", "500 µs"]);
    line(&first, &["  tcp", "1.00 ms  10.0.0.1:80"]);
    assert!(
        first.iter().position(|line| line.starts_with("  wait"))
            < first.iter().position(|line| line.starts_with("  dialled"))
    );
    assert!(first[0].ends_with("6.00 ms"), "the time of the request is its own: {}", first[0]);
    line(&first, &[" · connection 10.0.0.1 (27.0 ms old)"]);
    let second = block(&drawing, "GET http://h/r2");
    assert!(!second.iter().any(|line| line.contains("dialled") || line.starts_with("  tcp")), "{drawing}");
}

#[test]
fn every_dial_is_drawn_once() {
    let connect = json!({"traceID": "connect", "tcpConn": "10.0.0.5", "reqMethod": "CONNECT", "reqURL": "web.test:443",
        "networkProxy": "http://proxy.test", "triggeredBy": "own", "reqSentAt": "+300ms", "respStatusCode": 200});
    let mut accepted = get("accepted", "10.0.0.6", 400);
    accepted["accepted"] = json!(true);
    let mut forward = get("forward", "10.0.0.4", 90);
    forward["prevHop"] = json!("connect");
    let dials = [
        dial("10.0.0.1", "own", 1),
        dial("10.0.0.2", "", 20),
        dial("10.0.0.3", "gone", 40),
        dial("10.0.0.4", "accepted", 60),
        dial("10.0.0.5", "connect", 80),
        dial("10.0.0.6", "", 100),
        dial("10.0.0.7", "", 120),
        // The request that caused it got another connection.
        dial("10.0.0.8", "own", 2),
    ];
    let requests = [
        get("own", "10.0.0.1", 0),
        get("later", "10.0.0.2", 30),
        get("again", "10.0.0.2", 60),
        get("other", "10.0.0.3", 70),
        forward,
        connect,
        accepted,
    ];
    let drawing = drawn(dials, requests);
    for at in 1..=8 {
        let row = format!("1.00 ms  10.0.0.{at}:80");
        assert_eq!(drawing.matches(&row).count(), 1, "{row} in\n{drawing}");
    }
    for (request, dials) in
        [("own", &[1, 8][..]), ("later", &[2]), ("again", &[]), ("other", &[3]), ("forward", &[4])]
    {
        let block = block(&drawing, &format!("GET http://h/{request}"));
        let rows = block.iter().filter(|line| line.starts_with("  tcp")).count();
        assert_eq!(rows, dials.len(), "{request} in\n{drawing}");
        for at in dials {
            line(&block, &["  tcp", &format!("10.0.0.{at}:80")]);
        }
    }
    for (at, dial) in ["5", "6", "7"].iter().enumerate() {
        let block = block(&drawing, &format!("dial 10.0.0.{dial}.test:80 · connected"));
        assert_eq!(
            block.iter().filter(|line| line.contains("CONNECT web.test:443")).count(),
            usize::from(at == 0)
        );
    }
    assert_eq!(
        drawing.matches("dialled 29.5 ms before this request to 10.0.0.3.test:80 for gone · ").count(),
        1
    );
    assert_eq!(drawing.matches("CONNECT").count(), 1, "{drawing}");
}

#[test]
fn requests_that_cause_each_other_are_drawn() {
    let connect = |id: &str, cause: &str, conn: &str| {
        json!({"traceID": id, "tcpConn": conn, "reqMethod": "CONNECT", "reqURL": format!("{id}:443"), "networkProxy":
               "http://proxy.test", "triggeredBy": cause, "prevHop": cause, "reqSentAt": "+300ms"})
    };
    let (a, b) = (connect("a", "b", "10.0.0.1"), connect("b", "a", "10.0.0.2"));
    for dials in
        [vec![], vec![dial("10.0.0.1", "a", 1)], vec![dial("10.0.0.1", "b", 1), dial("10.0.0.2", "a", 2)]]
    {
        let conns = dials.len();
        let drawing = drawn(dials, [a.clone(), b.clone(), connect("self", "self", "")]);
        for id in ["a", "b", "self"] {
            assert_eq!(drawing.matches(&format!("CONNECT {id}:443")).count(), 1, "{id} in\n{drawing}");
        }
        assert_eq!(drawing.matches("1.00 ms  10.0.0.").count(), conns, "{drawing}");
    }
    // Several records with one identifier are several records.
    let drawing = drawn(
        [dial("10.0.0.1", "", 1)],
        [connect("x", "x", "10.0.0.1"), get("x", "10.0.0.1", 4), get("x", "", 9)],
    );
    assert_eq!(
        (drawing.matches("GET http://h/x").count(), drawing.matches("CONNECT x:443").count()),
        (2, 1),
        "{drawing}"
    );
}

#[test]
fn what_was_not_observed_is_not_shown_as_zero() {
    for changes in [
        json!({"endReason": "unobserved"}),
        json!({"bytesUnobserved": true, "endReason": "closed", "connCloseAt": "+4ms"}),
    ] {
        let [dial, mut conn] = dial("10.0.0.1", "", 1);
        conn["totalSentBytes"] = json!(0);
        conn.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let drawing = drawn([[dial, conn]], []);
        let block = block(&drawing, "dial 10.0.0.1.test:80 · connected");
        let facts = line(&block, &["10.0.0.9:4 → 10.0.0.1:80 · bytes not observed · "]);
        assert!(
            facts.ends_with(if conn_is_closed(&changes) { "open for 1.00 ms" } else { "close not observed" }),
            "{facts}"
        );
        assert!(!drawing.contains("0 B") && !drawing.contains("still open"), "{drawing}");
    }
    // One that is open and quiet is just that.
    let [dial, mut conn] = dial("10.0.0.1", "", 1);
    conn["totalSentBytes"] = json!(0);
    assert!(drawn([[dial, conn]], []).contains("0 B sent, 0 B received · still open"));

    // A hop that a foreign client made: it does not say when it had a connection, nor what came.
    let mut hop = get("hop", "", 10);
    for field in ["connAcquiredAt", "respBodyEndAt"] {
        hop.as_object_mut().unwrap().remove(field);
    }
    hop["respStatusCode"] = json!(302);
    let drawing = drawn([], [hop.clone()]);
    let block = block(&drawing, "GET http://h/hop · 302 Found");
    assert!(!drawing.contains("0 B") && !drawing.contains("no connection"), "{drawing}");
    line(&block, &["connection not known"]);
    line(&block, &["  wait", "5 ms"]);
    let trace = of(json!({"httpRequests": [hop]}));
    assert_eq!(trace.http_requests[0].timings(&trace).to_string(), "total 6.0 ms");
}

fn conn_is_closed(conn: &Value) -> bool {
    conn.get("connCloseAt").is_some()
}

#[test]
fn a_handshake_that_includes_the_look_up_says_so() {
    // A foreign connector, whose resolver was not seen.
    let foreign = |address: &str| {
        let [mut dial, mut conn] = dial("10.0.0.1", "r", 1);
        for field in ["resolveBeginAt", "resolveEndAt"] {
            dial.as_object_mut().unwrap().remove(field);
        }
        dial["dstAddress"] = json!(address);
        conn["handshakeBeginAt"] = dial["dialBeginAt"].clone();
        [dial, conn]
    };
    let timings = |[dial, conn]: [Value; 2]| {
        let trace =
            of(json!({"dials": [dial], "tcpConns": [conn], "httpRequests": [get("r", "10.0.0.1", 0)]}));
        trace.http_requests[0].timings(&trace).to_string()
    };
    let drawing = drawn([foreign("web.test:80")], [get("r", "10.0.0.1", 0)]);
    line(&block(&drawing, "GET"), &["  tcp+dns ", "1.50 ms  10.0.0.1:80 · includes name lookup"]);
    assert!(timings(foreign("web.test:80")).contains(" · connect with dns 1.5 ms · "));
    for address in ["10.0.0.1:80", "[2001:db8::1]:80", ":80", ""] {
        let drawing = drawn([foreign(address)], [get("r", "10.0.0.1", 0)]);
        line(&block(&drawing, "GET"), &["  tcp ", "1.50 ms  10.0.0.1:80"]);
        assert!(!drawing.contains("lookup") && timings(foreign(address)).contains(" · connect 1.5 ms · "));
    }
    // Where the resolver was seen, the rest of the dial is the handshake.
    let [dial, mut conn] = dial("10.0.0.1", "r", 1);
    conn["handshakeBeginAt"] = dial["dialBeginAt"].clone();
    let drawing = drawn([[dial.clone(), conn.clone()]], [get("r", "10.0.0.1", 0)]);
    line(&block(&drawing, "GET"), &["  tcp ", "1.00 ms  10.0.0.1:80"]);
    assert!(timings([dial.clone(), conn.clone()]).contains(" · dns 500 µs · connect 1.0 ms · "));
    // With TLS in it, too.
    conn["layer"] = json!("application");
    line(
        &block(&drawn([[dial, conn]], [get("r", "10.0.0.1", 0)]), "GET"),
        &["10.0.0.1:80 · includes any TLS handshake"],
    );
}

/// Returns adverse traces with `n` records of a kind, for which an algorithm that looks at every pair does not end.
fn adverse(n: usize) -> Vec<(&'static str, String)> {
    let long = "x".repeat(n);
    let many = |record: &dyn Fn(usize) -> String| (0..n).map(record).collect::<Vec<_>>().join(",");
    let same = |record: &str| many(&|_| record.to_owned());
    let trace = |lists: &[(&str, String)]| {
        let lists: Vec<_> = lists.iter().map(|(name, records)| format!("\"{name}\":[{records}]")).collect();
        format!("{{{}}}", lists.join(","))
    };
    let location = |to: &str| format!(r#""respHeader":[{{"fieldName":"Location","fieldVal":"{to}"}}]"#);
    let request = r#""reqMethod":"GET","reqURL":"http://h/""#;
    let connect =
        r#"{"traceID":"k","tcpConn":"c","triggeredBy":"r","reqMethod":"CONNECT","networkProxy":"http://p"}"#;
    vec![
        (
            "dials with one identifier, attempts and look-ups of it",
            trace(&[
                ("dials", same(r#"{"traceID":"d","endReason":"closed"}"#)),
                (
                    "tcpConns",
                    same(
                        r#"{"traceID":"c","fromDial":"d","fromResolver":true,"connected":true},{"fromDial":"d"}"#,
                    ),
                ),
                ("udpConns", same(r#"{"traceID":"u","fromDial":"d","fromResolver":true}"#)),
                ("dnsQueries", same(r#"{"fromDial":"d","dnsQueryMsgs":[{}]}"#)),
                ("httpRequests", same(r#"{"traceID":"r","tcpConn":"c"}"#)),
            ]),
        ),
        (
            "connections with one identifier, tunnels and requests of it",
            trace(&[
                ("tcpConns", same(r#"{"traceID":"c","fromDial":"d"}"#)),
                ("dials", r#"{"traceID":"d"}"#.into()),
                ("tlsTunnels", same(r#"{"tcpConn":"c"}"#)),
                ("httpRequests", format!(r#"{{"traceID":"r",{request}}},{}"#, same(connect))),
            ]),
        ),
        (
            "redirects to one URL that come after the requests for it",
            trace(&[(
                "httpRequests",
                (0..5 * n)
                    .map(|at| {
                        let to = location("http://h/");
                        format!(
                            r#"{{"reqURL":"http://h/{at}","respStatusCode":302,"respRecvAt":"+9ms",{to}}},{{"reqURL":"http://h/","reqSentAt":"+1ms"}}"#
                        )
                    })
                    .collect::<Vec<_>>()
                    .join(","),
            )]),
        ),
        (
            "dials to one connection, which served requests to a proxy and broke",
            trace(&[
                (
                    "dials",
                    format!(
                        r#"{{"traceID":"d"}},{}"#,
                        same(r#"{"establishedConn":"c","triggeredBy":"r"},{"establishedConn":"c"}"#)
                    ),
                ),
                (
                    "tcpConns",
                    format!(
                        r#"{{"traceID":"c","connected":true,"fromDial":"d","connErr":"{long}","unixPath":"{long}"}}"#
                    ),
                ),
                ("httpRequests", format!(r#"{{"traceID":"r",{request}}},{}"#, same(connect))),
            ]),
        ),
        (
            "messages of one conversation",
            trace(&[
                (
                    "udpConns",
                    format!(
                        r#"{{"traceID":"u","connErr":"{long}","failure":"unknown_failure: {long}","addrTuple":{{"dstIP":"{long}"}}}}"#
                    ),
                ),
                (
                    "dnsQueries",
                    format!(
                        r#"{{"connection":"u","endReason":"failed","dnsQueryMsgs":[{}],"dnsReplyMsgs":[{}]}}"#,
                        same(r#"{"id":1}"#),
                        same(r#"{"id":2}"#)
                    ),
                ),
            ]),
        ),
        (
            "errors within a request that failed",
            trace(&[
                (
                    "dials",
                    format!(
                        r#"{{"traceID":"d","triggeredBy":"r","resolverDials":[{}]}}"#,
                        many(&|at| format!(r#"{{"dialErr":"{at}"}}"#))
                    ),
                ),
                ("httpRequests", format!(r#"{{"traceID":"r","reqError":"{long}"}}"#)),
            ]),
        ),
        (
            "requests that refer to one tunnel and one connection",
            trace(&[
                (
                    "tlsTunnels",
                    format!(
                        r#"{{"traceID":"t","tlsVersion":"{long}","peerCerts":[{{"subject":"{long}"}}]}}"#
                    ),
                ),
                (
                    "tcpConns",
                    format!(r#"{{"traceID":"c","addrTuple":{{"srcIP":"{long}","dstIP":"{long}"}}}}"#),
                ),
                (
                    "httpRequests",
                    same(r#"{"tlsTunnel":"t","tcpConn":"c","attempts":[{"tcpConn":"c"},{"tcpConn":"x"}]}"#),
                ),
            ]),
        ),
        (
            "requests with one identifier, what they caused",
            trace(&[
                ("dials", same(r#"{"traceID":"d","triggeredBy":"r","establishedConn":"x"}"#)),
                ("tcpConns", same(r#"{"traceID":"c","fromDial":"d","fromResolver":true}"#)),
                ("tlsTunnels", same(r#"{"traceID":"t","tcpConn":"x"}"#)),
                (
                    "httpRequests",
                    same(
                        r#"{"traceID":"r","networkProxy":"http://p","reqSentAt":"+1ms"},{"traceID":"r","tcpConn":"y","reqSentAt":"+1ms"}"#,
                    ),
                ),
            ]),
        ),
    ]
}

#[test]
fn the_work_grows_with_the_size_of_the_trace_and_no_faster() {
    // What looks at every pair takes minutes.
    for (what, json) in adverse(10_000) {
        let trace = read(&json);
        let drawing = view::waterfall(&trace).headers(true).to_string();
        let times = drawing.len() / json.len();
        assert!(times < 60, "{what}: {} bytes of {}", drawing.len(), json.len());
        let timings = trace.http_requests.iter().map(|request| request.timings(&trace));
        assert_eq!(timings.count(), trace.http_requests.len());
    }
}

#[test]
fn nothing_is_lost_in_traces_that_nobody_would_record() {
    for (what, json) in adverse(20) {
        let trace = read(&json);
        let drawing = view::waterfall(&trace).to_string();
        let connects = drawing.matches("CONNECT").count();
        let expected = trace.http_requests.iter().filter(|request| request.req_method == "CONNECT").count();
        assert_eq!(connects, expected, "{what}\n{drawing}");
    }
}
