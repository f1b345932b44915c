//! HTTP requests: one record for each exchange of a request for a response.

use super::{
    extras::{PrevHop, RequestLinks, Tried, linked_groups, push_bounded},
    handle::RequestHandle,
    headers::CapturedHeaders,
    url::RecordedUrl,
};
use crate::{
    error::FailureDetail,
    record::{
        EndReason, Failure,
        limits::{self, MAX_METHOD_BYTES, MAX_REQUEST_HOPS, MAX_REQUEST_LINKS},
    },
    sink::{
        clock::Tick,
        conn::record::{ConnLink, ConnRef},
        context,
        core::Core,
        dial::group::DialGroup,
        registry::{Evictable, Rec, end::EndCell, record_bytes},
        snapshot::to_record,
        subscriber::FinishedRecord,
    },
};
use http::{HeaderMap, Method, StatusCode, Uri, Version};
use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError,
    atomic::{
        AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64,
        Ordering::{AcqRel, Acquire, Release},
    },
};

/// The head is written before anybody else sees it. Of the rest each field has one writer.
#[derive(Debug)]
pub(crate) struct RequestRecord {
    pub(crate) begin: Tick,
    pub(crate) method: Method,
    pub(crate) url: RecordedUrl,
    pub(crate) has_body: bool,
    /// This side answers it, and has not made it.
    pub(crate) accepted: bool,
    pub(crate) version: AtomicU8,
    pub(crate) status: AtomicU16,
    /// The status of a gRPC call, plus one; zero when none came.
    pub(crate) grpc_status: AtomicU16,
    pub(crate) conn_acquired: AtomicTick,
    pub(crate) body_end: AtomicTick,
    pub(crate) response_head: AtomicTick,
    pub(crate) first_byte: AtomicTick,
    pub(crate) response_end: AtomicTick,
    pub(crate) sent: AtomicU64,
    pub(crate) received: AtomicU64,
    /// Bytes after decoding, plus one; zero when nobody decodes.
    pub(crate) decoded: AtomicU64,
    /// Has a mark when there is anything in `links`.
    pub(crate) end: EndCell,
    /// Kept requests that this one led to.
    followers: AtomicU32,
    /// How many requests led to this one.
    hops: u8,
    /// Not kept any more, though somebody may still ask for it.
    is_evicted: AtomicBool,
    /// [`REDIRECT_HELD`] while the request of a redirect stays open until the client has decided whether the redirect can be
    /// followed, [`REDIRECT_COMPLETE`] if its response has ended meanwhile, zero for all other requests. See
    /// [`hold_redirects`](crate::request::TraceRequestLayer::hold_redirects).
    held: AtomicU8,
    /// The length of the response's body by its header, in bytes; zero when it declares none.
    #[cfg(feature = "request")]
    pub(in crate::sink) declared_length: AtomicU64,
    /// Whether only the header declares that length, and not the body itself.
    #[cfg(feature = "request")]
    pub(in crate::sink) only_header_declares: AtomicBool,
    /// The first connection that it was given; no connection, once it has ended without any.
    conn: OnceLock<Option<ConnLink>>,
    links: Mutex<RequestLinks>,
}

/// Bytes of a URL and what else most requests have.
const TYPICAL_HEAP_BYTES: usize = 256;

/// The request is held, and its response has not ended.
const REDIRECT_HELD: u8 = 1;
/// The request is held, and its response has ended.
const REDIRECT_COMPLETE: u8 = 2;

#[derive(Debug, Default)]
pub(crate) struct AtomicTick(AtomicU64);

impl AtomicTick {
    pub(crate) fn get(&self) -> Tick {
        Tick(self.0.load(Acquire))
    }

    pub(in crate::sink) fn set(&self, tick: Tick) {
        self.0.store(tick.0, Release);
    }
}

impl RequestRecord {
    /// The memory that each request is taken to need, so that no more need be said of most of them.
    pub(in crate::sink) const FIXED_BYTES: usize = record_bytes::<RequestRecord>() + TYPICAL_HEAP_BYTES;

