//! The server: HTTP/1, TLS with HTTP/1, TLS with HTTP/2, and a nameserver, each on a port of its own.

use crate::args::Args;
use bytes::Bytes;
use hickory_proto::{
    op::Message,
    rr::{RData, Record, RecordType, rdata::A},
};
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use std::{
    collections::HashMap,
    convert::Infallible,
    env,
    error::Error,
    fs,
    io::{BufRead, BufReader, Write},
    net::Ipv4Addr,
    pin::Pin,
    process::{self, Command, Stdio},
    sync::Arc,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UdpSocket},
};
use tokio_rustls::TlsAcceptor;

type BoxError = Box<dyn Error>;

/// The name of the server. The nameserver has the same answer for every name.
const NAME: &str = "load.test";

/// Prints `NAME ADDRESS` lines and serves until its input ends.
#[tokio::main(flavor = "current_thread")]
pub async fn serve() -> Result<(), BoxError> {
    let listen = async || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let (http, https, h2) = (listen().await?, listen().await?, listen().await?);
    let dns = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let (authority, key, chain) = certificates()?;
    let cacert = env::temp_dir().join(format!("load-ca-{}.pem", process::id()));
    fs::write(&cacert, authority)?;

    println!("http http://{}", http.local_addr()?);
    println!("https https://{}", https.local_addr()?);
    println!("h2 https://{}", h2.local_addr()?);
    println!("dns {}", dns.local_addr()?);
    println!("cacert {}", cacert.display());
    std::io::stdout().flush()?;

    let tls = |alpn: &[u8]| -> Result<TlsAcceptor, BoxError> {
        // Named, because there is no default if two providers are compiled in.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain.clone(), key.clone_key())?;
        config.alpn_protocols = vec![alpn.to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    };
    tokio::spawn(accept(http, None));
    tokio::spawn(accept(https, Some(tls(b"http/1.1")?)));
    tokio::spawn(accept(h2, Some(tls(b"h2")?)));
    tokio::spawn(serve_dns(dns));
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await??;
    Ok(fs::remove_file(cacert)?)
}

fn certificates()
-> Result<(String, PrivateKeyDer<'static>, Vec<rustls::pki_types::CertificateDer<'static>>), BoxError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate()?;
    let ca = params.self_signed(&ca_key)?;
    let issuer = Issuer::new(params, ca_key);
    let key = KeyPair::generate()?;
    let names = vec![NAME.to_owned(), Ipv4Addr::LOCALHOST.to_string()];
    let leaf = CertificateParams::new(names)?.signed_by(&key, &issuer)?;
    Ok((ca.pem(), key.into(), vec![leaf.der().clone()]))
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>) {
    while let Ok((stream, _)) = listener.accept().await {
        let tls = tls.clone();
        tokio::spawn(async move {
            // A client that closes its connection is not an error here.
            let _ = serve_one(stream, tls).await;
        });
    }
}

async fn serve_one(stream: TcpStream, tls: Option<TlsAcceptor>) -> Result<(), Box<dyn Error + Send + Sync>> {
    stream.set_nodelay(true)?;
    match tls {
        Some(tls) => http(tls.accept(stream).await?).await,
        None => http(stream).await,
    }
}

async fn http<S>(stream: S) -> Result<(), Box<dyn Error + Send + Sync>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request: Request<Incoming>| std::future::ready(answer(&request)));
    auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await
}

fn answer(request: &Request<Incoming>) -> Result<Response<Zeros>, Infallible> {
    let length = match request.uri().path() {
        "/1k" => Some(1 << 10),
        "/big" => request.uri().query().and_then(|query| query.strip_prefix("n=")?.parse().ok()),
        _ => None,
    };
    let mut response = Response::new(Zeros(length.unwrap_or(0)));
    if length.is_none() {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    Ok(response)
}

/// A body of zeros, with the number of bytes that are left.
struct Zeros(u64);

impl Body for Zeros {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        const ZEROS: Bytes = Bytes::from_static(&[0; 256 << 10]);
        if self.0 == 0 {
            return Poll::Ready(None);
        }
        let part = self.0.min(ZEROS.len() as u64);
        self.0 -= part;
        Poll::Ready(Some(Ok(Frame::data(ZEROS.slice(..part as usize)))))
    }

    fn is_end_stream(&self) -> bool {
        self.0 == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0)
    }
}

/// Answers every DNS query for an IPv4 address with the loopback address.
async fn serve_dns(socket: UdpSocket) {
    let mut packet = [0; 1500];
    while let Ok((len, client)) = socket.recv_from(&mut packet).await {
        let Ok(query) = Message::from_vec(&packet[..len]) else { continue };
        let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
        reply.metadata.recursion_available = true;
        reply.add_queries(query.queries.iter().cloned());
        if let Some(question) = query.queries.first().filter(|query| query.query_type() == RecordType::A) {
            reply.add_answer(Record::from_rdata(
                question.name().clone(),
                60,
                RData::A(A(Ipv4Addr::LOCALHOST)),
            ));
        }
        if let Ok(reply) = reply.to_vec() {
            let _ = socket.send_to(&reply, client).await;
        }
    }
}

/// The server in a process of its own, which ends when the value is dropped.
pub struct ServerProcess(process::Child);

impl ServerProcess {
    /// Starts the server, and fills in its addresses in `args`.
    pub fn start(args: &mut Args) -> Result<Self, BoxError> {
        let mut child = Command::new(env::current_exe()?)
            .arg("--serve")
            .args(args.unpinned.then_some("--unpinned"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines().take(5);
        let child = ServerProcess(child);
        let mut printed = HashMap::new();
        for line in lines {
            let line = line?;
            let (name, address) = line.split_once(' ').ok_or("the server printed an unexpected line")?;
            printed.insert(name.to_owned(), address.to_owned());
        }
        let get =
            |name: &str| printed.get(name).ok_or_else(|| format!("the server did not print its {name}"));
        args.http2 |= args.url == "h2";
        args.url = format!("{}{}", get(&args.url)?, args.path);
        args.cacert = Some(get("cacert")?.into());
        if args.names {
            args.url = args.url.replace(&Ipv4Addr::LOCALHOST.to_string(), NAME);
            args.nameserver = Some(get("dns")?.parse()?);
        }
        Ok(child)
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // The server exits when its stdin is closed.
        let _ = self.0.wait();
    }
}
