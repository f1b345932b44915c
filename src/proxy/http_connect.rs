//! CONNECT (RFC 9110 section 9.3.6): an HTTP proxy connects to the destination and becomes a tunnel.
//!
//! The exchange is recorded as an HTTP request of its own. It is made with hyper, which returns the stream afterwards.

use super::{Proxy, ProxyStream, handshake::Handshake};
use crate::{
    error::{ProxyError, ProxyErrorKind, classify},
    record::limits::{MAX_REASON_BYTES, limit},
    sink::RequestHead,
};
use http::{HeaderValue, Method, Request, Response, Uri, header};
use hyper::{
    body::Incoming,
    client::conn::http1,
    ext::ReasonPhrase,
    rt::{Read, Write},
};
use std::{future::poll_fn, pin::pin, task::Poll};

/// The maximum length of the proxy's response head, in bytes.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// Asks the proxy to connect to the target and returns the tunnel.
pub(super) async fn establish<IO>(io: IO, handshake: &Handshake<'_>) -> Result<ProxyStream<IO>, ProxyError>
where
    IO: Read + Write + Unpin,
{
    let Handshake { proxy, target, conn, config } = *handshake;
    let request = request(proxy, &target.text).map_err(|kind| handshake.error(kind))?;
    let mut recorder = config.sink.connect(
        &RequestHead {
            method: request.method(),
            uri: request.uri(),
            version: request.version(),
            headers: request.headers(),
            handle: None,
            has_body: false,
            accepted: false,
            wire: None,
        },
        conn,
    );
    let exchanged = handshake.with_timeout(async {
        let (response, parts) = exchange(io, request).await.map_err(ProxyErrorKind::Http)?;
        recorder.response(response.status(), response.version(), response.headers());
        match response.status() {
            status if status.is_success() => Ok(parts),
            status => Err(ProxyErrorKind::Status {
                status,
                phrase: reason_phrase(&response),
                had_credentials: proxy.authorization().is_some(),
            }),
        }
    });
    match exchanged.await {
        Ok(http1::Parts { io, read_buf, .. }) => {
            recorder.complete();
            Ok(ProxyStream::tunnel(io, read_buf))
        }
        Err(kind) => {
            let error = handshake.error(kind);
            recorder.failed(classify::failure_detail(&error));
            Err(error)
        }
    }
}

fn request(proxy: &Proxy, target: &str) -> Result<Request<String>, ProxyErrorKind> {
    fn invalid<E>(_: E) -> ProxyErrorKind {
        ProxyErrorKind::Target("it cannot be sent")
    }
    let mut request = Request::new(String::new());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = target.parse::<Uri>().map_err(invalid)?;
    let host = HeaderValue::try_from(target).map_err(invalid)?;
    request.headers_mut().insert(header::HOST, host);
    if let Some(credentials) = proxy.authorization() {
        request.headers_mut().insert(header::PROXY_AUTHORIZATION, credentials.clone());
    }
    Ok(request)
}

/// Sends the request and reads the response head. Returns it and the stream, with the bytes that followed the head.
async fn exchange<IO>(
    io: IO,
    request: Request<String>,
) -> hyper::Result<(Response<Incoming>, http1::Parts<IO>)>
where
    IO: Read + Write + Unpin,
{
    let (mut sender, mut connection) =
        http1::Builder::new().max_buf_size(MAX_HEAD_BYTES).handshake::<_, String>(io).await?;
    let response = {
        let mut response = pin!(sender.send_request(request));
        let mut is_over = false;
        let mut conn_error = None;
        poll_fn(|cx| {
            if !is_over && let Poll::Ready(ended) = connection.poll_without_shutdown(cx) {
                is_over = true;
                conn_error = ended.err();
            }
            // If both fail, the error of the response is returned, which says more.
            match response.as_mut().poll(cx) {
                Poll::Pending => conn_error.take().map_or(Poll::Pending, |error| Poll::Ready(Err(error))),
                done => done,
            }
        })
        .await?
    };
    Ok((response, connection.into_parts()))
}

/// Returns the proxy's own reason phrase, or else the standard one of the status.
fn reason_phrase(response: &Response<Incoming>) -> String {
    let own = response.extensions().get::<ReasonPhrase>();
    match own {
        Some(own) => limit(String::from_utf8_lossy(own.as_bytes()), MAX_REASON_BYTES),
        None => response.status().canonical_reason().unwrap_or_default().into(),
    }
}
