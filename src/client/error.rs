//! The error of the preset.

use crate::{
    error::{BoxError, TimedOut, classify},
    record::Failure,
    sink::RequestHandle,
};
use std::{error::Error, fmt};

/// The reason why a request failed. It has the handle of the request: `error.request().trace()` shows what happened.
///
/// [`Display`](fmt::Display) writes the reason on one line, its sources included. [`source`](Error::source) returns the
/// error of the layer below: of a layer of the user, the connector, or the connection ([`hyper::Error`]), with its own
/// sources.
pub struct ClientError(Box<Inner>);

struct Inner {
    kind: Kind,
    request: RequestHandle,
}

#[derive(Debug)]
pub(super) enum Kind {
    Url { url: String, why: String },
    TooManyRedirects(usize),
    Redirect { status: http::StatusCode, why: &'static str },
    Failed(BoxError),
}

impl ClientError {
    pub(super) fn new(kind: Kind, request: RequestHandle) -> Self {
        ClientError(Box::new(Inner { kind, request }))
    }

    pub(crate) fn failed(error: impl Into<BoxError>, request: RequestHandle) -> Self {
        ClientError::new(Kind::Failed(error.into()), request)
    }

    /// Returns the handle of the request: of the last hop, if redirects were followed.
    pub fn request(&self) -> &RequestHandle {
        &self.0.request
    }

    /// Says why the request failed. See [`RequestHandle::explain`].
    #[cfg(feature = "explain")]
    pub fn explain(&self) -> Option<crate::explain::Verdict> {
        self.request().explain()
    }

    /// Returns the URL that was requested, of the last hop if redirects were followed; `None` if the request was not
    /// recorded.
    ///
    /// It has no user info, and no query if [`mask_query`](crate::TraceSinkBuilder::mask_query) is on.
    pub fn url(&self) -> Option<String> {
        match &self.0.kind {
            Kind::Url { url, .. } => Some(url.clone()),
            _ => self.0.request.last_hop().map(|request| request.url()),
        }
    }

    /// Returns the stable code of what went wrong.
    pub fn failure(&self) -> Failure {
        match &self.0.kind {
            Kind::Url { .. } => Failure::InvalidArgument,
            Kind::TooManyRedirects(_) => Failure::TooManyRedirects,
            Kind::Redirect { .. } => Failure::InvalidRedirect,
            Kind::Failed(error) => {
                let recorded = self.0.request.last_hop().and_then(|request| request.failure());
                recorded.unwrap_or_else(|| classify::failure(&**error))
            }
        }
    }

    /// Returns `true` if a time limit of the client expired.
    pub fn is_timeout(&self) -> bool {
        self.failure().is_timeout()
    }

    /// Returns `true` if the client was closed before or during the request.
    pub fn is_closed(&self) -> bool {
        self.failure() == Failure::ClientClosed
    }

    /// Returns the time limit that expired, if it is that on the whole request or on the header of the response.
    pub fn timed_out(&self) -> Option<&TimedOut> {
        match &self.0.kind {
            Kind::Failed(error) => error.downcast_ref(),
            _ => None,
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.kind {
            Kind::Url { url, why } => write!(f, "cannot request {url:?}: {why}"),
            Kind::TooManyRedirects(limit) => write!(f, "gave up after {limit} redirects"),
            Kind::Redirect { status, why } => write!(f, "cannot follow the redirect ({status}): {why}"),
            Kind::Failed(error) => f.write_str(&classify::error_chain(&**error)),
        }
    }
}

impl fmt::Debug for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientError").field("kind", &self.0.kind).field("request", &self.0.request).finish()
    }
}

impl Error for ClientError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0.kind {
            Kind::Failed(error) => Some(&**error),
            Kind::Url { .. } | Kind::TooManyRedirects(_) | Kind::Redirect { .. } => None,
        }
    }
}
