//! Tests readings of `TCP_INFO` against ss(8).

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nettrace::client::HttpVersion;
use nettrace::connect::TcpConnector;
use nettrace::linux::TcpInfoProbe;
use nettrace::record::{TcpConnTrace, TcpInfo, TcpInfoEvent, TcpInfoState, Timestamp};
use nettrace::request::{OnConnection, TraceRequestLayer};
use nettrace::{Client, ConnRef, Probe, ProbeEvent, ProbeSocket, TraceSink};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tower::{Layer, ServiceExt, service_fn};

use crate::drawn;
use test_support::check;
use test_support::lab::{Delay, Hook, Ns, Pair, Routed};
use test_support::require::{require_lab, require_tool};
use test_support::web::Web;

fn sink() -> TraceSink {
    TraceSink::builder().probe(TcpInfoProbe::new()).build()
}

fn only_conn(sink: &TraceSink) -> TcpConnTrace {
    let trace = sink.snapshot("all");
    check::finished(&trace);
    let [conn] = &trace.tcp_conns[..] else { panic!("one connection: {trace:#?}") };
    conn.clone()
}

fn events(conn: &TcpConnTrace) -> Vec<TcpInfoEvent> {
    conn.tcp_info.iter().map(|info| info.event.clone()).collect()
}

/// A round trip takes 50 ms, and every twentieth segment is lost.
#[test]
fn round_trips_and_retransmissions_match_ss() {
    require_lab!();
    require_tool!("ss");
    let net = Routed::with_delay(Delay::All(Duration::from_millis(25)));
    net.client.sh("ip link set c0 gso_max_segs 1"); // so that each packet is one segment
    // The rule does not drop the first segment: a SYN is retransmitted only after a second.
    net.router.nft(Hook::Forward, "tcp dport 7 numgen inc mod 20 19 drop");
    for ip in Routed::SERVER.ips() {
        let (addr, server) = serve_reader(&net.server, ip);
        let sink = TraceSink::builder().probe(TcpInfoProbe::new().first_byte(true)).build();
        let reported = net.client.block_on(async {
            let mut stream = TcpConnector::new(&sink).connect(addr).await.expect("a connection");
            stream.write_all(&[7; BULK]).await.expect("sent");
            assert_eq!(stream.read_u8().await.expect("the confirmation"), 7);
            // No segment is in flight any more, so the values no longer change.
            run_ss(&net.client, addr)
        });
        server.join().expect("the server");

        let conn = only_conn(&sink);
        assert_eq!(events(&conn), [TcpInfoEvent::Connected, TcpInfoEvent::FirstByte, TcpInfoEvent::Closing]);
        let [connected, first, closing] = &conn.tcp_info[..] else { unreachable!() };
        assert_eq!(connected.congestion_control.as_deref(), Some(reported.algorithm.as_str()));
        assert_eq!(connected.state, Some(TcpInfoState::Established));
        for info in [connected, first, closing] {
            let rtt = info.rtt_us.expect("a round trip was measured");
            assert!((50_000..200_000).contains(&rtt), "{rtt} µs");
            assert!(info.min_rtt_us.expect("a minimum was measured") >= 50_000);
        }
        assert_eq!(connected.total_retrans, Some(0));

        let lost = BULK / closing.snd_mss.expect("the size of a segment") as usize / 20;
        let retransmitted = closing.total_retrans.expect("retransmissions are counted") as usize;
        assert!(
            (lost / 2..lost * 4).contains(&retransmitted),
            "{retransmitted} segments were retransmitted, about {lost} were lost"
        );
        assert_eq!(reported.pair("retrans"), (0.0, retransmitted as f64));
        assert_eq!(reported.pair("rtt"), (ms(closing.rtt_us), ms(closing.rttvar_us)));
        let expected = [
            ("minrtt", ms(closing.min_rtt_us)),
            ("mss", closing.snd_mss.unwrap().into()),
            ("pmtu", closing.pmtu.unwrap().into()),
            ("cwnd", closing.snd_cwnd.unwrap().into()),
            ("bytes_sent", closing.bytes_sent.unwrap() as f64),
            ("bytes_retrans", closing.bytes_retrans.unwrap() as f64),
            ("bytes_acked", closing.bytes_acked.unwrap() as f64),
            ("bytes_received", closing.bytes_received.unwrap() as f64),
            ("data_segs_out", closing.data_segs_out.unwrap().into()),
            ("data_segs_in", closing.data_segs_in.unwrap().into()),
            ("delivered", closing.delivered.unwrap().into()),
            ("delivery_rate", closing.delivery_rate.unwrap() as f64 * 8.0),
            ("busy", (closing.busy_time_us.unwrap() / 1000) as f64),
        ];
        let actual = expected.map(|(name, _)| (name, reported.number(name)));
        assert_eq!(actual, expected, "{}", reported.text);
        // Some congestion control algorithms, such as bbr, have no slow start threshold.
        assert_eq!(
            reported.fields.contains_key("ssthresh"),
            closing.snd_ssthresh.is_some(),
            "{}",
            reported.text
        );
        let sent = closing.bytes_sent.unwrap() - closing.bytes_retrans.unwrap();
        assert_eq!(sent, BULK as u64);

        let drawn = drawn(&sink.snapshot("all"));
        assert!(drawn.contains(&format!("{retransmitted} segments sent again")), "{drawn}");
        assert!(drawn.contains(" · rtt "), "{drawn}");
    }
    const BULK: usize = 400_000;
}

