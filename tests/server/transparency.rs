//! A traced server does what an untraced one does.

use nettrace::{TraceSink, record::EndReason};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::side::{Site, ask, conn_of, get};

#[tokio::test]
async fn a_connection_that_becomes_another_protocols() {
    for sink in [TraceSink::new(), TraceSink::disabled()] {
        let site = Site::start(&sink).await;
        let mut stream = TcpStream::connect(site.addr).await.unwrap();
        let request = "GET /upgrade HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101"));
        for word in [&b"one"[..], b"three"] {
            stream.write_all(word).await.unwrap();
            let mut echo = vec![0; word.len()];
            stream.read_exact(&mut echo).await.unwrap();
            assert_eq!(echo, word);
        }
        stream.shutdown().await.unwrap();
        assert_eq!(stream.read_to_end(&mut vec![]).await.unwrap(), 0);
        if !sink.is_enabled() {
            continue;
        }
        let trace = site.finished().await;
        let [record] = &trace.http_requests[..] else { panic!("one request") };
        assert_eq!((record.resp_status_code, &record.end_reason), (101, &Some(EndReason::Closed)));
        let conn = conn_of(&trace, record);
        assert_eq!(conn.total_recv_bytes, request.len() as u64 + 8);
        assert_eq!(conn.total_sent_bytes, head.len() as u64 + 8);
        assert_eq!(conn.end_reason, Some(EndReason::PeerClosed));
    }
}

#[tokio::test]
async fn the_same_bytes() {
    let mut seen = Vec::new();
    for sink in [TraceSink::new(), TraceSink::disabled()] {
        let site = Site::start(&sink).await;
        let mut answers = Vec::new();
        for path in ["/hello", "/stream", "/sized", "/empty", "/error", "/error-in-body"] {
            let answer = ask(site.addr, &get(path)).await;
            let without_date = answer.lines().filter(|line| !line.starts_with("date: "));
            answers.push(without_date.map(str::to_owned).collect::<Vec<_>>());
        }
        seen.push(answers);
    }
    assert_eq!(seen[0], seen[1]);
    assert!(seen[0][1].iter().any(|line| line == "transfer-encoding: chunked"), "{seen:?}");
}
