//! HTTP requests: one record for each exchange of a request for a response.

use super::{
    clock::Tick,
    conn::ConnRef,
    core::Core,
    end::EndCell,
    export,
    group::Group,
    handle::RequestHandle,
    headers::{CapturedHeaders, mask_uri},
    registry::{Entry, Rec},
    scope,
    subscriber::FinishedRecord,
};
use crate::{
    error::Fault,
    record::{EndReason, Failure},
};
use http::{HeaderMap, Method, StatusCode, Uri, Version};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{
        AtomicU8, AtomicU16, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};

/// The head is written before anybody else sees it. Of the rest each field has one writer.
#[derive(Debug)]
pub(crate) struct RequestRecord {
    pub(crate) begin: Tick,
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) has_body: bool,
    pub(crate) version: AtomicU8,
    pub(crate) status: AtomicU16,
    pub(crate) conn_acquired: AtomicTick,
    pub(crate) body_end: AtomicTick,
    pub(crate) response_head: AtomicTick,
    pub(crate) first_byte: AtomicTick,
    pub(crate) response_end: AtomicTick,
    pub(crate) sent: AtomicU64,
    pub(crate) received: AtomicU64,
    /// Bytes after decoding, plus one; zero when nobody decodes.
    pub(crate) decoded: AtomicU64,
    pub(crate) end: EndCell,
    links: Mutex<Links>,
}

#[derive(Debug, Default)]
pub(crate) struct Links {
    pub(crate) conn: Option<ConnRef>,
    pub(crate) rare: Option<Box<Rare>>,
}

/// What most requests do not have.
#[derive(Debug, Default)]
pub(crate) struct Rare {
    pub(crate) headers: CapturedHeaders,
    pub(crate) response_headers: CapturedHeaders,
    pub(crate) trailers: CapturedHeaders,
    /// Connections that it was tried on before the one that it has.
    pub(crate) tried: Vec<ConnRef>,
    /// Dials that began because of it.
    pub(crate) dials: Vec<Arc<Group>>,
    pub(crate) prev_hop: Option<RequestRef>,
    pub(crate) informational: Vec<(Tick, StatusCode)>,
}

#[derive(Debug, Default)]
pub(crate) struct AtomicTick(AtomicU64);

impl AtomicTick {
    pub(crate) fn get(&self) -> Tick {
        Tick(self.0.load(Acquire))
    }

    fn set(&self, tick: Tick) {
        self.0.store(tick.0, Release);
    }
}

impl RequestRecord {
    pub(crate) fn links(&self) -> MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Links {
    pub(crate) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }
}

impl Entry for RequestRecord {
    fn is_disposable(&self) -> bool {
        !self.end.is_open()
    }

    /// Two hops of one request may share a chunk, which then would keep itself.
    fn forgotten(&self) {
        let hop = self.links().rare.as_mut().and_then(|rare| rare.prev_hop.take());
        drop(hop);
    }
}

/// A record of a request together with what is needed to read it.
#[derive(Clone, Debug)]
pub(crate) struct RequestRef {
    pub(super) core: Arc<Core>,
    pub(super) record: Rec<RequestRecord>,
}

impl RequestRef {
    pub(crate) fn number(&self) -> u64 {
        self.record.number()
    }

