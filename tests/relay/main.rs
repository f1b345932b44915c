//! Programs that dial by themselves, through a relay.
#![cfg(feature = "relay")]

#[cfg(all(feature = "tls", any(feature = "ring", feature = "aws-lc-rs")))]
mod tls;

use nettrace::{
    Failure, NetTrace, TraceSink,
    record::{EndReason, TcpConnTrace},
    relay::Relay,
};
use std::io::ErrorKind;
use test_support::{
    check,
    raw::{End, Refused, Server},
    wait,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Returns the trace once that many connections have ended.
async fn ended(sink: &TraceSink, conns: usize) -> NetTrace {
    let has_ended = |conn: &TcpConnTrace| conn.end_reason.is_some();
    wait::until("the connections have ended", || {
        sink.snapshot("").tcp_conns.iter().filter(|conn| has_ended(conn)).count() == conns
    })
    .await;
    let trace = sink.snapshot("");
    check::finished(&trace);
    trace
}

async fn ask(relay: &Relay, question: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut conn = TcpStream::connect(relay.addr()).await?;
    conn.write_all(question).await?;
    conn.shutdown().await?;
    let mut answer = Vec::new();
    conn.read_to_end(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn each_side_may_end_before_the_other() {
    let sink = TraceSink::new();
    let server = Server::start(async |mut conn| {
        conn.read_to_end().await?;
        conn.write(b"all read").await?;
        conn.close().await
    });
    let relay = Relay::start(&sink, server.addr()).await.unwrap();
    assert_eq!(ask(&relay, b"a question").await.unwrap(), b"all read");
    let trace = ended(&sink, 1).await;
    let conn = &trace.tcp_conns[0];
    assert_eq!((conn.total_sent_bytes, conn.total_recv_bytes), (10, 8));
    assert_eq!(trace.dials[0].dst_address.as_str(), server.addr().to_string());
    let [seen] = &server.ended(1).await[..] else { panic!("one connection") };
    assert_eq!(seen.received, b"a question");
}

#[tokio::test]
async fn connections_are_independent() {
    let sink = TraceSink::new();
    let server = Server::start(async |mut conn| {
        let length = conn.read(1).await?[0];
        let text = conn.read(length.into()).await?;
        conn.write(&text.repeat(10_000)).await?;
        conn.close().await
    });
    let relay = Relay::start(&sink, server.addr().to_string()).await.unwrap();
    let asked = (1..20_u8).map(|length| {
        let addr = relay.addr();
        tokio::spawn(async move {
            let mut conn = TcpStream::connect(addr).await.unwrap();
            conn.write_all(&[&[length][..], &vec![length; length.into()]].concat()).await.unwrap();
            let mut answer = Vec::new();
            conn.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer, vec![length; usize::from(length) * 10_000]);
        })
    });
    for asked in asked.collect::<Vec<_>>() {
        asked.await.unwrap();
    }
    ended(&sink, 19).await;
}

#[tokio::test]
async fn a_target_that_cannot_be_reached_resets_the_client() {
    let (sink, refused) = (TraceSink::new(), Refused::on("127.0.0.1:0"));
    let relay = Relay::start(&sink, refused.addr).await.unwrap();
    let error = ask(&relay, b"hello").await.expect_err("no answer");
    assert!(
        matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::NotConnected),
        "{error}"
    );
    let trace = ended(&sink, 1).await;
    assert_eq!(trace.dials[0].failure, Some(Failure::ConnectionRefused));
}

#[tokio::test]
async fn a_reset_is_passed_on() {
    let sink = TraceSink::new();
    let server = Server::start(async |mut conn| {
        conn.read(5).await?;
        conn.reset()
    });
    let relay = Relay::start(&sink, server.addr()).await.unwrap();
    let mut conn = TcpStream::connect(relay.addr()).await.unwrap();
    conn.write_all(b"hello").await.unwrap();
    let error = conn.read(&mut [0]).await.expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let trace = ended(&sink, 1).await;
    assert_eq!(trace.tcp_conns[0].failure, Some(Failure::ConnectionReset));
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_question_arrives() {
    let sink = TraceSink::new();
    let server = Server::start(async |mut conn| {
        conn.read(1).await?;
        conn.write(&vec![b'x'; 300_000]).await?;
        conn.reset() // the rest of the question is not read
    });
    let relay = Relay::start(&sink, server.addr()).await.unwrap();
    let mut conn = TcpStream::connect(relay.addr()).await.unwrap();
    conn.write_all(b"?").await.unwrap();
    // What the kernel has taken before the reset is more than the relay's buffers.
    let mut answer = vec![0; 1_000];
    conn.read_exact(&mut answer).await.unwrap();
    assert!(answer.iter().all(|byte| *byte == b'x'));
    let error = conn.read_to_end(&mut answer).await.expect_err("the end of the answer is missing");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[cfg(feature = "wire")]
#[tokio::test]
async fn the_http_that_passes_can_be_read() {
    let sink = TraceSink::new();
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await?;
        conn.close().await
    });
    for reads in [false, true] {
        let relay = Relay::builder(&sink, server.addr()).http_from_wire(reads).start().await.unwrap();
        let answer = ask(&relay, b"GET /_search HTTP/1.1\r\nhost: es.internal:9200\r\n\r\n").await.unwrap();
        assert!(answer.ends_with(b"hi"));
    }
    let trace = ended(&sink, 2).await;
    let [request] = &trace.http_requests[..] else { panic!("one of them is read") };
    assert_eq!(
        (request.req_url.as_str(), request.resp_status_code),
        ("http://es.internal:9200/_search", 200)
    );
}

#[tokio::test]
async fn a_relay_ends_with_its_handle() {
    let sink = TraceSink::new();
    let server = Server::start(async |mut conn| conn.read_to_end().await);
    let relay = Relay::start(&sink, server.addr()).await.unwrap();
    let mut conn = TcpStream::connect(relay.addr()).await.unwrap();
    conn.write_all(b"hello").await.unwrap();
    wait::until("it is forwarded", || server.seen().iter().any(|seen| seen.received == b"hello")).await;
    let addr = relay.addr();
    drop(relay);
    // What was cut off does not look complete.
    let error = conn.read(&mut [0]).await.expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let trace = ended(&sink, 1).await;
    assert_eq!(trace.tcp_conns[0].end_reason, Some(EndReason::Closed));
    assert_eq!(server.ended(1).await[0].end, End::Failed(ErrorKind::ConnectionReset));
    let error = TcpStream::connect(addr).await.expect_err("it is closed");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn an_invalid_target_is_an_error_at_once() {
    for (target, why) in [
        ("db.internal", "cannot relay to db.internal: a port is missing: write host:port"),
        ("user:secret@db.internal:1", "user info has no place here"),
    ] {
        let error = Relay::start(&TraceSink::new(), target).await.expect_err("an invalid target");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(why) && !error.to_string().contains("secret"), "{error}");
    }
}
