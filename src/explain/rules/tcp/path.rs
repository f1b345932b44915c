//! Established connections that break or get stuck.

use crate::{
    explain::{
        case::{Case, peer},
        finding::Outcome,
        found::{Found, Stage},
        history::MIN_DELAY,
        rules::tls,
    },
    readable::duration,
    record::{EndReason, Failure, HttpReqTrace, TcpConnTrace, TcpInfo, TcpInfoEvent, Timestamp},
};

/// A connection on which a request got stuck, as the kernel saw it when either ended.
pub(super) struct Stall<'a> {
    pub(super) conn: &'a TcpConnTrace,
    pub(super) info: &'a TcpInfo,
    /// For how many nanoseconds of the request nothing moved.
    pub(super) cost: i64,
    kind: StallKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StallKind {
    /// Nothing was acknowledged, and a new connection to the same address was made meanwhile, or connection tracking has
    /// forgotten this one.
    MappingLost,
    /// Small segments were acknowledged, and full ones were not.
    LargeSent,
    /// A gap in what was received was not filled, and no full segment was received.
    LargeReceived,
    /// The peer had no room for more.
    ZeroWindow,
    /// Nothing was acknowledged.
    Loss,
}

impl Stall<'_> {
    pub(super) fn is_mapping_lost(&self) -> bool {
        self.kind == StallKind::MappingLost
    }

    /// Begins a finding: it is why the request failed if it cost at least half of its time, or ended the connection.
    pub(super) fn found(&self, case: &Case<'_>, about: &str, sentence: String) -> Found {
        let is_why = self.cost >= case.duration() / 2 || case.failure() == Some(&Failure::TimedOut);
        let found = match is_why {
            true => Found::failure(Stage::Tcp, about, sentence),
            false => Found::degraded(Stage::Tcp, about, sentence),
        };
        found.costs(self.cost)
    }

    fn is_of_mtu(&self) -> bool {
        matches!(self.kind, StallKind::LargeSent | StallKind::LargeReceived)
    }
}

/// Returns `true` if the connection was made for this request.
fn is_dialed(case: &Case<'_>, conn: &TcpConnTrace) -> bool {
    case.attempts.iter().any(|dialed| std::ptr::eq(*dialed, conn))
}

/// Returns what the kernel knew about a connection when it was closed.
fn closing(conn: &TcpConnTrace) -> Option<&TcpInfo> {
    conn.tcp_info.last().filter(|info| info.event == TcpInfoEvent::Closing)
}

/// Returns when the connection's entry was found to be gone, while the connection was open.
pub(super) fn lost_at(conn: &TcpConnTrace) -> Option<Timestamp> {
    conn.conntrack.as_deref().map(|entry| entry.lost_at).filter(|time| !time.is_undefined())
}

fn request_on_conn<'a>(case: &Case<'a>) -> Option<(&'a HttpReqTrace, &'a TcpConnTrace)> {
    let request = case.request.filter(|request| !request.accepted)?;
    Some((request, case.conn.filter(|conn| conn.connected)?))
}

/// Returns the nanoseconds of a request during which something had not happened for so many milliseconds.
fn quiet(case: &Case<'_>, request: &HttpReqTrace, info: &TcpInfo, millis: Option<u32>) -> Option<i64> {
    let (begin, at) = (case.at(request.req_sent_at)?, case.at(info.at)?);
    let end = case.at(request.end_at).unwrap_or(at);
    let since = at.saturating_sub(i64::from(millis?) * 1_000_000);
    Some(end.min(at).saturating_sub(begin.max(since)).max(0))
}

