//! Why a request of the preset failed.

use crate::{
    error::{TimedOut, classify},
    record::Failure,
    sink::RequestHandle,
};
use std::{error::Error, fmt};

/// Why a request failed. Carries the handle of the request: `error.request().trace()` shows what happened.
///
/// Its text is the whole reason on one line, the texts of its sources included. Its `source()` is the error of the
/// layer below: of a layer of the user's own, of the connector, or of hyper's connection
/// ([`hyper::Error`]), with its own sources behind it.
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
    Failed(Box<dyn Error + Send + Sync>),
}

impl ClientError {
    pub(super) fn new(kind: Kind, request: RequestHandle) -> Self {
        ClientError(Box::new(Inner { kind, request }))
    }

    pub(crate) fn failed(error: impl Into<Box<dyn Error + Send + Sync>>, request: RequestHandle) -> Self {
        ClientError::new(Kind::Failed(error.into()), request)
    }

    /// The handle of the request: the last hop where redirects were followed.
    pub fn request(&self) -> &RequestHandle {
        &self.0.request
    }

    /// Returns the URL that was requested, of the last hop where redirects were followed, without user info, and
    /// without its query where [`mask_query`](crate::TraceSinkBuilder::mask_query) is on. `None` when the request was
    /// not recorded.
    pub fn url(&self) -> Option<String> {
        match &self.0.kind {
            Kind::Url { url, .. } => Some(url.clone()),
            _ => self.0.request.last_hop().map(|request| request.url()),
        }
    }

    /// The stable code of what went wrong.
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

    /// Whether a time limit of the client expired.
    pub fn is_timeout(&self) -> bool {
        self.failure().is_timeout()
    }

    /// Whether the client was closed, before or while the request was made.
    pub fn is_closed(&self) -> bool {
        self.failure() == Failure::ClientClosed
    }

    /// The client's own limit, on the whole request or on the header of its response, when that is what expired.
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
