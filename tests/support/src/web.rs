//! An HTTP/1.1 and HTTP/2 server that puts the client's port into every response (`x-peer`) and keeps the requests.
//!
//! ```ignore
//! let web = Web::start(async |request| match request.path() {
//!     "/hello" => reply("hello"),
//!     _ => status(404),
//! });
//! ```

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::task::{JoinSet, spawn_local};
use tokio_rustls::TlsAcceptor;

use crate::background::Background;
use crate::lab::Ns;

/// The body of a response; an error cuts it off.
pub type Content = UnsyncBoxBody<Bytes, std::io::Error>;

/// A running server. Dropping it closes its connections.
pub struct Web {
    addr: SocketAddr,
    requests: Arc<Mutex<Vec<ReceivedRequest>>>,
    _background: Background,
}

/// A request that the server has received.
#[derive(Clone, Debug)]
pub struct ReceivedRequest {
    pub peer: SocketAddr,
    pub method: Method,
    pub uri: Uri,
    pub version: Version,
    pub headers: HeaderMap,
    /// The complete body: the handler is called after it was received.
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
}

impl ReceivedRequest {
    pub fn path(&self) -> &str {
        self.uri.path()
    }

    /// Returns the value of a header field, or an empty string if it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }
}

impl Web {
    /// Starts a server on a free port of 127.0.0.1. HTTP/2 is detected by its preface.
    #[track_caller]
    pub fn start(handler: impl AsyncFn(ReceivedRequest) -> Response<Content> + Send + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").expect("a free port"), None, handler)
    }

    /// Starts a server with TLS.
    #[track_caller]
    pub fn tls(
        config: ServerConfig,
        handler: impl AsyncFn(ReceivedRequest) -> Response<Content> + Send + 'static,
    ) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").expect("a free port"), Some(config), handler)
    }

    /// Starts a server on a listening socket, for instance one of a namespace.
    #[track_caller]
    pub fn on(
        listener: TcpListener,
        tls: Option<ServerConfig>,
        handler: impl AsyncFn(ReceivedRequest) -> Response<Content> + Send + 'static,
    ) -> Self {
        let addr = listener.local_addr().expect("a bound socket");
        listener.set_nonblocking(true).expect("non-blocking mode");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let tls = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
        let log = requests.clone();
        let background = Background::start(&Ns::here(), move || serve(listener, tls, handler, log));
        Self { addr, requests, _background: background }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the URL of a path: `http://127.0.0.1:port/path`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// Returns the requests so far.
    pub fn requests(&self) -> Vec<ReceivedRequest> {
        self.requests.lock().expect("no panic").clone()
    }
}

/// Returns a response with this body.
pub fn reply(body: impl Into<Bytes>) -> Response<Content> {
    let body: Bytes = body.into();
    Response::new(Full::new(body).map_err(|never: Infallible| match never {}).boxed_unsync())
}

/// Returns a response with this status and an empty body.
pub fn status(status: u16) -> Response<Content> {
    let mut response = reply("");
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    response
}

/// Returns a redirect to `location`.
pub fn redirect(code: u16, location: &str) -> Response<Content> {
    let mut response = status(code);
    response.headers_mut().insert("location", location.parse().expect("a value"));
    response
}

async fn serve<F>(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    handler: F,
    log: Arc<Mutex<Vec<ReceivedRequest>>>,
) where
    F: AsyncFn(ReceivedRequest) -> Response<Content> + 'static,
{
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listening socket");
    let handler = Rc::new(handler);
    let mut running = JoinSet::new();
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => accepted.expect("accept"),
            Some(ended) = running.join_next() => match ended {
                Ok(()) => continue,
                Err(panicked) => std::panic::resume_unwind(panicked.into_panic()), // the task is never cancelled
            },
        };
        let (tls, handler, log) = (tls.clone(), handler.clone(), log.clone());
        running.spawn_local(async move {
            match tls {
                None => serve_connection(stream, peer, handler, log).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve_connection(stream, peer, handler, log).await;
                    }
                }
            }
        });
    }
}

async fn serve_connection<S, F>(
    stream: S,
    peer: SocketAddr,
    handler: Rc<F>,
    log: Arc<Mutex<Vec<ReceivedRequest>>>,
) where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static,
    F: AsyncFn(ReceivedRequest) -> Response<Content> + 'static,
{
    let service = service_fn(move |request: http::Request<Incoming>| {
        let (handler, log) = (handler.clone(), log.clone());
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?;
            let trailers = body.trailers().cloned();
            let body = body.to_bytes();
            let received = ReceivedRequest {
                peer,
                method: head.method,
                uri: head.uri,
                version: head.version,
                headers: head.headers,
                body,
                trailers,
            };
            log.lock().expect("no panic").push(received.clone());
            let mut response = handler(received).await;
            response.headers_mut().insert("x-peer", peer.port().into());
            Ok::<_, hyper::Error>(response)
        }
    });
    // An error is how the client has ended the connection.
    _ = auto::Builder::new(OnThisThread).serve_connection(TokioIo::new(stream), service).await;
}

#[derive(Clone)]
struct OnThisThread;

impl<F: Future + 'static> hyper::rt::Executor<F> for OnThisThread {
    fn execute(&self, task: F) {
        spawn_local(async move { drop(task.await) });
    }
}
