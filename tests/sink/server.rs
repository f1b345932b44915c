//! An HTTP/1 server that answers at once, or when the test releases the request.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet};

/// A server that stops when it is dropped.
pub(crate) struct Server {
    addr: SocketAddr,
    /// A request for `/held` takes a permit before it is answered.
    pub(crate) released: Arc<Semaphore>,
    /// Gets a permit for each request for `/held` that has arrived.
    pub(crate) held: Arc<Semaphore>,
    _tasks: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let [released, held] = [0; 2].map(|permits| Arc::new(Semaphore::new(permits)));
        let mut tasks = JoinSet::new();
        let gates = [released.clone(), held.clone()];
        tasks.spawn(async move {
            let mut conns = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let gates = gates.clone();
                let service = service_fn(move |request| answer(request, gates.clone()));
                conns.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Server { addr, released, held, _tasks: tasks }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// Waits until a request for `/held` has arrived.
    pub(crate) async fn holds_one(&self) {
        self.held.acquire().await.unwrap().forget();
    }
}

async fn answer(
    request: Request<Incoming>,
    [released, held]: [Arc<Semaphore>; 2],
) -> Result<Response<Full<Bytes>>, Infallible> {
    let response = match request.uri().path() {
        "/held" => {
            held.add_permits(1);
            released.acquire().await.unwrap().forget();
            Response::builder()
        }
        "/redirect" => Response::builder().status(302).header(header::LOCATION, "/"),
        "/close" => Response::builder().header(header::CONNECTION, "close"),
        _ => Response::builder(),
    };
    let response = match request.uri().path() {
        "/gzip" => response.header(header::CONTENT_ENCODING, "gzip").body(Full::from(&GZIP[..])),
        "/broken-gzip" => {
            let mut broken = GZIP.to_vec();
            broken[20..40].fill(0xff);
            response.header(header::CONTENT_ENCODING, "gzip").body(Full::from(broken))
        }
        _ => response.body(Full::from("hello")),
    };
    Ok(response.unwrap())
}

/// The text `hello `, repeated a thousand times, in gzip.
const GZIP: [u8; 53] = [
    31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 237, 196, 49, 13, 0, 0, 8, 3, 48, 43, 152, 35, 225, 88, 130, 255, 15,
    17, 188, 237, 209, 233, 100, 107, 108, 219, 182, 109, 219, 182, 109, 219, 246, 227, 3, 193, 55, 12, 64,
    112, 23, 0, 0,
];
