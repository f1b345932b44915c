//! The SOCKS5 handshake (RFC 1928), with user name and password (RFC 1929) if the proxy asks for them.

mod message;

use self::message::{AuthMethod, REPLY_HEAD_LEN, USER_PASS_ACCEPTED};
use super::{
    ProxyStream,
    handshake::{Handshake, Host, ProxyTarget},
};
use crate::{
    error::{ProxyError, ProxyErrorKind, classify},
    record::Text,
    sink::SocksRecorder,
};
use bytes::Bytes;
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Asks the proxy to connect to the target and returns the tunnel.
pub(super) async fn establish<IO>(io: IO, handshake: &Handshake<'_>) -> Result<ProxyStream<IO>, ProxyError>
where
    IO: Read + Write + Unpin,
{
    let target = handshake.target;
    let mut io = TokioIo::new(io);
    let recorder = SocksRecorder::begin(handshake.conn, || target_text(target));
    match handshake.with_timeout(exchange(&mut io, target, handshake.proxy.login())).await {
        Ok(()) => {
            recorder.established();
            // Exactly the proxy's messages were read, so there is nothing to pass on.
            Ok(ProxyStream::tunnel(io.into_inner(), Bytes::new()))
        }
        Err(kind) => {
            let error = handshake.error(kind);
            recorder.failed(|| classify::failure_detail(&error));
            Err(error)
        }
    }
}

/// Returns the target as the proxy is told it: an address if the name was looked up here.
fn target_text(target: &ProxyTarget) -> Text {
    match &target.host {
        Host::Name(_) => target.text.as_str().into(),
        Host::Address(ip) => std::net::SocketAddr::new(*ip, target.port).to_string().into(),
    }
}

async fn exchange<IO>(
    io: &mut IO,
    target: &ProxyTarget,
    login: Option<(&str, &str)>,
) -> Result<(), ProxyErrorKind>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let request = message::request(&target.host, target.port)?;
    send(io, message::greeting(login.is_some())).await?;
    match (AuthMethod::read(receive(io).await?)?, login) {
        (AuthMethod::None, _) => {}
        (AuthMethod::UserPass, Some((user, password))) => {
            send(io, &message::user_pass(user, password)?).await?;
            if receive::<{ USER_PASS_ACCEPTED.len() }>(io).await?[1] != USER_PASS_ACCEPTED[1] {
                return Err(ProxyErrorKind::SocksCredentials);
            }
        }
        _ => return Err(ProxyErrorKind::SocksMethod { had_credentials: login.is_some() }),
    }
    send(io, &request).await?;
    // What follows is the address that the proxy connects from, which is not needed.
    let mut rest = vec![0; message::reply_tail_len(receive::<REPLY_HEAD_LEN>(io).await?)?];
    io.read_exact(&mut rest).await.map(drop).map_err(describe_eof)
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
    io.read_exact(&mut message).await.map_err(describe_eof)?;
    Ok(message)
}

/// Says of an unexpected end that the proxy closed the connection.
fn describe_eof(error: io::Error) -> ProxyErrorKind {
    ProxyErrorKind::Io(match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            io::Error::new(io::ErrorKind::UnexpectedEof, "the proxy closed the connection in the handshake")
        }
        _ => error,
    })
}
