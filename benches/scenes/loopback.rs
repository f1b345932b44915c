//! Requests over the loopback interface to a server that is a task of the same thread.

use super::Again;
use nettrace::{Retention, TraceSink};
use std::{fmt::Debug, str::FromStr};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::{self, Runtime},
};

/// Creates a sink that is full after a few hundred requests, so that evictions are counted, too.
pub(super) fn sink() -> TraceSink {
    TraceSink::builder().retention(Retention::bounded().requests(256).connections(256)).build()
}

/// Returns work that makes one request over HTTP/1.1 after the other to a server of its own.
pub(super) fn requests<U>(get: impl AsyncFn(U)) -> Again<impl FnMut()>
where
    U: FromStr<Err: Debug> + Clone,
{
    requests_to(serve, |url: U| async move || get(url.clone()).await)
}

/// Returns work that calls a client. It is created inside a runtime, with the URL of the server.
pub(super) fn requests_to<U, S, C>(
    serve: impl FnOnce(TcpListener) -> S,
    client: impl FnOnce(U) -> C,
) -> Again<impl FnMut()>
where
    U: FromStr<Err: Debug>,
    S: Future<Output = ()> + Send + 'static,
    C: AsyncFn(),
{
    let runtime: Runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
    let url = format!("http://{}/1k", listener.local_addr().expect("its address"));
    runtime.spawn(serve(listener));
    let entered = runtime.enter();
    let client = client(url.parse().expect("a valid URL"));
    drop(entered);
    Again(move || runtime.block_on(client()))
}

async fn serve(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(answer(stream));
    }
}

/// Answers each request with 1 KiB. A request without a body comes in one piece.
async fn answer(mut stream: TcpStream) {
    let mut response = b"HTTP/1.1 200 OK\r\ncontent-length: 1024\r\n\r\n".to_vec();
    response.resize(response.len() + 1024, 0);
    let mut request = [0; 4096];
    while let Ok(1..) = stream.read(&mut request).await {
        if stream.write_all(&response).await.is_err() {
            return;
        }
    }
}
