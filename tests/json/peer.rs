//! Traces that the Go package wrote.

use nettrace::record::NetTrace;
use serde_json::Value;

use super::assert_valid;

pub(super) const PEER: &[(&str, &str)] = &[
    ("i-plain-http", include_str!("../data/peer-json/i-plain-http.json")),
    ("ii-https-h2", include_str!("../data/peer-json/ii-https-h2.json")),
    ("iii-nat-conntrack", include_str!("../data/peer-json/iii-nat-conntrack.json")),
    ("iv-tls-untrusted", include_str!("../data/peer-json/iv-tls-untrusted.json")),
    ("ix-redirect", include_str!("../data/peer-json/ix-redirect.json")),
    ("v-refused", include_str!("../data/peer-json/v-refused.json")),
    ("vi-cname", include_str!("../data/peer-json/vi-cname.json")),
    ("vi-nxdomain", include_str!("../data/peer-json/vi-nxdomain.json")),
    ("viii-connect-proxy", include_str!("../data/peer-json/viii-connect-proxy.json")),
    ("x-post", include_str!("../data/peer-json/x-post.json")),
];

/// Makes the changes that this crate makes on purpose: `null` lists become empty, conntrack's flags get a fixed order,
/// and `sync-recv` is written as `syn-recv`.
fn normalize(value: &mut Value) {
    const LISTS: &[&str] = &[
        "dials",
        "tcpConns",
        "udpConns",
        "dnsQueries",
        "tlsTunnels",
        "httpRequests",
        "socketOps",
        "dnsQueryMsgs",
        "dnsReplyMsgs",
        "questions",
        "answers",
        "peerCerts",
    ];
    const FLAGS: &[&str] = &[
        "expected",
        "seen-reply",
        "assured",
        "confirmed",
        "src-nat",
        "dst-nat",
        "seq-adjust",
        "src-nat-done",
        "dst-nat-done",
        "dying",
    ];
    match value {
        Value::Array(items) => items.iter_mut().for_each(normalize),
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::Null if LISTS.contains(&name.as_str()) => *field = Value::Array(Vec::new()),
                    Value::String(text) if name == "tcpState" && text == "sync-recv" => {
                        *text = "syn-recv".into()
                    }
                    Value::String(text) if name == "status" => {
                        let has = |flag: &&&str| text.split('|').any(|part| part == **flag);
                        *text = FLAGS.iter().filter(has).copied().collect::<Vec<_>>().join("|");
                    }
                    other => normalize(other),
                }
            }
        }
        _ => {}
    }
}

#[test]
fn traces_of_the_go_package_survive_a_round_trip() {
    for (name, text) in PEER {
        let mut expected: Value = serde_json::from_str(text).unwrap();
        assert_valid(name, &expected);
        normalize(&mut expected);
        let trace: NetTrace = serde_json::from_str(text).unwrap_or_else(|e| panic!("{name}: {e}"));
        let written = serde_json::to_value(&trace).unwrap();
        assert_eq!(written, expected, "{name}");
        assert_valid(name, &written);
        assert_eq!(serde_json::from_value::<NetTrace>(written).unwrap(), trace, "{name}");
    }
}

/// Fields are written in the order of the Go package, so that two files can be compared line by line.
#[test]
fn fields_keep_their_order() {
    for (name, text) in PEER {
        let trace: NetTrace = serde_json::from_str(text).unwrap();
        assert_eq!(field_names(&serde_json::to_string(&trace).unwrap()), field_names(text), "{name}");
    }
}

fn field_names(json: &str) -> Vec<&str> {
    let quoted = json.split('"').collect::<Vec<_>>();
    quoted.windows(2).filter(|pair| pair[1].trim_start().starts_with(':')).map(|pair| pair[0]).collect()
}

#[test]
fn sync_recv_and_null_lists_are_normalized() {
    let text = PEER[0].1.replace("\"established\"", "\"sync-recv\"");
    let trace: NetTrace = serde_json::from_str(&text).unwrap();
    let written = serde_json::to_value(&trace).unwrap();
    assert_eq!(written["tcpConns"][0]["conntrack"]["tcpState"], "syn-recv");
    assert_eq!(written["tlsTunnels"], serde_json::json!([]));
    assert_eq!(written["dnsQueries"][1]["dnsReplyMsgs"][0]["answers"], serde_json::json!([]));
}

#[test]
fn references_resolve_in_traces_and_slices() {
    for (name, text) in PEER {
        let trace: NetTrace = serde_json::from_str(text).unwrap();
        for request in &trace.http_requests {
            assert_eq!(
                trace.tcp_conns.get(&request.tcp_conn).is_some(),
                !request.tcp_conn.is_undefined(),
                "{name}"
            );
            let slice = trace.slice(&request.trace_id);
            assert_eq!(slice.http_requests.len(), 1);
            assert_eq!(slice.tcp_conns.get(&request.tcp_conn), trace.tcp_conns.get(&request.tcp_conn));
        }
        for query in &trace.dns_queries {
            assert!(trace.udp_conns.get(&query.connection).is_some());
            assert!(trace.dials.get(&query.from_dial).is_some());
        }
    }
}