    /// The memory that it takes besides [`Self::FIXED_BYTES`], with `fault` as what went wrong. It does not change any more
    /// once the end has begun.
    #[inline]
    fn charge(&self, links: Option<&RequestLinks>, fault: Option<&FailureDetail>) -> usize {
        let url = self.url.heap_bytes();
        if url <= TYPICAL_HEAP_BYTES && fault.is_none() && links.is_none() {
            return 0;
        }
        let fault = fault.map_or(0, |fault| size_of::<FailureDetail>() + fault.heap_bytes());
        let extras = links.and_then(|links| links.extras.as_ref()).map_or(0, |extras| extras.bytes());
        (url + fault + extras).saturating_sub(TYPICAL_HEAP_BYTES)
    }

    /// When something was last seen of it.
    fn latest(&self) -> Tick {
        let seen = [&self.conn_acquired, &self.body_end, &self.response_head, &self.response_end];
        seen.into_iter().map(AtomicTick::get).fold(self.begin, Tick::max)
    }

    /// Keeps the request open beyond the end of its response: whether its redirect can be followed decides how it ends.
    #[cfg(feature = "request")]
    pub(in crate::sink) fn hold(&self) {
        self.held.store(REDIRECT_HELD, Release);
    }

    #[inline]
    pub(in crate::sink) fn is_held(&self) -> bool {
        self.held.load(Acquire) != 0
    }

    /// Locked, unless there is nothing in them.
    pub(crate) fn links(&self) -> Option<MutexGuard<'_, RequestLinks>> {
        self.end.has_links().then(|| self.lock())
    }

    /// To write into, unless it has ended.
    pub(in crate::sink) fn open_links(&self) -> Option<MutexGuard<'_, RequestLinks>> {
        let links = self.lock();
        self.end.set_has_links().then_some(links)
    }

    fn lock(&self) -> MutexGuard<'_, RequestLinks> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn first_conn(&self) -> Option<&ConnLink> {
        self.conn.get()?.as_ref()
    }

    /// Shows to `f` the connection that it has, and what else it refers to if there is any of that.
    #[inline]
    pub(in crate::sink) fn with_links<R>(
        &self,
        f: impl FnOnce(Option<&ConnLink>, Option<&RequestLinks>) -> R,
    ) -> R {
        let Some(links) = self.links() else { return f(self.first_conn(), None) };
        let last = links.extras.as_ref().and_then(|extras| extras.conn.as_ref());
        f(last.or(self.first_conn()), Some(&links))
    }
}

impl Evictable for RequestRecord {
    type Common = Arc<Core>;
    type Block = [crate::sync::OnceLock<Self>; 1];

    fn is_evictable(&self) -> bool {
        !self.end.is_open() && self.followers.load(Acquire) == 0
    }

    /// Breaks the links to other requests. Whoever still holds the record keeps its connections, but the sink does
    /// not keep them on its behalf.
    fn on_evict(&self, core: &Arc<Core>) {
        self.is_evicted.store(true, Release);
        let charged = self.with_links(|conn, links| {
            linked_groups(conn, links).for_each(|group| group.release());
            if self.end.is_open() { 0 } else { self.charge(links, self.end.fault()) }
        });
        core.budget.release(charged);
        let kept = self.links().and_then(|mut links| {
            let extras = links.extras.as_mut()?;
            Some((extras.prev_hop.kept.take(), std::mem::take(&mut extras.connects)))
        });
        if let Some((hop, connects)) = kept {
            hop.into_iter().chain(connects).for_each(|other| other.remove_follower());
        }
    }
}

/// A record of a request.
#[derive(Clone, Debug)]
pub(crate) struct RequestRef {
    pub(in crate::sink) record: Rec<RequestRecord>,
}

impl RequestRef {
    #[inline]
    pub(in crate::sink) fn core(&self) -> &Arc<Core> {
        self.record.common()
    }

    pub(crate) fn number(&self) -> u64 {
        self.record.number()
    }

