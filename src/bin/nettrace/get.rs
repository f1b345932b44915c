//! `nettrace get`: makes a request and shows what happened.

use crate::{
    args::{GetArgs, Headers},
    client, input,
    output::{JsonOutput, Problem, Stream, TextOutput, ignore_broken_pipe, is_dash},
    probes::Probes,
    signals::Signals,
};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use http_body_util::BodyExt;
use nettrace::{Client, NetTrace, TraceSink, client::Body, explain};
use std::{
    io::{self, ErrorKind, IsTerminal},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::io::{AsyncWrite, AsyncWriteExt};

pub(crate) async fn run(args: &GetArgs, ascii: bool) -> Result<(), Problem> {
    let plan = RequestPlan::new(args)?;
    let json = args.json.as_deref().map(JsonOutput::open).transpose()?;
    let mut output = plan.output.open().await?;
    let probes = Probes::new(&args.probes)?;
    let sink = probes.sink(TraceSink::builder().headers(args.headers.into()));
    let client = build_client(args, &sink, &probes)?;
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
    let trace = client::finish(&[client], &sink).await;
    plan.report(args, &trace, json, ascii)?;
    probes.finish(&trace)?;
    problem.map_or(Ok(()), Err)
}

/// The request and its outputs, derived from all arguments.
struct RequestPlan {
    head: Request<()>,
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
        let method = if args.data.is_empty() { Method::GET } else { Method::POST };
        let stream = if is_taken { Stream::Stderr } else { Stream::Stdout };
        let head = client::request_head(&args.request, method)?;
        Ok(RequestPlan { head, body: data(&args.data)?, output, stream })
    }

    fn request(&self, args: &GetArgs) -> Request<Body> {
        let mut request = self.head.clone().map(|()| Body::from(self.body.clone()));
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

fn build_client(args: &GetArgs, sink: &TraceSink, probes: &Probes) -> Result<Client, Problem> {
    let builder = client::builder(&args.request, sink)?.timeout(args.timeout).keep_alive(!args.no_keepalive);
    client::build(probes.client(builder))
}

/// Makes the request and reads the whole response.
async fn exchange(
    client: &Client,
    request: Request<Body>,
    output: &mut Option<Box<dyn AsyncWrite + Unpin>>,
) -> Result<(), Problem> {
    let response = client.request(request).await.map_err(client::failed)?;
    let mut body = response.into_body();
    let mut done = Ok(());
    while let Some(frame) = body.frame().await {
        let data = match frame {
            Ok(frame) => frame.into_data().unwrap_or_default(),
            Err(error) => {
                done = Err(client::failed(error));
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

fn unwritable(error: &io::Error) -> Problem {
    Problem::failed(format!("cannot write the body: {error}"))
}
