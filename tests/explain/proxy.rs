//! Proxies that cannot be reached, refuse or are slow.

use crate::{client, explained, only_verdict, quoted, root, trace_of};
use futures_util::future::join_all;
use nettrace::{NetTrace, TraceSink, client::ClientBuilder, explain::Severity, proxy::Proxy, tls::Roots};
use std::{io, time::Duration};
use test_support::{
    lab::{Hook, Ns},
    pki::Authority,
    raw::{Conn, Refused, Server},
    require::require_lab,
    web::Web,
};

/// Requests a URL through a proxy.
async fn through(proxy: &str, url: &str, configure: impl FnOnce(ClientBuilder) -> ClientBuilder) -> NetTrace {
    let (sink, proxy) = (TraceSink::new(), proxy.parse::<Proxy>().unwrap());
    let roots = Roots::from_pem(Authority::new("nettrace test CA").pem()).unwrap();
    let client = configure(client(&sink).proxy(proxy).roots(roots)).build().unwrap();
    trace_of(&sink, &client, url).await
}

/// Starts a proxy that answers a request with these bytes and closes the connection.
fn answering(answer: &'static [u8]) -> Server {
    Server::start(async move |mut conn| {
        conn.read_head().await?;
        conn.write(answer).await?;
        conn.close().await
    })
}

#[tokio::test]
async fn a_proxy_that_does_not_run() {
    let refused = Refused::on("127.0.0.1:0");
    for scheme in ["http", "socks5h"] {
        let proxy = format!("{scheme}://{}", refused.addr);
        let root = root(&through(&proxy, "http://web.test/", |builder| builder).await, "proxy_unreachable");
        assert_eq!((root.about.as_str(), quoted(&root, "failure")), (&*proxy, "connection_refused"));
        assert_eq!(quoted(&root, "dstAddress"), refused.addr.to_string());
    }
}

/// A firewall drops what is sent to the proxy. The limit is that of the handshake, or that of the whole request.
#[test]
fn a_proxy_that_does_not_answer() {
    require_lab!();
    let ns = Ns::new();
    ns.nft(Hook::Input, "tcp dport 3128 drop");
    let configures: [fn(ClientBuilder, Duration) -> ClientBuilder; 2] =
        [ClientBuilder::tcp_handshake_timeout, ClientBuilder::timeout];
    for configure in configures {
        let limit = Duration::from_millis(100);
        let configure = |builder| configure(builder, limit);
        let trace = ns.block_on(through("http://127.0.0.1:3128", "http://web.test/", configure));
        let root = root(&trace, "proxy_unreachable");
        assert!(root.sentence.contains("did not answer at 127.0.0.1:3128 within"), "{}", root.sentence);
    }
}

