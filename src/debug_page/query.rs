//! The parameters in the query of a URL.

use crate::{
    explain, filter_values, readable,
    record::{NetTrace, RequestFilter, TraceId},
};
use std::time::Duration;

/// The parameters of a request for a page.
#[derive(Clone, Debug, Default)]
pub(super) struct Query {
    /// The page, if the path does not name it.
    pub(super) view: Option<String>,
    pub(super) options: FilterOptions,
    /// The number of rows that are left out.
    pub(super) skip: usize,
    /// The number of seconds after which the page is loaded again without a script.
    pub(super) refresh: Option<u32>,
    /// Whether times in JSON have nanoseconds.
    pub(super) precise: bool,
    /// Whether something is to be switched on or off.
    pub(super) on: Option<bool>,
    /// All parameters that have a value, as they were given.
    pairs: Vec<(String, String)>,
}

/// Which requests are chosen: the options of `nettrace show`.
#[derive(Clone, Debug, Default)]
pub(super) struct FilterOptions {
    pub(super) failed: bool,
    pub(super) slow: Option<Duration>,
    pub(super) host: Option<String>,
    pub(super) status: Option<(u16, u16)>,
    pub(super) code: Option<String>,
    pub(super) requests: Vec<String>,
    pub(super) since: Option<Duration>,
    pub(super) limit: Option<usize>,
}

/// An error in a parameter of the query.
enum Error {
    /// There is none of this name.
    Name,
    Value(String),
}

impl From<String> for Error {
    fn from(error: String) -> Self {
        Error::Value(error)
    }
}

const KNOWN_NAMES: &str =
    "failed, slow, host, status, code, request, since, limit, skip, refresh, precise, view, on";

impl Query {
    /// Parses a query. An empty value counts as none, because a form sends its empty fields, too.
    ///
    /// # Errors
    ///
    /// Returns what is wrong, with the name of the parameter.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut query = Query::default();
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            let value = value.trim();
            let is_flag = matches!(&*name, "failed" | "precise");
            if value.is_empty() && !is_flag {
                if !KNOWN_NAMES.split(", ").any(|known| known == name) {
                    return Err(unknown(&name));
                }
                continue;
            }
            query.set(&name, value).map_err(|error| match error {
                Error::Name => unknown(&name),
                Error::Value(error) => readable::escape_controls(&format!("{name}={value}: {error}")).into(),
            })?;
            query.pairs.push((name.into_owned(), value.to_owned()));
        }
        Ok(query)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), Error> {
        let options = &mut self.options;
        match name {
            "failed" => options.failed = switch(value)?,
            "slow" => options.slow = Some(filter_values::duration(value)?),
            "host" => options.host = Some(value.to_owned()),
            "status" => options.status = Some(filter_values::status(value)?),
            "code" => options.code = Some(value.to_owned()),
            "request" => options.requests.push(value.to_owned()),
            "since" => options.since = Some(filter_values::duration(value)?),
            "limit" => options.limit = Some(number(value)?),
            "skip" => self.skip = number(value)?,
            "refresh" => self.refresh = Some(number(value)?),
            "precise" => self.precise = switch(value)?,
            "view" => self.view = Some(value.to_owned()),
            "on" => self.on = Some(switch(value)?),
            _ => return Err(Error::Name),
        }
        Ok(())
    }

    /// Returns a query with the same parameters, except that those in `changes` have these values or, with `None`, are
    /// left out.
    pub(super) fn with(&self, changes: &[(&str, Option<&str>)]) -> String {
        let is_changed = |name: &str| changes.iter().any(|(changed, _)| *changed == name);
        let kept = self.pairs.iter().filter(|(name, _)| !is_changed(name));
        let kept = kept.map(|(name, value)| (name.as_str(), value.as_str()));
        let new = changes.iter().filter_map(|(name, value)| Some((*name, (*value)?)));
        form_urlencoded::Serializer::new(String::new()).extend_pairs(kept.chain(new)).finish()
    }

    /// Returns the value of a parameter as it was given; empty without one.
    pub(super) fn text(&self, name: &str) -> &str {
        self.pairs.iter().find(|(given, _)| given == name).map_or("", |(_, value)| value)
    }
}

