//! Finds the redirects that led from one request to the next.
//!
//! Traces of this crate link each hop to the one before. In those of the Go package the link is guessed from the
//! `Location` that the earlier response had, if its header is in the trace.

use std::collections::{BTreeSet, HashMap};

use http::Uri;

use super::TraceGraph;
use crate::record::HttpReqTrace;

impl TraceGraph<'_> {
    /// Returns the indexes of the requests, grouped in chains of redirects. A chain begins with the request that no
    /// redirect led to. The chains are ordered by that request.
    pub(crate) fn chains(&self) -> Vec<Vec<usize>> {
        let requests = &self.trace.http_requests;
        let drawn = || requests.iter().enumerate().filter(|(_, request)| !self.is_connect(request));
        let by_id: HashMap<&str, usize> =
            drawn().rev().map(|(at, request)| (request.trace_id.as_str(), at)).collect();
        let mut next = vec![None; requests.len()];
        let mut is_hop = vec![false; requests.len()];
        // The redirects that no request has followed yet, by URL: when they arrived, and their index.
        let mut redirects: HashMap<String, BTreeSet<(i64, usize)>> = HashMap::new();
        for (at, request) in drawn() {
            let named = by_id.get(request.prev_hop.as_str()).copied();
            let mut guessed = || {
                let sent = self.times.at(request.req_sent_at)?;
                let candidates = redirects.get_mut(request.req_url.as_str())?;
                let found = *candidates.range(..=(sent, usize::MAX)).next_back()?;
                candidates.remove(&found);
                Some(found.1)
            };
            let prev = if request.prev_hop.is_undefined() { guessed() } else { named };
            // Only an earlier request, so that there are no cycles.
            if let Some(prev) = prev.filter(|prev| *prev < at && next[*prev].is_none()) {
                next[prev] = Some(at);
                is_hop[at] = true;
            }
            if let Some((url, came)) = redirects_to(request).zip(self.times.at(request.resp_recv_at)) {
                redirects.entry(url).or_default().insert((came, at));
            }
        }
        let heads = drawn().map(|(at, _)| at).filter(|at| !is_hop[*at]);
        heads.map(|head| std::iter::successors(Some(head), |at| next[*at]).collect()).collect()
    }
}

/// Returns the URL that a response redirects to, if its header is in the trace.
fn redirects_to(request: &HttpReqTrace) -> Option<String> {
    if !matches!(request.resp_status_code, 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = &request.resp_header.get("location")?.field_val;
    let location = location.split('#').next().unwrap_or_default();
    let url: Uri = request.req_url.parse().ok()?;
    if location.starts_with('/') && !location.starts_with("//") {
        return Some(format!("{}://{}{location}", url.scheme_str()?, url.authority()?));
    }
    (!location.is_empty()).then(|| location.to_owned())
}