#[tokio::test]
async fn a_proxy_that_wants_credentials() {
    let server = answering(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n");
    for (login, text) in [("", "was sent none"), ("joe:secret@", "does not accept")] {
        let proxy = format!("http://{login}{}", server.addr());
        for url in ["https://web.test/", "http://web.test/"] {
            let root = root(&through(&proxy, url, |builder| builder).await, "proxy_auth_required");
            assert!(root.sentence.contains(text) && !root.sentence.contains("secret"), "{}", root.sentence);
            assert_eq!(quoted(&root, "respStatusCode"), "407");
            assert_eq!(root.severity == Severity::Failure, url.starts_with("https"));
        }
    }
}

#[tokio::test]
async fn a_socks_proxy_that_wants_credentials() {
    let server = Server::start(async |mut conn| {
        conn.read(3).await?;
        conn.write(b"\x05\xff").await
    });
    let proxy = format!("socks5h://{}", server.addr());
    let root = root(&through(&proxy, "http://web.test/", |builder| builder).await, "proxy_auth_required");
    assert!(quoted(&root, "socks.handshakeErr").contains("demands authentication"));
}

#[tokio::test]
async fn a_proxy_that_refuses_to_connect() {
    for (answer, text) in [
        (&b"HTTP/1.1 403 Forbidden\r\n\r\n"[..], "with the status 403: its rules forbid it"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "with the status 502: it could not reach it"),
        (b"HTTP/1.1 504 Gateway Timeout\r\n\r\n", "with the status 504: it waited for it in vain"),
    ] {
        let server = answering(answer);
        let proxy = format!("http://{}", server.addr());
        let trace = through(&proxy, "https://web.test/", |builder| builder).await;
        let root = root(&trace, "proxy_refused_connect");
        assert!(root.sentence.contains(text), "{}", root.sentence);
        let connect = trace.http_requests.iter().find(|request| request.req_method == "CONNECT").unwrap();
        assert_eq!(root.evidence[0].record, connect.trace_id);
    }
}

/// Answers the greeting and then the request of SOCKS5 for `web.test:80`.
async fn socks(mut conn: Conn, reply: &[u8]) -> io::Result<()> {
    conn.read(3).await?;
    conn.write(b"\x05\0").await?;
    conn.read(15).await?;
    conn.write(reply).await?;
    conn.close().await
}

#[tokio::test]
async fn a_socks_proxy_that_does_not_connect() {
    for (reply, text) in [
        (&b"\x05\x04\0\x01\0\0\0\0\0\0"[..], "did not connect to web.test:80: host unreachable (4)."),
        (b"HTTP/1.1 400", "does not speak SOCKS5"),
        (b"", "closed the connection before it had connected"),
    ] {
        let server = Server::start(async |conn| socks(conn, reply).await);
        let proxy = format!("socks5h://{}", server.addr());
        let root = root(&through(&proxy, "http://web.test/", |builder| builder).await, "proxy_socks_error");
        assert!(root.sentence.contains(text), "{}", root.sentence);
    }
}

#[tokio::test]
async fn a_proxy_that_opens_no_tunnel_in_time() {
    let server = Server::start(async |mut conn| conn.read_to_end().await);
    for (scheme, field) in [("http", "endReason"), ("socks5h", "socks.endReason")] {
        let limit = Duration::from_millis(100);
        let configures: [fn(ClientBuilder, Duration) -> ClientBuilder; 2] =
            [ClientBuilder::proxy_handshake_timeout, ClientBuilder::timeout];
        for configure in configures {
            let proxy = format!("{scheme}://{}", server.addr());
            let trace = through(&proxy, "https://web.test/", |builder| configure(builder, limit)).await;
            let root = root(&trace, "proxy_slow_tunnel");
            assert!(["timeout", "cancelled"].contains(&quoted(&root, field)), "{root}");
            let symptom = only_verdict(&trace).findings.pop().unwrap();
            let doing = format!("while the request waited for the proxy {proxy} to open a tunnel.");
            assert!(symptom.sentence.ends_with(&doing), "{symptom}");
        }
    }
}

/// The proxy forwards to a web server that is the same for all names, and takes long for one of them.
#[tokio::test]
async fn a_tunnel_that_takes_longer_than_the_others() {
    let authority = Authority::new("nettrace test CA");
    let names = ["fast.test", "slow.test"];
    let web = Web::tls(authority.issue(&names).server(), async |_| test_support::web::reply("hello"));
    let target = web.addr();
    let server = Server::start(async move |mut conn| {
        if conn.read_head().await?.starts_with("CONNECT slow.test") {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        conn.write(b"HTTP/1.1 200 OK\r\n\r\n").await?;
        let mut server = tokio::net::TcpStream::connect(target).await?;
        let forward = async |mut stream: Box<dyn test_support::raw::Stream>| {
            tokio::io::copy_bidirectional(&mut stream, &mut server).await?;
            Ok(stream)
        };
        conn.upgrade(forward).await.map(drop)
    });
    let (sink, proxy) = (TraceSink::new(), format!("http://{}", server.addr()).parse::<Proxy>().unwrap());
    let client = client(&sink).proxy(proxy).roots(Roots::from_pem(authority.pem()).unwrap()).build().unwrap();
    join_all((0..4).map(async |_| client.get("https://fast.test/").await.unwrap().into_body().bytes().await))
        .await;
    let trace = trace_of(&sink, &client, "https://slow.test/").await;
    // On a busy machine one of the first requests may have waited for another one.
    let explanation = explained(&trace);
    let verdict = explanation.verdicts.iter().find(|verdict| verdict.what.contains("slow.test"));
    let root = verdict.and_then(|verdict| verdict.root()).expect("a verdict about the slow one");
    assert_eq!(root.code, "proxy_slow_tunnel", "{root}");
    assert!(root.sentence.contains("to connect to slow.test, where half"), "{}", root.sentence);
}
