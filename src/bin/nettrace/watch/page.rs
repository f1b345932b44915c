//! Requests of a debug page, which is asked again and again.

use crate::{output::Problem, remote, show, user_info::without_user_info};
use nettrace::{
    NetTrace,
    record::{RequestFilter, Timestamp, TraceId},
};
use std::collections::HashSet;

/// The `trace.json` of a debug page, or any other URL with a trace.
pub(super) struct Page {
    url: String,
    /// The begin of the last trace. Another one is that of another process, which gives the same identifiers.
    begin: Timestamp,
    /// The requests of the last trace that had ended.
    known: HashSet<TraceId>,
}

impl Page {
    pub(super) fn new(url: &str) -> Self {
        Page { url: url.to_owned(), begin: Timestamp::UNDEFINED, known: HashSet::new() }
    }

    /// Returns the part of the trace with the requests that had not ended in the last one.
    pub(super) fn new_requests(&mut self) -> Result<NetTrace, Problem> {
        let trace = show::parse(&remote::read(&self.url)?, &without_user_info(&self.url))?;
        if trace.trace_begin_at != self.begin {
            self.begin = trace.trace_begin_at;
            self.known.clear();
        }
        let ended = trace.http_requests.iter().filter(|request| request.end_reason.is_some());
        let ended: HashSet<TraceId> = ended.map(|request| request.trace_id.clone()).collect();
        let new = ended.difference(&self.known).cloned();
        let part = trace.select(&RequestFilter::new().ids(new));
        self.known = ended;
        Ok(part)
    }
}
