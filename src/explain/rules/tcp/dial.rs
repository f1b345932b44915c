//! Connections that cannot be made, or late.

use super::nat;
use crate::{
    explain::{
        case::{Case, MAX_RELATED, peer},
        found::{Found, Stage},
        history::{MIN_DELAY, is_unanswered},
        text::list,
    },
    readable::duration,
    record::{DialTrace, EndReason, Failure, IcmpError, TcpConnTrace},
};

/// Why an attempt to connect to an address failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Refused,
    Forbidden,
    NoRoute,
    HostUnreachable,
    Silent,
    /// There is no local address and port for it.
    NoLocalAddress,
}

/// The attempts of a case that could not connect, all for the same reason.
struct Unreached<'a> {
    why: Why,
    attempts: Vec<&'a TcpConnTrace>,
    /// The attempts that failed for other reasons.
    others: Vec<&'a TcpConnTrace>,
}

/// The time after which the kernel sends a SYN again, in nanoseconds (RFC 6298 section 2).
const INITIAL_RTO: i64 = 1_000_000_000;
/// So many attempts without an answer show that it is no coincidence.
const MIN_UNANSWERED: usize = 3;

fn why(case: &Case<'_>, conn: &TcpConnTrace) -> Option<Why> {
    if conn.connected || conn.accepted {
        return None;
    }
    if let Some(error) = &conn.icmp_error {
        return Some(if is_prohibition(error) { Why::Forbidden } else { Why::HostUnreachable });
    }
    let was_sent = conn.addr_tuple.src_port != 0 || conn.conntrack.is_some();
    Some(match conn.failure.as_ref()? {
        Failure::ConnectionRefused => Why::Refused,
        Failure::PermissionDenied => Why::Forbidden,
        Failure::HostUnreachable | Failure::NetworkUnreachable if was_sent => Why::HostUnreachable,
        Failure::HostUnreachable
        | Failure::NetworkUnreachable
        | Failure::NetworkDown
        | Failure::AddressFamilyNotSupported => Why::NoRoute,
        // What connect(2) returns for a blackhole route.
        Failure::Unknown(error) if !was_sent && error.text().starts_with("Invalid argument") => Why::NoRoute,
        // Without an IPv6 address of its own, a host has no source for IPv6.
        Failure::AddressNotAvailable
            if is_v6(conn) && !has_source(case) && case.history.unanswered_ipv6().is_some() =>
        {
            Why::NoRoute
        }
        Failure::AddressNotAvailable | Failure::AddressInUse => Why::NoLocalAddress,
        _ if is_unanswered(conn) && is_late(case, conn) => Why::Silent,
        _ => return None,
    })
}

/// Returns `true` if a router or host says that a rule forbids it: with the codes for that, or as unreachable port, as
/// packet filters do. A host without a listener resets the connection instead.
fn is_prohibition(error: &IcmpError) -> bool {
    match error.origin.contains(':') {
        false => error.icmp_type == 3 && matches!(error.code, 3 | 9 | 10 | 13),
        true => error.icmp_type == 1 && matches!(error.code, 1 | 4 | 5 | 6),
    }
}

/// Returns `true` if a SYN was not answered in a time that is long for this peer.
///
/// It is long if the kernel sent the SYN again, or if it is far more than usual. With nothing to compare with, it is if
/// a time limit of the client ran out meanwhile.
fn is_late(case: &Case<'_>, conn: &TcpConnTrace) -> bool {
    let time = case.between(conn.handshake_begin_at, conn.handshake_end_at);
    let is_limit = conn.end_reason == Some(EndReason::Timeout)
        || (conn.end_reason == Some(EndReason::Cancelled) && case.is_most_of_limit(time));
    was_sent_again(case, conn)
        || match case.history.handshakes(conn).usual {
            Some(usual) => usual.is_exceeded_by(time),
            None => is_limit || case.history.handshakes(conn).unanswered >= MIN_UNANSWERED,
        }
}

fn was_sent_again(case: &Case<'_>, conn: &TcpConnTrace) -> bool {
    let is_counted = conn.tcp_info.last().is_some_and(|info| info.total_retrans > Some(0));
    is_counted || case.between(conn.handshake_begin_at, conn.handshake_end_at) >= INITIAL_RTO
}

fn is_v6(conn: &TcpConnTrace) -> bool {
    conn.addr_tuple.dst_ip.contains(':')
}

