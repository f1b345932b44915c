//! A kept-alive request by reqwest's client over the loopback interface, observed or not. The cost of observing it is
//! the difference to the client that is not; the server is part of all of them.

use super::{Again, Scene, loopback};
use nettrace::{TraceSink, reqwest::TraceClient, tls::TraceTlsLayer};
use reqwest::{Client, ClientBuilder, Error, Response, Url};

pub(super) fn scenes() -> Vec<Scene> {
    let scenes = vec![
        Scene::new("reqwest/untraced", || {
            let client = plain().build().expect("a client");
            requests(async move |url| client.get(url).send().await)
        })
        .unguarded(),
        observed("reqwest/off", TraceSink::disabled),
        observed("reqwest/observed", loopback::sink),
    ];
    scenes.into_iter().map(Scene::long).collect()
}

fn observed(name: &'static str, sink: fn() -> TraceSink) -> Scene {
    Scene::new(name, move || {
        let traced = nettrace::reqwest::trace(plain(), &sink()).expect("no setting is lost");
        let client: TraceClient = traced.build().expect("a client");
        requests(async move |url| client.execute(client.get(url).build()?).await)
    })
}

/// Without a TLS configuration reqwest needs a crypto provider of the process.
fn plain() -> ClientBuilder {
    let tls = TraceTlsLayer::builder(&TraceSink::disabled()).into_config().expect("a TLS configuration");
    Client::builder().no_proxy().tls_backend_preconfigured(tls)
}

fn requests(get: impl AsyncFn(Url) -> Result<Response, Error>) -> Again<impl FnMut()> {
    loopback::requests(async move |url| {
        let body = get(url).await.expect("a response").bytes().await;
        assert_eq!(body.expect("a body").len(), 1024);
    })
}
