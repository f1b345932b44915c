//! The settings of a sink: what it records, and how much of it it keeps. They are set with
//! [`TraceSinkBuilder`](super::TraceSinkBuilder).

use super::{ids::IdFormat, probe::Probe, slice_filter::SliceFilter, subscriber::Subscriber};
use http::HeaderName;
use std::{fmt, sync::Arc, time::Duration};

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
    pub(crate) max_age: Option<Duration>,
    pub(crate) keep: SliceFilter,
    pub(crate) slowest: bool,
    pub(crate) count_evicted: bool,
}

impl Retention {
    /// Keeps 10,000 requests, 20,000 connections, 4,096 operations per connection (the first 1,024 and the newest), and
    /// 48 MiB of memory for all requests and connections that have ended. Failed and slow requests are kept longer than
    /// others, see [`keep`](Self::keep) and [`keep_slowest`](Self::keep_slowest), and what is evicted goes on to count, see
    /// [`count_evicted`](Self::count_evicted).
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
            max_age: None,
            keep: SliceFilter::none().failed(true),
            slowest: true,
            count_evicted: true,
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
            max_age: None,
            keep: SliceFilter::none(),
            slowest: false,
            count_evicted: false,
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

    /// Sets how long requests and connections are kept after they began. No limit by default.
    ///
    /// They are evicted in groups of 32, when another request or connection begins and when a trace is taken. A group is
    /// evicted once all of it is that old.
    pub const fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// Sets which requests are kept longer than others, whole: those that `filter` chooses. Those that failed by default.
    ///
    /// They may take half of each bound. If there are more, the oldest of them are evicted first.
    pub const fn keep(mut self, filter: SliceFilter) -> Self {
        self.keep = filter;
        self
    }

    /// Sets whether requests are kept longer that took longer than 99 % of those to the same host before them. If there
    /// are too many, they are evicted before those that [`keep`](Self::keep) chooses. On by default.
    pub const fn keep_slowest(mut self, on: bool) -> Self {
        self.slowest = on;
        self
    }

    /// Sets whether evicted requests go on to count, by host and with a histogram of each phase
    /// ([`Dropped::by_host`](crate::record::Dropped::by_host)). On by default. The counts take up to 1 MiB in addition to
    /// the other bounds: 64 hosts are told apart.
    pub const fn count_evicted(mut self, on: bool) -> Self {
        self.count_evicted = on;
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
    pub(crate) stalled_after: Option<Duration>,
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
            stalled_after: None,
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
            .field("stalled_after", &self.stalled_after)
            .field("probes", &self.probes.len())
            .field("subscribers", &self.subscribers.len())
            .finish_non_exhaustive()
    }
}
