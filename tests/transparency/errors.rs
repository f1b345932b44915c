//! Errors keep their type, their flags and their sources.

use std::error::Error;
use std::fmt;
use std::io;

use bytes::Bytes;
use http::Request;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper_util::client::legacy;
use nettrace::client::ClientError;
use nettrace::{Failure, record::EndReason};
use tower::ServiceExt as _;

use crate::clients::{BoxError, Payload, Way, chain, empty, exchange, request, same, ways};
use test_support::raw::{Refused, Server};

/// The error of hyper-util's client, as every way but the preset gives it back.
fn of_pool(error: &BoxError) -> Option<&legacy::Error> {
    let pool = error.downcast_ref::<legacy::Error>();
    assert!(pool.is_some() || error.is::<ClientError>(), "{error:?}");
    pool
}

fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// Asserts that each traced client has recorded this failure.
fn assert_recorded(way: &Way, failure: &Failure) {
    let records = way.sink.snapshot("").http_requests;
    assert_eq!(records.len(), usize::from(way.is_traced()), "{}", way.name);
    for record in &records {
        assert_eq!(record.failure.as_ref(), Some(failure), "{}: {}", way.name, record.req_error);
        assert_eq!(record.end_reason, Some(EndReason::Failed), "{}", way.name);
    }
}

#[tokio::test]
async fn a_refused_connection() {
    let refused = Refused::on("127.0.0.1:0");
    for way in ways(false) {
        let request = Request::get(format!("http://{}/", refused.addr)).body(empty()).unwrap();
        let error = way.client.clone().oneshot(request).await.expect_err("no connection");
        assert!(of_pool(&error).is_none_or(legacy::Error::is_connect), "{}: {error:?}", way.name);
        let io = find::<io::Error>(&*error).expect("an I/O error");
        assert_eq!(io.kind(), io::ErrorKind::ConnectionRefused, "{}", way.name);
        assert_eq!(chain(&*error).last(), Some(&io.to_string()), "{}", way.name);
        assert_recorded(&way, &Failure::ConnectionRefused);
    }
}

/// Makes a request that fails, and asserts hyper's error and the recorded failure.
async fn breaks(server: &Server, failure: &Failure, expected: impl Fn(&hyper::Error) -> bool) {
    let scenario = async |client: &crate::clients::AnyClient| {
        let request = request("GET", server, "/").body(empty()).unwrap();
        let error = client.clone().oneshot(request).await.expect_err("no response");
        assert!(of_pool(&error).is_none_or(|error| !error.is_connect() && error.connect_info().is_some()));
        assert!(expected(find(&*error).expect("an error of hyper")), "{error:?}");
        (chain(&*error), find::<io::Error>(&*error).map(io::Error::kind))
    };
    for way in same(server, scenario).await.0 {
        assert_recorded(&way, failure);
    }
}

#[tokio::test]
async fn a_server_that_hangs_up() {
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.close().await
    });
    breaks(&server, &Failure::EofError, hyper::Error::is_incomplete_message).await;
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-le").await?;
        conn.close().await
    });
    breaks(&server, &Failure::EofError, hyper::Error::is_incomplete_message).await;
}

#[tokio::test]
async fn a_server_that_resets() {
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.reset()
    });
    breaks(&server, &Failure::ConnectionReset, |_| true).await;
}

#[tokio::test]
async fn a_server_that_speaks_something_else() {
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.write(b"SSH-2.0-OpenSSH_10.0\r\n\r\n").await?;
        conn.close().await
    });
    breaks(&server, &Failure::HttpProtocolError, hyper::Error::is_parse).await;
}

#[tokio::test]
async fn a_body_that_breaks_off() {
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
        let (ways, outcome, _) = same(&server, async |client| exchange(client, make()).await).await;
        let outcome = outcome.expect("the header came");
        assert!(!outcome.body.error.is_empty() && outcome.body.data.starts_with(b"hal"), "{outcome:?}");
        for way in &ways {
            assert_recorded(way, &failure);
        }
    }
}

#[derive(Debug, PartialEq)]
struct OutOfPaper(u8);

impl fmt::Display for OutOfPaper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "out of paper in tray {}", self.0)
    }
}

impl Error for OutOfPaper {}

#[tokio::test]
async fn the_callers_own_error() {
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.read_to_end().await
    });
    let make = || {
        let pieces = [Ok(Frame::data(Bytes::from_static(b"page"))), Err(BoxError::from(OutOfPaper(3)))];
        let body: Payload = StreamBody::new(futures_util::stream::iter(pieces)).boxed();
        request("POST", &server, "/").body(body).unwrap()
    };
    let scenario = async |client: &crate::clients::AnyClient| {
        let error = client.clone().oneshot(make()).await.expect_err("no response");
        assert!(find::<hyper::Error>(&*error).is_some_and(hyper::Error::is_user), "{error:?}");
        assert_eq!(find(&*error), Some(&OutOfPaper(3)), "{error:?}");
        chain(&*error)
    };
    let expected = scenario(&ways(false)[0].client).await;
    for way in ways(false) {
        assert_eq!(scenario(&way.client).await, expected, "{}", way.name);
        assert_recorded(&way, &Failure::RequestBodyError);
    }
}

#[tokio::test]
async fn requests_that_cannot_be_made() {
    let server = Server::answering(b"HTTP/1.1 204 No Content\r\n\r\n");
    for way in ways(false) {
        let no_host = Request::get("/path").body(empty()).unwrap();
        let version = request("GET", &server, "/").version(http::Version::HTTP_2).body(empty()).unwrap();
        for request in [no_host, version] {
            let error = way.client.clone().oneshot(request).await.expect_err("it cannot be made");
            let pool = of_pool(&error).map(|error| (error.is_connect(), error.source().is_some()));
            assert_eq!(pool.unwrap_or_default(), (false, false), "{}: {error:?}", way.name);
            let preset = error.downcast_ref::<ClientError>().map(ClientError::failure);
            assert_eq!(preset.unwrap_or(Failure::InvalidArgument), Failure::InvalidArgument);
        }
        let failures = way
            .sink
            .snapshot("")
            .http_requests
            .iter()
            .map(|request| request.failure.clone())
            .collect::<Vec<_>>();
        assert_eq!(failures, vec![Some(Failure::InvalidArgument); if way.is_traced() { 2 } else { 0 }]);
    }
}