fn has_source(case: &Case<'_>) -> bool {
    case.dials.iter().any(|dial| !dial.source_ip.is_empty())
}

/// Returns why no attempt connected. If they failed for several reasons, it is the one that the program was told.
fn unreached<'a>(case: &Case<'a>) -> Option<Unreached<'a>> {
    let is_reached = || case.attempts.iter().any(|conn| conn.connected);
    if !case.has_failed() || is_reached() {
        return None;
    }
    let attempts = || case.attempts.iter().rev().take(MAX_RELATED).copied();
    let known = || attempts().filter_map(|conn| Some((why(case, conn)?, conn)));
    let told = case.failure();
    let decisive = known()
        .find(|(_, conn)| conn.failure.as_ref() == told)
        .or_else(|| known().find(|(why, _)| *why == Why::Silent && case.was_cut_short()));
    let (why, _) = decisive?;
    let (mut same, mut others) = (vec![], vec![]);
    for conn in attempts() {
        let is_same = self::why(case, conn) == Some(why);
        if is_same { same.push(conn) } else { others.push(conn) }
    }
    same.reverse();
    Some(Unreached { why, attempts: same, others })
}

impl<'a> Unreached<'a> {
    /// Returns the attempts to reach the server, if this is why they failed. What happens on the way to a proxy is a
    /// cause of its own.
    fn because(case: &Case<'a>, why: Why) -> Option<Self> {
        if case.request.is_some_and(|request| !request.network_proxy.is_empty()) {
            return None;
        }
        unreached(case).filter(|unreached| unreached.why == why)
    }

    /// Returns the addresses that were tried, each once.
    fn addresses(&self) -> String {
        let mut addresses: Vec<String> = Vec::new();
        for address in self.attempts.iter().map(|conn| peer(conn)) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        list(&addresses)
    }

    /// Returns the nanoseconds from the begin of the first attempt to the end of the last one.
    fn time(&self, case: &Case<'_>) -> i64 {
        let begin = self.attempts.iter().filter_map(|conn| case.at(conn.handshake_begin_at)).min();
        let end = self.attempts.iter().filter_map(|conn| case.at(conn.handshake_end_at)).max();
        begin.zip(end).map_or(0, |(begin, end)| end.saturating_sub(begin))
    }

    fn failure(&self, case: &Case<'_>, sentence: String) -> Found {
        let found = Found::failure(Stage::Tcp, self.addresses(), sentence).costs(self.time(case));
        let quoted = self.attempts.iter().chain(&self.others).take(MAX_QUOTED);
        quoted.fold(found, |found, conn| with_failure(found, conn))
    }
}

/// How many attempts a finding quotes.
const MAX_QUOTED: usize = 6;

fn with_failure(found: Found, conn: &TcpConnTrace) -> Found {
    let found = match &conn.failure {
        Some(failure) => found.shows_at(conn, "failure", failure.as_str(), conn.handshake_end_at),
        None => found,
    };
    match &conn.icmp_error {
        Some(error) => found.shows_at(conn, "icmpError", error, conn.handshake_end_at),
        None => found,
    }
}

pub(in crate::explain::rules) fn refused(case: &Case<'_>) -> Option<Found> {
    if let Some((conn, found)) = tried_in_vain(case, Why::Refused, |address, other| {
        format!("{address} refused the connection, so that {other} had to be tried.")
    }) {
        return Some(found.check(format!(
            "Check that the service of {} is running, and listens on {}.",
            case.host(),
            peer(conn)
        )));
    }
    let unreached = Unreached::because(case, Why::Refused)?;
    let addresses = unreached.addresses();
    let sentence = format!("{addresses} refused the connection: nothing listens there.");
    Some(
        unreached.failure(case, sentence).check(format!(
            "Check that the service of {} is running, and listens on {addresses}.",
            case.host()
        )),
    )
}

pub(in crate::explain::rules) fn forbidden(case: &Case<'_>) -> Option<Found> {
    let unreached = Unreached::because(case, Why::Forbidden)?;
    let (conn, addresses) = (unreached.attempts.first()?, unreached.addresses());
    Some(match &conn.icmp_error {
        Some(error) => unreached
            .failure(
                case,
                format!(
                    "{} rejects connections to {addresses}: {} (ICMP).",
                    says(error, conn),
                    error.meaning()
                ),
            )
            .check(format!("Allow connections to {addresses} in the firewall rules of {}.", error.origin)),
        None if conn.addr_tuple.src_port == 0 => unreached
            .failure(case, format!("This host forbids connections to {addresses}: no packet was sent."))
            .check("Check the routes (ip route get) and firewall rules of this host, and what may use the network."),
        None => unreached
            .failure(case, format!("A rule on the way to {addresses} forbids the connection."))
            .check(format!("Check the firewall rules on the way to {addresses}."))
            .not_seen(icmp_not_seen(conn, "which router forbids it")),
    })
}