/// Returns the connection on which a request got stuck until time ran out, or is stuck.
pub(super) fn stall<'a>(case: &Case<'a>) -> Option<Stall<'a>> {
    let is_stuck = case.was_cut_short()
        || case.outcome == Outcome::Running
        || case.failure() == Some(&Failure::TimedOut);
    let (request, conn) = request_on_conn(case).filter(|_| is_stuck)?;
    let info = case.tcp_info_at_end(request, conn)?;
    let is_dialed = is_dialed(case, conn);
    let is_positive = |count: Option<u32>| count > Some(0);
    let is_backing_off = info.retransmits > Some(0) || info.backoff > Some(0);
    let is_unacknowledged = is_positive(info.unacked) && is_backing_off;
    let mean = |bytes: Option<u64>, segments: Option<u32>| Some(bytes? / u64::from(segments?.max(1)));
    let is_small = |mean: Option<u64>, mss: Option<u32>| {
        mean.zip(mss).is_some_and(|(mean, mss)| mean < u64::from(mss / 2))
    };

    let unacknowledged = || quiet(case, request, info, info.last_ack_recv_ms);
    let (kind, cost) = if is_unacknowledged {
        let is_reused = case.at(conn.handshake_end_at) < case.at(request.req_sent_at) && !is_dialed;
        let newest = case.history.handshakes(conn).newest.and_then(|newer| case.at(newer.handshake_begin_at));
        let delivered =
            info.delivered.map(|delivered| delivered.saturating_sub(info.sacked.unwrap_or_default()));
        if is_positive(info.sacked) && is_small(mean(info.bytes_acked, delivered), info.snd_mss) {
            (StallKind::LargeSent, quiet(case, request, info, info.last_data_recv_ms).max(unacknowledged())?)
        } else if is_reused && (newest > case.at(request.req_sent_at) || lost_at(conn).is_some()) {
            (StallKind::MappingLost, unacknowledged()?)
        } else {
            (StallKind::Loss, unacknowledged()?)
        }
    } else if info.probes > Some(0) || (info.snd_wnd == Some(0) && is_positive(info.notsent_bytes)) {
        let limited = i64::try_from(info.rwnd_limited_us?).ok()?.saturating_mul(1000);
        (StallKind::ZeroWindow, limited.min(case.duration()))
    } else if is_dialed
        && is_positive(info.rcv_ooopack)
        && is_small(mean(info.bytes_received, info.data_segs_in), info.advmss)
    {
        // On an older connection the count may be of a gap that was filled long ago.
        (StallKind::LargeReceived, quiet(case, request, info, info.last_data_recv_ms)?)
    } else {
        return None;
    };
    // A segment is sent again after the retransmission timeout. Nothing is stuck before.
    let rto = info.rto_us.map_or(0, |rto| i64::from(rto) * 1000);
    let is_long = kind == StallKind::ZeroWindow || is_unacknowledged || cost >= rto;
    is_long.then_some(Stall { conn, info, cost, kind })
}

pub(in crate::explain::rules) fn reset(case: &Case<'_>) -> Option<Found> {
    let is_reset = |conn: &TcpConnTrace| conn.failure == Some(Failure::ConnectionReset);
    let conn = case.conn.or(case.attempts.last().copied()).filter(|conn| is_reset(conn))?;
    // A connection that no request was on is reset when a peer has no use for it any more.
    let is_needed = case.request.is_some() || !conn.connected;
    if !is_needed || case.failure() != Some(&Failure::ConnectionReset) {
        return None;
    }
    let (address, phase) = (peer(conn), phase(case, conn));
    let sentence = match conn.is_traffic_unobserved() {
        true => format!("{address} reset the connection {phase}."),
        false => format!(
            "{address} reset the connection {phase}, after {} bytes were sent on it and {} received.",
            conn.total_sent_bytes, conn.total_recv_bytes
        ),
    };
    let at = if conn.connected { conn.conn_close_at } else { conn.handshake_end_at };
    let found = Found::failure(Stage::Tcp, address.as_str(), sentence)
        .symptom()
        .check(format!(
            "Look into the log of {address}, and of firewalls and load balancers on the way to it."
        ))
        .shows_at(conn, "failure", Failure::ConnectionReset.as_str(), at);
    Some(match conn.is_traffic_unobserved() {
        true => found,
        false => found.shows(conn, "totalSentBytes", conn.total_sent_bytes).shows(
            conn,
            "totalRecvBytes",
            conn.total_recv_bytes,
        ),
    })
}

