//! reqwest clients (untraced, observed, and observed with a disabled sink), and the servers that they talk to.

use std::error::Error as _;
use std::sync::Arc;

use nettrace::reqwest::{Observer, TraceClient, TraceConnectorLayer};
use nettrace::resolve::StubResolver;
use nettrace::tls::{Roots, TraceTlsLayer};
use nettrace::{NetTrace, RequestHandle, TraceSink};
use reqwest::{Client, ClientBuilder, Error, RequestBuilder, Response, StatusCode, Version};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use test_support::{
    check, pki,
    raw::{Conn, Server},
};

/// A reqwest client that is untraced, observed, or observed with a disabled sink.
pub(crate) struct Variant {
    pub(crate) name: &'static str,
    pub(crate) sink: TraceSink,
    /// The connector layer of all its clients. `None` if they are untraced.
    connector: Option<TraceConnectorLayer>,
    roots: Arc<RootCertStore>,
}

impl Variant {
    pub(crate) fn observed(roots: Arc<RootCertStore>) -> Self {
        Variant::of("observed", TraceSink::new(), true, roots)
    }

    pub(crate) fn untraced(roots: Arc<RootCertStore>) -> Self {
        Variant::of("untraced", TraceSink::disabled(), false, roots)
    }

    /// Returns the observed variant, recording into this sink.
    pub(crate) fn recording(sink: TraceSink, roots: Arc<RootCertStore>) -> Self {
        Variant::of("observed", sink, true, roots)
    }

    fn of(name: &'static str, sink: TraceSink, is_observed: bool, roots: Arc<RootCertStore>) -> Self {
        let connector = is_observed.then(|| TraceConnectorLayer::new(&sink));
        Variant { name, sink, connector, roots }
    }

    /// Returns a builder that ignores the proxy settings of the environment.
    pub(crate) fn builder(&self) -> ClientBuilder {
        self.builder_with(Observer::new(&self.sink))
    }

    pub(crate) fn builder_with(&self, observer: Observer) -> ClientBuilder {
        let builder = Client::builder();
        let Some(connector) = &self.connector else {
            return builder.no_proxy().tls_backend_preconfigured(untraced_tls(&self.roots));
        };
        let tls = TraceTlsLayer::builder(&self.sink)
            .roots(Roots::from(RootCertStore::clone(&self.roots)))
            .into_config()
            .unwrap();
        let observer = observer.tls(tls).connector_layer(connector);
        observer.install(builder).unwrap().into_inner().no_proxy()
    }

    /// Returns an observed client.
    pub(crate) fn client(&self) -> TraceClient {
        let connector = self.connector.as_ref().expect("an observed variant");
        TraceClient::new(self.builder().build().unwrap(), connector)
    }

    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, Error> {
        let Some(connector) = &self.connector else { return request.send().await };
        let (client, request) = request.build_split();
        TraceClient::new(client, connector).execute(request?).await
    }

    /// Returns a builder of a client that resolves names with this nameserver.
    pub(crate) fn asking(&self, nameserver: std::net::SocketAddr) -> ClientBuilder {
        let resolver = StubResolver::builder(&self.sink).nameservers([nameserver]).build().unwrap();
        self.builder_with(Observer::new(&self.sink).resolver(resolver))
    }

    /// Returns the trace, in which every record must have ended.
    #[track_caller]
    pub(crate) fn finished(&self) -> NetTrace {
        let trace = self.sink.snapshot(self.name);
        check::finished(&trace);
        trace
    }
}

/// Returns the TLS configuration of an untraced client, without a process-wide provider.
fn untraced_tls(roots: &Arc<RootCertStore>) -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(pki::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots.clone())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

/// Returns the four variants: untraced, observed, and observed with a sink that is disabled or switched off.
pub(crate) fn variants(roots: Arc<RootCertStore>) -> [Variant; 4] {
    let switched_off = TraceSink::new();
    switched_off.set_enabled(false);
    let variant = |name, sink, is_observed| Variant::of(name, sink, is_observed, roots.clone());
    [
        variant("untraced", TraceSink::disabled(), false),
        Variant::observed(roots.clone()),
        variant("sink is disabled", TraceSink::disabled(), true),
        variant("sink is switched off", switched_off, true),
    ]
}

/// Returns roots with an authority that has issued no certificate.
pub(crate) fn unrelated_roots() -> Arc<RootCertStore> {
    pki::Authority::new("nobody").store()
}

/// Runs the scenario with every variant, and asserts that the outcomes are equal. Returns the observed variant and the
/// outcome.
pub(crate) async fn same<T: std::fmt::Debug + PartialEq>(
    scenario: impl AsyncFn(&Variant) -> T,
) -> (Variant, T) {
    let [untraced, observed, disabled, switched_off] = variants(unrelated_roots());
    let expected = scenario(&untraced).await;
    for variant in [&observed, &disabled, &switched_off] {
        assert_eq!(scenario(variant).await, expected, "{}", variant.name);
    }
    let trace = observed.sink.snapshot("");
    check::running(&trace);
    (observed, expected)
}