    /// Its URL as it is recorded: masked, and within its limit.
    #[cfg(feature = "client")]
    pub(crate) fn url(&self) -> String {
        self.record.url.text().as_str().into()
    }

    /// Why it failed, if it has.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.record.end.fault().map(|fault| fault.failure.clone())
    }

    /// Whether it is one of that sink's.
    pub(in crate::sink) fn is_of(&self, core: &Arc<Core>) -> bool {
        Arc::ptr_eq(self.core(), core)
    }

    /// Nothing is written any more to what has ended: by a timeout, say, while its parts go on.
    pub(in crate::sink) fn is_open(&self) -> bool {
        self.record.end.is_open()
    }

    /// A dial began because of this request.
    pub(in crate::sink) fn caused_dial(&self, group: &Arc<DialGroup>) {
        let Some(mut links) = self.record.open_links() else { return };
        group.retain();
        if let Some(before) = links.dial.replace(group.clone()) {
            push_bounded(&mut links.extras_mut().dials, before, |oldest| oldest.release());
        }
    }

    /// Another request with the same handle begins: the one whose response redirected to it. Where this one was
    /// not redirected but is tried again, that is the hop before this.
    fn redirected_to(self, url: &RecordedUrl) -> Option<RequestRef> {
        let status = self.record.status.load(Acquire);
        if (300..400).contains(&status) {
            return Some(self);
        }
        let hop = self.record.links()?.extras.as_ref()?.prev_hop.kept.clone();
        hop.filter(|_| self.record.url == *url)
    }

    /// Another request follows it. True when that is to be linked.
    fn precedes(&self) -> bool {
        let record = &self.record;
        record.hops < MAX_REQUEST_HOPS - 1 && self.add_follower()
    }

    /// It is kept as long as another one that refers to it. False when it is not kept any more.
    fn add_follower(&self) -> bool {
        self.record.followers.fetch_add(1, AcqRel);
        let is_kept = !self.record.is_evicted.load(Acquire);
        if !is_kept {
            self.remove_follower();
        }
        is_kept
    }

    fn remove_follower(&self) {
        self.record.followers.fetch_sub(1, AcqRel);
    }

    /// It is a CONNECT on that connection to a proxy: what comes later on the connection is not its.
    pub(in crate::sink) fn connects(&self, conn: &ConnRef) {
        self.acquired(conn);
        if conn.group.dial.is_none() || !conn.is_of(self.core()) {
            return;
        }
        if let Some(mut links) = self.record.open_links() {
            let extras = links.extras_mut();
            (extras.path, extras.is_connect) = (conn.link().path(), true);
        }
        if let Some(cause) = context::current_request().filter(|request| conn.group.is_caused_by(request)) {
            cause.caused_connect(self);
        }
    }

    /// That CONNECT is made because of it.
    fn caused_connect(&self, connect: &RequestRef) {
        let Some(mut links) = self.record.open_links() else { return };
        if connect.add_follower() {
            push_bounded(&mut links.extras_mut().connects, connect.clone(), |oldest| {
                oldest.remove_follower()
            });
        }
    }

    /// The client has chosen a connection just now. May be said again, also of another one: then the request was
    /// moved there.
    pub(in crate::sink) fn acquired(&self, conn: &ConnRef) {
        if self.link(conn) {
            self.record.conn_acquired.set(self.core().now().max(self.record.begin));
            conn.await_first_byte();
        }
    }

    /// True when that is news. A connection of another sink means nothing in this one.
    pub(crate) fn link(&self, conn: &ConnRef) -> bool {
        if !conn.is_of(self.core()) {
            return false;
        }
        let record: &RequestRecord = &self.record;
        match record.conn.get() {
            None => {
                conn.group.retain();
                if record.conn.set(Some(conn.link())).is_ok() {
                    return true;
                }
                // It has ended meanwhile, or somebody else was quicker.
                conn.group.release();
            }
            Some(Some(first)) if first.is_same(conn) && !record.end.has_links() => return false,
            Some(_) => {}
        }
        self.moved_to(conn)
    }

    /// It has another connection than the first.
    #[cold]
    fn moved_to(&self, conn: &ConnRef) -> bool {
        let Some(first) = self.record.first_conn() else { return false };
        let Some(mut links) = self.record.open_links() else { return false };
        let last = links.extras.as_ref().and_then(|extras| extras.conn.as_ref()).unwrap_or(first);
        let is_refused = links.extras.as_ref().is_some_and(|extras| extras.refused.is_some());
        if last.is_same(conn) && !is_refused {
            return false;
        }
        let conn_before = last.clone();
        conn.group.retain();
        let extras = links.extras_mut();
        extras.conn = Some(conn.link());
        let tried = Tried { conn: conn_before, refused: extras.refused.take() };
        let gone = &mut extras.dropped_tried;
        push_bounded(&mut extras.tried, tried, |oldest| {
            oldest.conn.group.release();
            *gone += 1;
        });
        true
    }

    /// Records that the peer has not processed it on its connection. It is sent again, there or on another one.
    #[cfg(feature = "client")]
    #[cold]
    pub(in crate::sink) fn refused(&self, failure: Failure) {
        let record: &RequestRecord = &self.record;
        let Some(mut links) = record.open_links() else { return };
        links.extras_mut().refused = Some(failure);
        record.body_end.set(Tick::NONE);
        record.sent.store(0, Release);
    }

    /// A 1xx response came.
    pub(crate) fn informational(&self, status: StatusCode) {
        let now = self.core().now();
        let Some(mut links) = self.record.open_links() else { return };
        let extras = links.extras_mut();
        extras.informational_seen += 1;
        if extras.informational.len() < MAX_REQUEST_LINKS {
            extras.informational.push((now, status));
        }
    }

    /// Nobody wants the response any more, or it will not come: of a request that this side answers.
    #[cfg(feature = "server")]
    pub(in crate::sink) fn given_up(&self) {
        let (fault, is_closed) = self.record.with_links(|conn, _| {
            (conn.and_then(ConnLink::fault), conn.is_some_and(ConnLink::is_closed_by_peer))
        });
        if let Some(fault) = fault {
            self.end(fault.end_reason(), Some(fault));
        } else if is_closed {
            self.end(EndReason::PeerClosed, None);
        } else {
            let text = "the client did not want it any more, or this side gave it up";
            self.end(EndReason::Cancelled, Some(FailureDetail::new(Failure::Interrupted, text)));
        }
    }

    /// The response was read to its end.
    pub(in crate::sink) fn complete(&self) {
        let record: &RequestRecord = &self.record;
        if !record.end.is_open() {
            return;
        }
        let now = self.core().now();
        let read = &record.response_end;
        if read.get() == Tick::NONE {
            read.set(now.max(record.begin));
        }
        if record.is_held() {
            record.held.store(REDIRECT_COMPLETE, Release);
        } else {
            self.end_at(now, EndReason::Closed, None);
        }
    }

    /// Ends the hold of a redirect that the client does not follow: the request ends with its response, at once if that
    /// has ended already.
    pub(in crate::sink) fn release(&self) {
        if self.record.is_held() && self.record.held.swap(0, AcqRel) == REDIRECT_COMPLETE {
            self.complete();
        }
    }

    /// Records that it goes over HTTP/2, unless a response has told the version.
    #[cfg(feature = "request")]
    pub(in crate::sink) fn set_http2(&self) {
        let record: &RequestRecord = &self.record;
        if record.end.is_open() && !record.response_head.get().is_some() {
            record.version.store(version_code(Version::HTTP_2), Release);
        }
    }

    /// It failed. Where it never got a connection, what went wrong with its own dial says it best, unless that
    /// was just given up; and where the client says no more than that the connection came to an end, what went
    /// wrong with that.
    pub(in crate::sink) fn failed(&self, mut fault: FailureDetail) {
        let deeper = self.record.with_links(|conn, links| {
            let dials = links.into_iter().flat_map(RequestLinks::dials);
            let mut faults = dials.filter_map(|dial| dial.fault());
            match conn {
                None => faults.find(|fault| fault.failure != Failure::Interrupted),
                Some(conn) if is_vague(&fault.failure) => conn.fault(),
                Some(_) => None,
            }
        });
        if let Some(deeper) = deeper {
            fault.failure = deeper.failure;
        }
        self.end(fault.end_reason(), Some(fault));
    }

    /// True for the call that ended it.
    pub(crate) fn end(&self, reason: EndReason, fault: Option<FailureDetail>) -> bool {
        self.is_open() && self.end_at(self.core().now(), reason, fault)
    }

    fn end_at(&self, now: Tick, reason: EndReason, fault: Option<FailureDetail>) -> bool {
        let (core, record): (_, &RequestRecord) = (self.core(), &self.record);
        let now = now.max(record.latest());
        let Some(ending) = record.end.begin_end() else { return false };
        let has_conn = record.conn.get_or_init(|| None).is_some();
        if ending.has_links() {
            let mut links = record.lock();
            links.dials().for_each(|dial| dial.close_ctx(now));
            if let Some(extras) = &mut links.extras {
                extras.stale = extras.tried.iter().map(Tried::failure).collect();
            }
            // With a response it had one, whether that is known or not.
            let had_conn = has_conn || record.response_head.get().is_some();
            let own_dial = links.dial.as_ref().filter(|_| !had_conn);
            if let Some(path) = own_dial.map(|dial| dial.path()).filter(|path| *path != [0; 3]) {
                links.extras_mut().path = path;
            }
            core.budget.charge(record.charge(Some(&links), fault.as_ref()));
        } else {
            core.budget.charge(record.charge(None, fault.as_ref()));
        }
        ending.finish(now, reason, fault);
        core.publish(|times| FinishedRecord::HttpRequest(to_record::request(self, times)));
        true
    }
}

