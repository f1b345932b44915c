//! [`NewRequest`]: a request that is about to begin.
//!
//! It is prepared before the registry is locked: this takes time, and may call a function of the user's.

use super::{
    extras::{PrevHop, RequestLinks},
    handle::RequestHandle,
    headers::CapturedHeaders,
    origin::RequestOrigin,
    record::{RequestRecord, RequestRef, version_code},
    traceparent::Traceparent,
    url::RecordedUrl,
};
#[cfg(feature = "server")]
use crate::sink::context;
use crate::{
    record::limits::{self, MAX_METHOD_BYTES},
    sink::{
        clock::{AtomicTick, Tick},
        core::Core,
        record_id::RecordId,
        registry::end::EndCell,
    },
};
use http::{HeaderMap, Method, Uri, Version};
#[cfg(feature = "request")]
use std::sync::atomic::AtomicBool;
use std::{
    num::{NonZeroU32, NonZeroU64},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64},
    },
};
use tracing::{dispatcher, level_filters::LevelFilter};

/// The head of a request that is handed to a client or came to a server.
pub(crate) struct RequestHead<'a> {
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
    pub(crate) version: Version,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) handle: Option<&'a RequestHandle>,
    pub(crate) has_body: bool,
    /// Whether this side answers the request, and has not made it.
    pub(crate) accepted: bool,
    /// Where the request was read, if that was from the bytes of a connection.
    pub(crate) wire: Option<OnWire>,
}

/// Where a request was read from the bytes of its connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OnWire {
    /// When its first byte passed.
    pub(crate) begin: Tick,
    /// The identifier of its HTTP/2 stream.
    pub(crate) stream: Option<NonZeroU32>,
}

/// A request that is about to begin.
pub(in crate::sink) struct NewRequest {
    begin: Tick,
    method: Method,
    url: RecordedUrl,
    hops: u8,
    origin: Option<Box<RequestOrigin>>,
    links: RequestLinks,
}

impl NewRequest {
    #[inline]
    pub(in crate::sink) fn new(core: &Core, head: &RequestHead<'_>) -> Self {
        let (mut links, mut hops) = (RequestLinks::default(), 0);
        if let Some(headers) = CapturedHeaders::take(head.headers, &core.config) {
            links.extras_mut().headers = headers;
        }
        let method = match cut_method(head.method) {
            None => head.method.clone(),
            Some(cut) => {
                links.extras_mut().method_bytes = limits::original_size(head.method.as_str().len());
                cut
            }
        };
        let url = RecordedUrl::new(head.uri, core.config.mask_query);
        if let Some(hop) = head.handle.and_then(|handle| hop_before(core, handle, &url)) {
            hops = hop.record.hops + 1;
            links.extras_mut().prev_hop = PrevHop { id: Some(hop.record_id()), kept: Some(hop) };
        }
        let origin = origin(core, head);
        let begin = head.wire.map_or_else(|| core.now(), |wire| wire.begin);
        NewRequest { begin, method, url, hops, origin, links }
    }

    #[inline]
    pub(in crate::sink) fn into_record(self, head: &RequestHead<'_>) -> RequestRecord {
        let NewRequest { begin, method, url, hops, origin, links } = self;
        RequestRecord {
            begin,
            method,
            url,
            has_body: head.has_body,
            accepted: head.accepted,
            seen_on_wire: head.wire.is_some(),
            stream_id: head.wire.and_then(|wire| wire.stream),
            origin,
            version: AtomicU8::new(version_code(head.version)),
            status: AtomicU16::new(0),
            grpc_status: AtomicU16::new(0),
            conn_acquired: AtomicTick::default(),
            #[cfg(feature = "client")]
            pool: Default::default(),
            body_end: AtomicTick::default(),
            response_head: AtomicTick::default(),
            first_byte: AtomicTick::default(),
            response_end: AtomicTick::default(),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            decoded: AtomicU64::new(0),
            end: EndCell::new(links.extras.is_some()),
            followers: AtomicU32::new(0),
            hops,
            retention: AtomicU8::new(0),
            held: AtomicU8::new(0),
            #[cfg(feature = "request")]
            declared_length: AtomicU64::new(0),
            #[cfg(feature = "request")]
            only_header_declares: AtomicBool::new(false),
            conn: OnceLock::new(),
            links: Mutex::new(links),
        }
    }
}

/// Returns what a request that begins now belongs to; `None` if nothing is known of it.
#[inline]
fn origin(core: &Core, head: &RequestHead<'_>) -> Option<Box<RequestOrigin>> {
    let traceparent = Traceparent::of(head.headers);
    // The task that reads from a connection works for all of its requests.
    let (served, span) = match head.wire {
        Some(_) => (None, None),
        None => (served_request(core, head), current_span()),
    };
    let is_known = served.is_some() || traceparent.is_some() || span.is_some();
    is_known.then(|| Box::new(RequestOrigin { served, traceparent, span }))
}

/// Returns the request that is being answered, if `head` is of a request that this program makes meanwhile.
#[cfg(feature = "server")]
#[inline]
fn served_request(core: &Core, head: &RequestHead<'_>) -> Option<RecordId> {
    if head.accepted { None } else { context::served_request_of(core) }
}

#[cfg(not(feature = "server"))]
fn served_request(_: &Core, _: &RequestHead<'_>) -> Option<RecordId> {
    None
}

/// Returns the identifier of the current span of `tracing`.
#[inline]
fn current_span() -> Option<NonZeroU64> {
    if LevelFilter::current() == LevelFilter::OFF {
        return None; // nobody collects spans
    }
    dispatcher::get_default(|current| current.current_span().id().map(|span| span.into_non_zero_u64()))
}

/// Returns the beginning of a method that is too long; `None` if it is not.
fn cut_method(method: &Method) -> Option<Method> {
    let bytes = method.as_str().as_bytes();
    if bytes.len() <= MAX_METHOD_BYTES { None } else { Method::from_bytes(&bytes[..MAX_METHOD_BYTES]).ok() }
}

/// Returns the last request with that handle, if it led to one for `url`.
#[cold]
fn hop_before(core: &Core, handle: &RequestHandle, url: &RecordedUrl) -> Option<RequestRef> {
    let last = handle.last_hop().filter(|last| std::ptr::eq(&**last.core(), core))?;
    last.redirected_to(url).filter(RequestRef::precedes)
}
