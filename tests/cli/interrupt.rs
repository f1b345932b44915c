//! `nettrace get`, interrupted by signals.

use crate::{command, parse};
use nettrace::record::EndReason;
use std::process::{Command, Stdio};
use test_support::{check, raw::Server};
use tokio::sync::watch;

#[test]
fn an_interrupted_request_is_written_to_the_trace() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let (reached, mut is_reached) = watch::channel(false);
        let server = Server::start(async move |mut conn| {
            conn.read_head().await?;
            conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await?;
            reached.send_replace(true);
            conn.hang().await
        });
        let child = command(["get", &format!("http://{}/", server.addr()), "--json", "-", "--repeat", "5"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let runtime = test_support::background::runtime();
        runtime.block_on(is_reached.wait_for(|reached| *reached)).unwrap();
        let killed =
            Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status().unwrap();
        assert!(killed.success());
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(stderr.contains("· cancelled") && stderr.ends_with("nettrace: interrupted\n"), "{stderr}");
        let trace = parse(&String::from_utf8(output.stdout).unwrap());
        check::finished(&trace);
        assert_eq!(trace.http_requests.len(), 1);
        assert_eq!(trace.http_requests[0].end_reason, Some(EndReason::Cancelled));
    }
}
