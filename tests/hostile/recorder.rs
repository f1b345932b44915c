//! A sink that stays on: of an hour of traffic every failure is kept, and a large trace is written with little memory.

use std::{collections::HashSet, convert::Infallible, io, time::Duration};

use http::{Request, Response, StatusCode};
use nettrace::{ConnRef, RequestHandle, Retention, TraceSink, request::TraceRequestLayer};
use test_support::alloc;
use tower::{Layer as _, ServiceExt as _, service_fn};

use crate::{cpu_time, mock};

/// Makes a request to one of ten hosts that is answered with `status` over `conn`. Returns its handle.
async fn exchange(
    sink: &TraceSink,
    number: usize,
    status: StatusCode,
    conn: Option<&ConnRef>,
) -> RequestHandle {
    let handle = RequestHandle::new();
    let url = format!("https://shop{}.test/orders/{number}", number % 10);
    let mut request = Request::get(url).body(mock::Body::default()).unwrap();
    request.extensions_mut().insert(handle.clone());
    let answer = service_fn(|_| {
        let mut response = Response::new(mock::Body::default());
        *response.status_mut() = status;
        if let Some(conn) = conn.cloned() {
            conn.attach(response.extensions_mut());
        }
        std::future::ready(Ok::<_, Infallible>(response))
    });
    mock::finish(TraceRequestLayer::new(sink).layer(answer).oneshot(request).await.unwrap()).await;
    handle
}

/// An hour at 1,000 requests a second, each thousand over a connection of its own.
#[test]
fn every_failure_of_an_hour_is_kept_whole_within_64_mebibytes() {
    const REQUESTS: usize = 3_600_000;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let before = alloc::live();
    let sink = TraceSink::new();
    let begin = cpu_time();
    let (failed, most) = runtime.block_on(async {
        let (mut failed, mut most) = (Vec::new(), 0);
        let mut conn = mock::connect(&sink).await;
        for number in 0..REQUESTS {
            if number % 1_000 == 0 {
                conn = mock::connect(&sink).await;
                most = most.max(alloc::live() - before);
            }
            if number % 10_000 == 5_000 {
                let (own, _there) = mock::connect(&sink).await;
                failed.push(exchange(&sink, number, StatusCode::BAD_GATEWAY, own.conn_ref()).await.id());
            } else {
                exchange(&sink, number, StatusCode::OK, conn.0.conn_ref()).await;
            }
        }
        (failed, most)
    });
    println!("{:?} for {REQUESTS} requests, {most} bytes at most", cpu_time() - begin);
    let trace = sink.snapshot("");
    assert_eq!(failed.len(), REQUESTS / 10_000);
    for id in &failed {
        let request = trace.http_requests.get(id).expect("a failed request that is kept");
        let conn = trace.tcp_conns.get(&request.tcp_conn).expect("its connection");
        assert!(trace.dials.get(&conn.from_dial).is_some());
    }
    assert!(most < 64 << 20, "{most}");
    let dropped = trace.dropped.as_ref().unwrap();
    let counted: u64 = dropped.by_host.iter().map(|host| host.requests).sum();
    assert_eq!((counted, dropped.by_host.len()), (dropped.http_requests, 10));
    assert_eq!(counted + trace.http_requests.len() as u64, REQUESTS as u64);
}

/// Notes how much memory is in use while it is written to.
struct Watched {
    most: i64,
    bytes: u64,
}

impl io::Write for Watched {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.most = self.most.max(alloc::live());
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_hundred_thousand_requests_are_written_with_eight_mebibytes() {
    const REQUESTS: usize = 100_000;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let sink = TraceSink::builder().retention(Retention::unbounded()).build();
    let ids: HashSet<_> = runtime.block_on(async {
        let mut ids = HashSet::new();
        for number in 0..REQUESTS {
            let (conn, _there) = mock::connect(&sink).await;
            ids.insert(exchange(&sink, number, StatusCode::OK, conn.conn_ref()).await.id());
        }
        ids
    });
    let before = alloc::live();
    let (mut watched, begin) = (Watched { most: 0, bytes: 0 }, cpu_time());
    sink.write_json("", &mut watched).unwrap();
    let (needed, time) = (watched.most - before, cpu_time() - begin);
    println!("{needed} bytes for {} bytes of JSON, {time:?}", watched.bytes);
    assert!(needed < 8 << 20, "{needed}");
    assert!(time < Duration::from_secs(10), "{time:?}");
    assert_eq!(ids.len(), REQUESTS);
}
