//! The clients that are compared, all configured for the same requests.

mod bare;
mod hyper;
mod layers;
mod names;
mod plain;
mod preset;
mod reqwest;
mod sink;
mod tls;
mod tonic;
mod untraced;

pub use sink::{operations, packets};

use self::{
    bare::Bare,
    layers::{Layers, LayersTls},
    plain::{Plain, PlainTls},
    preset::Preset,
    reqwest::{Reqwest, ReqwestObserved},
    tonic::{Tonic, TonicTraced},
    untraced::Untraced,
};
use crate::{BoxError, args::Args, mode::Mode};
use http::{HeaderName, HeaderValue, Request};
use nettrace::TraceSink;
use std::future::Future;

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
    Reqwest(Reqwest),
    ReqwestObserved(ReqwestObserved),
    Tonic(Tonic),
    TonicTraced(TonicTraced),
}

impl Client {
    pub fn new(args: &Args) -> Result<Self, BoxError> {
        let sink = sink::sink(args)?;
        let tls = args.url.starts_with("https:");
        let sender = match args.mode {
            Mode::Bare => Sender::Bare(bare::bare(args)?),
            Mode::Untraced => Sender::Untraced(untraced::untraced(args)?),
            Mode::Off | Mode::Traced | Mode::Full | Mode::Captured => {
                Sender::Preset(Preset::new(args, &sink)?)
            }
            Mode::Plain if tls => Sender::PlainTls(plain::plain_tls(args)?),
            Mode::Plain => Sender::Plain(plain::plain(args)?),
            Mode::Layers | Mode::LayersUncaptured | Mode::LayersOff if tls => {
                Sender::LayersTls(layers::layers_tls(args, &sink)?)
            }
            Mode::Layers | Mode::LayersUncaptured | Mode::LayersOff => {
                Sender::Layers(layers::layers(args, &sink)?)
            }
            Mode::Reqwest => Sender::Reqwest(reqwest::reqwest(args)?),
            Mode::ReqwestObserved | Mode::ReqwestOff => {
                Sender::ReqwestObserved(reqwest::reqwest_observed(args, &sink)?)
            }
            Mode::Tonic => Sender::Tonic(tonic::tonic(args)?),
            Mode::TonicTraced | Mode::TonicOff => Sender::TonicTraced(tonic::tonic_traced(args, &sink)?),
        };
        Ok(Client { sender, sink })
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
            Sender::Reqwest(client) => client.get().await,
            Sender::ReqwestObserved(client) => client.get().await,
            Sender::Tonic(client) => client.get().await,
            Sender::TonicTraced(client) => client.get().await,
        }
    }

    /// Returns the sink that the client records into, if it records.
    pub fn sink(&self) -> Option<&TraceSink> {
        Some(&self.sink).filter(|sink| sink.is_enabled())
    }

    /// Closes its connections.
    pub async fn close(self) {
        if let Sender::Preset(client) = self.sender {
            client.close().await;
        }
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
