//! Which output goes to standard output, to standard error and to files.

use crate::{command, exits_with, parse, run};
use std::{io::Read, process::Stdio};
use test_support::raw::Server;
use test_support::require::skip;

const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello\n";

fn hello() -> (Server, String) {
    let server = Server::answering(HELLO);
    let url = format!("http://{}/", server.addr());
    (server, url)
}

#[test]
fn trace_only_omits_the_body() {
    let (_server, url) = hello();
    let output = run(["get", &url, "--trace-only"]);
    exits_with(&output, 0);
    assert!(output.stdout.starts_with(&format!("GET {url} · 200 OK")), "{}", output.stdout);
    assert_eq!(output.stderr, "");
    assert!(!output.stdout.contains("hello") && !output.stdout.contains('\x1b'));
}

#[test]
fn the_body_can_be_written_to_a_file() {
    let (_server, url) = hello();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("body");
    let output = run(["get".as_ref(), url.as_ref(), "-o".as_ref(), file.as_os_str()]);
    exits_with(&output, 0);
    assert_eq!(std::fs::read(file).unwrap(), b"hello\n");
    assert!(output.stdout.starts_with("GET "), "the waterfall goes to standard output");
}

#[test]
fn json_on_standard_output_is_its_only_content() {
    let (_server, url) = hello();
    let output = run(["get", &url, "--json", "-"]);
    exits_with(&output, 0);
    let trace = parse(&output.stdout);
    assert_eq!(trace.http_requests.len(), 1);
    assert!(trace.http_requests[0].end_at.to_string().ends_with("ms"));
    assert!(output.stderr.starts_with("GET "));
    let is_whole = |time: nettrace::Timestamp| time.relative_nanos().unwrap().is_multiple_of(1_000_000);
    assert!(is_whole(trace.http_requests[0].end_at) && is_whole(trace.trace_end_at));

    let precise = parse(&run(["get", &url, "--json", "-", "--precise"]).success());
    let request = &precise.http_requests[0];
    assert!(![request.req_sent_at, request.end_at, precise.trace_end_at].into_iter().all(is_whole));
}

#[test]
fn ascii_is_used_on_request_or_if_the_locale_is_not_utf8() {
    let (_server, url) = hello();
    let plain = run(["get", &url, "--trace-only", "--ascii"]);
    assert!(plain.success().is_ascii());
    let mut latin = command(["get", &url, "--trace-only"]);
    latin.env("LC_ALL", "cs_CZ.ISO8859-2");
    assert!(test_support::process::run(latin, crate::PATIENCE).success().is_ascii());
    let mut utf8 = command(["get", &url, "--trace-only"]);
    utf8.env("LC_ALL", "cs_CZ.UTF-8");
    assert!(!test_support::process::run(utf8, crate::PATIENCE).success().is_ascii());
}

#[test]
fn the_waterfall_has_the_width_of_the_terminal() {
    let (_server, url) = hello();
    for columns in [60, 120] {
        let mut get = command(["get", &url, "--trace-only"]);
        get.env("COLUMNS", columns.to_string());
        let drawing = test_support::process::run(get, crate::PATIENCE).success();
        assert_eq!(drawing.lines().next().unwrap().chars().count(), columns, "{drawing}");
    }
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\n\r\n").await?;
        // Writes until the client has closed the connection.
        while conn.write(&[b'x'; 64 * 1024]).await.is_ok() {}
        Ok(())
    });
    let url = format!("http://{}/", server.addr());
    let mut child = command(["get", &url]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdout.take().unwrap().read_exact(&mut [0; 1000]).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(
        stderr.starts_with("GET ") && !stderr.contains("panicked") && !stderr.contains("nettrace:"),
        "{stderr}"
    );

    // The pipe is closed before the first byte.
    for args in [&["demo"][..], &["--help"], &["get", &url, "--trace-only", "--timeout", "0.2"]] {
        let mut child = command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
}

#[test]
fn a_full_disk_is_a_failure() {
    if !std::path::Path::new("/dev/full").exists() {
        return skip(file!(), line!(), "no /dev/full on this machine");
    }
    let (_server, url) = hello();
    for args in [["-o", "/dev/full"], ["--json", "/dev/full"]] {
        let output = run(["get", &url].iter().chain(&args));
        exits_with(&output, 1);
        assert!(crate::reason(&output).contains("No space left on device"), "{}", output.stderr);
    }
}
