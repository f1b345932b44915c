//! Queries and replies against those of hickory-proto, and replies that no honest server sends.

use super::*;
use crate::{
    record::{DnsRCode, DnsReplyMsg},
    resolve::stub::{
        policy::{QueryAttempt, Transport, classify_reply},
        rr::{MX, PTR},
        to_record,
    },
    sink::TraceSink,
};
use hickory_proto::{
    op::{OpCode, ResponseCode},
    rr::{RData, Record, rdata},
};
use proptest::prelude::*;
use std::net::SocketAddr;

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn question(text: &str) -> Question {
    Question { name: name(text), query_type: QueryType::A }
}

fn reply_to(query: &Query, question: &Question) -> Message {
    let mut message = Message::response(query.id, OpCode::Query);
    message.metadata.recursion_available = true;
    message.add_query(MessageQuery::query(question.name.clone(), RecordType::A));
    message
}

fn record(owner: &str, data: RData) -> Record {
    Record::from_rdata(name(owner), 60, data)
}

fn a(owner: &str, address: [u8; 4]) -> Record {
    record(owner, RData::A(rdata::A(address.into())))
}

fn cname(owner: &str, to: &str) -> Record {
    record(owner, RData::CNAME(rdata::CNAME(name(to))))
}

/// Encodes and decodes a message. The bytes are leaked, which is fine in a test.
fn decoded(message: &Message) -> Reply<'static> {
    Reply::decode(message.to_vec().unwrap().leak())
}

#[test]
fn queries_are_as_small_as_those_of_go() {
    let question = question("cname.test.");
    let query = Query::new(&question, Some(1232), false).unwrap();
    let shown = to_record::query(&query, &question);
    assert_eq!((shown.size, shown.udp_payload_size), (39, 1232));
    assert_eq!((shown.id, shown.name.as_str()), (query.id, "cname.test."));
    let sent = Message::from_vec(&query.wire).unwrap();
    assert_eq!((sent.metadata.id, sent.queries[0].name().to_ascii().as_str()), (query.id, "cname.test."));
    assert_eq!(query.wire[..2], query.id.to_be_bytes());
    assert_eq!(query.wire[2..4], [0x01, 0x00], "recursion desired and nothing else");
    let without = Query::new(&question, None, true).unwrap();
    assert_eq!(without.wire.len(), 28);
    assert_eq!(without.wire[2..4], [0x01, 0x20], "AD with trust-ad");
}

#[test]
fn a_reply_is_decoded() {
    let question = question("www.test.");
    let query = Query::new(&question, Some(1232), false).unwrap();
    let mut message = reply_to(&query, &question);
    message.metadata.authoritative = true;
    message.add_answer(cname("WWW.test.", "edge.test."));
    message.add_answer(a("edge.test.", [10, 0, 0, 1]));
    message.add_answer(a("edge.test.", [10, 0, 0, 2]));
    message.add_answer(a("other.test.", [10, 0, 0, 3]));
    message.add_answer(record("edge.test.", RData::MX(rdata::MX::new(5, name("mx.test.")))));
    message.add_answer(record("edge.test.", RData::TXT(rdata::TXT::new(vec!["x".into()]))));
    message.set_edns(Edns::new());
    let reply = decoded(&message);
    assert_eq!(reply.mismatch(&query, &question), None);
    assert!(reply.authoritative && reply.recursion_available && reply.has_additionals && !reply.refers);
    assert_eq!(reply.answers.len(), 6);
    assert!(matches!(reply.answers[4].value, Value::Name(host) if host.is(&name("mx.test."))));
    assert_eq!(reply.answers[5].value, Value::Other);
    assert_eq!(reply.addresses(&question), [IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2])]);
}

#[test]
fn alias_loops_end() {
    let question = question("a.test.");
    let query = Query::new(&question, None, false).unwrap();
    let mut message = reply_to(&query, &question);
    message.add_answer(cname("a.test.", "b.test."));
    message.add_answer(cname("b.test.", "a.test."));
    assert!(decoded(&message).addresses(&question).is_empty());
    message.answers = vec![cname("a.test.", "a.test.")];
    assert!(decoded(&message).addresses(&question).is_empty());
}

