//! Connections: a layer around any hyper connector, and a connector of our own that hides nothing.

#[cfg(feature = "resolve")]
mod attempt;
#[cfg(feature = "resolve")]
mod eyeballs;
mod io;
mod layer;
#[cfg(feature = "resolve")]
mod target;
#[cfg(feature = "resolve")]
mod tcp;

#[cfg(feature = "resolve")]
pub(crate) use self::attempt::Attempt;
#[cfg(feature = "reqwest")]
pub(crate) use self::layer::destination;
pub use self::{
    io::TracedIo,
    layer::{TraceConnect, TraceConnectFuture, TraceConnectLayer},
};
#[cfg(feature = "resolve")]
pub use self::{
    target::Target,
    tcp::{KeepAlive, TcpConnecting, TcpConnector},
};
#[cfg(feature = "resolve")]
pub use crate::error::{ConnectAttempt, ConnectError};
