//! The web servers of the demo.

use super::dns::{SERVER_IP, SHOP_HOST, UNTRUSTED_HOST, WWW_HOST};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use std::{convert::Infallible, error::Error, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::sleep,
};
use tokio_rustls::TlsAcceptor;

/// The ports of the servers, and the certificate authority to trust.
pub(super) struct Servers {
    pub(super) http_port: u16,
    pub(super) https_port: u16,
    pub(super) untrusted_port: u16,
    /// The certificate of the authority behind the server on `https_port`.
    pub(super) authority: String,
}

type BoxError = Box<dyn Error + Send + Sync>;

impl Servers {
    /// Starts the servers. They run until `tasks` is dropped.
    pub(super) async fn start(tasks: &mut JoinSet<()>) -> Result<Servers, BoxError> {
        let authority = CertificateAuthority::new("nettrace demo CA")?;
        let stranger = CertificateAuthority::new("Somebody Else")?;
        let (https, https_port) = listen().await?;
        let (http, http_port) = listen().await?;
        let (untrusted, untrusted_port) = listen().await?;
        let redirect: Arc<str> = format!("https://{SHOP_HOST}:{https_port}/").into();
        tasks.spawn(serve(https, Some(authority.issue(&[SHOP_HOST, WWW_HOST])?), redirect.clone()));
        tasks.spawn(serve(untrusted, Some(stranger.issue(&[UNTRUSTED_HOST])?), redirect.clone()));
        tasks.spawn(serve(http, None, redirect));
        Ok(Servers { http_port, https_port, untrusted_port, authority: authority.pem })
    }
}

async fn listen() -> Result<(TcpListener, u16), BoxError> {
    let listener = TcpListener::bind((SERVER_IP, 0)).await?;
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, redirect: Arc<str>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let (tls, redirect) = (tls.clone(), redirect.clone());
        connections.spawn(async move {
            // The demo shows errors of a connection from the client's side.
            let _ = connection(stream, tls, redirect).await;
        });
    }
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, redirect: Arc<str>) -> Result<(), BoxError> {
    stream.set_nodelay(true)?;
    let server = auto::Builder::new(TokioExecutor::new());
    let service = service_fn(move |request| respond(request, redirect.clone()));
    match tls {
        Some(tls) => {
            // A delay like that of a distant server.
            sleep(Duration::from_millis(4)).await;
            let stream = tls.accept(stream).await?;
            server.serve_connection(TokioIo::new(stream), service).await
        }
        None => server.serve_connection(TokioIo::new(stream), service).await,
    }
}

async fn respond(
    request: Request<Incoming>,
    redirect: Arc<str>,
) -> Result<Response<UnsyncBoxBody<Bytes, Infallible>>, hyper::Error> {
    let path = request.uri().path().to_owned();
    let received = request.into_body().collect().await?.to_bytes().len();
    match path.as_str() {
        "/old" => {
            sleep(Duration::from_millis(5)).await;
            let mut response = Response::new(Empty::new().boxed_unsync());
            *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
            if let Ok(location) = HeaderValue::try_from(&*redirect) {
                response.headers_mut().insert(header::LOCATION, location);
            }
            Ok(response)
        }
        "/slow" => {
            sleep(Duration::from_secs(600)).await;
            Ok(Response::new(Empty::new().boxed_unsync()))
        }
        "/upload" => {
            sleep(Duration::from_millis(12)).await;
            Ok(Response::new(Full::from(format!("thanks for {received} bytes\n")).boxed_unsync()))
        }
        _ => {
            sleep(Duration::from_millis(15)).await;
            Ok(Response::new(pieces(4).boxed_unsync()))
        }
    }
}

/// Returns a body that arrives piece by piece.
pub(super) fn pieces(count: u8) -> impl http_body::Body<Data = Bytes, Error = Infallible> {
    StreamBody::new(stream::unfold(0, move |sent| async move {
        if sent == count {
            return None;
        }
        sleep(Duration::from_millis(3)).await;
        Some((Ok(Frame::data(Bytes::from_static(&[b'.'; 4096]))), sent + 1))
    }))
}

/// A certificate authority.
struct CertificateAuthority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl CertificateAuthority {
    fn new(name: &str) -> Result<Self, BoxError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(CertificateAuthority { issuer: Issuer::new(params, key), pem })
    }

    /// Returns an acceptor with a certificate for these names, for HTTP/2 and HTTP/1.1.
    fn issue(&self, names: &[&str]) -> Result<TlsAcceptor, BoxError> {
        let mut params =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
        params.distinguished_name = common_name(names.first().copied().unwrap_or_default());
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}
