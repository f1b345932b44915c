//! The handshake of SOCKS5 (RFC 1928), with user name and password (RFC 1929) where the proxy wants them.

mod message;

use self::message::{Method, REPLY, USER_PASS_DONE};
use super::{
    Proxy, ProxyStream,
    establish::{Asked, Host, within},
    layer::Shared,
};
use crate::{
    error::{ProxyError, ProxyErrorKind, classify},
    record::Text,
    sink::{ConnRef, SocksRecorder},
};
use bytes::Bytes;
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Asks for the target, and gives the stream that leads there.
pub(super) async fn establish<IO>(
    io: IO,
    conn: Option<&ConnRef>,
    proxy: &Proxy,
    asked: &Asked,
    shared: &Shared,
) -> Result<ProxyStream<IO>, ProxyError>
where
    IO: Read + Write + Unpin,
{
    let mut io = TokioIo::new(io);
    let recorder = SocksRecorder::begin(conn, || target(asked));
    match within(shared.handshake_timeout, handshake(&mut io, asked, proxy.login())).await {
        Ok(()) => {
            recorder.established();
            // No more was read than the proxy's own words.
            Ok(ProxyStream::tunnel(io.into_inner(), Bytes::new()))
        }
        Err(kind) => {
            let error = proxy.error(&asked.text, kind);
            recorder.failed(|| classify::failure_detail(&error));
            Err(error)
        }
    }
}

/// As the proxy is told it.
fn target(asked: &Asked) -> Text {
    match &asked.host {
        Host::Name(_) => asked.text.as_str().into(),
        Host::Address(ip) => std::net::SocketAddr::new(*ip, asked.port).to_string().into(),
    }
}

async fn handshake<IO>(io: &mut IO, asked: &Asked, login: Option<(&str, &str)>) -> Result<(), ProxyErrorKind>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let request = message::request(&asked.host, asked.port)?;
    send(io, message::greeting(login.is_some())).await?;
    match (Method::read(receive(io).await?)?, login) {
        (Method::None, _) => {}
        (Method::UserPass, Some((user, password))) => {
            send(io, &message::user_pass(user, password)?).await?;
            if receive::<{ USER_PASS_DONE.len() }>(io).await?[1] != USER_PASS_DONE[1] {
                return Err(ProxyErrorKind::SocksCredentials);
            }
        }
        _ => return Err(ProxyErrorKind::SocksMethod { had_credentials: login.is_some() }),
    }
    send(io, &request).await?;
    // The address that the proxy connects from, which follows, is of no interest.
    let mut rest = vec![0; message::rest_of_reply(receive::<REPLY>(io).await?)?];
    io.read_exact(&mut rest).await.map(drop).map_err(ended)
}

async fn send<IO: AsyncWrite + Unpin>(io: &mut IO, message: &[u8]) -> Result<(), ProxyErrorKind> {
    let sent = async {
        io.write_all(message).await?;
        io.flush().await
    };
    sent.await.map_err(ProxyErrorKind::Io)
}

async fn receive<const N: usize>(io: &mut (impl AsyncRead + Unpin)) -> Result<[u8; N], ProxyErrorKind> {
    let mut message = [0; N];
    io.read_exact(&mut message).await.map_err(ended)?;
    Ok(message)
}

/// In words that say whose end it was.
fn ended(error: io::Error) -> ProxyErrorKind {
    ProxyErrorKind::Io(match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            io::Error::new(io::ErrorKind::UnexpectedEof, "the proxy closed the connection in the handshake")
        }
        _ => error,
    })
}
