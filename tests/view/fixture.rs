//! Stored traces, traces made by hand, and what a test looks up in a drawing.

use nettrace::{NetTrace, view};
use serde_json::{Value, json};

pub(crate) const PEER: &[&str] = &[
    include_str!("../data/peer-json/i-plain-http.json"),
    include_str!("../data/peer-json/ii-https-h2.json"),
    include_str!("../data/peer-json/iii-nat-conntrack.json"),
    include_str!("../data/peer-json/iv-tls-untrusted.json"),
    include_str!("../data/peer-json/ix-redirect.json"),
    include_str!("../data/peer-json/v-refused.json"),
    include_str!("../data/peer-json/vi-cname.json"),
    include_str!("../data/peer-json/vi-nxdomain.json"),
    include_str!("../data/peer-json/viii-connect-proxy.json"),
    include_str!("../data/peer-json/x-post.json"),
];
pub(crate) const EVERYTHING: &str = include_str!("../data/everything.json");
pub(crate) const FULL: &str = include_str!("../data/full.json");

pub(crate) fn read(json: &str) -> NetTrace {
    serde_json::from_str(json).unwrap()
}

pub(crate) fn all() -> impl Iterator<Item = NetTrace> {
    PEER.iter().copied().chain([EVERYTHING, FULL]).map(read)
}

pub(crate) fn of(value: Value) -> NetTrace {
    serde_json::from_value(value).unwrap()
}

/// The lines from the one that begins so to the next empty one.
pub(crate) fn block<'a>(drawing: &'a str, begin: &str) -> Vec<&'a str> {
    let from = drawing.lines().skip_while(|line| !line.starts_with(begin));
    let block: Vec<_> = from.take_while(|line| !line.is_empty()).collect();
    assert!(!block.is_empty(), "{begin:?} is not in\n{drawing}");
    block
}

/// The only line that has all of these in it.
#[track_caller]
pub(crate) fn line<'a>(lines: &[&'a str], parts: &[&str]) -> &'a str {
    let found: Vec<_> = lines.iter().filter(|line| parts.iter().all(|part| line.contains(part))).collect();
    assert_eq!(found.len(), 1, "{parts:?} in\n{}", lines.join("\n"));
    found[0]
}

/// Times in milliseconds, the names of dials and connections being those of their addresses.
pub(crate) fn dial(name: &str, cause: &str, at: u64) -> [Value; 2] {
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

pub(crate) fn get(id: &str, conn: &str, sent: u64) -> Value {
    json!({"traceID": id, "tcpConn": conn, "reqMethod": "GET", "reqURL": format!("http://h/{id}"), "reqSentAt":
           format!("+{sent}ms"), "connAcquiredAt": format!("+{}ms", sent + 4), "respRecvAt": format!("+{}ms", sent + 5),
           "respBodyEndAt": format!("+{}ms", sent + 6), "endAt": format!("+{}ms", sent + 6), "endReason": "closed",
           "respStatusCode": 200})
}

pub(crate) fn drawn(
    dials: impl IntoIterator<Item = [Value; 2]>,
    requests: impl IntoIterator<Item = Value>,
) -> String {
    let (dials, conns): (Vec<_>, Vec<_>) = dials.into_iter().map(|[dial, conn]| (dial, conn)).unzip();
    let requests: Vec<_> = requests.into_iter().collect();
    let trace = json!({"traceBeginAt": "2026-01-01T00:00:00Z", "traceEndAt": "+900ms", "dials": dials,
                       "tcpConns": conns, "httpRequests": requests});
    view::waterfall(&of(trace)).width(140).to_string()
}