fn icmp_not_seen(conn: &TcpConnTrace, what: &str) -> String {
    match conn.tcp_info.is_empty() {
        true => format!("{what}: TcpInfoProbe was off"),
        false => format!("{what}: the kernel kept no ICMP error, or TcpInfoProbe was not to read them"),
    }
}

/// Returns who sent an ICMP error.
fn says(error: &IcmpError, conn: &TcpConnTrace) -> String {
    match error.origin == conn.addr_tuple.dst_ip {
        true => format!("The host {}", error.origin),
        false => format!("The router {}", error.origin),
    }
}

pub(in crate::explain::rules) fn no_route(case: &Case<'_>) -> Option<Found> {
    let unreached = Unreached::because(case, Why::NoRoute)?;
    let addresses = unreached.addresses();
    let ip = &unreached.attempts.first()?.addr_tuple.dst_ip;
    let sentence = format!("This host has no route to {addresses}: no packet was sent.");
    Some(
        unreached
            .failure(case, sentence)
            .check(format!("Check the addresses and routes of this host (ip route get {ip})."))
            .shows(*unreached.attempts.first()?, "addrTuple.srcPort", 0),
    )
}

pub(in crate::explain::rules) fn host_unreachable(case: &Case<'_>) -> Option<Found> {
    let unreached = Unreached::because(case, Why::HostUnreachable)?;
    let (conn, addresses) = (unreached.attempts.first()?, unreached.addresses());
    Some(match &conn.icmp_error {
        Some(error) if error.origin == conn.addr_tuple.src_ip => unreached
            .failure(case, format!("No host on this network answers to the address of {addresses}."))
            .check(format!("Check that the host of {addresses} is up and on the same link (ip neigh).")),
        Some(error) => unreached
            .failure(
                case,
                format!("{} cannot reach {addresses}: {} (ICMP).", says(error, conn), error.meaning()),
            )
            .check(format!("Check the routes of {}, and that the host of {addresses} is up.", error.origin)),
        None => unreached
            .failure(case, format!("A router on the way reports that {addresses} cannot be reached."))
            .check(format!("Find the router (traceroute), and check that the host of {addresses} is up."))
            .not_seen(icmp_not_seen(conn, "which router reports it")),
    })
}

pub(in crate::explain::rules) fn filtered(case: &Case<'_>) -> Option<Found> {
    if let Some((conn, found)) = tried_in_vain(case, Why::Silent, |address, other| {
        format!("Nothing came back from {address}, so that {other} had to be tried.")
    }) {
        let is_v6_dead = dead_ipv6(case).is_some();
        let check = format!("Remove the address {} of {}, or make it answer.", peer(conn), case.host());
        return (!is_v6_dead).then(|| found.check(check));
    }
    let unreached = Unreached::because(case, Why::Silent)?;
    if untracked(case).is_some() {
        return None;
    }
    let (addresses, time) = (unreached.addresses(), unreached.time(case));
    let last = unreached.attempts.last()?;
    let target = nat::redirected_to(last);
    let by_nat =
        target.as_ref().map_or(String::new(), |target| format!(", which this host redirects to {target},"));
    let mut sentence = format!(
        "Nothing came back from {addresses}{by_nat} within {}",
        duration(time, case.graph.times.coarse)
    );
    let target = target.as_ref().unwrap_or(&addresses);
    let mut check =
        format!("Check that {target} is up, and that firewalls on the way let packets to it pass");
    if !was_sent_again(case, last) {
        sentence.push_str(", which is before a SYN is sent again");
        check.push_str(", and whether the time limit is too short");
    }
    let mut found = unreached.failure(case, format!("{sentence}.")).check(format!("{check}.")).shows_at(
        *last,
        "endReason",
        last.end_reason.as_ref()?.as_str(),
        last.handshake_end_at,
    );
    match last.tcp_info.last().and_then(|info| Some((info, info.total_retrans?))) {
        Some((info, sent_again)) => {
            found = found.shows_at(*last, "tcpInfo.totalRetrans", sent_again, info.at);
        }
        None => found = found.not_seen("whether the SYN was sent again: TcpInfoProbe was off"),
    }
    match &last.conntrack {
        Some(entry) => {
            found = found.shows_at(*last, "conntrack.packetsRecv", entry.packets_recv, entry.captured_at);
        }
        None => {
            found = found.not_seen(
                "whether a packet came back to this host: ConntrackProbe was off, or has not read an entry",
            );
        }
    }
    Some(found)
}

