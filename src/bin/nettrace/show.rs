//! `nettrace show`: draws a trace from a file.

use crate::{
    input,
    output::{Problem, Stream, TextOutput, is_dash},
};
use nettrace::NetTrace;
use std::path::Path;

pub(crate) fn run(file: &Path, headers: bool, ascii: bool) -> Result<(), Problem> {
    let trace = read(file)?;
    let drawn = TextOutput::new(Stream::Stdout, ascii).waterfall(&trace, true, headers);
    drawn.map_err(|error| Problem::failed(format!("cannot write to standard output: {error}")))
}

/// Reads a trace.
pub(crate) fn read(file: &Path) -> Result<NetTrace, Problem> {
    let name = if is_dash(file) { "standard input".into() } else { file.display().to_string() };
    // A file that does not begin like a trace may be endless.
    let may_be_trace = |beginning: &[u8]| beginning.trim_ascii_start().first().is_none_or(|c| *c == b'{');
    let json = input::read(file, input::MAX_TRACE_BYTES, may_be_trace)
        .map_err(|error| Problem::failed(format!("cannot read {name}: {error}")))?;
    parse(&json, &name)
}

fn parse(json: &[u8], name: &str) -> Result<NetTrace, Problem> {
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
    Ok(trace)
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
        assert_eq!(parse(b" {} ", "").unwrap(), NetTrace::default());
    }
}
