//! The sink: where instrumentation writes, and where traces come from.
//!
//! A layer asks the [`TraceSink`] for a recorder and keeps it as long as the thing that it records. A future may be
//! dropped at any await point, so a recorder ends its record when it is dropped: nothing depends on code that runs
//! after an await.
//!
//! Each kind of record has a directory: `dial`, `conn`, `request`, `tls`, `dns`, `proxy`. In each, `record` holds the
//! state and `recorder` writes it, ends it and hands it to the subscribers. `registry` stores the records, `retention`
//! bounds them, and `snapshot` turns them into the types of [`crate::record`]. Imports point from recorders to
//! `snapshot`, from there to records, and from those to `registry`; `tests/import-circles` checks that they do not form
//! circles.

mod budget;
mod builder;
mod clock;
mod config;
mod conn;
#[cfg(feature = "_record")]
mod context;
mod core;
mod dial;
mod dns;
#[cfg(feature = "json")]
mod dump;
mod evicted_traffic;
mod finished_request;
mod ids;
#[cfg(loom)]
pub mod loom_models;
mod probe;
mod proxy;
mod record_id;
mod registry;
mod request;
mod retention;
mod slice;
mod slice_filter;
mod slice_queue;
mod snapshot;
#[cfg(all(feature = "_lent_sockets", feature = "_record_requests", target_os = "linux"))]
mod stall_watch;
mod subscriber;
mod tls;
mod trace_sink;

#[cfg(all(feature = "_bench", debug_assertions))]
pub(crate) use self::clock::readings;
#[cfg(any(feature = "connect", feature = "tls"))]
pub(crate) use self::conn::identity::describe_conn;
#[cfg(all(feature = "tcp-info", target_os = "linux"))]
pub(crate) use self::conn::probe_data::RawTcpInfo;
#[cfg(all(feature = "timestamping", target_os = "linux"))]
pub(crate) use self::conn::{kernel_times::SendStage, kernel_times_recorder::KernelTimesRecorder};
#[cfg(feature = "reqwest")]
pub(crate) use self::dial::foreign_dial::ForeignTunnel;
#[cfg(feature = "json")]
pub use self::dump::Dump;
#[cfg(feature = "proxy")]
pub(crate) use self::proxy::recorder::{ProxyName, SocksRecorder};
#[cfg(feature = "tonic")]
pub(crate) use self::request::body_recorder::PendingRequest;
#[cfg(feature = "_record_requests")]
pub(crate) use self::request::new_request::RequestHead;
#[cfg(feature = "server")]
pub(crate) use self::request::served::ServedRequest;
#[cfg(feature = "request")]
pub(crate) use self::request::{
    body_recorder::RequestBodyRecorder, recorder::RequestRecorder, response_ext::TraceExtension,
};
#[cfg(feature = "client")]
pub(crate) use self::request::{
    current::CurrentRequest,
    decoded_body::DecodedBodyRecorder,
    masking::without_user_info,
    pool_checkout::{NotReused, PoolCheckout, PoolConnection, PoolWait},
};
#[cfg(feature = "tls")]
pub(crate) use self::tls::{peer_chain::PeerChain, record::TlsFacts, recorder::TlsRecorder};
pub use self::{
    builder::TraceSinkBuilder,
    config::{HeaderCapture, Retention},
    conn::conn_ref::ConnRef,
    finished_request::FinishedRequest,
    ids::IdFormat,
    probe::{Probe, ProbeEvent, ProbeSocket},
    request::{
        handle::{NotTraced, RequestHandle},
        response_ext::ResponseExt,
    },
    slice::{Slice, SliceReceiver},
    slice_filter::SliceFilter,
    subscriber::{FinishedRecord, RecordKind, Subscriber},
    trace_sink::TraceSink,
};
#[cfg(feature = "connect")]
pub(crate) use self::{
    clock::Tick,
    conn::{new_record::Endpoint, record::Transport, recorder::ConnRecorder},
    dial::recorder::DialRecorder,
};
#[cfg(feature = "wire")]
pub(crate) use self::{
    conn::wire_facts::WireProtocol,
    request::{new_request::OnWire, traceparent::TRACEPARENT},
};
#[cfg(feature = "resolve")]
pub(crate) use self::{
    dial::{attempt::AttemptRecorder, recorder::DialRef},
    dns::{
        answers_builder::{AnswerHead, AnswerValue, AnswersBuilder},
        encoding::AnswerText,
        record::{DnsQuery, DnsReply},
        recorder::DnsRecorder,
        svcb::SvcbParams,
    },
};