/// Starts a server that reads 400 000 bytes and then confirms them with one byte.
fn serve_reader(ns: &Ns, ip: IpAddr) -> (SocketAddr, JoinHandle<()>) {
    let listener: TcpListener = ns.listen(&SocketAddr::new(ip, 7).to_string());
    let addr = listener.local_addr().expect("it listens");
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.read_exact(&mut vec![0; 400_000]).expect("the bytes");
        stream.write_all(&[7]).expect("the confirmation");
        assert_eq!(stream.read(&mut [0]).expect("its end"), 0);
    });
    (addr, server)
}

/// The output of `ss -ti` for a connection.
struct SsOutput {
    text: String,
    algorithm: String,
    fields: HashMap<String, String>,
}

/// Returns the output of `ss -ti` for the only connection to `to`.
fn run_ss(ns: &Ns, to: SocketAddr) -> SsOutput {
    let text = ns.sh(&format!("ss -Htin dst '{to}'"));
    let (_, details) = text.trim_end().split_once("\n\t ").unwrap_or_else(|| panic!("no details: {text}"));
    let words: Vec<&str> = details.split_whitespace().collect();
    let pairs = words.iter().filter_map(|word| word.split_once(':'));
    // A rate is a word of its own, after its name.
    let rates = words.windows(2).filter_map(|pair| Some((pair[0], pair[1].strip_suffix("bps")?)));
    let fields = pairs.chain(rates).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    SsOutput { algorithm: words[0].to_owned(), fields, text }
}

impl SsOutput {
    #[track_caller]
    fn number(&self, name: &str) -> f64 {
        let value = self.fields.get(name).unwrap_or_else(|| panic!("no {name}: {}", self.text));
        value.trim_end_matches("ms").parse().unwrap_or_else(|_| panic!("{name} {value}: {}", self.text))
    }

    #[track_caller]
    fn pair(&self, name: &str) -> (f64, f64) {
        let (a, b) = self.fields.get(name).and_then(|value| value.split_once('/')).expect(name);
        (a.parse().expect(name), b.parse().expect(name))
    }
}

/// Converts microseconds to milliseconds, which ss prints.
fn ms(micros: Option<u32>) -> f64 {
    f64::from(micros.expect("a measured time")) / 1000.0
}

#[test]
fn retransmitted_syns_are_counted() {
    require_lab!();
    let net = Pair::new();
    net.server.nft(Hook::Input, "tcp dport 9 drop");
    net.client.sysctl("net/ipv4/tcp_syn_retries", "1");
    let addrs = Pair::SERVER.ips().map(|ip| SocketAddr::new(ip, 9));
    // The SYN is retransmitted after one second; after three the kernel gives up.
    for (own_timeout, state) in
        [(Some(Duration::from_millis(1500)), TcpInfoState::SynSent), (None, TcpInfoState::Close)]
    {
        let sinks = [sink(), sink()];
        net.client.block_on(async {
            let connect = |i: usize| {
                let connector = TcpConnector::new(&sinks[i]).handshake_timeout(own_timeout);
                async move { connector.connect(addrs[i]).await.unwrap_err() }
            };
            tokio::join!(connect(0), connect(1))
        });
        for sink in sinks {
            let conn = only_conn(&sink);
            assert_eq!(events(&conn), [TcpInfoEvent::ConnectFailed]);
            let info = &conn.tcp_info[0];
            let retransmitted = info.total_retrans.expect("retransmissions are counted");
            assert_eq!(
                (info.state.as_ref(), info.segs_out),
                (Some(&state), Some(1 + retransmitted)),
                "{info:?}"
            );
            assert!(retransmitted >= 1, "{info:?}");
            let measurements = [info.rtt_us, info.min_rtt_us, info.last_data_sent_ms, info.last_ack_recv_ms];
            assert_eq!(measurements, [None; 4]);
            assert_eq!(conn.icmp_error, None);
            let drawn = drawn(&sink.snapshot("all"));
            let syns = if retransmitted == 1 { "SYN" } else { "SYNs" };
            assert!(drawn.contains(&format!("{retransmitted} {syns} sent again")), "{drawn}");
        }
    }
}

