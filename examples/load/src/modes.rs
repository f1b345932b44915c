//! The clients that are compared, all configured for the same requests.

use crate::{
    args::{Args, Mode},
    clients::{Bare, Names, http_connector},
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request};
use http_body_util::{BodyExt, Empty};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{
        self,
        connect::{Connect, HttpConnector},
    },
    rt::TokioExecutor,
};
use nettrace::{Client, NetTrace, Retention, TraceSink, TraceSinkBuilder, client::HttpVersion, tls::Roots};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use std::{error::Error, fs, future::Future};

type BoxError = Box<dyn Error + Send + Sync>;

/// A client that requests its URL and reads the response to its end.
pub trait Get: Clone + Send + Sync + 'static {
    /// Makes a request and returns the bytes of the body.
    fn get(&self) -> impl Future<Output = Result<u64, BoxError>> + Send;

    /// Returns the sink that the client records into, if it records.
    fn sink(&self) -> Option<&TraceSink> {
        None
    }

    /// Closes its connections.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// The client of one of the modes.
#[derive(Clone)]
pub enum Any {
    Bare(Plain<HttpsConnector<Bare>>),
    Untraced(Plain<HttpsConnector<HttpConnector<Names>>>),
    Preset(Preset),
}

impl Any {
    pub fn new(args: &Args) -> Result<Self, BoxError> {
        match args.mode {
            Mode::Bare => Plain::bare(args).map(Any::Bare),
            Mode::Untraced => Plain::untraced(args).map(Any::Untraced),
            Mode::Off | Mode::Traced | Mode::Full | Mode::Captured => Preset::new(args).map(Any::Preset),
        }
    }
}

impl Get for Any {
    async fn get(&self) -> Result<u64, BoxError> {
        match self {
            Any::Bare(client) => client.get().await,
            Any::Untraced(client) => client.get().await,
            Any::Preset(client) => client.get().await,
        }
    }

    fn sink(&self) -> Option<&TraceSink> {
        match self {
            Any::Preset(client) => client.sink(),
            _ => None,
        }
    }

    async fn close(self) {
        if let Any::Preset(client) = self {
            client.close().await;
        }
    }
}

/// An untraced client of hyper-util.
#[derive(Clone)]
pub struct Plain<C> {
    client: legacy::Client<C, Empty<Bytes>>,
    request: Request<()>,
}

impl<C> Plain<HttpsConnector<C>>
where
    HttpsConnector<C>: Connect + Clone + Send + Sync + 'static,
{
    fn new(args: &Args, tcp: C) -> Result<Self, BoxError> {
        let connector = HttpsConnector::from((tcp, tls(args)?));
        let mut pool = legacy::Client::builder(TokioExecutor::new());
        pool.http2_only(args.http2);
        if args.fresh_connections {
            pool.pool_max_idle_per_host(0);
        }
        Ok(Plain { client: pool.build(connector), request: request(args)? })
    }
}

impl Plain<HttpsConnector<Bare>> {
    pub fn bare(args: &Args) -> Result<Self, BoxError> {
        Self::new(args, Bare(Names::new(args.nameserver)?))
    }
}

impl Plain<HttpsConnector<HttpConnector<Names>>> {
    pub fn untraced(args: &Args) -> Result<Self, BoxError> {
        Self::new(args, http_connector(Names::new(args.nameserver)?))
    }
}

impl<C: Connect + Clone + Send + Sync + 'static> Get for Plain<C> {
    async fn get(&self) -> Result<u64, BoxError> {
        let response = self.client.request(self.request.clone().map(|()| Empty::new())).await?;
        count(response.into_body()).await
    }

    async fn close(self) {}
}

/// This crate's client.
#[derive(Clone)]
pub struct Preset {
    client: Client,
    request: Request<()>,
}

