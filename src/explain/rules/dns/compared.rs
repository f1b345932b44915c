//! Lookups that differ from others of the trace.

use crate::{
    explain::{
        case::{Case, MAX_RELATED, server},
        dns_exchange::{Exchange, State},
        found::{Found, Stage},
        history::MIN_DELAY,
        text::list,
    },
    readable::duration,
    record::{EndReason, TcpConnTrace},
};
use std::net::IpAddr;

/// So many replies of a nameserver show what is usual.
const MIN_REPLIES: usize = 10;

pub(in crate::explain::rules) fn slow(case: &Case<'_>) -> Option<Found> {
    let times = &case.graph.times;
    let answered = case.exchanges().filter(|exchange| exchange.state == State::Answered);
    let timed = answered.filter_map(|exchange| Some((exchange.reply_time(times)?, exchange)));
    let (time, slowest) = timed.max_by_key(|(time, _)| *time)?;
    let usual = case.history.reply_time(slowest.server).filter(|usual| usual.count >= MIN_REPLIES)?;
    if !usual.is_exceeded_by(time) || time - usual.nanos < MIN_DELAY {
        return None;
    }
    let (address, coarse) = (server(slowest.server), times.coarse);
    let sentence = format!(
        "The nameserver {address} took {} to answer {}: nine of ten of its {} replies took at most {}.",
        duration(time, coarse),
        slowest.question(),
        usual.count,
        duration(usual.nanos, coarse)
    );
    Some(
        Found::degraded(Stage::Dns, address.as_str(), sentence)
            .check(format!("Look into the log of {address}: it may have waited for another nameserver."))
            .costs(time)
            .shows_at(slowest.record, "dnsQueryMsgs.sentAt", slowest.question(), slowest.sent_at)
            .shows_at(
                slowest.record,
                "dnsReplyMsgs.recvAt",
                duration(time, coarse),
                slowest.reply()?.recv_at,
            ),
    )
}

pub(in crate::explain::rules) fn hosts_override(case: &Case<'_>) -> Option<Found> {
    let dial = case.dials.first().filter(|dial| case.has_failed() && dial.resolver_dials.is_empty())?;
    let is_resolved = !dial.resolve_end_at.is_undefined() && case.exchanges().next().is_none();
    let host = case.host();
    let others = newest_answers(case, &host);
    let other = others.first().filter(|_| is_resolved)?;
    let conn = case.attempts.iter().find(|conn| !has_address(&others, conn))?;
    let (server, ip) = (server(other.server), &conn.addr_tuple.dst_ip);
    let answers: Vec<_> = other.addresses().map(|answer| answer.resolved_val.as_str()).collect();
    let sentence = format!(
        "{host} was taken to be at {ip} without asking a nameserver, and {server} says that it is at {}.",
        list(&answers)
    );
    let is_unreached = case.attempts.iter().all(|conn| !conn.connected);
    let found = match is_unreached {
        true => Found::failure(Stage::Dns, host.as_str(), sentence),
        false => Found::degraded(Stage::Dns, host.as_str(), sentence),
    };
    Some(
        found
            .check(format!(
                "Look for {host} in the hosts file of this host, and in the program's own resolver."
            ))
            .shows_at(*dial, "resolveEndAt", "no nameserver was contacted", dial.resolve_end_at)
            .shows(*conn, "addrTuple.dstIP", ip)
            .shows_at(other.record, "dnsReplyMsgs.answers", list(&answers), other.reply()?.recv_at),
    )
}

pub(in crate::explain::rules) fn stale_address(case: &Case<'_>) -> Option<Found> {
    let request = case.request.filter(|request| case.has_failed() && !request.accepted)?;
    let conn = case.conn.filter(|conn| case.attempts.is_empty() && conn.connected)?;
    let host = case.host();
    let newest = newest_answers(case, &host);
    let (made, sent) = (case.at(conn.handshake_end_at)?, case.at(request.req_sent_at)?);
    let since: Vec<_> = newest
        .iter()
        .filter(|exchange| {
            let at = exchange.reply().and_then(|reply| case.at(reply.recv_at));
            at.is_some_and(|at| at > made && at < sent)
        })
        .copied()
        .collect();
    let latest = since.first()?;
    // Only a reply that has addresses of this family can be without this one.
    let is_v6 = conn.addr_tuple.dst_ip.contains(':');
    let has_family = latest.addresses().any(|answer| answer.resolved_val.contains(':') == is_v6);
    if !has_family || has_address(&since, conn) {
        return None;
    }
    let (server, ip) = (server(latest.server), &conn.addr_tuple.dst_ip);
    let answers: Vec<_> = latest.addresses().map(|answer| answer.resolved_val.as_str()).collect();
    let sentence = format!(
        "The request used an open connection to {ip}, although {server} says since that {host} is at {}.",
        list(&answers)
    );
    Some(
        Found::degraded(Stage::Dns, host.as_str(), sentence)
            .check(format!(
                "Close idle connections earlier than the addresses of {host} change (idle timeout)."
            ))
            .costs(case.between(request.conn_acquired_at, request.end_at))
            .shows_at(conn, "addrTuple.dstIP", ip, conn.handshake_end_at)
            .shows_at(latest.record, "dnsReplyMsgs.answers", list(&answers), latest.reply()?.recv_at)
            .shows_at(
                request,
                "endReason",
                request.end_reason.as_ref().map_or("", EndReason::as_str),
                request.end_at,
            ),
    )
}

/// Returns the exchanges that were answered with addresses of a name, the newest first.
fn newest_answers<'a>(case: &Case<'a>, host: &str) -> Vec<Exchange<'a>> {
    let latest = case.history.answers(host).iter().rev().take(MAX_RELATED);
    let mut exchanges: Vec<_> = latest.filter_map(|query| Exchange::of(case.trace(), query)).collect();
    exchanges
        .sort_by_key(|exchange| std::cmp::Reverse(exchange.reply().and_then(|reply| case.at(reply.recv_at))));
    exchanges
}

/// Returns `true` if the peer of a connection is among the addresses.
fn has_address(exchanges: &[Exchange<'_>], conn: &TcpConnTrace) -> bool {
    let Ok(peer) = conn.addr_tuple.dst_ip.parse::<IpAddr>() else { return true };
    let mut addresses = exchanges.iter().flat_map(Exchange::addresses);
    addresses.any(|answer| answer.resolved_val.parse() == Ok(peer))
}
