//! HTTP/2 that was read from a connection, compared with what tshark reads in the packets of the same connection.

use crate::fixture::{connector, finished};
use bytes::Bytes;
use futures_util::future::join_all;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::{client::legacy, rt::TokioExecutor};
use nettrace::{
    TraceSink,
    capture::{CaptureFile, CaptureProbe},
    record::HttpReqTrace,
};
use std::{collections::BTreeMap, path::Path};
use test_support::{
    require::{require_lab, require_tool},
    tshark::tshark,
    web::{ReceivedRequest, Web, reply},
};

/// What passed on a stream.
#[derive(Debug, Default, PartialEq)]
struct StreamTotals {
    heads_sent: u64,
    heads_received: u64,
    bytes_sent: u64,
    bytes_received: u64,
}

/// Returns what tshark sees of each stream. `port` is the server's.
fn seen_by_tshark(packets: &Path, port: u16) -> BTreeMap<u32, StreamTotals> {
    const DATA: &str = "0";
    const HEADERS: &str = "1";
    let decode = format!("tcp.port=={port},http2");
    let mut arguments = vec!["-2", "-d", &decode, "-Y", "http2.type", "-T", "fields"];
    arguments.extend(["-e", "tcp.dstport", "-e", "http2.type", "-e", "http2.streamid", "-e", "http2.length"]);
    let mut streams = BTreeMap::<u32, StreamTotals>::new();
    for packet in tshark(packets, &arguments) {
        let [to, kinds, ids, lengths] = packet.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let is_sent = to == port.to_string();
        // A packet may end several frames, whose values are separated by commas.
        let frames: Vec<_> = kinds.split(',').zip(ids.split(',')).zip(lengths.split(',')).collect();
        assert_eq!(frames.len(), kinds.split(',').count());
        for ((kind, id), length) in frames {
            let length: u64 = length.parse().unwrap();
            let stream = streams.entry(id.parse().unwrap()).or_default();
            match (kind, is_sent) {
                (DATA, true) => stream.bytes_sent += length,
                (DATA, false) => stream.bytes_received += length,
                (HEADERS, true) => stream.heads_sent += 1,
                (HEADERS, false) => stream.heads_received += 1,
                _ => {}
            }
        }
    }
    streams.remove(&0); // the connection
    streams
}

fn read_from_wire(request: &HttpReqTrace) -> (u32, StreamTotals) {
    assert!(request.seen_on_wire && request.failure.is_none(), "{request:?}");
    let totals = StreamTotals {
        heads_sent: 1,
        heads_received: 1,
        bytes_sent: request.req_content_len,
        bytes_received: request.resp_content_len,
    };
    (request.stream_id.expect("a stream").get(), totals)
}

#[tokio::test]
async fn tshark_sees_the_same_streams_and_lengths() {
    require_lab!();
    require_tool!("tshark");
    let capture = CaptureProbe::builder(["lo"]).snap_len(1 << 17).total_size_limit(64 << 20).start();
    assert_eq!(capture.problems(), []);
    let sink = TraceSink::builder().probe(capture).build();
    let web = Web::start(async |request: ReceivedRequest| {
        reply([request.path().as_bytes(), &request.body].concat().repeat(10))
    });
    let client: legacy::Client<_, Full<Bytes>> =
        legacy::Client::builder(TokioExecutor::new()).http2_only(true).build(connector(&sink));
    let fetch = async |size: usize| {
        let request = Request::post(web.url(&format!("/{size}"))).body(Full::from(vec![b'x'; size])).unwrap();
        client.request(request).await.unwrap().into_body().collect().await.unwrap();
    };
    fetch(1).await; // so that the others share its connection
    join_all((0..20).map(|i| fetch(i * 997))).await;
    drop(client);
    let trace = finished(&sink).await;
    assert_eq!((trace.tcp_conns.len(), trace.http_requests.len()), (1, 21));

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("requests.pcap");
    let captures = sink.captures();
    assert_eq!(captures[0].dropped_by_kernel, 0);
    CaptureFile::new(&captures).write_to_file(&file).unwrap();
    let read: BTreeMap<_, _> = trace.http_requests.iter().map(read_from_wire).collect();
    assert_eq!(seen_by_tshark(&file, web.addr().port()), read);
}
