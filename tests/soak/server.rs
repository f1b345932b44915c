//! A server that remembers over which connections the latest requests came.

use http_body_util::Full;
use hyper::{Request, Response, body::Bytes, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use test_support::{background::Background, lab::Ns};
use tokio::{net::TcpListener, task::JoinSet};

/// A server on loopback. The last part of a path is the number of the request; the part before it says what the server does.
pub struct Server {
    addr: SocketAddr,
    log: Arc<Log>,
    _background: Background,
}

/// The ports from which the latest requests came, by the number of the request.
#[derive(Default)]
pub struct Log(Mutex<VecDeque<(u64, u16)>>);

const MAX_LOGGED: usize = 4_096;

impl Server {
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("non-blocking mode");
        let addr = listener.local_addr().expect("a bound socket");
        let log = Arc::<Log>::default();
        let shared = log.clone();
        let serve = move || serve(TcpListener::from_std(listener).expect("a runtime"), shared);
        Server { addr, log, _background: Background::start(&Ns::here(), serve) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub fn log(&self) -> &Log {
        &self.log
    }
}

impl Log {
    fn add(&self, number: u64, port: u16) {
        let mut log = self.0.lock().expect("no panic");
        if log.len() == MAX_LOGGED {
            log.pop_front();
        }
        log.push_back((number, port));
    }

    /// Returns the port from which a request came, if it is one of the latest.
    pub fn port(&self, number: u64) -> Option<u16> {
        let log = self.0.lock().expect("no panic");
        log.iter().rev().find(|(logged, _)| *logged == number).map(|(_, port)| *port)
    }
}

async fn serve(listener: TcpListener, log: Arc<Log>) {
    let mut conns = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((stream, peer)) = accepted {
                let log = log.clone();
                let service = service_fn(move |request| {
                    let log = log.clone();
                    async move { answer(request, peer, &log).await }
                });
                conns.spawn(async move {
                    // An error means that the client gave up, or that `answer` closed the connection.
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            },
            Some(_) = conns.join_next() => {}
        }
    }
}

async fn answer(
    request: Request<Incoming>,
    peer: SocketAddr,
    log: &Log,
) -> io::Result<Response<Full<Bytes>>> {
    let path = request.uri().path();
    let (what, number) = path.rsplit_once('/').unwrap_or_default();
    log.add(number.parse().expect("a number"), peer.port());
    match what {
        "/closes" => Err(io::ErrorKind::ConnectionAborted.into()),
        "/hangs" => std::future::pending().await,
        "/fails" => Ok(Response::builder().status(503).body("busy".into()).expect("a response")),
        _ => Ok(Response::new(Bytes::from(vec![b'x'; 2_000]).into())),
    }
}
