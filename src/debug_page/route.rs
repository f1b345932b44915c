//! Which page a path and a query ask for.

use super::query::Query;
use http::Method;
use percent_encoding::percent_decode_str;

/// A page, or something that is switched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Requests,
    Request(String),
    Summary,
    Trace,
    Explanation,
    Metrics,
    Recording,
    Capture,
}

/// The names of the pages, as in paths and in `view`.
pub(super) const PAGES: [(&str, Route); 5] = [
    ("summary", Route::Summary),
    ("trace.json", Route::Trace),
    ("explain.json", Route::Explanation),
    ("metrics", Route::Metrics),
    ("", Route::Requests),
];

const SWITCHES: [(&str, Route); 2] = [("recording", Route::Recording), ("capture", Route::Capture)];

impl Route {
    /// Returns the page for a path below the place where the page is mounted; `None` if there is none.
    pub(super) fn of(path: &str, query: &Query) -> Option<Self> {
        let name = path.strip_prefix('/').unwrap_or(path);
        if let Some(id) = name.strip_prefix("request/").filter(|id| !id.is_empty() && !id.contains('/')) {
            return Some(Route::Request(percent_decode_str(id).decode_utf8_lossy().into_owned()));
        }
        let name = if name.is_empty() { query.view.as_deref().unwrap_or_default() } else { name };
        let mut all = PAGES.into_iter().chain(SWITCHES);
        match all.find(|(known, _)| *known == name)?.1 {
            Route::Requests => Some(match &query.options.requests[..] {
                [id] => Route::Request(id.clone()),
                _ => Route::Requests,
            }),
            route => Some(route),
        }
    }

    /// Returns the methods that are allowed.
    pub(super) fn methods(&self) -> &'static [Method] {
        match self {
            Route::Recording | Route::Capture => &[Method::POST],
            Route::Requests
            | Route::Request(_)
            | Route::Summary
            | Route::Trace
            | Route::Explanation
            | Route::Metrics => &[Method::GET, Method::HEAD],
        }
    }
}

/// Returns the path from a page to the place where the pages are mounted, for links: empty if it is that place, with or
/// without a slash at its end. `prefix` is what was removed from the path.
pub(super) fn base(prefix: &str, path: &str) -> String {
    let below = path.strip_prefix('/').unwrap_or(path);
    let depth = below.matches('/').count();
    match (below.is_empty(), prefix.rsplit_once('/')) {
        (true, _) => String::new(),
        // A router that keeps the prefix may not know it with a slash at its end.
        (false, Some((_, mounted))) => format!("{}{mounted}", "../".repeat(depth + 1)),
        (false, None) if depth == 0 => "./".into(),
        (false, None) => "../".repeat(depth),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(path: &str, query: &str) -> Option<Route> {
        Route::of(path, &Query::parse(query).unwrap())
    }

    #[test]
    fn pages_have_a_path_and_a_view() {
        for (name, page) in PAGES.into_iter().chain(SWITCHES) {
            assert_eq!(route(&format!("/{name}"), ""), Some(page.clone()));
            assert_eq!(route("/", &format!("view={name}&host=h")), Some(page.clone()));
            assert_eq!(route("", &format!("view={name}")), Some(page));
        }
        for unknown in ["/x", "/summary/", "//", "/request/", "/request/a/b", "/request"] {
            assert_eq!(route(unknown, ""), None, "{unknown}");
        }
        assert_eq!(route("/", "view=x"), None);
    }

    #[test]
    fn a_request_is_named_by_path_or_query() {
        let request = Some(Route::Request("tid 12".into()));
        assert_eq!(route("/request/tid%2012", ""), request);
        assert_eq!(route("/", "request=tid+12"), request);
        assert_eq!(route("/", "request=a&request=b"), Some(Route::Requests));
        assert_eq!(route("/trace.json", "request=a"), Some(Route::Trace));
    }

    #[test]
    fn links_lead_to_where_the_page_is_mounted() {
        for (prefix, path, to) in [
            ("", "", ""),
            ("", "/", ""),
            ("", "/summary", "./"),
            ("", "/request/x", "../"),
            ("", "/a/b/c", "../../"),
            ("/debug/nettrace", "", ""),
            ("/debug/nettrace", "/", ""),
            ("/debug/nettrace", "/summary", "../nettrace"),
            ("/debug/nettrace", "/request/x", "../../nettrace"),
        ] {
            assert_eq!(base(prefix, path), to, "{prefix}{path}");
        }
    }
}
