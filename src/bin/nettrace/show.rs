//! `nettrace show`: draws a trace from a file or a URL.

use crate::{
    args::ShowArgs,
    input,
    output::{Problem, Stream, TextOutput, is_dash},
    remote,
    user_info::without_user_info,
};
use nettrace::{
    NetTrace, explain,
    record::{RequestFilter, TraceId},
};
use std::{io, path::Path};

pub(crate) fn run(args: &ShowArgs, ascii: bool) -> Result<(), Problem> {
    let trace = read(&args.file)?;
    let screen = TextOutput::new(Stream::Stdout, ascii);
    let chosen = choose(args, &trace);
    let printed = match chosen {
        _ if args.summary => summarize(screen, &chosen.map_or(trace.clone(), |filter| trace.select(&filter))),
        None => screen.waterfall(&trace, true, args.headers),
        Some(filter) => draw(screen, &trace, &filter, args.headers),
    };
    printed.map_err(|error| Problem::failed(format!("cannot write to standard output: {error}")))
}

/// Returns the filter that the options describe; `None` without any.
fn choose(args: &ShowArgs, trace: &NetTrace) -> Option<RequestFilter> {
    let ShowArgs { conditions, code, requests, since, limit, .. } = args;
    let of_conditions = conditions.filter();
    let is_any = of_conditions.is_some()
        || code.is_some()
        || !requests.is_empty()
        || since.is_some()
        || limit.is_some();
    let mut filter = of_conditions.unwrap_or_default().slowest_first(conditions.slow.is_some());
    if !requests.is_empty() {
        filter = filter.ids(requests.iter().map(String::as_str));
    }
    if let Some(code) = code {
        filter = filter.ids(with_code(trace, code, requests));
    }
    if let Some(since) = since {
        filter = filter.sent_within(*since);
    }
    if let Some(limit) = limit {
        filter = filter.limit(*limit);
    }
    is_any.then_some(filter)
}

/// Returns the requests that failed with a code, or whose cause has it, among those that were named.
fn with_code(trace: &NetTrace, code: &str, named: &[String]) -> Vec<TraceId> {
    let failed = trace.requests(&RequestFilter::new().failure(code));
    let explanation = explain::explain(trace);
    let all = failed.iter().map(|request| &request.trace_id).chain(explanation.subjects_of(code));
    let is_named = |id: &&TraceId| named.is_empty() || named.iter().any(|name| name == id.as_str());
    all.filter(is_named).cloned().collect()
}

/// Draws the chosen requests. The slowest come first if the filter says so, which a drawing of all would not show.
fn draw(screen: TextOutput, trace: &NetTrace, filter: &RequestFilter, headers: bool) -> io::Result<()> {
    let part = trace.select(filter);
    let requests = trace.requests(filter);
    if requests.is_empty() {
        return screen.print("No request of the trace meets these conditions.\n");
    }
    for (at, request) in requests.into_iter().enumerate() {
        if at > 0 {
            screen.print("\n")?;
        }
        screen.waterfall(&part.slice(&request.trace_id), false, headers)?;
    }
    Ok(())
}

/// Prints the hosts, and each cause once.
fn summarize(screen: TextOutput, trace: &NetTrace) -> io::Result<()> {
    screen.summary(trace)?;
    let explanation = explain::explain(trace);
    if explanation.is_empty() {
        Ok(())
    } else {
        screen.print(&screen.in_charset(&format!("\n{explanation}")))
    }
}

/// Reads a trace from a file, a store of slices, standard input or a URL.
pub(crate) fn read(file: &Path) -> Result<NetTrace, Problem> {
    if let Some(url) = remote::url(file) {
        return parse(&remote::read(url)?, &without_user_info(url));
    }
    if input::is_store(file) {
        return input::read_store(file);
    }
    let name = if is_dash(file) { "standard input".into() } else { file.display().to_string() };
    // A file that does not begin like a trace may be endless.
    let may_be_trace = |beginning: &[u8]| beginning.trim_ascii_start().first().is_none_or(|c| *c == b'{');
    let json = input::read(file, input::MAX_TRACE_BYTES, may_be_trace)
        .map_err(|error| Problem::failed(format!("cannot read {name}: {error}")))?;
    parse(&json, &name)
}

pub(crate) fn parse(json: &[u8], name: &str) -> Result<NetTrace, Problem> {
    let place = |error: &serde_json::Error, path: &str| {
        // The position is printed already.
        let text = error.to_string();
        let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
        let path = path.trim_end_matches(['.', '?']);
        let path = if path.is_empty() { String::new() } else { format!("{path}: ") };
        Problem::failed(format!("{name}:{}:{}: {path}{text}", error.line(), error.column()))
    };
    // Serde accepts a list as the fields of a struct in order.
    if json.trim_ascii_start().starts_with(b"[") {
        return Err(Problem::failed(format!("{name}:1:1: a list, where a trace is an object")));
    }
    let mut reader = serde_json::Deserializer::from_slice(json);
    let trace = serde_path_to_error::deserialize(&mut reader)
        .map_err(|error| place(error.inner(), &error.path().to_string()))?;
    reader.end().map_err(|error| place(&error, ""))?;
    if trace == NetTrace::default() && !is_empty_object(json) {
        return Err(Problem::failed(format!(
            "{name}: not a trace: it has none of the fields of one, such as traceBeginAt and httpRequests"
        )));
    }
    Ok(trace)
}

/// Returns `true` for `{}`, which is a trace without records.
fn is_empty_object(json: &[u8]) -> bool {
    json.iter().filter(|byte| !byte.is_ascii_whitespace()).eq(b"{}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(json: &str) -> String {
        parse(json.as_bytes(), "f.json").unwrap_err().text
    }

    #[test]
    fn errors_have_their_position() {
        assert_eq!(problem(""), "f.json:1:0: EOF while parsing a value");
        assert_eq!(
            problem("{\n  \"dials\": [{}, {\"traceID\": 1}]}"),
            "f.json:2:29: dials[1].traceID: invalid type: integer `1`, expected a string"
        );
        assert_eq!(problem("{} x"), "f.json:1:4: trailing characters");
        assert_eq!(problem("[]"), "f.json:1:1: a list, where a trace is an object");
        assert!(problem("{\"dials\": [").starts_with("f.json:1:11: dials"), "{}", problem("{\"dials\": ["));
        assert_eq!(
            problem("{\"dials\": [{\"traceID\": \"x\""),
            "f.json:1:26: dials[0]: EOF while parsing an object"
        );
        assert!(problem("42").starts_with("f.json:1:2: invalid type: integer `42`"));
        assert!(
            problem("{\"description\": \"\u{0}\"}")
                .starts_with("f.json:1:18: description: control character")
        );
    }

    #[test]
    fn an_empty_object_is_an_empty_trace() {
        assert_eq!(parse(b" { } ", "").unwrap(), NetTrace::default());
        assert!(problem(r#"{"findings": []}"#).starts_with("f.json: not a trace: "));
    }
}