impl FilterOptions {
    /// Returns `true` if all requests are chosen.
    pub(super) fn is_all(&self) -> bool {
        let FilterOptions { failed, slow, host, status, code, requests, since, limit } = self;
        let is_any_set = slow.is_some() || host.is_some() || status.is_some() || code.is_some();
        !(*failed || is_any_set || !requests.is_empty() || since.is_some() || limit.is_some())
    }

    /// Returns the filter without its limit, which depends on the order in which requests are listed.
    pub(super) fn filter(&self, trace: &NetTrace) -> RequestFilter {
        let mut filter = RequestFilter::new().failed(self.failed);
        if let Some(slow) = self.slow {
            filter = filter.slower_than(slow).slowest_first(true);
        }
        if let Some(host) = &self.host {
            filter = filter.host(host);
        }
        if let Some((first, last)) = self.status {
            filter = filter.status(first, last);
        }
        if !self.requests.is_empty() {
            filter = filter.ids(self.requests.iter().map(String::as_str));
        }
        if let Some(code) = &self.code {
            filter = filter.ids(self.with_code(trace, code));
        }
        if let Some(since) = self.since {
            filter = filter.sent_within(since);
        }
        filter
    }

    /// Returns the requests that failed with a code, or whose cause has it, among those that were named.
    fn with_code(&self, trace: &NetTrace, code: &str) -> Vec<TraceId> {
        let failed = trace.requests(&RequestFilter::new().failure(code));
        let explanation = explain::explain(trace);
        let all = failed.iter().map(|request| &request.trace_id).chain(explanation.subjects_of(code));
        let is_named =
            |id: &&TraceId| self.requests.is_empty() || self.requests.iter().any(|name| name == id.as_str());
        all.filter(is_named).cloned().collect()
    }
}

fn switch(value: &str) -> Result<bool, String> {
    match value {
        "" | "1" | "on" | "true" | "yes" => Ok(true),
        "0" | "off" | "false" | "no" => Ok(false),
        _ => Err("neither true nor false".into()),
    }
}

fn number<T: std::str::FromStr>(value: &str) -> Result<T, String> {
    value.parse().map_err(|_| "not a number".into())
}

fn unknown(name: &str) -> String {
    format!("{} is not a parameter; there are {KNOWN_NAMES}", readable::escape_controls(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_parsed() {
        let query = Query::parse(
            "failed&slow=500ms&host=shop.test%3A8443&status=5xx&request=a&request=b+c&since=10s&limit=7&skip=2&refresh=5",
        )
        .unwrap();
        let options = &query.options;
        assert!(options.failed && !options.is_all());
        assert_eq!(options.slow, Some(Duration::from_millis(500)));
        assert_eq!((options.host.as_deref(), options.status), (Some("shop.test:8443"), Some((500, 599))));
        assert_eq!(options.requests, ["a", "b c"]);
        assert_eq!((options.since, options.limit), (Some(Duration::from_secs(10)), Some(7)));
        assert_eq!((query.skip, query.refresh, query.text("limit")), (2, Some(5), "7"));
    }

    #[test]
    fn an_empty_field_of_a_form_is_no_condition() {
        let query = Query::parse("host=&slow=&limit=+&status=&code=&since=&failed=0").unwrap();
        assert!(query.options.is_all());
        assert!(Query::parse("").unwrap().options.is_all());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (query, says) in [
            ("slow=fast", "slow=fast: not a number of seconds"),
            ("status=9", "status=9: a status has three digits"),
            ("limit=-1", "limit=-1: not a number"),
            ("failed=perhaps", "failed=perhaps: neither true nor false"),
            ("slow=%1b[31m", "slow=\\u{1b}[31m: not a number"),
            ("stauts=5xx", "stauts is not a parameter"),
            ("stauts=", "stauts is not a parameter"),
        ] {
            let error = Query::parse(query).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn parameters_can_be_changed() {
        let query = Query::parse("host=a+b%26c&skip=100&failed").unwrap();
        assert_eq!(query.with(&[("skip", Some("200"))]), "host=a+b%26c&failed=&skip=200");
        assert_eq!(query.with(&[("skip", None), ("failed", None)]), "host=a+b%26c");
    }
}
