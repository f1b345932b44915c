//! Answers of nameservers that are no help.

use super::{MAX_QUOTED, is_without_address, last_name, time_of, waited};
use crate::{
    explain::{
        case::{Case, MAX_RELATED, server},
        dns_exchange::{Exchange, State},
        found::{Found, Stage},
        history::MIN_DELAY,
        text::list,
    },
    readable::{duration, shortened},
    record::{DnsAnswer, DnsReplyMsg, DnsResType, Failure},
};
use std::net::IpAddr;

/// No nameserver was asked: the name is not one of the DNS.
pub(in crate::explain::rules) fn invalid_name(case: &Case<'_>) -> Option<Found> {
    let dial = case.dials.last().filter(|dial| dial.failure == Some(Failure::DnsInvalidName))?;
    let (host, why) = (case.host(), shortened(dial.dial_err.trim_end_matches('.')));
    let sentence = format!("{host} is no name that can be looked up: {why}.");
    let found = Found::failure(Stage::Dns, host.as_str(), sentence)
        .check("Check the host of the URL: a part between two dots may be empty or too long, or in another script than Latin, which is written in Punycode.");
    Some(found.shows_at(*dial, "failure", Failure::DnsInvalidName.as_str(), dial.dial_end_at))
}

pub(in crate::explain::rules) fn nxdomain(case: &Case<'_>) -> Option<Found> {
    if dangling(case).is_some() {
        return None;
    }
    answered_with(case, &Failure::DnsNxdomainError, |host, server| {
        (
            format!("The name {host} does not exist, says {server}."),
            format!("Check the spelling of {host}, and whether this nameserver is to know it."),
        )
    })
}

pub(in crate::explain::rules) fn servfail(case: &Case<'_>) -> Option<Found> {
    answered_with(case, &Failure::DnsServfailError, |host, server| {
        (
            format!("{} could not find out about {host} (SERVFAIL).", capitalized(server)),
            "Look into the log of the nameserver: a server that it asks is down, or a signature is invalid (DNSSEC)."
                .to_owned(),
        )
    })
}

pub(in crate::explain::rules) fn refused(case: &Case<'_>) -> Option<Found> {
    answered_with(case, &Failure::DnsRefusedError, |host, server| {
        (
            format!("{} refuses to answer this client about {host} (REFUSED).", capitalized(server)),
            "Allow this host to ask the nameserver, or configure another one.".to_owned(),
        )
    })
}

pub(in crate::explain::rules) fn no_data(case: &Case<'_>) -> Option<Found> {
    if dangling(case).is_some() {
        return None;
    }
    let mut kinds: Vec<_> = case.exchanges().map(|exchange| exchange.kind.as_str()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let kinds =
        if kinds.is_empty() { "address".to_owned() } else { format!("{} record", kinds.join(" or ")) };
    answered_with(case, &Failure::DnsNoAnswer, |host, server| {
        (
            format!("The name {host} exists, but has no {kinds}, says {server}."),
            match kinds.contains("or") {
                true => format!("Check the A and AAAA records of {host}."),
                false => {
                    format!("Check the {kinds} of {host}, and whether the other address family may be used.")
                }
            },
        )
    })
}

pub(in crate::explain::rules) fn misbehaving(case: &Case<'_>) -> Option<Found> {
    // The second is recorded for a referral by a server that neither knows the answer nor asks others.
    let is_it =
        |failure: &&Failure| matches!(failure, Failure::DnsServerMisbehaving | Failure::DnsTemporaryFailure);
    answered_with(case, decisive(case).filter(is_it)?, |host, server| {
        (
            format!(
                "{} answers with an error, or refers to others, when asked about {host}.",
                capitalized(server)
            ),
            "Check that the address is that of a nameserver for clients, and look into its log.".to_owned(),
        )
    })
}

/// Returns how the lookup failed, if a nameserver's answer is why.
///
/// A server error is the reason even if another nameserver did not answer at all.
pub(super) fn decisive<'a>(case: &Case<'a>) -> Option<&'a Failure> {
    if !is_without_address(case) {
        return None;
    }
    let is_error = |failure: &Failure| {
        matches!(
            failure,
            Failure::DnsServfailError
                | Failure::DnsRefusedError
                | Failure::DnsServerMisbehaving
                | Failure::DnsTemporaryFailure
        )
    };
    let is_answer = |failure: &Failure| {
        is_error(failure) || matches!(failure, Failure::DnsNxdomainError | Failure::DnsNoAnswer)
    };
    let told = case.dials.iter().rev().filter_map(|dial| dial.failure.as_ref()).next();
    let name = last_name(case);
    let errors = || case.exchanges().filter(|exchange| Some(exchange.name) == name);
    // The addresses were of no use, which is not for the nameserver to answer for.
    if case.exchanges().any(|exchange| exchange.addresses().next().is_some()) {
        return None;
    }
    told.filter(|failure| is_answer(failure)).or_else(|| {
        let failures = errors().filter_map(|exchange| exchange.record.failure.as_ref());
        failures.filter(|failure| is_error(failure)).last()
    })
}

