//! Converts the state of a request, with what most requests do not have.

use super::ends::{end_fields, unless_after_end};
use crate::{
    error::http2_error_name,
    record::{
        Attempt, BoxedOrEmpty, Failure, HttpHeaders, HttpReqTrace, Informational, Text,
        limits::{self, LimitedText, TRUNCATION_MARK},
    },
    sink::{
        clock::{AtomicTick, Tick},
        conn::conn_ref::ConnLink,
        core::Core,
        dial::group::DialGroup,
        record_id::RecordId,
        request::{
            extras::{PrevHop, RequestExtras, linked_groups, path},
            headers::CapturedHeaders,
            origin::RequestOrigin,
            record::{RequestRecord, RequestRef, version_code},
            tags::Tags,
        },
        snapshot::timeline::Timeline,
    },
};
use http::{StatusCode, Version};
use std::{
    num::NonZeroU32,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

pub(in crate::sink) fn request(request: &RequestRef, times: &Timeline) -> HttpReqTrace {
    request_and_links(request.core(), request.record_id(), &request.record, times, |_| ()).0
}

fn decimal(number: impl itoa::Integer) -> Text {
    itoa::Buffer::new().format(number).into()
}

/// Requests that belong to another one.
#[derive(Default)]
pub(in crate::sink) struct RelatedRequests {
    /// The hop before it.
    pub(in crate::sink) prev_hop: Option<RecordId>,
    /// The request for which it was made.
    pub(in crate::sink) cause: Option<RecordId>,
    /// Requests that are kept with it.
    pub(in crate::sink) kept: Vec<RequestRef>,
}

/// Converts a request, and returns the requests that it refers to. Passes the groups that it refers to to `found`.
pub(in crate::sink) fn request_and_links(
    core: &Core,
    id: RecordId,
    record: &RequestRecord,
    times: &Timeline,
    found: impl FnMut(&Arc<DialGroup>),
) -> (HttpReqTrace, RelatedRequests) {
    // The end is read before the rest: what belongs to a request that has ended is then complete.
    let end = record.end.get();
    let mut is_over_http2 = false;
    let (path, network_proxy, extras) = record.with_links(|conn, links| {
        is_over_http2 = conn.is_some_and(ConnLink::is_http2);
        linked_groups(conn, links).for_each(found);
        let extras = links.and_then(|links| links.extras.as_deref());
        let last_dial = || links.and_then(|links| links.dials().next());
        let proxy = conn.map(|conn| &conn.group).or_else(last_dial).and_then(|group| group.proxy());
        (
            path(conn, links),
            proxy.cloned().unwrap_or_default(),
            extras.map(|extras| ExtrasSnapshot::of(extras, conn)),
        )
    });
    let seen = |what: &AtomicTick| unless_after_end(what.get(), end.as_ref());
    let acquired = seen(&record.conn_acquired);
    let body_end = seen(&record.body_end);
    let (response, response_end) = (seen(&record.response_head), seen(&record.response_end));
    let http2_error = end.as_ref().and_then(|end| end.fault.as_ref()?.http2_error);
    let (end_at, end_reason, failure, req_error, error_bytes) = end_fields(end, times);
    let version = match record.version.load(Relaxed) {
        // No response has told the version.
        _ if is_over_http2 && response.is_none() => version_code(Version::HTTP_2),
        version => version,
    };
    let received = record.received.load(Relaxed);
    let decoded = record.decoded.load(Relaxed).checked_sub(1);
    let mut out = HttpReqTrace {
        trace_id: core.id(id),
        tcp_conn: core.id(path.conn),
        tls_tunnel: core.id(path.tls),
        accepted: record.accepted,
        proxy_tls_tunnel: core.id(path.proxy_tls).into(),
        attempts: BoxedOrEmpty::new(),
        prev_hop: BoxedOrEmpty::new(),
        triggered_by: BoxedOrEmpty::new(),
        traceparent: BoxedOrEmpty::new(),
        tracing_span: BoxedOrEmpty::new(),
        tags: BoxedOrEmpty::new(),
        proto_major: version / 10,
        proto_minor: version % 10,
        network_proxy: network_proxy.into(),
        seen_on_wire: record.seen_on_wire,
        #[cfg(feature = "client")]
        pool: record.pool.export(),
        #[cfg(not(feature = "client"))]
        pool: None,
        stream_id: record.stream_id,
        window_wait_us: None,
        req_sent_at: times.at(record.begin),
        conn_acquired_at: times.at(acquired),
        req_body_end_at: times.at(if record.has_body { body_end } else { acquired }),
        req_method: record.method.as_str().into(),
        req_url: record.url.text(),
        req_header: HttpHeaders::default(),
        req_content_len: record.sent.load(Relaxed),
        req_error,
        failure,
        http2_error: http2_error.map(http2_error_name).as_deref().unwrap_or_default().into(),
        end_at,
        end_reason,
        informational: BoxedOrEmpty::new(),
        first_byte_at: times.at(record.first_byte.get()),
        resp_recv_at: times.at(response),
        resp_body_end_at: times.at(response_end),
        resp_status_code: if response.is_some() { record.status.load(Relaxed) } else { 0 },
        resp_header: HttpHeaders::default(),
        trailers: HttpHeaders::default(),
        grpc_status: record.grpc_status.load(Relaxed).checked_sub(1),
        grpc_message: BoxedOrEmpty::new(),
        resp_content_len: decoded.unwrap_or(received),
        resp_encoded_len: decoded.map(|_| received),
        truncated_fields: BoxedOrEmpty::new(),
    };
    out.truncated_fields.note("reqURL", record.url.original_bytes());
    out.truncated_fields.note("reqError", error_bytes);
    let served = record.origin.as_deref().and_then(|origin| write_origin(origin, &mut out, core));
    let mut others = extras.map(|extras| extras.write_into(&mut out, core, times)).unwrap_or_default();
    others.cause = others.cause.or(served);
    (out, others)
}

/// Returns the requests that a request refers to. Passes the groups that it refers to to `found`.
#[cfg(feature = "json")]
pub(in crate::sink) fn related_requests(
    record: &RequestRecord,
    found: impl FnMut(&Arc<DialGroup>),
) -> impl Iterator<Item = RecordId> {
    let served = record.origin.as_deref().and_then(|origin| origin.served);
    let (prev_hop, cause, connects) = record.with_links(|conn, links| {
        linked_groups(conn, links).for_each(found);
        let Some(extras) = links.and_then(|links| links.extras.as_deref()) else {
            return (None, None, vec![]);
        };
        let cause = conn.filter(|_| extras.is_connect).and_then(|conn| conn.group.triggered_by());
        (extras.prev_hop.id, cause, extras.connects.iter().map(RequestRef::record_id).collect())
    });
    [served, prev_hop, cause].into_iter().flatten().chain(connects)
}

/// Writes what the request belongs to into `out`. Returns the request for which it was made.
#[inline(never)]
fn write_origin(origin: &RequestOrigin, out: &mut HttpReqTrace, core: &Core) -> Option<RecordId> {
    out.triggered_by = core.id(origin.served).into();
    out.traceparent = origin.traceparent.map(|field| field.text()).unwrap_or_default().into();
    out.tracing_span = origin.span.map(|span| decimal(span.get())).unwrap_or_default().into();
    origin.served
}

/// A copy of a request's extras, taken out of the lock.
struct ExtrasSnapshot {
    headers: [HttpHeaders; 3],
    original_fields: [Option<NonZeroU32>; 3],
    grpc_message: Option<LimitedText>,
    method_bytes: Option<NonZeroU32>,
    tried: Vec<(ConnLink, Failure)>,
    dropped_tried: usize,
    /// The connection after those, if there is any, and why the peer did not process the request there either.
    conn: Option<ConnLink>,
    refused: Option<Failure>,
    prev_hop: PrevHop,
    /// For a CONNECT: the request that needed it.
    cause: Option<RecordId>,
    connects: Vec<RequestRef>,
    informational: Vec<(Tick, StatusCode)>,
    informational_seen: usize,
    window_wait: Duration,
    tags: Tags,
}

impl ExtrasSnapshot {
    fn of(extras: &RequestExtras, conn: Option<&ConnLink>) -> Self {
        let headers = [&extras.headers, &extras.response_headers, &extras.trailers];
        ExtrasSnapshot {
            headers: headers.map(CapturedHeaders::export),
            original_fields: headers.map(CapturedHeaders::original_fields),
            grpc_message: extras.grpc_message.clone(),
            method_bytes: extras.method_bytes,
            dropped_tried: extras.dropped_tried,
            informational_seen: extras.informational_seen,
            window_wait: extras.window_wait,
            tags: extras.tags.clone(),
            tried: extras
                .tried
                .iter()
                .enumerate()
                .map(|(i, tried)| {
                    let failure = extras.stale.get(i).cloned().unwrap_or_else(|| tried.failure());
                    (tried.conn.clone(), failure)
                })
                .collect(),
            conn: conn.filter(|_| !extras.tried.is_empty() || extras.refused.is_some()).cloned(),
            refused: extras.refused.clone(),
            prev_hop: extras.prev_hop.clone(),
            cause: conn.filter(|_| extras.is_connect).and_then(|conn| conn.group.triggered_by()),
            connects: extras.connects.iter().cloned().collect(),
            informational: extras.informational.clone(),
        }
    }

    /// Writes the extras into `out`. Returns the requests that belong to it.
    fn write_into(self, out: &mut HttpReqTrace, core: &Core, times: &Timeline) -> RelatedRequests {
        [out.req_header, out.resp_header, out.trailers] = self.headers;
        let truncated = &mut out.truncated_fields;
        for (field, size) in ["reqHeader", "respHeader", "trailers"].into_iter().zip(self.original_fields) {
            truncated.note(field, size);
        }
        if let Some(message) = self.grpc_message {
            truncated.note("grpcMessage", message.original_bytes());
            out.grpc_message = message.text().clone().into();
        }
        if self.method_bytes.is_some() {
            truncated.note("reqMethod", self.method_bytes);
            out.req_method = format!("{}{TRUNCATION_MARK}", out.req_method).into();
        }
        if self.informational.len() < self.informational_seen {
            truncated.note("informational", limits::original_size(self.informational_seen));
        }
        truncated.note("tags", self.tags.original_count());
        out.tags = self.tags.export().into();
        let window_wait_us = u32::try_from(self.window_wait.as_micros()).unwrap_or(u32::MAX);
        out.window_wait_us = NonZeroU32::new(window_wait_us);
        if self.dropped_tried > 0 {
            let attempts = self.dropped_tried + self.tried.len() + usize::from(self.conn.is_some());
            truncated.note("attempts", limits::original_size(attempts));
        }
        out.prev_hop = core.id(self.prev_hop.id).into();
        if self.cause.is_some() {
            out.triggered_by = core.id(self.cause).into();
        }
        let interim = |(at, status): (Tick, StatusCode)| Informational {
            status: status.as_u16(),
            recv_at: times.at(at),
            ..Informational::default()
        };
        out.informational = self.informational.into_iter().map(interim).collect();
        if !self.tried.is_empty() || self.refused.is_some() {
            let failure = self.refused.or_else(|| out.failure.clone());
            let last = self.conn.map(|conn| attempt(&conn, failure));
            let tried = self.tried.into_iter().map(|(conn, why)| attempt(&conn, Some(why)));
            out.attempts = tried.chain(last).collect();
        }
        let kept = self.prev_hop.kept.into_iter().chain(self.connects).collect();
        RelatedRequests { prev_hop: self.prev_hop.id, cause: self.cause, kept }
    }
}

fn attempt(conn: &ConnLink, failure: Option<Failure>) -> Attempt {
    Attempt { tcp_conn: conn.id(), failure, ..Attempt::default() }
}
