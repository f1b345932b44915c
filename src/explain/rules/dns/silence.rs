//! Nameservers that do not answer, or not everything.

use super::{
    MAX_QUOTED, answers::decisive, each_once, is_without_address, last_name, servers, time_of, waited,
};
use crate::{
    explain::{
        case::{Case, peer, server},
        dns_exchange::{Exchange, State},
        finding::Severity,
        found::{Found, Stage},
        history::{MIN_DELAY, is_unanswered},
        text::list,
    },
    readable::duration,
    record::{DnsResType, EndReason, Failure, TcpConnTrace},
};

/// Returns `true` if no reply came in a time that is long for this nameserver.
///
/// A query that the resolver gave up has exceeded the resolver's time limit. One that ended with its request may have
/// been answered a moment later: it counts if it took far longer than usual, or, with nothing to compare with, if a
/// time limit of the client ran out meanwhile.
fn is_silent(case: &Case<'_>, exchange: &Exchange<'_>) -> bool {
    if exchange.state != State::Silent {
        return false;
    }
    let is_resolvers_limit = exchange.record.end_reason == Some(EndReason::Timeout);
    is_resolvers_limit
        || match case.history.reply_time(exchange.server) {
            Some(usual) => usual.is_exceeded_by(waited(case, exchange)),
            None => case.is_most_of_limit(waited(case, exchange)),
        }
}