fn capitalized(text: &str) -> String {
    text.replacen("the ", "The ", 1)
}

/// Finds a lookup that failed because of how a nameserver answered. `say` is given the host and `the nameserver …`.
fn answered_with(
    case: &Case<'_>,
    failure: &Failure,
    say: impl FnOnce(&str, &str) -> (String, String),
) -> Option<Found> {
    let dial = case.dials.last().filter(|_| decisive(case) == Some(failure))?;
    let host = case.host();
    let answers = case.exchanges().filter(|exchange| exchange.record.failure.as_ref() == Some(failure));
    // That of the name as given decides over those of search domains.
    let Some(exchange) = answers.max_by_key(|exchange| (host == exchange.name, case.at(exchange.sent_at)))
    else {
        let (sentence, suggestion) = say(&host, "the resolver");
        return Some(
            Found::failure(Stage::Dns, host.as_str(), sentence)
                .check(suggestion)
                .costs(case.between(dial.resolve_begin_at, dial.resolve_end_at))
                .shows_at(*dial, "failure", failure.as_str(), dial.dial_end_at)
                .not_seen("which nameserver said so: no DNS messages of this lookup were recorded"),
        );
    };
    let (sentence, suggestion) = say(&host, &format!("the nameserver {}", server(exchange.server)));
    let mut found =
        Found::failure(Stage::Dns, host.as_str(), sentence).check(suggestion).costs(waited(case, &exchange));
    if let Some((reply, code)) = exchange.reply().and_then(|reply| Some((reply, reply.r_code.as_ref()?))) {
        found = found.shows_at(exchange.record, "dnsReplyMsgs.rCode", code.as_str(), reply.recv_at);
    }
    Some(found.shows(exchange.record, "failure", failure.as_str()))
}

/// A chain of aliases that ends without an address.
struct Dangling<'a> {
    exchange: Exchange<'a>,
    reply: &'a DnsReplyMsg,
    /// The names that follow the one in the question.
    chain: Vec<&'a str>,
    is_loop: bool,
}

fn dangling<'a>(case: &Case<'a>) -> Option<Dangling<'a>> {
    if !is_without_address(case) {
        return None;
    }
    let failures = [Some(Failure::DnsNoAnswer), Some(Failure::DnsNxdomainError)];
    let mut exchanges = case.exchanges().filter(|exchange| failures.contains(&exchange.record.failure));
    exchanges.find_map(|exchange| {
        let reply = exchange.reply()?;
        let (mut name, mut chain, mut is_loop) = (exchange.name, vec![], false);
        while let Some(next) = alias(&reply.answers, name) {
            is_loop = next == exchange.name || chain.contains(&next);
            chain.push(next);
            if is_loop || chain.len() == MAX_CHAIN {
                break;
            }
            name = next;
        }
        (!chain.is_empty()).then_some(Dangling { exchange, reply, chain, is_loop })
    })
}

/// How many aliases of a chain are followed.
const MAX_CHAIN: usize = 16;

/// Returns what a name is an alias of.
fn alias<'a>(answers: &'a [DnsAnswer], name: &str) -> Option<&'a str> {
    let is_alias = |answer: &&DnsAnswer| {
        let owner = answer.name.trim_end_matches('.');
        answer.r#type == DnsResType::Cname && owner.eq_ignore_ascii_case(name)
    };
    answers.iter().find(is_alias).map(|answer| answer.resolved_val.trim_end_matches('.'))
}