pub(in crate::explain::rules) fn untracked(case: &Case<'_>) -> Option<Found> {
    let silent = Unreached::because(case, Why::Silent)?.attempts.last().copied();
    let conn = silent.filter(|conn| conn.conntrack.is_none() && conn.addr_tuple.src_port != 0)?;
    // The probe was on, and has read entries since.
    if case.history.last_conntrack() <= case.at(conn.handshake_end_at) {
        return None;
    }
    let address = peer(conn);
    let time = case.between(conn.handshake_begin_at, conn.handshake_end_at);
    let sentence = format!(
        "The SYN to {address} was not answered, and connection tracking of this host has no entry for it: a rule of \
         this host drops the packet, or does not track it."
    );
    Some(
        Found::failure(Stage::Tcp, address.as_str(), sentence)
            .check(format!(
                "Look for a rule of this host about packets to {address} (nft list ruleset: drop, notrack)."
            ))
            .costs(time)
            .shows_at(
                conn,
                "endReason",
                conn.end_reason.as_ref().map_or("", EndReason::as_str),
                conn.handshake_end_at,
            )
            .shows(conn, "conntrack", "no entry"),
    )
}

/// Finds an attempt that failed before another one connected, which cost the time until that one began.
fn tried_in_vain<'a>(
    case: &Case<'a>,
    why: Why,
    say: impl FnOnce(&str, &str) -> String,
) -> Option<(&'a TcpConnTrace, Found)> {
    let connected = case.attempts.iter().find(|conn| conn.connected)?;
    let is_before =
        |conn: &&&TcpConnTrace| case.at(conn.handshake_begin_at) < case.at(connected.handshake_begin_at);
    let mut in_vain = case.attempts.iter().filter(is_before);
    let first = in_vain.find(|conn| self::why(case, conn) == Some(why))?;
    let time = case.between(first.handshake_begin_at, connected.handshake_begin_at);
    if time < MIN_DELAY {
        return None;
    }
    let sentence = say(&peer(first), &peer(connected));
    let found = Found::degraded(Stage::Tcp, peer(first), sentence).costs(time);
    let found = with_failure(found, first);
    Some((first, found.shows_at(*connected, "connected", true, connected.handshake_end_at)))
}

/// Returns the IPv6 attempts of a dial that connected over IPv4, if IPv6 does not work at all.
fn dead_ipv6<'a>(case: &Case<'a>) -> Option<(Vec<&'a TcpConnTrace>, &'a TcpConnTrace)> {
    let connected = case.attempts.iter().find(|conn| conn.connected && !is_v6(conn))?;
    let is_before = |conn: &&TcpConnTrace| {
        is_v6(conn) && case.at(conn.handshake_begin_at) < case.at(connected.handshake_begin_at)
    };
    let v6: Vec<_> = case.attempts.iter().copied().filter(is_before).collect();
    let is_dead = |conn: &&TcpConnTrace| why(case, conn).is_some_and(|why| why != Why::Refused);
    (!v6.is_empty() && v6.iter().all(is_dead) && case.history.unanswered_ipv6().is_some())
        .then_some((v6, connected))
}

pub(in crate::explain::rules) fn ipv6_dead(case: &Case<'_>) -> Option<Found> {
    let (v6, connected) = dead_ipv6(case)?;
    let addresses: Vec<_> = v6.iter().map(|conn| peer(conn)).collect();
    let sentence = format!(
        "IPv6 does not work: {} did not answer over IPv6, and {} did over IPv4.",
        list(&addresses),
        peer(connected)
    );
    let time = case.between(v6.first()?.handshake_begin_at, connected.handshake_begin_at);
    let found = Found::degraded(Stage::Tcp, "IPv6", sentence)
        .check("Repair the IPv6 route of this host, or do not look up IPv6 addresses (no-aaaa).")
        .costs(time);
    let found = v6.iter().take(MAX_QUOTED).fold(found, |found, conn| with_failure(found, conn));
    let found = found.shows_at(connected, "connected", true, connected.handshake_end_at);
    (time >= MIN_DELAY).then_some(found)
}

