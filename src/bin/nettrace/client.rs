//! The client and the requests of the subcommands that make some.

use crate::{args::RequestArgs, output::Problem};
use http::{Method, Request, Uri};
use nettrace::{
    Client, NetTrace, TraceSink,
    client::{ClientBuilder, ClientError, HttpVersion},
    proxy::{Proxy, ProxySelector},
    tls::{Roots, TlsError},
};
use std::{error::Error, path::Path, time::Duration};
use url::Url;

/// Returns a builder with the settings of the arguments.
pub(crate) fn builder(args: &RequestArgs, sink: &TraceSink) -> Result<ClientBuilder, Problem> {
    let mut builder = Client::builder(sink)
        .source_ip(args.source_ip)
        .proxy(proxies(args)?)
        .danger_accept_invalid_certs(args.insecure)
        .http_version(match (args.http1, args.http2) {
            (true, _) => HttpVersion::Http1Only,
            (_, true) => HttpVersion::Http2Only,
            _ => HttpVersion::Auto,
        });
    if let Some(path) = &args.cacert {
        builder = builder.roots(roots(path)?);
    }
    if !args.nameservers.is_empty() {
        builder = builder.nameservers(args.nameservers.iter().cloned());
    }
    Ok(builder)
}

pub(crate) fn build(builder: ClientBuilder) -> Result<Client, Problem> {
    builder.build().map_err(|error| Problem::failed(error_chain(&error)))
}

/// Returns the proxies that the arguments name, or else those of the environment.
pub(crate) fn proxies(args: &RequestArgs) -> Result<ProxySelector, Problem> {
    let proxies = match args.proxy.as_deref() {
        None => return Ok(ProxySelector::from_env()),
        Some("") => ProxySelector::none(),
        Some(text) => text.parse::<Proxy>().map_err(|error| Problem::usage(error.to_string()))?.into(),
    };
    Ok(proxies.no_proxy(args.noproxy.as_deref().unwrap_or_default()))
}

fn roots(path: &Path) -> Result<Roots, Problem> {
    Roots::from_pem_file(path).map_err(|error| Problem::usage(error_chain(&error)))
}

/// Returns the request of the arguments, without a body. `method` is used unless they name one.
pub(crate) fn request_head(args: &RequestArgs, method: Method) -> Result<Request<()>, Problem> {
    let mut request = Request::new(());
    *request.method_mut() = args.method.clone().unwrap_or(method);
    *request.uri_mut() = uri(&args.url)?;
    for (name, value) in &args.fields {
        request.headers_mut().append(name, value.clone());
    }
    Ok(request)
}

/// Converts a URL, without its fragment, which is not sent.
fn uri(url: &Url) -> Result<Uri, Problem> {
    let mut url = url.clone();
    url.set_fragment(None);
    url.as_str().parse().map_err(|error| {
        // These cannot fail for a URL with a host.
        let _ = (url.set_username(""), url.set_password(None));
        Problem::usage(format!("{url}: {error}"))
    })
}

/// Converts the error of a request: its code, and its text.
pub(crate) fn failed(error: ClientError) -> Problem {
    let failure = error.failure();
    // The text after the colon of an unknown code follows anyway.
    let code = failure.as_str().split(':').next().unwrap_or_default();
    Problem::failed(format!("{code}: {error}"))
}

/// Closes all connections, so that the trace shows how they ended.
pub(crate) async fn finish(clients: &[Client], sink: &TraceSink) -> NetTrace {
    /// Closing should be faster, but must not keep the trace from being written.
    const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
    let close = async {
        for client in clients {
            client.close().await;
        }
    };
    if tokio::time::timeout(CLOSE_TIMEOUT, close).await.is_err() {
        sink.close();
    }
    sink.refresh().await;
    let mut trace = sink.snapshot("");
    if let Some(request) = trace.http_requests.first() {
        // The recorded URL has no password.
        trace.description = format!("{} {}", request.req_method, request.req_url);
    }
    trace
}

/// Returns the text of an error with those of its sources, each once.
fn error_chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let (mut is_explained, mut cause) = (error.is::<TlsError>(), error.source());
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        // The source of a TLS error has a readable text. The sources of that say the same with Rust type names.
        cause = error.source().filter(|_| !is_explained);
        is_explained = error.is::<TlsError>();
    }
    text
}
