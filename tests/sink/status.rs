//! Requests that are answered with a status.

use http::{Request, Response, StatusCode};
use nettrace::{ConnRef, RequestHandle, TraceSink};

use crate::mock;

/// Makes a request that is answered with `status`. Returns the handle.
pub(crate) async fn fetch_status(sink: &TraceSink, status: u16) -> RequestHandle {
    fetch_status_over(sink, status, None).await
}

/// Makes a request over `conn` that is answered with `status`. Returns the handle.
pub(crate) async fn fetch_status_over(
    sink: &TraceSink,
    status: u16,
    conn: Option<&ConnRef>,
) -> RequestHandle {
    let handle = RequestHandle::new();
    let mut request = Request::new(mock::Body::default());
    request.extensions_mut().insert(handle.clone());
    let answer = || {
        let mut response = Response::new(mock::Body::from("hello"));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        if let Some(conn) = conn.cloned() {
            conn.attach(response.extensions_mut());
        }
        response
    };
    mock::finish(mock::exchange(sink, request, answer).await).await;
    handle
}
