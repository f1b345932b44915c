//! `nettrace demo`: requests to servers of its own.

mod dns;
mod servers;

use crate::output::{JsonOutput, Problem, Screen, Stream};
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
    let screen = Screen::new(stream, ascii);
    let sink = TraceSink::new();
    let mut tasks = JoinSet::new();
    let stage = Stage::set(&sink, &mut tasks).await.map_err(|error| not_started(&*error))?;

    let mut surprises = Vec::new();
    for (at, scene) in stage.scenes().iter().enumerate() {
        let trace = stage.play(scene, &mut surprises).await.trace();
        let written = screen
            .print(&format!(
                "{}{}\n{}\n\n",
                separator(at),
                screen.emphasised(scene.title),
                screen.wrapped(scene.text)
            ))
            .and_then(|()| screen.waterfall(&trace, false, false));
        written.map_err(|error| Problem::failed(format!("cannot write to standard output: {error}")))?;
    }
    stage.close().await;
    if let Some(json) = json {
        json.write(&sink.snapshot("nettrace demo"), false)?;
    }
    if surprises.is_empty() { Ok(()) } else { Err(Problem::failed(surprises.join("; "))) }
}

fn separator(at: usize) -> &'static str {
    if at == 0 { "" } else { "\n\n" }
}

fn not_started(error: &(dyn Error + 'static)) -> Problem {
    Problem::failed(format!("cannot start the servers of the demo: {error}"))
}

/// The clients and where they turn to.
struct Stage {
    servers: Servers,
    client: Client,
    http1: Client,
    impatient: Client,
}

/// A request that shows something.
struct Scene<'a> {
    title: &'static str,
    text: &'static str,
    client: &'a Client,
    url: Uri,
    /// Pieces of a body to send.
    pieces: u8,
    /// How it fails, if it is meant to.
    failure: Option<Failure>,
}

impl Stage {
    async fn set(sink: &TraceSink, tasks: &mut JoinSet<()>) -> Result<Stage, Box<dyn Error + Send + Sync>> {
        let nameserver = dns::start(tasks).await?;
        let servers = Servers::start(tasks).await?;
        // Nothing of how this machine looks names up matters here.
        let resolver =
            StubResolver::builder(sink).nameservers([nameserver]).resolv_conf(None).hosts_file(None);
        let resolver = resolver.build()?;
        let roots = Roots::from_pem(&servers.authority)?;
        let builder =
            || -> ClientBuilder { Client::builder(sink).resolver(resolver.clone()).roots(roots.clone()) };
        Ok(Stage {
            client: builder().build()?,
            http1: builder().http_version(HttpVersion::Http1Only).build()?,
            impatient: builder().timeout(Duration::from_millis(60)).build()?,
            servers,
        })
    }

    fn scenes(&self) -> [Scene<'_>; 6] {
        let Servers { http_port, https_port, untrusted_port, .. } = self.servers;
        let scene = |title, text, client, (scheme, host, port, path)| Scene {
            title,
            text,
            client,
            url: uri(scheme, host, port, path),
            pieces: 0,
            failure: None,
        };
        [
            scene(
                "A redirect, and an address that refuses",
                "The first server sends us on. The name that it sends us to has two addresses: at the first one \
                 nobody listens, so the second is tried. TLS agrees on HTTP/2.",
                &self.client,
                ("http", dns::WWW, Some(http_port), "/old"),
            ),
            scene(
                "A reused connection",
                "The same host once more: no name to look up, nothing to connect to, no handshake.",
                &self.client,
                ("https", dns::SHOP, Some(https_port), "/"),
            ),
            Scene {
                pieces: 6,
                ..scene(
                    "An upload over HTTP/1.1",
                    "Another client, which does not offer HTTP/2, sends a body piece by piece.",
                    &self.http1,
                    ("https", dns::SHOP, Some(https_port), "/upload"),
                )
            },
            Scene {
                failure: Some(Failure::SslUnknownAuthority),
                ..scene(
                    "A certificate that nobody vouches for",
                    "The handshake fails, but what the server showed is there to be read.",
                    &self.client,
                    ("https", dns::UNTRUSTED, Some(untrusted_port), "/"),
                )
            },
            Scene {
                failure: Some(Failure::DnsNxdomainError),
                ..scene(
                    "A name that does not exist",
                    "The nameserver says so, for IPv4 and IPv6 alike.",
                    &self.client,
                    ("http", dns::UNKNOWN, None, "/"),
                )
            },
            Scene {
                failure: Some(Failure::GenericTimeoutError),
                ..scene(
                    "A server that does not answer in time",
                    "Which step it was that took the time would not be seen from the error alone.",
                    &self.impatient,
                    ("http", dns::WWW, Some(http_port), "/slow"),
                )
            },
        ]
    }

    /// Makes the request of a scene and reads the response. Says so where it goes otherwise than it should.
    async fn play(&self, scene: &Scene<'_>, surprises: &mut Vec<String>) -> RequestHandle {
        let handle = RequestHandle::new();
        let outcome = exchange(scene, handle.clone()).await;
        match (&scene.failure, outcome) {
            (None, Ok(())) => {}
            (Some(expected), Err(error)) if error.failure() == *expected => {}
            (_, Ok(())) => surprises.push(format!("{} should have failed", scene.url)),
            (_, Err(error)) => surprises.push(format!("{}: {}: {error}", scene.url, error.failure())),
        }
        handle
    }

    async fn close(&self) {
        for client in [&self.client, &self.http1, &self.impatient] {
            client.close().await;
        }
    }
}

async fn exchange(scene: &Scene<'_>, handle: RequestHandle) -> Result<(), ClientError> {
    let mut request = Request::new(Body::empty());
    if scene.pieces > 0 {
        *request.method_mut() = Method::POST;
        *request.body_mut() = Body::new(servers::pieces(scene.pieces));
    }
    *request.uri_mut() = scene.url.clone();
    request.extensions_mut().insert(handle);
    scene.client.request(request).await?.into_body().bytes().await.map(drop)
}

/// Made of parts that are all well-formed.
fn uri(scheme: &str, host: &str, port: Option<u16>, path: &str) -> Uri {
    let authority = port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build().unwrap_or_default()
}
