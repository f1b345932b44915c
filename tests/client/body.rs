//! Request bodies: their sizes, their frames, and the record of their end.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use nettrace::client::Body;

use crate::{client, request};
use test_support::web::{ReceivedRequest, Web, reply};

#[test]
fn a_body_reports_its_exact_size_if_it_knows_it() {
    let exact = |body: &Body| (body.size_hint().exact(), body.is_end_stream());
    assert_eq!(exact(&Body::empty()), (Some(0), true));
    assert_eq!(exact(&Body::default()), (Some(0), true));
    assert_eq!(exact(&Body::from("")), (Some(0), true));
    assert_eq!(exact(&Body::from("data")), (Some(4), false));
    assert_eq!(exact(&Body::new(Full::<Bytes>::from("data"))), (Some(4), false));
    assert_eq!(exact(&Body::new(Empty::<Bytes>::new())), (Some(0), true));
    assert_eq!(exact(&Body::new(Body::from("data"))), (Some(4), false));
    let stream = StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, std::io::Error>>());
    assert_eq!(exact(&Body::new(stream)), (None, false));
    assert_eq!(format!("{:?} {:?}", Body::empty(), Body::from("secret")), "Body(empty) Body(6 bytes)");
}

#[tokio::test]
async fn data_frames_and_trailers_are_sent() {
    let trailers = http::HeaderMap::from_iter([("x-sum".parse().unwrap(), "4".parse().unwrap())]);
    let frames = [
        Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"da"))),
        Ok(Frame::data(Bytes::from_static(b"ta"))),
        Ok(Frame::trailers(trailers.clone())),
    ];
    let body = Body::new(StreamBody::new(futures_util::stream::iter(frames)));
    let web = Web::start(async |request: ReceivedRequest| {
        reply(format!("{} {:?}", String::from_utf8_lossy(&request.body), request.trailers))
    });
    let (client, sink) = client(|builder| builder);
    let request = request("POST", &web.url("/"), &[("trailer", "x-sum")], body);
    let answer = client.request(request).await.unwrap().into_body().bytes().await.unwrap();
    assert_eq!(answer, format!("data {:?}", Some(trailers)));
    assert_eq!(sink.snapshot("").http_requests[0].req_content_len, 4);
}

/// A body with one frame that panics when it is polled after its end.
struct SingleFrame(Option<Bytes>);

impl http_body::Body for SingleFrame {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(Some(Ok(Frame::data(self.0.take().expect("not polled after the end")))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |data| data.len() as u64))
    }
}

/// hyper does not poll a body whose `is_end_stream` returns `true`. The request was still sent completely.
#[tokio::test]
async fn the_end_of_a_body_is_recorded_if_it_is_not_polled_again() {
    let web = Web::start(async |request: ReceivedRequest| reply(request.body));
    let (client, sink) =
        client(|builder| builder.response_header_timeout(std::time::Duration::from_secs(30)));
    let body = Body::new(SingleFrame(Some("data".into())));
    let response = client.request(request("POST", &web.url("/"), &[], body)).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "data");
    let record = sink.snapshot("").http_requests[0].clone();
    assert!(!record.req_body_end_at.is_undefined() && !record.resp_body_end_at.is_undefined());
}
