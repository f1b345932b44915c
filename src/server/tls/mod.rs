//! TLS on accepted connections.

mod accept;
mod acceptor;
mod listener;
mod stream;
mod verifier;

pub use self::{
    accept::TraceTlsAccept, acceptor::TraceTlsAcceptor, listener::TlsListener, stream::TlsStream,
    verifier::TraceClientVerifier,
};