/// Returns what was going on when a connection was reset.
fn phase(case: &Case<'_>, conn: &TcpConnTrace) -> &'static str {
    let is_in_handshake =
        || case.tunnels.iter().any(|tunnel| tunnel.failure.is_some() && tunnel.tcp_conn == conn.trace_id);
    let Some(request) = case.request.filter(|_| conn.connected) else { return "during its handshake" };
    if is_in_handshake() {
        "during the TLS handshake"
    } else if request.accepted {
        "while its request was answered"
    } else if !request.resp_recv_at.is_undefined() {
        "while the body of the response was received"
    } else if !request.first_byte_at.is_undefined() {
        "while the head of the response was received"
    } else if !request.req_body_end_at.is_undefined() {
        "while the request waited for the response"
    } else {
        "while the request was sent"
    }
}

pub(in crate::explain::rules) fn loss(case: &Case<'_>) -> Option<Found> {
    if let Some(stall) = stall(case).filter(|stall| stall.kind == StallKind::Loss) {
        let Stall { conn, info, cost, .. } = stall;
        let address = peer(conn);
        let sentence = format!(
            "{address} acknowledged nothing for {}, however often it was sent: packets to it or its replies are lost.",
            duration(cost, case.graph.times.coarse)
        );
        let found = stall
            .found(case, &address, sentence)
            .check(format!(
                "Check that {address} is up, and what drops packets on the way (mtr {}).",
                conn.addr_tuple.dst_ip
            ))
            .shows_at(conn, "tcpInfo.unacked", info.unacked.unwrap_or_default(), info.at)
            .shows_at(conn, "tcpInfo.totalRetrans", info.total_retrans.unwrap_or_default(), info.at)
            .shows_at(conn, "tcpInfo.lastAckRecvMs", info.last_ack_recv_ms.unwrap_or_default(), info.at);
        return Some(found);
    }
    let (_, conn) = request_on_conn(case).filter(|(_, conn)| case.graph.is_only_on(&conn.trace_id))?;
    if stall(case).is_some() {
        return None;
    }
    let info = closing(conn)?;
    let (timeouts, again) = (info.total_rto.filter(|timeouts| *timeouts > 0)?, info.total_retrans?);
    // The kernel counts the time of a recovery from the first timeout on, before which it has waited that long.
    let first_waits = u64::from(info.total_rto_recoveries.unwrap_or(timeouts)) * u64::from(info.rto_us?);
    let recoveries = u64::from(info.total_rto_time_ms.unwrap_or_default()) * 1000;
    let lost_us = (first_waits + recoveries).min(info.busy_time_us?);
    let cost = i64::try_from(lost_us).ok()?.saturating_mul(1000).min(case.duration());
    let address = peer(conn);
    let sentence = format!(
        "Segments to {address} were lost: {again} of {} were sent again, which took at least {}.",
        info.segs_out.unwrap_or(again),
        duration(cost, case.graph.times.coarse)
    );
    Some(
        Found::degraded(Stage::Tcp, address.as_str(), sentence)
            .check(format!(
                "Check what drops packets on the way to {address} (mtr {}).",
                conn.addr_tuple.dst_ip
            ))
            .costs(cost)
            .shows_at(conn, "tcpInfo.totalRetrans", again, info.at)
            .shows_at(conn, "tcpInfo.totalRto", timeouts, info.at)
            .shows_at(conn, "tcpInfo.busyTimeUs", info.busy_time_us?, info.at),
    )
}

pub(in crate::explain::rules) fn mtu_black_hole(case: &Case<'_>) -> Option<Found> {
    let stall = stall(case).filter(Stall::is_of_mtu)?;
    if tls::large_hello_dropped(case).is_some() {
        return None; // that is the more precise cause
    }
    let Stall { conn, info, kind, .. } = stall;
    let address = peer(conn);
    let (from, to) = match kind == StallKind::LargeSent {
        true => ("this host", &*conn.addr_tuple.dst_ip),
        false => (&*conn.addr_tuple.dst_ip, "this host"),
    };
    let (sentence, field, count) = match kind == StallKind::LargeSent {
        true => (
            format!(
                "Full segments ({} bytes) to {address} are lost on the way, and small ones arrive.",
                info.snd_mss.unwrap_or_default()
            ),
            "tcpInfo.sacked",
            info.sacked,
        ),
        false => (
            format!(
                "A later part of what {address} sent has arrived, and an earlier one has not: full segments are lost on \
                 the way."
            ),
            "tcpInfo.rcvOoopack",
            info.rcv_ooopack,
        ),
    };
    Some(
        stall
            .found(case, &address, sentence)
            .check(format!(
                "Allow ICMP \"fragmentation needed\" and \"packet too big\" on the way from {from} to {to}, or lower the \
                 MTU; find it with `ping -M do -s 1472` in that direction."
            ))
            .shows_at(conn, field, count.unwrap_or_default(), info.at)
            .shows_at(conn, "tcpInfo.sndMss", info.snd_mss.unwrap_or_default(), info.at)
            .shows_at(conn, "tcpInfo.totalRetrans", info.total_retrans.unwrap_or_default(), info.at)
            .shows_at(conn, "tcpInfo.bytesAcked", info.bytes_acked.unwrap_or_default(), info.at),
    )
}

pub(in crate::explain::rules) fn zero_window(case: &Case<'_>) -> Option<Found> {
    let (_, conn) = request_on_conn(case)?;
    let stalled = stall(case).filter(|stall| stall.kind == StallKind::ZeroWindow);
    let (info, limited) = match stalled {
        Some(Stall { info, cost, .. }) => (info, cost),
        None => {
            let info = closing(conn).filter(|_| case.graph.is_only_on(&conn.trace_id))?;
            let limited = info.rwnd_limited_us?;
            // Shorter than the retransmission timeout, after which a window probe is sent, it is how TCP paces itself.
            if stall(case).is_some() || limited < u64::from(info.rto_us?) {
                return None;
            }
            (info, i64::try_from(limited).ok()?.saturating_mul(1000))
        }
    };
    let address = peer(conn);
    let time = duration(limited, case.graph.times.coarse);
    let found = Found::degraded(
        Stage::Tcp,
        address.as_str(),
        format!("{address} did not read what was sent: its receive window was closed for {time}."),
    )
    .check(format!("Check why the program at {address} does not read, or reads slowly."))
    .costs(limited)
    .shows_at(conn, "tcpInfo.rwndLimitedUs", info.rwnd_limited_us.unwrap_or_default(), info.at);
    Some(match (info.probes, info.snd_wnd) {
        (Some(probes @ 1..), _) => found.shows_at(conn, "tcpInfo.probes", probes, info.at),
        (_, Some(window)) => found.shows_at(conn, "tcpInfo.sndWnd", window, info.at),
        _ => found,
    })
}

/// So many segments with data are a transfer.
const MIN_SEGMENTS: u32 = 50;

pub(in crate::explain::rules) fn bufferbloat(case: &Case<'_>) -> Option<Found> {
    let (_, conn) = request_on_conn(case).filter(|(_, conn)| case.graph.is_only_on(&conn.trace_id))?;
    let info = closing(conn).filter(|info| info.data_segs_out >= Some(MIN_SEGMENTS))?;
    let (rtt, min) = (info.rtt_us?, info.min_rtt_us?);
    let was_busy = i64::try_from(info.busy_time_us?).ok()?.saturating_mul(1000) >= case.duration() / 2;
    let queue = rtt.saturating_sub(min);
    if !was_busy || rtt / 4 < min || i64::from(queue) * 1000 < MIN_DELAY || stall(case).is_some() {
        return None;
    }
    let (address, coarse) = (peer(conn), case.graph.times.coarse);
    let text = |micros: u32| duration(i64::from(micros) * 1000, coarse);
    let sentence = format!(
        "A queue on the way to {address} is full: a round trip took {} during the transfer, and {} without it.",
        text(rtt),
        text(min)
    );
    Some(
        Found::degraded(Stage::Tcp, address.as_str(), sentence)
            .check("Limit the rate of the transfer below that of the slowest link, or manage its queue (fq_codel).")
            .costs(i64::from(queue) * 1000)
            .shows_at(conn, "tcpInfo.rttUs", rtt, info.at)
            .shows_at(conn, "tcpInfo.minRttUs", min, info.at),
    )
}

/// A request over TLS needs four round trips: for TCP, for TLS 1.2 twice, and for itself. Two more are left for the
/// server.
const MAX_ROUND_TRIPS: i64 = 6;

pub(in crate::explain::rules) fn far_away(case: &Case<'_>) -> Option<Found> {
    let (request, conn) = request_on_conn(case).filter(|_| case.outcome == Outcome::TimedOut)?;
    let info = conn.tcp_info.iter().rfind(|info| info.min_rtt_us.is_some())?;
    let rtt = i64::from(info.min_rtt_us?) * 1000;
    let time = case.duration();
    if !is_dialed(case, conn) || time > rtt.saturating_mul(MAX_ROUND_TRIPS) || stall(case).is_some() {
        return None;
    }
    let (address, coarse) = (peer(conn), case.graph.times.coarse);
    let sentence = format!(
        "{address} is far away: a round trip takes {}, and the time limit ran out after {}.",
        duration(rtt, coarse),
        duration(time, coarse)
    );
    Some(
        Found::degraded(Stage::Tcp, address.as_str(), sentence)
            .check("Allow at least six round trips for a new connection with TLS, or use a server that is nearer.")
            .costs(time)
            .shows_at(conn, "tcpInfo.minRttUs", info.min_rtt_us?, info.at)
            .shows_at(request, "endReason", EndReason::Timeout.as_str(), request.end_at),
    )
}