impl Preset {
    pub fn new(args: &Args) -> Result<Self, BoxError> {
        let mut retention = if args.unbounded { Retention::unbounded() } else { Retention::bounded() };
        if let Some(keep) = args.keep {
            retention = retention.requests(keep).connections(keep);
        }
        let builder = TraceSink::builder().retention(retention);
        let sink = match args.mode {
            Mode::Off => TraceSink::disabled(),
            Mode::Full => with_probes(builder).build(),
            Mode::Captured => with_capture(builder, &args.interface)?.build(),
            _ => builder.build(),
        };
        // So that it sends the same bytes as the untraced client.
        let mut builder = Client::builder(&sink).user_agent(None).compression(false);
        let version = if args.http2 { HttpVersion::Http2Only } else { HttpVersion::Http1Only };
        builder = builder.http_version(version);
        if args.fresh_connections {
            builder = builder.max_idle_conns_per_host(0);
        }
        if let Some(nameserver) = args.nameserver {
            builder = builder.nameservers([nameserver]);
        }
        if let Some(cacert) = &args.cacert {
            builder = builder.roots(Roots::from_pem_file(cacert)?);
        }
        Ok(Preset { client: builder.build()?, request: request(args)? })
    }
}

#[cfg(target_os = "linux")]
fn with_probes(builder: TraceSinkBuilder) -> TraceSinkBuilder {
    use nettrace::linux::{ConntrackProbe, TcpInfoProbe};
    builder.probe(ConntrackProbe::new()).probe(TcpInfoProbe::new())
}

#[cfg(not(target_os = "linux"))]
fn with_probes(builder: TraceSinkBuilder) -> TraceSinkBuilder {
    builder
}

#[cfg(unix)]
fn with_capture(builder: TraceSinkBuilder, interface: &str) -> Result<TraceSinkBuilder, BoxError> {
    let capture = nettrace::capture::CaptureProbe::builder([interface]).start();
    match capture.problems().into_iter().next() {
        Some(problem) => Err(problem.into()),
        None => Ok(builder.probe(capture)),
    }
}

#[cfg(not(unix))]
fn with_capture(builder: TraceSinkBuilder, _: &str) -> Result<TraceSinkBuilder, BoxError> {
    Ok(builder)
}

impl Get for Preset {
    async fn get(&self) -> Result<u64, BoxError> {
        let request = self.request.clone().map(|()| nettrace::client::Body::empty());
        let response = self.client.request(request).await?;
        count(response.into_body()).await
    }

    fn sink(&self) -> Option<&TraceSink> {
        Some(self.client.sink()).filter(|sink| sink.is_enabled())
    }

    async fn close(self) {
        self.client.close().await;
    }
}

async fn count<B>(mut body: B) -> Result<u64, BoxError>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame.map_err(Into::into)?.data_ref().map_or(0, |data| data.len() as u64);
    }
    Ok(bytes)
}

fn request(args: &Args) -> Result<Request<()>, BoxError> {
    let mut request = Request::builder().uri(&args.url).body(())?;
    for i in 0..args.headers {
        let name = HeaderName::try_from(format!("x-load-{i}"))?;
        request.headers_mut().insert(name, HeaderValue::from_static("some value of a usual length"));
    }
    Ok(request)
}

fn tls(args: &Args) -> Result<ClientConfig, BoxError> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = &args.cacert {
        let pem = fs::read(file)?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            roots.add(certificate?)?;
        }
    }
    let provider = rustls::crypto::ring::default_provider();
    let config =
        ClientConfig::builder_with_provider(provider.into()).with_safe_default_protocol_versions()?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    // The same as this crate's client offers. hyper-rustls offers nothing if there is only one version.
    config.alpn_protocols = vec![if args.http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    Ok(config)
}

/// Returns how many captured packets are kept, and how many are known to be missing.
#[cfg(unix)]
pub fn packets(sink: &TraceSink) -> Option<[u64; 2]> {
    let captures = sink.captures();
    let kept = captures.iter().map(|capture| capture.packets.len() as u64).sum();
    let missing = captures
        .iter()
        .map(|capture| capture.dropped_by_limit + capture.dropped_by_kernel + capture.dropped_pending)
        .sum();
    (!captures.is_empty()).then_some([kept, missing])
}

#[cfg(not(unix))]
pub fn packets(_: &TraceSink) -> Option<[u64; 2]> {
    None
}

/// Returns the number of socket operations in a trace, including those that were not kept.
pub fn operations(trace: &NetTrace) -> u64 {
    let tcp = trace.tcp_conns.iter().filter_map(|conn| conn.socket_trace.as_ref());
    let udp = trace.udp_conns.iter().filter_map(|conn| conn.socket_trace.as_ref());
    tcp.chain(udp).map(|ops| ops.socket_ops.len() as u64 + ops.dropped_ops).sum()
}
