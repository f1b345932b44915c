//! The extension of a traced response: its connection, and the handle of its request.
//!
//! Both share one entry, which hyper-util clones from the connection's [`Connected`] into each response.
//! `http::Extensions` is a map of boxes: an entry of its own for the handle would cost an allocation a request.
//!
//! [`Connected`]: hyper_util::client::legacy::connect::Connected

use super::handle::{NotTraced, RequestHandle};
use crate::{
    record::{NetTrace, Timings},
    sink::conn::conn_ref::ConnRef,
};
use http::Extensions;

/// The entry of this crate in the extensions of a response, and of hyper-util's `Connected`.
#[derive(Clone)]
pub(crate) struct TraceExtension {
    conn: ConnRef,
    /// Unbound in `Connected`, and until the layer that records the request has seen the response.
    request: RequestHandle,
}

impl TraceExtension {
    pub(crate) fn new(conn: ConnRef) -> Self {
        TraceExtension { conn, request: RequestHandle::unbound() }
    }

    pub(crate) fn conn(&self) -> &ConnRef {
        &self.conn
    }

    /// Sets the request that the response answers.
    #[cfg(feature = "request")]
    pub(crate) fn set_request(&mut self, request: RequestHandle) {
        self.request = request;
    }
}

impl ConnRef {
    /// Returns the connection that a response came over, from the response's extensions; or the connection that
    /// hyper-util's `Connected` describes, from its extras. `None` if it is not traced.
    ///
    /// ```
    /// # use nettrace::ConnRef;
    /// fn local_port<B>(response: &http::Response<B>) -> Option<u16> {
    ///     let conn = ConnRef::from_extensions(response.extensions())?;
    ///     Some(conn.local_addr()?.port())
    /// }
    /// ```
    pub fn from_extensions(extensions: &Extensions) -> Option<&Self> {
        extensions.get().map(TraceExtension::conn)
    }

    /// Adds the connection to the extensions of a response that came over it: a
    /// [`TraceRequestLayer`](crate::request::TraceRequestLayer) around links the request to it.
    ///
    /// For clients that do not use hyper-util's `Connected`, which does this by itself. The layer
    /// [`OnConnection`](crate::request::OnConnection) does it for a client that owns one connection.
    pub fn attach(self, extensions: &mut Extensions) {
        extensions.insert(TraceExtension::new(self));
    }
}

impl RequestHandle {
    /// Returns the handle of the request that the response with these extensions answers.
    pub(crate) fn from_extensions(extensions: &Extensions) -> Option<&Self> {
        let extension: Option<&TraceExtension> = extensions.get();
        let request = extension.map(|extension| &extension.request);
        request.filter(|request| !request.is_unbound()).or_else(|| extensions.get())
    }
}

/// Asks a response about its request.
pub trait ResponseExt {
    /// Returns the handle of the request; `None` if it was not traced.
    fn request_handle(&self) -> Option<&RequestHandle>;

    /// Returns how the time was spent. Complete once the body was read.
    ///
    /// # Errors
    ///
    /// [`NotTraced`] if the response did not come through a traced client, or the sink was off.
    fn timings(&self) -> Result<Timings, NotTraced> {
        self.request_handle().ok_or(NotTraced)?.timings()
    }

    /// Returns the trace of this request alone. The trace is empty if the request was not traced.
    fn trace(&self) -> NetTrace {
        self.request_handle().map_or_else(NetTrace::default, RequestHandle::trace)
    }
}

impl<B> ResponseExt for http::Response<B> {
    fn request_handle(&self) -> Option<&RequestHandle> {
        RequestHandle::from_extensions(self.extensions())
    }
}