#[test]
fn mismatching_replies_are_recognised() {
    let question = question("www.test.");
    let query = Query::new(&question, Some(1232), false).unwrap();
    let good = reply_to(&query, &question);
    let why = |change: &dyn Fn(&mut Message)| {
        let mut message = good.clone();
        change(&mut message);
        decoded(&message).mismatch(&query, &question)
    };
    assert_eq!(why(&|_| ()), None);
    assert_eq!(why(&|m| m.metadata.id ^= 1).as_deref(), Some("id mismatch"));
    let query_type = hickory_proto::op::MessageType::Query;
    assert_eq!(why(&|m| m.metadata.message_type = query_type).as_deref(), Some("not a response"));
    for change in [
        (|m: &mut Message| m.queries[0].name = Name::from_ascii("evil.test.").unwrap()) as fn(&mut Message),
        |m| m.queries[0].query_type = RecordType::AAAA,
        |m| m.queries[0].query_class = hickory_proto::rr::DNSClass::CH,
        |m| m.queries.push(m.queries[0].clone()),
        |m| m.queries.clear(),
    ] {
        assert_eq!(why(&change).as_deref(), Some("question mismatch"));
    }
    assert_eq!(why(&|m| m.queries[0].name = Name::from_ascii("WWW.Test.").unwrap()), None);
    let bare = |code| {
        why(&|m| {
            m.queries.clear();
            m.metadata.response_code = code;
        })
    };
    assert_eq!(bare(ResponseCode::FormErr), None, "a server that cannot read the question");
    assert_eq!(bare(ResponseCode::NXDomain).as_deref(), Some("question mismatch"));
}

#[test]
fn incomplete_messages_are_malformed() {
    let question = question("www.test.");
    let query = Query::new(&question, None, false).unwrap();
    let mut message = reply_to(&query, &question);
    message.add_answer(a("www.test.", [10, 0, 0, 1]));
    let wire = message.to_vec().unwrap();
    for cut in 0..wire.len() {
        let why = Reply::decode(&wire[..cut]).mismatch(&query, &question).unwrap();
        assert!(why.starts_with("malformed: "), "{cut}: {why}");
    }
    // Cut off with the TC bit set: the incomplete record does not matter.
    message.metadata.truncation = true;
    let wire = message.to_vec().unwrap();
    assert_eq!(Reply::decode(&wire[..wire.len() - 1]).mismatch(&query, &question), None);
}

#[test]
fn extended_response_codes_are_combined() {
    let question = question("www.test.");
    let query = Query::new(&question, Some(1232), false).unwrap();
    let mut message = reply_to(&query, &question);
    message.set_edns(Edns::new());
    message.metadata.response_code = ResponseCode::BADVERS;
    assert_eq!(decoded(&message).rcode, 16);
}

/// Returns the reply as a trace shows it.
fn recorded(reply: &Reply<'_>) -> DnsReplyMsg {
    let (sink, nameserver) = (TraceSink::new(), SocketAddr::from(([192, 0, 2, 1], 53)));
    let conn = sink.lookup().resolver_dial(&nameserver.into()).udp(nameserver, nameserver);
    let mut dns = conn.dns();
    dns.reply(|| "".into(), |answers, ignored| to_record::reply(reply, answers, ignored));
    let mut trace = sink.snapshot("reply");
    trace.dns_queries.iter_mut().next().unwrap().dns_reply_msgs.remove(0)
}

