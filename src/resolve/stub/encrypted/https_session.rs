//! DNS over HTTPS (RFC 8484): each query is the body of a POST request, over one HTTP/2 connection.

use std::sync::Arc;

use bytes::Bytes;
use http::{
    Method, Request, Uri,
    header::{ACCEPT, CONTENT_TYPE},
    uri::PathAndQuery,
};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{client::conn::http2, rt::Executor};
use hyper_util::rt::TokioTimer;
use tokio::sync::watch;

use super::{
    dial::EstablishedStream,
    failure::SessionFailure,
    liveness::Liveness,
    usage::{IDLE_LIMIT, Usage},
};
use crate::{
    error::BoxError,
    nameserver::EncryptedNameserver,
    record::EndReason,
    request::{TraceBody, TraceRequestLayer},
    sink::{ConnRef, RequestHandle, TraceSink},
    tls::MaybeTlsStream,
};

const DNS_MESSAGE: &str = "application/dns-message";
/// The longest DNS message, in bytes.
const MAX_MESSAGE_BYTES: usize = 65_535;

/// An open connection.
pub(super) struct HttpsSession {
    sender: http2::SendRequest<TraceBody<Full<Bytes>>>,
    layer: TraceRequestLayer,
    uri: Uri,
    conn: Option<ConnRef>,
    usage: Arc<Usage>,
}

impl HttpsSession {
    /// Begins HTTP/2, and the task of the connection, which ends it when the session is dropped or idle for too long.
    /// `alive` is dropped after that.
    pub(super) async fn begin(
        stream: EstablishedStream,
        server: &EncryptedNameserver,
        path: &PathAndQuery,
        sink: &TraceSink,
        alive: watch::Sender<()>,
    ) -> Result<Self, SessionFailure> {
        let EstablishedStream { io, conn } = stream;
        let negotiated = match &io {
            MaybeTlsStream::Tls(stream) => stream.alpn_protocol(),
            MaybeTlsStream::Plain(_) => None,
        };
        if negotiated != Some(b"h2") {
            return Err(SessionFailure::NoHttp2);
        }
        let uri =
            Uri::builder().scheme("https").authority(server.url_authority()).path_and_query(path.clone());
        let uri = uri.build().map_err(|error| {
            let error = std::io::Error::new(std::io::ErrorKind::InvalidInput, error);
            SessionFailure::Io(Arc::new(error))
        })?;
        let http = |error| SessionFailure::Http(Arc::new(error));
        let mut builder = http2::Builder::new(HttpTasks { alive });
        let (sender, connection) = builder.timer(TokioTimer::new()).handshake(io).await.map_err(http)?;
        let usage = Arc::new(Usage::new());
        let (idle, idle_conn) = (usage.clone(), conn.clone());
        tokio::spawn(async move {
            tokio::select! {
                // Its error is also that of each request.
                _ = connection => {}
                () = idle.idle_for(IDLE_LIMIT) => {
                    if let Some(conn) = &idle_conn {
                        conn.set_close_reason(EndReason::IdleLimit);
                    }
                }
            }
        });
        Ok(HttpsSession { sender, layer: TraceRequestLayer::new(sink), uri, conn, usage })
    }

    pub(super) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Sends a query, and returns the reply.
    pub(super) async fn exchange(
        &self,
        query: Vec<u8>,
        liveness: &Liveness,
        on_sent: impl FnOnce(Option<&RequestHandle>),
    ) -> Result<Vec<u8>, SessionFailure> {
        let _in_use = self.usage.begin();
        let http = |error| {
            let failure = SessionFailure::Http(Arc::new(error));
            if !failure.ends_connection() {
                liveness.received(); // the end of the stream
            }
            failure
        };
        let mut sender = self.sender.clone();
        sender.ready().await.map_err(http)?;
        let handle = RequestHandle::new();
        let response = self.layer.trace(self.request(query, &handle), |request| {
            if let Some(conn) = &self.conn {
                conn.acquired_by_current_request();
            }
            sender.send_request(request)
        });
        liveness.sent();
        on_sent(Some(&handle));
        let (head, body) = response.await.map_err(http)?.into_parts();
        liveness.received();
        // Also of an error page, so that the request is recorded as complete.
        let body = Limited::new(body, MAX_MESSAGE_BYTES).collect().await;
        if !head.status.is_success() {
            return Err(SessionFailure::HttpStatus(head.status));
        }
        let content_type = head.headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
        if !is_dns_message(content_type) {
            return Err(SessionFailure::ContentType(String::from_utf8_lossy(content_type).into_owned()));
        }
        Ok(body.map_err(body_failure)?.to_bytes().into())
    }

    fn request(&self, query: Vec<u8>, handle: &RequestHandle) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::from(query));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        for name in [ACCEPT, CONTENT_TYPE] {
            request.headers_mut().insert(name, http::HeaderValue::from_static(DNS_MESSAGE));
        }
        request.extensions_mut().insert(handle.clone());
        request
    }
}

/// Spawns the tasks of hyper, one of which has the stream.
#[derive(Clone)]
struct HttpTasks {
    /// Dropped when all of them have ended.
    alive: watch::Sender<()>,
}

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for HttpTasks {
    fn execute(&self, task: F) {
        let alive = self.alive.clone();
        tokio::spawn(async move {
            task.await;
            drop(alive);
        });
    }
}

fn body_failure(error: BoxError) -> SessionFailure {
    match error.downcast::<hyper::Error>() {
        Ok(error) => SessionFailure::Http(Arc::new(*error)),
        Err(error) if error.is::<LengthLimitError>() => {
            SessionFailure::BadReply(format!("longer than {MAX_MESSAGE_BYTES} bytes"))
        }
        Err(error) => SessionFailure::BadReply(error.to_string()),
    }
}

/// Returns `true` for the media type of DNS messages, with parameters or without.
fn is_dns_message(content_type: &[u8]) -> bool {
    let media_type = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
    media_type.trim_ascii().eq_ignore_ascii_case(DNS_MESSAGE.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_are_compared_without_parameters() {
        for yes in ["application/dns-message", "Application/DNS-Message ; charset=x"] {
            assert!(is_dns_message(yes.as_bytes()), "{yes}");
        }
        for no in ["", "text/html", "application/dns-messages", "application/dns-json"] {
            assert!(!is_dns_message(no.as_bytes()), "{no}");
        }
    }
}
