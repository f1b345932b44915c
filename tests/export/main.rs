//! Exports, read back with decoders that are not ours: OTLP JSON with the messages of `opentelemetry-proto`.
#![cfg(all(
    feature = "otlp-json",
    feature = "client",
    feature = "server",
    any(feature = "ring", feature = "aws-lc-rs")
))]

mod connections;
mod decoded;
mod growth;
mod requests;
mod served;
mod stored;

use nettrace::{Client, NetTrace, TraceSink, client::ClientBuilder, export::otlp_json::OtlpJson};
use test_support::check;

use crate::decoded::Spans;

/// Writes a trace, and reads the lines back.
#[track_caller]
fn exported(trace: &NetTrace) -> Spans {
    exported_with(&OtlpJson::new().service_name("shop"), trace)
}

#[track_caller]
fn exported_with(export: &OtlpJson, trace: &NetTrace) -> Spans {
    Spans::decode(&written(export, trace))
}

/// Returns the lines of a trace.
#[track_caller]
fn written(export: &OtlpJson, trace: &NetTrace) -> Vec<u8> {
    let mut lines = Vec::new();
    export.write(trace, &mut lines).unwrap();
    lines
}

/// Creates a client that reads no configuration of this machine, and its sink.
fn client(configure: impl FnOnce(ClientBuilder) -> ClientBuilder) -> (Client, TraceSink) {
    let sink = TraceSink::new();
    let builder = Client::builder(&sink).nameservers([] as [std::net::SocketAddr; 0]);
    (configure(builder).build().unwrap(), sink)
}

/// Requests the URLs one after the other, and returns the trace once everything has ended.
async fn trace_of(sink: &TraceSink, client: &Client, urls: &[&str]) -> NetTrace {
    for url in urls {
        if let Ok(response) = client.get(*url).await {
            let _ = response.into_body().bytes().await;
        }
    }
    client.close().await;
    let trace = sink.snapshot("");
    check::finished(&trace);
    trace
}
