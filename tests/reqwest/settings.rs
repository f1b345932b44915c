//! Settings of reqwest's builder that are made before and after the observer is installed.

use nettrace::TraceSink;
use nettrace::reqwest::{ObserveError, Observer, RequestBuilderExt as _, trace};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder};

use crate::clients::{Variant, unrelated_roots};
use test_support::web::{Web, redirect, reply};

/// A setting's name, and the function that sets it.
type Setting = (&'static str, fn(ClientBuilder) -> ClientBuilder);

#[test]
fn settings_that_would_be_lost_are_rejected() {
    let settings: [Setting; 7] = [
        ("redirect", |builder| builder.redirect(Policy::none())),
        ("tls_danger_accept_invalid_certs", |builder| builder.tls_danger_accept_invalid_certs(true)),
        ("tls_danger_accept_invalid_hostnames", |builder| builder.tls_danger_accept_invalid_hostnames(true)),
        ("tls_version_min", |builder| builder.tls_version_min(reqwest::tls::Version::TLS_1_3)),
        ("tls_version_max", |builder| builder.tls_version_max(reqwest::tls::Version::TLS_1_2)),
        ("tls_sni", |builder| builder.tls_sni(false)),
        ("tls_sslkeylogfile", |builder| builder.tls_sslkeylogfile(true)),
    ];
    for (name, set) in settings {
        let error = trace(set(Client::builder()), &TraceSink::new()).expect_err(name);
        assert!(matches!(error, ObserveError::WouldBeLost(lost) if lost == name), "{error}");
    }
}

/// Settings are read from the builder's `Debug` output, which contains the values, too.
#[test]
fn a_value_that_looks_like_a_setting_is_accepted() {
    let builder = Client::builder().user_agent("redirect_policy: tls_version_min: tls_sni: false");
    assert!(trace(builder, &TraceSink::new()).is_ok());
}

#[tokio::test]
async fn settings_made_before_and_after_installing_apply() {
    let web = Web::start(async |_| reply("hello"));
    let variant = Variant::observed(unrelated_roots());
    let client = Observer::new(&variant.sink)
        .install(Client::builder().no_proxy().user_agent("before/1"))
        .unwrap()
        .configure(|builder| {
            let headers = [("x-after".parse().unwrap(), "yes".parse().unwrap())];
            builder.default_headers(headers.into_iter().collect())
        })
        .build()
        .unwrap();
    client.get(web.url("/")).send_traced(&client).await.unwrap();
    let received = &web.requests()[0];
    assert_eq!((received.header("user-agent"), received.header("x-after")), ("before/1", "yes"));
}

/// A resolver that has the same address for every name.
struct Fixed(std::net::SocketAddr);

impl Resolve for Fixed {
    fn resolve(&self, _: Name) -> Resolving {
        let addrs: Addrs = Box::new([self.0].into_iter());
        Box::pin(std::future::ready(Ok(addrs)))
    }
}

/// Returns a sink for both ways to be off for ever.
fn sinks_off_for_good() -> [TraceSink; 2] {
    let closed = TraceSink::new();
    closed.close();
    [TraceSink::disabled(), closed]
}

#[tokio::test]
async fn a_sink_that_is_off_for_good_leaves_the_resolver_of_the_builder() {
    let web = Web::start(async |_| reply("hello"));
    for sink in sinks_off_for_good() {
        let builder = Client::builder().no_proxy().dns_resolver(Fixed(web.addr()));
        let client = trace(builder, &sink).unwrap().build().unwrap();
        let response = client.get("http://a.invalid/").send_traced(&client).await.unwrap();
        assert_eq!(response.text().await.unwrap(), "hello");
    }
}

#[tokio::test]
async fn options_of_the_observer_apply_whether_the_sink_records_or_not() {
    let web = Web::start(async |_| redirect(302, "/next"));
    let [disabled, closed] = sinks_off_for_good();
    for sink in [TraceSink::new(), disabled, closed] {
        let observer = Observer::new(&sink).resolver(Fixed(web.addr())).redirect(Policy::none());
        let client = observer.install(Client::builder().no_proxy()).unwrap().build().unwrap();
        let response = client.get("http://a.invalid/").send_traced(&client).await.unwrap();
        assert_eq!(response.status(), 302);
    }
}

#[test]
fn the_defaults_need_no_process_wide_crypto_provider() {
    // Whether tests share a process or not, none of them installs a provider.
    for sink in [TraceSink::new(), TraceSink::disabled()] {
        assert!(trace(Client::builder(), &sink).unwrap().build().is_ok());
    }
    assert!(rustls::crypto::CryptoProvider::get_default().is_none());
}

#[test]
fn debug_output_contains_no_secrets() {
    let variant = Variant::observed(unrelated_roots());
    let client = variant.client();
    let sent = client.get("http://joe:secret@a.test/?token=secret").send_traced(&client);
    assert!(!format!("{sent:?} {:?}", variant.sink).contains("secret"));
    drop(sent);
    let trace = variant.finished();
    assert_eq!(trace.http_requests.len(), 1, "a request that is never polled is recorded, too");
}
