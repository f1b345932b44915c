//! The modes: which client makes the requests, and which other client it is compared with.

use crate::args::Args;
use clap::ValueEnum;
use serde::Serialize;

/// The client that makes the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// hyper-util's client over a minimal connector without extras
    Bare,
    /// hyper-util's client with HttpConnector, hyper-rustls and hickory-resolver
    Untraced,
    /// This crate's client with a disabled sink
    Off,
    /// This crate's client with everything recorded
    Traced,
    /// Like `traced`, with the kernel's connection tracking and TCP_INFO (Linux)
    Full,
    /// Like `traced`, with the kernel's time stamps of every connection (Linux)
    Stamped,
    /// Like `traced`, with the packets of its connections captured
    Captured,
    /// Like `traced`, with a sink that is full after a thousand requests and hands on the slices of those that fail
    Recorder,
    /// hyper-util's client with HttpConnector alone (with hyper-rustls for URLs with TLS)
    Plain,
    /// `plain` in this crate's layers (with TraceTlsLayer for URLs with TLS)
    Layers,
    /// Like `layers`, without `capture_connection`
    LayersUncaptured,
    /// Like `layers`, with a disabled sink
    LayersOff,
    /// `plain` over connections whose bytes are read (with TraceTlsLayer for URLs with TLS)
    Wire,
    /// Like `wire`, with a disabled sink
    WireOff,
    /// reqwest's client
    Reqwest,
    /// reqwest's client, observed
    ReqwestObserved,
    /// Like `reqwest-observed`, with a disabled sink
    ReqwestOff,
    /// Unary calls over a channel of tonic
    Tonic,
    /// Unary calls over a traced channel
    TonicTraced,
    /// Like `tonic-traced`, with a disabled sink
    TonicOff,
    /// `plain` in tower-http's TraceLayer; a line for each request
    TowerHttp,
    /// `plain` in tower-http's TraceLayer; a span of OpenTelemetry for each request
    TowerHttpOtel,
    /// `layers` with TracingEvents; a line for each request
    Events,
    /// `reqwest` with reqwest-tracing; a line for each request
    ReqwestTracing,
    /// `reqwest` with reqwest-tracing; a span of OpenTelemetry for each request
    ReqwestTracingOtel,
}

impl Mode {
    /// The modes that are compared by default.
    pub const USUAL: [Mode; 5] = [Mode::Plain, Mode::Layers, Mode::LayersOff, Mode::Traced, Mode::Off];

    pub fn name(self) -> &'static str {
        match self {
            Mode::Bare => "bare",
            Mode::Untraced => "untraced",
            Mode::Off => "off",
            Mode::Traced => "traced",
            Mode::Full => "full",
            Mode::Stamped => "stamped",
            Mode::Captured => "captured",
            Mode::Recorder => "recorder",
            Mode::Plain => "plain",
            Mode::Layers => "layers",
            Mode::LayersUncaptured => "layers-uncaptured",
            Mode::LayersOff => "layers-off",
            Mode::Wire => "wire",
            Mode::WireOff => "wire-off",
            Mode::Reqwest => "reqwest",
            Mode::ReqwestObserved => "reqwest-observed",
            Mode::ReqwestOff => "reqwest-off",
            Mode::Tonic => "tonic",
            Mode::TonicTraced => "tonic-traced",
            Mode::TonicOff => "tonic-off",
            Mode::TowerHttp => "tower-http",
            Mode::TowerHttpOtel => "tower-http-otel",
            Mode::Events => "events",
            Mode::ReqwestTracing => "reqwest-tracing",
            Mode::ReqwestTracingOtel => "reqwest-tracing-otel",
        }
    }

    /// Returns the client that somebody would have otherwise.
    pub fn baseline(self) -> Mode {
        match self {
            Mode::Bare | Mode::Untraced => Mode::Untraced,
            Mode::Off | Mode::Traced | Mode::Full | Mode::Stamped | Mode::Captured | Mode::Recorder => {
                Mode::Plain
            }
            Mode::Plain | Mode::Layers | Mode::LayersUncaptured | Mode::LayersOff => Mode::Plain,
            Mode::Wire | Mode::WireOff => Mode::Plain,
            Mode::TowerHttp | Mode::TowerHttpOtel | Mode::Events => Mode::Plain,
            Mode::Reqwest | Mode::ReqwestObserved | Mode::ReqwestOff => Mode::Reqwest,
            Mode::ReqwestTracing | Mode::ReqwestTracingOtel => Mode::Reqwest,
            Mode::Tonic | Mode::TonicTraced | Mode::TonicOff => Mode::Tonic,
        }
    }

    /// Returns why the mode cannot do the job, if it cannot.
    pub fn cannot(self, args: &Args) -> Option<&'static str> {
        let has_resolver = self.baseline() == Mode::Untraced || self.is_preset();
        if !has_resolver && (args.names || args.nameserver.is_some()) {
            return Some("does not take a nameserver: leave --names and --nameserver out");
        }
        if self == Mode::Captured && args.turns.is_some() {
            return Some("sees the packets of all clients of its process: compare it with --compare");
        }
        let is_grpc = self.baseline() == Mode::Tonic;
        if is_grpc && args.fresh_connections {
            return Some("keeps its connection: leave --fresh-connections out");
        }
        if is_grpc && args.url.starts_with("https") && !args.http2 {
            return Some("needs HTTP/2: take `--url h2` or --http2");
        }
        None
    }

    fn is_preset(self) -> bool {
        matches!(
            self,
            Mode::Off | Mode::Traced | Mode::Full | Mode::Stamped | Mode::Captured | Mode::Recorder
        )
    }
}
