//! Traces drawn for people.

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
        "dials": [{"traceID": "d", "triggeredBy": "r", "dstAddress": "proxy.test:3129", "dialBeginAt": "+0ms",
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

/// Everything that a terminal would obey, apart from what the drawing itself uses.
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
