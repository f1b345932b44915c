//! [`RequestRecord`]: the state of one exchange of a request for a response.

#[cfg(feature = "client")]
use super::pool_checkout::PoolCheckoutCell;
#[cfg(feature = "_record_requests")]
use super::tags::Tags;
use super::{extras::RequestLinks, origin::RequestOrigin, url::RecordedUrl};
#[cfg(feature = "client")]
use crate::record::Failure;
#[cfg(all(feature = "_lent_sockets", feature = "_record_requests", target_os = "linux"))]
use crate::sink::probe::ProbeEvent;
use crate::{
    error::FailureDetail,
    sink::{
        clock::{AtomicTick, Tick},
        conn::conn_ref::ConnLink,
        core::Core,
        record_id::RecordId,
        registry::{Rec, end::EndCell, record_bytes},
    },
    sync::IgnorePoison,
};
use http::{Method, Version};
use std::num::NonZeroU32;
#[cfg(feature = "request")]
use std::sync::atomic::{AtomicBool, Ordering::Release};
use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock,
    atomic::{
        AtomicU8, AtomicU16, AtomicU32, AtomicU64,
        Ordering::{AcqRel, Acquire},
    },
};

/// The state of a request.
///
/// The head is written before another thread can see it. Every other field has one writer.
#[derive(Debug)]
pub(crate) struct RequestRecord {
    pub(crate) begin: Tick,
    pub(crate) method: Method,
    pub(crate) url: RecordedUrl,
    pub(crate) has_body: bool,
    /// Whether this side answers the request, and has not made it.
    pub(crate) accepted: bool,
    /// Whether the request was read from the bytes of its connection.
    pub(crate) seen_on_wire: bool,
    /// The identifier of the HTTP/2 stream, if the request was read from there.
    pub(crate) stream_id: Option<NonZeroU32>,
    /// `None` without a served request, a `traceparent` and a span.
    pub(crate) origin: Option<Box<RequestOrigin>>,
    pub(crate) version: AtomicU8,
    pub(crate) status: AtomicU16,
    /// The status of a gRPC call, plus one; zero if none came.
    pub(crate) grpc_status: AtomicU16,
    pub(crate) conn_acquired: AtomicTick,
    #[cfg(feature = "client")]
    pub(in crate::sink) pool: PoolCheckoutCell,
    pub(crate) body_end: AtomicTick,
    pub(crate) response_head: AtomicTick,
    pub(crate) first_byte: AtomicTick,
    pub(crate) response_end: AtomicTick,
    pub(crate) sent: AtomicU64,
    pub(crate) received: AtomicU64,
    /// The number of bytes after decoding, plus one; zero if the response is not decoded.
    pub(crate) decoded: AtomicU64,
    /// Tells whether there is anything in `links`.
    pub(crate) end: EndCell,
    /// The number of kept requests that this one led to, and of kept DNS records whose messages it carried.
    pub(super) followers: AtomicU32,
    /// The number of requests that led to this one.
    #[cfg(feature = "_record_requests")]
    pub(super) hops: u8,
    /// Flags: [`CHOSEN`], [`KEPT`], [`MERELY_SLOW`] and [`EVICTED`].
    pub(super) retention: AtomicU8,
    /// [`REDIRECT_HELD`] while the request of a redirect stays open until the client has decided whether to follow it,
    /// [`REDIRECT_COMPLETE`] if its response has ended meanwhile, zero for all other requests. See
    /// [`hold_redirects`](crate::request::TraceRequestLayer::hold_redirects).
    #[cfg(feature = "_record_requests")]
    pub(super) held: AtomicU8,
    /// The length of the response's body that the header declares, in bytes; zero if it declares none.
    #[cfg(feature = "request")]
    pub(in crate::sink) declared_length: AtomicU64,
    /// Whether only the header declares that length, and not the body itself.
    #[cfg(feature = "request")]
    pub(in crate::sink) only_header_declares: AtomicBool,
    pub(super) conn: OnceLock<FirstConn>,
    pub(super) links: Mutex<RequestLinks>,
}

/// The first connection that a request was given.
#[derive(Debug)]
pub(super) enum FirstConn {
    #[cfg(feature = "_record_requests")]
    Given(ConnLink),
    /// The request ended before it was given one.
    Never,
}

