//! A service with three broken dependencies, and what a trace says about them.
//!
//! ```text
//! cargo run --example incident -- [--json FILE]
//! ```
//!
//! One dependency has a nameserver that does not answer, one resets every fifth connection, and the certificate of one
//! has expired. All of them are servers of the example's own on loopback. The summary and the causes fit a screen;
//! `nettrace show FILE --summary` prints the same.

mod common;

use common::{Arguments, greet};
use hickory_proto::{
    op::Message,
    rr::{RData, Record, RecordType, rdata},
};
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use nettrace::{Client, TraceSink, client::ClientBuilder, explain, resolve::StubResolver, tls::Roots, view};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use std::{
    error::Error,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
};
use tokio_rustls::TlsAcceptor;

type BoxError = Box<dyn Error + Send + Sync>;

/// How many requests are made to each dependency.
const REQUESTS: usize = 30;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let arguments = Arguments::read()?;
    let sink = TraceSink::new();
    let (nameserver, silent) = (serve_names().await?, UdpSocket::bind("127.0.0.1:0").await?);

    let slow_names = StubResolver::builder(&sink)
        .nameservers([silent.local_addr()?, nameserver])
        .timeout(Duration::from_millis(150))
        .build()?;
    let client = |builder: ClientBuilder| builder.keep_alive(false).timeout(Duration::from_secs(5));
    let shop = client(Client::builder(&sink)).resolver(slow_names).build()?;
    let stock = client(Client::builder(&sink)).nameservers([nameserver]).build()?;
    let (expired, roots) = serve_expired().await?;
    let pay = client(Client::builder(&sink)).nameservers([nameserver]).roots(roots).build()?;

    let dependencies = [
        (&shop, format!("http://shop.test:{}/", serve(greeted).await?.port())),
        (&stock, format!("http://stock.test:{}/", serve(reset_every_fifth).await?.port())),
        (&pay, format!("https://pay.test:{}/", expired.port())),
    ];
    for (client, url) in &dependencies {
        for _ in 0..REQUESTS {
            if let Ok(response) = client.get(url).await {
                response.into_body().bytes().await?;
            }
        }
        client.close().await;
    }

    let trace = sink.snapshot("a service with three broken dependencies");
    println!("{}\n{}", view::summary(&trace), explain::explain(&trace));
    Ok(arguments.write(&trace).map_err(|error| error.to_string())?)
}

/// Starts a server that passes each connection to `answer`, with its number.
async fn serve<F>(answer: impl Fn(TcpStream, usize) -> F + Send + 'static) -> io::Result<SocketAddr>
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    tokio::spawn(async move {
        for number in 1.. {
            let Ok((stream, _)) = listener.accept().await else { break };
            tokio::spawn(answer(stream, number));
        }
    });
    Ok(addr)
}

async fn greeted(stream: TcpStream, _: usize) -> io::Result<()> {
    let server = auto::Builder::new(TokioExecutor::new());
    server.serve_connection(TokioIo::new(stream), service_fn(greet)).await.map_err(io::Error::other)
}

async fn reset_every_fifth(mut stream: TcpStream, number: usize) -> io::Result<()> {
    if !number.is_multiple_of(5) {
        return greeted(stream, number).await;
    }
    stream.read_u8().await?;
    stream.set_zero_linger()?; // the close sends a reset
    stream.flush().await
}

/// Starts a server whose certificate has expired. Returns its address, and roots that trust its issuer.
async fn serve_expired() -> Result<(SocketAddr, Roots), BoxError> {
    let mut params = CertificateParams::new(["pay.test".to_owned()])?;
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let roots = Roots::from_pem(certificate.pem())?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let addr = serve(move |stream, _| {
        let accepting = acceptor.accept(stream);
        async move { accepting.await.map(drop) }
    });
    Ok((addr.await?, roots))
}

/// Starts a nameserver that knows every name, at 127.0.0.1.
async fn serve_names() -> io::Result<SocketAddr> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    let addr = socket.local_addr()?;
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let Ok(query) = Message::from_vec(&buffer[..length]) else { continue };
            let question = query.queries.first().cloned();
            let mut reply = query.into_response();
            reply.metadata.recursion_available = true;
            if let Some(question) = question.filter(|question| question.query_type() == RecordType::A) {
                let address = RData::A(rdata::A(Ipv4Addr::LOCALHOST));
                reply.add_answer(Record::from_rdata(question.name().clone(), 60, address));
            }
            let Ok(reply) = reply.to_vec() else { continue };
            let _ = socket.send_to(&reply, from).await;
        }
    });
    Ok(addr)
}
