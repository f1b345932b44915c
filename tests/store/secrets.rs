//! What the record keeps out is in no file.

use std::fs;

use http::{Request, Response};
use nettrace::{HeaderCapture, SliceFilter, TraceSink, store::JsonLines};
use tempfile::TempDir;
use test_support::background;

use crate::traffic::{Body, LIMIT, exchange, files};

#[test]
fn secrets_are_in_no_file() {
    let directory = TempDir::new().unwrap();
    let store = JsonLines::builder(directory.path()).build().unwrap();
    let builder = TraceSink::builder().headers(HeaderCapture::Values).mask_query(true);
    let sink = builder.on_slice(SliceFilter::all(), store).build();
    let request = Request::get("http://joe:secret-1@web.test/path?token=secret-2")
        .header("authorization", "Bearer secret-3")
        .header("cookie", "session=secret-4")
        .header("x-public", "shown")
        .body(Body::default());
    let respond = || {
        let response = Response::builder().header("set-cookie", "session=secret-5");
        response.header("location", "http://joe:secret-6@web.test/?q=secret-7").body(Body::default()).unwrap()
    };
    background::runtime().block_on(exchange(&sink, request.unwrap(), respond));
    assert!(sink.flush(LIMIT));
    let names = files(directory.path());
    let [name] = &names[..] else { panic!("{names:?}") };
    let text = fs::read_to_string(directory.path().join(name)).unwrap();
    assert!(!text.contains("secret-"), "{text}");
    assert!(text.contains("http://***@web.test/path?***") && text.contains("shown"), "{text}");
}