/// The bytes of a URL and the other heap data that most requests have.
const TYPICAL_HEAP_BYTES: usize = 256;

/// The program or a rule wants the request to be kept longer than others.
const CHOSEN: u8 = 1;
/// The request is kept longer than others, and its groups count it.
const KEPT: u8 = 1 << 1;
/// The request is kept longer than others only because it was slow.
const MERELY_SLOW: u8 = 1 << 3;
/// The sink does not keep the request any more, though a handle may still ask for it.
const EVICTED: u8 = 1 << 2;

/// The value of `held` while the response has not ended.
#[cfg(feature = "request")]
const REDIRECT_HELD: u8 = 1;
/// The value of `held` after the response has ended.
#[cfg(feature = "_record_requests")]
pub(super) const REDIRECT_COMPLETE: u8 = 2;

impl RequestRecord {
    /// The memory that each request is assumed to take. Most take no more, and are not charged.
    pub(in crate::sink) const FIXED_BYTES: usize = record_bytes::<RequestRecord>() + TYPICAL_HEAP_BYTES;

    /// Returns the memory that the request takes in addition to [`Self::FIXED_BYTES`], with `fault` as what went wrong.
    /// It does not change any more once the end has begun.
    #[inline]
    pub(super) fn charge(&self, links: Option<&RequestLinks>, fault: Option<&FailureDetail>) -> usize {
        let head = self.url.heap_bytes() + self.origin.as_ref().map_or(0, |_| size_of::<RequestOrigin>());
        if head <= TYPICAL_HEAP_BYTES && fault.is_none() && links.is_none() {
            return 0;
        }
        let fault = fault.map_or(0, |fault| size_of::<FailureDetail>() + fault.heap_bytes());
        let extras = links.and_then(|links| links.extras.as_ref()).map_or(0, |extras| extras.bytes());
        (head + fault + extras).saturating_sub(TYPICAL_HEAP_BYTES)
    }

    /// Returns when something was last seen of the request.
    pub(super) fn latest(&self) -> Tick {
        let seen = [&self.conn_acquired, &self.body_end, &self.response_head, &self.response_end];
        seen.into_iter().map(AtomicTick::get).fold(self.begin, Tick::max_some)
    }

    /// Keeps the request open beyond the end of its response: whether its redirect can be followed decides how it ends.
    #[cfg(feature = "request")]
    pub(in crate::sink) fn hold(&self) {
        self.held.store(REDIRECT_HELD, Release);
    }

    #[cfg(feature = "_record_requests")]
    #[inline]
    pub(in crate::sink) fn is_held(&self) -> bool {
        self.held.load(Acquire) != 0
    }

    /// Has the sink keep the request longer than others.
    pub(super) fn choose(&self) {
        self.retention.fetch_or(CHOSEN, AcqRel);
    }

    pub(super) fn is_chosen(&self) -> bool {
        self.retention.load(Acquire) & CHOSEN != 0
    }

    /// Records that the request is kept longer than others, perhaps for no other reason than that it was slow.
    pub(super) fn set_kept(&self, is_merely_slow: bool) {
        self.retention.fetch_or(if is_merely_slow { KEPT | MERELY_SLOW } else { KEPT }, AcqRel);
    }

    /// Returns `true` if the request is kept longer than others only because it was slow.
    #[cfg(feature = "_record")]
    pub(in crate::sink) fn is_merely_slow(&self) -> bool {
        self.retention.load(Acquire) & MERELY_SLOW != 0
    }

    /// Records that the sink does not keep the request any more. Returns `true` if it was kept longer than others.
    pub(in crate::sink) fn set_evicted(&self) -> bool {
        self.retention.fetch_or(EVICTED, AcqRel) & KEPT != 0
    }

    pub(super) fn is_evicted(&self) -> bool {
        self.retention.load(Acquire) & EVICTED != 0
    }

