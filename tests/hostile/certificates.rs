//! Certificates with 20,000 names each, a different one in each handshake.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use nettrace::{
    NetTrace, TraceSink,
    record::PeerCert,
    server::{TraceClientVerifier, TraceListener, TraceTlsAcceptor},
    tls::{Roots, TraceTlsLayer},
};
use rcgen::{CertificateParams, KeyPair, SerialNumber};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SignatureScheme,
    client::ResolvesClientCert,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName},
    server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tower::{Layer as _, ServiceExt as _, service_fn};

use crate::assert_bounded;
use test_support::{
    background::Background,
    lab::Ns,
    pki::{Authority, provider},
};

const NAMES: usize = 20_000;
/// Fewer in unoptimised builds, which would take too long.
const HANDSHAKES: usize = if cfg!(debug_assertions) { 120 } else { 300 };

/// Presents a new certificate in each handshake. They differ in the serial number, and their signatures are invalid.
#[derive(Debug)]
struct FreshCerts {
    der: Vec<u8>,
    serial_offset: usize,
    key: Arc<CertifiedKey>,
    presented: AtomicU64,
}

impl FreshCerts {
    fn new() -> Self {
        const SERIAL: [u8; 8] = *b"nettrace";
        let mut params = CertificateParams::new(["a".to_owned()]).unwrap();
        let names = std::mem::take(&mut params.subject_alt_names);
        params.subject_alt_names = names.iter().cycle().take(NAMES).cloned().collect();
        params.serial_number = Some(SerialNumber::from_slice(&SERIAL));
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().to_vec();
        let serial_offset = der.windows(8).position(|window| window == SERIAL).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let key = provider().key_provider.load_private_key(key).unwrap();
        FreshCerts {
            key: Arc::new(CertifiedKey::new(vec![], key)),
            der,
            serial_offset,
            presented: AtomicU64::new(1),
        }
    }

    fn next(&self) -> Arc<CertifiedKey> {
        let mut der = self.der.clone();
        let serial = &mut der[self.serial_offset + 1..][..7];
        serial.copy_from_slice(&self.presented.fetch_add(1, Relaxed).to_be_bytes()[1..]);
        Arc::new(CertifiedKey::new(vec![CertificateDer::from(der)], self.key.key.clone()))
    }
}

impl ResolvesServerCert for FreshCerts {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.next())
    }
}

impl ResolvesClientCert for FreshCerts {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.next())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Starts a TLS server on a thread of its own, which ends when the returned guard is dropped.
fn serve() -> (SocketAddr, Background) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let background = Background::start(&Ns::here(), move || async move {
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(rustls::ALL_VERSIONS)
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(FreshCerts::new()));
        let (acceptor, listener) =
            (TlsAcceptor::from(Arc::new(config)), TcpListener::from_std(listener).unwrap());
        while let Ok((stream, _)) = listener.accept().await {
            // The handshake fails where the client rejects the certificate.
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = stream.read_u8().await;
            }
        }
    });
    (addr, background)
}

#[track_caller]
fn assert_cut(trace: &NetTrace, handshakes: usize) {
    assert!(trace.tls_tunnels.len() == handshakes);
    for tunnel in &trace.tls_tunnels {
        let [PeerCert { sans, sha256, truncated_fields, .. }] = &*tunnel.peer_certs else {
            panic!("not one certificate")
        };
        assert_eq!((sans.len(), truncated_fields.get("sans")), (100, Some(NAMES as u64)));
        assert_eq!(sha256.len(), 64);
    }
    let fingerprints = trace.tls_tunnels.iter().map(|tunnel| &tunnel.peer_certs[0].sha256);
    let distinct = fingerprints.collect::<std::collections::HashSet<_>>().len();
    assert_eq!(distinct, trace.tls_tunnels.len());
}

#[test]
fn names_of_server_certificates_are_truncated() {
    assert_bounded(
        TraceSink::new(),
        async |sink| {
            let (addr, _server) = serve();
            let authority = Authority::new("another");
            let builders = [
                TraceTlsLayer::builder(sink).roots(Roots::from_pem(authority.pem()).unwrap()),
                TraceTlsLayer::builder(sink).danger_accept_invalid_certs(),
            ];
            for (builder, is_trusted) in builders.into_iter().zip([false, true]) {
                let layer = builder.build();
                for _ in 0..HANDSHAKES {
                    let tcp = service_fn(async |_: http::Uri| {
                        TcpStream::connect(addr).await.map(hyper_util::rt::TokioIo::new)
                    });
                    let connected = layer.layer(tcp).oneshot("https://web.test/".parse().unwrap()).await;
                    assert_eq!(connected.is_ok(), is_trusted);
                }
            }
        },
        |trace| {
            assert_cut(trace, 2 * HANDSHAKES);
        },
    );
}

#[test]
fn names_of_rejected_client_certificates_are_truncated() {
    assert_bounded(
        TraceSink::new(),
        async |sink| {
            let authority = Authority::new("nettrace test CA");
            let leaf = authority.issue(&["web.test"]);
            let verifier =
                WebPkiClientVerifier::builder_with_provider(authority.store(), provider()).build().unwrap();
            let config = ServerConfig::builder_with_provider(provider())
                .with_protocol_versions(rustls::ALL_VERSIONS)
                .unwrap()
                .with_client_cert_verifier(Arc::new(TraceClientVerifier::new(verifier)))
                .with_single_cert(leaf.chain.clone(), leaf.key_der())
                .unwrap();
            let listener = TraceListener::new(sink, TcpListener::bind("127.0.0.1:0").await.unwrap());
            let addr = listener.local_addr().unwrap();
            let acceptor = TraceTlsAcceptor::new(sink, Arc::new(config));
            let mut roots = RootCertStore::empty();
            roots.add(authority.der()).unwrap();
            let client = ClientConfig::builder_with_provider(provider())
                .with_protocol_versions(rustls::ALL_VERSIONS)
                .unwrap()
                .with_root_certificates(roots)
                .with_client_cert_resolver(Arc::new(FreshCerts::new()));
            let client = TlsConnector::from(Arc::new(client));
            for _ in 0..HANDSHAKES {
                let connect = async {
                    let stream = TcpStream::connect(addr).await.unwrap();
                    let name = ServerName::try_from("web.test").unwrap();
                    let mut stream = client.connect(name, stream).await?;
                    stream.read_u8().await
                };
                let accept = async {
                    let (stream, _) = listener.accept().await.unwrap();
                    acceptor.accept(stream).await
                };
                let (connected, accepted) = tokio::join!(connect, accept);
                assert!(connected.is_err() && accepted.is_err());
            }
        },
        |trace| {
            assert_cut(trace, HANDSHAKES);
        },
    );
}
