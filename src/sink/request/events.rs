//! Records what happens to a request while it is in progress: its connection, redirects, repetitions and its outcome.
//!
//! The records of its end are written by [`ending`](super::ending).

#[cfg(feature = "request")]
use super::record::version_code;
use super::{
    extras::{RequestLinks, Tried, push_bounded},
    record::{FirstConn, REDIRECT_COMPLETE, RequestRecord, RequestRef},
    url::RecordedUrl,
};
#[cfg(feature = "request")]
use crate::record::limits::MAX_REQUEST_LINKS;
#[cfg(feature = "server")]
use crate::sink::conn::conn_ref::ConnLink;
#[cfg(feature = "proxy")]
use crate::sink::context;
use crate::{
    error::FailureDetail,
    record::{EndReason, Failure, limits::MAX_REQUEST_HOPS},
    sink::conn::conn_ref::ConnRef,
};
#[cfg(feature = "request")]
use http::{StatusCode, Version};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};

impl RequestRef {
    /// Returns the hop before a new request to `url` with the same handle.
    ///
    /// That is this request if its response was a redirect. If it was not, the new request may be another try of this
    /// one: then both have the same hop before them.
    pub(super) fn redirected_to(self, url: &RecordedUrl) -> Option<RequestRef> {
        let status = self.record.status.load(Acquire);
        if (300..400).contains(&status) {
            return Some(self);
        }
        let hop = self.record.links()?.extras.as_ref()?.prev_hop.kept.clone();
        hop.filter(|_| self.record.url == *url)
    }

    /// Records that another request follows this one. Returns `true` if the two are to be linked.
    pub(super) fn precedes(&self) -> bool {
        let record = &self.record;
        record.hops < MAX_REQUEST_HOPS - 1 && self.add_follower()
    }

    /// Records that this is a CONNECT on the connection to a proxy: what the connection carries later is not part of
    /// it.
    #[cfg(feature = "proxy")]
    pub(in crate::sink) fn connects(&self, conn: &ConnRef) {
        // Not by `acquired`, which says that a layer records what is requested over the connection.
        if conn.is_of(self.core()) && self.link_to(conn) {
            self.acquired_now(conn);
        }
        if conn.group.dial.is_none() || !conn.is_of(self.core()) {
            return;
        }
        if let Some(mut links) = self.record.open_links() {
            let extras = links.extras_mut();
            (extras.path, extras.is_connect) = (conn.link().path(), true);
        }
        if let Some(cause) = context::current_request().filter(|request| request.caused(&conn.group)) {
            cause.caused_connect(self);
        }
    }

    /// Records that `connect` was made because of this request.
    #[cfg(feature = "proxy")]
    fn caused_connect(&self, connect: &RequestRef) {
        let Some(mut links) = self.record.open_links() else { return };
        if connect.add_follower() {
            push_bounded(&mut links.extras_mut().connects, connect.clone(), |oldest| {
                oldest.remove_follower()
            });
        }
    }

    /// Records that the client has just chosen a connection. May be called again: with another connection, the request
    /// was moved there.
    #[cfg(feature = "request")]
    pub(crate) fn acquired(&self, conn: &ConnRef) {
        if self.link(conn) {
            self.acquired_now(conn);
        }
    }

    fn acquired_now(&self, conn: &ConnRef) {
        self.record.conn_acquired.set(self.core().now().max(self.record.begin));
        conn.await_first_byte();
    }

    /// Links the request, which a layer has recorded, to a connection. Returns `true` if it was not linked to it
    /// before. Ignores connections of another sink.
    #[cfg(feature = "request")]
    pub(crate) fn link(&self, conn: &ConnRef) -> bool {
        if !conn.is_of(self.core()) {
            return false;
        }
        #[cfg(feature = "wire")]
        conn.set_has_request_layer();
        self.link_to(conn)
    }

    /// Links the request to a connection of the same sink. Returns `true` if it was not linked to it before.
    pub(in crate::sink) fn link_to(&self, conn: &ConnRef) -> bool {
        let record: &RequestRecord = &self.record;
        match record.conn.get() {
            None => {
                conn.group.retain();
                if record.conn.set(FirstConn::Given(conn.link())).is_ok() {
                    return true;
                }
                // The request has ended in the meantime, or another thread was faster.
                conn.group.release();
            }
            Some(_) if self.is_only_linked_to(conn) => return false,
            Some(_) => {}
        }
        self.moved_to(conn)
    }

    /// Returns `true` if the request is linked to this connection, and has not been linked to others.
    #[inline]
    pub(crate) fn is_only_linked_to(&self, conn: &ConnRef) -> bool {
        let first = self.record.conn.get();
        matches!(first, Some(FirstConn::Given(first)) if first.is_same(conn)) && !self.record.end.has_links()
    }

    /// Links the request to another connection than the first, and clears the time at which one was chosen:
    /// [`acquired`](Self::acquired) sets it anew.
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
        self.record.conn_acquired.clear();
        true
    }

    /// Records that the peer has not processed the request on its connection. The client sends it again, there or
    /// elsewhere.
    #[cfg(feature = "client")]
    #[cold]
    pub(in crate::sink) fn refused(&self, failure: Failure) {
        let record: &RequestRecord = &self.record;
        let Some(mut links) = record.open_links() else { return };
        links.extras_mut().refused = Some(failure);
        record.body_end.clear();
        record.sent.store(0, Release);
    }

    /// Records that a 1xx response came.
    #[cfg(feature = "request")]
    pub(crate) fn informational(&self, status: StatusCode) {
        let Some(mut links) = self.record.open_links() else { return };
        let extras = links.extras_mut();
        extras.informational_seen += 1;
        if extras.informational.len() < MAX_REQUEST_LINKS {
            extras.informational.push((self.core().now(), status));
        }
    }

    /// Ends a request that this side answers: the client does not wait for the response any more, or it will not come.
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

    /// Records that the response was read to its end.
    pub(in crate::sink) fn complete(&self) {
        let record: &RequestRecord = &self.record;
        if !record.end.is_open() {
            return;
        }
        let now = self.core().now();
        let read = &record.response_end;
        if read.get().is_none() {
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

    /// Records that the request goes over HTTP/2, unless a response has told the version.
    #[cfg(feature = "request")]
    pub(in crate::sink) fn set_http2(&self) {
        let record: &RequestRecord = &self.record;
        if record.end.is_open() && record.response_head.get().is_none() {
            record.version.store(version_code(Version::HTTP_2), Release);
        }
    }

    /// Ends the request as failed.
    ///
    /// If it never got a connection, the failure of its own dial is more precise, unless the dial was merely abandoned.
    /// If the client reports no more than that the connection came to an end, the failure of the connection is.
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
}

/// Returns `true` for a failure that does not say what happened: HTTP/2 passes on only the text of an error of the
/// stream below, or that the stream has ended.
fn is_vague(failure: &Failure) -> bool {
    matches!(failure, Failure::Unknown(_) | Failure::EofError | Failure::ConnectionAborted)
}
