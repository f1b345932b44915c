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
    subscriber::FinishedRecord,
};
use crate::{
    error::Fault,
    record::{EndReason, Failure},
};
use http::{HeaderMap, Method, StatusCode, Uri, Version};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicU8, AtomicU16, AtomicU32, AtomicU64,
            Ordering::{AcqRel, Acquire, Release},
        },
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
    /// Kept requests that this one led to.
    followers: AtomicU32,
    /// How many requests led to this one.
    hops: u8,
    links: Mutex<Links>,
}

#[derive(Debug, Default)]
pub(crate) struct Links {
    pub(crate) conn: Option<ConnRef>,
    /// The last dial that began because of it.
    dial: Option<Arc<Group>>,
    pub(crate) rare: Option<Box<Rare>>,
    /// Not kept any more, though somebody may still ask for it.
    forgotten: bool,
}

/// What most requests do not have.
#[derive(Debug, Default)]
pub(crate) struct Rare {
    pub(crate) headers: CapturedHeaders,
    pub(crate) response_headers: CapturedHeaders,
    pub(crate) trailers: CapturedHeaders,
    /// Connections that it was tried on before the one that it has.
    pub(crate) tried: VecDeque<ConnRef>,
    /// Why each of them was no good, as far as was known when the request ended.
    pub(crate) stale: Vec<Failure>,
    /// The dials before the last that began because of it.
    dials: VecDeque<Arc<Group>>,
    /// How far its last dial had come when it ended without having been given a connection.
    pub(crate) way: [u64; 3],
    pub(crate) prev_hop: PrevHop,
    pub(crate) informational: Vec<(Tick, StatusCode)>,
}

/// The request whose response led to this one.
#[derive(Clone, Debug, Default)]
pub(crate) struct PrevHop {
    /// Zero when there was none.
    pub(crate) number: u64,
    /// The request itself, as long as the sink keeps this one.
    pub(crate) kept: Option<RequestRef>,
}

/// A request that is resent or dials without end must not fill the memory: of its connections, its dials and
/// the interim responses to it so many are kept.
const MOST: usize = 64;
/// So many requests are linked as hops of one. One handle may be used for requests without end.
pub(super) const MOST_HOPS: u8 = 64;

#[derive(Debug, Default)]
pub(crate) struct AtomicTick(AtomicU64);

impl AtomicTick {
    pub(crate) fn get(&self) -> Tick {
        Tick(self.0.load(Acquire))
    }

    pub(super) fn set(&self, tick: Tick) {
        self.0.store(tick.0, Release);
    }
}

impl RequestRecord {
    /// When something was last seen of it.
    fn latest(&self) -> Tick {
        let seen = [&self.conn_acquired, &self.body_end, &self.response_head, &self.response_end];
        seen.into_iter().map(AtomicTick::get).fold(self.begin, Tick::max)
    }

    pub(crate) fn links(&self) -> MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Links {
    pub(super) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// The dials of its connections, and those that it caused.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &Arc<Group>> {
        let tried = self.rare.iter().flat_map(|rare| &rare.tried);
        self.conn.iter().chain(tried).map(|conn| &conn.group).chain(self.dials())
    }

    /// Those that it caused, the last one first.
    fn dials(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.dial.iter().chain(self.rare.iter().flat_map(|rare| rare.dials.iter().rev()))
    }
}

impl Entry for RequestRecord {
    type Common = Arc<Core>;

    fn is_disposable(&self) -> bool {
        !self.end.is_open() && self.followers.load(Acquire) == 0
    }

    /// Who holds it keeps its connections, but the sink does not for its sake. Two hops of one request may share
    /// a chunk, which then would keep itself.
    fn forgotten(&self) {
        let hop = {
            let mut links = self.links();
            links.forgotten = true;
            links.groups().for_each(|group| group.not_needed());
            links.rare.as_mut().and_then(|rare| rare.prev_hop.kept.take())
        };
        if let Some(hop) = hop {
            hop.record.followers.fetch_sub(1, AcqRel);
        }
    }
}

/// A record of a request.
#[derive(Clone, Debug)]
pub(crate) struct RequestRef {
    pub(super) record: Rec<RequestRecord>,
}

impl RequestRef {
    #[inline]
    pub(super) fn core(&self) -> &Arc<Core> {
        self.record.common()
    }

    pub(crate) fn number(&self) -> u64 {
        self.record.number()
    }

