//! The clients that are compared, all configured for the same requests.

mod bare;
mod hyper;
mod layers;
mod names;
mod output;
mod plain;
mod preset;
mod reqwest;
mod reqwest_tracing;
mod sink;
mod tls;
mod tonic;
mod tower_http;
mod untraced;
mod wire;

pub use sink::{operations, packets};

use self::{
    bare::Bare,
    layers::{Layers, LayersTls},
    output::Output,
    plain::{Plain, PlainTls},
    preset::Preset,
    reqwest::{Reqwest, ReqwestObserved},
    reqwest_tracing::ReqwestTracing,
    tonic::{Tonic, TonicTraced},
    tower_http::{TowerHttp, TowerHttpTls},
    untraced::Untraced,
    wire::{Wire, WireTls},
};
use crate::{BoxError, args::Args, mode::Mode};
use http::{HeaderName, HeaderValue, Request};
use nettrace::TraceSink;
use std::future::Future;
use tracing::dispatcher::DefaultGuard;

/// A client that makes one request after the other.
trait Get {
    /// Makes a request and reads the response to its end.
    fn get(&mut self) -> impl Future<Output = Result<(), BoxError>> + Send;
}

/// The client of a mode. Clones share their connections.
#[derive(Clone)]
pub struct Client {
    sender: Sender,
    sink: TraceSink,
    output: Option<Output>,
}

#[derive(Clone)]
enum Sender {
    Bare(Bare),
    Untraced(Untraced),
    Preset(Preset),
    Plain(Plain),
    PlainTls(PlainTls),
    Layers(Layers),
    LayersTls(LayersTls),
    Wire(Wire),
    WireTls(WireTls),
    Reqwest(Reqwest),
    ReqwestObserved(ReqwestObserved),
    Tonic(Tonic),
    TonicTraced(TonicTraced),
    TowerHttp(TowerHttp),
    TowerHttpTls(TowerHttpTls),
    ReqwestTracing(ReqwestTracing),
}

impl Client {
    pub fn new(args: &Args) -> Result<Self, BoxError> {
        let sink = sink::sink(args)?;
        let tls = args.url.starts_with("https:");
        let sender = match args.mode {
            Mode::Bare => Sender::Bare(bare::bare(args)?),
            Mode::Untraced => Sender::Untraced(untraced::untraced(args)?),
            Mode::Off | Mode::Traced | Mode::Full | Mode::Stamped | Mode::Captured | Mode::Recorder => {
                Sender::Preset(Preset::new(args, &sink)?)
            }
            Mode::Plain if tls => Sender::PlainTls(plain::plain_tls(args)?),
            Mode::Plain => Sender::Plain(plain::plain(args)?),
            Mode::Layers | Mode::LayersUncaptured | Mode::LayersOff | Mode::Events if tls => {
                Sender::LayersTls(layers::layers_tls(args, &sink)?)
            }
            Mode::Layers | Mode::LayersUncaptured | Mode::LayersOff | Mode::Events => {
                Sender::Layers(layers::layers(args, &sink)?)
            }
            Mode::Wire | Mode::WireOff if tls => Sender::WireTls(wire::wire_tls(args, &sink)?),
            Mode::Wire | Mode::WireOff => Sender::Wire(wire::wire(args, &sink)?),
            Mode::Reqwest => Sender::Reqwest(reqwest::reqwest(args)?),
            Mode::ReqwestObserved | Mode::ReqwestOff => {
                Sender::ReqwestObserved(reqwest::reqwest_observed(args, &sink)?)
            }
            Mode::Tonic => Sender::Tonic(tonic::tonic(args)?),
            Mode::TonicTraced | Mode::TonicOff => Sender::TonicTraced(tonic::tonic_traced(args, &sink)?),
            Mode::TowerHttp | Mode::TowerHttpOtel if tls => {
                Sender::TowerHttpTls(tower_http::tower_http_tls(args)?)
            }
            Mode::TowerHttp | Mode::TowerHttpOtel => Sender::TowerHttp(tower_http::tower_http(args)?),
            Mode::ReqwestTracing | Mode::ReqwestTracingOtel => {
                Sender::ReqwestTracing(reqwest_tracing::reqwest_tracing(args)?)
            }
        };
        Ok(Client { sender, sink, output: Output::new(args) })
    }

    /// Makes a request and reads the response to its end.
    pub async fn get(&mut self) -> Result<(), BoxError> {
        match &mut self.sender {
            Sender::Bare(client) => client.get().await,
            Sender::Untraced(client) => client.get().await,
            Sender::Preset(client) => client.get().await,
            Sender::Plain(client) => client.get().await,
            Sender::PlainTls(client) => client.get().await,
            Sender::Layers(client) => client.get().await,
            Sender::LayersTls(client) => client.get().await,
            Sender::Wire(client) => client.get().await,
            Sender::WireTls(client) => client.get().await,
            Sender::Reqwest(client) => client.get().await,
            Sender::ReqwestObserved(client) => client.get().await,
            Sender::Tonic(client) => client.get().await,
            Sender::TonicTraced(client) => client.get().await,
            Sender::TowerHttp(client) => client.get().await,
            Sender::TowerHttpTls(client) => client.get().await,
            Sender::ReqwestTracing(client) => client.get().await,
        }
    }

    /// Returns the sink that the client records into, if it records.
    pub fn sink(&self) -> Option<&TraceSink> {
        Some(&self.sink).filter(|sink| sink.is_enabled())
    }

    /// Makes the client's output the one of this thread until the guard is dropped.
    pub fn enter(&self) -> Option<DefaultGuard> {
        self.output.as_ref().map(Output::make_default)
    }

    /// Waits until probes and exporters have finished their work.
    pub async fn settle(&self) -> Result<(), BoxError> {
        if let Some(sink) = self.sink() {
            sink.refresh().await;
        }
        self.output.as_ref().map_or(Ok(()), Output::flush)
    }

    /// Checks that each of the requests that the client has made was recorded. Call [`settle`](Self::settle) before.
    pub fn check_recorded(&self, made: u64) -> Result<(), BoxError> {
        let recorded = match (&self.output, self.sink()) {
            (Some(output), _) => output.written(),
            (None, Some(sink)) => sink::requests(&sink.snapshot("")),
            (None, None) => return Ok(()),
        };
        if recorded == made {
            return Ok(());
        }
        Err(format!("{recorded} of {made} requests were recorded").into())
    }

    /// Closes its connections and ends its threads.
    pub async fn close(self) -> Result<(), BoxError> {
        if let Sender::Preset(client) = self.sender {
            client.close().await;
        }
        self.output.map_or(Ok(()), Output::close)
    }
}

fn request(args: &Args) -> Result<Request<()>, BoxError> {
    let mut request = Request::builder().uri(&args.url).body(())?;
    for i in 0..args.headers {
        let name = HeaderName::try_from(format!("x-load-{i}"))?;
        request.headers_mut().insert(name, HeaderValue::from_static("some value of a usual length"));
    }
    Ok(request)
}