/// Quotes when queries were sent, and how they ended.
fn with_evidence(mut found: Found, exchanges: &[Exchange<'_>]) -> Found {
    for exchange in exchanges.iter().take(MAX_QUOTED) {
        let (record, reason) = (exchange.record, exchange.record.end_reason.as_ref());
        found = found.shows_at(record, "dnsQueryMsgs.sentAt", exchange.question(), exchange.sent_at);
        if let Some(reason) = reason {
            found = found.shows_at(record, "endReason", reason.as_str(), record.end_at);
        }
    }
    found
}

pub(in crate::explain::rules) fn server_silent(case: &Case<'_>) -> Option<Found> {
    if !is_without_address(case) || decisive(case).is_some() {
        return None;
    }
    let exchanges: Vec<_> = case.exchanges().collect();
    let last_name = last_name(case);
    let of_last_name = || exchanges.iter().filter(|exchange| Some(exchange.name) == last_name);
    if of_last_name().any(|exchange| !matches!(exchange.state, State::Silent | State::Other)) {
        return None;
    }
    let silent: Vec<_> = of_last_name().filter(|exchange| is_silent(case, exchange)).copied().collect();
    let conns: Vec<_> = case.conns_to_nameservers().filter(|conn| is_unanswered(conn)).collect();
    if silent.is_empty() && (conns.is_empty() || !exchanges.is_empty()) {
        return None;
    }
    let names = each_once(servers(&silent).into_iter().chain(conns.iter().map(|conn| peer(conn))).collect());
    let (what, queries) = match silent.len() {
        0 => ("connections over TCP", conns.len()),
        queries => ("queries", queries),
    };
    let kind = if names.len() == 1 { "nameserver" } else { "nameservers" };
    let (names, host, time) = (list(&names), case.host(), time_of(case, &silent));
    let within = match time {
        0 => String::new(),
        _ => format!(" within {}", duration(time, case.graph.times.coarse)),
    };
    let found = Found::failure(
        Stage::Dns,
        names.as_str(),
        match queries {
            1 => format!("The {kind} {names} did not answer a query for {host}{within}."),
            _ => format!("The {kind} {names} did not answer {queries} {what} for {host}{within}."),
        },
    )
    .check(format!("Check that {names} is up, and may be asked from this host over UDP and TCP."))
    .costs(time);
    let found = with_evidence(found, &silent);
    Some(conns.iter().take(MAX_QUOTED).fold(found, |found, conn| with_handshake(found, conn)))
}

fn with_handshake(found: Found, conn: &TcpConnTrace) -> Found {
    let reason = conn.end_reason.as_ref().map(EndReason::as_str).unwrap_or_default();
    found.shows_at(conn, "endReason", reason, conn.handshake_end_at)
}

pub(in crate::explain::rules) fn port_closed(case: &Case<'_>) -> Option<Found> {
    unusable(case, &[Failure::ConnectionRefused], |server, host| {
        (
            format!("Nothing answers DNS at {server}: its host refused the query for {host}."),
            format!("Start a nameserver at {server}, or configure another one."),
        )
    })
}

pub(in crate::explain::rules) fn server_unreachable(case: &Case<'_>) -> Option<Found> {
    let failures = [
        Failure::HostUnreachable,
        Failure::NetworkUnreachable,
        Failure::NetworkDown,
        Failure::PermissionDenied,
        Failure::AddressFamilyNotSupported,
    ];
    unusable(case, &failures, |server, host| {
        (
            format!("The query for {host} could not be sent to the nameserver {server}."),
            format!("Check the routes and firewall rules of this host towards {server} (ip route get)."),
        )
    })
}

/// Finds a nameserver to which queries could not be sent. It is why the lookup failed if no other one answered.
fn unusable(
    case: &Case<'_>,
    failures: &[Failure],
    say: impl FnOnce(&str, &str) -> (String, String),
) -> Option<Found> {
    // In the order of their use: what was looked up first is waited for first.
    let dial = case
        .dials
        .iter()
        .find(|dial| dial.resolver_dials.iter().any(|attempt| is_one_of(attempt.failure.as_ref(), failures)));
    let exchanges: Vec<_> = case.exchanges().collect();
    let failed = exchanges.iter().find(|exchange| is_one_of(exchange.record.failure.as_ref(), failures));
    let by_dial = dial.and_then(|dial| {
        let mut attempts = dial.resolver_dials.iter();
        Some((dial, attempts.find(|attempt| is_one_of(attempt.failure.as_ref(), failures))?))
    });
    let address = match (failed, by_dial) {
        (Some(exchange), _) => server(exchange.server),
        (None, Some((_, attempt))) => attempt.nameserver.to_string(),
        (None, None) => return None,
    };
    // The connection after a reply that was cut off has a cause of its own.
    let others = exchanges.iter().any(|exchange| !matches!(exchange.state, State::Other));
    let (sentence, suggestion) = say(&address, &case.host());
    let found = match is_without_address(case) && !others {
        true => Found::failure(Stage::Dns, address.as_str(), sentence),
        false if exchanges.iter().any(|exchange| exchange.state == State::Truncated) => return None,
        false => Found::degraded(Stage::Dns, address.as_str(), sentence),
    };
    let found = found.check(suggestion);
    let found = match (failed, by_dial) {
        (Some(Exchange { record, .. }), _) => {
            let failure = record.failure.as_ref()?.as_str();
            found.shows_at(*record, "failure", failure, record.end_at).costs(waited(case, failed?))
        }
        (None, by_dial) => {
            let (dial, attempt) = by_dial?;
            let failure = attempt.failure.as_ref()?.as_str();
            found
                .shows_at(*dial, "resolverDials.failure", failure, attempt.dial_end_at)
                .costs(case.between(attempt.dial_begin_at, attempt.dial_end_at))
        }
    };
    let is_worth_a_word =
        found.finding.severity == Severity::Failure || found.cost >= MIN_DELAY || case.has_failed();
    is_worth_a_word.then_some(found)
}

fn is_one_of(failure: Option<&Failure>, failures: &[Failure]) -> bool {
    failure.is_some_and(|failure| failures.contains(failure))
}

pub(in crate::explain::rules) fn first_server_dead(case: &Case<'_>) -> Option<Found> {
    let exchanges: Vec<_> = case.exchanges().collect();
    let has_spoken = |silent: &Exchange<'_>| {
        let mut of_server = exchanges.iter().filter(|exchange| exchange.server == silent.server);
        of_server.any(|exchange| !matches!(exchange.state, State::Silent | State::Other))
    };
    let is_dead = |exchange: &&Exchange<'_>| {
        is_given_up(exchange) && !has_spoken(exchange) && case.history.reply_of(exchange.server).is_none()
    };
    let dead: Vec<_> = exchanges.iter().filter(is_dead).copied().collect();
    let first = dead.first()?;
    let is_later = |exchange: &&Exchange<'_>| {
        exchange.state == State::Answered && exchange.name == first.name && exchange.server != first.server
    };
    let answered = exchanges.iter().find(is_later)?;
    let (dead_server, time) = (server(first.server), time_of(case, &dead));
    let sentence = format!(
        "The nameserver {dead_server} did not answer, and {} was asked {} later.",
        server(answered.server),
        duration(time, case.graph.times.coarse)
    );
    let found = Found::degraded(Stage::Dns, dead_server.as_str(), sentence)
        .check(format!(
            "Remove {dead_server} from the nameservers, or repair it: every lookup waits for it first."
        ))
        .costs(time);
    Some(with_evidence(found, &dead))
}

/// Returns `true` if no reply came within the resolver's time limit.
fn is_given_up(exchange: &Exchange<'_>) -> bool {
    exchange.state == State::Silent && exchange.record.end_reason == Some(EndReason::Timeout)
}

pub(in crate::explain::rules) fn query_lost(case: &Case<'_>) -> Option<Found> {
    let exchanges: Vec<_> = case.exchanges().collect();
    let answer_to = |lost: &Exchange<'_>| {
        let is_later = |later: &&Exchange<'_>| {
            later.state == State::Answered && case.at(later.sent_at) > case.at(lost.sent_at)
        };
        exchanges.iter().filter(is_later).find(|later| later.has_question_of(lost)).copied()
    };
    let lost = || exchanges.iter().filter(|exchange| is_given_up(exchange));
    let (lost, answer) = lost().find_map(|lost| Some((lost, answer_to(lost)?)))?;
    // The same nameserver, now or for another name.
    let alive = if answer.server == lost.server { answer } else { case.history.reply_of(lost.server)? };
    let address = server(lost.server);
    let sentence = format!(
        "The query {} to {address} or its reply was lost: the nameserver answers others.",
        lost.question()
    );
    let found = Found::degraded(Stage::Dns, address.as_str(), sentence)
        .check(format!(
            "Check for loss of packets on the way to {address}, and whether it limits the rate of queries."
        ))
        .costs(waited(case, lost));
    let found = with_evidence(found, &[*lost]);
    Some(found.shows_at(alive.record, "dnsReplyMsgs.recvAt", alive.question(), alive.reply()?.recv_at))
}

