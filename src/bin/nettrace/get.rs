//! `nettrace get`: makes a request and shows what happened.

use crate::{
    args::{GetArgs, Headers},
    input,
    output::{JsonOutput, Problem, Stream, TextOutput, ignore_broken_pipe, is_dash},
    probes::Probes,
    signals::Signals,
};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Uri, header};
use http_body_util::BodyExt;
use nettrace::{
    Client, NetTrace, TraceSink,
    client::{Body, ClientError, HttpVersion},
    explain,
    proxy::{Proxy, ProxySelector},
    tls::{Roots, TlsError},
};
use std::{
    error::Error,
    io::{self, ErrorKind, IsTerminal},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use url::Url;

pub(crate) async fn run(args: &GetArgs, ascii: bool) -> Result<(), Problem> {
    let plan = RequestPlan::new(args)?;
    let json = args.json.as_deref().map(JsonOutput::open).transpose()?;
    let mut output = plan.output.open().await?;
    let probes = Probes::new(&args.probes)?;
    let sink = probes.sink(TraceSink::builder().headers(args.headers.into()));
    let client = client(args, &sink, &probes)?;
    let mut signals = Signals::new().map_err(|error| Problem::failed(error.to_string()))?;

    let mut problem = None;
    for _ in 0..args.repeat.get() {
        let done = tokio::select! {
            done = exchange(&client, plan.request(args), &mut output) => done,
            signal = signals.next() => Err(Problem { code: 128 + signal, text: "interrupted".into() }),
        };
        let Err(happened) = done else { continue };
        let stop = happened.code != 1;
        problem = Some(happened);
        if stop {
            break;
        }
    }
    signals.exit_on_next();
    if let Some(output) = &mut output {
        // Writes what an interrupted request received. Whether that succeeds no longer matters.
        let _ = tokio::time::timeout(Duration::from_millis(200), output.flush()).await;
    }
    let trace = finish(&client, &sink).await;
    plan.report(args, &trace, json, ascii)?;
    probes.finish(&trace)?;
    problem.map_or(Ok(()), Err)
}

/// The request and its outputs, derived from all arguments.
struct RequestPlan {
    method: Method,
    url: Uri,
    body: Bytes,
    output: Output,
    /// The stream for the waterfall.
    stream: Stream,
}

/// The destination of the response's body.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Output {
    Discard,
    Stdout,
    File(PathBuf),
}

impl RequestPlan {
    fn new(args: &GetArgs) -> Result<RequestPlan, Problem> {
        let json_on_stdout = args.json.as_deref().is_some_and(is_dash);
        let output = match &args.output {
            Some(path) if !is_dash(path) => Output::File(path.clone()),
            Some(_) if json_on_stdout => {
                return Err(Problem::usage("the body and the JSON cannot both go to standard output"));
            }
            Some(_) => Output::Stdout,
            None if args.trace_only || json_on_stdout || io::stdout().is_terminal() => Output::Discard,
            None => Output::Stdout,
        };
        let is_taken = json_on_stdout || output == Output::Stdout;
        let method = match &args.method {
            Some(method) => method.clone(),
            None if args.data.is_empty() => Method::GET,
            None => Method::POST,
        };
        let stream = if is_taken { Stream::Stderr } else { Stream::Stdout };
        Ok(RequestPlan { method, url: uri(&args.url)?, body: data(&args.data)?, output, stream })
    }

