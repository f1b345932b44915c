//! DNS queries and replies compared with dnsmasq's log.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nettrace::NetTrace;
use nettrace::record::{DnsQueryTrace, DnsRCode, DnsReplyMsg, DnsResType, EndReason};
use nettrace::resolve::StubResolver;

use crate::facts;
use crate::site::Site;
use test_support::dnsmasq::Dnsmasq;
use test_support::require::require_tool;

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

#[tokio::test]
async fn replies_for_both_families_and_an_alias_match_dnsmasq() {
    require_tool!("nginx", "dnsmasq");
    for name in ["both.test", "alias.test"] {
        let site = Site::with_names(
            |nginx| nginx.ips(&[V4, V6]),
            |dns| dns.host("both.test", &[V4, V6]).cname("alias.test", "both.test"),
        );
        let trace = get(&site, name).await;
        assert_eq!(replies(&trace).count(), 2);
        for reply in replies(&trace) {
            let records: Vec<_> =
                reply.answers.iter().map(|a| (a.name.as_str(), a.resolved_val.as_str())).collect();
            let address =
                if reply.answers.iter().any(|a| a.r#type == DnsResType::Aaaa) { "::1" } else { "127.0.0.1" };
            let (alias_record, address_record) = (("alias.test.", "both.test."), ("both.test.", address));
            assert_eq!(
                records,
                if name == "alias.test" { vec![alias_record, address_record] } else { vec![address_record] }
            );
            assert_eq!(
                (&reply.r_code, reply.truncated, reply.ignored.as_str()),
                (&Some(DnsRCode::NoError), false, "")
            );
        }
        let conn = facts::connection(&trace, &trace.http_requests[0]);
        assert_eq!(conn.addr_tuple.dst_ip, "::1", "IPv6 is preferred where it works (RFC 6724)");
    }
}

#[tokio::test]
async fn ipv4_is_used_if_ipv6_is_refused() {
    require_tool!("nginx", "dnsmasq");
    let site = Site::with_names(|nginx| nginx, |dns| dns.host("both.test", &[V4, V6]));
    let trace = get(&site, "both.test").await;
    let attempts: Vec<_> = trace
        .tcp_conns
        .iter()
        .map(|conn| (conn.addr_tuple.dst_ip.as_str(), conn.end_reason.clone()))
        .collect();
    assert_eq!(attempts, [("::1", Some(EndReason::Failed)), ("127.0.0.1", Some(EndReason::Closed))]);
    assert!(trace.tcp_conns[0].handshake_err.contains("refused"));
    assert_eq!(trace.dials[0].failure, None);
}

#[tokio::test]
async fn truncated_replies_are_repeated_over_tcp() {
    require_tool!("nginx", "dnsmasq");
    let hosts: Vec<_> = (1..=120).map(|n| IpAddr::from([127, 0, 0, n])).collect();
    let site = Site::with_names(
        |nginx| nginx.ips(&[IpAddr::from([0, 0, 0, 0])]),
        |dns| hosts.iter().fold(dns, |dns, ip| dns.host("many.test", &[*ip])),
    );
    let trace = get(&site, "many.test").await;
    let over_tcp = |query: &&DnsQueryTrace| trace.tcp_conns.get(&query.connection).is_some();
    let [query] = trace.dns_queries.iter().filter(over_tcp).collect::<Vec<_>>()[..] else {
        panic!("{trace:#?}")
    };
    let answers = query.dns_reply_msgs[0].answers.iter().map(|answer| answer.resolved_val.clone());
    assert_eq!(answers.collect::<BTreeSet<_>>(), hosts.iter().map(|host| host.to_string().into()).collect());
    let conn = trace.tcp_conns.get(&query.connection).unwrap();
    assert!(conn.from_resolver && conn.total_recv_bytes == u64::from(query.dns_reply_msgs[0].size) + 2);
    let truncated = replies(&trace).filter(|reply| reply.truncated);
    assert_eq!(truncated.map(|reply| reply.ignored.as_str()).collect::<Vec<_>>(), ["truncated"]);
    assert_eq!(trace.dials[0].resolver_dials.len(), 3, "twice over UDP, once over TCP");
}

#[tokio::test]
async fn a_search_list_and_a_refusing_nameserver_match_dnsmasq() {
    require_tool!("nginx", "dnsmasq");
    let site = Site::with_names(|nginx| nginx, |dns| dns.host("www.corp.test", &[V4]));
    let refusing = Dnsmasq::builder().start();
    let resolver = StubResolver::builder(&site.sink)
        .nameservers([refusing.addr, site.dns.addr])
        .search(["none.test", "corp.test"])
        .build()
        .unwrap();
    let client = site.client().resolver(resolver).build().unwrap();
    let url = format!("http://www:{}/hello", site.nginx.http.port());
    client.get(url).await.unwrap().into_body().bytes().await.unwrap();
    let trace = site.trace_after(&client).await;

    let questions_to = |server: &Dnsmasq| {
        let is_to_server = |query: &&DnsQueryTrace| {
            trace.udp_conns.get(&query.connection).unwrap().addr_tuple.dst_port == server.addr.port()
        };
        questions(trace.dns_queries.iter().filter(is_to_server))
    };
    let (refused, known) = (questions_to(&refusing), questions_to(&site.dns));
    assert_eq!(refused.len(), 4, "each name for both families");
    assert_eq!(refused, sorted(refusing.queries(4)));
    assert_eq!(known, sorted(site.dns.queries(4)));
    let code =
        |code: DnsRCode| replies(&trace).filter(move |reply| reply.r_code.as_ref() == Some(&code)).count();
    assert_eq!((code(DnsRCode::Refused), code(DnsRCode::NxDomain), code(DnsRCode::NoError)), (4, 2, 2));
}

/// Requests `/hello` by `name` from a new site. Asserts that the trace has the questions of the nameserver's log.
async fn get(site: &Site, name: &str) -> NetTrace {
    let client = site.client().build().unwrap();
    let url = format!("http://{name}:{}/hello", site.nginx.http.port());
    client.get(url).await.unwrap().into_body().bytes().await.unwrap();
    let trace = site.trace_after(&client).await;
    let recorded = questions(trace.dns_queries.iter());
    assert_eq!(recorded, sorted(site.dns.queries(recorded.len())));
    trace
}

/// Returns the questions in the form of dnsmasq's log.
fn questions<'a>(queries: impl Iterator<Item = &'a DnsQueryTrace>) -> Vec<(String, String)> {
    let messages = queries.flat_map(|query| &query.dns_query_msgs);
    let questions = messages.flat_map(|message| &message.questions);
    sorted(questions.map(|q| (q.r#type.to_string(), q.name.trim_end_matches('.').to_owned())).collect())
}

fn sorted(mut questions: Vec<(String, String)>) -> Vec<(String, String)> {
    questions.sort();
    questions
}

fn replies(trace: &NetTrace) -> impl Iterator<Item = &DnsReplyMsg> {
    trace.dns_queries.iter().flat_map(|query| &query.dns_reply_msgs)
}
