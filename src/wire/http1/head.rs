//! Parses the heads of HTTP/1 messages, with the crate `httparse`.

use super::framing::{BodyFields, BodyFraming};
use crate::{
    record::WireStop,
    sink::{OnWire, TRACEPARENT, Tick},
    wire::{context::WireContext, exchange::WireRequest, request_url},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use httparse::{EMPTY_HEADER, Header, ParserConfig, Request, Response, Status, parse_headers};
use std::mem::MaybeUninit;

/// How many fields of a section are read.
const MAX_FIELDS: usize = 256;

type FieldBuffer<'a> = [MaybeUninit<Header<'a>>; MAX_FIELDS];

/// Parses the head of a request whose first byte passed at `begin`.
pub(super) fn parse_request(
    head: &[u8],
    begin: Tick,
    context: &WireContext,
) -> Result<(WireRequest, BodyFraming), WireStop> {
    let mut buffer: FieldBuffer<'_> = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut request = Request::new(&mut []);
    let parsed = lenient().parse_request_with_uninit_headers(&mut request, head, &mut buffer);
    let Ok(Status::Complete(_)) = parsed else { return Err(WireStop::NotHttp) };
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
        return Err(WireStop::NotHttp);
    };
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| WireStop::NotHttp)?;
    let framing = BodyFields::new(request.headers)?.of_request()?;
    let host = request.headers.iter().find(|field| field.name.eq_ignore_ascii_case("host"));
    let request = WireRequest {
        wire: OnWire { begin, stream: None },
        url: request_url::from_target(&method, target, host.map(|field| field.value), context),
        method,
        version: version(minor),
        headers: recorded_fields(request.headers, context, |field| {
            field.name.eq_ignore_ascii_case(TRACEPARENT)
        }),
        has_body: framing != BodyFraming::None,
    };
    Ok((request, framing))
}

/// The head of a response.
#[derive(Debug)]
pub(super) struct ResponseHead {
    pub(super) status: StatusCode,
    pub(super) version: Version,
    /// The fields, as far as they are recorded.
    pub(super) headers: HeaderMap,
    /// How the body is delimited if this is a final response.
    pub(super) framing: BodyFraming,
}

/// Parses the head of a response to a request with this method.
pub(super) fn parse_response(
    head: &[u8],
    method: &Method,
    context: &WireContext,
) -> Result<ResponseHead, WireStop> {
    let mut buffer: FieldBuffer<'_> = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut response = Response::new(&mut []);
    let parsed = lenient().parse_response_with_uninit_headers(&mut response, head, &mut buffer);
    let Ok(Status::Complete(_)) = parsed else { return Err(WireStop::NotHttp) };
    let (Some(status), Some(minor)) = (response.code, response.version) else {
        return Err(WireStop::NotHttp);
    };
    let status = StatusCode::from_u16(status).map_err(|_| WireStop::NotHttp)?;
    let framing = BodyFields::new(response.headers)?.of_response(method, status);
    let headers = recorded_fields(response.headers, context, |_| false);
    Ok(ResponseHead { status, version: version(minor), headers, framing })
}

/// Parses a trailer section.
pub(super) fn parse_trailers(section: &[u8], context: &WireContext) -> HeaderMap {
    let mut buffer = [EMPTY_HEADER; MAX_FIELDS];
    match parse_headers(section, &mut buffer) {
        Ok(Status::Complete((_, fields))) => recorded_fields(fields, context, |_| false),
        _ => HeaderMap::new(), // a client may accept fields that this parser does not
    }
}

/// Accepts what a client or a server may have been configured to accept.
fn lenient() -> ParserConfig {
    let mut config = ParserConfig::default();
    config
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_multiple_spaces_in_request_line_delimiters(true)
        .allow_multiple_spaces_in_response_status_delimiters(true)
        .allow_space_before_first_header_name(true)
        .ignore_invalid_headers_in_requests(true)
        .ignore_invalid_headers_in_responses(true);
    config
}

fn version(minor: u8) -> Version {
    if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 }
}

/// Returns the fields that are recorded: those that always are, or all of them.
fn recorded_fields(
    fields: &[Header<'_>],
    context: &WireContext,
    always: impl Fn(&Header<'_>) -> bool,
) -> HeaderMap {
    let takes_all = context.conn.records_headers();
    let valid = |field: &Header<'_>| {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        Some((name, HeaderValue::from_bytes(field.value).ok()?))
    };
    let mut headers = HeaderMap::with_capacity(if takes_all { fields.len() } else { 0 });
    let taken = fields.iter().filter(|field| takes_all || always(field));
    for (name, value) in taken.filter_map(valid) {
        headers.append(name, value);
    }
    headers
}
