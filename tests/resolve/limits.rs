//! Replies that are designed to exhaust memory or CPU time.

use super::*;
use nettrace::{FinishedRecord, record::DnsReplyMsg};
use std::sync::Mutex;
use test_support::dns::cname_loop_reply;

/// Returns the number of answers in the header of a message.
fn answer_count(message: &[u8]) -> u64 {
    u16::from_be_bytes([message[6], message[7]]).into()
}

fn json_bytes(trace: &NetTrace) -> usize {
    serde_json::to_string(trace).unwrap().len()
}

fn text_bytes(reply: &DnsReplyMsg) -> usize {
    reply.answers.iter().map(|answer| answer.name.len() + answer.resolved_val.len()).sum()
}

#[tokio::test]
async fn the_record_of_a_reply_full_of_long_names_is_truncated() {
    let finished = Arc::new(Mutex::new(Vec::new()));
    let to_finished = finished.clone();
    let sink = TraceSink::builder()
        .subscriber(move |record: &FinishedRecord| {
            if let FinishedRecord::DnsQuery(query) = record {
                to_finished.lock().unwrap().push(query.clone());
            }
        })
        .build();
    let sent = Arc::new(Mutex::new(Vec::new()));
    let to_sent = sent.clone();
    let server = DnsServer::start(move |query| {
        let reply = cname_loop_reply(query, 65_535, Some([192, 0, 2, 1]));
        to_sent.lock().unwrap().push((query.message.metadata.id, reply.clone()));
        Action::Send(vec![reply])
    })
    .await;
    let resolver = builder(&sink, [server.addr()]).use_vc(true).build().unwrap();
    let (result, trace) = lookup(&resolver, &sink, "web.test").await;
    // Answers that are not recorded are used nevertheless.
    assert_eq!(result.unwrap(), ips(&["192.0.2.1"]));
    assert_eq!(trace.dns_queries.len(), 2);
    for query in &trace.dns_queries {
        let [reply] = &query.dns_reply_msgs[..] else { panic!("{query:?}") };
        let sent = sent.lock().unwrap();
        let (_, message) = sent.iter().find(|(id, _)| *id == reply.id).unwrap();
        assert!(message.len() > 65_000);
        assert_eq!(usize::try_from(reply.size).unwrap(), message.len());
        assert_eq!(reply.truncated_fields.get("answers"), Some(answer_count(message)));
        assert!(query.truncated_fields.is_empty() && !reply.truncated && reply.ignored.is_empty());
        assert!(!reply.answers.is_empty() && text_bytes(reply) <= 8 << 10);
        // Recorded names are complete and escaped.
        let name = r"\255.".repeat(127);
        assert!(reply.answers.iter().all(|answer| answer.name == name && answer.resolved_val == name));
    }
    assert!(json_bytes(&trace) < 32 << 10, "{} bytes", json_bytes(&trace));
    let mut finished = finished.lock().unwrap().clone();
    finished.sort_by_key(|query| query.dns_query_msgs[0].id);
    let mut recorded = trace.dns_queries.clone().into_vec();
    recorded.sort_by_key(|query| query.dns_query_msgs[0].id);
    assert_eq!(finished, recorded, "subscribers receive the same records");
}

#[tokio::test]
async fn the_records_of_false_replies_full_of_long_names_are_truncated() {
    let sink = TraceSink::new();
    let server = DnsServer::start(|query| {
        let mut flood = vec![cname_loop_reply(query, 600, None); 80];
        flood.iter_mut().for_each(|reply| reply[0] ^= 1);
        flood.push(wire(&query.addresses(&["192.0.2.1"])));
        Action::Send(flood)
    })
    .await;
    let (result, trace) = lookup(&resolver(&sink, &[&server]), &sink, "web.test").await;
    assert_eq!(result.unwrap(), ips(&["192.0.2.1"]));
    for query in &trace.dns_queries {
        assert_eq!(query.truncated_fields.get("dnsReplyMsgs"), Some(81));
        let (last, false_replies) = query.dns_reply_msgs.split_last().unwrap();
        assert_eq!(false_replies.len(), 16);
        assert!(last.ignored.is_empty() && last.truncated_fields.is_empty());
        assert_eq!(
            last.answers.len(),
            usize::from(query.dns_query_msgs[0].questions[0].r#type == DnsResType::A)
        );
        for reply in false_replies {
            assert_eq!((reply.ignored.as_str(), reply.size), ("id mismatch", 573));
            assert_eq!(reply.truncated_fields.get("answers"), Some(21));
        }
        assert!(!false_replies[0].answers.is_empty(), "some answers are recorded");
        assert!(false_replies.iter().map(text_bytes).sum::<usize>() <= 4 << 10);
    }
    assert!(json_bytes(&trace) < 32 << 10, "{} bytes", json_bytes(&trace));
}

#[tokio::test]
async fn a_reply_with_a_hundred_addresses_is_recorded_completely() {
    let sink = TraceSink::new();
    let many: Vec<String> = (0..100).map(|n| format!("192.0.2.{n}")).collect();
    let all = ips(&many.iter().map(String::as_str).collect::<Vec<_>>());
    let server =
        DnsServer::start(move |query| query.addresses(&many.iter().map(String::as_str).collect::<Vec<_>>()))
            .await;
    let (result, trace) = lookup(&resolver(&sink, &[&server]), &sink, "a.name.of.usual.length.test").await;
    assert_eq!(result.unwrap(), all);
    let reply = &query_of(&trace, DnsResType::A).dns_reply_msgs[0];
    assert!(reply.truncated_fields.is_empty());
    let shown: Vec<IpAddr> =
        reply.answers.iter().map(|answer| answer.resolved_val.parse().unwrap()).collect();
    assert_eq!(shown, all);
}
