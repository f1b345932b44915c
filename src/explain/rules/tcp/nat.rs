//! Causes that the kernel's connection tracking shows, and address translation (NAT) on the way.

use super::path::{Stall, lost_at, stall};
use crate::{
    explain::{
        case::{Case, MAX_RELATED, peer},
        found::{Found, Stage},
    },
    readable::duration,
    record::{AddrTuple, ConntrackEntry, ConntrackStatus, TcpConnTrace},
};

/// Returns the connections of a case that have an entry in connection tracking.
fn tracked<'a>(case: &Case<'a>) -> impl Iterator<Item = (&'a TcpConnTrace, &'a ConntrackEntry)> {
    let conns = case.attempts.iter().copied().chain(case.conn).take(MAX_RELATED);
    let entries = conns.filter_map(|conn| Some((conn, conn.conntrack.as_deref()?)));
    // An entry that takes the place of a lost one knows nothing of what was before.
    entries.filter(|(_, entry)| entry.lost_at.is_undefined())
}

fn text(tuple: &AddrTuple) -> String {
    let AddrTuple { src_ip, src_port, dst_ip, dst_port } = tuple;
    format!("{src_ip}:{src_port} → {dst_ip}:{dst_port}")
}

/// Returns the address to which this host redirects the connection, if it does.
pub(super) fn redirected_to(conn: &TcpConnTrace) -> Option<String> {
    let ConntrackEntry { addr_orig, addr_reply, .. } = conn.conntrack.as_deref()?;
    let is_redirected = (&addr_orig.dst_ip, addr_orig.dst_port) != (&addr_reply.src_ip, addr_reply.src_port);
    is_redirected.then(|| format!("{}:{}", addr_reply.src_ip, addr_reply.src_port))
}

pub(in crate::explain::rules) fn unexpected(case: &Case<'_>) -> Option<Found> {
    let is_translated = |entry: &ConntrackEntry| entry.addr_reply != entry.addr_orig.reversed();
    let (conn, entry) = tracked(case)
        .filter(|(conn, entry)| !conn.accepted && is_translated(entry))
        .find(|(_, entry)| !case.history.has_worked(entry))
        .filter(|_| case.has_failed())?;
    let (address, ConntrackEntry { addr_orig, addr_reply, .. }) = (peer(conn), entry);
    let sentence = match redirected_to(conn) {
        Some(target) => {
            format!("This host sends connections to {address} to {target} instead (NAT of the destination).")
        }
        None => format!(
            "This host sends connections to {address} from the address {} instead of {} (NAT of the source).",
            addr_reply.dst_ip, addr_orig.src_ip
        ),
    };
    Some(
        Found::degraded(Stage::Tcp, address.as_str(), sentence)
            .check("Check whether the NAT rules of this host mean this connection (nft list ruleset).")
            .shows_at(conn, "conntrack.addrOrig", text(addr_orig), entry.captured_at)
            .shows_at(conn, "conntrack.addrReply", text(addr_reply), entry.captured_at),
    )
}

pub(in crate::explain::rules) fn asymmetric(case: &Case<'_>) -> Option<Found> {
    let is_one_way = |conn: &TcpConnTrace, entry: &ConntrackEntry| {
        let is_later = case.at(entry.captured_at) > case.at(conn.handshake_end_at);
        conn.connected
            && conn.total_recv_bytes > 0
            && is_later
            && !entry.status.contains(ConntrackStatus::SEEN_REPLY)
    };
    let (conn, entry) =
        tracked(case).find(|(conn, entry)| is_one_way(conn, entry)).filter(|_| case.has_failed())?;
    let address = peer(conn);
    let sentence = format!(
        "{address} replied, but the connection tracking of this host has not seen the reply, and regards the \
         connection as unanswered."
    );
    Some(
        Found::degraded(Stage::Tcp, address.as_str(), sentence)
            .check(
                "Look for a rule that keeps the replies untracked (notrack, zones; nft list ruleset), and for a second \
                 path on which they come in: a firewall drops connections that it regards as unanswered.",
            )
            .shows(conn, "totalRecvBytes", conn.total_recv_bytes)
            .shows_at(conn, "conntrack.status", &entry.status, entry.captured_at),
    )
}

pub(in crate::explain::rules) fn mapping_lost(case: &Case<'_>) -> Option<Found> {
    let stall = stall(case).filter(Stall::is_mapping_lost)?;
    let Stall { conn, info, cost, .. } = stall;
    let address = peer(conn);
    let begin = case.request.and_then(|request| case.at(request.req_sent_at));
    let newer = case.history.handshakes(conn).newest;
    let newer = newer.filter(|newer| case.at(newer.handshake_begin_at) > begin);
    let lost = lost_at(conn);
    let why = match (lost, newer) {
        (Some(_), _) => ", and the connection tracking of this host has no entry for it any more",
        (None, Some(_)) => ", and a new one to the same address was made meanwhile",
        (None, None) => return None,
    };
    let sentence = format!(
        "A connection to {address} that was used before is dead: nothing sent on it was acknowledged for {}{why}.",
        duration(cost, case.graph.times.coarse)
    );
    let found = stall
        .found(case, &address, sentence)
        .check(match lost {
            Some(_) => "Find what removed the entry on this host (conntrack -E): a timeout, a flush or a full table. If it \
                is a timeout, close idle connections before it, or send keep-alive probes."
                .to_owned(),
            None => format!(
                "Close idle connections before the NAT or firewall on the way to {address} forgets them (idle timeout), \
                 or send keep-alive probes."
            ),
        })
        .shows_at(conn, "tcpInfo.unacked", info.unacked.unwrap_or_default(), info.at)
        .shows_at(conn, "tcpInfo.totalRetrans", info.total_retrans.unwrap_or_default(), info.at)
        .shows_at(conn, "tcpInfo.backoff", info.backoff.unwrap_or_default(), info.at)
        .shows_at(conn, "tcpInfo.lastAckRecvMs", info.last_ack_recv_ms.unwrap_or_default(), info.at);
    let found = newer
        .into_iter()
        .fold(found, |found, newer| found.shows_at(newer, "connected", true, newer.handshake_end_at));
    let idle = case.request.and_then(|request| Some((request, request.pool.as_ref()?.idle_us?)));
    let found = idle.into_iter().fold(found, |found, (request, idle)| {
        found.shows_at(request, "pool.idleUs", idle, request.conn_acquired_at)
    });
    Some(match lost {
        Some(time) => found.shows_at(conn, "conntrack.lostAt", time, time),
        None => found.not_seen("the entry of the NAT: it is on another host, or ConntrackProbe was off"),
    })
}