pub(in crate::explain::rules) fn dangling_cname(case: &Case<'_>) -> Option<Found> {
    let Dangling { exchange, reply, chain, is_loop } = dangling(case)?;
    let (name, last, server) = (exchange.name, chain.last()?, server(exchange.server));
    let sentence = if is_loop {
        format!("The aliases (CNAME) of {name} lead back to {last}, says the nameserver {server}.")
    } else if exchange.record.failure == Some(Failure::DnsNxdomainError) {
        format!(
            "The name {name} is an alias (CNAME) of {last}, which does not exist, says the nameserver {server}."
        )
    } else {
        format!(
            "The name {name} is an alias (CNAME) of {last}, which has no address, says the nameserver {server}."
        )
    };
    Some(
        Found::failure(Stage::Dns, name, sentence)
            .check(format!("Correct the CNAME records of {name}, or add the address of {last}."))
            .costs(waited(case, &exchange))
            .shows_at(
                exchange.record,
                "dnsReplyMsgs.answers",
                format!("{name} → {}", chain.join(" → ")),
                reply.recv_at,
            )
            .shows(exchange.record, "failure", exchange.record.failure.as_ref()?.as_str()),
    )
}

pub(in crate::explain::rules) fn spoofed(case: &Case<'_>) -> Option<Found> {
    ignored(
        case,
        |why| !is_malformed(why),
        |server, question, why| {
            (
                format!(
                    "Every reply of {server} to the query {question} was ignored ({why}): it answers something else."
                ),
                format!("Check what answers on the way to {server}: a forged reply, or a broken forwarder."),
            )
        },
    )
}

pub(in crate::explain::rules) fn malformed(case: &Case<'_>) -> Option<Found> {
    ignored(case, is_malformed, |server, question, why| {
        (
            format!("The reply of {server} to the query {question} cannot be read ({why})."),
            format!("Check what changes replies on the way, or repair the nameserver {server}."),
        )
    })
}

fn is_malformed(why: &str) -> bool {
    why.starts_with("malformed")
}

/// Finds queries whose replies were all ignored. That is why the lookup failed if no other query was answered.
fn ignored(
    case: &Case<'_>,
    applies: impl Fn(&str) -> bool,
    say: impl FnOnce(&str, &str, &str) -> (String, String),
) -> Option<Found> {
    let is_ignored = |exchange: &Exchange<'_>| {
        let reply = exchange.ignored_reply();
        exchange.state == State::Ignored && reply.is_some_and(|reply| applies(&reply.ignored))
    };
    let exchanges: Vec<_> = case.exchanges().filter(is_ignored).collect();
    let first = exchanges.first()?;
    let why = &first.ignored_reply()?.ignored;
    let address = server(first.server);
    let (sentence, suggestion) = say(&address, &first.question(), why);
    let found = match is_without_address(case) {
        true => Found::failure(Stage::Dns, address.as_str(), sentence),
        false => Found::degraded(Stage::Dns, address.as_str(), sentence),
    };
    let found = found.check(suggestion).costs(time_of(case, &exchanges));
    Some(exchanges.iter().take(MAX_QUOTED).fold(found, |found, exchange| match exchange.ignored_reply() {
        Some(reply) => {
            found.shows_at(exchange.record, "dnsReplyMsgs.ignored", reply.ignored.as_str(), reply.recv_at)
        }
        None => found,
    }))
}

pub(in crate::explain::rules) fn bogon(case: &Case<'_>) -> Option<Found> {
    let is_unreached = !case.attempts.is_empty() && case.attempts.iter().all(|conn| !conn.connected);
    if !case.has_failed() || !is_unreached {
        return None;
    }
    let with_addresses: Vec<_> =
        case.exchanges().filter(|exchange| exchange.addresses().next().is_some()).collect();
    let last = with_addresses.last()?;
    let addresses =
        || with_addresses.iter().flat_map(Exchange::addresses).map(|answer| answer.resolved_val.as_str());
    let (name, host) = (last.name, case.host());
    if !is_public_name(name) || !host.eq_ignore_ascii_case(name) {
        return None;
    }
    let reaches: Vec<_> = addresses().map(reach).collect();
    let address = addresses().next()?;
    let says = server(last.server);
    let found = if reaches.iter().all(|reach| *reach == Reach::This) {
        let sentence = format!(
            "The nameserver {says} says that {name} is at {address}, which is this host itself and not the server."
        );
        Found::failure(Stage::Dns, name, sentence)
            .check(format!("Check whether {says} blocks {name} with this answer, or correct its address."))
    } else if reaches.iter().all(|reach| *reach == Reach::Private) {
        let elsewhere = case.history.answers(name).iter().rev().take(MAX_RELATED);
        let elsewhere = elsewhere.filter_map(|query| Exchange::of(case.trace(), query));
        let is_public = |answer: &&DnsAnswer| reach(&answer.resolved_val) == Reach::Public;
        let public =
            elsewhere.flat_map(|exchange| exchange.addresses().map(move |answer| (exchange, answer)));
        let (other, public) = public.into_iter().find(|(_, answer)| is_public(answer))?;
        let sentence = format!(
            "The nameserver {says} says that {name} is at the private address {address}, where it was not reached; {} \
             says {}.",
            server(other.server),
            public.resolved_val
        );
        let reply = other.reply()?;
        Found::failure(Stage::Dns, name, sentence)
            .check(format!("Check which of both nameservers is to be asked for {name} on this network."))
            .shows_at(other.record, "dnsReplyMsgs.answers", public.resolved_val.as_str(), reply.recv_at)
    } else {
        return None;
    };
    let texts: Vec<_> = addresses().collect();
    Some(found.shows_at(last.record, "dnsReplyMsgs.answers", list(&texts), last.reply()?.recv_at))
}

