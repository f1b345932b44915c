//! Requests through proxies: what arrives, what is recorded, and the outcome of each failure.
#![cfg(all(feature = "client", any(feature = "ring", feature = "aws-lc-rs")))]

mod choice;
mod connect;
mod connector;
mod ends;
mod faults;
mod forward;
mod https;
mod secrets;
mod socks;
mod upgrade;

use nettrace::{
    Client, HeaderCapture, NetTrace, TraceSink,
    client::{ClientBuilder, ClientError},
    proxy::{Proxy, ProxySelector},
    record::{DialTrace, HttpReqTrace, TcpConnTrace, TlsTunnelTrace},
    tls::Roots,
};
use test_support::{
    check,
    pki::{Authority, Leaf},
    web::{Content, ReceivedRequest, Web, reply},
};

/// A certificate authority, and a server certificate that it issued.
struct Site {
    authority: Authority,
    leaf: Leaf,
}

impl Site {
    fn new() -> Self {
        Self::of("proxy tests")
    }

    fn of(authority: &str) -> Self {
        let authority = Authority::new(authority);
        let leaf = authority.issue(&["localhost", "web.test", "127.0.0.1"]);
        Site { authority, leaf }
    }

    fn roots(&self) -> Roots {
        Roots::from_pem(self.authority.pem()).expect("a root")
    }

    /// Starts an HTTPS server that offers the protocols in `alpn`.
    fn web(&self, alpn: &[&str]) -> Web {
        let mut config = self.leaf.server();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Web::tls(config, greet)
    }
}

/// Answers with the path of the request.
async fn greet(request: ReceivedRequest) -> http::Response<Content> {
    reply(format!("hello {}", request.path()))
}

fn proxy(url: &str) -> Proxy {
    url.parse().unwrap_or_else(|error| panic!("{error}"))
}

/// Returns a client and its own sink, which records header values.
fn client(
    proxies: impl Into<ProxySelector>,
    configure: impl FnOnce(ClientBuilder) -> ClientBuilder,
) -> (Client, TraceSink) {
    let sink = TraceSink::builder().headers(HeaderCapture::Values).build();
    let builder = Client::builder(&sink).proxy(proxies);
    (configure(builder).build().expect("a client"), sink)
}

/// Returns the status and the body of the response to a GET.
async fn get(client: &Client, url: &str) -> Result<String, ClientError> {
    let response = client.get(url).await?;
    let status = response.status();
    let body = response.into_body().bytes().await?;
    Ok(format!("{} {}", status.as_u16(), String::from_utf8_lossy(&body)))
}

/// Closes the client and returns the sink's trace, which must be consistent.
async fn finished(client: &Client, sink: &TraceSink) -> NetTrace {
    client.close().await;
    let trace = sink.snapshot("all");
    check::finished(&trace);
    trace
}

/// A request that the test made, and the records that belong to it.
struct Story<'a> {
    request: &'a HttpReqTrace,
    connect: Option<&'a HttpReqTrace>,
    conn: Option<&'a TcpConnTrace>,
    dial: Option<&'a DialTrace>,
    tunnel: Option<&'a TlsTunnelTrace>,
    proxy_tunnel: Option<&'a TlsTunnelTrace>,
}

/// Returns a [`Story`] for each request that the test made, in order. CONNECTs of the proxy layer have none.
fn stories(trace: &NetTrace) -> Vec<Story<'_>> {
    let is_own = |request: &&HttpReqTrace| request.triggered_by.is_undefined();
    let story = |request| Story::of(trace, request);
    trace.http_requests.iter().filter(is_own).map(story).collect()
}

/// Returns the only [`Story`] of a trace.
#[track_caller]
fn story(trace: &NetTrace) -> Story<'_> {
    let mut all = stories(trace);
    assert_eq!(all.len(), 1, "{trace:?}");
    all.remove(0)
}

impl<'a> Story<'a> {
    fn of(trace: &'a NetTrace, request: &'a HttpReqTrace) -> Self {
        let conn = trace.tcp_conns.get(&request.tcp_conn);
        Story {
            request,
            connect: trace.http_requests.iter().find(|other| other.triggered_by == request.trace_id),
            conn,
            dial: trace.dials.iter().find(|dial| dial.triggered_by == request.trace_id),
            tunnel: trace.tls_tunnels.get(&request.tls_tunnel),
            proxy_tunnel: trace.tls_tunnels.get(&request.proxy_tls_tunnel),
        }
    }

    #[track_caller]
    fn connect(&self) -> &'a HttpReqTrace {
        self.connect.expect("a CONNECT")
    }

    #[track_caller]
    fn conn(&self) -> &'a TcpConnTrace {
        self.conn.expect("a connection")
    }
}