    /// Why it failed, if it has.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.record.end.fault().map(|fault| fault.failure.clone())
    }

    /// Whether it is one of that sink's.
    pub(super) fn is_of(&self, core: &Arc<Core>) -> bool {
        Arc::ptr_eq(self.core(), core)
    }

    /// Nothing is written any more to what has ended: by a timeout, say, while its parts go on.
    pub(super) fn is_open(&self) -> bool {
        self.record.end.is_open()
    }

    /// The links, unless it has ended.
    fn open_links(&self) -> Option<MutexGuard<'_, Links>> {
        let links = self.record.links();
        self.is_open().then_some(links)
    }

    /// A dial began because of this request.
    pub(super) fn caused(&self, group: &Arc<Group>) {
        let Some(mut links) = self.open_links() else { return };
        group.needed();
        if let Some(before) = links.dial.replace(group.clone()) {
            push(&mut links.rare().dials, before, |oldest| oldest.not_needed());
        }
    }

    /// Another request with the same handle begins: the one whose response redirected to it. Where this one was
    /// not redirected but is tried again, that is the hop before this.
    fn redirected_to(self, uri: &Uri) -> Option<RequestRef> {
        let status = self.record.status.load(Acquire);
        if (300..400).contains(&status) {
            return Some(self);
        }
        let hop = self.record.links().rare.as_ref()?.prev_hop.kept.clone();
        hop.filter(|_| self.record.uri == *uri)
    }

    /// Another request follows it. True when that is to be linked.
    fn precedes(&self) -> bool {
        let links = self.record.links();
        let linked = !links.forgotten && self.record.hops < MOST_HOPS - 1;
        self.record.followers.fetch_add(u32::from(linked), AcqRel);
        linked
    }

    /// The client has chosen a connection just now. May be said again, also of another one: then the request was
    /// moved there.
    pub(super) fn acquired(&self, conn: &ConnRef) {
        if self.link(conn) {
            self.record.conn_acquired.set(self.core().now().max(self.record.begin));
            conn.await_first_byte();
        }
    }

    /// True when that is news. A connection of another sink means nothing in this one.
    pub(super) fn link(&self, conn: &ConnRef) -> bool {
        if !conn.is_of(self.core()) {
            return false;
        }
        let Some(mut links) = self.open_links() else { return false };
        if links.conn.as_ref().is_some_and(|known| known.same(conn)) {
            return false;
        }
        conn.group.needed();
        if let Some(stale) = links.conn.replace(conn.clone()) {
            push(&mut links.rare().tried, stale, |oldest| oldest.group.not_needed());
        }
        true
    }

    /// A 1xx response came.
    pub(crate) fn informational(&self, status: StatusCode) {
        let now = self.core().now();
        let Some(mut links) = self.open_links() else { return };
        let seen = &mut links.rare().informational;
        if seen.len() < MOST {
            seen.push((now, status));
        }
    }

    /// The response was read to its end.
    pub(super) fn complete(&self) {
        if !self.is_open() {
            return;
        }
        let now = self.core().now();
        let read = &self.record.response_end;
        if read.get() == Tick::NONE {
            read.set(now.max(self.record.begin));
        }
        self.end_at(now, EndReason::Closed, None);
    }

    /// It failed. Where it never got a connection, what went wrong with its own dial says it best, unless that
    /// was just given up; and where the client says no more than that the connection came to an end, what went
    /// wrong with that.
    pub(super) fn failed(&self, failure: Failure, text: &str) {
        let deeper = {
            let links = self.record.links();
            let mut faults = links.dials().filter_map(|dial| dial.fault());
            match &links.conn {
                None => faults.find(|fault| fault.failure != Failure::Interrupted),
                Some(conn) if is_vague(&failure) => conn.fault(),
                Some(_) => None,
            }
        };
        let fault = Fault::new(deeper.map_or(failure, |deeper| deeper.failure), text.to_owned());
        self.end(fault.end_reason(), Some(fault));
    }

    /// True for the call that ended it.
    pub(crate) fn end(&self, reason: EndReason, fault: Option<Fault>) -> bool {
        self.is_open() && self.end_at(self.core().now(), reason, fault)
    }

    fn end_at(&self, now: Tick, reason: EndReason, fault: Option<Fault>) -> bool {
        let (core, record) = (self.core(), &self.record);
        let now = now.max(record.latest());
        if let Some(mut links) = self.open_links() {
            links.dials().for_each(|dial| dial.let_go(now));
            if let Some(rare) = &mut links.rare {
                rare.stale = rare.tried.iter().map(ConnRef::stale).collect();
            }
            let own_dial = links.dial.as_ref().filter(|_| links.conn.is_none());
            if let Some(way) = own_dial.map(|dial| dial.way()).filter(|way| *way != [0; 3]) {
                links.rare().way = way;
            }
        }
        if !record.end.end(now, reason, fault) {
            return false;
        }
        core.publish(|times| FinishedRecord::HttpRequest(export::request(self, times)));
        true
    }
}

/// HTTP/2 passes on the mere text of an error of the stream below, or that it has ended.
fn is_vague(failure: &Failure) -> bool {
    matches!(failure, Failure::Unknown(_) | Failure::EofError | Failure::ConnectionAborted)
}

/// Adds to a list of limited length, out of which the oldest goes.
fn push<T>(list: &mut VecDeque<T>, item: T, gone: impl FnOnce(T)) {
    if list.len() == MOST
        && let Some(oldest) = list.pop_front()
    {
        gone(oldest);
    }
    list.push_back(item);
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
        let uri = mask_uri(head.uri, core.settings.mask_query);
        let last = head.handle.and_then(RequestHandle::last_hop);
        let hop =
            last.filter(|last| std::ptr::eq(&**last.core(), core)).and_then(|last| last.redirected_to(&uri));
        let hop = hop.filter(RequestRef::precedes);
        let hops = hop.as_ref().map_or(0, |hop| hop.record.hops + 1);
        if let Some(hop) = hop {
            links.rare().prev_hop = PrevHop { number: hop.number(), kept: Some(hop) };
        }
        RequestRecord {
            begin: core.now(),
            method: head.method.clone(),
            uri,
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
            followers: AtomicU32::new(0),
            hops,
            links: Mutex::new(links),
        }
    }
}

pub(super) fn version_code(version: Version) -> u8 {
    match version {
        Version::HTTP_09 => 9,
        Version::HTTP_10 => 10,
        Version::HTTP_2 => 20,
        Version::HTTP_3 => 30,
        _ => 11,
    }
}
