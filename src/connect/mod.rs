//! Connections: a layer around any hyper connector, and a connector of our own that hides nothing.

#[cfg(feature = "resolve")]
mod happy_eyeballs;
mod layer;
#[cfg(feature = "resolve")]
mod target;
#[cfg(feature = "resolve")]
mod tcp_connector;
mod traced_io;

#[cfg(feature = "reqwest")]
pub(crate) use self::layer::destination;
pub use self::{
    layer::{TraceConnect, TraceConnectFuture, TraceConnectLayer},
    traced_io::TracedIo,
};
#[cfg(feature = "resolve")]
pub use self::{
    target::Target,
    tcp_connector::{KeepAlive, TcpConnectFuture, TcpConnector},
};
#[cfg(feature = "resolve")]
pub use crate::error::{ConnectAttempt, ConnectError};