    /// Locks the links, if there is anything in them.
    pub(crate) fn links(&self) -> Option<MutexGuard<'_, RequestLinks>> {
        self.end.has_links().then(|| self.lock())
    }

    /// Locks the links to write into them, unless the request has ended.
    pub(in crate::sink) fn open_links(&self) -> Option<MutexGuard<'_, RequestLinks>> {
        let links = self.lock();
        self.end.set_has_links().then_some(links)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, RequestLinks> {
        self.links.lock().ignore_poison()
    }

    pub(super) fn first_conn(&self) -> Option<&ConnLink> {
        match self.conn.get()? {
            #[cfg(feature = "_record_requests")]
            FirstConn::Given(conn) => Some(conn),
            FirstConn::Never => None,
        }
    }

    /// Passes the current connection, and the other links if there are any, to `f`.
    #[inline]
    pub(in crate::sink) fn with_links<R>(
        &self,
        f: impl FnOnce(Option<&ConnLink>, Option<&RequestLinks>) -> R,
    ) -> R {
        let Some(links) = self.links() else { return f(self.first_conn(), None) };
        let last = links.extras.as_ref().and_then(|extras| extras.conn.as_ref());
        f(last.or(self.first_conn()), Some(&links))
    }

    /// Has the probes look at the connection of the request, if it is still open.
    #[cfg(all(feature = "_lent_sockets", feature = "_record_requests", target_os = "linux"))]
    pub(in crate::sink) fn show_conn_to_probes(&self, event: ProbeEvent) {
        if let Some(conn) = self.with_links(|conn, _| conn.map(ConnLink::conn_ref)) {
            conn.show_for_request(event);
        }
    }
}

/// A reference to a request.
#[derive(Clone, Debug)]
pub(crate) struct RequestRef {
    pub(in crate::sink) record: Rec<RequestRecord>,
}

impl RequestRef {
    #[inline]
    pub(in crate::sink) fn core(&self) -> &Arc<Core> {
        self.record.common()
    }

    pub(crate) fn record_id(&self) -> RecordId {
        self.record.id()
    }

    /// Keeps this request as long as the one that follows it, the DNS record whose messages it carried, or a receiver
    /// of its slice needs it. Returns `false` if it is not kept any more.
    pub(in crate::sink) fn add_follower(&self) -> bool {
        self.record.followers.fetch_add(1, AcqRel);
        let is_kept = !self.record.is_evicted();
        if !is_kept {
            self.remove_follower();
        }
        is_kept
    }

    /// Records that what this request was kept for is not kept any more.
    pub(in crate::sink) fn remove_follower(&self) {
        self.record.followers.fetch_sub(1, AcqRel);
    }

    /// Returns the tags, if there are any.
    #[cfg(feature = "client")]
    pub(super) fn tags(&self) -> Option<Tags> {
        let links = self.record.links()?;
        let tags = &links.extras.as_ref()?.tags;
        (!tags.is_empty()).then(|| tags.clone())
    }

    #[cfg(feature = "_record_requests")]
    pub(super) fn set_tags(&self, tags: &Tags) {
        if let Some(mut links) = self.record.open_links() {
            links.extras_mut().tags = tags.clone();
        }
    }

    pub(super) fn tag(&self, key: &str, value: &str) {
        if let Some(mut links) = self.record.open_links() {
            links.extras_mut().tags.set(key, value);
        }
    }

    /// Returns the URL as it is recorded: masked, and within its limit.
    #[cfg(feature = "client")]
    pub(crate) fn url(&self) -> String {
        self.record.url.text().as_str().into()
    }

    /// Returns why the request failed, if it has.
    #[cfg(feature = "client")]
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.record.end.fault().map(|fault| fault.failure.clone())
    }

    /// Returns `true` if the request is recorded by the sink of `core`.
    pub(in crate::sink) fn is_of(&self, core: &Arc<Core>) -> bool {
        Arc::ptr_eq(self.core(), core)
    }

    /// Returns `true` if the request has not ended. Nothing is written to one that has, for instance by a timeout while
    /// parts of it are still running.
    pub(in crate::sink) fn is_open(&self) -> bool {
        self.record.end.is_open()
    }
}

pub(in crate::sink) fn version_code(version: Version) -> u8 {
    match version {
        Version::HTTP_09 => 9,
        Version::HTTP_10 => 10,
        Version::HTTP_2 => 20,
        Version::HTTP_3 => 30,
        _ => 11,
    }
}
