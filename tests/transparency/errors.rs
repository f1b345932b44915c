//! Errors keep their type, their flags and their sources.

use std::error::Error;
use std::io;

use bytes::Bytes;
use http::Request;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper_util::client::legacy;
use nettrace::client::ClientError;
use nettrace::{Failure, record::EndReason};
use tower::ServiceExt as _;

use crate::clients::{BoxError, Payload, Variant, chain, empty, exchange, request, same, variants};
use crate::from_the_wire::WIRE;
use test_support::errors::{CallerError, find, io_kind};
use test_support::raw::{Refused, Server};

/// Returns the error of hyper-util's client. `None` for the preset, which has an error type of its own.
fn pool_error(error: &BoxError) -> Option<&legacy::Error> {
    let pool = error.downcast_ref::<legacy::Error>();
    assert!(pool.is_some() || error.is::<ClientError>(), "{error:?}");
    pool
}

/// Asserts that a layer has recorded one request with this failure, and an untraced client none.
fn assert_recorded(variant: &Variant, failure: &Failure) {
    if variant.name == WIRE {
        return; // only what was sent is seen there, and compared by `same`
    }
    let records = variant.sink.snapshot("").http_requests;
    assert_eq!(records.len(), usize::from(variant.has_request_layer()), "{}", variant.name);
    for record in &records {
        assert_eq!(record.failure.as_ref(), Some(failure), "{}: {}", variant.name, record.req_error);
        assert_eq!(record.end_reason, Some(EndReason::Failed), "{}", variant.name);
    }
}

#[tokio::test]
async fn a_refused_connection_keeps_its_io_error() {
    let refused = Refused::on("127.0.0.1:0");
    for variant in variants(false) {
        let request = Request::get(format!("http://{}/", refused.addr)).body(empty()).unwrap();
        let error = variant.client.clone().oneshot(request).await.expect_err("no connection");
        assert!(pool_error(&error).is_none_or(legacy::Error::is_connect), "{}: {error:?}", variant.name);
        let io = find::<io::Error>(&*error).expect("an I/O error");
        assert_eq!(io.kind(), io::ErrorKind::ConnectionRefused, "{}", variant.name);
        assert_eq!(chain(&*error).last(), Some(&io.to_string()), "{}", variant.name);
        assert_recorded(&variant, &Failure::ConnectionRefused);
    }
}

/// Makes a request that fails, and asserts that hyper's error is as expected and that the failure is recorded.
async fn assert_fails(server: &Server, failure: &Failure, expected: impl Fn(&hyper::Error) -> bool) {
    let scenario = async |client: &crate::clients::AnyClient| {
        let request = request("GET", server, "/").body(empty()).unwrap();
        let error = client.clone().oneshot(request).await.expect_err("no response");
        assert!(pool_error(&error).is_none_or(|error| !error.is_connect() && error.connect_info().is_some()));
        assert!(expected(find(&*error).expect("an error of hyper")), "{error:?}");
        (chain(&*error), io_kind(&*error))
    };
    for variant in same(server, scenario).await.0 {
        assert_recorded(&variant, failure);
    }
}

#[tokio::test]
async fn a_close_before_the_response_is_an_incomplete_message() {
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.close().await
    });
    assert_fails(&server, &Failure::EofError, hyper::Error::is_incomplete_message).await;
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-le").await?;
        conn.close().await
    });
    assert_fails(&server, &Failure::EofError, hyper::Error::is_incomplete_message).await;
}

#[tokio::test]
async fn a_reset_before_the_response_is_recorded() {
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.reset()
    });
    let is_reset = |error: &hyper::Error| io_kind(error) == Some(io::ErrorKind::ConnectionReset);
    assert_fails(&server, &Failure::ConnectionReset, is_reset).await;
}

#[tokio::test]
async fn a_response_that_is_not_http_is_a_parse_error() {
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.write(b"SSH-2.0-OpenSSH_10.0\r\n\r\n").await?;
        conn.close().await
    });
    assert_fails(&server, &Failure::HttpProtocolError, hyper::Error::is_parse).await;
}

#[tokio::test]
async fn a_truncated_body_is_an_eof() {
    for (answer, failure) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", Failure::EofError),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhal", Failure::EofError),
    ] {
        let server = Server::start(async |mut conn| {
            conn.read_head().await?;
            conn.write(answer.as_bytes()).await?;
            conn.close().await
        });
        let make = || request("GET", &server, "/").body(empty()).unwrap();
        let (variants, outcome, _) = same(&server, async |client| exchange(client, make()).await).await;
        let outcome = outcome.expect("a response head");
        assert!(!outcome.body.error.is_empty() && outcome.body.data.starts_with(b"hal"), "{outcome:?}");
        for variant in &variants {
            assert_recorded(variant, &failure);
        }
    }
}

#[tokio::test]
async fn an_error_of_the_request_body_keeps_its_type() {
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.read_to_end().await
    });
    let make = || {
        let pieces = [Ok(Frame::data(Bytes::from_static(b"page"))), Err(BoxError::from(CallerError(3)))];
        let body: Payload = StreamBody::new(futures_util::stream::iter(pieces)).boxed();
        request("POST", &server, "/").body(body).unwrap()
    };
    let scenario = async |client: &crate::clients::AnyClient| {
        let error = client.clone().oneshot(make()).await.expect_err("no response");
        assert!(find::<hyper::Error>(&*error).is_some_and(hyper::Error::is_user), "{error:?}");
        assert_eq!(find(&*error), Some(&CallerError(3)), "{error:?}");
        chain(&*error)
    };
    let expected = scenario(&variants(false)[0].client).await;
    for variant in variants(false) {
        assert_eq!(scenario(&variant.client).await, expected, "{}", variant.name);
        assert_recorded(&variant, &Failure::RequestBodyError);
    }
}

#[tokio::test]
async fn invalid_requests_fail_before_a_connection_is_dialled() {
    let server = Server::answering(b"HTTP/1.1 204 No Content\r\n\r\n");
    for variant in variants(false) {
        let no_host = Request::get("/path").body(empty()).unwrap();
        let version = request("GET", &server, "/").version(http::Version::HTTP_2).body(empty()).unwrap();
        for request in [no_host, version] {
            let error = variant.client.clone().oneshot(request).await.expect_err("an invalid request");
            let pool = pool_error(&error).map(|error| (error.is_connect(), error.source().is_some()));
            assert_eq!(pool.unwrap_or_default(), (false, false), "{}: {error:?}", variant.name);
            let preset = error.downcast_ref::<ClientError>().map(ClientError::failure);
            assert_eq!(preset.unwrap_or(Failure::InvalidArgument), Failure::InvalidArgument);
        }
        let failures = variant
            .sink
            .snapshot("")
            .http_requests
            .iter()
            .map(|request| request.failure.clone())
            .collect::<Vec<_>>();
        assert_eq!(
            failures,
            vec![Some(Failure::InvalidArgument); if variant.has_request_layer() { 2 } else { 0 }]
        );
    }
}
