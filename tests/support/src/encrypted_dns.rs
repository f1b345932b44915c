//! Scripted nameservers for DNS over TLS and DNS over HTTPS.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use hickory_proto::op::Message;
use http::{Request, Response, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use tokio::{net::TcpStream, task::JoinSet};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    dns::{Action, Behaviour, ReceivedQuery, bind, serve_stream, wire},
    pki::Leaf,
    wait,
};

/// A nameserver on a port of the loopback interface. Dropping it stops the server and closes its connections.
pub struct EncryptedDnsServer {
    addr: SocketAddr,
    queries: Arc<Mutex<Vec<ReceivedQuery>>>,
    accepted: Arc<Mutex<usize>>,
    /// At the same port. Nothing may come here.
    plain: std::net::UdpSocket,
    _task: JoinSet<()>,
}

/// The reaction of a nameserver to a query over HTTPS.
pub enum HttpAction {
    Respond {
        status: u16,
        content_type: &'static str,
        body: Vec<u8>,
    },
    Silence,
    /// Resets the stream of the request.
    Reset,
    /// Closes the connection.
    Close,
}

impl From<Message> for HttpAction {
    fn from(message: Message) -> Self {
        HttpAction::Respond { status: 200, content_type: "application/dns-message", body: wire(&message) }
    }
}

type HttpBehaviour = dyn Fn(&ReceivedQuery) -> HttpAction + Send + Sync;

impl EncryptedDnsServer {
    /// Starts a server for DNS over TLS with this certificate.
    pub async fn tls<T: Into<Action>>(
        leaf: &Leaf,
        behaviour: impl Fn(&ReceivedQuery) -> T + Send + Sync + 'static,
    ) -> Self {
        let behaviour: Arc<Behaviour> = Arc::new(move |query| behaviour(query).into());
        Self::start(leaf.server(), move |stream, from, log| {
            serve_stream(stream, from, behaviour.clone(), log)
        })
        .await
    }

    /// Starts a server for DNS over HTTPS with this certificate, which speaks HTTP/2.
    pub async fn https<T: Into<HttpAction>>(
        leaf: &Leaf,
        behaviour: impl Fn(&ReceivedQuery) -> T + Send + Sync + 'static,
    ) -> Self {
        Self::https_with_alpn(leaf, &["h2"], behaviour).await
    }

    /// Starts a server for DNS over HTTPS with these protocols in ALPN.
    pub async fn https_with_alpn<T: Into<HttpAction>>(
        leaf: &Leaf,
        alpn: &[&str],
        behaviour: impl Fn(&ReceivedQuery) -> T + Send + Sync + 'static,
    ) -> Self {
        let behaviour: Arc<HttpBehaviour> = Arc::new(move |query| behaviour(query).into());
        let mut config = leaf.server();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Self::start(config, move |stream, from, log| serve_http(stream, from, behaviour.clone(), log)).await
    }

    async fn start<F>(
        config: ServerConfig,
        serve: impl Fn(TlsStream<TcpStream>, SocketAddr, Arc<Mutex<Vec<ReceivedQuery>>>) -> F
        + Clone
        + Send
        + Sync
        + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (plain, listener) = bind().await;
        let plain = plain.into_std().unwrap();
        let addr = listener.local_addr().unwrap();
        let queries = Arc::<Mutex<Vec<_>>>::default();
        let accepted = Arc::<Mutex<usize>>::default();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (log, count) = (queries.clone(), accepted.clone());
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, from)) = listener.accept().await {
                *count.lock().unwrap() += 1;
                stream.set_nodelay(true).unwrap();
                let (acceptor, serve, log) = (acceptor.clone(), serve.clone(), log.clone());
                connections.spawn(async move {
                    // An error means that the client refused the certificate.
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, from, log).await;
                    }
                });
            }
        });
        EncryptedDnsServer { addr, queries, accepted, plain, _task: task }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the queries so far.
    pub fn queries(&self) -> Vec<ReceivedQuery> {
        self.queries.lock().unwrap().clone()
    }

    /// Returns how many connections were accepted so far.
    pub fn accepted(&self) -> usize {
        *self.accepted.lock().unwrap()
    }

    /// Returns `true` if a datagram came to the port of the server.
    pub fn is_asked_in_plain_text(&self) -> bool {
        match self.plain.peek(&mut [0; 512]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            datagram => datagram.is_ok(),
        }
    }

    /// Waits until the server has received this many queries.
    ///
    /// # Panics
    ///
    /// If this takes longer than 20 seconds.
    #[track_caller]
    pub fn wait_for_queries(&self, count: usize) -> impl Future<Output = ()> {
        wait::until(format!("{count} queries"), move || self.queries().len() >= count)
    }
}

async fn serve_http(
    stream: TlsStream<TcpStream>,
    from: SocketAddr,
    behaviour: Arc<HttpBehaviour>,
    log: Arc<Mutex<Vec<ReceivedQuery>>>,
) {
    let close = Arc::new(tokio::sync::Notify::new());
    let closing = close.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (behaviour, log, close) = (behaviour.clone(), log.clone(), close.clone());
        async move {
            assert_eq!(request.method(), "POST");
            assert_eq!(request.headers()[CONTENT_TYPE], "application/dns-message");
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let query = ReceivedQuery { message: Message::from_vec(&body).unwrap(), tcp: true, from };
            log.lock().unwrap().push(query.clone());
            match behaviour(&query) {
                HttpAction::Respond { status, content_type, body } => {
                    let response = Response::builder().status(status).header(CONTENT_TYPE, content_type);
                    Ok::<_, io::Error>(response.body(Full::new(Bytes::from(body))).unwrap())
                }
                HttpAction::Reset => Err(io::Error::other("the stream is reset")),
                HttpAction::Silence => std::future::pending().await,
                HttpAction::Close => {
                    close.notify_one();
                    std::future::pending().await
                }
            }
        }
    });
    let connection =
        http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        _ = connection => {}
        () = closing.notified() => {}
    }
}
