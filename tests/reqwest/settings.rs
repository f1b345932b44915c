//! Settings of reqwest's builder that are made before and after the observer is installed.

use nettrace::TraceSink;
use nettrace::reqwest::{ObserveError, RequestBuilderExt as _, trace};
use reqwest::{Client, ClientBuilder};

use crate::clients::{Variant, unrelated_roots};
use test_support::web::{Web, reply};

/// A setting's name, and the function that sets it.
type Setting = (&'static str, fn(ClientBuilder) -> ClientBuilder);

#[test]
fn settings_that_would_be_lost_are_rejected() {
    let settings: [Setting; 7] = [
        ("redirect", |builder| builder.redirect(reqwest::redirect::Policy::none())),
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
    let client = nettrace::reqwest::Observer::new(&variant.sink)
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

#[test]
fn the_defaults_need_no_process_wide_crypto_provider() {
    // Whether tests share a process or not, none of them installs a provider.
    let client = trace(Client::builder(), &TraceSink::new()).unwrap().build();
    assert!(client.is_ok());
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
