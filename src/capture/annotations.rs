//! Reads from a trace what helps a reader of packets: the names of addresses, and the records of each connection.

use crate::record::{DnsResType, NetTrace, TraceId};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write,
    net::IpAddr,
};

/// Returns the names of each address: those whose look-ups gave it, and the hosts to which it was dialled.
pub(super) fn address_names(trace: &NetTrace) -> BTreeMap<IpAddr, BTreeSet<String>> {
    let mut names = BTreeMap::<_, BTreeSet<_>>::new();
    let mut add = |ip: &str, name: &str| {
        let name = name.trim_end_matches('.');
        if let Ok(ip) = ip.parse::<IpAddr>()
            && !name.is_empty()
            && !name.contains('\0')
        {
            names.entry(ip).or_default().insert(name.to_owned());
        }
    };
    for query in trace.dns_queries.iter() {
        let asked: Vec<_> = query.dns_query_msgs.iter().flat_map(|message| &message.questions).collect();
        for reply in query.dns_reply_msgs.iter().filter(|reply| reply.ignored.is_empty()) {
            for answer in &reply.answers {
                if let DnsResType::A | DnsResType::Aaaa = answer.r#type {
                    add(&answer.resolved_val, &answer.name);
                    let asked = asked.iter().filter(|question| question.r#type == answer.r#type);
                    asked.for_each(|question| add(&answer.resolved_val, &question.name));
                }
            }
        }
    }
    let hosts: HashMap<_, _> = trace
        .dials
        .iter()
        .filter_map(|dial| Some((&dial.trace_id, dial.dst_address.rsplit_once(':')?.0)))
        .filter(|(_, host)| !host.contains(':') && host.parse::<IpAddr>().is_err())
        .collect();
    for conn in trace.tcp_conns.iter().filter(|conn| !conn.from_resolver) {
        if let Some(host) = hosts.get(&conn.from_dial) {
            add(&conn.addr_tuple.dst_ip, host);
        }
    }
    names
}

/// Returns a comment for each connection with the identifiers of its records.
pub(super) fn comments(trace: &NetTrace) -> HashMap<TraceId, String> {
    let dials: HashMap<_, _> = trace.dials.iter().map(|dial| (&dial.trace_id, &dial.dst_address)).collect();
    let begin = |what: &str, id: &TraceId, dial: &TraceId, from_resolver: bool| {
        let resolver = if from_resolver { " to a nameserver" } else { "" };
        let mut text = format!("{what} {id}{resolver}");
        if let Some(to) = dials.get(dial) {
            let _ = write!(text, ", dial {dial} to {to}");
        }
        (id.clone(), text)
    };
    let tcp =
        trace.tcp_conns.iter().map(|conn| begin(TCP, &conn.trace_id, &conn.from_dial, conn.from_resolver));
    let udp =
        trace.udp_conns.iter().map(|conn| begin(UDP, &conn.trace_id, &conn.from_dial, conn.from_resolver));
    let mut comments: HashMap<_, _> = tcp.chain(udp).collect();
    let mut add = |conn: &TraceId, what: &str, id: &TraceId| {
        if let Some(text) = comments.get_mut(conn) {
            let _ = write!(text, ", {what} {id}");
        }
    };
    trace.dns_queries.iter().for_each(|query| add(&query.connection, "dnsQuery", &query.trace_id));
    trace.tls_tunnels.iter().for_each(|tunnel| add(&tunnel.tcp_conn, "tlsTunnel", &tunnel.trace_id));
    trace.http_requests.iter().for_each(|request| add(&request.tcp_conn, "httpRequest", &request.trace_id));
    comments
}

const TCP: &str = "tcpConn";
const UDP: &str = "udpConn";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{
        AddrTuple, DialTrace, DnsAnswer, DnsQueryMsg, DnsQueryTrace, DnsQuestion, DnsReplyMsg, HttpReqTrace,
        TcpConnTrace, TlsTunnelTrace,
    };

    fn trace() -> NetTrace {
        let mut trace = NetTrace::default();
        trace.dials.push(DialTrace {
            trace_id: "d".into(),
            dst_address: "www.test:443".into(),
            ..DialTrace::default()
        });
        trace.tcp_conns.push(TcpConnTrace {
            trace_id: "c".into(),
            from_dial: "d".into(),
            addr_tuple: AddrTuple { dst_ip: "192.0.2.1".into(), ..AddrTuple::default() },
            ..TcpConnTrace::default()
        });
        trace.tls_tunnels.push(TlsTunnelTrace {
            trace_id: "t".into(),
            tcp_conn: "c".into(),
            ..TlsTunnelTrace::default()
        });
        for id in ["r1", "r2"] {
            trace.http_requests.push(HttpReqTrace {
                trace_id: id.into(),
                tcp_conn: "c".into(),
                ..HttpReqTrace::default()
            });
        }
        let question =
            |r#type| DnsQuestion { name: "www.test.".into(), r#type, class: 1, ..DnsQuestion::default() };
        let answer = |name: &str, r#type, value: &str| DnsAnswer {
            name: name.into(),
            r#type,
            resolved_val: value.into(),
            ..DnsAnswer::default()
        };
        let reply = |answers, ignored: &str| DnsReplyMsg {
            answers,
            ignored: ignored.into(),
            ..DnsReplyMsg::default()
        };
        trace.dns_queries.push(DnsQueryTrace {
            dns_query_msgs: vec![DnsQueryMsg {
                questions: vec![question(DnsResType::Aaaa)],
                ..DnsQueryMsg::default()
            }],
            dns_reply_msgs: vec![
                reply(vec![answer("www.test.", DnsResType::Aaaa, "2001:db8::bad")], "id mismatch"),
                reply(
                    vec![
                        answer("www.test.", DnsResType::Cname, "a.test."),
                        answer("a.test.", DnsResType::Aaaa, "2001:db8::1"),
                    ],
                    "",
                ),
            ],
            ..DnsQueryTrace::default()
        });
        trace
    }

    #[test]
    fn addresses_have_the_names_that_were_looked_up() {
        let names: Vec<_> = address_names(&trace())
            .into_iter()
            .map(|(ip, names)| (ip.to_string(), Vec::from_iter(names)))
            .collect();
        let expected = [("192.0.2.1", vec!["www.test"]), ("2001:db8::1", vec!["a.test", "www.test"])];
        assert_eq!(
            names,
            expected.map(|(ip, names)| (ip.to_owned(), names.iter().map(|n| n.to_string()).collect()))
        );
    }

    #[test]
    fn the_comment_of_a_connection_names_its_records() {
        let comments = comments(&trace());
        let expected = "tcpConn c, dial d to www.test:443, tlsTunnel t, httpRequest r1, httpRequest r2";
        assert_eq!(comments[&TraceId::from("c")], expected);
    }
}
