//! Requests that are read from the wire have the same records as those that a layer around the client sees.

use nettrace::record::{EndReason, Failure, HttpReqTrace};

use crate::clients::Variant;

/// The name of the client whose requests are read from the wire, and of the one to compare it with.
pub(crate) const WIRE: &str = "from the wire";
const LAYERS: &str = "layers that listen";

/// What must not depend on where a request was seen.
#[derive(Debug, PartialEq)]
struct Seen {
    method: String,
    /// The host may be another one on the wire, where `Host` says which.
    path: Option<String>,
    version: (u8, u8),
    status: u16,
    /// Bytes of the request's and of the response's body.
    lengths: (u64, u64),
    informational: Vec<u16>,
    grpc_status: Option<u16>,
    end_reason: Option<EndReason>,
    failure: Option<Failure>,
    /// Whether there is a connection, and a tunnel.
    links: [bool; 2],
    /// Which times are known: the connection's, the request's end, the response's head and its end.
    times: [bool; 4],
}

impl Seen {
    fn of(request: &HttpReqTrace) -> Self {
        Seen {
            method: request.req_method.to_string(),
            path: request
                .req_url
                .parse::<http::Uri>()
                .expect("a URL")
                .path_and_query()
                .map(ToString::to_string),
            version: (request.proto_major, request.proto_minor),
            status: request.resp_status_code,
            lengths: (request.req_content_len, request.resp_content_len),
            informational: request.informational.iter().map(|interim| interim.status).collect(),
            grpc_status: request.grpc_status,
            end_reason: request.end_reason.clone(),
            failure: request.failure.clone(),
            links: [&request.tcp_conn, &request.tls_tunnel].map(|id| !id.is_undefined()),
            times: [
                request.conn_acquired_at,
                request.req_body_end_at,
                request.resp_recv_at,
                request.resp_body_end_at,
            ]
            .map(|at| !at.is_undefined()),
        }
    }
}

/// Returns the requests as they were seen from the wire, and by layers.
fn seen(variants: &[Variant]) -> [Vec<Seen>; 2] {
    [WIRE, LAYERS].map(|name| {
        let variant = variants.iter().find(|variant| variant.name == name).expect("a variant");
        variant.sink.snapshot("").http_requests.iter().map(Seen::of).collect()
    })
}

/// Asserts that the requests of a scenario were recorded alike by a layer and from the wire.
pub(crate) fn assert_same_records(variants: &[Variant]) {
    let [mut wire, layers] = seen(variants);
    // A layer sees only what the client reads of the request's body, which may stop early.
    for (wire, layers) in wire.iter_mut().zip(&layers) {
        wire.times[1] &= layers.times[1];
        // What this crate cannot parse, another client may be able to.
        if wire.end_reason == Some(EndReason::Unobserved)
            && layers.failure == Some(Failure::HttpProtocolError)
        {
            (wire.end_reason, wire.failure) = (layers.end_reason.clone(), layers.failure.clone());
        }
    }
    assert_eq!(wire, layers, "from the wire, and by layers");
}
