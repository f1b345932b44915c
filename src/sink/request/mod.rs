//! HTTP requests: their state ([`record`], [`extras`]), what happens to them ([`events`], [`dials`], [`ending`],
//! [`eviction`]), and who reports it ([`recorder`], [`body_recorder`], [`decoded_body`], [`current`]).
//!
//! [`times`] reads how its time was spent. [`handle`] is what a user holds to ask about a request, and [`response_ext`] how a response carries it. [`headers`]
//! copies the header fields that are asked for, [`field_kind`] tells those with credentials, [`masking`] hides them,
//! [`url`] is what is kept of a URL, [`origin`] what a request belongs to, `pool_checkout` how it was given its
//! connection, and [`tags`] what the user wrote on it.

#[cfg(feature = "request")]
pub(super) mod body_recorder;
#[cfg(feature = "client")]
pub(super) mod current;
#[cfg(feature = "client")]
pub(super) mod decoded_body;
#[cfg(feature = "connect")]
mod dials;
mod ending;
#[cfg(feature = "_record_requests")]
mod events;
mod eviction;
pub(super) mod extras;
#[cfg(feature = "_record_requests")]
mod field_kind;
#[cfg(feature = "reqwest")]
pub(super) mod foreign_redirect;
#[cfg(feature = "request")]
pub(super) mod grpc;
pub(super) mod handle;
pub(super) mod headers;
#[cfg(feature = "_record_requests")]
pub(super) mod masking;
#[cfg(feature = "_record_requests")]
pub(super) mod new_request;
pub(super) mod origin;
#[cfg(feature = "client")]
pub(super) mod pool_checkout;
pub(super) mod record;
#[cfg(feature = "_record_requests")]
pub(super) mod recorder;
pub(super) mod response_ext;
#[cfg(feature = "server")]
pub(super) mod served;
pub(super) mod tags;
mod times;
pub(super) mod traceparent;
pub(super) mod url;
