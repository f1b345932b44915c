//! Requests that are recorded without a network, and pages that are asked for without one.

use std::{convert::Infallible, io};

use bytes::Bytes;
use html5gum::{StartTag, Token, Tokenizer};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use nettrace::{
    RequestHandle, TraceId, TraceSink,
    debug_page::DebugPage,
    request::{TraceBody, TraceRequestLayer},
    server::TraceServerLayer,
};
use tower::{Layer as _, ServiceExt as _, service_fn};

type Body = Full<Bytes>;

/// Makes a request that is answered with a status.
pub(crate) async fn fetch(sink: &TraceSink, url: &str, status: u16) -> TraceId {
    fetch_with(sink, Request::get(url).body(Body::default()).unwrap(), status, "hello").await
}

/// Makes a request that is answered with a status and a body.
pub(crate) async fn fetch_with(
    sink: &TraceSink,
    mut request: Request<Body>,
    status: u16,
    body: &'static str,
) -> TraceId {
    let handle = RequestHandle::new();
    request.extensions_mut().insert(handle.clone());
    let answer = service_fn(async |_: Request<TraceBody<Body>>| {
        let response = Response::builder().status(status).header("x-answer", "<b>\"'&");
        Ok::<_, Infallible>(response.body(Body::from(body)).unwrap())
    });
    let response = TraceRequestLayer::new(sink).layer(answer).oneshot(request).await.unwrap();
    response.into_body().collect().await.unwrap();
    handle.id()
}

/// Makes a request that fails with an error.
pub(crate) async fn fail(sink: &TraceSink, url: &str, kind: io::ErrorKind, text: &str) -> TraceId {
    let handle = RequestHandle::new();
    let mut request = Request::get(url).body(Body::default()).unwrap();
    request.extensions_mut().insert(handle.clone());
    let refuse = service_fn(async |_: Request<TraceBody<Body>>| {
        Err::<Response<Body>, _>(io::Error::new(kind, text.to_owned()))
    });
    assert!(TraceRequestLayer::new(sink).layer(refuse).oneshot(request).await.is_err());
    handle.id()
}

/// Answers a request, for which another one is made that is answered with a status. Returns both.
pub(crate) async fn serve(sink: &TraceSink, path: &str, status: u16) -> (TraceId, TraceId) {
    let (made, other) = std::sync::mpsc::channel();
    let answer = service_fn(move |_: Request<TraceBody<Body>>| {
        let (sink, made) = (sink.clone(), made.clone());
        async move {
            made.send(fetch(&sink, "http://stock.test/", status).await).unwrap();
            let response = Response::builder().header("x-id", RequestHandle::current().id().as_str());
            Ok::<_, Infallible>(response.body(Body::from("served")).unwrap())
        }
    });
    let request = Request::get(path).header("host", "shop.test").body(Body::default()).unwrap();
    let response = TraceServerLayer::new(sink).layer(answer).oneshot(request).await.unwrap();
    let id = response.headers()["x-id"].to_str().unwrap().into();
    response.into_body().collect().await.unwrap();
    (id, other.recv().unwrap())
}

/// A response of the page.
pub(crate) struct Page {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Page {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Returns all tags that begin.
    pub(crate) fn tags(&self) -> Vec<StartTag<()>> {
        tags(&self.text)
    }

    /// Returns the identifiers of the requests in the table, in order.
    pub(crate) fn rows(&self) -> Vec<String> {
        let ids = self.tags().into_iter().filter_map(|tag| Some(attribute(&tag, "id")?.to_owned()));
        ids.filter_map(|id| Some(id.strip_prefix("row-")?.to_owned())).collect()
    }

    /// Returns where links lead to.
    pub(crate) fn links(&self) -> Vec<String> {
        let links = self.tags().into_iter().filter(|tag| &**tag.name == b"a");
        links.filter_map(|tag| Some(attribute(&tag, "href")?.to_owned())).collect()
    }
}

pub(crate) fn tags(html: &str) -> Vec<StartTag<()>> {
    let mut is_script = false;
    let mut tags = Vec::new();
    for Ok(token) in Tokenizer::new(html) {
        match token {
            // The tokenizer does not know that there are no tags in a script.
            Token::StartTag(tag) if !is_script => {
                is_script = &**tag.name == b"script";
                tags.push(tag);
            }
            Token::EndTag(tag) if &**tag.name == b"script" => is_script = false,
            _ => {}
        }
    }
    tags
}

pub(crate) fn attribute<'a>(tag: &'a StartTag<()>, name: &str) -> Option<&'a str> {
    let value = tag.attributes.iter().find(|(known, _)| known.as_slice() == name.as_bytes())?.1;
    Some(std::str::from_utf8(value).unwrap())
}

/// Asks for a page as a browser does.
pub(crate) async fn get(page: &DebugPage, path: &str) -> Page {
    ask(page, Method::GET, path, &[("accept", "text/html,*/*")]).await
}

/// Asks for a page as curl does.
pub(crate) async fn get_text(page: &DebugPage, path: &str) -> Page {
    ask(page, Method::GET, path, &[("accept", "*/*")]).await
}

pub(crate) async fn ask(page: &DebugPage, method: Method, path: &str, fields: &[(&str, &str)]) -> Page {
    let mut request = Request::builder().method(method).uri(path).header(header::HOST, "shop.test");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let Ok(response) = page.clone().oneshot(request.body(()).unwrap()).await;
    let (head, body) = response.into_parts();
    let content = body.collect().await.unwrap().to_bytes();
    Page { status: head.status, headers: head.headers, text: String::from_utf8(content.into()).unwrap() }
}
