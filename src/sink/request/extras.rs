//! The links of a request besides its first connection, and other data that most requests do not have.

use super::{headers::CapturedHeaders, record::RequestRef, tags::Tags};
#[cfg(any(feature = "connect", feature = "request"))]
use crate::record::limits::MAX_REQUEST_LINKS;
use crate::{
    record::{Failure, limits::LimitedText},
    sink::{
        clock::Tick,
        conn::{conn_ref::ConnLink, record::ConnPath},
        dial::group::DialGroup,
        record_id::RecordId,
    },
};
use http::StatusCode;
use std::{collections::VecDeque, num::NonZeroU32, sync::Arc, time::Duration};

/// The links of a request besides its first connection. Most requests have none, and take no lock.
#[derive(Debug, Default)]
pub(crate) struct RequestLinks {
    /// The last dial that began because of the request.
    pub(in crate::sink) dial: Option<Arc<DialGroup>>,
    pub(crate) extras: Option<Box<RequestExtras>>,
}

/// Data that most requests do not have.
#[derive(Debug, Default)]
pub(crate) struct RequestExtras {
    pub(crate) headers: CapturedHeaders,
    pub(crate) response_headers: CapturedHeaders,
    pub(crate) trailers: CapturedHeaders,
    pub(crate) grpc_message: Option<LimitedText>,
    pub(in crate::sink) tags: Tags,
    /// The length of the method in bytes, if it was cut. The stored method has no mark of that.
    pub(crate) method_bytes: Option<NonZeroU32>,
    /// Connections that the request was tried on before its current one.
    pub(crate) tried: VecDeque<Tried>,
    /// The number of connections that were dropped from that list.
    pub(crate) dropped_tried: usize,
    /// The current connection, if it is not the first.
    pub(crate) conn: Option<ConnLink>,
    /// Why each of the `tried` connections failed, as far as was known when the request ended.
    pub(crate) stale: Vec<Failure>,
    /// Why the peer did not process the request on its current connection; taken when it is tried again.
    pub(in crate::sink) refused: Option<Failure>,
    /// Dials that began because of the request, before the last one.
    pub(in crate::sink) dials: VecDeque<Arc<DialGroup>>,
    /// How far the last dial had come, if the request ended without having been given a connection. For a CONNECT: its
    /// connection without the tunnels that came later.
    pub(crate) path: ConnPath,
    /// Whether this is a CONNECT, which is triggered by the request that needed its dial.
    pub(crate) is_connect: bool,
    /// Each CONNECT that was made because of this request.
    pub(in crate::sink) connects: VecDeque<RequestRef>,
    pub(crate) prev_hop: PrevHop,
    /// The length of the body in bytes, if another crate's client sends it in one piece with the head.
    #[cfg(feature = "reqwest")]
    pub(in crate::sink) single_piece_bytes: u64,
    /// How long the body waited for a window of HTTP/2.
    pub(crate) window_wait: Duration,
    pub(crate) informational: Vec<(Tick, StatusCode)>,
    /// The number of 1xx responses, those included that are not kept.
    pub(crate) informational_seen: usize,
}

/// A connection that a request was tried on before.
#[derive(Debug)]
pub(crate) struct Tried {
    pub(in crate::sink) conn: ConnLink,
    /// Why the peer did not process the request there, if it told.
    pub(in crate::sink) refused: Option<Failure>,
}

impl Tried {
    /// Returns why the connection failed for the request.
    pub(in crate::sink) fn failure(&self) -> Failure {
        self.refused.clone().unwrap_or_else(|| self.conn.stale())
    }
}

/// The request whose response led to another one.
#[derive(Clone, Debug, Default)]
pub(crate) struct PrevHop {
    /// `None` if there was none.
    pub(crate) id: Option<RecordId>,
    /// The request itself, as long as the sink keeps the one that it led to.
    pub(crate) kept: Option<RequestRef>,
}

impl RequestExtras {
    /// Returns the memory that the extras take, themselves included.
    pub(in crate::sink) fn bytes(&self) -> usize {
        let headers =
            [&self.headers, &self.response_headers, &self.trailers].map(CapturedHeaders::heap_bytes);
        let lists = self.tried.capacity() * size_of::<Tried>()
            + self
                .tried
                .iter()
                .filter_map(|tried| tried.refused.as_ref())
                .map(Failure::heap_bytes)
                .sum::<usize>()
            + self.refused.as_ref().map_or(0, Failure::heap_bytes)
            + self.connects.capacity() * size_of::<RequestRef>()
            + self.stale.capacity() * size_of::<Failure>()
            + self.stale.iter().map(Failure::heap_bytes).sum::<usize>()
            + self.dials.capacity() * size_of::<Arc<DialGroup>>()
            + self.informational.capacity() * size_of::<(Tick, StatusCode)>();
        let message = self.grpc_message.as_ref().map_or(0, LimitedText::heap_bytes);
        size_of::<RequestExtras>() + headers.iter().sum::<usize>() + lists + message + self.tags.heap_bytes()
    }
}

impl RequestLinks {
    pub(in crate::sink) fn extras_mut(&mut self) -> &mut RequestExtras {
        self.extras.get_or_insert_default()
    }

    /// Returns the dials that began because of the request, the last one first.
    pub(in crate::sink) fn dials(&self) -> impl Iterator<Item = &Arc<DialGroup>> {
        self.dial.iter().chain(self.extras.iter().flat_map(|extras| extras.dials.iter().rev()))
    }
}

/// Returns the groups of the request's connections, and of the dials that it caused.
pub(in crate::sink) fn linked_groups<'a>(
    conn: Option<&'a ConnLink>,
    links: Option<&'a RequestLinks>,
) -> impl Iterator<Item = &'a Arc<DialGroup>> {
    let tried = links.and_then(|links| links.extras.as_ref()).into_iter().flat_map(|extras| &extras.tried);
    let dials = links.into_iter().flat_map(RequestLinks::dials);
    conn.into_iter().chain(tried.map(|tried| &tried.conn)).map(|conn| &conn.group).chain(dials)
}

/// Returns how far the request came.
pub(in crate::sink) fn path(conn: Option<&ConnLink>, links: Option<&RequestLinks>) -> ConnPath {
    let extras = links.and_then(|links| links.extras.as_ref());
    match (conn, extras.map_or_else(ConnPath::default, |extras| extras.path)) {
        (Some(conn), ConnPath { conn: None, .. }) => conn.path(),
        (_, path) => path,
    }
}

/// Adds to a list of at most [`MAX_REQUEST_LINKS`]. Passes the oldest element to `gone` if the list is full: a request
/// that is resent or dials without end must not fill the memory.
#[cfg(any(feature = "connect", feature = "request"))]
pub(in crate::sink) fn push_bounded<T>(list: &mut VecDeque<T>, item: T, gone: impl FnOnce(T)) {
    if list.len() == MAX_REQUEST_LINKS
        && let Some(oldest) = list.pop_front()
    {
        gone(oldest);
    }
    list.push_back(item);
}
