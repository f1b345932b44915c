//! Dials of streams that no connector of hyper makes.

use super::TracedIo;
use crate::{
    error::classify,
    sink::{Endpoint, TraceSink, Transport},
};
use std::{error::Error, future::poll_fn, net::SocketAddr, pin::pin};

/// The addresses of both ends of a stream, as far as they are known. See [`TracedIo::dial`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamAddrs {
    /// The address of this side.
    pub local: Option<SocketAddr>,
    /// The address of the other side.
    pub peer: Option<SocketAddr>,
}

impl<T> TracedIo<T> {
    /// Records a dial that `connect` makes, and the connection that it establishes.
    ///
    /// Works with any stream on any runtime, for example those of async-net; it is recorded as a TCP connection. For a
    /// hyper connector use [`TraceConnectLayer`](super::TraceConnectLayer). On tokio prefer `TcpConnector::connect`,
    /// which also records names and attempts.
    ///
    /// The dial is recorded with `destination`, usually `"host:port"`, without user info. It begins with the first
    /// poll.
    ///
    /// ```
    /// use nettrace::{TraceSink, connect::{StreamAddrs, TracedIo}};
    /// # mod smol { pub use tokio::net; }
    /// use smol::net::TcpStream;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    /// # let address = server.local_addr()?.to_string();
    /// # let address = address.as_str();
    /// let sink = TraceSink::new();
    /// let stream = TracedIo::dial(&sink, address, TcpStream::connect(address), |stream| StreamAddrs {
    ///     local: stream.local_addr().ok(),
    ///     peer: stream.peer_addr().ok(),
    /// });
    /// let stream = stream.await?;
    ///
    /// assert_eq!(sink.snapshot("").tcp_conns[0].addr_tuple.src_port, stream.get_ref().local_addr()?.port());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the error of `connect`, which the record of the dial has as well.
    ///
    /// # Cancel safety
    ///
    /// A dial whose future is dropped ends as [`Cancelled`](crate::record::EndReason::Cancelled).
    pub async fn dial<E: Error + 'static>(
        sink: &TraceSink,
        destination: &str,
        connect: impl Future<Output = Result<T, E>>,
        addrs: impl FnOnce(&T) -> StreamAddrs,
    ) -> Result<Self, E> {
        let without_user_info = destination.rsplit_once('@').map_or(destination, |(_, rest)| rest);
        let dial = sink.dial(|| without_user_info.into());
        dial.before_foreign_connect();
        let mut connect = pin!(connect);
        match poll_fn(|cx| dial.dial().scope(|| connect.as_mut().poll(cx))).await {
            Ok(io) => {
                let endpoint = || {
                    let StreamAddrs { local, peer } = addrs(&io);
                    Endpoint { local, remote: peer, path: None }
                };
                let conn = dial.adopt(Transport::Tcp, endpoint, false);
                dial.established(conn.conn_ref());
                conn.foreign_connected();
                Ok(TracedIo::new(io, conn))
            }
            Err(error) => {
                dial.failed(|| classify::failure_detail(&error));
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Failure, record::EndReason};
    use futures_util::FutureExt as _;
    use std::io;

    fn dial(
        sink: &TraceSink,
        connect: impl Future<Output = io::Result<()>>,
    ) -> Option<io::Result<TracedIo<()>>> {
        TracedIo::dial(sink, "joe:secret@db.test:1", connect, |_| StreamAddrs::default()).now_or_never()
    }

    #[tokio::test]
    async fn a_dial_ends_as_its_future_does() {
        let sink = TraceSink::new();
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let error = dial(&sink, std::future::ready(Err(refused))).expect("a result").expect_err("an error");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(dial(&sink, std::future::pending()).is_none());
        let stream = dial(&sink, std::future::ready(Ok(()))).expect("a result").expect("a stream");

        let trace = sink.snapshot("");
        assert!(trace.dials.iter().all(|dial| dial.dst_address.as_str() == "db.test:1"));
        let [failed, dropped, made] = &trace.dials[..] else { panic!("three dials: {:?}", trace.dials) };
        assert_eq!(failed.failure, Some(Failure::ConnectionRefused));
        assert_eq!(dropped.end_reason, Some(EndReason::Cancelled));
        assert_eq!(made.end_reason, Some(EndReason::Closed));
        assert_eq!(made.established_conn, stream.conn_id());
    }
}
