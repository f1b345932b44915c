//! Where instrumentation writes, and where traces come from.
//!
//! A layer asks the sink for a recorder, holds it as long as the thing lives, and dropping it is the end:
//! futures may be dropped at any await point, so nothing depends on code that runs after one.

mod budget;
mod builder;
mod clock;
mod config;
mod conn;
mod context;
mod core;
mod dial;
mod dns;
mod ids;
#[cfg(loom)]
pub mod loom_models;
mod probe;
mod proxy;
mod record_id;
mod registry;
mod request;
mod retention;
mod snapshot;
mod subscriber;
mod tls;
mod trace_sink;

#[cfg(all(feature = "_bench", debug_assertions))]
pub(crate) use self::clock::readings;
#[cfg(any(feature = "connect", feature = "tls"))]
pub(crate) use self::conn::identity::describe_conn;
#[cfg(all(feature = "tcp-info", target_os = "linux"))]
pub(crate) use self::conn::probe_data::RawTcpInfo;
#[cfg(feature = "reqwest")]
pub(crate) use self::dial::foreign_dial::ForeignTunnel;
#[cfg(feature = "tonic")]
pub(crate) use self::request::recorder::PendingRequest;
pub use self::{
    builder::TraceSinkBuilder,
    config::{HeaderCapture, Retention},
    conn::conn_ref::ConnRef,
    ids::IdFormat,
    probe::{Probe, ProbeEvent, ProbeSocket},
    request::{
        handle::{NotTraced, RequestHandle},
        response_ext::ResponseExt,
    },
    subscriber::{FinishedRecord, Subscriber},
    trace_sink::TraceSink,
};
pub(crate) use self::{
    clock::Tick,
    conn::{
        record::{Endpoint, Transport},
        recorder::ConnRecorder,
    },
    dial::{
        attempt::AttemptRecorder,
        recorder::{DialRecorder, DialRef},
    },
    dns::{
        answers::{AnswerHead, AnswerText, AnswerValue, AnswersBuilder},
        record::{DnsQuery, DnsReply},
        recorder::DnsRecorder,
    },
    proxy::recorder::{ProxyName, SocksRecorder},
    request::{
        headers::without_user_info,
        new_request::RequestHead,
        recorder::{CurrentRequest, DecodedBodyRecorder, RequestBodyRecorder, RequestRecorder},
        response_ext::TraceExtension,
    },
    tls::{peer_chain::PeerChain, record::TlsFacts, recorder::TlsRecorder},
};
