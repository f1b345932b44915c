//! Causes that the kernel's connection tracking shows, and address translation (NAT) on the way.

use super::path::{Stall, stall};
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
    conns.filter_map(|conn| Some((conn, conn.conntrack.as_deref()?)))
}

fn text(tuple: &AddrTuple) -> String {
    let AddrTuple { src_ip, src_port, dst_ip, dst_port } = tuple;
    format!("{src_ip}:{src_port} → {dst_ip}:{dst_port}")
}

pub(in crate::explain::rules) fn unexpected(case: &Case<'_>) -> Option<Found> {
    let is_translated = |entry: &ConntrackEntry| entry.addr_reply != entry.addr_orig.reversed();
    let (conn, entry) = tracked(case)
        .filter(|(conn, entry)| !conn.accepted && is_translated(entry))
        .find(|(_, entry)| !case.history.has_worked(entry))
        .filter(|_| case.has_failed())?;
    let (address, ConntrackEntry { addr_orig, addr_reply, .. }) = (peer(conn), entry);
    let is_redirected = (&addr_orig.dst_ip, addr_orig.dst_port) != (&addr_reply.src_ip, addr_reply.src_port);
    let sentence = match is_redirected {
        true => format!(
            "This host sends connections to {address} to {}:{} instead (NAT of the destination).",
            addr_reply.src_ip, addr_reply.src_port
        ),
        false => format!(
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
        "Replies of {address} reach this host past its connection tracking, which holds the connection for unanswered."
    );
    Some(
        Found::degraded(Stage::Tcp, address.as_str(), sentence)
            .check(
                "Let replies come in on the path of the requests (ip rule, notrack): a firewall drops connections that \
                 it holds for unanswered.",
            )
            .shows(conn, "totalRecvBytes", conn.total_recv_bytes)
            .shows_at(conn, "conntrack.status", &entry.status, entry.captured_at),
    )
}

pub(in crate::explain::rules) fn mapping_lost(case: &Case<'_>) -> Option<Found> {
    let stall = stall(case).filter(Stall::is_mapping_lost)?;
    let Stall { conn, info, cost, .. } = stall;
    let address = peer(conn);
    let newer = case.history.handshakes(conn).newest?;
    let sentence = format!(
        "A connection to {address} that was used before is dead: nothing sent on it was acknowledged for {}, and a new \
         one to the same address was made meanwhile.",
        duration(cost, case.graph.times.coarse)
    );
    let found = stall
        .found(case, &address, sentence)
        .check(format!(
            "Close idle connections before the NAT or firewall on the way to {address} forgets them (idle timeout), or \
             send keep-alive probes."
        ))
        .shows_at(conn, "tcpInfo.unacked", info.unacked.unwrap_or_default(), info.at)
        .shows_at(conn, "tcpInfo.totalRetrans", info.total_retrans.unwrap_or_default(), info.at)
        .shows_at(conn, "tcpInfo.lastAckRecvMs", info.last_ack_recv_ms.unwrap_or_default(), info.at)
        .shows_at(newer, "connected", true, newer.handshake_end_at);
    Some(match &conn.conntrack {
        Some(entry) if !entry.stop_at.is_undefined() => {
            found.shows_at(conn, "conntrack.stopAt", entry.stop_at, entry.captured_at)
        }
        _ => found.not_seen("the entry of the NAT: it is on another host"),
    })
}
