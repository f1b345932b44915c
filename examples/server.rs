//! Traces both ends of an exchange: a hyper server with TLS, and the prebuilt client.
//!
//! ```text
//! cargo run --example server --features server -- [--json FILE]
//! ```
//!
//! Each end records into a sink of its own, and the two traces are compared. The file gets the trace of the server.

mod common;

use common::Arguments;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Body, body::Bytes, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::{conn::auto, graceful::GracefulShutdown},
};
use nettrace::{
    Client, NetTrace, TraceSink,
    server::{TraceListener, TraceServerLayer, TraceTlsAcceptor},
    tls::Roots,
    view,
};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use std::{error::Error, sync::Arc};
use tokio::{net::TcpListener, sync::oneshot};
use tower::Layer;

type BoxError = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let arguments = Arguments::read()?;
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let [server_sink, client_sink] = [TraceSink::new(), TraceSink::new()];

    let listener = TraceListener::new(&server_sink, TcpListener::bind("127.0.0.1:0").await?); // <- around the listener
    let port = listener.local_addr()?.port();
    let (stop, stopped) = oneshot::channel();
    let config = Arc::new(config(&certificate)?);
    let server = tokio::spawn(serve(server_sink.clone(), listener, config, stopped));

    let roots = Roots::from_pem(certificate.cert.pem())?;
    let client = Client::builder(&client_sink).roots(roots).build()?;
    for (path, body) in [("/a", "hello"), ("/b", "and goodbye")] {
        let answer = client.post(format!("https://localhost:{port}{path}"), body).await?;
        println!("{}", String::from_utf8_lossy(&answer.into_body().bytes().await?));
    }
    client.close().await;
    drop(stop);
    server.await??;

    let [server, client] = [server_sink.snapshot("the server"), client_sink.snapshot("the client")];
    print!("{}\n{}\n", view::waterfall(&server), view::waterfall(&client));
    compare(&client, &server);
    arguments.write(&server).map_err(|error| error.to_string().into())
}

/// Serves until `stopped` resolves and the connections have ended.
async fn serve(
    sink: TraceSink,
    listener: TraceListener<TcpListener>,
    config: Arc<ServerConfig>,
    mut stopped: oneshot::Receiver<()>,
) -> Result<(), BoxError> {
    let mut listener = listener.tls(TraceTlsAcceptor::new(&sink, config)); // <- instead of tokio-rustls' acceptor
    let requests = TraceServerLayer::new(&sink);
    let connections = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = &mut stopped => break,
        };
        let Ok((io, _)) = accepted else { continue }; // for instance because no descriptor is left
        io.get_ref().0.get_ref().set_nodelay(true)?; // without it the traces show the delay of Nagle's algorithm
        let service = requests.clone().conn(io.conn_ref()).layer(service_fn(echo)); // <- around the service
        let server = auto::Builder::new(TokioExecutor::new());
        let connection = server.serve_connection_with_upgrades(TokioIo::new(io), service).into_owned();
        tokio::spawn(connections.watch(connection));
    }
    connections.shutdown().await;
    Ok(())
}

async fn echo<B: Body>(request: Request<B>) -> Result<Response<Full<Bytes>>, B::Error> {
    Ok(Response::new(request.into_body().collect().await?.to_bytes().into()))
}

/// Compares what the two ends recorded. A connection has the same addresses at both ends, reversed.
fn compare(client: &NetTrace, server: &NetTrace) {
    for conn in client.tcp_conns.iter().filter(|conn| conn.connected) {
        let there = server.tcp_conns.iter().find(|there| there.addr_tuple == conn.addr_tuple.reversed());
        let Some(there) = there else { continue };
        println!("{} of the client is {} of the server:", conn.trace_id, there.trace_id);
        println!("  {} bytes sent, {} received there", conn.total_sent_bytes, there.total_recv_bytes);
        println!("  {} bytes received, {} sent there", conn.total_recv_bytes, there.total_sent_bytes);
        let tunnel = |trace: &NetTrace, conn: &nettrace::TraceId| {
            let tunnel = trace.tls_tunnels.iter().find(|tunnel| tunnel.tcp_conn == *conn);
            tunnel.map(|tunnel| {
                format!("{} {:#06x} {}", tunnel.tls_version, tunnel.cipher_suite, tunnel.negotiated_proto)
            })
        };
        let [here, there] = [tunnel(client, &conn.trace_id), tunnel(server, &there.trace_id)];
        println!("  {} here, {} there", here.unwrap_or_default(), there.unwrap_or_default());
    }
}

fn config(certificate: &rcgen::CertifiedKey<rcgen::KeyPair>) -> Result<ServerConfig, BoxError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(certificate.signing_key.serialize_der())?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.cert.der().clone()], key)?;
    config.alpn_protocols = vec![b"h2".into(), b"http/1.1".into()];
    Ok(config)
}