    fn request(&self, args: &GetArgs) -> Request<Body> {
        let mut request = Request::new(Body::from(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.url.clone();
        for (name, value) in &args.fields {
            request.headers_mut().append(name, value.clone());
        }
        if !args.data.is_empty() {
            let form = HeaderValue::from_static("application/x-www-form-urlencoded");
            request.headers_mut().entry(header::CONTENT_TYPE).or_insert(form);
        }
        request
    }

    fn report(
        &self,
        args: &GetArgs,
        trace: &NetTrace,
        json: Option<JsonOutput>,
        ascii: bool,
    ) -> Result<(), Problem> {
        let screen = TextOutput::new(self.stream, ascii);
        let is_repeated = args.repeat.get() > 1 && trace.http_requests.len() > 1;
        let drawn = match is_repeated {
            true => screen.summary(trace),
            false => screen.waterfall(trace, false, args.headers != Headers::Off),
        };
        if let Some(json) = json {
            json.write(trace, args.precise)?;
        }
        let explained = drawn.and_then(|()| explain(trace, screen));
        explained.map_err(|error| Problem::failed(format!("cannot write the waterfall: {error}")))
    }
}

/// Prints what went wrong, if anything did.
fn explain(trace: &NetTrace, screen: TextOutput) -> io::Result<()> {
    let explanation = explain::explain(trace);
    if explanation.is_empty() {
        Ok(())
    } else {
        screen.print(&screen.in_charset(&format!("\n{explanation}")))
    }
}

impl Output {
    async fn open(&self) -> Result<Option<Box<dyn AsyncWrite + Unpin>>, Problem> {
        match self {
            Output::Discard => Ok(None),
            Output::Stdout => Ok(Some(Box::new(tokio::io::stdout()))),
            Output::File(path) => match tokio::fs::File::create(path).await {
                Ok(file) => Ok(Some(Box::new(file))),
                Err(error) => Err(Problem::usage(format!("cannot write {}: {error}", path.display()))),
            },
        }
    }
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

/// Joins the parts of the body with `&`, as curl does.
fn data(parts: &[String]) -> Result<Bytes, Problem> {
    let mut body = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            body.push(b'&');
        }
        match part.strip_prefix('@') {
            None => body.extend_from_slice(part.as_bytes()),
            Some(file) => {
                let read = input::read(Path::new(file), input::MAX_DATA_BYTES, |_| true);
                body.extend(read.map_err(|error| Problem::usage(format!("cannot read {file}: {error}")))?);
            }
        }
    }
    Ok(body.into())
}

fn client(args: &GetArgs, sink: &TraceSink, probes: &Probes) -> Result<Client, Problem> {
    let mut builder = probes
        .client(Client::builder(sink))
        .source_ip(args.source_ip)
        .timeout(args.timeout)
        .keep_alive(!args.no_keepalive)
        .danger_accept_invalid_certs(args.insecure)
        .http_version(match (args.http1, args.http2) {
            (true, _) => HttpVersion::Http1Only,
            (_, true) => HttpVersion::Http2Only,
            _ => HttpVersion::Auto,
        });
    if let Some(proxy) = &args.proxy {
        builder = builder.proxy(proxies(proxy)?.no_proxy(args.noproxy.as_deref().unwrap_or_default()));
    }
    if let Some(path) = &args.cacert {
        builder = builder.roots(roots(path)?);
    }
    if !args.nameservers.is_empty() {
        builder = builder.nameservers(args.nameservers.iter().cloned());
    }
    builder.build().map_err(|error| Problem::failed(error_chain(&error)))
}

fn proxies(text: &str) -> Result<ProxySelector, Problem> {
    if text.is_empty() {
        return Ok(ProxySelector::none());
    }
    let proxy = text.parse::<Proxy>().map_err(|error| Problem::usage(error.to_string()))?;
    Ok(proxy.into())
}

fn roots(path: &Path) -> Result<Roots, Problem> {
    Roots::from_pem_file(path).map_err(|error| Problem::usage(error_chain(&error)))
}

/// Makes the request and reads the whole response.
async fn exchange(
    client: &Client,
    request: Request<Body>,
    output: &mut Option<Box<dyn AsyncWrite + Unpin>>,
) -> Result<(), Problem> {
    let response = client.request(request).await.map_err(failed)?;
    let mut body = response.into_body();
    let mut done = Ok(());
    while let Some(frame) = body.frame().await {
        let data = match frame {
            Ok(frame) => frame.into_data().unwrap_or_default(),
            Err(error) => {
                done = Err(failed(error));
                break;
            }
        };
        let Some(out) = output else { continue };
        match out.write_all(&data).await {
            Ok(()) => {}
            // The reader closed the pipe.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(unwritable(&error)),
        }
    }
    if let Some(out) = output {
        // Also after a body that broke off.
        ignore_broken_pipe(out.flush().await).map_err(|error| unwritable(&error))?;
    }
    return_to_pool().await;
    done
}

/// Lets the client's tasks return the connection to the pool, so that the next request finds it. There is one thread
/// only, so yielding to the tasks is enough.
async fn return_to_pool() {
    const MAX_YIELDS: usize = 8;
    for _ in 0..MAX_YIELDS {
        tokio::task::yield_now().await;
    }
}

fn failed(error: ClientError) -> Problem {
    let failure = error.failure();
    // The text after the colon of an unknown code follows anyway.
    let code = failure.as_str().split(':').next().unwrap_or_default();
    Problem::failed(format!("{code}: {error}"))
}

fn unwritable(error: &io::Error) -> Problem {
    Problem::failed(format!("cannot write the body: {error}"))
}

/// Closes all connections, so that the trace shows how they ended.
async fn finish(client: &Client, sink: &TraceSink) -> NetTrace {
    /// Closing should be faster, but must not keep the trace from being written.
    const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
    if tokio::time::timeout(CLOSE_TIMEOUT, client.close()).await.is_err() {
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
