//! `nettrace demo`: makes requests to servers of its own.

mod dns;
mod servers;

use crate::output::{JsonOutput, Problem, Stream, TextOutput};
use http::{Method, Request, Uri};
use nettrace::{
    Client, Failure, RequestHandle, TraceSink,
    client::{Body, ClientBuilder, ClientError, HttpVersion},
    resolve::StubResolver,
    tls::Roots,
};
use servers::Servers;
use std::{error::Error, path::Path, time::Duration};
use tokio::task::JoinSet;

pub(crate) async fn run(json: Option<&Path>, ascii: bool) -> Result<(), Problem> {
    let json = json.map(JsonOutput::open).transpose()?;
    let stream = if matches!(json, Some(JsonOutput::Stdout)) { Stream::Stderr } else { Stream::Stdout };
    let screen = TextOutput::new(stream, ascii);
    let sink = TraceSink::new();
    let mut tasks = JoinSet::new();
    let fixture = Fixture::start(&sink, &mut tasks).await.map_err(|error| not_started(&*error))?;

    let mut unexpected = Vec::new();
    for (at, scenario) in fixture.scenarios().iter().enumerate() {
        let trace = fixture.run(scenario, &mut unexpected).await.trace();
        let written = screen
            .print(&format!(
                "{}{}\n{}\n\n",
                separator(at),
                screen.emphasised(scenario.title),
                screen.wrapped(scenario.text)
            ))
            .and_then(|()| screen.waterfall(&trace, false, false));
        written.map_err(|error| Problem::failed(format!("cannot write to standard output: {error}")))?;
    }
    fixture.close().await;
    if let Some(json) = json {
        json.write(&sink.snapshot("nettrace demo"), false)?;
    }
    if unexpected.is_empty() { Ok(()) } else { Err(Problem::failed(unexpected.join("; "))) }
}

fn separator(at: usize) -> &'static str {
    if at == 0 { "" } else { "\n\n" }
}

fn not_started(error: &(dyn Error + 'static)) -> Problem {
    Problem::failed(format!("cannot start the servers of the demo: {error}"))
}

/// The servers of the demo and the clients for them.
struct Fixture {
    servers: Servers,
    client: Client,
    http1: Client,
    short_timeout: Client,
}

/// A request of the demo, with its explanation.
struct Scenario<'a> {
    title: &'static str,
    text: &'static str,
    client: &'a Client,
    url: Uri,
    /// The number of pieces of the body to send.
    pieces: u8,
    /// The expected failure, if it is to fail.
    failure: Option<Failure>,
}

impl Fixture {
    async fn start(
        sink: &TraceSink,
        tasks: &mut JoinSet<()>,
    ) -> Result<Fixture, Box<dyn Error + Send + Sync>> {
        let nameserver = dns::start(tasks).await?;
        let servers = Servers::start(tasks).await?;
        // The resolver configuration of this machine is not used.
        let resolver =
            StubResolver::builder(sink).nameservers([nameserver]).resolv_conf(None).hosts_file(None);
        let resolver = resolver.build()?;
        let roots = Roots::from_pem(&servers.authority)?;
        let builder =
            || -> ClientBuilder { Client::builder(sink).resolver(resolver.clone()).roots(roots.clone()) };
        Ok(Fixture {
            client: builder().build()?,
            http1: builder().http_version(HttpVersion::Http1Only).build()?,
            short_timeout: builder().timeout(Duration::from_millis(60)).build()?,
            servers,
        })
    }

    fn scenarios(&self) -> [Scenario<'_>; 6] {
        let Servers { http_port, https_port, untrusted_port, .. } = self.servers;
        let scenario = |title, text, client, (scheme, host, port, path)| Scenario {
            title,
            text,
            client,
            url: uri(scheme, host, port, path),
            pieces: 0,
            failure: None,
        };
        [
            scenario(
                "A redirect, and an address that refuses",
                "The first server sends us on. The name that it sends us to has two addresses: at the first one \
                 nobody listens, so the second is tried. TLS agrees on HTTP/2.",
                &self.client,
                ("http", dns::WWW_HOST, Some(http_port), "/old"),
            ),
            scenario(
                "A reused connection",
                "The same host once more: no name to look up, nothing to connect to, no handshake.",
                &self.client,
                ("https", dns::SHOP_HOST, Some(https_port), "/"),
            ),
            Scenario {
                pieces: 6,
                ..scenario(
                    "An upload over HTTP/1.1",
                    "Another client, which does not offer HTTP/2, sends a body piece by piece.",
                    &self.http1,
                    ("https", dns::SHOP_HOST, Some(https_port), "/upload"),
                )
            },
            Scenario {
                failure: Some(Failure::SslUnknownAuthority),
                ..scenario(
                    "A certificate that nobody vouches for",
                    "The handshake fails, but what the server showed is there to be read.",
                    &self.client,
                    ("https", dns::UNTRUSTED_HOST, Some(untrusted_port), "/"),
                )
            },
            Scenario {
                failure: Some(Failure::DnsNxdomainError),
                ..scenario(
                    "A name that does not exist",
                    "The nameserver says so, for IPv4 and IPv6 alike.",
                    &self.client,
                    ("http", dns::UNKNOWN_HOST, None, "/"),
                )
            },
            Scenario {
                failure: Some(Failure::GenericTimeoutError),
                ..scenario(
                    "A server that does not answer in time",
                    "Which step it was that took the time would not be seen from the error alone.",
                    &self.short_timeout,
                    ("http", dns::WWW_HOST, Some(http_port), "/slow"),
                )
            },
        ]
    }

    /// Makes the request of a scenario and reads the response. Appends to `unexpected` if the outcome is not the
    /// expected one.
    async fn run(&self, scenario: &Scenario<'_>, unexpected: &mut Vec<String>) -> RequestHandle {
        let handle = RequestHandle::new();
        let outcome = exchange(scenario, handle.clone()).await;
        match (&scenario.failure, outcome) {
            (None, Ok(())) => {}
            (Some(expected), Err(error)) if error.failure() == *expected => {}
            (_, Ok(())) => unexpected.push(format!("{} should have failed", scenario.url)),
            (_, Err(error)) => unexpected.push(format!("{}: {}: {error}", scenario.url, error.failure())),
        }
        handle
    }

    async fn close(&self) {
        for client in [&self.client, &self.http1, &self.short_timeout] {
            client.close().await;
        }
    }
}

async fn exchange(scenario: &Scenario<'_>, handle: RequestHandle) -> Result<(), ClientError> {
    let mut request = Request::new(Body::empty());
    if scenario.pieces > 0 {
        *request.method_mut() = Method::POST;
        *request.body_mut() = Body::new(servers::pieces(scenario.pieces));
    }
    *request.uri_mut() = scenario.url.clone();
    request.extensions_mut().insert(handle);
    scenario.client.request(request).await?.into_body().bytes().await.map(drop)
}

/// Builds a URI of well-formed parts.
fn uri(scheme: &str, host: &str, port: Option<u16>, path: &str) -> Uri {
    let authority = port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build().unwrap_or_default()
}
