use crate::fixture::{assert_as_received, finished, statuses};
use aws_sdk_sts::{
    Client, Config,
    config::{BehaviorVersion, Credentials, Region, retry::RetryConfig, timeout::TimeoutConfig},
    error::SdkError,
};
use nettrace::{Failure, TraceSink};
use nettrace_clients::aws::TracedHttpClient;
use std::{cell::Cell, time::Duration};
use test_support::{
    raw::Refused,
    web::{Web, reply, status},
};

const IDENTITY: &str = r#"<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
    <GetCallerIdentityResult><Account>123456789012</Account></GetCallerIdentityResult>
</GetCallerIdentityResponse>"#;

fn client(sink: &TraceSink, endpoint: String, timeouts: TimeoutConfig) -> Client {
    let retries = RetryConfig::standard().with_max_attempts(2).with_initial_backoff(Duration::from_millis(1));
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("eu-central-1"))
        .credentials_provider(Credentials::new("AKID", "secret", None, None, "test"))
        .endpoint_url(endpoint)
        .retry_config(retries)
        .timeout_config(timeouts)
        .http_client(TracedHttpClient::new(sink))
        .build();
    Client::from_conf(config)
}

#[tokio::test]
async fn each_attempt_of_an_operation_is_a_request() {
    let is_first = Cell::new(true);
    let web = Web::start(async move |_| if is_first.replace(false) { status(503) } else { reply(IDENTITY) });
    let sink = TraceSink::new();
    let client = client(&sink, web.url(""), TimeoutConfig::disabled());
    for _ in 0..2 {
        let identity = client.get_caller_identity().send().await.unwrap();
        assert_eq!(identity.account(), Some("123456789012"));
    }

    drop(client);
    let trace = finished(&sink).await;
    assert_as_received(&trace, &web);
    assert_eq!(statuses(&trace), [503, 200, 200]);
    assert_eq!(trace.tcp_conns.len(), 1, "connections are kept");
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_tried_again() {
    let (sink, refused) = (TraceSink::new(), Refused::on("127.0.0.1:0"));
    let client = client(&sink, format!("http://{}", refused.addr), TimeoutConfig::disabled());
    let error = client.get_caller_identity().send().await.expect_err("nobody listens");
    assert!(matches!(&error, SdkError::DispatchFailure(failure) if failure.is_io()), "{error:?}");
    let trace = finished(&sink).await;
    let failures: Vec<_> = trace.http_requests.iter().map(|request| request.failure.clone()).collect();
    assert_eq!(failures, [Some(Failure::ConnectionRefused), Some(Failure::ConnectionRefused)]);
}

#[tokio::test]
async fn the_read_timeout_is_that_of_the_sdk() {
    let web = Web::start(async |_| std::future::pending().await);
    let sink = TraceSink::new();
    let timeouts = TimeoutConfig::builder().read_timeout(Duration::from_millis(50)).build();
    let client = client(&sink, web.url(""), timeouts);
    let error = client.get_caller_identity().send().await.expect_err("no answer");
    assert!(matches!(&error, SdkError::DispatchFailure(failure) if failure.is_timeout()), "{error:?}");
    drop(client);
    let trace = finished(&sink).await;
    assert_eq!(trace.http_requests.len(), 2, "an attempt that timed out is made again");
    assert!(trace.http_requests.iter().all(|request| request.failure == Some(Failure::GenericTimeoutError)));
}
