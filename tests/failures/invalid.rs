//! Invalid requests: a URL that cannot be requested, a version that the connection does not support.

use http::Version;
use nettrace::client::HttpVersion;

use crate::fixture::{Fixture, Outcome, ended, hello, request};

#[tokio::test]
async fn an_invalid_url_fails_the_request() {
    let fixture = Fixture::new().await;
    let client = fixture.client();
    for (url, text) in [
        ("/path", "cannot request \"/path\": relative URL without a base"),
        (
            "ftp://joe:secret@web.test/",
            "cannot request \"ftp://***@web.test/\": the scheme is ftp, not http or https",
        ),
    ] {
        let error = client.get(url).await.expect_err(url);
        assert_eq!((error.failure().as_str(), error.to_string().as_str()), ("x_invalid_argument", text));
        assert!(error.request().trace().http_requests.is_empty(), "no record was begun");
        let (request, handle) = request(url);
        let error = client.request(request).await.expect_err(url);
        assert_eq!(error.failure().as_str(), "x_invalid_argument", "{error}");
        let record = handle.trace().http_requests[0].clone();
        assert_eq!(ended(&record), ("failed", "x_invalid_argument"));
        assert!(!record.req_url.contains("secret") && !format!("{error:?}{error}").contains("secret"));
    }
    assert!(fixture.nameserver.queries().is_empty());
}

/// The supported versions are known only once there is a connection.
#[tokio::test]
async fn a_version_that_the_connection_does_not_support_fails_the_request() {
    let (fixture, server) = (Fixture::new().await, hello());
    let client = fixture.builder().http_version(HttpVersion::Http1Only).build().unwrap();
    let (mut request, handle) = request(fixture.http(&server));
    *request.version_mut() = Version::HTTP_2;
    let error = client.request(request).await.expect_err("an HTTP/2 request over HTTP/1.1");
    assert_eq!(error.failure().as_str(), "x_invalid_argument");
    let outcome = Outcome::of(&client, &handle).await;
    assert_eq!(ended(&outcome.request), ("failed", "x_invalid_argument"));
    outcome.assert_on(outcome.conn());
    assert_eq!(outcome.conn().total_sent_bytes, 0);
}
