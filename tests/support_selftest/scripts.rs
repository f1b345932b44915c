//! Scripted servers and their reports.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream as StdStream;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use test_support::raw::{End, Refused, Server};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

#[test]
fn a_script_runs_for_each_connection_and_reports_it() {
    let server = Server::start(async |mut conn| {
        let head = conn.read_head().await?;
        assert!(head.starts_with("GET / "));
        match conn.index {
            0 => conn.write(b"one").await,
            1 => conn.reset(),
            _ => conn.close().await,
        }
    });
    let fetch = || {
        let mut stream = StdStream::connect(server.addr()).expect("a connection");
        stream.write_all(REQUEST).expect("sent");
        let mut answer = Vec::new();
        let end = stream.read_to_end(&mut answer).map_err(|error| error.kind());
        (stream.local_addr().unwrap(), answer, end)
    };
    let answers = [fetch(), fetch(), fetch()];
    assert_eq!(answers[0].1, b"one");
    assert_eq!(answers[1].2, Err(ErrorKind::ConnectionReset));
    assert_eq!((answers[2].1.as_slice(), answers[2].2), (&[][..], Ok(0)));

    let seen = server.ended_blocking(3);
    for (seen, answer) in seen.iter().zip(&answers) {
        assert_eq!((seen.peer, seen.local), (answer.0, server.addr()));
        assert_eq!((seen.received.as_slice(), seen.sent), (REQUEST, answer.1.len()));
        assert_eq!(seen.end, End::Done);
    }
}

/// The clock of the test is paused, because a server must not depend on it.
#[tokio::test(start_paused = true)]
async fn closing_resetting_and_waiting_clients_are_distinguished() {
    let server = Server::start(async |mut conn| match conn.index {
        0 => conn.read_head().await.map(drop),
        1 => conn.read_to_end().await,
        _ => conn.hang().await,
    });
    let closes = TcpStream::connect(server.addr()).await.expect("a connection");
    server.accepted(1).await;
    drop(closes);
    assert_eq!(server.ended(1).await[0].end, End::Failed(ErrorKind::UnexpectedEof));

    let mut resets = TcpStream::connect(server.addr()).await.expect("a connection");
    resets.write_all(b"x").await.expect("sent");
    resets.set_zero_linger().expect("an option");
    drop(resets);
    assert_eq!(server.ended(2).await[1].end, End::Failed(ErrorKind::ConnectionReset));

    let mut waits = TcpStream::connect(server.addr()).await.expect("a connection");
    assert_eq!(server.accepted(3).await[2].end, End::Open);
    drop(server);
    assert_eq!(waits.read(&mut [0]).await.expect("the end"), 0);
}

#[test]
fn an_answering_server_answers_each_request() {
    let server = Server::answering(b"HTTP/1.1 204 No Content\r\n\r\n");
    let mut stream = StdStream::connect(server.addr()).expect("a connection");
    for _ in 0..3 {
        stream.write_all(REQUEST).expect("sent");
        let mut answer = [0; 27];
        stream.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 204 No Content\r\n\r\n");
    }
    drop(stream);
    assert_eq!(server.ended_blocking(1)[0].received, REQUEST.repeat(3));
}

#[test]
#[should_panic(expected = "a panic of the script")]
fn a_panic_of_a_script_fails_the_test() {
    let server = Server::start(async |_| panic!("a panic of the script"));
    _ = StdStream::connect(server.addr()).expect("a connection").read(&mut [0]);
    drop(server);
}

#[test]
fn a_refused_address_refuses_connections() {
    for on in ["127.0.0.1:0", "[::1]:0"] {
        let refused = Refused::on(on);
        let error = StdStream::connect(refused.addr).expect_err("a connection");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }
}
