//! Causes in the lookup of names.

use crate::{
    explain::{
        case::Case,
        found::{Found, Stage},
    },
    readable::duration,
    record::{DnsQueryTrace, EndReason, Failure},
};

/// Returns the names of the queries' questions, each once.
fn question(query: &DnsQueryTrace) -> String {
    let question = query.dns_query_msgs.iter().flat_map(|message| &message.questions).next();
    question
        .map(|question| format!("{} {}", question.name.trim_end_matches('.'), question.r#type.as_str()))
        .unwrap_or_default()
}

/// Returns `true` if a query was sent, and no reply came until the resolver stopped waiting.
fn is_unanswered(query: &DnsQueryTrace) -> bool {
    let was_waited_for = matches!(query.end_reason, Some(EndReason::Timeout | EndReason::Cancelled));
    was_waited_for
        && !query.dns_query_msgs.is_empty()
        && !query.dns_reply_msgs.iter().any(|reply| reply.ignored.is_empty())
}

fn is_answered(query: &DnsQueryTrace) -> bool {
    query.dns_reply_msgs.iter().any(|reply| reply.ignored.is_empty())
}

/// Returns when the waiting for a query began and ended.
fn waited(case: &Case<'_>, query: &DnsQueryTrace) -> i64 {
    query.dns_query_msgs.first().map_or(0, |first| case.between(first.sent_at, query.end_at))
}

/// Returns the time from the first of the queries to the end of the last one.
fn time_of(case: &Case<'_>, queries: &[&DnsQueryTrace]) -> i64 {
    let begin = queries.iter().filter_map(|query| case.at(query.dns_query_msgs.first()?.sent_at)).min();
    let end = queries.iter().filter_map(|query| case.at(query.end_at)).max();
    begin.zip(end).map_or(0, |(begin, end)| end.saturating_sub(begin))
}

fn servers(case: &Case<'_>, queries: &[&DnsQueryTrace]) -> Vec<String> {
    let mut servers: Vec<_> = queries.iter().map(|query| case.nameserver(query)).collect();
    servers.sort();
    servers.dedup();
    servers
}

fn with_evidence(mut found: Found, queries: &[&DnsQueryTrace]) -> Found {
    for query in queries.iter().take(4) {
        if let Some(sent) = query.dns_query_msgs.first() {
            found = found.shows_at(*query, "dnsQueryMsgs.sentAt", question(query), sent.sent_at);
        }
        let reason = query.end_reason.as_ref().map(EndReason::as_str).unwrap_or_default();
        found = found.shows_at(*query, "endReason", reason, query.end_at);
    }
    found
}

pub(super) fn server_silent(case: &Case<'_>) -> Option<Found> {
    let silent: Vec<_> = case.queries().filter(|query| is_unanswered(query)).collect();
    if silent.is_empty() || case.queries().any(is_answered) {
        return None;
    }
    let servers = servers(case, &silent);
    let verb = if servers.len() == 1 { "nameserver" } else { "nameservers" };
    let names = servers.join(" and ");
    let sentence = format!("The {verb} {names} did not answer {} for {}.", count(silent.len()), case.host());
    let found = Found::failure(Stage::Dns, names.as_str(), sentence)
        .check(format!("Check that {names} may be asked from this host, over UDP and TCP, and is up."))
        .costs(time_of(case, &silent));
    Some(with_evidence(found, &silent))
}

pub(super) fn port_closed(case: &Case<'_>) -> Option<Found> {
    let refused: Vec<_> =
        case.queries().filter(|query| query.failure == Some(Failure::ConnectionRefused)).collect();
    let first = refused.first()?;
    let server = case.nameserver(first);
    let sentence =
        format!("Nothing answers DNS at {server}: its host refused the query for {}.", case.host());
    let has_answer = case.queries().any(is_answered);
    let found = match has_answer {
        true => Found::degraded(Stage::Dns, server.as_str(), sentence),
        false => Found::failure(Stage::Dns, server.as_str(), sentence),
    };
    let found = found
        .check(format!("Start a nameserver at {server}, or configure another one."))
        .costs(waited(case, first));
    Some(found.shows_at(*first, "failure", Failure::ConnectionRefused.as_str(), first.end_at))
}

pub(super) fn first_server_dead(case: &Case<'_>) -> Option<Found> {
    let silent: Vec<_> = case
        .queries()
        .filter(|query| is_unanswered(query) && query.end_reason == Some(EndReason::Timeout))
        .collect();
    let dead = silent.first()?;
    let server = case.nameserver(dead);
    let answered = case.queries().find(|query| is_answered(query) && case.nameserver(query) != server)?;
    let time = time_of(case, &silent);
    let sentence = format!(
        "The nameserver {server} did not answer, and {} was asked {} later.",
        case.nameserver(answered),
        duration(time, false)
    );
    let found = Found::degraded(Stage::Dns, server.as_str(), sentence)
        .check(format!(
            "Remove {server} from the nameservers, or repair it: every lookup waits for it first."
        ))
        .costs(time);
    Some(with_evidence(found, &silent))
}

pub(super) fn nxdomain(case: &Case<'_>) -> Option<Found> {
    answered_with(case, Failure::DnsNxdomainError, |host, server| {
        (
            format!("The name {host} does not exist, says the nameserver {server}."),
            format!("Check the spelling of {host}, and whether {server} is to know it."),
        )
    })
}

pub(super) fn servfail(case: &Case<'_>) -> Option<Found> {
    answered_with(case, Failure::DnsServfailError, |host, server| {
        (
            format!("The nameserver {server} could not find out about {host} (SERVFAIL)."),
            format!(
                "Look into the log of {server}: a server that it asks is down, or a signature is invalid (DNSSEC)."
            ),
        )
    })
}

pub(super) fn refused(case: &Case<'_>) -> Option<Found> {
    answered_with(case, Failure::DnsRefusedError, |host, server| {
        (
            format!("The nameserver {server} refuses to answer this client about {host} (REFUSED)."),
            format!("Allow this host to ask {server}, or ask another nameserver."),
        )
    })
}

pub(super) fn no_data(case: &Case<'_>) -> Option<Found> {
    answered_with(case, Failure::DnsNoAnswer, |host, server| {
        (
            format!("The name {host} exists, but has no address, says the nameserver {server}."),
            format!("Check the A and AAAA records of {host}."),
        )
    })
}

/// Finds a lookup that failed because of how a nameserver answered.
fn answered_with(
    case: &Case<'_>,
    failure: Failure,
    say: impl FnOnce(&str, &str) -> (String, String),
) -> Option<Found> {
    if case.failure() != Some(&failure) {
        return None;
    }
    let query = case.queries().filter(|query| query.failure.as_ref() == Some(&failure)).last()?;
    let host = case.host();
    let (sentence, suggestion) = say(&host, &case.nameserver(query));
    let mut found =
        Found::failure(Stage::Dns, host.as_str(), sentence).check(suggestion).costs(waited(case, query));
    if let Some((reply, code)) =
        query.dns_reply_msgs.iter().find_map(|reply| Some((reply, reply.r_code.as_ref()?)))
    {
        found = found.shows_at(query, "dnsReplyMsgs.rCode", code.as_str(), reply.recv_at);
    }
    Some(found.shows(query, "failure", failure.as_str()))
}

fn count(queries: usize) -> String {
    if queries == 1 { "a query".into() } else { format!("{queries} queries") }
}