    /// Why it failed, if it has.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.record.end.fault().map(|fault| fault.failure.clone())
    }

    /// A dial began because of this request.
    pub(super) fn caused(&self, group: &Arc<Group>) {
        self.record.links().rare().dials.push(group.clone());
    }

    /// Bytes of the body as its reader gets them, after decoding.
    pub(crate) fn decoded(&self, bytes: u64) {
        self.record.decoded.store(bytes + 1, Relaxed);
    }

    /// The client has chosen a connection just now. May be said again, also of another one: then the request was
    /// moved there.
    fn acquired(&self, conn: &ConnRef) {
        if self.link(conn) {
            self.record.conn_acquired.set(self.core.now().max(self.record.begin));
            conn.await_first_byte();
        }
    }

    /// True when that is news.
    fn link(&self, conn: &ConnRef) -> bool {
        let mut links = self.record.links();
        match &mut links.conn {
            Some(known) if known.same(conn) => return false,
            Some(known) => {
                let stale = std::mem::replace(known, conn.clone());
                links.rare().tried.push(stale);
            }
            None => links.conn = Some(conn.clone()),
        }
        true
    }

    /// A 1xx response came.
    pub(crate) fn informational(&self, status: StatusCode) {
        /// A server that sends 1xx responses without end must not fill the memory.
        const LIMIT: usize = 64;
        let now = self.core.now();
        let mut links = self.record.links();
        let seen = &mut links.rare().informational;
        if seen.len() < LIMIT {
            seen.push((now, status));
        }
    }

    /// True for the call that ended it.
    pub(crate) fn end(&self, reason: EndReason, fault: Option<Fault>) -> bool {
        let (core, record) = (&self.core, &self.record);
        let now = core.now().max(record.begin);
        if !record.end.end(now, reason, fault) {
            return false;
        }
        {
            let mut links = record.links();
            if let Some(rare) = &mut links.rare {
                rare.dials.iter().for_each(|dial| dial.let_go(now));
            }
        }
        core.publish(|| Some(FinishedRecord::HttpRequest(export::request(self, &core.timeline()))));
        true
    }
}

/// Held by whoever has the request at the time: the service's future, then the response's body. Dropped before
/// the request has ended, it says `cancelled`.
#[derive(Debug, Default)]
pub(crate) struct RequestRecorder {
    request: Option<RequestRef>,
}

/// What is known of a request when it is handed to a client.
pub(crate) struct RequestHead<'a> {
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
    pub(crate) version: Version,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) handle: Option<&'a RequestHandle>,
    pub(crate) has_body: bool,
}

impl RequestRecord {
    pub(super) fn begin(core: &Core, head: &RequestHead<'_>) -> Self {
        let headers = CapturedHeaders::take(head.headers, &core.settings);
        let mut links = Links::default();
        if !headers.is_empty() {
            links.rare().headers = headers;
        }
        if let Some(hop) =
            head.handle.and_then(RequestHandle::last_hop).filter(|hop| std::ptr::eq(&*hop.core, core))
        {
            links.rare().prev_hop = Some(hop);
        }
        RequestRecord {
            begin: core.now(),
            method: head.method.clone(),
            uri: mask_uri(head.uri, core.settings.mask_query),
            has_body: head.has_body,
            version: AtomicU8::new(version_code(head.version)),
            status: AtomicU16::new(0),
            conn_acquired: AtomicTick::default(),
            body_end: AtomicTick::default(),
            response_head: AtomicTick::default(),
            first_byte: AtomicTick::default(),
            response_end: AtomicTick::default(),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            decoded: AtomicU64::new(0),
            end: EndCell::default(),
            links: Mutex::new(links),
        }
    }
}

impl RequestRecorder {
    pub(crate) fn off() -> Self {
        RequestRecorder { request: None }
    }

    pub(super) fn new(request: RequestRef, head: &RequestHead<'_>) -> Self {
        if let Some(handle) = head.handle {
            handle.bind(request.clone());
        }
        RequestRecorder { request: Some(request) }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.request.is_some()
    }

    pub(crate) fn request(&self) -> Option<&RequestRef> {
        self.request.as_ref()
    }

    /// Runs `f`, a poll, on behalf of this request.
    #[inline]
    pub(crate) fn scope<R>(&mut self, f: impl FnOnce() -> R) -> R {
        if self.request.is_none() {
            return f();
        }
        scope::with_request(&mut self.request, f)
    }

    pub(crate) fn watch(&self) -> BodyWatch {
        BodyWatch { request: self.request.clone(), bytes: 0 }
    }

    /// The connection that it turned out to have used.
    pub(crate) fn conn(&self, conn: &ConnRef) {
        if let Some(request) = &self.request {
            request.link(conn);
        }
    }

    /// The client has chosen a connection just now.
    pub(crate) fn acquired(&self, conn: &ConnRef) {
        if let Some(request) = &self.request {
            request.acquired(conn);
        }
    }