pub(in crate::explain::rules) fn syn_lost(case: &Case<'_>) -> Option<Found> {
    let is_dialed = |conn: &&&TcpConnTrace| conn.connected && !conn.accepted && !conn.reused;
    let conn = case.attempts.iter().find(is_dialed)?;
    let time = case.between(conn.handshake_begin_at, conn.handshake_end_at);
    let counted = conn.tcp_info.first().and_then(|info| Some((info, info.total_retrans?)));
    let usual = case.history.handshakes(conn).usual.filter(|usual| usual.count >= MIN_UNANSWERED);
    // Without a count, a whole second of a handshake that usually takes a part of it.
    let over = time % INITIAL_RTO;
    let is_multiple =
        || time >= INITIAL_RTO && usual.is_some_and(|usual| over <= usual.nanos.max(INITIAL_RTO / 50));
    match counted {
        Some((_, 0)) => return None,
        None if !is_multiple() => return None,
        _ => {}
    }
    let address = peer(conn);
    let sentence = format!(
        "The SYN to {address} was lost, and sent again: the handshake took {}.",
        duration(time, case.graph.times.coarse)
    );
    let found = Found::degraded(Stage::Tcp, address.as_str(), sentence)
        .check(format!(
            "Check for loss of packets on the way to {address}, and whether its queue of connections is full \
             (ListenOverflows)."
        ))
        .costs(time)
        .shows_at(*conn, "handshakeEndAt", duration(time, case.graph.times.coarse), conn.handshake_end_at);
    Some(match counted {
        Some((info, sent_again)) => found.shows_at(*conn, "tcpInfo.totalRetrans", sent_again, info.at),
        None => found.not_seen("whether the SYN was sent again: TcpInfoProbe was off"),
    })
}

/// Returns the dial whose configured source address cannot be used. It has no attempts if the address has another
/// family than all addresses of the destination.
fn dial_with_bad_source<'a>(case: &Case<'a>) -> Option<&'a DialTrace> {
    let dial = case.dials.iter().find(|dial| !dial.source_ip.is_empty() && dial.failure.is_some())?;
    let is_own = || case.history.has_source(&dial.source_ip);
    let is_bad = match dial.failure.as_ref()? {
        Failure::AddressNotAvailable => !is_own(),
        Failure::InvalidArgument => case.attempts.is_empty() && dial.dial_err.contains("source address"),
        Failure::DnsNoAnswer => case.exchanges().any(|exchange| exchange.addresses().next().is_some()),
        _ => false,
    };
    is_bad.then_some(dial)
}

pub(in crate::explain::rules) fn bad_source(case: &Case<'_>) -> Option<Found> {
    let dial = dial_with_bad_source(case).filter(|_| case.has_failed())?;
    let (source, target) = (dial.source_ip.as_str(), &dial.dst_address);
    let sentence = match case.attempts.first().map(|conn| conn.addr_tuple.dst_ip.contains(':')) {
        Some(is_v6) if is_v6 == source.contains(':') => {
            format!(
                "The source address {source} is not an address of this host, so that {target} was not dialed."
            )
        }
        _ => format!(
            "The source address {source} cannot be used for {target}, which has the other address family."
        ),
    };
    Some(
        Found::failure(Stage::Process, source, sentence)
            .check(format!(
                "Give this host the address {source} (ip address), or configure another source address."
            ))
            .shows(dial, "sourceIP", source)
            .shows_at(dial, "failure", dial.failure.as_ref()?.as_str(), dial.dial_end_at),
    )
}

pub(in crate::explain::rules) fn ports_exhausted(case: &Case<'_>) -> Option<Found> {
    let unreached = Unreached::because(case, Why::NoLocalAddress)?;
    if dial_with_bad_source(case).is_some() {
        return None;
    }
    let addresses = unreached.addresses();
    let sentence = format!("There was no local port left to connect to {addresses}.");
    Some(
        unreached
            .failure(case, sentence)
            .check(
                "Reuse connections, close them on the other side first (TIME_WAIT), or widen \
                 net.ipv4.ip_local_port_range.",
            )
            .shows(
                *unreached.attempts.first()?,
                "handshakeErr",
                &**unreached.attempts.first()?.handshake_err,
            ),
    )
}
