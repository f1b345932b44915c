use crate::fixture::{finished, statuses};
use bollard::{container::LogOutput, exec::StartExecResults};
use futures_util::StreamExt as _;
use http::{HeaderValue, StatusCode, header::UPGRADE};
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use nettrace::{Failure, TraceSink, record::EndReason};
use nettrace_clients::bollard::client;
use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixListener,
};

/// The bytes that are written to the standard input of a command.
const INPUT: &[u8] = b"world\n";
/// The standard output of a command, as the daemon frames it.
const OUTPUT: &[u8] = b"\x01\0\0\0\0\0\0\x06hello\n";

/// Serves what a Docker daemon does, and returns the paths that were asked for.
fn daemon(listener: UnixListener) -> Arc<Mutex<Vec<String>>> {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    tokio::spawn(async move {
        while let Ok((conn, _)) = listener.accept().await {
            let log = log.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                log.lock().unwrap().push(request.uri().path().to_owned());
                let (status, body) = match request.uri().path().rsplit('/').next() {
                    Some("_ping") => (200, "OK"),
                    Some("version") => (200, r#"{"Version": "29.3.1"}"#),
                    _ => (404, r#"{"message": "no such thing"}"#),
                };
                let mut response =
                    Response::builder().status(status).body(Full::new(body.as_bytes())).unwrap();
                if request.headers().contains_key(UPGRADE) {
                    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                    response.headers_mut().insert(UPGRADE, HeaderValue::from_static("tcp"));
                    tokio::spawn(async {
                        let mut stream = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
                        stream.read_exact(&mut [0; INPUT.len()]).await.unwrap();
                        stream.write_all(OUTPUT).await.unwrap();
                        stream.shutdown().await.unwrap();
                    });
                }
                async { Ok::<_, Infallible>(response) }
            });
            let serving = http1::Builder::new().serve_connection(TokioIo::new(conn), service);
            tokio::spawn(serving.with_upgrades());
        }
    });
    asked
}

#[tokio::test]
async fn requests_over_a_unix_socket_are_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("docker.sock");
    let asked = daemon(UnixListener::bind(&path).unwrap());
    let sink = TraceSink::new();
    let docker = client(&sink, &path).unwrap();

    assert_eq!(docker.ping().await.unwrap(), "OK");
    assert_eq!(docker.version().await.unwrap().version.unwrap(), "29.3.1");
    docker.inspect_container("none", None).await.expect_err("there is none");

    drop(docker);
    let trace = finished(&sink).await;
    assert_eq!(statuses(&trace), [200, 200, 404]);
    let recorded = trace.http_requests.iter().map(|request| {
        let url: http::Uri = request.req_url.as_str().parse().unwrap();
        url.path().to_owned()
    });
    assert_eq!(recorded.collect::<Vec<_>>(), *asked.lock().unwrap());
    for request in &trace.http_requests {
        let conn = trace.tcp_conns.get(&request.tcp_conn).expect("the connection");
        assert_eq!(conn.unix_path.as_str(), path.to_str().unwrap());
        assert_eq!(request.end_reason, Some(EndReason::Unobserved), "the body is hyper's own");
    }
}

/// The connection of an exec is upgraded. What passes over it afterwards is counted on its record.
#[tokio::test]
async fn an_upgraded_connection_goes_on_being_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("docker.sock");
    let _asked = daemon(UnixListener::bind(&path).unwrap());
    let sink = TraceSink::new();
    let docker = client(&sink, &path).unwrap();

    let StartExecResults::Attached { mut output, mut input } = docker.start_exec("1", None).await.unwrap()
    else {
        panic!("detached")
    };
    let before = sink.snapshot("").tcp_conns[0].clone();
    input.write_all(INPUT).await.unwrap();
    let Some(Ok(LogOutput::StdOut { message })) = output.next().await else { panic!("no output") };
    assert_eq!(message, "hello\n");
    assert!(output.next().await.is_none());

    drop((output, input, docker));
    let trace = finished(&sink).await;
    assert_eq!(statuses(&trace), [101]);
    assert_eq!(trace.http_requests[0].end_reason, Some(EndReason::Closed));
    let conn = &trace.tcp_conns[0];
    assert_eq!(conn.total_sent_bytes - before.total_sent_bytes, INPUT.len() as u64);
    assert_eq!(conn.total_recv_bytes - before.total_recv_bytes, OUTPUT.len() as u64);
}

#[tokio::test]
async fn a_daemon_that_does_not_run_is_in_the_trace() {
    let folder = tempfile::tempdir().unwrap();
    let sink = TraceSink::new();
    let docker = client(&sink, &folder.path().join("docker.sock")).unwrap();
    docker.ping().await.expect_err("nobody listens");
    let trace = finished(&sink).await;
    assert_eq!(trace.dials.len(), 1);
    assert_eq!(trace.http_requests[0].failure, trace.dials[0].failure);
    assert!(!matches!(trace.dials[0].failure, None | Some(Failure::Interrupted)));
}
