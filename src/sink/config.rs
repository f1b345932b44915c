//! The settings of a sink: what it records, and how much of it it keeps. They are set with
//! [`TraceSinkBuilder`](super::TraceSinkBuilder).

use super::{ids::IdFormat, probe::Probe, subscriber::Subscriber};
use http::HeaderName;
use std::{fmt, sync::Arc};

/// How the header fields of requests and responses are recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderCapture {
    /// Does not record header fields. The default.
    #[default]
    Off,
    /// Records the names of fields.
    Names,
    /// Records the names of fields and the lengths of their values.
    Lengths,
    /// Records names and values, and the messages of gRPC statuses. Unless a field is named with
    /// [`reveal_headers`](super::TraceSinkBuilder::reveal_headers):
    ///
    /// - Credentials are replaced by their length: fields with a word such as `Authorization`, `Cookie`, `Token`,
    ///   `Secret`, `Password` or `JWT` in their name (`Set-Cookie`, `X-Auth-Token`, `X-Amz-Security-Token`), keys
    ///   (`X-Api-Key` and others that end with `Api-Key`, `Access-Key`, `Auth-Key`, `Encryption-Key` …), and
    ///   `Authentication-Info`.
    /// - Of `WWW-Authenticate` and `Proxy-Authenticate` only the schemes are shown.
    /// - User info in URLs becomes `***`, in any field.
    Values,
}

/// How much a sink keeps. What is evicted is counted in the trace's `dropped`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    pub(crate) requests: usize,
    pub(crate) connections: usize,
    pub(crate) first_ops: u64,
    pub(crate) newest_ops: u64,
    pub(crate) bytes: usize,
}

impl Retention {
    /// Keeps 10,000 requests, 20,000 connections, 4,096 operations per connection (the first 1,024 and the newest), and
    /// 48 MiB of memory for all requests and connections that have ended.
    ///
    /// What is still running is not part of the 48 MiB. Each open connection takes up to 48 KiB for its operations.
    /// Each request in flight takes about 10 KiB for its URL and other texts, and with [`HeaderCapture`] up to 64 KiB
    /// for each header and trailer section. How many of them there are is up to the program that opens or accepts them.
    pub const fn bounded() -> Self {
        Retention {
            requests: 10_000,
            connections: 20_000,
            first_ops: 1_024,
            newest_ops: 3_072,
            bytes: 48 << 20,
        }
    }

    /// Keeps everything, as long as there is memory.
    pub const fn unbounded() -> Self {
        Retention {
            requests: usize::MAX,
            connections: usize::MAX,
            first_ops: u64::MAX,
            newest_ops: 0,
            bytes: usize::MAX,
        }
    }

    /// Sets how many finished requests are kept.
    ///
    /// The oldest are evicted first, in groups of 32: up to that many more or fewer may be kept.
    pub const fn requests(mut self, requests: usize) -> Self {
        self.requests = requests;
        self
    }

    /// Sets how many finished connections are kept, those to nameservers and failed attempts included; also how many
    /// dials.
    ///
    /// The oldest are evicted first, in groups of 32 dials. Those that a kept request refers to stay; if these are too
    /// many, the oldest finished requests are evicted with them.
    pub const fn connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// Sets how many bytes of memory finished requests and connections may take together.
    ///
    /// The oldest are evicted first, each request with what no other request needs, until a sixteenth of the bytes is
    /// free. This bound applies in addition to the numbers: if you raise those, you may have to raise this one too.
    /// What is still running is not counted, but each of its texts and lists is limited; what was cut is named in the
    /// record's `truncated_fields`.
    pub const fn bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// Sets how many operations of a connection are kept: the first `first` and the newest `newest`.
    ///
    /// At least one of the first is kept. The newest are dropped in groups of up to 512.
    pub const fn socket_ops(mut self, first: u64, newest: u64) -> Self {
        self.first_ops = if first == 0 { 1 } else { first };
        self.newest_ops = newest;
        self
    }
}

impl Default for Retention {
    fn default() -> Self {
        Retention::bounded()
    }
}

pub(super) type ExcludeHeader = dyn Fn(&HeaderName) -> bool + Send + Sync;

/// The configuration of a sink, as its builder leaves it.
pub(crate) struct SinkConfig {
    pub(crate) socket_ops: bool,
    pub(crate) dns: bool,
    pub(crate) tls: bool,
    pub(crate) http: bool,
    pub(crate) headers: HeaderCapture,
    pub(crate) exclude_header: Option<Arc<ExcludeHeader>>,
    pub(crate) reveal_headers: Vec<HeaderName>,
    pub(crate) mask_query: bool,
    pub(crate) ids: IdFormat,
    pub(crate) session: Option<String>,
    pub(crate) retention: Retention,
    pub(crate) probes: Vec<Arc<dyn Probe>>,
    pub(crate) subscribers: Vec<Arc<dyn Subscriber>>,
}

impl Default for SinkConfig {
    fn default() -> Self {
        SinkConfig {
            socket_ops: true,
            dns: true,
            tls: true,
            http: true,
            headers: HeaderCapture::Off,
            exclude_header: None,
            reveal_headers: Vec::new(),
            mask_query: false,
            ids: IdFormat::default(),
            session: None,
            retention: Retention::default(),
            probes: Vec::new(),
            subscribers: Vec::new(),
        }
    }
}

impl fmt::Debug for SinkConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SinkConfig")
            .field("socket_ops", &self.socket_ops)
            .field("dns", &self.dns)
            .field("tls", &self.tls)
            .field("http", &self.http)
            .field("headers", &self.headers)
            .field("mask_query", &self.mask_query)
            .field("ids", &self.ids)
            .field("session", &self.session)
            .field("retention", &self.retention)
            .field("probes", &self.probes.len())
            .field("subscribers", &self.subscribers.len())
            .finish_non_exhaustive()
    }
}
