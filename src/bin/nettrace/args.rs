//! The command line.

use crate::{filter_values, user_info::without_user_info};
use clap::{
    Args, Parser, Subcommand, ValueEnum,
    error::{ContextKind, ContextValue, ErrorKind},
};
use http::{HeaderName, HeaderValue, Method};
use nettrace::{HeaderCapture, record::RequestFilter, resolve::Nameserver};
use std::{net::IpAddr, num::NonZeroU32, path::PathBuf, time::Duration};
use url::Url;

mod values;

/// Shows what really happened behind a network request.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Draw with ASCII characters only
    #[arg(long, global = true)]
    pub(crate) ascii: bool,
}

const EXIT_CODES: &str = "\
Exit code: 0 a response came and its body was read (a 4xx or 5xx is a response), 1 the request failed \
or the trace cannot be read, 2 wrong usage, 130 interrupted.
Colours are used on a terminal, unless NO_COLOR is set.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Get(Box<GetArgs>),
    Doctor(Box<DoctorArgs>),
    Show(ShowArgs),
    /// Say what went wrong in a trace that was written as JSON, and what proves it
    Explain {
        /// The file, a store of slices (a .jsonl file or a directory of them), or an http URL such as that of a debug page;
        /// - reads standard input
        file: PathBuf,
        /// Write JSON
        #[arg(long)]
        json: bool,
    },
    /// Say what changed between two traces of the same work: addresses, certificates, protocols, times, failures
    Diff {
        /// The earlier trace: a file, a store of slices or a URL as in `show`; - reads standard input
        before: PathBuf,
        /// The later trace
        after: PathBuf,
        /// Write JSON
        #[arg(long)]
        json: bool,
    },
    Watch(WatchArgs),
    Export(ExportArgs),
    /// Trace requests to servers of its own; needs no network
    ///
    /// Starts an HTTP, an HTTPS and a DNS server on loopback, and traces a redirect, a reused connection, a
    /// refused attempt and requests that fail.
    Demo {
        /// Write the trace as JSON too
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
}

/// Draw a trace that was written as JSON
///
/// From a URL at most 1 GiB is read, for at most a minute. User and password in it are sent as credentials.
///
/// Options that choose requests can be combined: a request is drawn if it meets all of them. With --slow the slowest come
/// first.
#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    /// The file, a store of slices (a .jsonl file or a directory of them), or an http URL such as that of a debug page;
    /// - reads standard input
    pub(crate) file: PathBuf,
    /// Show the header fields that the trace holds
    #[arg(long)]
    pub(crate) headers: bool,
    /// Print for each host how many requests failed and how long each phase took, and what went wrong
    #[arg(long, conflicts_with = "headers")]
    pub(crate) summary: bool,
    #[command(flatten)]
    pub(crate) conditions: Conditions,
    /// Only requests that failed with this code, or whose cause has it: connection_refused, tls_expired
    #[arg(long, value_name = "CODE")]
    pub(crate) code: Option<String>,
    /// Only the request with this identifier; can be repeated
    #[arg(long = "request", value_name = "ID")]
    pub(crate) requests: Vec<String>,
    /// Only requests that were sent in the last seconds of the trace
    #[arg(long, value_name = "SECONDS", value_parser = filter_values::duration)]
    pub(crate) since: Option<Duration>,
    /// The maximum number of requests
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
}

/// Conditions for requests, all of which must be met.
#[derive(Args, Debug)]
pub(crate) struct Conditions {
    /// Only requests that failed, timed out, or got a status of 5xx
    #[arg(long)]
    pub(crate) failed: bool,
    /// Only requests that took at least this long: 2.5, 800ms
    #[arg(long, value_name = "SECONDS", value_parser = filter_values::duration)]
    pub(crate) slow: Option<Duration>,
    /// Only requests to this host
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) host: Option<String>,
    /// Only responses with this status: 404, 5xx
    #[arg(long, value_name = "STATUS", value_parser = filter_values::status)]
    pub(crate) status: Option<(u16, u16)>,
}

impl Conditions {
    /// Returns the filter that they describe; `None` without any.
    pub(crate) fn filter(&self) -> Option<RequestFilter> {
        let Conditions { failed, slow, host, status } = self;
        if !*failed && slow.is_none() && host.is_none() && status.is_none() {
            return None;
        }
        let mut filter = RequestFilter::new().failed(*failed);
        if let Some(slow) = slow {
            filter = filter.slower_than(*slow);
        }
        if let Some(host) = host {
            filter = filter.host(host);
        }
        if let Some((first, last)) = status {
            filter = filter.status(*first, *last);
        }
        Some(filter)
    }
}

