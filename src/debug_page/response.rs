//! Responses with the header fields that all of them have.

use super::{body::DebugPageBody, html};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};
use http_body::Body as _;

pub(super) const HTML: &str = "text/html; charset=utf-8";
pub(super) const JSON: &str = "application/json";
pub(super) const TEXT: &str = "text/plain; charset=utf-8";
/// The text format of Prometheus.
pub(super) const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

const SECURITY_FIELDS: [(HeaderName, HeaderValue); 5] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// Creates a response.
pub(super) fn respond(
    status: StatusCode,
    content_type: &'static str,
    body: DebugPageBody,
) -> Response<DebugPageBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.extend(SECURITY_FIELDS);
    fields.insert(header::CONTENT_SECURITY_POLICY, html::content_security_policy());
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Creates a response with text, which ends with a line feed.
pub(super) fn text(status: StatusCode, text: impl AsRef<str>) -> Response<DebugPageBody> {
    respond(status, TEXT, DebugPageBody::whole(format!("{}\n", text.as_ref())))
}

/// The response for a method that a page does not have.
pub(super) fn method_not_allowed(methods: &[Method]) -> Response<DebugPageBody> {
    let methods = methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
    let mut response =
        text(StatusCode::METHOD_NOT_ALLOWED, format!("this page has the methods {methods} alone"));
    if let Ok(methods) = methods.parse() {
        response.headers_mut().insert(header::ALLOW, methods);
    }
    response
}

/// The response if no thread is left to put a page together.
pub(super) fn busy() -> Response<DebugPageBody> {
    let mut response =
        text(StatusCode::SERVICE_UNAVAILABLE, "too many pages are being put together: try again in a second");
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// The response if the thread that put a page together has panicked.
pub(super) fn panicked() -> Response<DebugPageBody> {
    text(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the page could not be put together: please report it, with what the program has written to standard error",
    )
}

/// Leaves out the body, whose length the header keeps.
pub(super) fn without_body(response: Response<DebugPageBody>) -> Response<DebugPageBody> {
    let (mut head, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact() {
        head.headers.insert(header::CONTENT_LENGTH, length.into());
    }
    Response::from_parts(head, DebugPageBody::whole(""))
}
