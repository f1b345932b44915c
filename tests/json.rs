//! Traces as JSON: those that the Go package wrote, and our own.

use nettrace::record::NetTrace;
use serde_json::Value;

const PEER: &[(&str, &str)] = &[
    ("i-plain-http", include_str!("data/peer-json/i-plain-http.json")),
    ("ii-https-h2", include_str!("data/peer-json/ii-https-h2.json")),
    ("iii-nat-conntrack", include_str!("data/peer-json/iii-nat-conntrack.json")),
    ("iv-tls-untrusted", include_str!("data/peer-json/iv-tls-untrusted.json")),
    ("ix-redirect", include_str!("data/peer-json/ix-redirect.json")),
    ("v-refused", include_str!("data/peer-json/v-refused.json")),
    ("vi-cname", include_str!("data/peer-json/vi-cname.json")),
    ("vi-nxdomain", include_str!("data/peer-json/vi-nxdomain.json")),
    ("viii-connect-proxy", include_str!("data/peer-json/viii-connect-proxy.json")),
    ("x-post", include_str!("data/peer-json/x-post.json")),
];

/// The differences that are meant: lists that are `null`, the order of conntrack's flags.
fn as_we_write_it(value: &mut Value) {
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
        Value::Array(items) => items.iter_mut().for_each(as_we_write_it),
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::Null if LISTS.contains(&name.as_str()) => *field = Value::Array(Vec::new()),
                    Value::String(text) if name == "tcpState" && text == "sync-recv" => {
                        *text = "syn-recv".into();
                    }
                    Value::String(text) if name == "status" => {
                        let has = |flag: &&&str| text.split('|').any(|part| part == **flag);
                        *text = FLAGS.iter().filter(has).copied().collect::<Vec<_>>().join("|");
                    }
                    other => as_we_write_it(other),
                }
            }
        }
        _ => {}
    }
}

#[test]
fn what_the_peer_wrote_reads_and_writes_back() {
    for (name, text) in PEER {
        let mut expected: Value = serde_json::from_str(text).unwrap();
        as_we_write_it(&mut expected);
        let trace: NetTrace = serde_json::from_str(text).unwrap_or_else(|e| panic!("{name}: {e}"));
        let written = serde_json::to_value(&trace).unwrap();
        assert_eq!(written, expected, "{name}");
        let again: NetTrace = serde_json::from_value(written).unwrap();
        assert_eq!(again, trace, "{name}");
    }
}