/// Print requests as they end, from files that a program writes or from its debug page
///
/// A line has the time, the method and URL, the status or the code of the failure, and the duration of each phase. A second
/// one has the cause of a failure. Runs until it is interrupted.
///
/// Options that choose requests can be combined: a request is printed if it meets all of them.
#[derive(Args, Debug)]
pub(crate) struct WatchArgs {
    /// A store of slices (a .jsonl file or a directory of them), or the http URL of a trace such as that of a debug page,
    /// http://HOST/debug/nettrace/trace.json
    pub(crate) source: PathBuf,
    #[command(flatten)]
    pub(crate) conditions: Conditions,
    /// How many requests are printed that had ended before
    #[arg(long, value_name = "N", default_value = "10")]
    pub(crate) last: usize,
    /// How often to look
    #[arg(long, value_name = "SECONDS", value_parser = filter_values::duration, default_value = "1")]
    pub(crate) interval: Duration,
}

/// Write a trace that was written as JSON in the format of another program
#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    /// The file; - reads standard input
    pub(crate) file: PathBuf,
    /// The format
    #[arg(long, value_name = "FORMAT")]
    pub(crate) to: ExportFormat,
    /// Write to this file; - is standard output, which is the default
    #[arg(short, long, value_name = "FILE|-", default_value = "-")]
    pub(crate) output: PathBuf,
    /// The name of the service that made the requests (`service.name`)
    #[arg(long, value_name = "NAME")]
    pub(crate) service_name: Option<String>,
    /// Add an attribute of the resource, such as host.name=web-1; can be repeated
    #[arg(long = "resource", value_name = "KEY=VALUE", value_parser = values::key_value)]
    pub(crate) resource: Vec<(String, String)>,
    /// Leave out what went wrong, which otherwise becomes events of spans
    #[arg(long)]
    pub(crate) no_findings: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// Spans for OpenTelemetry: a line of OTLP JSON for each ExportTraceServiceRequest
    OtlpJson,
}

/// Make a request and show what happened
///
/// A waterfall is drawn on standard output. Where the body of the response goes there (standard output is
/// not a terminal, or -o -), the waterfall goes to standard error. Redirects are followed.
#[derive(Args, Debug)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    pub(crate) request: RequestArgs,
    /// Send a body, with POST unless -X names another method; @FILE sends that file byte for byte, @- standard input;
    /// both may have up to 64 MiB. Can be repeated: parts are joined with &
    #[arg(short, long, value_name = "DATA|@FILE", allow_hyphen_values = true)]
    pub(crate) data: Vec<String>,
    /// Give up after this time, redirects and body included: 2.5, 800ms
    #[arg(short = 'm', long, value_name = "SECONDS", value_parser = filter_values::duration)]
    pub(crate) timeout: Option<Duration>,
    /// Make the request this many times, one after the other; a summary is printed in place of waterfalls
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) repeat: NonZeroU32,
    /// Use a new connection for every request
    #[arg(long)]
    pub(crate) no_keepalive: bool,
    /// Record header fields; the values of credentials and cookies stay out
    #[arg(long, value_name = "HOW", default_value = "off")]
    pub(crate) headers: Headers,
    /// Write times in the JSON with nanoseconds, so that `show` draws them exactly. The Go package nettrace does not
    /// read such a file: it parses whole milliseconds only
    #[arg(long)]
    pub(crate) precise: bool,
    /// Write the trace as JSON; - is standard output, which then has neither waterfall nor body
    #[arg(long, value_name = "FILE|-")]
    pub(crate) json: Option<PathBuf>,
    /// Write the body to this file; - is standard output, even if that is a terminal
    #[arg(short, long, value_name = "FILE|-")]
    pub(crate) output: Option<PathBuf>,
    /// Read the body but discard it
    #[arg(long, conflicts_with = "output")]
    pub(crate) trace_only: bool,
    #[command(flatten)]
    pub(crate) probes: ProbeArgs,
}

/// Make a request several times and say in one verdict what is wrong
///
/// The request is made up to four times: on a new connection and again on the same one, and then both over the other
/// address family, if the host has addresses of it. Redirects are followed. No more than 1 MiB of each body is read.
/// Conntrack entries are recorded if the process may read them.
#[derive(Args, Debug)]
#[command(after_help = DOCTOR_EXIT_CODES)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) request: RequestArgs,
    /// Give each request up after this time, redirects and body included: 2.5, 800ms
    #[arg(short = 'm', long, value_name = "SECONDS", value_parser = filter_values::duration, default_value = "10")]
    pub(crate) timeout: Duration,
    /// Look for conntrack entries in this zone, if a rule sets one (`ct zone set`)
    #[arg(long, value_name = "N")]
    pub(crate) conntrack_zone: Option<u16>,
    /// Write times in the JSON with nanoseconds, see `get`
    #[arg(long)]
    pub(crate) precise: bool,
    /// Write the trace as JSON; - is standard output, and the verdict goes to standard error then
    #[arg(long, value_name = "FILE|-")]
    pub(crate) json: Option<PathBuf>,
}

const DOCTOR_EXIT_CODES: &str = "\
Exit code: 0 every request got a response and its body was read (a 4xx or 5xx is a response), 1 a request failed, \
2 wrong usage, 130 interrupted.";

