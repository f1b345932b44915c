//! An HTTPS site in which each phase of a request can be delayed.
//!
//! ```ignore
//! let site = Slow::start(Phases::each(Duration::from_millis(100)), &cert_pem, &key_pem);
//! let report = Curl::new(Slow::URL).nameserver(site.nameserver.ip()).cacert(&ca).in_ns(&site.net.client).run();
//! ```

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use crate::background::Background;
use crate::dnsmasq::Dnsmasq;
use crate::lab::{Delay, Ns, Routed};
use crate::nginx::Nginx;
use crate::raw;

/// The delays that are added to the phases of a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Phases {
    /// Delay between each DNS query and its reply.
    pub dns: Duration,
    /// Delay between SYN and SYN-ACK.
    pub accept: Duration,
    /// Delay between ClientHello and ServerHello.
    pub tls: Duration,
    /// Delay between the request and the header of the response.
    pub header: Duration,
    /// Delay between the header (with the first byte of the body) and the rest of the body.
    pub body: Duration,
}

impl Phases {
    pub fn each(delay: Duration) -> Self {
        Self { dns: delay, accept: delay, tls: delay, header: delay, body: delay }
    }
}

/// An HTTPS site with delays, for HTTP/1.1 and HTTP/2, in a network of its own: nginx in front of a scripted server,
/// and dnsmasq as its nameserver. Clients run in `net.client`.
pub struct Slow {
    pub net: Routed,
    /// The nameserver for [`Slow::HOST`], on port 53.
    pub nameserver: SocketAddr,
    /// The site, on port 443.
    pub https: SocketAddr,
    pub nginx: Nginx,
    _dnsmasq: Dnsmasq,
    _relays: [Background; 2],
    _origin: raw::Server,
}

impl Slow {
    pub const HOST: &str = "slow.test";
    /// The URL whose response has both delays; `/hello` and other paths have none.
    pub const URL: &str = "https://slow.test/backend/";
    pub const BODY: &[u8] = b"worth the wait";

    /// Starts the site. Needs the lab, `nginx` and `dnsmasq`. The certificate must be for [`Slow::HOST`].
    #[track_caller]
    pub fn start(phases: Phases, certificates: &str, key: &str) -> Self {
        let net = Routed::with_delay(Delay::Syn(phases.accept));
        let ip = IpAddr::from(Routed::SERVER.v4);
        let (nameserver, https) = (SocketAddr::new(ip, 53), SocketAddr::new(ip, 443));
        let inside = |port| SocketAddr::from(([127, 0, 0, 1], port));

        let dnsmasq = Dnsmasq::builder().in_ns(&net.server, inside(53)).host(Self::HOST, &[ip]);
        let dnsmasq = dnsmasq.domain("test").start(); // it answers that there is no AAAA record
        let origin = raw::Server::on(net.server.listen("127.0.0.1:0"), move |conn| respond(conn, phases));
        let nginx = Nginx::builder().in_ns(&net.server, &[inside(0).ip()]).tls(certificates, key);
        let nginx = nginx.backend(origin.addr()).start();
        let relays = [
            relay_udp(&net.server, net.server.udp(&nameserver.to_string()), dnsmasq.addr, phases.dns),
            relay_tcp(&net.server, net.server.listen(&https.to_string()), nginx.https, phases.tls),
        ];
        Self { net, nameserver, https, nginx, _dnsmasq: dnsmasq, _relays: relays, _origin: origin }
    }
}

/// A script for [`raw::Server`] that answers HTTP/1.1 requests with [`Slow::BODY`], and delays the header and the body.
///
/// # Errors
///
/// If the peer closes the connection.
pub async fn respond(mut conn: raw::Conn, phases: Phases) -> io::Result<()> {
    // With HTTP/2 over TLS, nginx forwards the header only together with the first byte of the body.
    let (first, rest) = Slow::BODY.split_at(1);
    let header = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", Slow::BODY.len());
    let begin = [header.as_bytes(), first].concat();
    loop {
        conn.read_head().await?;
        sleep(phases.header).await;
        conn.write(&begin).await?;
        sleep(phases.body).await;
        conn.write(rest).await?;
    }
}

/// Relays connections to `upstream`, and delays the first bytes of the server by `first_reply`: with TLS, these are the
/// ServerHello.
pub fn relay_tcp(ns: &Ns, listener: TcpListener, upstream: SocketAddr, first_reply: Duration) -> Background {
    listener.set_nonblocking(true).expect("non-blocking mode");
    Background::start(ns, move || async move {
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listening socket");
        loop {
            let (client, _) = listener.accept().await.expect("accept");
            spawn_local(relay_stream(client, upstream, first_reply)); // errors close both sides
        }
    })
}

async fn relay_stream(mut client: TcpStream, upstream: SocketAddr, first_reply: Duration) -> io::Result<()> {
    let mut server = TcpStream::connect(upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let upload = async {
        copy(&mut from_client, &mut to_server).await?;
        to_server.shutdown().await
    };
    let download = async {
        let mut first = vec![0; 16 * 1024];
        let length = from_server.read(&mut first).await?;
        sleep(first_reply).await;
        to_client.write_all(&first[..length]).await?;
        copy(&mut from_server, &mut to_client).await?;
        to_client.shutdown().await
    };
    tokio::try_join!(upload, download).map(drop)
}

/// Relays datagrams to the nameserver `upstream`, and delays each of its replies by `reply`.
pub fn relay_udp(ns: &Ns, socket: UdpSocket, upstream: SocketAddr, reply: Duration) -> Background {
    socket.set_nonblocking(true).expect("non-blocking mode");
    Background::start(ns, move || async move {
        let socket = Rc::new(tokio::net::UdpSocket::from_std(socket).expect("a bound socket"));
        let mut datagram = vec![0; 64 * 1024];
        loop {
            // An error was caused by an earlier reply, whose receiver has closed its socket.
            let Ok((length, client)) = socket.recv_from(&mut datagram).await else { continue };
            let (socket, question) = (socket.clone(), datagram[..length].to_vec());
            spawn_local(async move {
                let answer = query(upstream, &question).await?;
                sleep(reply).await;
                socket.send_to(&answer, client).await
            });
        }
    })
}

async fn query(upstream: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    const TIMEOUT: Duration = Duration::from_secs(10);
    let any = if upstream.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = tokio::net::UdpSocket::bind(any).await?;
    socket.connect(upstream).await?;
    socket.send(question).await?;
    let mut answer = vec![0; 64 * 1024];
    let length = timeout(TIMEOUT, socket.recv(&mut answer)).await??;
    answer.truncate(length);
    Ok(answer)
}
