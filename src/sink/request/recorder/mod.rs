//! Recorders of requests: for the request itself, its bodies, and the layers below that see its connection.

mod current_request;
mod decoded_body;
#[cfg(feature = "tonic")]
mod pending_request;
mod request;
mod request_body;

#[cfg(feature = "tonic")]
pub(crate) use self::pending_request::PendingRequest;
pub(crate) use self::{
    current_request::CurrentRequest, decoded_body::DecodedBodyRecorder, request::RequestRecorder,
    request_body::RequestBodyRecorder,
};
