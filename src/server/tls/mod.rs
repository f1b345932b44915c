//! TLS on accepted connections: the acceptor, the listener that uses it, and the streams.

mod accept;
mod acceptor;
mod listener;
mod stream;
mod verifier;

pub use self::{
    accept::TraceTlsAccept, acceptor::TraceTlsAcceptor, listener::TlsListener, stream::TlsStream,
    verifier::TraceClientVerifier,
};
