//! The preset `Client`: each option of its builder does what its documentation says.
#![cfg(all(feature = "client", any(feature = "ring", feature = "aws-lc-rs")))]

mod body;
mod close;
mod compression;
mod expect;
mod first_byte;
mod idle;
mod keep_alive;
mod layers;
mod limits;
mod names;
mod pool;
mod pool_checkout;
mod redirects;
mod runtime;
mod service;
mod timeouts;
mod urls;
mod versions;

use std::future::Future;
use std::pin::Pin;

use http::{Request, Response};
use nettrace::client::{Body, ClientBuilder, ClientError, ResponseBody};
use nettrace::record::EndReason;
use nettrace::{Client, TraceSink};
use test_support::wait;

/// Creates a client and the sink that it records to.
fn client(configure: impl FnOnce(ClientBuilder) -> ClientBuilder) -> (Client, TraceSink) {
    let sink = TraceSink::new();
    (configure(Client::builder(&sink)).build().expect("a client"), sink)
}

/// Reads a response to its end. Returns the client's port as the server saw it (`x-peer`), and the body.
async fn read(response: Result<Response<ResponseBody>, ClientError>) -> (u16, String) {
    let response = response.unwrap_or_else(|error| panic!("{error}"));
    let port = response.headers()["x-peer"].to_str().expect("a port").parse().expect("a port");
    let body = response.into_body().bytes().await.expect("a body");
    (port, String::from_utf8(body.to_vec()).expect("text"))
}

fn request(method: &str, url: &str, headers: &[(&str, &str)], body: Body) -> Request<Body> {
    let builder = Request::builder().method(method).uri(url);
    headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value)).body(body).unwrap()
}

/// Returns the end reason of each connection; `None` while it is open.
fn end_reasons(sink: &TraceSink) -> Vec<Option<EndReason>> {
    sink.snapshot("").tcp_conns.iter().map(|conn| conn.end_reason.clone()).collect()
}

/// Polls the future and lets other tasks run until the condition holds, which it must before the future completes.
#[track_caller]
fn poll_until<F: Future>(future: Pin<&mut F>, condition: impl Fn() -> bool) -> impl Future<Output = ()> {
    wait::polling_until("the condition of `poll_until`", future, condition)
}

/// Lets other tasks run until the condition holds.
#[track_caller]
fn eventually(condition: impl Fn() -> bool) -> impl Future<Output = ()> {
    wait::until("the condition of `eventually`", condition)
}
