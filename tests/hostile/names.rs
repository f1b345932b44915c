//! Nameservers whose replies repeat one long name of unprintable bytes.

use std::net::Ipv4Addr;

use nettrace::{NetTrace, TraceSink, resolve::StubResolver};

use crate::assert_bounded;
use test_support::dns::{Action, DnsServer, ReceivedQuery, cname_loop_reply, wire};

const LOOKUPS: usize = 200;

/// Looks up [`LOOKUPS`] names at a nameserver with this behaviour, over TCP if `tcp` is set, else over UDP.
async fn look_up(sink: &TraceSink, tcp: bool, behaviour: fn(&ReceivedQuery) -> Action) {
    let server = DnsServer::start(behaviour).await;
    let resolver =
        StubResolver::builder(sink).nameservers([server.addr()]).resolv_conf(None).hosts_file(None);
    let resolver = resolver.search([""; 0]).use_vc(tcp).build().unwrap();
    for i in 0..LOOKUPS {
        let found = resolver.lookup(&format!("host{i}.test")).await.unwrap();
        assert_eq!(found, [Ipv4Addr::new(192, 0, 2, 1)]);
    }
}

/// Asserts that the two queries of each lookup are kept, with `replies` truncated replies each.
fn assert_kept(trace: &NetTrace, replies: usize) {
    assert_eq!(trace.dns_queries.len(), 2 * LOOKUPS);
    for query in &trace.dns_queries {
        assert_eq!(query.dns_reply_msgs.len(), replies);
        assert!(query.dns_reply_msgs[0].truncated_fields.get("answers").is_some(), "{query:?}");
    }
}

/// Each reply has 65,535 bytes, and would be millions of bytes as text.
#[test]
fn long_replies_over_tcp_are_truncated() {
    assert_bounded(
        TraceSink::new(),
        async |sink| {
            look_up(sink, true, |query| {
                Action::Send(vec![cname_loop_reply(query, 65_535, Some([192, 0, 2, 1]))])
            })
            .await;
        },
        |trace| assert_kept(trace, 1),
    );
}

/// The nameserver sends 40 forged replies of 600 bytes before each genuine one. Only 16 of them are kept.
#[test]
fn only_some_forged_replies_are_kept() {
    assert_bounded(
        TraceSink::new(),
        async |sink| {
            look_up(sink, false, |query| {
                let mut flood = vec![cname_loop_reply(query, 600, None); 40];
                flood.iter_mut().for_each(|reply| reply[0] ^= 0xff); // not the ID of the query
                let genuine = if query.is_a() { query.addresses(&["192.0.2.1"]) } else { query.reply() };
                flood.push(wire(&genuine));
                Action::Send(flood)
            })
            .await;
        },
        |trace| assert_kept(trace, 16 + 1),
    );
}