#[test]
fn a_decoded_reply_is_recorded() {
    let question = question("www.test.");
    let query = Query::new(&question, Some(1232), false).unwrap();
    let mut message = reply_to(&query, &question);
    message.add_answer(cname("WWW.test.", "edge-1.test."));
    message.add_answer(a("edge-1.test.", [10, 0, 0, 1]));
    message.add_answer(record("edge-1.test.", RData::MX(rdata::MX::new(5, name("*.test.")))));
    message.add_answer(record(".", RData::TXT(rdata::TXT::new(vec!["x".into()]))));
    message.metadata.response_code = ResponseCode::Refused;
    let shown = recorded(&decoded(&message));
    assert_eq!((shown.id, shown.size as usize), (query.id, message.to_vec().unwrap().len()));
    assert!(shown.recursion_available && !shown.authoritative && !shown.truncated);
    assert_eq!(shown.r_code, Some(DnsRCode::Refused));
    let answers: Vec<_> = shown
        .answers
        .iter()
        .map(|answer| (&*answer.name, answer.r#type.as_str(), &*answer.resolved_val))
        .collect();
    assert_eq!(
        answers,
        [
            ("WWW.test.", "CNAME", "edge-1.test."),
            ("edge-1.test.", "A", "10.0.0.1"),
            ("edge-1.test.", "MX", "*.test."),
            (".", "TXT", ""),
        ]
    );
    assert!(shown.answers.iter().all(|answer| (answer.class, answer.ttl) == (1, 60)));
}

fn hostile_message() -> impl Strategy<Value = Vec<u8>> {
    let header = (any::<[u8; 4]>(), prop::collection::vec(0u16..4, 4)).prop_map(|(start, counts)| {
        start.into_iter().chain(counts.into_iter().flat_map(u16::to_be_bytes)).collect::<Vec<u8>>()
    });
    // Compression pointers, labels, record heads and noise.
    let piece = prop_oneof![
        (0u8..64).prop_map(|to| vec![0xc0, to]),
        (0u8..5).prop_map(|len| [vec![len], vec![b'a'; len.into()]].concat()),
        (prop::sample::select(vec![A, NS, CNAME, PTR, MX, AAAA, OPT, 16, 6]), 0u16..20).prop_map(
            |(record_type, len)| {
                let head = [&record_type.to_be_bytes()[..], &[0, 1, 0, 0, 0, 60], &len.to_be_bytes()];
                head.concat()
            }
        ),
        prop::collection::vec(any::<u8>(), 0..16),
    ];
    (header, prop::collection::vec(piece, 0..40))
        .prop_map(|(header, pieces)| [header, pieces.concat()].concat())
}

proptest! {
    #[test]
    fn any_reply_is_decoded_without_a_panic(
        bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..600), hostile_message()],
        tcp: bool,
    ) {
        let question = question("www.test.");
        let mut query = Query::new(&question, Some(1232), false).unwrap();
        query.id = bytes.first_chunk().map_or(0, |id| u16::from_be_bytes(*id));
        let reply = Reply::decode(&bytes);
        prop_assert_eq!(reply.size, bytes.len());
        let _ = reply.mismatch(&query, &question);
        let _ = recorded(&reply);
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        let attempt = QueryAttempt {
            server: SocketAddr::from(([127, 0, 0, 1], 53)).into(),
            transport,
            edns: true,
            #[cfg(feature = "encrypted-dns")]
            is_repeated: false,
        };
        let _ = classify_reply(&reply, &question, &attempt);
    }

    #[test]
    fn damaged_replies_are_decoded_without_a_panic(at in prop::collection::vec((0usize..200, any::<u8>()), 1..8)) {
        let question = question("www.test.");
        let query = Query::new(&question, Some(1232), false).unwrap();
        let mut message = reply_to(&query, &question);
        message.add_answer(cname("www.test.", "edge.test."));
        message.add_answer(a("edge.test.", [10, 0, 0, 1]));
        message.add_answer(record("edge.test.", RData::MX(rdata::MX::new(5, name("mx.test.")))));
        let mut wire = message.to_vec().unwrap();
        for (index, byte) in at {
            let index = index % wire.len();
            wire[index] = byte;
        }
        let reply = Reply::decode(&wire);
        let _ = (reply.mismatch(&query, &question), reply.addresses(&question));
    }
}

#[cfg(feature = "encrypted-dns")]
#[test]
fn queries_are_padded_to_blocks() {
    let padded = |name: &str, edns| Query::padded(&question(name), edns, false, 7).unwrap();
    let longest = [62, 62, 62, 57].map(|len| "a".repeat(len)).join(".") + ".";
    for (name, len) in [("a.", 128), ("www.test.", 128), (longest.as_str(), 384)] {
        let query = padded(name, Some(1232));
        assert_eq!((query.wire.len(), query.id, &query.wire[..2]), (len, 7, &[0, 7][..]), "{name}");
        let message = Message::from_vec(&query.wire).unwrap();
        assert_eq!(message.edns.unwrap().max_payload(), 1232);
    }
    assert_eq!(padded("www.test.", None).wire.len(), 26, "without EDNS there is no padding");
}
