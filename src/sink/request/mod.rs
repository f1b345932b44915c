//! What is kept of an HTTP request, and what writes it down.

mod events;
pub(super) mod extras;
#[cfg(feature = "reqwest")]
pub(super) mod foreign_redirect;
#[cfg(feature = "request")]
pub(super) mod grpc;
pub(super) mod handle;
pub(super) mod headers;
pub(super) mod new_request;
pub(super) mod record;
pub(super) mod recorder;
pub(super) mod response_ext;
pub(super) mod url;
