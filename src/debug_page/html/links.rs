//! Links between the pages.
//!
//! They are a query without a path where that is possible, so that they do not depend on the path of the page.

use crate::debug_page::query::Query;

/// Returns the link to a page, with the parameters of a query.
pub(super) fn href(base: &str, view: &str, query: &str) -> String {
    let view = if view.is_empty() { String::new() } else { format!("view={view}") };
    let separator = if view.is_empty() || query.is_empty() { "" } else { "&" };
    format!("{base}?{view}{separator}{query}")
}

/// Returns the link to a request.
pub(super) fn request_href(base: &str, id: &str) -> String {
    href(base, "", &Query::default().with(&[("request", Some(id))]))
}
