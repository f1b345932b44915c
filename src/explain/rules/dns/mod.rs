//! Causes in the lookup of names.

mod answers;
mod compared;
mod silence;

pub(super) use self::{
    answers::{
        bogon, dangling_cname, invalid_name, malformed, misbehaving, no_data, nxdomain, refused,
        search_detour, servfail, spoofed,
    },
    compared::{hosts_override, slow, stale_address},
    silence::{
        aaaa_dropped, all_skipped, first_server_dead, port_closed, query_lost, server_silent,
        server_unreachable, tcp_blocked,
    },
};
use crate::explain::{
    case::{Case, MAX_RELATED, server},
    dns_exchange::Exchange,
};

/// How many records a finding about a lookup quotes.
const MAX_QUOTED: usize = 4;

/// Returns the nanoseconds for which a reply was waited for.
fn waited(case: &Case<'_>, exchange: &Exchange<'_>) -> i64 {
    case.between(exchange.sent_at, exchange.record.end_at)
}

/// Returns the time from the first of the queries to the end of the last one.
fn time_of(case: &Case<'_>, exchanges: &[Exchange<'_>]) -> i64 {
    let begin = exchanges.iter().filter_map(|exchange| case.at(exchange.sent_at)).min();
    let end = exchanges.iter().filter_map(|exchange| case.at(exchange.record.end_at)).max();
    begin.zip(end).map_or(0, |(begin, end)| end.saturating_sub(begin))
}

/// Returns the addresses of the nameservers, each once.
fn servers<'a>(exchanges: impl IntoIterator<Item = &'a Exchange<'a>>) -> Vec<String> {
    let servers: Vec<_> = exchanges.into_iter().map(|exchange| server(exchange.server)).collect();
    each_once(servers)
}

fn each_once(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts.dedup();
    texts
}

/// Returns `true` if none of the dials got an address to connect to.
fn is_without_address(case: &Case<'_>) -> bool {
    case.attempts.is_empty() && case.has_failed()
}

/// Returns the name that was asked for last, which is the one that decides: those of search domains come before it.
fn last_name<'a>(case: &Case<'a>) -> Option<&'a str> {
    let exchanges: Vec<_> = case.exchanges().take(MAX_RELATED).collect();
    let last = exchanges.iter().max_by_key(|exchange| case.at(exchange.sent_at))?;
    Some(last.name)
}