/// Options for a request and the client that makes it.
#[derive(Args, Debug)]
pub(crate) struct RequestArgs {
    /// What to request; http:// may be left out
    #[arg(value_parser = values::url)]
    pub(crate) url: Url,
    /// The method; GET by default
    #[arg(short = 'X', long = "request", value_name = "METHOD")]
    pub(crate) method: Option<Method>,
    /// Add a header field; can be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = values::header, allow_hyphen_values = true)]
    pub(crate) fields: Vec<(HeaderName, HeaderValue)>,
    /// Speak HTTP/1.1 only
    #[arg(long, conflicts_with = "http2")]
    pub(crate) http1: bool,
    /// Speak HTTP/2 only, even without TLS
    #[arg(long)]
    pub(crate) http2: bool,
    /// Trust the certificate authorities in this PEM file, and no others; also for nameservers
    #[arg(long, value_name = "FILE")]
    pub(crate) cacert: Option<PathBuf>,
    /// Accept any certificate of a server, but not of a nameserver
    #[arg(short = 'k', long)]
    pub(crate) insecure: bool,
    /// Ask this nameserver; can be repeated: 192.0.2.1, tls://192.0.2.1#NAME, https://NAME/dns-query
    #[arg(long = "nameserver", value_name = "ADDRESS|URL")]
    pub(crate) nameservers: Vec<Nameserver>,
    /// Connect from this address
    #[arg(long, value_name = "IP")]
    pub(crate) source_ip: Option<IpAddr>,
    /// Go through this proxy: http, https, socks5 (names are looked up here) or socks5h (by the proxy); without it
    /// through that of the environment (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY), and with "" through none
    #[arg(short = 'x', long, value_name = "[SCHEME://][USER:PASSWORD@]HOST[:PORT]")]
    pub(crate) proxy: Option<String>, // read later: what is wrong with it is said without the password
    /// Use no proxy for these hosts, addresses and networks; * for all
    #[arg(long, value_name = "HOST[,HOST]", requires = "proxy")]
    pub(crate) noproxy: Option<String>,
}

/// Options for what is recorded in addition to requests.
#[derive(Debug, Args)]
pub(crate) struct ProbeArgs {
    /// Record the kernel's conntrack entry of each connection (Linux; needs CAP_NET_ADMIN)
    #[arg(long)]
    pub(crate) conntrack: bool,
    /// Look for these entries in this zone, if a rule sets one (`ct zone set`)
    #[arg(long, value_name = "N", requires = "conntrack")]
    pub(crate) conntrack_zone: Option<u16>,
    /// Write the packets of the traced connections to this file, in the format of its suffix: .pcap or .pcapng
    /// (needs CAP_NET_RAW)
    #[arg(long, value_name = "FILE")]
    pub(crate) pcap_file: Option<PathBuf>,
    /// Capture on these interfaces
    #[arg(
        long,
        value_name = "IFACE[,IFACE]",
        value_delimiter = ',',
        value_parser = values::interface,
        requires = "pcap_file",
        default_value = "any"
    )]
    pub(crate) pcap: Vec<String>,
    /// Add the TLS secrets of all connections to this file, as SSLKEYLOGFILE does, and to a .pcapng: they decrypt the
    /// traffic
    #[arg(long, value_name = "FILE")]
    pub(crate) keylog: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Headers {
    /// Nothing
    Off,
    /// Names
    Names,
    /// Names and the lengths of values
    Lengths,
    /// Names and values
    Values,
}

impl From<Headers> for HeaderCapture {
    fn from(headers: Headers) -> Self {
        match headers {
            Headers::Off => HeaderCapture::Off,
            Headers::Names => HeaderCapture::Names,
            Headers::Lengths => HeaderCapture::Lengths,
            Headers::Values => HeaderCapture::Values,
        }
    }
}

/// Masks what may be a password in the arguments that an error repeats.
pub(crate) fn mask_secrets(mut error: clap::Error) -> clap::Error {
    let text = |error: &clap::Error, kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    let replace = |error: &mut clap::Error, kind, text: String| {
        error.insert(kind, ContextValue::String(text));
    };
    if let Some(value) = text(&error, ContextKind::InvalidValue) {
        let is_header = text(&error, ContextKind::InvalidArg).is_some_and(|arg| arg.starts_with("--header"));
        let shown = if is_header { header_name(&value) } else { without_user_info(&value) };
        replace(&mut error, ContextKind::InvalidValue, shown);
    }
    // Such an argument is the rest of a header field or URL with spaces that was not quoted.
    if error.kind() == ErrorKind::UnknownArgument
        && text(&error, ContextKind::InvalidArg).is_some_and(|arg| !arg.starts_with('-'))
    {
        replace(&mut error, ContextKind::InvalidArg, MASK.into());
    }
    if let Some(command) = text(&error, ContextKind::InvalidSubcommand) {
        replace(&mut error, ContextKind::InvalidSubcommand, without_user_info(&command));
    }
    error
}

const MASK: &str = "***";

/// Returns the name of a header field, if there is one, without its value.
fn header_name(text: &str) -> String {
    match text.split_once(':').and_then(|(name, _)| name.trim().parse::<HeaderName>().ok()) {
        Some(name) => format!("{name}: {MASK}"),
        None => MASK.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_definition_is_valid() {
        Cli::command().debug_assert();
    }
}
