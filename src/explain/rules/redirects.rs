//! Causes in redirects.

use super::http::{sent_request, url};
use crate::{
    explain::{
        case::{Case, MAX_RELATED},
        finding::Outcome,
        found::{Found, Stage},
    },
    readable::{duration, shortened},
    record::{Failure, HttpReqTrace},
};

/// The requests that redirected to this one, the latest first.
fn hops<'a>(case: &Case<'a>, request: &'a HttpReqTrace) -> impl Iterator<Item = &'a HttpReqTrace> {
    let trace = case.trace();
    std::iter::successors(Some(request), |hop| trace.http_requests.get(&*hop.prev_hop))
        .skip(1)
        .take(MAX_RELATED)
}

pub(super) fn redirect_loop(case: &Case<'_>) -> Option<Found> {
    let request = sent_request(case).filter(|request| request.failure == Some(Failure::TooManyRedirects))?;
    let host = case.origin();
    let again = hops(case, request).find(|hop| hop.req_url == request.req_url);
    let count = hops(case, request).count();
    let found = match again {
        Some(_) => {
            let sentence =
                format!("{host} redirects in a circle: {} redirects to itself in the end.", url(request));
            Found::failure(Stage::Http, host.as_str(), sentence).check(
                "Look at what the server decides the redirect by: cookies, the scheme before a gateway, or the host.",
            )
        }
        None => {
            let sentence = format!("{host} redirects further after {count} redirects, each to another URL.");
            Found::failure(Stage::Http, host.as_str(), sentence)
                .check("Request the last URL, or raise the limit of redirects.")
        }
    };
    let found = found.shows_at(request, "respStatusCode", request.resp_status_code, request.resp_recv_at);
    let found = found.shows_at(request, "reqURL", &request.req_url, request.req_sent_at);
    Some(match again.or_else(|| hops(case, request).next()) {
        Some(hop) => found.shows_at(hop, "reqURL", &hop.req_url, hop.req_sent_at),
        None => found,
    })
}

/// The server redirects to a URL that no HTTP client can request.
pub(super) fn invalid_redirect(case: &Case<'_>) -> Option<Found> {
    let request = sent_request(case).filter(|request| request.failure == Some(Failure::InvalidRedirect))?;
    let host = case.origin();
    let why = shortened(request.req_error.trim_end_matches('.'));
    let sentence = format!("{host} redirects to a URL that cannot be requested: {why}.");
    let found = Found::failure(Stage::Http, host.as_str(), sentence)
        .check(format!("Correct the Location that {host} sends for {}.", url(request)));
    let found = found.shows_at(request, "respStatusCode", request.resp_status_code, request.resp_recv_at);
    Some(found.shows_at(request, "reqError", &*request.req_error, request.end_at))
}

/// Several redirects in a row before the answer. One or two, to HTTPS and to another name, are usual.
pub(super) fn redirect_detour(case: &Case<'_>) -> Option<Found> {
    const MIN_HOPS: usize = 3;
    const MAX_SHOWN: usize = 8;
    let request = sent_request(case).filter(|request| !(300..400).contains(&request.resp_status_code))?;
    let hops: Vec<_> = hops(case, request).collect();
    let first = hops.last().filter(|_| hops.len() >= MIN_HOPS && case.outcome == Outcome::Succeeded)?;
    let time = case.between(first.req_sent_at, request.req_sent_at);
    let sentence = format!(
        "{} redirects led from {} to {}, which took {}.",
        hops.len(),
        url(first),
        url(request),
        duration(time, false)
    );
    let found = Found::degraded(Stage::Http, case.origin(), sentence)
        .check(format!("Request {} directly.", url(request)))
        .costs(time);
    let found = hops.iter().rev().take(MAX_SHOWN).fold(found, |found, hop| {
        found.shows_at(*hop, "respStatusCode", hop.resp_status_code, hop.resp_recv_at)
    });
    Some(found.shows_at(request, "prevHop", &*request.prev_hop, request.req_sent_at))
}
