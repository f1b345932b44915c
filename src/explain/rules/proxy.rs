//! Causes at proxies.

use crate::{
    explain::{
        case::Case,
        found::{Found, Stage},
    },
    record::Failure,
};

pub(super) fn auth_required(case: &Case<'_>) -> Option<Found> {
    let request = case.request.filter(|_| case.failure() == Some(&Failure::ProxyAuthenticationRequired))?;
    let proxy = if request.network_proxy.is_empty() { "the proxy" } else { request.network_proxy.as_str() };
    let found = Found::failure(
        Stage::Proxy,
        proxy,
        format!("{proxy} wants credentials, or does not accept those that it was sent."),
    )
    .check("Set the user name and password in the proxy's URL.");
    Some(found.shows_at(request, "failure", Failure::ProxyAuthenticationRequired.as_str(), request.end_at))
}
