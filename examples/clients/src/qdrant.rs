//! qdrant-client: it takes an address alone, and speaks gRPC.
//!
//! The trace has names, attempts, connections, and each call as a request with its `grpcStatus`, read from the bytes
//! that the relay passes on.

use nettrace::{TraceSink, relay::Relay};
use qdrant_client::{Qdrant, QdrantError};
use std::io;

/// Starts a relay to the server at `target`, such as `"qdrant.internal:6334"`. Its connections and the calls over them
/// are recorded into `sink`.
///
/// # Errors
///
/// Returns the errors of [`RelayBuilder::start`](nettrace::relay::RelayBuilder::start).
pub async fn relay(sink: &TraceSink, target: &str) -> io::Result<Relay> {
    Relay::builder(sink, target).http_from_wire(true).start().await
}

/// Returns a client that connects through the relay, which must live as long as the client.
///
/// Over TLS the relay passes ciphertext, whose requests cannot be read.
///
/// # Errors
///
/// Returns the errors of the client's builder.
pub fn client(relay: &Relay) -> Result<Qdrant, QdrantError> {
    // The check would make calls of its own, and block this thread for it.
    Qdrant::from_url(&format!("http://{}", relay.addr())).skip_compatibility_check().build()
}