pub(in crate::explain::rules) fn all_skipped(case: &Case<'_>) -> Option<Found> {
    let skipped = Some(Failure::NameserversSkipped);
    let dial = case.dials.iter().rev().find(|dial| dial.failure == skipped && case.has_failed())?;
    let servers: Vec<_> = dial.skipped_nameservers.iter().map(|server| server.to_string()).collect();
    let reasons: Vec<_> = dial.skip_reasons.iter().map(|reason| reason.to_string()).collect();
    let (names, reasons) = (list(&servers), list(&each_once(reasons)));
    let sentence = format!(
        "No nameserver was asked for {}, because the program skips {names} ({reasons}).",
        case.host()
    );
    Some(
        Found::failure(Stage::Dns, names.as_str(), sentence)
            .check("Check why the program skips these nameservers, or configure one that it does not skip.")
            .shows_at(*dial, "skippedNameservers", servers.join(", "), dial.resolve_end_at)
            .shows(*dial, "skipReasons", reasons),
    )
}

pub(in crate::explain::rules) fn aaaa_dropped(case: &Case<'_>) -> Option<Found> {
    let exchanges: Vec<_> = case.exchanges().collect();
    let (dropped, a) = exchanges.iter().find_map(|aaaa| {
        let is_dropped = *aaaa.kind == DnsResType::Aaaa && is_silent(case, aaaa);
        let is_same = |other: &&Exchange<'_>| other.server == aaaa.server && other.name == aaaa.name;
        let answered = || exchanges.iter().filter(is_same).filter(|other| other.state == State::Answered);
        let has_aaaa = || answered().any(|other| *other.kind == DnsResType::Aaaa);
        let a = answered().find(|other| *other.kind == DnsResType::A)?;
        (is_dropped && !has_aaaa()).then_some((aaaa, a))
    })?;
    let reply = a.reply()?;
    let same = |other: &&Exchange<'_>| {
        other.server == dropped.server && other.has_question_of(dropped) && other.state == State::Silent
    };
    let silent: Vec<_> = exchanges.iter().filter(same).copied().collect();
    let address = server(dropped.server);
    let sentence = format!(
        "The nameserver {address} answers queries for IPv4 addresses (A) of {}, and not those for IPv6 addresses \
         (AAAA).",
        dropped.name
    );
    let found = match is_without_address(case) {
        true => Found::failure(Stage::Dns, address.as_str(), sentence),
        false => Found::degraded(Stage::Dns, address.as_str(), sentence),
    };
    let end = silent.iter().map(|exchange| exchange.record.end_at).max_by_key(|end| case.at(*end))?;
    let found = found
        .check(format!(
            "Check whether a firewall before {address} drops AAAA queries, or look up IPv4 addresses only (no-aaaa)."
        ))
        .costs(case.between(reply.recv_at, end));
    Some(with_evidence(found, &silent).shows_at(a.record, "dnsReplyMsgs.recvAt", a.question(), reply.recv_at))
}

pub(in crate::explain::rules) fn tcp_blocked(case: &Case<'_>) -> Option<Found> {
    let exchanges: Vec<_> = case.exchanges().collect();
    let cut = exchanges.iter().find(|exchange| exchange.state == State::Truncated)?;
    let is_to_server =
        |conn: &&TcpConnTrace| (conn.addr_tuple.dst_ip.as_str(), conn.addr_tuple.dst_port) == cut.server;
    let conns: Vec<_> = case.conns_to_nameservers().filter(is_to_server).collect();
    let failed = conns.iter().find(|conn| !conn.connected && conn.failure.is_some())?;
    if conns.iter().any(|conn| conn.connected) {
        return None;
    }
    let (address, failure) = (server(cut.server), failed.failure.as_ref()?);
    let reply = cut.ignored_reply()?;
    let sentence = format!(
        "The reply of {address} about {} is too long for UDP, and asking over TCP failed ({}).",
        cut.name,
        failure.as_str()
    );
    let found = match is_without_address(case) {
        true => Found::failure(Stage::Dns, address.as_str(), sentence),
        false => Found::degraded(Stage::Dns, address.as_str(), sentence),
    };
    let time: i64 =
        conns.iter().map(|conn| case.between(conn.handshake_begin_at, conn.handshake_end_at)).sum();
    let found = found
        .check(format!("Allow TCP to {address}: DNS needs port 53 over TCP as well as over UDP."))
        .costs(time)
        .shows_at(cut.record, "dnsReplyMsgs.truncated", cut.question(), reply.recv_at);
    Some(found.shows_at(*failed, "failure", failure.as_str(), failed.handshake_end_at))
}
