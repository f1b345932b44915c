//! A page of a running program that shows its requests, in the manner of Go's `/debug/requests`.
//!
//! [`DebugPage`] is a service of tower and hyper that a program mounts where it wants:
//!
//! ```
//! use axum::{Router, routing::get};
//! use nettrace::{TraceSink, debug_page::{DebugPage, Metrics}};
//!
//! let metrics = Metrics::new();
//! let sink = TraceSink::builder().subscriber(metrics.clone()).build();
//! let page = DebugPage::new(&sink).metrics(&metrics);
//! let router: Router = Router::new()
//!     .route("/", get(|| async { "hello\n" }))
//!     .nest_service("/debug/nettrace", page);
//! ```
//!
//! It asks nobody who they are, and what it shows is sensitive: guard it, or serve it on loopback alone. The guide
//! `debug_page` says how, and has programs with hyper and tonic.
//!
//! # Pages
//!
//! | path | what it has |
//! |---|---|
//! | `/` | the requests, failed ones first, with those that were made while another one was answered below that one |
//! | `/request/ID` | a request: why it failed, its waterfall and its records |
//! | `/summary` | what happened with each host, and what went wrong |
//! | `/trace.json` | the trace, which `nettrace show URL` reads |
//! | `/explain.json` | what went wrong, see [`explain`](crate::explain) |
//! | `/metrics` | counts and durations for Prometheus, in the text format 0.0.4 |
//! | `POST /recording?on=false` | stops recording; with `on=true` resumes it |
//! | `POST /capture?on=false` | stops keeping packets, if the sink has a `CaptureProbe`; with `on=true` resumes it |
//!
//! Paths are relative to where the page is mounted, see [`DebugPage::prefix`]. Each page is also `/?view=NAME`, which is
//! what the links of the pages use: a link without a path leads to the page itself, with and without a slash at the end
//! of its path.
//!
//! `/request/ID` and `/summary` are plain text, unless the header field `Accept` has `text/html`.
//!
//! # Parameters
//!
//! `/`, `/summary`, `/trace.json` and `/explain.json` take the options of `nettrace show` in the query: `failed`,
//! `slow=500ms`, `host=HOST[:PORT]`, `status=5xx`, `code=CODE`, `request=ID` (more than once for several), `since=10s`,
//! `limit=N`. The list of requests has 100 rows by default and at most 1,000; `skip=N` begins further down. It is up to
//! date as long as there is a script, and without one with `refresh=SECONDS`. With `precise`, the JSON of a trace has
//! nanoseconds, see [`NetTrace::precise`](crate::NetTrace::precise).
//!
//! # What it costs
//!
//! The page costs nothing until it is asked. Each answer is put together on a thread of its own, at most four at a time;
//! further requests are answered with 503. `/trace.json` without parameters is written record by record. A reader who
//! takes nothing for 30 seconds is cut off.
//!
//! # Security
//!
//! Everything that is shown is escaped. The pages load nothing, and their `Content-Security-Policy` allows the one script
//! and the one style sheet that are part of them. What changes something is a POST that a page of another origin cannot
//! send: it needs the header field `X-Nettrace: 1`. [`DebugPage::read_only`] refuses it altogether.

mod body;
mod choice;
mod chunks;
mod future;
mod guard;
mod html;
mod metrics;
mod page;
mod query;
mod render;
mod response;
mod route;
mod service;
mod switches;
mod workers;

pub use self::{body::DebugPageBody, future::DebugPageFuture, metrics::Metrics, page::DebugPage};
