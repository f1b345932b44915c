//! HTTPS records (RFC 9460), which are asked for on request and recorded only.

use hickory_proto::rr::{
    Name as DnsName, RData, Record, RecordType,
    rdata::{
        A, AAAA, HTTPS, SVCB,
        svcb::{Alpn, EchConfigList, IpHint, SvcParamKey, SvcParamValue},
    },
};

use super::*;

/// Returns the reply with an HTTPS record for the name in the question.
fn with_https(query: &ReceivedQuery, svcb: SVCB) -> hickory_proto::op::Message {
    let mut reply = query.reply();
    let owner = DnsName::from_ascii(format!("{}.", query.name())).unwrap();
    reply.add_answer(Record::from_rdata(owner, 60, RData::HTTPS(HTTPS(svcb))));
    reply
}

fn service() -> SVCB {
    let params = vec![
        (SvcParamKey::Alpn, SvcParamValue::Alpn(Alpn(vec!["h2".into(), "h3".into()]))),
        (SvcParamKey::Port, SvcParamValue::Port(8443)),
        (SvcParamKey::Ipv4Hint, SvcParamValue::Ipv4Hint(IpHint(vec![A::new(192, 0, 2, 7)]))),
        (SvcParamKey::EchConfigList, SvcParamValue::EchConfigList(EchConfigList(vec![1, 2, 3]))),
        (SvcParamKey::Ipv6Hint, SvcParamValue::Ipv6Hint(IpHint(vec![AAAA("2001:db8::7".parse().unwrap())]))),
    ];
    SVCB::new(1, DnsName::from_ascii("svc.test.").unwrap(), params)
}

fn is_https(query: &ReceivedQuery) -> bool {
    query.record_type() == RecordType::HTTPS
}

#[tokio::test]
async fn https_records_are_recorded() {
    let sink = TraceSink::new();
    // The addresses come after the HTTPS record, so that the lookup does not end before.
    let server = DnsServer::start(|query| {
        if is_https(query) {
            return with_https(query, service()).into();
        }
        Action::Later(Duration::from_millis(100), vec![wire(&query.addresses(&["192.0.2.1"]))])
    })
    .await;
    let resolver = builder(&sink, [server.addr()]).https_records(true).build().unwrap();
    let (found, trace) = lookup(&resolver, &sink, "web.test").await;
    assert_eq!(found.unwrap(), ips(&["192.0.2.1"]), "hints are not used as addresses");
    let of_https: Vec<_> = trace
        .dns_queries
        .iter()
        .filter(|query| query.dns_query_msgs[0].questions[0].type_code == 65)
        .collect();
    assert_eq!(of_https.len(), 1);
    assert_eq!((of_https[0].failure.as_ref(), &of_https[0].end_reason), (None, &Some(EndReason::Closed)));
    let answer = &of_https[0].dns_reply_msgs[0].answers[0];
    assert_eq!((answer.type_code, &answer.r#type), (65, &DnsResType::Unrecognized));
    let svcb = answer.svcb.as_deref().unwrap();
    assert_eq!(
        (svcb.priority, svcb.target.as_str(), svcb.port, svcb.ech),
        (1, "svc.test.", Some(8443), true)
    );
    assert_eq!(
        (&svcb.alpn[..], &svcb.ipv4_hints[..]),
        (&["h2".into(), "h3".into()][..], &["192.0.2.7".into()][..])
    );
    assert_eq!(svcb.ipv6_hints, ["2001:db8::7"]);
    let drawn = nettrace::view::waterfall(&trace).width(200).to_string();
    assert!(
        drawn.contains("1 svc.test. alpn=h2,h3 ipv4hint=192.0.2.7 ipv6hint=2001:db8::7 port=8443 ech"),
        "{drawn}"
    );
}

#[tokio::test]
async fn by_default_no_https_records_are_asked_for() {
    let sink = TraceSink::new();
    let server = DnsServer::answering(&["192.0.2.1"]).await;
    lookup(&resolver(&sink, &[&server]), &sink, "web.test").await.0.unwrap();
    assert!(!server.queries().iter().any(is_https));
}

#[tokio::test]
async fn a_lookup_neither_waits_for_https_records_nor_fails_with_them() {
    for reaction in ["silence", "SERVFAIL", "NXDOMAIN", "garbage"] {
        let sink = TraceSink::new();
        let garbage = |query: &ReceivedQuery| {
            let mut bytes = wire(&with_https(query, service()));
            let len = bytes.len();
            bytes[len - 20] ^= 0xff; // in a parameter
            bytes
        };
        let server = DnsServer::start(move |query| match reaction {
            _ if !is_https(query) => query.addresses(&["192.0.2.1"]).into(),
            "silence" => Action::Silence,
            "SERVFAIL" => query.nothing(ResponseCode::ServFail).into(),
            "NXDOMAIN" => query.nothing(ResponseCode::NXDomain).into(),
            _ => Action::Send(vec![garbage(query)]),
        })
        .await;
        let resolver = builder(&sink, [server.addr()]).https_records(true).build().unwrap();
        let (found, _) = lookup(&resolver, &sink, "web.test").await;
        assert_eq!(found.unwrap(), ips(&["192.0.2.1"]), "{reaction}");
    }
}

#[tokio::test]
async fn a_name_without_addresses_fails_although_it_has_https_records() {
    let sink = TraceSink::new();
    let server = DnsServer::start(|query| match is_https(query) {
        true => with_https(query, service()),
        false => query.nothing(ResponseCode::NoError),
    })
    .await;
    let resolver = builder(&sink, [server.addr()]).https_records(true).build().unwrap();
    let error = lookup(&resolver, &sink, "web.test").await.0.unwrap_err();
    assert_eq!(error.failure(), Failure::DnsNoAnswer);
}
