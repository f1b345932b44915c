//! [`Examination`]: makes the requests, on new and reused connections, over both address families.

use super::families::{self, Family, OtherFamily};
use crate::{args::DoctorArgs, client, output::Problem};
use http::{HeaderMap, Method, Request, Response, Version, header};
use http_body_util::BodyExt;
use nettrace::{
    Client, NetTrace, RequestHandle, TraceSink,
    client::{Body, ClientBuilder, ClientError, ResponseBody},
    record::TraceId,
};
use std::time::Duration;
use url::Url;

/// The requests of the doctor, as far as they were made.
pub(super) struct Examination<'a> {
    args: &'a DoctorArgs,
    sink: TraceSink,
    request: Request<()>,
    /// The proxy that the requests go through.
    pub(super) proxy: Option<String>,
    clients: Vec<Client>,
    pub(super) series: Vec<Series>,
    /// The things that were not tried, each with the reason.
    pub(super) not_tried: Vec<String>,
}

/// Requests of one client, which share its connections.
#[derive(Default)]
pub(super) struct Series {
    /// The address family of the requests; `None` if none is known.
    pub(super) family: Option<Family>,
    pub(super) exchanges: Vec<Exchange>,
}

/// A request, and what is not in its record.
#[derive(Default)]
pub(super) struct Exchange {
    handle: RequestHandle,
    /// The error has a code and a text. `None` until the request has ended.
    outcome: Option<Result<(), String>>,
    /// Whether the body of the response was longer than is read.
    pub(super) is_cut: bool,
    pub(super) hindrance: Option<Hindrance>,
}

/// Something in a response that keeps its connection from being used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hindrance {
    /// `Connection: close`.
    Close,
    /// HTTP/1.0, in which connections are closed by default.
    Http10,
    /// The rest of a long body was not read.
    LongBody,
}

/// The pause before the request is made again. In this time a server that closes its connections without saying so does
/// that, and not just as the request comes.
const PAUSE: Duration = Duration::from_millis(100);

/// How much of a body is read.
pub(super) const MAX_BODY_BYTES: u64 = 1 << 20;

impl Exchange {
    /// Returns the identifier of the request in the trace, of the last hop if it was redirected.
    pub(super) fn id(&self) -> TraceId {
        self.handle.id()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.outcome.is_some()
    }

    pub(super) fn is_success(&self) -> bool {
        self.outcome == Some(Ok(()))
    }

    /// Returns why the request failed: a code and a text.
    pub(super) fn error(&self) -> Option<&str> {
        self.outcome.as_ref().and_then(|outcome| outcome.as_ref().err()).map(String::as_str)
    }
}

impl<'a> Examination<'a> {
    pub(super) fn new(args: &'a DoctorArgs, sink: &TraceSink) -> Result<Self, Problem> {
        let request = client::request_head(&args.request, Method::GET)?;
        // An invalid proxy of the environment is the error of the first request.
        let proxy = client::proxies(&args.request)?.select(request.uri()).ok().flatten();
        Ok(Examination {
            args,
            sink: sink.clone(),
            request,
            proxy: proxy.map(|proxy| proxy.to_string()),
            clients: Vec::new(),
            series: Vec::new(),
            not_tried: Vec::new(),
        })
    }

    /// Makes all requests.
    ///
    /// The first one is made as any client would, so that its record shows what a client has to wait for. It also says
    /// which addresses the host has.
    pub(super) async fn run(&mut self) -> Result<(), Problem> {
        let client = self.client(|builder| builder)?;
        self.begin_series(&client, None).await;
        let first = self.first_trace();
        let Some(series) = self.series.last_mut() else { return Ok(()) };
        let families = families::tried(&first);
        series.family = families.first().copied().filter(|_| families.len() == 1);
        self.repeat(&client).await;
        if self.proxy.is_some() {
            return Ok(());
        }
        match families::other(&first, &families, &self.args.request).await {
            OtherFamily::Usable(family) => {
                let client = self.client(|builder| builder.ip_strategy(family.strategy()))?;
                self.begin_series(&client, Some(family)).await;
                self.repeat(&client).await;
            }
            OtherFamily::NotTried(why) => self.not_tried.push(why),
            OtherFamily::None => {}
        }
        Ok(())
    }

