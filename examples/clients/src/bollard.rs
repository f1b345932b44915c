//! bollard: its transport is a function that returns responses with hyper's own body, `Incoming`.
//!
//! The trace has the connections to the daemon's socket with their operations, and each request up to the head of its
//! response: how much of the body came is not on the request. To have that as well, leave `TraceRequestLayer` out, and
//! put a `TraceWireLayer` around the connector.

use ::bollard::{API_DEFAULT_VERSION, BollardRequest, Docker, errors::Error};
use http::Uri;
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioIo},
};
use nettrace::{TraceSink, connect::TraceConnectLayer, request::TraceRequestLayer};
use std::path::{Path, PathBuf};
use tokio::net::UnixStream;
use tower::{Layer, service_fn};

/// How long the daemon may take to answer, in seconds; bollard's default.
const TIMEOUT: u64 = 120;

/// Returns a client of the daemon that listens on the Unix socket `path`, usually `/var/run/docker.sock`. Its requests
/// are recorded into `sink`.
///
/// # Errors
///
/// Returns the errors of [`Docker::connect_with_custom_transport`].
pub fn client(sink: &TraceSink, path: &Path) -> Result<Docker, Error> {
    let path = PathBuf::from(path);
    let connector = service_fn(move |_: Uri| {
        let path = path.clone();
        Box::pin(async move { UnixStream::connect(path).await.map(TokioIo::new) })
    });
    let client = legacy::Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(0) // as bollard's own: the daemon may close idle connections at any time
        .build(TraceConnectLayer::new(sink).layer(connector));
    let client = TraceRequestLayer::new(sink).keep_response_body().layer(client);
    let transport = move |request: BollardRequest| {
        let response = client.request(request);
        async { response.await.map_err(Error::from) }
    };
    Docker::connect_with_custom_transport(transport, Some("http://docker"), TIMEOUT, API_DEFAULT_VERSION)
}