/// HTTP/2 passes on the mere text of an error of the stream below, or that it has ended.
fn is_vague(failure: &Failure) -> bool {
    matches!(failure, Failure::Unknown(_) | Failure::EofError | Failure::ConnectionAborted)
}

/// What is known of a request when it is handed to a client.
pub(crate) struct RequestHead<'a> {
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
    pub(crate) version: Version,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) handle: Option<&'a RequestHandle>,
    pub(crate) has_body: bool,
    /// This side answers it, and has not made it.
    pub(crate) accepted: bool,
}

/// A record that is to begin: what takes time or runs code of the user's.
pub(in crate::sink) struct NewRequest {
    begin: Tick,
    method: Method,
    url: RecordedUrl,
    hops: u8,
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
            links.extras_mut().prev_hop = PrevHop { number: hop.number(), kept: Some(hop) };
        }
        NewRequest { begin: core.now(), method, url, hops, links }
    }

    #[inline]
    pub(in crate::sink) fn into_record(self, head: &RequestHead<'_>) -> RequestRecord {
        let NewRequest { begin, method, url, hops, links } = self;
        RequestRecord {
            begin,
            method,
            url,
            has_body: head.has_body,
            accepted: head.accepted,
            version: AtomicU8::new(version_code(head.version)),
            status: AtomicU16::new(0),
            grpc_status: AtomicU16::new(0),
            conn_acquired: AtomicTick::default(),
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
            is_evicted: AtomicBool::new(false),
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

/// The beginning of a method that is too long.
fn cut_method(method: &Method) -> Option<Method> {
    let bytes = method.as_str().as_bytes();
    if bytes.len() <= MAX_METHOD_BYTES { None } else { Method::from_bytes(&bytes[..MAX_METHOD_BYTES]).ok() }
}

/// The last request with that handle, if it led to one for `uri`.
#[cold]
fn hop_before(core: &Core, handle: &RequestHandle, url: &RecordedUrl) -> Option<RequestRef> {
    let last = handle.last_hop().filter(|last| std::ptr::eq(&**last.core(), core))?;
    last.redirected_to(url).filter(RequestRef::precedes)
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
