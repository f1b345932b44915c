//! Makes a connection to a nameserver: looks up its name if it has one, connects, and performs the TLS handshake.

use std::{
    future::ready,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep_until, timeout_at},
};
use tower_layer::Layer;

use futures_util::future::BoxFuture;

use super::failure::SessionFailure;
use crate::{
    error::{BoxError, FailureDetail, ResolveError, ResolveErrorKind as Kind, TlsError},
    nameserver::{EncryptedNameserver, NameserverHost},
    net::{FailedAttempt, SocketOptions, TcpAttempt, TracedIo},
    resolve::stub::options::{SkipNameserver, source_for},
    sink::{ConnRecorder, ConnRef, DialRecorder, DialRef},
    tls::{MaybeTlsStream, TraceTlsLayer},
};

/// The maximum number of addresses of a name that are tried.
const MAX_ADDRESSES: usize = 4;

/// Looks up the name of a nameserver, in plain DNS, for a dial.
pub(super) type Bootstrap =
    Arc<dyn Fn(String, DialRef) -> BoxFuture<'static, Result<Vec<IpAddr>, ResolveError>> + Send + Sync>;

/// Everything that is needed to make a connection.
pub(super) struct Dial {
    pub(super) server: Arc<EncryptedNameserver>,
    pub(super) tls: TraceTlsLayer,
    pub(super) bootstrap: Bootstrap,
    pub(super) skip: Option<SkipNameserver>,
    pub(super) source_ip: Option<IpAddr>,
    pub(super) deadline: Instant,
}

/// A connection after the TLS handshake.
pub(super) struct EstablishedStream {
    pub(super) io: TlsIo,
    /// `None` if it is not traced.
    pub(super) conn: Option<ConnRef>,
}

pub(super) type TlsIo = MaybeTlsStream<TokioIo<TracedIo<TcpStream>>>;

impl Dial {
    pub(super) async fn run(self, recorder: DialRecorder) -> Result<EstablishedStream, SessionFailure> {
        let (stream, conn) = match self.connect(&recorder).await {
            Ok(connected) => connected,
            Err(failure) => {
                let kind = Kind::from(failure.clone());
                recorder.failed(|| FailureDetail::new(kind.failure(), kind.to_string()));
                return Err(failure);
            }
        };
        recorder.established(conn.conn_ref());
        self.handshake(stream, conn).await
    }

    async fn connect(&self, recorder: &DialRecorder) -> Result<(TcpStream, ConnRecorder), SessionFailure> {
        let addrs = self.addresses(recorder).await?;
        let mut last_failure = SessionFailure::Timeout;
        for (index, addr) in addrs.iter().enumerate() {
            // An address that does not answer leaves time for the others.
            let now = Instant::now();
            let share = self.deadline.saturating_duration_since(now) / (addrs.len() - index) as u32;
            match self.attempt(*addr, now + share, recorder).await {
                Ok(connected) => return Ok(connected),
                Err(FailedAttempt { timed_out: true, .. }) => last_failure = SessionFailure::Timeout,
                Err(failed) => last_failure = SessionFailure::Io(Arc::new(failed.error)),
            }
        }
        Err(last_failure)
    }

    async fn attempt(
        &self,
        addr: SocketAddr,
        deadline: Instant,
        recorder: &DialRecorder,
    ) -> Result<(TcpStream, ConnRecorder), FailedAttempt> {
        let options = SocketOptions {
            source_ip: source_for(self.source_ip, addr),
            nodelay: true,
            ..SocketOptions::default()
        };
        let timeout = Box::pin(sleep_until(deadline));
        TcpAttempt::start(addr, recorder.attempt(addr), Some(timeout), &options)?.await
    }

    /// Returns the addresses to try, at least one.
    async fn addresses(&self, recorder: &DialRecorder) -> Result<Vec<SocketAddr>, SessionFailure> {
        let name = match &self.server.host {
            // Whether to skip it has been asked before.
            NameserverHost::Addr(ip) => return Ok(vec![SocketAddr::new(*ip, self.server.port)]),
            NameserverHost::Name(name) => name.clone(),
        };
        let looked_up = timeout_at(self.deadline, (self.bootstrap)(name, recorder.dial().clone())).await;
        let found = looked_up.map_err(|_| SessionFailure::Timeout)?;
        let found = found.map_err(|error| SessionFailure::Unresolved(Arc::new(error)))?;
        let mut skipped = Vec::new();
        let mut addrs = Vec::new();
        for addr in found.into_iter().map(|ip| SocketAddr::new(ip, self.server.port)) {
            match self.skip.as_ref().and_then(|skip| skip.call(addr)) {
                Some(reason) => {
                    recorder.dial().skipped_nameserver(addr, &reason);
                    skipped.push((addr, reason));
                }
                None => addrs.push(addr),
            }
        }
        addrs.truncate(MAX_ADDRESSES);
        if addrs.is_empty() { Err(SessionFailure::Skipped(skipped)) } else { Ok(addrs) }
    }

    async fn handshake(
        &self,
        stream: TcpStream,
        recorder: ConnRecorder,
    ) -> Result<EstablishedStream, SessionFailure> {
        let conn = recorder.conn_ref().cloned();
        let io = TokioIo::new(TracedIo::tcp(stream, recorder));
        let limit = self.deadline.saturating_duration_since(Instant::now());
        let uri = self.uri().map_err(|error| SessionFailure::Tls(Arc::new(error)))?;
        let mut tls = self.tls.with_handshake_timeout(limit).layer(());
        let connected = tls.connect_by(uri, |(), _| ready(Ok::<_, BoxError>(io)));
        match connected.await {
            Ok(io) => Ok(EstablishedStream { io, conn }),
            Err(error) => Err(match error.downcast::<TlsError>() {
                Ok(error) => SessionFailure::Tls(error.into()),
                Err(error) => SessionFailure::Io(Arc::new(std::io::Error::other(error))),
            }),
        }
    }

    /// Returns a URI whose host is the name that the certificate must be valid for.
    fn uri(&self) -> Result<Uri, TlsError> {
        let name = &self.server.server_name;
        let is_ipv6 = name.parse::<std::net::Ipv6Addr>().is_ok();
        let host = if is_ipv6 { format!("[{name}]") } else { name.clone() };
        Uri::builder().scheme("https").authority(host).path_and_query("/").build().map_err(|error| {
            TlsError::config(format!("{name:?} is no name of a TLS server"), Some(Arc::new(error)))
        })
    }
}
