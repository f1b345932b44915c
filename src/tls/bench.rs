//! For benchmarks: records a handshake without performing one.

use super::{
    certificate::ChainCache, handshake_observation::HandshakeObservation, handshake_recorder::negotiated,
};
use crate::{bench_support::Conn, sink::TraceSink};
use rustls::ClientConnection;
use std::sync::Arc;

/// A handshake that was performed before.
#[derive(Debug)]
pub struct Handshake {
    done: ClientConnection,
    chains: Arc<ChainCache>,
}

impl Handshake {
    /// Takes a connection whose handshake is done.
    pub fn new(done: ClientConnection) -> Self {
        Handshake { done, chains: Arc::new(ChainCache::new()) }
    }

    /// Records a tunnel over `conn` from its handshake to its close.
    pub fn record(&self, sink: &TraceSink, conn: &Conn) {
        let mut tunnel = sink.tls(conn.conn_ref(), || "www.example.com".into());
        if tunnel.is_on() {
            let observation = Arc::new(HandshakeObservation::new(self.chains.clone()));
            tunnel.established(negotiated(&self.done, &observation));
        }
    }
}
