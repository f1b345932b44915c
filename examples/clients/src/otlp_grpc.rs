//! OTLP over gRPC: the exporters of opentelemetry-otlp take a channel of tonic.
//!
//! The trace has names, attempts, connections, and each export as a request with its `grpcStatus`. The requests are
//! read from the bytes, because the channel is of a fixed type.

use nettrace::{TraceSink, connect::TcpConnector, tls::TraceTlsLayer, wire::TraceWireLayer};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithTonicConfig};
use tonic::transport::Endpoint;
use tower::Layer;

/// Returns an exporter of spans to an `http` endpoint, whose calls are recorded into `sink`. Those of metrics and logs
/// are built likewise.
///
/// # Errors
///
/// Returns the errors of the exporter's builder.
///
/// # Panics
///
/// Panics if called outside a tokio runtime, on which the channel runs. The exporter may be used on any thread.
pub fn exporter(sink: &TraceSink, endpoint: Endpoint) -> Result<SpanExporter, ExporterBuildError> {
    let connector = TraceWireLayer::new(sink).layer(TcpConnector::new(sink));
    let channel = endpoint.connect_with_connector_lazy(connector);
    SpanExporter::builder().with_tonic().with_channel(channel).build()
}

/// Returns the same over TLS. With tonic's own TLS the requests are not seen.
///
/// The endpoint is an `http` one with a port, whose [`origin`](Endpoint::origin) is the `https` URL. The layer is built
/// with `always()` and `alpn(["h2"])`.
///
/// # Errors
///
/// Returns the errors of the exporter's builder.
///
/// # Panics
///
/// Panics if called outside a tokio runtime.
pub fn exporter_over_tls(
    sink: &TraceSink,
    endpoint: Endpoint,
    tls: &TraceTlsLayer,
) -> Result<SpanExporter, ExporterBuildError> {
    let connector = TraceWireLayer::new(sink).layer(tls.layer(TcpConnector::new(sink)));
    let channel = endpoint.connect_with_connector_lazy(connector);
    SpanExporter::builder().with_tonic().with_channel(channel).build()
}
