//! Causes in connections and on the path.

use crate::{
    explain::{
        case::{Case, peer},
        found::{Found, Stage},
    },
    readable::duration,
    record::{EndReason, Failure, TcpConnTrace},
};

pub(super) fn refused(case: &Case<'_>) -> Option<Found> {
    if case.failure() != Some(&Failure::ConnectionRefused) {
        return None;
    }
    let refused = case.attempts.iter().rev().find(|conn| conn.failure == Some(Failure::ConnectionRefused))?;
    let address = peer(refused);
    let found = Found::failure(
        Stage::Tcp,
        address.as_str(),
        format!("{address} refused the connection: nothing listens there."),
    )
    .check(format!("Check that the service of {} is running, and listens on {address}.", case.host()))
    .costs(case.between(refused.handshake_begin_at, refused.handshake_end_at));
    Some(found.shows_at(*refused, "failure", Failure::ConnectionRefused.as_str(), refused.handshake_end_at))
}

pub(super) fn filtered(case: &Case<'_>) -> Option<Found> {
    let unanswered = |conn: &&&TcpConnTrace| {
        !conn.connected
            && (conn.end_reason == Some(EndReason::Timeout) || conn.failure == Some(Failure::TimedOut))
            && conn.icmp_error.is_none()
    };
    if case.attempts.is_empty() || !case.attempts.iter().all(|conn| unanswered(&conn)) {
        return None;
    }
    let last = case.attempts.last()?;
    let address = peer(last);
    let time = case.between(last.handshake_begin_at, last.handshake_end_at);
    let sentence = format!("Nothing came back from {address} within {}.", duration(time, false));
    let mut found = Found::failure(Stage::Tcp, address.as_str(), sentence)
        .check(format!("Check that {address} is up, and that firewalls on the way let packets to it pass."))
        .costs(time)
        .shows_at(*last, "endReason", last.end_reason.as_ref()?.as_str(), last.handshake_end_at);
    match last.tcp_info.last().and_then(|info| Some((info, info.total_retrans?))) {
        Some((info, sent_again)) => {
            found = found.shows_at(*last, "tcpInfo.totalRetrans", sent_again, info.at)
        }
        None => found = found.not_seen("whether the SYN was sent again: TcpInfoProbe was off"),
    }
    match &last.conntrack {
        Some(entry) => {
            found = found.shows_at(*last, "conntrack.packetsRecv", entry.packets_recv, entry.captured_at)
        }
        None => found = found.not_seen("whether a packet came back to this host: ConntrackProbe was off"),
    }
    Some(found)
}