/// A probe that records several readings for each event.
struct RepeatingProbe;

impl Probe for RepeatingProbe {
    fn event(&self, conn: &ConnRef, event: ProbeEvent, _: ProbeSocket<'_>) {
        for lost in 0..3 {
            let mut info = TcpInfo::default();
            info.lost = Some(lost);
            conn.tcp_info(event, info);
        }
    }
}

#[tokio::test]
async fn the_first_reading_of_each_event_is_kept() {
    let sink = TraceSink::builder().probe(RepeatingProbe).build();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpConnector::new(&sink).connect(listener.local_addr().unwrap()).await.unwrap();
    let conn = stream.conn_ref().unwrap().clone();
    drop(stream);
    let trace = sink.snapshot("all");
    conn.tcp_info(ProbeEvent::FirstByte, TcpInfo::default()); // ignored: the connection has ended
    let mut later = sink.snapshot("all");
    later.trace_end_at = trace.trace_end_at;
    assert_eq!(later, trace);

    let conn = only_conn(&sink);
    assert_eq!(events(&conn), [TcpInfoEvent::Connected, TcpInfoEvent::Closing]);
    assert!(conn.tcp_info.iter().all(|info| info.lost == Some(0) && !info.at.is_undefined()));
}

#[tokio::test]
async fn without_the_probe_there_are_no_readings() {
    let sink = TraceSink::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    drop(TcpConnector::new(&sink).connect(listener.local_addr().unwrap()).await.unwrap());
    let conn = only_conn(&sink);
    assert!(conn.tcp_info.is_empty() && conn.icmp_error.is_none());
}

/// Each request that fails on a kept connection is a reason to look at it. The latest four readings are kept.
#[tokio::test]
async fn requests_that_fail_on_an_open_connection() {
    let web = Web::start(async |_| std::future::pending().await);
    let sink = sink();
    let client = Client::builder(&sink).http_version(HttpVersion::Http2Only);
    let client = client.timeout(Duration::from_millis(20)).build().unwrap();
    for _ in 0..6 {
        client.get(web.url("/")).await.unwrap_err();
    }
    let (open, ends) = {
        let trace = sink.snapshot("");
        let ends: Vec<_> = trace.http_requests.iter().map(|request| request.end_at).collect();
        (trace.tcp_conns[0].clone(), ends)
    };
    assert_eq!((ends.len(), open.end_reason.is_none()), (6, true));
    let failed = TcpInfoEvent::RequestFailed;
    assert_eq!(
        events(&open),
        [TcpInfoEvent::Connected, failed.clone(), failed.clone(), failed.clone(), failed.clone()]
    );
    // Each was taken after the end of its request, and before that of the next.
    let is_in_order = |earlier: Timestamp, later: Timestamp| earlier.since(later) == Some(Duration::ZERO);
    for (info, end) in open.tcp_info[1..].iter().zip(&ends[2..]) {
        assert!(is_in_order(*end, info.at), "{:?} is before {end:?}", info.at);
    }
    for (info, next) in open.tcp_info[1..].iter().zip(&ends[3..]) {
        assert!(is_in_order(info.at, *next), "{:?} is after {next:?}", info.at);
    }
    client.close().await;
    assert_eq!(events(&only_conn(&sink)).last(), Some(&TcpInfoEvent::Closing));
}

/// After the stream was replaced, its old socket is not looked at: its descriptor may belong to something else.
#[tokio::test]
async fn a_socket_that_was_taken_out_is_not_looked_at() {
    type Response = Result<http::Response<String>, io::Error>;
    let web = Web::start(async |_| std::future::pending().await);
    for is_replaced in [false, true] {
        let sink = sink();
        let mut stream = TcpConnector::new(&sink).connect(web.addr()).await.unwrap();
        if is_replaced {
            stream.get_mut();
        }
        let conn = ConnRef::of(&stream);
        let client = OnConnection::new(conn, service_fn(async |_| std::future::pending::<Response>().await));
        let client = TraceRequestLayer::new(&sink).layer(client);
        let request = http::Request::get(web.url("/")).body(String::new()).unwrap();
        timeout(Duration::from_millis(20), client.oneshot(request)).await.unwrap_err();
        let looks = sink.snapshot("").tcp_conns[0].tcp_info.len();
        assert_eq!(looks, if is_replaced { 1 } else { 2 }, "the handshake, and the request");
    }
}