/// Returns `true` if a name can be known to the whole Internet: it has several labels, and its last one is not reserved
/// for private use (RFC 2606, RFC 6761, RFC 6762 appendix G, RFC 8375).
fn is_public_name(name: &str) -> bool {
    const RESERVED: [&str; 15] = [
        "test",
        "example",
        "invalid",
        "localhost",
        "local",
        "internal",
        "intranet",
        "private",
        "corp",
        "home",
        "lan",
        "localdomain",
        "arpa",
        "onion",
        "alt",
    ];
    let last = name.rsplit_once('.').map(|(_, last)| last.to_ascii_lowercase());
    last.is_some_and(|last| !RESERVED.contains(&last.as_str()))
}

/// From where an address can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// Only from this host: a null or loopback address.
    This,
    /// Only from this network (RFC 1918, RFC 4193, RFC 6598, link-local).
    Private,
    Public,
}

fn reach(address: &str) -> Reach {
    let Ok(address) = address.parse::<IpAddr>() else { return Reach::Public };
    let address = address.to_canonical();
    let is_private = match address {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            ip.is_private() || ip.is_link_local() || (a == 100 && b & 0xc0 == 64)
        }
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local(),
    };
    if address.is_unspecified() || address.is_loopback() {
        Reach::This
    } else if is_private {
        Reach::Private
    } else {
        Reach::Public
    }
}

pub(in crate::explain::rules) fn search_detour(case: &Case<'_>) -> Option<Found> {
    let exchanges: Vec<_> = case.exchanges().collect();
    let found = exchanges.iter().rev().find(|exchange| exchange.addresses().next().is_some())?;
    let in_vain: Vec<_> = exchanges
        .iter()
        .filter(|exchange| exchange.name != found.name && case.at(exchange.sent_at) < case.at(found.sent_at))
        .copied()
        .collect();
    let first = in_vain.first()?;
    let begin = in_vain.iter().map(|exchange| exchange.sent_at).min_by_key(|at| case.at(*at))?;
    let (detour, direct) = (case.between(begin, found.sent_at), found.reply_time(&case.graph.times)?);
    // A fast reply about a name that does not exist is what search domains are made for.
    if detour < direct.saturating_mul(3) || detour < MIN_DELAY {
        return None;
    }
    let mut names: Vec<_> = in_vain.iter().map(|exchange| exchange.name).collect();
    names.dedup();
    names.sort_unstable();
    names.dedup();
    let sentence = format!(
        "The nameserver {} was first asked in vain for {}, which took {}, before it was asked for {}.",
        server(first.server),
        list(&names),
        duration(detour, case.graph.times.coarse),
        found.name
    );
    let found = Found::degraded(Stage::Dns, case.host(), sentence)
        .check(format!(
            "Write the name with a final dot ({}.), or remove search domains (search, ndots).",
            found.name
        ))
        .costs(detour)
        .shows_at(found.record, "dnsQueryMsgs.sentAt", found.question(), found.sent_at);
    Some(in_vain.iter().take(MAX_QUOTED).fold(found, |found, exchange| {
        let failure = exchange.record.failure.as_ref().map(Failure::as_str).unwrap_or("no answer");
        found.shows_at(
            exchange.record,
            "failure",
            format!("{}: {failure}", exchange.question()),
            exchange.record.end_at,
        )
    }))
}