    pub(super) fn url(&self) -> &Url {
        &self.args.request.url
    }

    /// Closes all connections, and returns the trace.
    pub(super) async fn finish(&self) -> NetTrace {
        client::finish(&self.clients, &self.sink).await
    }

    fn client(&mut self, set: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Result<Client, Problem> {
        let builder = client::builder(&self.args.request, &self.sink)?.timeout(self.args.timeout);
        let client = client::build(set(builder))?;
        self.clients.push(client.clone());
        Ok(client)
    }

    /// Returns the trace of the first request alone, with its redirects.
    fn first_trace(&self) -> NetTrace {
        let first = self.series.first().and_then(|series| series.exchanges.first());
        first.map(|first| first.handle.trace()).unwrap_or_default()
    }

    /// Begins a series and makes its first request.
    async fn begin_series(&mut self, client: &Client, family: Option<Family>) {
        self.series.push(Series { family, exchanges: Vec::new() });
        self.exchange(client).await;
    }

    /// Makes the request of the last series again, if it did not fail.
    async fn repeat(&mut self, client: &Client) {
        let exchanges = self.series.last().into_iter().flat_map(|series| &series.exchanges);
        if exchanges.last().is_some_and(Exchange::is_success) {
            tokio::time::sleep(PAUSE).await;
            self.exchange(client).await;
        }
    }

    async fn exchange(&mut self, client: &Client) {
        let Some(series) = self.series.last_mut() else { return };
        // Listed before it is made: it may be interrupted.
        series.exchanges.push(Exchange::default());
        let Some(exchange) = series.exchanges.last_mut() else { return };
        let mut request = self.request.clone().map(|()| Body::empty());
        request.extensions_mut().insert(exchange.handle.clone());
        let ended = match client.request(request).await {
            Ok(response) => exchange.read(response).await,
            Err(error) => Err(error),
        };
        exchange.outcome = Some(ended.map_err(|error| client::failed(error).text));
    }
}

impl Exchange {
    /// Reads the body up to the limit.
    async fn read(&mut self, response: Response<ResponseBody>) -> Result<(), ClientError> {
        self.hindrance = hindrance(response.version(), response.headers());
        let (is_http1, mut body) = (response.version() < Version::HTTP_2, response.into_body());
        let mut read = 0;
        while let Some(frame) = body.frame().await {
            read += frame?.data_ref().map_or(0, |data| data.len() as u64);
            if read > MAX_BODY_BYTES {
                self.is_cut = true;
                self.hindrance = self.hindrance.or(is_http1.then_some(Hindrance::LongBody));
                break;
            }
        }
        Ok(())
    }
}

fn hindrance(version: Version, headers: &HeaderMap) -> Option<Hindrance> {
    let has = |option: &str| {
        let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|word| word.trim().eq_ignore_ascii_case(option))
    };
    match version {
        _ if has("close") => Some(Hindrance::Close),
        Version::HTTP_10 if !has("keep-alive") => Some(Hindrance::Http10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn responses_say_whether_their_connection_can_be_used_again() {
        let of = |version, value: &'static str| {
            let value = HeaderValue::from_static(value);
            hindrance(version, &HeaderMap::from_iter([(header::CONNECTION, value)]))
        };
        assert_eq!(of(Version::HTTP_11, "foo, Close"), Some(Hindrance::Close));
        assert_eq!(of(Version::HTTP_11, "keep-alive"), None);
        assert_eq!(of(Version::HTTP_10, "Keep-Alive"), None);
        assert_eq!(hindrance(Version::HTTP_10, &HeaderMap::new()), Some(Hindrance::Http10));
        assert_eq!(hindrance(Version::HTTP_11, &HeaderMap::new()), None);
    }
}