/// Everything that a caller can see of a response.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) version: Version,
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) content_length: Option<u64>,
    pub(crate) is_from: Option<std::net::SocketAddr>,
    pub(crate) body: Result<String, Fault>,
}

/// Everything that a caller can see of an error.
#[derive(Debug, PartialEq)]
pub(crate) struct Fault {
    pub(crate) is: Vec<&'static str>,
    pub(crate) url: Option<String>,
    pub(crate) status: Option<StatusCode>,
    /// The texts of the error and its sources, without the text that reqwest adds for each wrapper of a body.
    pub(crate) chain: Vec<String>,
}

impl Fault {
    pub(crate) fn of(error: &Error) -> Self {
        let kinds = [
            (error.is_builder(), "builder"),
            (error.is_redirect(), "redirect"),
            (error.is_status(), "status"),
            (error.is_timeout(), "timeout"),
            (error.is_request(), "request"),
            (error.is_connect(), "connect"),
            (error.is_dns(), "dns"),
            (error.is_body(), "body"),
            (error.is_decode(), "decode"),
            (error.is_upgrade(), "upgrade"),
        ];
        let mut chain = vec![error.to_string()];
        let mut next = error.source();
        while let Some(error) = next {
            if error.to_string() != "request or response body error" {
                chain.push(error.to_string());
            }
            next = error.source();
        }
        Fault {
            is: kinds.into_iter().filter(|(is, _)| *is).map(|(_, kind)| kind).collect(),
            url: error.url().map(ToString::to_string),
            status: error.status(),
            chain,
        }
    }
}

/// Reads a response to its end.
pub(crate) async fn answer(response: Result<Response, Error>) -> Result<Answer, Fault> {
    let response = response.map_err(|error| Fault::of(&error))?;
    let mut headers: Vec<_> = response
        .headers()
        .iter()
        .filter(|(name, _)| !["date", "x-peer"].contains(&name.as_str()))
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    headers.sort();
    Ok(Answer {
        status: response.status(),
        version: response.version(),
        url: response.url().to_string(),
        headers,
        content_length: response.content_length(),
        is_from: response.remote_addr(),
        body: response.text().await.map_err(|error| Fault::of(&error)),
    })
}

/// Reads a ClientHello and answers with plain HTTP, as a server without TLS does.
pub(crate) async fn answer_hello(mut conn: Conn) -> std::io::Result<()> {
    let header = conn.read(5).await?;
    conn.read(usize::from(u16::from_be_bytes([header[3], header[4]]))).await?;
    conn.write(b"HTTP/1.1 400 Bad Request\r\n\r\n").await?;
    conn.close().await
}

/// Starts a server that answers with an upgrade, sends `hi`, and echoes four bytes.
pub(crate) fn upgrading() -> Server {
    Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nhi")
            .await?;
        let word = conn.read(4).await?;
        conn.write(&word).await?;
        conn.close().await
    })
}

/// Talks to the server of [`upgrading`], and returns what it sent after the upgrade.
pub(crate) async fn talk(response: Response) -> String {
    assert_eq!(response.status(), 101);
    let mut stream = response.upgrade().await.unwrap();
    stream.write_all(b"echo").await.unwrap();
    let mut received = String::new();
    stream.read_to_string(&mut received).await.unwrap();
    received
}

/// Starts a server that never answers, except for `/body` with half of a response.
pub(crate) fn hanging() -> Server {
    Server::start(async |mut conn| {
        let head = conn.read_head().await?;
        if head.starts_with("GET /body") {
            conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await?;
        }
        conn.hang().await
    })
}

/// Runs a future with the clock paused, so that timeouts expire as soon as every task is idle.
pub(crate) async fn with_paused_clock<F: Future>(future: F) -> F::Output {
    tokio::time::pause();
    let output = future.await;
    tokio::time::resume();
    output
}

/// Returns the client port that the server saw.
pub(crate) fn peer(response: &Response) -> u16 {
    response.headers()["x-peer"].to_str().unwrap().parse().unwrap()
}

/// Returns the record of the request and the record of its connection.
#[track_caller]
pub(crate) fn linked<'a>(
    trace: &'a NetTrace,
    request: &RequestHandle,
) -> (&'a nettrace::record::HttpReqTrace, Option<&'a nettrace::record::TcpConnTrace>) {
    let record = trace.http_requests.get(request.id()).expect("a record of the request");
    (record, trace.tcp_conns.get(&record.tcp_conn))
}