    /// The response's head is complete.
    pub(crate) fn response(&self, status: StatusCode, version: Version, headers: &HeaderMap) {
        let Some(RequestRef { core, record }) = &self.request else { return };
        if version < Version::HTTP_2 {
            let first = record.links().conn.as_ref().map_or(Tick::NONE, ConnRef::first_byte);
            if first >= record.conn_acquired.get() {
                record.first_byte.set(first);
            }
        }
        record.status.store(status.as_u16(), Relaxed);
        record.version.store(version_code(version), Relaxed);
        let headers = CapturedHeaders::take(headers, &core.settings);
        if !headers.is_empty() {
            record.links().rare().response_headers = headers;
        }
        record.response_head.set(core.now().max(record.begin));
    }

    /// A part of the response's body was handed to its reader; `total` is all so far.
    #[inline]
    pub(crate) fn received(&self, total: u64) {
        if let Some(request) = &self.request {
            request.record.received.store(total, Relaxed);
        }
    }

    pub(crate) fn trailers(&self, trailers: &HeaderMap) {
        let Some(RequestRef { core, record }) = &self.request else { return };
        let trailers = CapturedHeaders::take(trailers, &core.settings);
        if !trailers.is_empty() {
            record.links().rare().trailers = trailers;
        }
    }

    /// The response was read to its end.
    pub(crate) fn complete(&mut self) {
        let Some(request) = self.request.take() else { return };
        request.record.response_end.set(request.core.now().max(request.record.begin));
        request.end(EndReason::Closed, None);
    }

    /// It failed. Where it never got a connection, what went wrong with its own dial says it best; and where the
    /// error has no code, because HTTP/2 passes on no more than its text, what went wrong with the tunnel.
    pub(crate) fn failed(&mut self, failure: Failure, text: &str) {
        let Some(request) = self.request.take() else { return };
        let deeper = {
            let links = request.record.links();
            match &links.conn {
                None => links.rare.iter().flat_map(|rare| &rare.dials).rev().find_map(|dial| dial.fault()),
                Some(conn) if matches!(failure, Failure::Unknown(_)) => conn.0.group.tunnel_fault(),
                Some(_) => None,
            }
        };
        let fault = Fault::new(deeper.map_or(failure, |deeper| deeper.failure), text);
        request.end(fault.end_reason(), Some(fault));
    }
}

impl Drop for RequestRecorder {
    fn drop(&mut self) {
        let Some(request) = self.request.take() else { return };
        request.end(EndReason::Cancelled, Some(Fault::new(Failure::Interrupted, "the request was dropped")));
    }
}

/// Goes with the body of a request and counts what the client takes of it.
#[derive(Debug)]
pub(crate) struct BodyWatch {
    request: Option<RequestRef>,
    bytes: u64,
}

impl BodyWatch {
    pub(crate) fn sent(&mut self, bytes: u64) {
        self.bytes += bytes;
        if let Some(request) = &self.request {
            request.record.sent.store(self.bytes, Relaxed);
        }
    }

    /// Nothing more will be sent.
    pub(crate) fn complete(&mut self) {
        if let Some(RequestRef { core, record }) = self.request.take() {
            record.body_end.set(core.now().max(record.begin));
        }
    }
}

/// The request on whose behalf the current poll runs, for layers below the one that records it.
#[derive(Clone, Debug)]
pub(crate) struct CurrentRequest(Option<RequestRef>);

impl CurrentRequest {
    pub(crate) fn get() -> Self {
        CurrentRequest(scope::request())
    }

    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// It was given a connection just now.
    pub(crate) fn acquired(&self, conn: &ConnRef) {
        if let Some(request) = &self.0 {
            request.acquired(conn);
        }
    }

    /// A 1xx response came.
    pub(crate) fn informational(&self, status: StatusCode) {
        if let Some(request) = &self.0 {
            request.informational(status);
        }
    }
}

fn version_code(version: Version) -> u8 {
    match version {
        Version::HTTP_09 => 9,
        Version::HTTP_10 => 10,
        Version::HTTP_2 => 20,
        Version::HTTP_3 => 30,
        _ => 11,
    }
}
