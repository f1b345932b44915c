//! Every record has ended with a reason, and has a code and a text if it failed.

use nettrace::record::{EndReason, Failure, NetTrace, Timestamp};

use super::{Problems, name};

pub(super) fn find_problems(trace: &NetTrace, problems: &mut Problems) {
    for dial in &trace.dials {
        let who = name(dial);
        End::of(dial.dial_end_at, &dial.end_reason, &dial.failure, &dial.dial_err)
            .find_problems(&who, problems);
        // The sink was closed during the dial, so its outcome is not known.
        let cut_off = dial.end_reason == Some(EndReason::SinkClosed);
        let established = dial.failure.is_none() != dial.established_conn.is_undefined() || cut_off;
        problems.expect(established, &who, "has both or neither of a connection and a failure");
        let ctx_closed = dial.triggered_by.is_undefined() || !dial.ctx_close_at.is_undefined();
        problems.expect(ctx_closed, &who, "was triggered by a request, but has no ctxCloseAt");
        let resolved = dial.resolve_begin_at.is_undefined() == dial.resolve_end_at.is_undefined();
        problems.expect(resolved || cut_off, &who, "the lookup has not ended");
        for resolver_dial in &dial.resolver_dials {
            let who = format!("{who}, {}", resolver_dial.nameserver);
            problems.expect(!resolver_dial.dial_end_at.is_undefined(), &who, "has not ended");
            let established =
                resolver_dial.failure.is_none() != resolver_dial.established_conn.is_undefined();
            problems.expect(
                established || cut_off,
                &who,
                "has both or neither of a connection and a failure",
            );
            let has_text = resolver_dial.failure.is_some() != resolver_dial.dial_err.is_empty();
            problems.expect(has_text, &who, "has both or neither of a code and a text");
        }
    }
    for conn in &trace.tcp_conns {
        let who = name(conn);
        problems.expect(!conn.handshake_end_at.is_undefined(), &who, "the handshake has not ended");
        let end = if conn.connected { conn.conn_close_at } else { conn.handshake_end_at };
        let text = if conn.connected { &conn.conn_err } else { &conn.handshake_err };
        End::of(end, &conn.end_reason, &conn.failure, text).find_problems(&who, problems);
        let cut_off = conn.end_reason == Some(EndReason::SinkClosed);
        problems.expect(
            conn.connected || conn.failure.is_some() || cut_off,
            &who,
            "did not connect, and did not fail",
        );
        if let Some(socks) = &conn.socks {
            let text = &socks.handshake_err;
            End::of(socks.handshake_end_at, &socks.end_reason, &socks.failure, text)
                .find_problems(&format!("{who}, SOCKS"), problems);
        }
        let other = if conn.connected { &conn.handshake_err } else { &conn.conn_err };
        problems.expect(other.is_empty(), &who, "has the error of a phase in which it did not end");
    }
    for conn in &trace.udp_conns {
        let end = End::of(conn.conn_close_at, &conn.end_reason, &conn.failure, &conn.conn_err);
        end.find_problems(&name(conn), problems);
    }
    for query in &trace.dns_queries {
        End::of(query.end_at, &query.end_reason, &query.failure, "queries have no text")
            .find_problems(&name(query), problems);
    }
    for tunnel in &trace.tls_tunnels {
        let who = name(tunnel);
        problems.expect(!tunnel.handshake_end_at.is_undefined(), &who, "the handshake has not ended");
        let text = format!("{}{}", tunnel.handshake_err, tunnel.conn_err);
        End::of(tunnel.close_at, &tunnel.end_reason, &tunnel.failure, &text).find_problems(&who, problems);
    }
    for request in &trace.http_requests {
        let end = End::of(request.end_at, &request.end_reason, &request.failure, &request.req_error);
        end.find_problems(&name(request), problems);
    }
}

struct End<'a> {
    at: Timestamp,
    reason: &'a Option<EndReason>,
    failure: &'a Option<Failure>,
    text: &'a str,
}

impl<'a> End<'a> {
    fn of(at: Timestamp, reason: &'a Option<EndReason>, failure: &'a Option<Failure>, text: &'a str) -> Self {
        Self { at, reason, failure, text }
    }

    fn find_problems(&self, who: &str, problems: &mut Problems) {
        let Some(reason) = self.reason else {
            return problems.expect(false, who, "has not ended");
        };
        let is_observed = *reason != EndReason::Unobserved;
        problems.expect(
            self.at.is_undefined() != is_observed,
            who,
            "ended without a time, or unobserved and with a time",
        );
        let fails = match reason {
            EndReason::Failed | EndReason::Timeout | EndReason::Cancelled | EndReason::LostRace => true,
            EndReason::Closed
            | EndReason::PeerClosed
            | EndReason::IdleLimit
            | EndReason::Unobserved
            | EndReason::SinkClosed => false,
            _ => return problems.expect(false, who, format!("ended for an unknown reason: {reason:?}")),
        };
        problems.expect(self.failure.is_some() == fails, who, format!("{reason:?} with {:?}", self.failure));
        if self.failure.is_some() {
            problems.expect(!self.text.is_empty(), who, "failed without an error text");
            problems.expect(!self.text.contains('\n'), who, "the error text has more than one line");
        }
        let interrupted = matches!(reason, EndReason::Cancelled | EndReason::LostRace);
        let says_so = *self.failure == Some(Failure::Interrupted);
        problems.expect(!interrupted || says_so, who, format!("{reason:?} with {:?}", self.failure));
    }
}
