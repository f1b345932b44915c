//! The server: HTTP/1 and HTTP/2, TLS with HTTP/1, TLS with HTTP/2, and a nameserver, each on a port of its own. Where it
//! speaks HTTP/2, it has the health service of gRPC as well.

mod connection;
mod dns;
mod server_process;

pub use server_process::ServerProcess;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::{
    env,
    error::Error,
    fs,
    io::{self, Write},
    net::Ipv4Addr,
    process,
    sync::Arc,
};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_rustls::TlsAcceptor;
use tonic_health::pb::health_server::{Health, HealthServer};

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
    io::stdout().flush()?;

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
    let (_, health) = tonic_health::server::health_reporter();
    tokio::spawn(accept(http, None, health.clone()));
    tokio::spawn(accept(https, Some(tls(b"http/1.1")?), health.clone()));
    tokio::spawn(accept(h2, Some(tls(b"h2")?), health));
    tokio::spawn(dns::serve(dns));
    tokio::task::spawn_blocking(|| io::copy(&mut io::stdin(), &mut io::sink())).await??;
    Ok(fs::remove_file(cacert)?)
}

fn certificates() -> Result<(String, PrivateKeyDer<'static>, Vec<CertificateDer<'static>>), BoxError> {
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

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, health: HealthServer<impl Health>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, health) = (tls.clone(), health.clone());
        tokio::spawn(async move {
            // A client that closes its connection is not an error here.
            let _ = serve_one(stream, tls, health).await;
        });
    }
}

async fn serve_one(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    health: HealthServer<impl Health>,
) -> Result<(), crate::BoxError> {
    stream.set_nodelay(true)?;
    match tls {
        Some(tls) => connection::serve(tls.accept(stream).await?, health).await,
        None => connection::serve(stream, health).await,
    }
}
