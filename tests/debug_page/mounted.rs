//! The page in routers and servers.

use std::collections::BTreeSet;

use axum::Router;
use http::{HeaderMap, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use nettrace::{Client, TraceSink, debug_page::DebugPage};
use tokio::{net::TcpListener, task::JoinHandle};
use url::Url;

use crate::fixture::{Page, fetch, serve};

struct Site {
    url: Url,
    client: Client,
    server: JoinHandle<()>,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Site {
    async fn start<F: Future<Output = ()> + Send + 'static>(serve: impl FnOnce(TcpListener) -> F) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let client = Client::builder(&TraceSink::disabled()).build().unwrap();
        Site { url, client, server: tokio::spawn(serve(listener)) }
    }

    async fn of_router(router: Router) -> Self {
        Self::start(async |listener| axum::serve(listener, router).await.unwrap()).await
    }

    async fn get(&self, url: &Url) -> Page {
        let mut request = http::Request::get(url.as_str()).body(Default::default()).unwrap();
        request.headers_mut().insert("accept", "text/html".parse().unwrap());
        let response = self.client.request(request).await.unwrap();
        let (status, headers): (StatusCode, HeaderMap) = (response.status(), response.headers().clone());
        let text = response.into_body().bytes().await.unwrap();
        Page { status, headers, text: String::from_utf8(text.into()).unwrap() }
    }

    /// Follows all links from a page on, and returns the pages that were found.
    async fn crawl(&self, path: &str) -> BTreeSet<String> {
        let mut waiting = vec![self.url.join(path).unwrap()];
        let mut seen = BTreeSet::new();
        while let Some(url) = waiting.pop() {
            assert!(seen.len() < 100, "links lead to ever more pages: {seen:?}");
            if !seen.insert(url.to_string()) {
                continue;
            }
            let page = self.get(&url).await;
            assert_eq!(page.status, StatusCode::OK, "{url}");
            if page.header("content-type").starts_with("text/html") {
                let links = page.links();
                assert!(links.len() > 4, "{url}");
                let links = links.into_iter().map(|link| url.join(&link).unwrap());
                waiting.extend(links.filter(|link| link.fragment().is_none()));
            }
        }
        seen
    }
}

async fn sink() -> TraceSink {
    let sink = TraceSink::new();
    serve(&sink, "/order", 503).await;
    fetch(&sink, "http://a.test/", 200).await;
    sink
}

/// Every link leads to a page, with and without a slash at the end of the path.
#[tokio::test]
async fn links_work_wherever_the_page_is_nested() {
    let page = DebugPage::new(&sink().await);
    let router = Router::new()
        .nest_service("/debug/nettrace", page.clone())
        .nest("/a/b", Router::new().nest_service("/c", page));
    let site = Site::of_router(router).await;
    for mount in ["debug/nettrace", "a/b/c"] {
        for path in ["", "/", "/summary"] {
            let seen = site.crawl(&format!("{mount}{path}")).await;
            assert!(seen.len() > 12, "{seen:?}");
            assert!(seen.iter().all(|url| url.contains(mount)), "{seen:?}");
        }
    }
}

#[tokio::test]
async fn a_router_that_keeps_the_path_needs_a_prefix() {
    let page = DebugPage::new(&sink().await).prefix("/debug/nettrace/");
    let router = Router::new()
        .route_service("/debug/nettrace", page.clone())
        .route_service("/debug/nettrace/{*page}", page);
    let site = Site::of_router(router).await;
    for path in ["", "/summary"] {
        assert!(site.crawl(&format!("debug/nettrace{path}")).await.len() > 12);
    }
    for path in ["summary", "trace.json", "explain.json", "metrics"] {
        let url = site.url.join(&format!("debug/nettrace/{path}")).unwrap();
        assert_eq!(site.get(&url).await.status, StatusCode::OK, "{path}");
    }
    let missing = site.url.join("debug/nettrace/nothing").unwrap();
    assert_eq!(site.get(&missing).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn hyper_serves_the_page_by_itself() {
    let page = DebugPage::new(&sink().await);
    let site = Site::start(async move |listener| {
        while let Ok((stream, _)) = listener.accept().await {
            let page = page.clone();
            tokio::spawn(async move {
                let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(stream), page).await;
            });
        }
    });
    let site = site.await;
    assert!(site.crawl("").await.len() > 12);
    // The body of a response to HEAD is left out, and its length is that of the page.
    let head = site.client.head(site.url.join("metrics").unwrap()).await.unwrap();
    let length: usize = head.headers()["content-length"].to_str().unwrap().parse().unwrap();
    assert_eq!(head.into_body().bytes().await.unwrap().len(), 0);
    let metrics = site.get(&site.url.join("metrics").unwrap()).await;
    assert_eq!(metrics.text.len(), length);
}

#[cfg(feature = "tonic-server")]
#[tokio::test]
async fn tonic_serves_the_page_besides_its_services() {
    use tonic::{
        service::Routes,
        transport::{Endpoint, Server},
    };
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

    let page = DebugPage::new(&sink().await);
    let (_, health) = tonic_health::server::health_reporter();
    let router = Routes::new(health).into_axum_router().nest_service("/debug/nettrace", page);
    let site = Site::start(async |listener| {
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        let server = Server::builder().accept_http1(true).add_routes(Routes::from(router));
        server.serve_with_incoming(incoming).await.unwrap();
    });
    let site = site.await;
    assert!(site.crawl("debug/nettrace").await.len() > 12);
    let channel = Endpoint::from_shared(site.url.to_string()).unwrap().connect().await.unwrap();
    let mut client = HealthClient::new(channel);
    client.check(HealthCheckRequest { service: String::new() }).await.unwrap();
}
